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

import hashlib
import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker import logs
from cloudbaker.catalog import schema as s
from cloudbaker.catalog.engine import Core, translated
from cloudbaker.catalog.events import IDLE_SECONDS, Event, load
from cloudbaker.catalog.journal import many
from cloudbaker.catalog.locks import alone
from cloudbaker.catalog.sinks import Retries, Sink, register, waiting_row
from cloudbaker.catalog.tail import tail
from cloudbaker.catalog.times import Clock
from cloudbaker.errors import SinkUnavailable

log = logs.get_logger(__name__)

BATCH = 200
"""Events of one round."""
MOST_WAITING = 10_000
"""Events that wait for one sink; at so many it is told nothing new until some are told or dead."""


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


def deliver(core: Core, sink: Sink, clock: Clock, *, retries: Retries | None = None, limit: int = BATCH) -> Told:
    """One round: tell a sink what is due, and what is new."""
    register(core, sink.name, clock())
    with _alone(core, sink.name) as ours:
        if not ours:
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
        batch = load(connection, [*old.all(), *fresh])
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
        waiting_row(sink.name, row.seq, row.asset, 0, now, "") for row in rows if row.asset in blocked
    ]
    stopped: set[str] = set()
    for event in batch:
        refusal = answer.get(event.seq)
        if event.asset in stopped or event.seq not in answer:
            # Not tried, or not to be believed if the sink went on after a failure: it is told again, after that one.
            stopped.add(event.asset)
            outcome.parked += 1
            kept.append(waiting_row(sink.name, event.seq, event.asset, attempts.get(event.seq, 0), now, ""))
        elif refusal is None:
            taken.append(event.seq)
            outcome.told += 1
        else:
            count = attempts.get(event.seq, 0) + 1
            dead = count >= retries.attempts
            row = waiting_row(sink.name, event.seq, event.asset, count, now + retries.pause(count), refusal[:1000])
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
                pause = IDLE_SECONDS if told.idle else 0.0
            except Exception as error:  # a full disk, a database that restarts: the next round may do better
                log.warning("delivery failed", sink=sink.name, error=str(error), detail=getattr(error, "detail", None))
                failures += 1
                pause = IDLE_SECONDS
            if failures:
                pause = min(60.0, 0.5 * 2 ** min(failures, 16)) * random.uniform(0.5, 1.0)
            stop.wait(pause)


@contextmanager
def _alone(core: Core, sink: str) -> Iterator[bool]:
    """Whether this is the only publisher for the sink; holds until the end of the block, or of the process."""
    if core.path is not None:
        with alone(core.path.with_name(f"{core.path.name}.{sink}.lock")) as ours:
            yield ours
        return
    key = int.from_bytes(hashlib.sha256(f"cloudbaker sink {sink}".encode()).digest()[:8], signed=True)
    with ExitStack() as stack:
        with translated(core.dialect):
            connection = stack.enter_context(core.engine.connect().execution_options(isolation_level="AUTOCOMMIT"))
            ours = bool(connection.execute(sa.select(sa.func.pg_try_advisory_lock(key))).scalar())
        try:
            yield ours
        finally:
            if ours:
                with suppress(sa.exc.DBAPIError):  # the connection is gone, and the lock with it
                    connection.execute(sa.select(sa.func.pg_advisory_unlock(key)))
