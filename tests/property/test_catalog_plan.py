"""`gc --plan` lists exactly what `gc` then does, and that is what the rules say, told in another way.

Histories of one tenant each: versions of several assets that share bytes, over days, with channels, holds, pins,
deletions by hand and a policy. What goes is computed here from what must stay: whatever is needed, and what that needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.records import Retention
from cloudbaker.errors import Conflict
from cloudbaker.model import AssetRef, Dependency
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import broken, publication

Key = tuple[AssetRef, int]
WHO = {"by": "ada", "why": "tests"}

assets = st.sampled_from(["a", "b", "c"])
publishing = st.tuples(
    st.just("publish"), assets, st.integers(0, 5), st.sampled_from([None, None, None, "live", "beta"]), st.booleans()
)
other = st.one_of(
    st.tuples(st.just("wait"), st.integers(1, 100)),
    st.tuples(st.just("hold"), assets, st.integers(0, 3), st.none() | st.integers(1, 10)),
    st.tuples(st.just("release"), assets, st.integers(0, 3)),
    st.tuples(st.just("move"), assets, st.integers(1, 4)),
    st.tuples(st.just("delete"), assets, st.integers(1, 4)),
    st.tuples(st.just("upload"), st.integers(0, 5)),
)
histories = st.lists(st.tuples(publishing, st.lists(other, max_size=2)), min_size=5, max_size=12)
policies = st.builds(
    Retention,
    delete_after_days=st.sampled_from([None, 1, 1, 2, 3, 5]),
    keep_last=st.sampled_from([0, 0, 1, 2]),
    inbox_hours=st.just(24),
)


@dataclass
class Story:
    """One tenant, and what is true of it."""

    catalog: Catalog
    tenant: str
    clock: Callable[[], datetime]
    born: dict[Key, datetime] = field(default_factory=dict)
    """Versions that are not deleted."""
    counts: dict[AssetRef, int] = field(default_factory=dict)
    pointers: dict[tuple[AssetRef, str], int] = field(default_factory=dict)
    holds: dict[tuple[AssetRef, int | None], datetime | None] = field(default_factory=dict)
    pins: dict[Key, list[Key]] = field(default_factory=dict)
    refused: int = 0

    def asset(self, name: str) -> AssetRef:
        return AssetRef(self.tenant, f"project-{name}", name)

    def publish(self, name: str, content: int, channel: str | None, pinned: bool) -> None:
        asset = self.asset(name)
        needed = [key for key in self.born if key[0] != asset][-1:] if pinned else []
        wanted = publication(self.catalog, asset, b"%d" % content, channel=channel, bake_key=f"{name}{self.clock()}")
        wanted = replace(wanted, dependencies=tuple(Dependency(on, number, "part") for on, number in needed))
        version = self.catalog.publish(wanted).version
        self.counts[asset] = version.number
        self.born[asset, version.number] = version.created_at
        self.pins[asset, version.number] = needed
        if channel is not None:
            self.pointers[asset, channel] = version.number

    def hold(self, name: str, number: int, days: int | None) -> None:
        asset = self.asset(name)
        if asset in self.counts and (number == 0 or (asset, number) in self.born):
            until = None if days is None else self.clock() + timedelta(days=days)
            self.catalog.place_hold(asset, number or None, until=until, **WHO)
            self.holds[asset, number or None] = until

    def release(self, name: str, number: int) -> None:
        asset = self.asset(name)
        if asset in self.counts:
            there = [hold for hold in self.catalog.holds(asset) if hold.number == (number or None)]
            released = self.catalog.release_hold(asset, number or None, **WHO)
            assert released is ((asset, number or None) in self.holds)
            assert released or not there
            self.holds.pop((asset, number or None), None)

    def move(self, name: str, number: int) -> None:
        asset = self.asset(name)
        if (asset, number) in self.born:
            self.catalog.move_channel(asset, "live", number, "ada", "by hand")
            self.pointers[asset, "live"] = number

    def delete(self, name: str, number: int) -> None:
        key = (self.asset(name), number)
        if key not in self.born:
            return
        needed = key in self.needed(self.clock()) or any(key in self.pins[other] for other in self.born)
        try:
            self.catalog.delete_version(*key, **WHO)
        except Conflict:
            assert needed
            self.refused += 1
        else:
            assert not needed
            del self.born[key]

    def needed(self, now: datetime) -> set[Key]:
        """By a channel or a hold."""
        held = {hold for hold, until in self.holds.items() if until is None or until > now}
        pointed = {(asset, number) for (asset, _), number in self.pointers.items()}
        return {key for key in self.born if key in pointed or key in held or (key[0], None) in held}

    def staying(self, policy: Retention, now: datetime) -> set[Key]:
        """What must stay, and what that is pinned to."""
        stay = self.needed(now)
        for asset in self.counts:
            numbers = sorted((n for a, n in self.born if a == asset), reverse=True)
            stay |= {(asset, number) for number in numbers[: policy.keep_last]}
        days = policy.delete_after_days
        stay |= {key for key, born in self.born.items() if days is None or born > now - timedelta(days=days)}
        while more := {on for key in stay for on in self.pins[key] if on in self.born} - stay:
            stay |= more
        return stay


@contextmanager
def opened(settings_: Settings) -> Iterator[tuple[Catalog, Callable[..., datetime]]]:
    now = datetime.now(UTC) + timedelta(hours=1)

    def clock(days: float = 0) -> datetime:
        nonlocal now
        now += timedelta(days=days, microseconds=1)
        return now

    with Catalog.open(settings_, clock=clock) as catalog:
        yield catalog, clock


def check(config: Settings, examples: int, tell: Callable[[str], None]) -> None:
    told = {"versions": 0, "deleted": 0, "refused": 0, "histories": 0}
    numbers = count()
    with opened(config) as (catalog, clock):

        @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
        @given(history=histories, policy=policies)
        def run(history, policy: Retention) -> None:
            story = Story(catalog, f"tenant-{next(numbers)}", clock)
            for what, *arguments in (step for first, more in history for step in (first, *more)):
                if what == "wait":
                    clock(days=arguments[0] / 24)
                elif what == "upload":
                    catalog.put_bytes(b"%d" % arguments[0], story.tenant, "vault")
                else:
                    getattr(story, what)(*arguments)
            catalog.set_retention(story.tenant, policy, **WHO)
            clock(days=4)

            before = dict(story.born)
            staying = story.staying(policy, clock())
            plan = catalog.gc()
            assert broken(catalog) == []
            done = catalog.gc(plan=False)
            assert broken(catalog) == []
            assert sorted(done.items, key=str) == sorted(plan.items, key=str)
            assert done.failed == done.missing == ()
            gone = {item.key for item in done.items if item.kind == "expired-version"}
            assert gone == {f"{asset}@{number}" for asset, number in set(before) - staying}
            assert catalog.gc().items == (), "one clean-up is enough"
            for asset, number in staying:
                version = catalog.get_version(asset, number)
                assert version.deleted_at is None
                for blob in [version.sources[0].blob, *(a.blob for a in version.artifacts)]:
                    assert len(catalog.read_blob(blob)) == blob.size
            catalog.set_retention(story.tenant, None, **WHO)  # the next history is not about this one
            told["versions"] += len(before)
            told["deleted"] += len(gone)
            told["refused"] += story.refused
            told["histories"] += 1

        run()
    tell(", ".join(f"{number} {what}" for what, number in told.items()))


def test_the_plan_is_what_is_done_on_sqlite(home: Path, tell) -> None:
    check(Settings(home=home), 25, tell)


def test_the_plan_is_what_is_done_on_postgres(home: Path, postgres: str, tell) -> None:
    check(Settings(home=home, catalog_url=postgres), 10, tell)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
def test_the_plan_is_what_is_done_for_long(home: Path, postgres: str, tell, backend: str) -> None:
    check(Settings(home=home, catalog_url=postgres if backend == "postgres" else ""), 600, tell)
