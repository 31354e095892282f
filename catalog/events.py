"""What happened: the events of the outbox, each a row that was written by the transaction of what it tells."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.journal import tell
from cloudbaker.catalog.pages import Order, Page
from cloudbaker.catalog.tail import horizon, tail
from cloudbaker.errors import UsageError
from cloudbaker.model import AssetRef, to_json

KINDS = (
    "asset.uploaded",
    "asset.indexed",
    "step.started",
    "step.completed",
    "step.failed",
    "review.updated",
    "channel.moved",
    "version.deleted",
)
"""What may happen."""

_BATCH = 200
IDLE_SECONDS = 0.25
"""How often it is looked for events that are new."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was committed."""

    id: str
    """A UUID, the same whenever and wherever this event is told."""
    seq: int
    at: datetime
    kind: str
    tenant: str
    asset: str
    run_id: str | None
    """The correlation id: the Prefect flow run, if there was one."""
    payload: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The documented JSON form (docs/events.md)."""
        return dict(to_json(self))


def announce(
    core: Core, asset: AssetRef, kind: str, payload: dict[str, Any], now: datetime, *, run_id: str | None
) -> None:
    """See `cloudbaker.catalog.core.Catalog.announce`."""
    if kind not in KINDS:
        raise UsageError(f"{kind!r} is no kind of event: use one of {', '.join(KINDS)}", kind=kind)
    core.transact(lambda connection: tell(connection, now, asset, kind, payload, run_id=run_id))


def events(
    core: Core,
    *,
    asset: AssetRef | None = None,
    kind: str | None = None,
    run_id: str | None = None,
    since: datetime | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Page[Event]:
    """See `cloudbaker.catalog.core.Catalog.events`."""
    o = s.outbox.c
    order = Order((o.seq,), True, {"events": [str(asset), kind, run_id, str(since)]})
    query = sa.select(s.outbox)
    for column, value in ((o.asset, None if asset is None else str(asset)), (o.kind, kind), (o.run_id, run_id)):
        if value is not None:
            query = query.where(column == value)
    if since is not None:
        query = query.where(o.created_at >= since)
    with core.read() as connection:
        rows, after = order.cut(connection.execute(order.page(query, limit=limit, cursor=cursor)).all(), limit)
        return Page(load(connection, rows), next=after)


def follow(core: Core, stop: threading.Event) -> Iterator[Event]:
    """Events as they are committed, from now until `stop` is set."""
    with core.read() as connection:
        after = horizon(core, connection, s.outbox)
    while not stop.is_set():
        with core.read() as connection:
            rows, after = tail(core, connection, s.outbox, after, _BATCH)
            found = load(connection, rows)
        yield from found
        if not found:
            stop.wait(IDLE_SECONDS)


def load(connection: Connection, rows: Sequence[Any]) -> list[Event]:
    """Rows of the outbox as events."""
    if not rows:
        return []
    info = s.catalog_info.c
    core_id = connection.execute(sa.select(info.value).where(info.name == "core_id")).scalar_one()
    space = uuid.UUID(core_id)
    return [
        Event(
            id=str(uuid.uuid5(space, str(row.seq))),
            seq=row.seq,
            at=row.created_at,
            kind=row.kind,
            tenant=row.tenant,
            asset=row.asset,
            run_id=row.run_id,
            payload=row.payload,
        )
        for row in rows
    ]
