"""Writing facts down: rows in bulk, figures, the audit log and the outbox. All inside the caller's transaction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker.canonical import canonical_sha256
from cloudbaker.catalog import schema as s
from cloudbaker.catalog.statements import Statement, insert_many
from cloudbaker.errors import UsageError
from cloudbaker.model import AssetRef


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the audit log."""

    who: str
    action: str
    subject: str
    why: str = ""
    run_id: str | None = None
    detail: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One message of the outbox."""

    asset: AssetRef
    kind: str
    payload: dict[str, Any]
    run_id: str | None = None


def measured(scope: str, subject: str, metrics: Mapping[str, float]) -> list[dict[str, Any]]:
    """Figures as rows of `schema.metrics`. Raises `UsageError` for a figure that is not finite."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise UsageError(f"metric {name} of {subject or scope} is {value}: leave out what could not be measured")
    return [{"scope": scope, "subject": subject, "name": name, "value": float(v)} for name, v in metrics.items()]


def many(connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that all have the same columns, if there are any."""
    insert_many(connection, table, rows)


def audit(
    connection: Connection,
    now: datetime,
    *,
    who: str,
    action: str,
    subject: str,
    why: str = "",
    tenant: str | None = None,
    run_id: str | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Write down who did what to what, and why."""
    audit_all(connection, now, tenant, [Entry(who, action, subject, why, run_id, detail)])


_HEAD = Statement(
    sa.select(s.audit_chains.c.position, s.audit_chains.c.hash)
    .where(s.audit_chains.c.chain == sa.bindparam("chain"))
    .with_for_update(key_share=True)
)
_BEGIN_CHAIN = Statement(
    lambda insert: (
        insert(s.audit_chains)
        .values(chain=sa.bindparam("chain"), position=0, hash="")
        .on_conflict_do_nothing(index_elements=["chain"])
    )
)
_MOVE_HEAD = Statement(
    sa.update(s.audit_chains)
    .where(s.audit_chains.c.chain == sa.bindparam("this"))
    .values(position=sa.bindparam("position"), hash=sa.bindparam("hash"))
)


def audit_all(connection: Connection, now: datetime, tenant: str | None, entries: Sequence[Entry]) -> None:
    """Append to the tenant's audit log, in this order. The last lock that a transaction takes: see `Core.write`.

    Each tenant's log is a chain of hashes (`audit_hash`); what concerns no tenant is in the chain with the empty name.
    On Postgres writers of one tenant go one after the other from here on to their commit: a chain has one end.
    """
    if not entries:
        return
    chain = tenant or ""
    head = _HEAD.run(connection, chain=chain).one_or_none()
    if head is None:
        _BEGIN_CHAIN.run(connection, chain=chain)
        head = _HEAD.run(connection, chain=chain).one()
    position, digest = head
    rows = []
    for entry in entries:
        position += 1
        row = {
            "created_at": now,
            "tenant": tenant,
            "who": entry.who,
            "action": entry.action,
            "subject": entry.subject,
            "why": entry.why,
            "run_id": entry.run_id,
            "detail": entry.detail,
            "chain": chain,
            "position": position,
        }
        digest = audit_hash(row, digest)
        rows.append({**row, "hash": digest})
    insert_many(connection, s.audit, rows)
    _MOVE_HEAD.run(connection, this=chain, position=position, hash=digest)


def audit_hash(row: Mapping[str, Any], previous: str) -> str:
    """The hash of a row of `schema.audit`: hex SHA-256 over the canonical JSON of its content and the hash before it.

    `row`: everything but `seq`, `xid` and `hash`, its time a datetime (hashed as microseconds since 1970 UTC).
    `previous`: the hash of the row at the position before; empty for the first.
    """
    content = {name: row[name] for name in _HASHED}
    content["created_at"] = s.microseconds(row["created_at"])
    return canonical_sha256({**content, "previous": previous})


_HASHED = ("tenant", "who", "action", "subject", "why", "run_id", "detail", "chain", "position")


def tell(
    connection: Connection, now: datetime, asset: AssetRef, kind: str, payload: dict[str, Any], *, run_id: str | None
) -> None:
    """Put an event into the outbox: it will be told exactly if this transaction commits."""
    tell_all(connection, now, [Event(asset, kind, payload, run_id)])


def tell_all(connection: Connection, now: datetime, events: Sequence[Event]) -> None:
    """Put events into the outbox, to be told in this order."""
    insert_many(
        connection,
        s.outbox,
        [
            {
                "created_at": now,
                "tenant": event.asset.tenant,
                "asset": str(event.asset),
                "run_id": event.run_id,
                "kind": event.kind,
                "payload": event.payload,
            }
            for event in events
        ],
    )
