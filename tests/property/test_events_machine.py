"""Delivery of events against a simple model: whatever a sink refuses and whenever it is away, nothing is lost, the
events of an asset arrive in order, and only what was refused too often is dead."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.delivery import deliver
from cloudbaker.catalog.sinks import Retries, in_lanes, register
from cloudbaker.errors import SinkUnavailable
from cloudbaker.model import AssetRef
from cloudbaker.settings import Settings

ASSETS = [AssetRef("acme", "robots", name) for name in ("arm", "helmet", "leg")]
RETRIES = Retries(attempts=3, first=timedelta(seconds=10), most=timedelta(seconds=60))


class EventsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="cloudbaker-events-"))
        self.now = datetime.now(UTC)
        self.catalog = Catalog.open(Settings(home=self.home), clock=self.clock)
        register(self.catalog.core, "model", self.now)
        self.sent: dict[str, list[int]] = {str(asset): [] for asset in ASSETS}
        self.heard: list[tuple[str, int]] = []
        self.refused: dict[int, int] = {}
        self.stubborn: set[int] = set()
        self.absent = self.dies = False
        self.numbers = 0

    name = "model"

    def clock(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def deliver(self, events):
        """The sink's side."""
        if self.absent:
            raise SinkUnavailable("away")

        def send(event):
            n = event.payload["n"]
            if n in self.stubborn:
                self.refused[n] = self.refused.get(n, 0) + 1
                return "no"
            self.heard.append((event.asset, n))
            return None

        answer = in_lanes(events, send, parallel=1)
        if self.dies:  # it was told, and nobody has written that down
            raise KeyboardInterrupt
        return answer

    @rule(asset=st.sampled_from(ASSETS), count=st.integers(1, 4))
    def happen(self, asset: AssetRef, count: int) -> None:
        for _ in range(count):
            self.catalog.announce(asset, "review.updated", {"n": self.numbers})
            self.sent[str(asset)].append(self.numbers)
            self.numbers += 1

    @rule(limit=st.sampled_from([1, 2, 5, 200]))
    def tell(self, limit: int) -> None:
        deliver(self.catalog.core, self, self.clock, retries=RETRIES, limit=limit)

    @rule(limit=st.sampled_from([1, 3, 200]))
    def tell_and_die(self, limit: int) -> None:
        self.dies = True
        try:
            deliver(self.catalog.core, self, self.clock, retries=RETRIES, limit=limit)
        except KeyboardInterrupt:
            pass
        finally:
            self.dies = False

    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        if self.numbers:
            self.stubborn.add(data.draw(st.integers(max(0, self.numbers - 6), self.numbers - 1)))

    @rule()
    def relent(self) -> None:
        self.stubborn.clear()

    @rule(absent=st.booleans())
    def come_and_go(self, absent: bool) -> None:
        self.absent = absent

    @rule(seconds=st.integers(1, 90))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def replay(self) -> None:
        dead = {d.event.payload["n"] for d in self.catalog.deliveries(state="dead")}
        assert self.catalog.replay("model", by="ada", why="again") == len(dead)
        for n in dead:
            self.refused[n] = 0

    @invariant()
    def the_dead_were_refused_too_often(self) -> None:
        for delivery in self.catalog.deliveries(state="dead", limit=1000):
            assert self.refused[delivery.event.payload["n"]] >= RETRIES.attempts

    @invariant()
    def events_of_an_asset_arrive_in_order(self) -> None:
        # Those that were never refused, and so can't have been overtaken after they died.
        for asset, sent in self.sent.items():
            first = list(dict.fromkeys(n for where, n in self.heard if where == asset and n not in self.refused))
            assert first == sorted(first)
            assert set(first) <= set(sent)

    def teardown(self) -> None:
        self.absent = False
        self.stubborn.clear()
        for _ in range(3):
            self.now += timedelta(hours=1)
            self.replay()
            while not deliver(self.catalog.core, self, self.clock, retries=RETRIES).idle:
                pass
        for asset, sent in self.sent.items():
            assert {n for where, n in self.heard if where == asset} == set(sent), "lost"
        assert self.catalog.deliveries() == []
        assert self.catalog.sinks()[0].behind == 0
        self.catalog.close()
        shutil.rmtree(self.home)


EventsMachine.TestCase.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestEvents = EventsMachine.TestCase
