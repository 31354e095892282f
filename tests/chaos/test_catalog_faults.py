"""A store that fails at its n-th call, for every n of a publish and of a clean-up: typed error, invariants, retry.

A call fails before it has done anything (the disk is full, the network down) or after it has done all (the answer is
lost). Either way nothing is half-visible, trying again succeeds, and clean-up explains what is left.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.records import Retention
from cloudbaker.errors import NotFound, StoreError
from cloudbaker.model import AssetRef, Run, RunState, Step, StepState
from cloudbaker.settings import Settings
from cloudbaker.testing import s3
from cloudbaker.testing.catalog import broken, publication

_CALLS = {
    "writer",
    "write",
    "commit",
    "close",
    "open",
    "read",
    "stat",
    "delete",
    "list",
    "unfinished",
    "drop_unfinished",
}


class Planted(StoreError):
    """What the n-th call raises."""


class Faulty:
    """A store, or what it hands out, whose n-th call fails: counted over all of them."""

    def __init__(self, inner: Any, counter: Iterator[int], at: int, *, after: bool) -> None:
        self._inner, self._counter, self._at, self._after = inner, counter, at, after

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name not in _CALLS or not callable(value):
            return value

        def call(*args: Any, **options: Any) -> Any:
            fails = next(self._counter) == self._at
            # Closing is tidying up: nobody counts on it, so it fails only after it has been done.
            if fails and not self._after and name != "close":
                raise Planted(f"{name} did not happen")
            result = value(*args, **options)
            if name in ("list", "unfinished") and not fails:
                return self._pages(result)
            if fails:
                raise Planted(f"{name} happened, and the answer was lost")
            return Faulty(result, self._counter, self._at, after=self._after) if name in ("writer", "open") else result

        return call

    def _pages(self, items: Iterator[Any]) -> Iterator[Any]:
        """A listing asks the server again for each page; here the first two items are pages of their own."""
        for number, item in enumerate(items):
            if number < 2 and next(self._counter) == self._at:
                raise Planted("the listing broke off")
            yield item

    def __enter__(self) -> Faulty:
        return self

    def __exit__(self, *_: object) -> None:
        self._inner.close()


@contextmanager
def failing(catalog: Catalog, at: int, *, after: bool) -> Iterator[Iterator[int]]:
    """The catalog's store fails at this call, counted from 0."""
    healthy, counter = catalog.store, itertools.count()
    catalog.store = Faulty(healthy, counter, at, after=after)  # type: ignore[assignment]
    try:
        yield counter
    finally:
        catalog.store = healthy


class Clock:
    """Begins now and moves when told."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["folder and SQLite", "S3 and Postgres"])
def catalog(request, home, clock, monkeypatch) -> Iterator[Catalog]:
    if request.param == "folder and SQLite":
        with Catalog.open(Settings(home=home), clock=clock) as opened:
            yield opened
        return
    for name, value in s3.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with s3.moto_server() as endpoint:
        url = s3.new_bucket(endpoint).url
        settings = Settings(
            home=home, catalog_url=request.getfixturevalue("postgres"), store_url=url, s3_endpoint=endpoint
        )
        with Catalog.open(settings, clock=clock) as opened:
            yield opened


def bake(catalog: Catalog, asset: AssetRef, content: bytes, run_id: str) -> int:
    """What a bake does to the catalog; the version's number."""
    now = datetime.now(UTC)
    catalog.start_run(Run(run_id, "bake", asset, "web", "direct", now, "victim"))
    result = catalog.publish(publication(catalog, asset, content, run_id=run_id))
    catalog.record_step(Step(run_id, "publish", 1, StepState.DONE, now, now + timedelta(seconds=1)))
    catalog.finish_run(run_id, RunState.COMPLETED, version=result.version.number)
    assert catalog.read_blob(result.version.sources[0].blob) == content
    return result.version.number


def unexplained(catalog: Catalog) -> list[str]:
    """Objects that no live version has, once all leases are over and clean-up was there."""
    report = catalog.gc(plan=False, grace=timedelta(0))
    assert (report.missing, report.failed) == ((), ())
    wanted = {
        x.blob.storage_key
        for info in catalog.assets()
        for version in catalog.versions(info.asset)
        if version.deleted_at is None
        for x in (*version.sources, *version.artifacts)
    }
    found = {info.key for info in catalog.store.list()}
    assert wanted <= found
    return sorted(found - wanted) + [info.key for info in catalog.store.unfinished()]


@pytest.mark.parametrize("after", [False, True], ids=["not done", "answer lost"])
def test_a_publish_with_a_store_that_fails_at_every_call(
    catalog: Catalog, clock: Clock, after: bool, tell: Callable[[str], None]
) -> None:
    for n in itertools.count():
        asset, content, run_id = AssetRef("acme", "robots", f"asset-{n}"), b"content %d" % n, f"run-{n}"
        with failing(catalog, n, after=after) as counter:
            try:
                bake(catalog, asset, content, run_id)
                if next(counter) <= n:
                    break
            except Planted:
                pass
        assert broken(catalog) == []
        if n % 2:  # every other time nobody tries again, and what is left is left to clean-up
            continue
        assert bake(catalog, asset, content, run_id) == 1
        assert broken(catalog) == []
        assert catalog.channels(asset) == {"live": 1}
    clock.now += timedelta(days=2)
    assert unexplained(catalog) == []
    assert broken(catalog) == []
    assert n > 10
    tell(f"{n} calls of a publish failed one by one")


@pytest.mark.parametrize("after", [False, True], ids=["not done", "answer lost"])
def test_a_clean_up_with_a_store_that_fails_at_every_call(
    catalog: Catalog, clock: Clock, after: bool, tell: Callable[[str], None]
) -> None:
    catalog.set_retention("acme", Retention(delete_after_days=1, keep_last=1), by="ops", why="contract")
    faults = 0
    for n in itertools.count():
        asset = AssetRef("acme", "robots", f"asset-{n}")
        bake(catalog, asset, b"old %d" % n, f"old-{n}")
        bake(catalog, asset, b"new %d" % n, f"new-{n}")
        catalog.put_bytes(b"nobody's %d" % n, "acme", "vault")
        killed = catalog.upload("acme", "vault")
        killed.write(b"killed %d" % n)
        killed._claim(killed._writer.sha256(), killed.size)
        orphan = catalog.store.writer(tenant="acme")
        orphan.write(b"orphan")
        orphan.commit(f"vault/acme/00/{'0' * 60}{n:04d}.{n:012x}")
        orphan.close()
        clock.now += timedelta(days=2)
        with failing(catalog, n, after=after) as counter:
            try:
                report = catalog.gc(plan=False, grace=timedelta(0))
                reached = next(counter) > n
                faults += reached
                assert len(report.failed) <= 1
                if not reached:
                    break
            except Planted:
                faults += 1
        assert broken(catalog) == []
        assert catalog.get_version(asset).number == 2
        with pytest.raises(NotFound):
            catalog.get_version(asset, 3)
        assert unexplained(catalog) == []
        assert broken(catalog) == []
    assert unexplained(catalog) == []
    assert faults >= 8
    tell(f"{faults} calls of a clean-up failed one by one")
