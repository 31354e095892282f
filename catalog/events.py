"""Telling the world what was committed: the outbox, and its delivery to sinks.

An event is a row of the outbox, written by the transaction of what it tells. A *sink* (a webhook, Prefect) is told each
event at least once, and the events of one asset in the order of their commits:

- *Nothing is skipped.* A sink's watermark says how far it was told; `tail.py` lets no row appear below it.
- *A failing event holds up later ones of its asset, and nobody else.* It waits in `deliveries` and is tried again, with
  a growing and jittered pause; after the last attempt it is a dead letter, and what waited behind it goes on. Dead
  letters are kept until somebody has them told again (`replay`).
- *A sink that can't be reached at all* costs no event an attempt: all wait.
- *A crash between telling and writing down that it was told* tells it again, under the same id: receivers that must not
  act twice remember ids.

One publisher works at a time for a sink, by a lock that ends with its process.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker import logs
from cloudbaker.catalog import schema as s
from cloudbaker.catalog.engine import Core, translated
from cloudbaker.catalog.journal import audit, many, tell
from cloudbaker.catalog.pages import Order, Page
from cloudbaker.catalog.tail import horizon, position, tail
from cloudbaker.catalog.times import Clock
from cloudbaker.errors import NotFound, SinkUnavailable, UsageError
from cloudbaker.model import AssetRef, check_name, to_json

log = logs.get_logger(__name__)

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

BATCH = 200
"""Events of one round."""
MOST_WAITING = 10_000
"""Events that wait for one sink; at so many it is told nothing new until some are told or dead."""
_IDLE_SECONDS = 0.25
_PARALLEL = 8
_GIVE_UP = 5
"""Failures in a row, of as many assets, after which it is no longer believed to be the events' fault."""


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


@dataclass(slots=True)
class Told:
    """What one round came to."""

    told: int = 0
    failed: int = 0
    died: int = 0
    parked: int = 0
    """They wait behind one that failed."""
    new: int = 0
    """Events of the outbox that were looked at for the first time."""
    busy: bool = False
    """Another publisher is at work for this sink."""
    unavailable: str = ""
    """Why the sink can't be reached; nothing was counted."""

    @property
    def idle(self) -> bool:
        """Nothing was there to be told, or nobody there to tell."""
        return not (self.told or self.failed or self.new)


# ---- the outbox


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
        return Page(_events(connection, rows), next=after)


def follow(core: Core, stop: threading.Event) -> Iterator[Event]:
    """Events as they are committed, from now until `stop` is set."""
    with core.read() as connection:
        after = horizon(core, connection, s.outbox)
    while not stop.is_set():
        with core.read() as connection:
            rows, after = tail(core, connection, s.outbox, after, BATCH)
            found = _events(connection, rows)
        yield from found
        if not found:
            stop.wait(_IDLE_SECONDS)


def _events(connection: Connection, rows: Sequence[Any]) -> list[Event]:
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


# ---- delivery


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


def deliver(core: Core, sink: Sink, clock: Clock, *, retries: Retries | None = None, limit: int = BATCH) -> Told:
    """One round: tell a sink what is due, and what is new."""
    register(core, sink.name, clock())
    with _alone(core, sink.name) as alone:
        if not alone:
            return Told(busy=True)
        return _round(core, sink, clock, retries or Retries(), limit)


def _round(core: Core, sink: Sink, clock: Clock, retries: Retries, limit: int) -> Told:
    k = s.sinks.c
    with core.read() as connection:
        watermark = connection.execute(sa.select(k.watermark).where(k.sink == sink.name)).scalar_one()
        due, blocked, waiting = _waiting(connection, sink.name, clock(), limit)
        rows: Sequence[Any] = []
        upto = watermark
        if waiting < MOST_WAITING and len(due) < limit:
            rows, upto = tail(core, connection, s.outbox, watermark, limit - len(due))
        # Behind one that waits, due or not: it is told in a later round.
        fresh = [row for row in rows if row.asset not in blocked]
        attempts: dict[int, int] = dict(due)
        old = connection.execute(sa.select(s.outbox).where(s.outbox.c.seq.in_(attempts)).order_by(s.outbox.c.seq))
        batch = _events(connection, [*old.all(), *fresh])
    outcome = Told(new=len(rows), parked=len(rows) - len(fresh))
    answer: Mapping[int, str | None] = {}
    if batch:
        try:
            answer = _told(sink, batch)
        except SinkUnavailable as error:
            log.info("sink unavailable", sink=sink.name, error=error.message, detail=error.detail)
            return Told(unavailable=error.message)
    now = clock()
    taken: list[int] = []
    kept: list[dict[str, Any]] = [
        _row(sink.name, row.seq, row.asset, 0, now, "") for row in rows if row.asset in blocked
    ]
    stopped: set[str] = set()
    for event in batch:
        refusal = answer.get(event.seq)
        if event.asset in stopped or event.seq not in answer:
            # Not tried, or not to be believed if the sink went on after a failure: it is told again, after that one.
            stopped.add(event.asset)
            outcome.parked += 1
            kept.append(_row(sink.name, event.seq, event.asset, attempts.get(event.seq, 0), now, ""))
        elif refusal is None:
            taken.append(event.seq)
            outcome.told += 1
        else:
            count = attempts.get(event.seq, 0) + 1
            dead = count >= retries.attempts
            row = _row(sink.name, event.seq, event.asset, count, now + retries.pause(count), refusal[:1000])
            kept.append({**row, "state": "dead" if dead else "waiting"})
            outcome.failed += 1
            outcome.died += dead
            log.warning("event not delivered", sink=sink.name, seq=event.seq, attempt=count, dead=dead, error=refusal)
            if not dead:
                stopped.add(event.asset)

    def write_down(connection: Connection) -> None:
        d = s.deliveries.c
        moved = sa.update(s.sinks).where(k.sink == sink.name, k.watermark == watermark)
        if connection.execute(moved.values(watermark=upto, updated_at=now)).rowcount != 1:
            # Our lock was lost with its connection, and another publisher told these events too: theirs is the record.
            log.warning("another publisher took over", sink=sink.name)
            return
        gone = [seq for seq in (*taken, *(row["seq"] for row in kept)) if seq in attempts]
        if gone:
            connection.execute(sa.delete(s.deliveries).where(d.sink == sink.name, d.seq.in_(gone)))
        many(connection, s.deliveries, kept)

    if batch or rows or upto != watermark:
        core.transact(write_down)
    return outcome


def _told(sink: Sink, batch: Sequence[Event]) -> Mapping[int, str | None]:
    """Tell all together; if that fails for another reason than the sink's absence, each alone."""
    try:
        return sink.deliver(batch)
    except SinkUnavailable:
        raise
    except Exception as error:
        if len(batch) == 1:
            return {batch[0].seq: f"{type(error).__name__}: {error}"}
        log.info("batch not delivered, telling one by one", sink=sink.name, error=repr(error))
    answer: dict[int, str | None] = {}
    stopped: set[str] = set()
    for event in batch:
        if event.asset in stopped:
            continue
        try:
            answer.update(sink.deliver([event]))
        except SinkUnavailable:
            break  # what was taken by now stays taken
        except Exception as error:
            answer[event.seq] = f"{type(error).__name__}: {error}"
        if answer.get(event.seq, "") is not None:
            stopped.add(event.asset)
    return answer


def _waiting(connection: Connection, sink: str, now: datetime, limit: int) -> tuple[dict[int, int], set[str], int]:
    """What is due (attempts by seq), the assets whose events wait, and how many wait."""
    d = s.deliveries.c
    mine = (d.sink == sink, d.state == "waiting")
    heads = (
        sa.select(d.asset, sa.func.min(d.seq).label("seq"), sa.func.count().label("n")).where(*mine).group_by(d.asset)
    )
    first = heads.subquery()
    ready = sa.select(first.c.asset, first.c.n, d.next_at).join(
        s.deliveries, sa.and_(d.sink == sink, d.seq == first.c.seq)
    )
    rows = connection.execute(ready).all()
    due: dict[int, int] = {}
    # The first that waits decides for its asset: those behind it are told in the same round.
    names = sorted(row.asset for row in rows if row.next_at <= now)
    for some in (names[i : i + 500] for i in range(0, len(names), 500)):
        chosen = sa.select(d.seq, d.attempts).where(*mine, d.asset.in_(some)).order_by(d.seq).limit(limit)
        due.update({row.seq: row.attempts for row in connection.execute(chosen)})
    due = dict(sorted(due.items())[:limit])
    return due, {row.asset for row in rows}, sum(row.n for row in rows)


def _row(sink: str, seq: int, asset: str, attempts: int, next_at: datetime, error: str) -> dict[str, Any]:
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


class Publisher:
    """Delivers to some sinks, once or for ever."""

    def __init__(self, core: Core, sinks: Sequence[Sink], clock: Clock, *, retries: Retries | None = None) -> None:
        self._core = core
        self._sinks = list(sinks)
        self._clock = clock
        self._retries = retries or Retries()

    def drain(self) -> dict[str, Told]:
        """Tell each sink everything that is due now; totals by sink."""
        totals = {}
        for sink in self._sinks:
            total = totals[sink.name] = Told()
            while True:
                told = deliver(self._core, sink, self._clock, retries=self._retries)
                for name in ("told", "failed", "died", "parked", "new"):
                    setattr(total, name, getattr(total, name) + getattr(told, name))
                total.busy, total.unavailable = told.busy, told.unavailable
                if told.idle:
                    break
        return totals

    def run(self, stop: threading.Event) -> None:
        """Tell every sink, each at its own pace, until `stop` is set. Errors of the catalog are waited out."""
        for sink in self._sinks:
            register(self._core, sink.name, self._clock())
        threads = [
            threading.Thread(target=self._run, args=(sink, stop), name=f"sink-{sink.name}") for sink in self._sinks
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _run(self, sink: Sink, stop: threading.Event) -> None:
        failures = 0
        while not stop.is_set():
            try:
                told = deliver(self._core, sink, self._clock, retries=self._retries)
                ill = told.unavailable or (told.failed and not told.told)
                failures = failures + 1 if ill else 0
                pause = _IDLE_SECONDS if told.idle else 0.0
            except Exception as error:  # a full disk, a database that restarts: the next round may do better
                log.warning("delivery failed", sink=sink.name, error=str(error), detail=getattr(error, "detail", None))
                failures += 1
                pause = _IDLE_SECONDS
            if failures:
                pause = min(60.0, 0.5 * 2 ** min(failures, 16)) * random.uniform(0.5, 1.0)
            stop.wait(pause)


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
        told = _events(connection, rows)
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
            many(connection, s.deliveries, [_row(sink, row.seq, row.asset, 0, now, "") for row in fresh])
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


@contextmanager
def _alone(core: Core, sink: str) -> Iterator[bool]:
    """Whether this is the only publisher for the sink; holds until the end of the block, or of the process."""
    if core.path is not None:
        path = core.path.with_name(f"{core.path.name}.{sink}.lock")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                fcntl.flock(fd, fcntl.LOCK_UN)  # by name: a child forked meanwhile holds the same open file
        finally:
            os.close(fd)
        return
    key = int.from_bytes(hashlib.sha256(f"cloudbaker sink {sink}".encode()).digest()[:8], signed=True)
    with ExitStack() as stack:
        with translated(core.dialect):
            connection = stack.enter_context(core.engine.connect().execution_options(isolation_level="AUTOCOMMIT"))
            alone = bool(connection.execute(sa.select(sa.func.pg_try_advisory_lock(key))).scalar())
        try:
            yield alone
        finally:
            if alone:
                with suppress(sa.exc.DBAPIError):  # the connection is gone, and the lock with it
                    connection.execute(sa.select(sa.func.pg_advisory_unlock(key)))
