"""The catalog against a simple model, on a folder and SQLite and on S3 and Postgres.

Uploads, publishes, retries, rollbacks, deletions, holds, quotas, retention, tags, dependencies, clean-up, exports,
crashes and time, in any order. After each step: no visible version without its blobs, no live blob collected, usage is
the sum of the live blobs, no quota is passed, no pointer dangles, outbox and audit log are exactly what was committed.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.records import Retention
from cloudbaker.catalog.stores.s3 import S3Store
from cloudbaker.errors import Conflict, IdempotencyMismatch, NotFound, QuotaExceeded
from cloudbaker.model import AssetRef, Dependency, Publication
from cloudbaker.settings import Settings
from cloudbaker.testing import postgres, s3
from cloudbaker.testing.catalog import broken, publication

ASSETS = [AssetRef("acme", "robots", "helmet"), AssetRef("acme", "robots", "arm"), AssetRef("zeta", "cars", "helmet")]
TENANTS = ["acme", "zeta"]
LEASE = timedelta(hours=24)
NOW = timedelta(0)

assets = st.sampled_from(ASSETS)
contents = st.sampled_from([b"red", b"green", b"blue"])
channels = st.sampled_from(["live", "beta"])
numbers = st.integers(0, 6)


@dataclasses.dataclass
class ModelVersion:
    """What the model knows of a version."""

    bake_key: str
    created_at: datetime
    pinned_to: tuple[AssetRef, int] | None
    deleted: bool = False


@dataclasses.dataclass
class ModelAsset:
    """What the model knows of an asset."""

    versions: list[ModelVersion] = dataclasses.field(default_factory=list)
    channels: dict[str, int] = dataclasses.field(default_factory=dict)
    tags: set[str] = dataclasses.field(default_factory=set)
    holds: set[int | None] = dataclasses.field(default_factory=set)


class Backend:
    """Where a catalog of its own is."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="cloudbaker-machine-"))
        self.settings = Settings(home=self.home)

    def close(self) -> None:
        shutil.rmtree(self.home)


class RemoteBackend(Backend):
    """A Postgres database and an S3 bucket, on servers that all examples share."""

    server: ClassVar[postgres.Server]
    endpoint: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.store: S3Store = s3.new_bucket(self.endpoint, prefix="library/")
        self.settings = Settings(
            home=self.home,
            catalog_url=self.server.database(migrated=True),
            store_url=self.store.url,
            s3_endpoint=self.endpoint,
        )

    def close(self) -> None:
        self.server.drop(self.settings.catalog_url)
        s3.empty(self.store)
        super().close()


class CatalogMachine(RuleBasedStateMachine):
    """What is true of the catalog is true of some dictionaries."""

    backend_class: ClassVar[type[Backend]] = Backend

    def __init__(self) -> None:
        super().__init__()
        self.backend = self.backend_class()
        self.now = datetime.now(UTC) + timedelta(hours=1)
        self.catalog = self.opened()
        self.model = {asset: ModelAsset() for asset in ASSETS}
        self.published: dict[str, tuple[Publication, int, bool]] = {}
        self.prepared: list[Publication] = []
        self.retention: dict[str, Retention] = {}
        self.tenants: set[str] = set()
        self.runs = 0

    def opened(self) -> Catalog:
        return Catalog.open(self.backend.settings, lease=LEASE, clock=self.clock)

    def clock(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    @initialize()
    def nothing_yet(self) -> None:
        assert list(self.catalog.assets()) == []

    # ---- what people do

    @rule(asset=assets, content=contents, channel=channels | st.none(), on=assets, number=numbers | st.none())
    def prepare(self, asset: AssetRef, content: bytes, channel: str | None, on: AssetRef, number: int | None) -> None:
        """Upload, and publish at some later time, or never."""
        self.runs += 1
        self.tenants.add(asset.tenant)
        try:
            wanted = publication(self.catalog, asset, content, run_id=f"run-{self.runs}", channel=channel)
        except QuotaExceeded:
            assert self.catalog.quota(asset.tenant).bytes is not None
            return
        if on != asset and on.tenant == asset.tenant and self.model[on].versions:
            wanted = dataclasses.replace(wanted, dependencies=(Dependency(on, number or None),))
        self.prepared.append(wanted)

    @precondition(lambda self: self.prepared)
    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        wanted = self.prepared.pop(data.draw(st.integers(0, len(self.prepared) - 1)))
        asset = self.model[wanted.asset]
        newest = asset.versions[-1] if asset.versions else None
        created = newest is None or newest.deleted or newest.bake_key != wanted.bake_key
        pinned = next(((d.on_asset, d.on_number) for d in wanted.dependencies if d.on_number is not None), None)
        try:
            result = self.catalog.publish(wanted)
        except (Conflict, NotFound):
            # Only clean-up, after the lease, may have taken its blobs; or what it is pinned to is not there.
            gone = [b for b in _blobs(wanted) if self.catalog.store.stat(b.storage_key) is None]
            assert gone or (pinned and not self.is_live(*pinned))
            return
        assert result.created is created
        if created:
            assert pinned is None or self.is_live(*pinned)
            asset.versions.append(ModelVersion(wanted.bake_key, result.version.created_at, pinned))
        assert result.version.number == len(asset.versions)
        if wanted.channel is not None:
            asset.channels[wanted.channel] = len(asset.versions)
        self.published[wanted.run_id] = (wanted, len(asset.versions), created)

    @precondition(lambda self: self.published)
    @rule(data=st.data())
    def publish_again(self, data: st.DataObject) -> None:
        wanted, number, created = self.published[data.draw(st.sampled_from(sorted(self.published)))]
        again = self.catalog.publish(wanted)
        assert (again.version.number, again.created) == (number, created)

    @precondition(lambda self: self.published)
    @rule(data=st.data(), content=contents)
    def reuse_a_run_for_something_else(self, data: st.DataObject, content: bytes) -> None:
        wanted, _, _ = self.published[data.draw(st.sampled_from(sorted(self.published)))]
        try:
            other = publication(self.catalog, wanted.asset, content + b"!", run_id=wanted.run_id)
        except QuotaExceeded:
            return
        with pytest.raises(IdempotencyMismatch):
            self.catalog.publish(other)

    @rule(asset=assets, channel=channels, number=numbers)
    def move(self, asset: AssetRef, channel: str, number: int) -> None:
        if self.is_live(asset, number):
            self.catalog.move_channel(asset, channel, number, "ada", "by hand")
            self.model[asset].channels[channel] = number
        else:
            with pytest.raises((NotFound, Conflict)):
                self.catalog.move_channel(asset, channel, number, "ada", "by hand")

    @rule(asset=assets, number=numbers)
    def delete(self, asset: AssetRef, number: int) -> None:
        def ask() -> bool:
            return self.catalog.delete_version(asset, number, by="ada", why="no longer wanted")

        if not 1 <= number <= len(self.model[asset].versions):
            with pytest.raises(NotFound):
                ask()
        elif self.model[asset].versions[number - 1].deleted:
            assert ask() is False
        elif self.is_needed(asset, number):
            with pytest.raises(Conflict):
                ask()
        else:
            assert ask() is True
            self.model[asset].versions[number - 1].deleted = True

    @rule(asset=assets, number=numbers, place=st.booleans())
    def hold(self, asset: AssetRef, number: int, place: bool) -> None:
        which = number or None
        held = self.model[asset].holds
        if not self.model[asset].versions:
            with pytest.raises(NotFound):
                self.catalog.place_hold(asset, which, by="ada", why="evidence")
        elif not place:
            assert self.catalog.release_hold(asset, which, by="ada", why="over") is (which in held)
            held.discard(which)
        elif which is None or self.is_live(asset, which):
            self.catalog.place_hold(asset, which, by="ada", why="evidence")
            held.add(which)

    @rule(asset=assets, tags=st.sets(st.sampled_from(["hero", "wip", "2026"]), min_size=1), add=st.booleans())
    def tag(self, asset: AssetRef, tags: set[str], add: bool) -> None:
        change: Callable[..., tuple[str, ...]] = self.catalog.tag if add else self.catalog.untag
        if not self.model[asset].versions:
            with pytest.raises(NotFound):
                change(asset, tags, "ada")
            return
        wanted = self.model[asset].tags
        (wanted.update if add else wanted.difference_update)(tags)
        assert set(change(asset, tags, "ada")) == wanted

    @rule(tenant=st.sampled_from(TENANTS), room=st.sampled_from([0, 1, 20, 200]) | st.none())
    def limit(self, tenant: str, room: int | None) -> None:
        """A quota with so much room left."""
        used = self.catalog.quota(tenant) if tenant in self.tenants else None
        total = used.used_bytes + used.reserved_bytes if used else 0
        self.catalog.set_quota(tenant, bytes=None if room is None else total + room, by="ops", why="contract")
        self.tenants.add(tenant)

    @rule(tenant=st.sampled_from(TENANTS), days=st.integers(1, 3) | st.none(), keep=st.integers(0, 2))
    def keep_for(self, tenant: str, days: int | None, keep: int) -> None:
        policy = Retention(delete_after_days=days, keep_last=keep)
        self.catalog.set_retention(tenant, policy, by="ops", why="contract")
        self.retention[tenant] = policy
        self.tenants.add(tenant)

    # ---- what happens

    @rule(hours=st.integers(1, 30))
    def time_passes(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @rule(content=contents, put_object=st.booleans(), left_open=st.booleans())
    def an_upload_is_killed(self, content: bytes, put_object: bool, left_open: bool) -> None:
        self.tenants.add("acme")
        upload = self.catalog.upload("acme", "vault")
        try:
            upload.write(content + b"?")
            key, live = upload._claim(upload._writer.sha256(), upload.size)
            if put_object and not live:
                upload._writer.commit(key)
        except QuotaExceeded:
            pass
        if not left_open:
            upload._writer.close()

    @rule()
    def plan_a_clean_up(self) -> None:
        before = sorted(info.key for info in self.catalog.store.list())
        assert self.catalog.gc(plan=True).items == self.catalog.gc(plan=True).items
        assert sorted(info.key for info in self.catalog.store.list()) == before

    @rule()
    def clean_up(self) -> None:
        planned = self.catalog.gc(plan=True, grace=NOW)
        expired = self.expired()
        done = self.catalog.gc(plan=False, grace=NOW)
        assert {(item.kind, item.key) for item in done.items} == {(item.kind, item.key) for item in planned.items}
        assert (done.missing, done.failed) == ((), ())
        assert {item.key for item in done.items if item.kind == "expired-version"} == {f"{a}@{n}" for a, n in expired}
        for asset, number in expired:
            self.model[asset].versions[number - 1].deleted = True
        assert self.catalog.gc(plan=True, grace=NOW).items == ()

    @rule()
    def export(self) -> None:
        self.catalog.export()

    @rule()
    def reopen(self) -> None:
        self.catalog.close()
        self.catalog = self.opened()

    # ---- the model's own answers

    def is_live(self, asset: AssetRef, number: int) -> bool:
        versions = self.model[asset].versions
        return 1 <= number <= len(versions) and not versions[number - 1].deleted

    def is_kept(self, asset: AssetRef, number: int) -> bool:
        """By a channel or a hold."""
        known = self.model[asset]
        return number in known.channels.values() or bool(known.holds & {None, number})

    def is_needed(self, asset: AssetRef, number: int) -> bool:
        return self.is_kept(asset, number) or any(
            version.pinned_to == (asset, number) and not version.deleted
            for other in self.model.values()
            for version in other.versions
        )

    def expired(self) -> set[tuple[AssetRef, int]]:
        """What retention lets go now: old, not among the newest, kept by nothing that stays."""
        going = set()
        for asset, known in self.model.items():
            policy = self.retention.get(asset.tenant)
            if policy is None or policy.delete_after_days is None:
                continue
            live = [n for n, version in enumerate(known.versions, 1) if not version.deleted]
            for number in live[: len(live) - policy.keep_last] if policy.keep_last else live:
                age = self.now - known.versions[number - 1].created_at
                if age >= timedelta(days=policy.delete_after_days) and not self.is_kept(asset, number):
                    going.add((asset, number))
        while True:
            needed = {
                version.pinned_to
                for asset, known in self.model.items()
                for number, version in enumerate(known.versions, 1)
                if not version.deleted and (asset, number) not in going
            }
            if not going & needed:
                return going
            going -= needed

    # ---- what holds

    @invariant()
    def the_catalog_is_the_model(self) -> None:
        found = {info.asset: info for info in self.catalog.assets()}
        wanted = {asset: known for asset, known in self.model.items() if known.versions}
        assert {asset: info.latest for asset, info in found.items()} == {a: len(k.versions) for a, k in wanted.items()}
        assert {asset: info.channels for asset, info in found.items()} == {a: k.channels for a, k in wanted.items()}
        held = {(hold.asset, hold.number) for hold in self.catalog.holds()}
        assert held == {(asset, number) for asset, known in wanted.items() for number in known.holds}

    @invariant()
    def nothing_is_broken(self) -> None:
        assert broken(self.catalog) == []

    @invariant()
    def no_quota_is_passed(self) -> None:
        for quota in self.catalog.quotas():
            assert quota.bytes is None or quota.used_bytes + quota.reserved_bytes <= quota.bytes

    def teardown(self) -> None:
        try:
            for asset, known in self.model.items():
                versions = list(reversed(list(self.catalog.versions(asset))))
                keys = [(version.bake_key, version.deleted_at is not None) for version in versions]
                assert keys == [(version.bake_key, version.deleted) for version in known.versions]
                for version in versions:
                    pointing = {name for name, number in known.channels.items() if number == version.number}
                    assert set(version.channels) == pointing
                if known.versions:
                    assert set(self.catalog.tags(asset)) == known.tags
            self.views_are_the_core()
            self.everything_is_explained()
        finally:
            self.catalog.close()
            self.backend.close()

    def views_are_the_core(self) -> None:
        with self.catalog.connect() as duck:

            def ask(query: str) -> list[Any]:
                return duck.sql(query).fetchall()

            keys = {(str(a), n): v.bake_key for a, k in self.model.items() for n, v in enumerate(k.versions, 1)}
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
            assert used == stored == sum(quota.used_bytes for quota in self.catalog.quotas())

    def everything_is_explained(self) -> None:
        """Long after, without retention, clean-up leaves the bytes of the live versions and nothing else."""
        for tenant in self.retention:
            self.catalog.set_retention(tenant, None, by="ops", why="the end")
        self.now += LEASE + timedelta(hours=1)
        self.catalog.gc(plan=False, grace=NOW)
        wanted = {
            blob.storage_key
            for asset in ASSETS
            for version in self.catalog.versions(asset)
            if version.deleted_at is None
            for blob in [*(x.blob for x in version.sources), *(x.blob for x in version.artifacts)]
        }
        assert {info.key for info in self.catalog.store.list()} == wanted
        assert list(self.catalog.store.unfinished()) == []
        assert broken(self.catalog) == []


def _blobs(wanted: Publication) -> list[Any]:
    return [*(x.blob for x in wanted.sources), *(x.blob for x in wanted.artifacts)]


class RemoteCatalogMachine(CatalogMachine):
    """The same on S3 and Postgres."""

    backend_class = RemoteBackend


@pytest.fixture(scope="module")
def servers() -> Iterator[None]:
    """One Postgres and one S3 for all examples."""
    if reason := postgres.missing():
        pytest.skip(reason)
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in s3.CREDENTIALS.items():
            patch.setenv(name, value)
        RemoteBackend.server = stack.enter_context(postgres.Server())
        RemoteBackend.endpoint = stack.enter_context(s3.moto_server())
        yield


_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def _settings(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=_CHECKS,
        print_blob=True,
    )


TestCatalogMachine = CatalogMachine.TestCase
TestCatalogMachine.settings = _settings(12, 30)

TestRemoteCatalogMachine = RemoteCatalogMachine.TestCase
TestRemoteCatalogMachine.settings = _settings(5, 25)
TestRemoteCatalogMachine.pytestmark = [pytest.mark.usefixtures("servers"), pytest.mark.timeout(600)]


class LongCatalogMachine(CatalogMachine):
    """The same for much longer."""


class LongRemoteCatalogMachine(RemoteCatalogMachine):
    """The same for much longer."""


TestLongCatalogMachine = LongCatalogMachine.TestCase
TestLongCatalogMachine.settings = _settings(400, 60)
TestLongCatalogMachine.pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

TestLongRemoteCatalogMachine = LongRemoteCatalogMachine.TestCase
TestLongRemoteCatalogMachine.settings = _settings(100, 50)
TestLongRemoteCatalogMachine.pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(7200),
    pytest.mark.usefixtures("servers"),
]
