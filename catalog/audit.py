"""The audit log: who did what to what, and why; and whether anybody has tampered with it.

Each tenant's log is a chain: a row's hash covers its content and the hash of the row before it (`journal.audit_hash`),
and `audit_chains` holds the last one. Changing, inserting or removing a row breaks the chain from there on. Two things
a chain alone can't show, and what shows them:

- *The end cut off*, with the head set back to match. Published tables hold the rows too (Parquet against core); and
  whoever keeps a head elsewhere (`heads`, printed or sent away) finds that it is in no row any more.
- *All of it written anew* by somebody who can compute hashes, in core and Parquet alike: only a head kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker.canonical import canonical_json
from cloudbaker.catalog import schema as s
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.journal import audit_hash
from cloudbaker.catalog.pages import Order, Page, table_html
from cloudbaker.errors import UsageError
from cloudbaker.model import to_json

if TYPE_CHECKING:
    from cloudbaker.catalog.published import Tables

_BATCH = 5_000
_HEAD = re.compile(r"(?P<chain>[a-z0-9._-]*):(?P<position>[0-9]{1,18}):(?P<hash>[0-9a-f]{64})")


Printed = tuple[str, int, bytes]
"""Of a published row: its chain and position, and a digest of all that it says."""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One thing that somebody did."""

    seq: int
    at: datetime
    tenant: str | None
    who: str
    action: str
    subject: str
    why: str
    run_id: str | None
    detail: dict[str, Any] | None
    position: int | None
    """In its tenant's chain; None: older than the chains."""
    hash: str | None


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain. Kept elsewhere, it proves later that nothing up to it was changed or removed."""

    chain: str
    """The tenant; empty: what concerns no tenant."""
    position: int
    hash: str

    def __str__(self) -> str:
        return f"{self.chain}:{self.position}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Read ``chain:position:hash``. Raises `UsageError`."""
        found = _HEAD.fullmatch(text.strip())
        if found is None:
            raise UsageError(
                f"{text[:100]!r} is no head of an audit chain: write TENANT:POSITION:HASH, as --heads prints"
            )
        return cls(found["chain"], int(found["position"]), found["hash"])


@dataclass(frozen=True, slots=True)
class Damage:
    """The first place at which a chain does not hold."""

    chain: str
    position: int
    kind: str
    """``changed`` (content does not match its hash), ``removed`` (a position is missing), ``inserted`` (a row that
    belongs to no chain among those that do, or a position twice), ``truncated`` (rows up to the chain's head are
    missing), ``head`` (the head is not the last row's hash), ``published`` (core and Parquet differ), ``anchor`` (not
    what the head says that was kept elsewhere)."""
    message: str
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class AuditReport:
    """Outcome of `Catalog.verify_audit`. Shows itself in a notebook."""

    heads: tuple[Head, ...]
    rows: int
    """Rows in chains, all of which were hashed."""
    unchained: int
    """Rows older than the chains (revision 0001): nothing protects them but the Parquet they are published in."""
    published: int
    """Rows that were compared with the published table."""
    damage: tuple[Damage, ...]

    @property
    def ok(self) -> bool:
        """Whether every chain holds."""
        return not self.damage

    def to_json(self) -> dict[str, Any]:
        """The ``--json`` contract (docs/audit.md)."""
        return {"ok": self.ok, **to_json(self)}

    def _repr_html_(self) -> str:
        color, word = ("#1a7f37", "whole") if self.ok else ("#b42318", "damaged")
        rows = [(head.chain or "(all)", head.position, head.hash) for head in self.heads]
        lines = "".join(f"<li>{escape(d.chain or '(all)')} {d.position}: {escape(d.message)}</li>" for d in self.damage)
        return (
            f'<div><b style="color:{color}">audit log {word}</b>: {self.rows} rows, {self.published} compared with '
            f"the published table, {self.unchained} older than the chains<ul>{lines}</ul>"
            f"{table_html(('chain', 'position', 'hash'), rows)}</div>"
        )


def audit_rows(
    core: Core,
    *,
    tenant: str | None = None,
    who: str | None = None,
    action: str | None = None,
    subject: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Page[AuditRow]:
    """See `cloudbaker.catalog.core.Catalog.audit`."""
    a = s.audit.c
    query = sa.select(
        *(a.seq, a.created_at, a.tenant, a.who, a.action, a.subject, a.why, a.run_id, a.detail, a.position, a.hash)
    )
    for column, value in ((a.tenant, tenant), (a.who, who), (a.action, action)):
        if value is not None:
            query = query.where(column == value)
    if subject is not None:  # acme/robots/helmet is also meant by acme/robots/helmet@3 and acme/robots/helmet:live
        starts = [subject + mark for mark in ("@", ":")]
        query = query.where(
            sa.or_(a.subject == subject, *(a.subject.startswith(start, autoescape=True) for start in starts))
        )
    if since is not None:
        query = query.where(a.created_at >= since)
    if until is not None:
        query = query.where(a.created_at < until)
    order = Order((a.seq,), True, {"audit": [tenant, who, action, subject, str(since), str(until)]})
    with core.read() as connection:
        rows, after = order.cut(connection.execute(order.page(query, limit=limit, cursor=cursor)).all(), limit)
        return Page((AuditRow(*row[:11]) for row in rows), next=after)


def heads(core: Core) -> Page[Head]:
    """See `cloudbaker.catalog.core.Catalog.audit_heads`."""
    with core.read() as connection:
        return Page(_heads(connection).values())


def _heads(connection: Connection) -> dict[str, Head]:
    c = s.audit_chains.c
    rows = connection.execute(sa.select(c.chain, c.position, c.hash).order_by(c.chain))
    return {row.chain: Head(row.chain, row.position, row.hash) for row in rows}


def verify(
    core: Core,
    published: Mapping[int, Printed] | None,
    *,
    anchors: Iterable[Head] = (),
    progress: Callable[[int], None] | None = None,
) -> AuditReport:
    """See `cloudbaker.catalog.core.Catalog.verify_audit`.

    `published`: what the published table holds, as `published_rows` gives it.
    """
    a = s.audit.c
    kept: dict[str, list[Head]] = {}
    for anchor in anchors:
        kept.setdefault(anchor.chain, []).append(anchor)
    damage: list[Damage] = []
    rows = 0
    missing = dict(published or {})
    compared = 0
    with core.read() as connection:
        ends = _heads(connection)
        first_chained = connection.execute(sa.select(sa.func.min(a.seq)).where(a.chain.is_not(None))).scalar()
        old = connection.execute(sa.select(s.audit).where(a.chain.is_(None)).order_by(a.seq)).all()
        for row in old:
            if first_chained is not None and row.seq > first_chained:
                message = (
                    f"row {row.seq} ({row.who}: {row.action} {row.subject}) is in no chain, but newer than they are"
                )
                damage.append(Damage(row.tenant or "", 0, "inserted", message, row.seq))
                break
        unequal: list[Damage] = []
        for row in old:
            if row.seq in missing:
                compared += 1
                if missing.pop(row.seq)[2] != _digest(row._asdict()):
                    unequal.append(Damage(row.tenant or "", 0, "published", _differs(row), row.seq))
        chains = sorted({*ends, *kept, *connection.execute(sa.select(a.chain).distinct()).scalars()} - {None})
        for chain in chains:
            walk = _Walk(chain, kept.get(chain, []))
            position = 0
            while True:
                # By chain and position, along an index: memory does not grow with the log.
                page = sa.select(s.audit).where(a.chain == chain, a.position > position)
                batch = connection.execute(page.order_by(a.position).limit(_BATCH)).all()
                for row in batch:
                    walk.step(row)
                    if row.seq in missing:
                        compared += 1
                        if missing.pop(row.seq)[2] != _digest(row._asdict()):
                            unequal.append(Damage(chain, row.position, "published", _differs(row), row.seq))
                if progress is not None:
                    progress(rows + walk.rows)
                if len(batch) < _BATCH:
                    break
                position = batch[-1].position
            rows += walk.rows
            found = walk.end(ends.get(chain))
            damage += [found] if found else []
    broken = {d.chain for d in damage}
    for seq, (chain, position, _) in sorted(missing.items()):
        unequal.append(Damage(chain, position, "published", f"row {seq} is published, and gone from the core", seq))
    for each in unequal:  # the first of a chain that holds by itself: the others follow from it
        if each.chain not in broken:
            damage.append(each)
            broken.add(each.chain)
    order = sorted(damage, key=lambda d: (d.chain, d.position))
    return AuditReport(tuple(ends.values()), rows, len(old), compared, tuple(order))


class _Walk:
    """Goes along one chain and remembers the first link that does not hold."""

    def __init__(self, chain: str, anchors: Sequence[Head]) -> None:
        self._chain = chain
        self._anchors = {(anchor.position, anchor.hash): anchor for anchor in anchors}
        self._anchored = set[tuple[int, str]]()
        self._position = 0
        self._hash = ""
        self._damage: Damage | None = None
        self.rows = 0

    def step(self, row: Any) -> None:
        self.rows += 1
        expected = self._position + 1
        if row.position != expected:
            kind = "removed" if row.position > expected else "inserted"
            which = f"{expected} to {row.position - 1}" if row.position - 1 > expected else f"{expected}"
            self._broken(expected, kind, f"position {which} is missing", None)
        elif row.hash != audit_hash(row._asdict(), self._hash):
            message = (
                f"the row at position {row.position} ({row.who}: {row.action} {row.subject}) is not the one that was "
                "written: its content, or the hash before it, was changed"
            )
            self._broken(row.position, "changed", message, row.seq)
        if (row.position, row.hash) in self._anchors:
            self._anchored.add((row.position, row.hash))
        self._position, self._hash = row.position, row.hash or ""

    def end(self, head: Head | None) -> Damage | None:
        """The chain's first damage, if it has any."""
        if self._damage is None:
            at = head.position if head else 0
            if at > self._position:
                count = at - self._position
                message = f"the last {count} row(s) are missing: the head is at {at}, the rows end at {self._position}"
                self._broken(self._position + 1, "truncated", message, None)
            elif at < self._position:
                message = f"rows go on to position {self._position}, the head is at {at}"
                self._broken(at + 1, "inserted", message, None)
            elif head is not None and head.hash != self._hash:
                self._broken(at, "head", "the head is not the hash of the last row", None)
        for key in sorted(self._anchors.keys() - self._anchored):
            if self._damage is None:
                message = (
                    f"position {key[0]} is missing or has another hash than the head that was kept: the log was cut "
                    "off or written anew"
                )
                self._broken(key[0], "anchor", message, None)
        return self._damage

    def _broken(self, position: int, kind: str, message: str, seq: int | None) -> None:
        if self._damage is None:
            self._damage = Damage(self._chain, position, kind, message, seq)


def _digest(row: Mapping[str, Any]) -> bytes:
    """Of what has to be the same in core and Parquet. 32 bytes a row: logs are long."""
    names = ("tenant", "who", "action", "subject", "why", "run_id", "detail", "chain", "position", "hash")
    return hashlib.sha256(canonical_json([s.microseconds(row["created_at"]), *(row[n] for n in names)])).digest()


def _differs(row: Any) -> str:
    return f"row {row.seq} ({row.who}: {row.action} {row.subject}) differs from the one that was published"


def published_rows(tables: Tables) -> dict[int, Printed]:
    """The rows of the published table. Empty where nothing was published."""
    found: dict[int, Printed] = {}
    with tables.damaged(s.audit.name):
        delta = tables.open(s.audit.name)
        if delta is None:
            return {}
        for batch in delta.to_pyarrow_dataset().to_batches():
            for row in batch.to_pylist():
                full = {**dict.fromkeys(("chain", "position", "hash")), **row}
                if isinstance(row["detail"], str):
                    full["detail"] = json.loads(row["detail"])
                found[row["seq"]] = (full["chain"] or "", full["position"] or 0, _digest(full))
    return found
