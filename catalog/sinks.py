"""Sinks: who is told of events, and what they could not be told yet."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.events import Event, load
from cloudbaker.catalog.journal import audit, many
from cloudbaker.catalog.pages import Order, Page
from cloudbaker.catalog.tail import horizon, position
from cloudbaker.errors import NotFound
from cloudbaker.model import AssetRef, check_name

_PARALLEL = 8
_GIVE_UP = 5
"""Failures in a row, of as many assets, after which it is no longer believed to be the events' fault."""


class Sink(Protocol):
    """Someone who is told of events."""

    @property
    def name(self) -> str:
        """Names it in the catalog: another name is another sink, told from now on."""

    def deliver(self, events: Sequence[Event]) -> Mapping[int, str | None]:
        """Tell events, those of one asset in the order given; later ones of an asset only if the earlier are taken.

        The answer by `seq`: None for what was taken, else why it was not; what is missing was not tried. Raises
        `SinkUnavailable` if nobody can be told anything now. Raises anything else for a failure of all together: each
        is then told alone.
        """


@dataclass(frozen=True, slots=True)
class Retries:
    """How often an event is told before it is a dead letter: by default 16 times in about 5 hours."""

    attempts: int = 16
    first: timedelta = timedelta(seconds=1)
    most: timedelta = timedelta(hours=1)

    def pause(self, attempts: int) -> timedelta:
        """Time until the next attempt, doubled each time. Jittered: a crowd that failed together does not return so."""
        doubled: timedelta = self.first * 2 ** min(attempts - 1, 32)
        return min(self.most, doubled) * random.uniform(0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event that could not be told yet (``waiting``), or not at all (``dead``)."""

    sink: str
    event: Event
    state: str
    attempts: int
    next_at: datetime
    error: str
    """Of the last attempt; empty: it only waits behind another."""


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """How far a sink has come."""

    sink: str
    updated_at: datetime
    behind: int
    """Events that it was not told yet, but for those that wait or are dead."""
    waiting: int
    dead: int


def register(core: Core, sink: str, now: datetime) -> None:
    """Make a sink known: it is told what is committed from now on. Saying it again is harmless."""
    check_name("sink", sink)
    k = s.sinks.c
    with core.read() as connection:
        if connection.execute(sa.select(k.sink).where(k.sink == sink)).first() is not None:
            return

    def work(connection: Connection) -> None:
        if connection.execute(sa.select(k.sink).where(k.sink == sink)).first() is None:
            values = {"sink": sink, "watermark": horizon(core, connection, s.outbox), "updated_at": now}
            connection.execute(sa.insert(s.sinks), values)

    core.transact(work)


def in_lanes(
    events: Sequence[Event], send: Callable[[Event], str | None], *, parallel: int = _PARALLEL
) -> dict[int, str | None]:
    """For sinks that tell one event at a time: assets side by side, each one's in order up to its first failure.

    `send` returns None, or why the event was not taken. After five failures in a row, none taken between them, the
    others are not tried in this round: it is the sink that is ill. What `send` raises is raised.
    """
    lanes: dict[str, list[Event]] = {}
    for event in events:
        lanes.setdefault(event.asset, []).append(event)
    answer: dict[int, str | None] = {}
    lock = threading.Lock()
    row = 0
    raised: list[Exception] = []

    def lane(mine: list[Event]) -> None:
        nonlocal row
        for event in mine:
            with lock:
                if row >= _GIVE_UP or raised:
                    return
            try:
                error = send(event)
            except Exception as problem:
                with lock:
                    raised.append(problem)
                return
            with lock:
                answer[event.seq] = error
                row = 0 if error is None else row + 1
            if error is not None:
                return

    with ThreadPoolExecutor(max_workers=parallel) as pool:
        list(pool.map(lane, lanes.values()))
    if raised and not any(error is None for error in answer.values()):
        raise raised[0]
    return answer


# ---- what was not told


def deliveries(
    core: Core, *, sink: str | None = None, state: str | None = None, limit: int = 100, cursor: str | None = None
) -> Page[Delivery]:
    """See `cloudbaker.catalog.core.Catalog.deliveries`."""
    d, o = s.deliveries.c, s.outbox.c
    order = Order((d.sink, d.seq), False, {"deliveries": [sink, state]})
    query = sa.select(
        *(d.sink, d.state, d.attempts, d.next_at, d.error),
        *(o.seq, o.created_at, o.kind, o.tenant, o.asset, o.run_id, o.payload),
    ).join_from(s.deliveries, s.outbox, o.seq == d.seq)
    if sink is not None:
        query = query.where(d.sink == sink)
    if state is not None:
        query = query.where(d.state == state)
    with core.read() as connection:
        rows, after = order.cut(connection.execute(order.page(query, limit=limit, cursor=cursor)).all(), limit)
        told = load(connection, rows)
        return Page(
            (
                Delivery(row.sink, event, row.state, row.attempts, row.next_at, row.error)
                for row, event in zip(rows, told, strict=True)
            ),
            next=after,
        )


def sinks(core: Core) -> Page[SinkStatus]:
    """See `cloudbaker.catalog.core.Catalog.sinks`."""
    k, d = s.sinks.c, s.deliveries.c
    with core.read() as connection:
        at = position(core, s.outbox)
        found = []
        for row in connection.execute(sa.select(s.sinks).order_by(k.sink)).all():
            states = sa.select(d.state, sa.func.count().label("n")).where(d.sink == row.sink).group_by(d.state)
            counts: dict[str, int] = {each.state: each.n for each in connection.execute(states)}
            behind = connection.execute(sa.select(sa.func.count()).where(at > row.watermark)).scalar_one()
            waiting, dead = counts.get("waiting", 0), counts.get("dead", 0)
            found.append(SinkStatus(row.sink, row.updated_at, behind, waiting, dead))
        return Page(found)


def replay(
    core: Core,
    sink: str,
    now: datetime,
    *,
    asset: AssetRef | None,
    seqs: Sequence[int] | None,
    since: datetime | None,
    by: str,
    why: str,
) -> int:
    """See `cloudbaker.catalog.core.Catalog.replay`."""
    d, o, k = s.deliveries.c, s.outbox.c, s.sinks.c

    def work(connection: Connection) -> int:
        watermark = connection.execute(sa.select(k.watermark).where(k.sink == sink)).scalar()
        if watermark is None:
            known = list(connection.execute(sa.select(k.sink).order_by(k.sink)).scalars())
            raise NotFound(f"there is no sink {sink!r}; there are: {', '.join(known) or 'none'}", sink=sink)
        again = sa.update(s.deliveries).where(d.sink == sink, d.state == "dead")
        # Only what it was told before: what is new comes by itself.
        old = sa.select(o.seq, o.asset).where(position(core, s.outbox) <= watermark)
        for condition, dead, told in (
            (asset is not None, d.asset == str(asset), o.asset == str(asset)),
            (seqs is not None, d.seq.in_(seqs or ()), o.seq.in_(seqs or ())),
            (since is not None, d.created_at.is_not(None), o.created_at >= (since or now)),
        ):
            if condition:
                again, old = again.where(dead), old.where(told)
        count = 0
        if since is None:
            count = connection.execute(again.values(state="waiting", attempts=0, next_at=now)).rowcount
        if since is not None or seqs is not None:
            known_rows = {
                row.seq: row.state for row in connection.execute(sa.select(d.seq, d.state).where(d.sink == sink))
            }
            rows = connection.execute(old.order_by(o.seq)).all()
            dead_now = [row.seq for row in rows if known_rows.get(row.seq) == "dead"]
            for some in (dead_now[i : i + 500] for i in range(0, len(dead_now), 500)):
                revived = sa.update(s.deliveries).where(d.sink == sink, d.seq.in_(some))
                connection.execute(revived.values(state="waiting", attempts=0, next_at=now))
            fresh = [row for row in rows if row.seq not in known_rows]
            many(connection, s.deliveries, [waiting_row(sink, row.seq, row.asset, 0, now, "") for row in fresh])
            count += len(dead_now) + len(fresh)
        if count:
            detail = {
                "events": count,
                "asset": None if asset is None else str(asset),
                "since": None if since is None else since.isoformat(),
            }
            audit(connection, now, who=by, action="replay-events", subject=sink, why=why, detail=detail)
        return count

    return core.transact(work)


def waiting_row(sink: str, seq: int, asset: str, attempts: int, next_at: datetime, error: str) -> dict[str, Any]:
    """A row of `schema.deliveries` for an event that is to be told again."""
    return {
        "sink": sink,
        "seq": seq,
        "asset": asset,
        "state": "waiting",
        "attempts": attempts,
        "next_at": next_at,
        "error": error,
        "created_at": next_at,
    }
