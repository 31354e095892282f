"""The outbox's delivery to sinks: order, retries, dead letters, replay, watermarks; on both databases."""

from __future__ import annotations

import threading
from collections import defaultdict
from datetime import timedelta
from typing import ClassVar

import pytest
import sqlalchemy as sa

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.delivery import deliver
from cloudbaker.catalog.events import follow
from cloudbaker.catalog.sinks import Retries, in_lanes, register
from cloudbaker.errors import NotFound, SinkUnavailable, UsageError
from cloudbaker.model import AssetRef
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import broken


@pytest.fixture(params=["sqlite", "postgres"])
def catalog(request, home, clock):
    """A catalog on either database."""
    url = request.getfixturevalue("postgres") if request.param == "postgres" else ""
    with Catalog.open(Settings(home=home, catalog_url=url), clock=clock) as opened:
        yield opened
        assert broken(opened) == []


A, B, C = (AssetRef("acme", "robots", name) for name in ("arm", "helmet", "leg"))


class Listener:
    """Takes what it is told, but for what it is told to refuse."""

    name = "listener"

    def __init__(self):
        self.heard = []
        self.refuses = set()
        self.absent = False

    def deliver(self, events):
        if self.absent:
            raise SinkUnavailable("nobody there")

        def send(event):
            if event.payload.get("n") in self.refuses:
                return "no"
            self.heard.append(event)
            return None

        return in_lanes(events, send, parallel=1)

    def numbers(self, asset=None):
        return [e.payload["n"] for e in self.heard if asset is None or e.asset == str(asset)]


def announce(catalog, asset, *numbers):
    for n in numbers:
        catalog.announce(asset, "review.updated", {"n": n}, run_id="run-1")


@pytest.fixture
def listener(catalog, clock):
    sink = Listener()
    register(catalog.core, sink.name, clock())
    return sink


def test_everything_is_told_once_and_in_order(catalog, listener):
    announce(catalog, A, 1, 2)
    announce(catalog, B, 3)
    announce(catalog, A, 4)
    publisher = catalog.publisher([listener])
    assert publisher.drain()["listener"].told == 4
    assert sorted(listener.numbers()) == [1, 2, 3, 4]
    assert listener.numbers(A) == [1, 2, 4]
    assert publisher.drain()["listener"].told == 0
    assert [(row.sink, row.behind, row.waiting, row.dead) for row in catalog.sinks()] == [("listener", 0, 0, 0)]
    first = listener.heard[0]
    assert (first.kind, first.tenant, first.run_id) == ("review.updated", "acme", "run-1")
    assert len({event.id for event in listener.heard}) == 4
    # The same event has the same id wherever it is read.
    assert {e.id for e in catalog.events()} == {e.id for e in listener.heard}


def test_a_sink_is_told_from_when_it_became_known(catalog, listener, clock):
    announce(catalog, A, 1)
    late = Listener()
    late.name = "late"
    register(catalog.core, "late", clock())
    announce(catalog, A, 2)
    catalog.publisher([listener, late]).drain()
    assert (listener.numbers(), late.numbers()) == ([1, 2], [2])
    assert catalog.replay("late", by="ada", why="the past too", since=clock() - timedelta(hours=1)) == 2
    catalog.publisher([late]).drain()
    assert late.numbers() == [2, 1, 2]


def test_a_failing_event_holds_up_its_asset_and_no_other(catalog, listener, clock):
    retries = Retries(attempts=3, first=timedelta(seconds=10))
    publisher = catalog.publisher([listener], retries=retries)
    listener.refuses = {2}
    announce(catalog, A, 1, 2, 3)
    announce(catalog, B, 10)
    told = publisher.drain()["listener"]
    assert (told.told, told.failed, told.parked, told.died) == (2, 1, 1, 0)
    announce(catalog, A, 4)
    announce(catalog, B, 11)
    publisher.drain()
    assert (listener.numbers(A), listener.numbers(B)) == ([1], [10, 11])
    waiting = catalog.deliveries(state="waiting")
    assert [(d.event.payload["n"], d.attempts, d.error) for d in waiting] == [(2, 1, "no"), (3, 0, ""), (4, 0, "")]
    assert timedelta(seconds=4) < waiting[0].next_at - clock() <= timedelta(seconds=10)

    clock.later(seconds=11)
    listener.refuses = set()
    assert publisher.drain()["listener"].told == 3
    assert listener.numbers(A) == [1, 2, 3, 4]
    assert catalog.deliveries() == []


def test_dead_letters_let_the_others_go_on_and_can_be_told_again(catalog, listener, clock):
    publisher = catalog.publisher([listener], retries=Retries(attempts=3, first=timedelta(seconds=1)))
    listener.refuses = {1}
    announce(catalog, A, 1, 2)
    announce(catalog, C, 1)
    for _ in range(3):
        publisher.drain()
        clock.later(hours=1)
    publisher.drain()
    assert listener.numbers(A) == [2]
    dead = catalog.deliveries(sink="listener", state="dead")
    assert [(d.event.asset, d.attempts, d.error) for d in dead] == [(str(A), 3, "no"), (str(C), 3, "no")]

    listener.refuses = set()
    assert publisher.drain()["listener"].told == 0  # they stay dead until somebody says so
    assert catalog.replay("listener", by="ada", why="mended", asset=C) == 1
    publisher.drain()
    assert (listener.numbers(C), listener.numbers(A)) == ([1], [2])
    assert catalog.replay("listener", by="ada", why="mended") == 1
    publisher.drain()
    assert listener.numbers(A) == [2, 1]
    assert catalog.replay("listener", by="ada") == 0
    seq = listener.heard[-1].seq
    assert catalog.replay("listener", by="ada", seqs=[seq]) == 1
    publisher.drain()
    assert listener.numbers(A) == [2, 1, 1]
    trail = catalog.audit(action="replay-events")
    assert [(row.who, row.subject, row.why) for row in trail][-1] == ("ada", "listener", "mended")
    with pytest.raises(NotFound, match="there are: listener"):
        catalog.replay("nobody", by="ada")


def test_an_absent_sink_costs_no_attempt(catalog, listener, clock):
    publisher = catalog.publisher([listener], retries=Retries(attempts=2))
    listener.absent = True
    announce(catalog, A, 1, 2)
    for _ in range(5):
        assert publisher.drain()["listener"].unavailable == "nobody there"
        clock.later(hours=1)
    assert catalog.deliveries() == []
    assert catalog.sinks()[0].behind == 2
    listener.absent = False
    assert publisher.drain()["listener"].told == 2


def test_a_batch_that_fails_as_a_whole_is_told_one_by_one(catalog, clock):
    class Whole:
        name = "whole"
        heard: ClassVar[list[int]] = []

        def deliver(self, events):
            if any(e.payload["n"] == 2 for e in events):
                raise ValueError("cannot take this")
            self.heard += [e.payload["n"] for e in events]
            return dict.fromkeys(e.seq for e in events)

    sink = Whole()
    register(catalog.core, "whole", clock())
    announce(catalog, A, 1, 2, 3)
    announce(catalog, B, 4)
    told = catalog.publisher([sink]).drain()["whole"]
    assert (told.told, told.failed, told.parked) == (2, 1, 1)
    assert sink.heard == [1, 4]
    assert [d.error for d in catalog.deliveries()] == ["ValueError: cannot take this", ""]


def test_a_sink_that_goes_on_after_a_failure_is_not_believed(catalog, clock):
    class Careless:
        name = "careless"
        heard: ClassVar[list[int]] = []
        refuses = True

        def deliver(self, events):
            self.heard += [e.payload["n"] for e in events]
            return {e.seq: "no" if self.refuses and e.payload["n"] == 1 else None for e in events}

    sink = Careless()
    register(catalog.core, "careless", clock())
    publisher = catalog.publisher([sink])
    announce(catalog, A, 1, 2)
    publisher.drain()
    sink.refuses = False
    clock.later(hours=1)
    publisher.drain()
    assert sink.heard == [1, 2, 1, 2]


def test_one_publisher_at_a_time(catalog, listener, clock):
    inside, go = threading.Event(), threading.Event()

    class Slow(Listener):
        def deliver(self, events):
            inside.set()
            assert go.wait(30)
            return super().deliver(events)

    slow = Slow()
    announce(catalog, A, 1)
    other = threading.Thread(target=deliver, args=(catalog.core, slow, clock))
    other.start()
    assert inside.wait(30)
    assert deliver(catalog.core, listener, clock).busy
    go.set()
    other.join()
    assert (slow.numbers(), listener.numbers()) == ([1], [])
    assert not deliver(catalog.core, listener, clock).busy


def test_more_than_fits_into_one_round(catalog, listener):
    with catalog.core.write() as connection:
        rows = [
            {
                "created_at": catalog._clock(),
                "tenant": "acme",
                "asset": str((A, B, C)[n % 3]),
                "run_id": None,
                "kind": "review.updated",
                "payload": {"n": n},
            }
            for n in range(1000)
        ]
        connection.execute(sa.insert(s.outbox), rows)
    listener.refuses = {4}
    total = catalog.publisher([listener]).drain()["listener"]
    assert (total.told, total.failed) == (668, 1)
    for asset in (A, C):
        assert listener.numbers(asset) == sorted(listener.numbers(asset))
    assert len(catalog.deliveries(limit=1000)) == 332
    page = catalog.deliveries(limit=300)
    assert len(catalog.deliveries(limit=300, cursor=page.next)) == 32


def test_a_sick_sink_has_a_bounded_number_of_events_waiting(catalog, listener, clock, monkeypatch):
    monkeypatch.setattr("cloudbaker.catalog.delivery.MOST_WAITING", 3)
    listener.refuses = {0}
    announce(catalog, A, 0)
    publisher = catalog.publisher([listener], retries=Retries(attempts=2))
    publisher.drain()
    announce(catalog, A, 1, 2, 3)
    publisher.drain()
    announce(catalog, B, 4)
    publisher.drain()
    assert catalog.sinks()[0].waiting == 4  # one round beyond the bound, and then nothing new
    assert catalog.sinks()[0].behind == 1
    clock.later(hours=1)
    publisher.drain()
    assert listener.numbers() == [1, 2, 3, 4]
    assert [d.state for d in catalog.deliveries()] == ["dead"]


def test_a_lock_that_is_lost_costs_nothing_but_repetition(catalog, listener, clock):
    """The connection that holds the lock dies in the middle of a round: another publisher may tell the same."""
    if catalog.core.path is not None:
        pytest.skip("a file lock ends with its process alone")
    rival = Listener()

    class Interrupted(Listener):
        def deliver(self, events):
            with catalog.core.engine.connect() as connection:
                others = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
                connection.execute(sa.text(others))
            assert deliver(catalog.core, rival, clock).told == 2
            return super().deliver(events)

    announce(catalog, A, 1, 2)
    slow = Interrupted()
    deliver(catalog.core, slow, clock)
    assert (slow.numbers(), rival.numbers()) == ([1, 2], [1, 2])
    announce(catalog, A, 3)
    catalog.publisher([rival]).drain()
    assert rival.numbers() == [1, 2, 3]
    assert catalog.deliveries() == []


def test_following_shows_what_comes(catalog):
    announce(catalog, A, 1)
    stop, seen = threading.Event(), []

    def read():
        for event in follow(catalog.core, stop):
            seen.append(event.payload["n"])
            if event.payload["n"] == 3:
                stop.set()

    thread = threading.Thread(target=read)
    thread.start()
    stop.wait(0.5)
    announce(catalog, B, 2, 3)
    thread.join(30)
    assert seen == [2, 3]


def test_questions_and_their_pages(catalog, clock):
    announce(catalog, A, *range(5))
    announce(catalog, B, 9)
    catalog.announce(B, "asset.uploaded", {"n": 10}, run_id="run-2")
    assert [e.payload["n"] for e in catalog.events(asset=B)] == [10, 9]
    assert [e.payload["n"] for e in catalog.events(kind="asset.uploaded")] == [10]
    assert [e.payload["n"] for e in catalog.events(run_id="run-2")] == [10]
    assert catalog.events(since=clock() + timedelta(hours=1)) == []
    page = catalog.events(asset=A, limit=3)
    announce(catalog, A, 99)
    assert [e.payload["n"] for e in page + catalog.events(asset=A, limit=3, cursor=page.next)] == [4, 3, 2, 1, 0]
    with pytest.raises(UsageError, match="another question"):
        catalog.events(asset=B, limit=3, cursor=page.next)
    with pytest.raises(UsageError, match="no kind of event"):
        catalog.announce(A, "asset.exploded", {})


def test_lanes_stop_at_a_failure_and_give_up_on_an_ill_sink(catalog):
    announce(catalog, A, 1, 2, 3)
    events = catalog.events()[::-1]
    answer = in_lanes(events, lambda e: "no" if e.payload["n"] == 2 else None)
    assert [answer.get(e.seq, "untried") for e in events] == [None, "no", "untried"]
    many = [AssetRef("acme", "robots", f"a{n}") for n in range(40)]
    for asset in many:
        announce(catalog, asset, 1)
    tried = in_lanes(catalog.events(limit=40), lambda _: "no", parallel=1)
    assert len(tried) == 5
    with pytest.raises(SinkUnavailable):
        in_lanes(events, _absent)
    by_asset = defaultdict(list)
    in_lanes(catalog.events(limit=50)[::-1], lambda e: by_asset[e.asset].append(e.seq))
    assert all(seqs == sorted(seqs) for seqs in by_asset.values())


def _absent(_event):
    raise SinkUnavailable("nobody there")


def test_pauses_grow_and_differ():
    retries = Retries()
    spans = [sum((retries.pause(n) for n in range(1, retries.attempts)), timedelta()) for _ in range(20)]
    assert timedelta(hours=2) < min(spans) < max(spans) < timedelta(hours=8)
    assert len(set(spans)) > 1
    assert retries.pause(10**6) <= retries.most
