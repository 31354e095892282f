"""The catalog against a simple model: uploads, publishes, retries, rollbacks, clean-up, exports, crashes and time."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cloudbaker.catalog.core import Catalog
from cloudbaker.errors import Conflict, IdempotencyMismatch, NotFound
from cloudbaker.model import AssetRef, Publication
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import broken, publication

ASSETS = [AssetRef("acme", "robots", "helmet"), AssetRef("acme", "robots", "arm"), AssetRef("zeta", "cars", "helmet")]
LEASE = timedelta(hours=24)

assets = st.sampled_from(ASSETS)
contents = st.sampled_from([b"red", b"green", b"blue"])
channels = st.sampled_from(["live", "beta"])


class CatalogMachine(RuleBasedStateMachine):
    """What is true of the catalog is true of three dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="cloudbaker-machine-"))
        self.now = datetime.now(UTC) + timedelta(hours=1)
        self.catalog = Catalog.open(Settings(home=self.home), lease=LEASE, clock=self.clock)
        self.versions: dict[AssetRef, list[str]] = {asset: [] for asset in ASSETS}
        """Bake keys, the first version's first."""
        self.pointers: dict[AssetRef, dict[str, int]] = {asset: {} for asset in ASSETS}
        self.published: dict[str, tuple[Publication, int, bool]] = {}
        self.prepared: list[Publication] = []
        self.runs = 0

    def clock(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    @initialize()
    def nothing_yet(self) -> None:
        assert self.catalog.assets() == []

    # ---- what people do

    @rule(asset=assets, content=contents, channel=channels | st.none())
    def prepare(self, asset: AssetRef, content: bytes, channel: str | None) -> None:
        """Upload, and publish at some later time, or never."""
        self.runs += 1
        self.prepared.append(publication(self.catalog, asset, content, run_id=f"run-{self.runs}", channel=channel))

    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        if not self.prepared:
            return
        wanted = self.prepared.pop(data.draw(st.integers(0, len(self.prepared) - 1)))
        keys, pointers = self.versions[wanted.asset], self.pointers[wanted.asset]
        try:
            result = self.catalog.publish(wanted)
        except Conflict:
            # Only clean-up, after the lease, may have taken its blobs.
            gone = [b for b in _blobs(wanted) if self.catalog.store.stat(b.storage_key) is None]
            assert gone
            return
        created = not keys or keys[-1] != wanted.bake_key
        assert result.created is created
        if created:
            keys.append(wanted.bake_key)
        assert result.version.number == len(keys)
        if wanted.channel is not None:
            pointers[wanted.channel] = len(keys)
        self.published[wanted.run_id] = (wanted, len(keys), created)

    @rule(data=st.data())
    def publish_again(self, data: st.DataObject) -> None:
        if not self.published:
            return
        wanted, number, created = self.published[data.draw(st.sampled_from(sorted(self.published)))]
        again = self.catalog.publish(wanted)
        assert (again.version.number, again.created) == (number, created)

    @rule(data=st.data(), content=contents)
    def reuse_a_run_for_something_else(self, data: st.DataObject, content: bytes) -> None:
        if not self.published:
            return
        wanted, _, _ = self.published[data.draw(st.sampled_from(sorted(self.published)))]
        other = publication(self.catalog, wanted.asset, content + b"!", run_id=wanted.run_id)
        with pytest.raises(IdempotencyMismatch):
            self.catalog.publish(other)

    @rule(asset=assets, channel=channels, number=st.integers(0, 6))
    def move(self, asset: AssetRef, channel: str, number: int) -> None:
        if 1 <= number <= len(self.versions[asset]):
            self.catalog.move_channel(asset, channel, number, "ada", "by hand")
            self.pointers[asset][channel] = number
        else:
            with pytest.raises(NotFound):
                self.catalog.move_channel(asset, channel, number, "ada", "by hand")

    # ---- what happens

    @rule(hours=st.integers(1, 30))
    def time_passes(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @rule(content=contents, put_object=st.booleans(), left_open=st.booleans())
    def an_upload_is_killed(self, content: bytes, put_object: bool, left_open: bool) -> None:
        upload = self.catalog.upload("acme", "vault")
        upload.write(content + b"?")
        key, live = upload._claim(upload._writer.sha256(), upload.size)
        if put_object and not live:
            upload._writer.commit(key)
        if not left_open:
            upload._writer.close()

    @rule()
    def plan_clean_up(self) -> None:
        before = sorted(info.key for info in self.catalog.store.list())
        assert self.catalog.gc(plan=True) == self.catalog.gc(plan=True)
        assert sorted(info.key for info in self.catalog.store.list()) == before

    @rule()
    def clean_up(self) -> None:
        planned = self.catalog.gc(plan=True, grace=timedelta(0))
        done = self.catalog.gc(plan=False, grace=timedelta(0))
        assert {(item.kind, item.key) for item in done.items} == {(item.kind, item.key) for item in planned.items}
        assert done.missing == ()
        assert self.catalog.gc(plan=True, grace=timedelta(0)).items == ()

    @rule()
    def export(self) -> None:
        self.catalog.export()

    @rule()
    def reopen(self) -> None:
        self.catalog.close()
        self.catalog = Catalog.open(Settings(home=self.home), lease=LEASE, clock=self.clock)

    # ---- what holds

    @invariant()
    def the_catalog_is_the_model(self) -> None:
        found = {info.asset: info for info in self.catalog.assets()}
        assert {asset: info.latest for asset, info in found.items()} == {
            a: len(k) for a, k in self.versions.items() if k
        }
        assert {asset: info.channels for asset, info in found.items()} == {
            asset: self.pointers[asset] for asset, keys in self.versions.items() if keys
        }

    @invariant()
    def nothing_is_broken(self) -> None:
        assert broken(self.catalog) == []

    def teardown(self) -> None:
        try:
            for asset, keys in self.versions.items():
                assert [version.bake_key for version in reversed(self.catalog.versions(asset))] == keys
                for version in self.catalog.versions(asset):
                    wanted = {name for name, number in self.pointers[asset].items() if number == version.number}
                    assert set(version.channels) == wanted
            self.views_are_the_core()
            self.everything_is_explained()
        finally:
            self.catalog.close()
            shutil.rmtree(self.home)

    def views_are_the_core(self) -> None:
        with self.catalog.connect() as duck:

            def ask(query: str) -> list[Any]:
                return duck.sql(query).fetchall()

            keys = {(str(a), n): key for a, keys in self.versions.items() for n, key in enumerate(keys, 1)}
            assert {(a, n): key for a, n, key in ask("SELECT asset, number, bake_key FROM versions")} == keys
            moves = sum(1 for asset in ASSETS for _ in self.catalog.channel_moves(asset))
            assert ask("SELECT count(*) FROM channel_moves") == [(moves,)]
            assert ask("SELECT count(*), count(DISTINCT seq) FROM outbox WHERE kind = 'asset.indexed'") == [
                (len(keys), len(keys))
            ]
            [(used, stored)] = ask(
                "SELECT coalesce((SELECT sum(used_bytes) FROM tenants), 0), "
                "coalesce((SELECT sum(amount) FROM usage WHERE kind = 'stored_bytes'), 0)"
            )
            assert used == stored == sum(row.bytes for row in self.catalog.usage())

    def everything_is_explained(self) -> None:
        """Long after, clean-up leaves the bytes of the versions and nothing else."""
        self.now += LEASE + timedelta(hours=1)
        self.catalog.gc(plan=False, grace=timedelta(0))
        wanted = {
            blob.storage_key
            for asset in ASSETS
            for version in self.catalog.versions(asset)
            for blob in [*(x.blob for x in version.sources), *(x.blob for x in version.artifacts)]
        }
        assert {info.key for info in self.catalog.store.list()} == wanted
        assert list(self.catalog.store.unfinished()) == []
        assert broken(self.catalog) == []


def _blobs(wanted: Publication) -> list[Any]:
    return [*(x.blob for x in wanted.sources), *(x.blob for x in wanted.artifacts)]


_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

TestCatalogMachine = CatalogMachine.TestCase
TestCatalogMachine.settings = settings(
    max_examples=12, stateful_step_count=25, deadline=None, suppress_health_check=_CHECKS, print_blob=True
)


class LongCatalogMachine(CatalogMachine):
    """The same for much longer."""


TestLongCatalogMachine = pytest.mark.slow(LongCatalogMachine.TestCase)
TestLongCatalogMachine.settings = settings(
    max_examples=400, stateful_step_count=60, deadline=None, suppress_health_check=_CHECKS, print_blob=True
)
TestLongCatalogMachine.pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]
