"""Writers at the same moment, on both databases: threads and processes, one asset, one run, one quota."""

from __future__ import annotations

import dataclasses
import multiprocessing
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.journal import audit_hash
from cloudbaker.errors import Conflict, IdempotencyMismatch, NotFound, QuotaExceeded, UsageError
from cloudbaker.model import AssetRef, Dependency, Run, RunState
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import broken, publication, publish

THREADS = 6


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue("postgres") if request.param == "postgres" else ""


@pytest.fixture
def catalog(url: str, home: Path, clock) -> Iterator[Catalog]:
    with Catalog.open(Settings(home=home, catalog_url=url), clock=clock) as opened:
        yield opened
        assert broken(opened) == []
        assert unchained(opened) == []


def unchained(catalog: Catalog) -> list[str]:
    """Audit rows whose hash is not that of their content and of the row before."""
    a, c = s.audit.c, s.audit_chains.c
    wrong, heads = [], {}
    with catalog.core.read() as connection:
        for row in connection.execute(sa.select(s.audit).order_by(a.chain, a.position)):
            position, digest = heads.get(row.chain, (0, ""))
            if (row.position, row.hash) != (position + 1, audit_hash(row._mapping, digest)):
                wrong.append(f"{row.chain} {row.position}")
            heads[row.chain] = (row.position, row.hash)
        stored = {
            row.chain: (row.position, row.hash) for row in connection.execute(sa.select(c.chain, c.position, c.hash))
        }
    return wrong if stored == heads else [*wrong, f"heads {stored} and not {heads}"]


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """What each gave, or raised, all begun in the same moment."""
    start = threading.Barrier(len(works))
    found: list[Any] = [None] * len(works)

    def run(n: int, work: Callable[[], Any]) -> None:
        start.wait()
        try:
            found[n] = work()
        except Exception as error:
            found[n] = error

    threads = [threading.Thread(target=run, args=(n, work)) for n, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return found


def test_versions_of_one_new_asset_are_numbered_without_gaps(catalog, helmet):
    """Also the first moment of an asset, project and tenant is raced."""
    wanted = [publication(catalog, helmet, b"%d" % n) for n in range(THREADS)]
    found = at_once(*(lambda p=p: catalog.publish(p).version.number for p in wanted))
    assert sorted(found) == list(range(1, THREADS + 1))
    for _ in range(3):
        again = [publication(catalog, helmet, b"again %d %d" % (_, n)) for n in range(THREADS)]
        at_once(*(lambda p=p: catalog.publish(p) for p in again))
    assert [v.number for v in catalog.versions(helmet, limit=100)] == list(range(4 * THREADS, 0, -1))
    assert catalog.channels(helmet) == {"live": 4 * THREADS}


def test_one_run_raced_with_itself_publishes_once(catalog, helmet):
    publish(catalog, helmet, b"before")
    wanted = publication(catalog, helmet, b"x", run_id="run-1")
    found = at_once(*[lambda: catalog.publish(wanted)] * THREADS)
    assert {(p.version.number, p.created) for p in found} == {(2, True)}
    assert len(catalog.versions(helmet)) == 2


def test_one_run_with_different_bodies_publishes_one_of_them(catalog, helmet):
    """To the same asset, and to different ones, which no lock of an asset keeps apart."""
    other = AssetRef("acme", "robots", "other")
    for ref in (helmet, other):
        publish(catalog, ref, b"before")
    wanted = [publication(catalog, ref, b"%d" % n, run_id="run-1") for n in range(3) for ref in (helmet, other)]
    found = at_once(*(lambda p=p: catalog.publish(p) for p in wanted))
    kinds = Counter(type(each).__name__ for each in found)
    assert kinds == {"Published": 1, "IdempotencyMismatch": len(wanted) - 1}
    assert len(catalog.versions(helmet)) + len(catalog.versions(other)) == 3


def test_a_version_like_the_newest_is_made_once(catalog, helmet):
    wanted = [publication(catalog, helmet, b"same") for _ in range(THREADS)]
    found = at_once(*(lambda p=p: catalog.publish(p) for p in wanted))
    assert Counter(p.created for p in found) == {True: 1, False: THREADS - 1}
    assert {p.version.number for p in found} == {1}


def test_a_rebake_and_a_publish_never_both_take_the_place(catalog, helmet):
    publish(catalog, helmet, b"one")
    rebakes = [dataclasses.replace(publication(catalog, helmet, b"re %d" % n), replaces=1) for n in range(3)]
    normal = publication(catalog, helmet, b"new")
    found = at_once(*(lambda p=p: catalog.publish(p) for p in (*rebakes, normal)))
    won = [each for each in found[:3] if not isinstance(each, Conflict)]
    assert len(won) <= 1
    assert all(each.facts["superseded"] for each in found[:3] if isinstance(each, Conflict))
    assert catalog.channels(helmet)["live"] == found[3].version.number


def test_a_channel_moved_from_one_place_moves_once(catalog, helmet):
    for content in (b"1", b"2", b"3", b"4", b"5", b"6"):
        publish(catalog, helmet, content)
    found = at_once(
        *(lambda n=n: catalog.move_channel(helmet, "live", n, f"user {n}", "", expected=6) for n in range(1, 6))
    )
    assert Counter(type(each).__name__ for each in found) == {"NoneType": 1, "Conflict": 4}
    assert catalog.channels(helmet)["live"] == found.index(None) + 1


def test_uploads_at_once_never_pass_the_quota_by_one_byte(catalog):
    catalog.put_bytes(b"x", "acme", "vault")
    with catalog.core.write() as connection:
        connection.execute(sa.update(s.tenants).values(quota_bytes=1 + 3 * 100 + 99))
    found = at_once(*(lambda n=n: catalog.put_bytes(b"%02d" % n * 50, "acme", "vault") for n in range(THREADS)))
    assert sum(not isinstance(each, Exception) for each in found) == 3
    assert {type(each) for each in found if isinstance(each, Exception)} == {QuotaExceeded}


def test_publishing_turns_what_was_reserved_into_what_is_used(catalog, helmet):
    def counters() -> tuple[int, int]:
        with catalog.core.read() as connection:
            return tuple(connection.execute(sa.select(s.tenants.c.used_bytes, s.tenants.c.reserved_bytes)).one())

    wanted = publication(catalog, helmet, b"12345")
    size = sum(blob.size for blob in [wanted.sources[0].blob, *(a.blob for a in wanted.artifacts)])
    assert counters() == (0, size)
    with catalog.core.write() as connection:  # it held when the bytes came; a smaller one set since changes nothing
        connection.execute(sa.update(s.tenants).values(quota_bytes=1))
    catalog.publish(wanted)
    assert counters() == (size, 0)
    with pytest.raises(QuotaExceeded):
        catalog.put_bytes(b"!", "acme", "vault")


def run_of(asset: AssetRef, run_id: str, catalog: Catalog) -> Run:
    return Run(run_id, "bake", asset, "web", "direct", catalog._clock(), "tester")


def test_runs_in_flight_and_runs_a_day_have_their_quotas(catalog, helmet, clock):
    other = AssetRef("zeta", "default", "x")
    catalog.put_bytes(b"x", "acme", "vault")

    def limit(**quota: int | None) -> None:
        with catalog.core.write() as connection:
            connection.execute(sa.update(s.tenants).where(s.tenants.c.tenant == "acme").values(quota))

    limit(quota_runs_in_flight=3)
    found = at_once(*(lambda n=n: catalog.start_run(run_of(helmet, f"run-{n}", catalog)) for n in range(THREADS)))
    refused = [each for each in found if each is not None]
    assert len(refused) == THREADS - 3
    assert all(isinstance(each, QuotaExceeded) and each.exit_code == 4 for each in refused)
    assert refused[0].facts == {"tenant": "acme", "runs_in_flight": 3, "quota_runs_in_flight": 3}
    begun = [f"run-{n}" for n, each in enumerate(found) if each is None]
    catalog.start_run(run_of(helmet, begun[0], catalog))  # said again: it is under way, and costs nothing
    catalog.start_run(run_of(other, "theirs", catalog))
    catalog.finish_run(begun[0], RunState.FAILED)
    catalog.start_run(run_of(helmet, "run-a", catalog))
    with pytest.raises(QuotaExceeded, match="has 3 runs under way and may have 3"):
        catalog.start_run(run_of(helmet, begun[0], catalog))  # a retry is under way again, if there is room
    catalog.finish_run("run-a", RunState.COMPLETED)
    catalog.start_run(run_of(helmet, begun[0], catalog))

    limit(quota_runs_in_flight=None, quota_runs_per_day=5)
    catalog.start_run(run_of(helmet, "run-b", catalog))
    with pytest.raises(QuotaExceeded, match="begun 5 runs today and may begin 5"):
        catalog.start_run(run_of(helmet, "run-c", catalog))
    clock.later(days=1)
    catalog.start_run(run_of(helmet, "run-c", catalog))


def test_a_clock_that_jumps_back_breaks_nothing(catalog, helmet, clock):
    """Order is by commits, not by times; leases, quotas of the day and the export go on."""
    publish(catalog, helmet, b"now")
    catalog.start_run(run_of(helmet, "run-1", catalog))
    clock.later(days=400)
    publish(catalog, helmet, b"ahead")
    catalog.start_run(run_of(helmet, "run-2", catalog))
    clock.later(days=-500)
    with catalog.core.write() as connection:
        connection.execute(sa.update(s.tenants).values(quota_runs_per_day=1))
    publish(catalog, helmet, b"behind")
    catalog.start_run(run_of(helmet, "run-3", catalog))
    catalog.finish_run("run-1", RunState.COMPLETED)
    assert catalog.get_run("run-1").state is RunState.COMPLETED
    assert [v.number for v in catalog.versions(helmet)] == [3, 2, 1]
    assert catalog.get_version(helmet).created_at < catalog.get_version(helmet, 1).created_at
    assert catalog.channels(helmet) == {"live": 3}
    with pytest.raises(QuotaExceeded):
        catalog.start_run(run_of(helmet, "run-4", catalog))


# ---- dependencies


def test_dependencies_are_checked_and_written_down(catalog, helmet):
    strap, visor = AssetRef("acme", "robots", "strap"), AssetRef("acme", "robots", "visor")
    base = publication(catalog, helmet, b"x")

    def needing(*dependencies: Dependency, **more: Any) -> Any:
        return catalog.publish(dataclasses.replace(base, dependencies=dependencies, **more))

    with pytest.raises(NotFound, match=r"depends on acme/robots/strap, which does not exist"):
        needing(Dependency(strap))
    publish(catalog, strap, b"strap")
    with pytest.raises(NotFound, match=r"depends on acme/robots/strap@2"):
        needing(Dependency(strap, 2))
    with pytest.raises(UsageError, match="can't depend on itself"):
        needing(Dependency(helmet))
    with pytest.raises(UsageError, match="another tenant's"):
        needing(Dependency(AssetRef("zeta", "robots", "strap")))
    with pytest.raises(UsageError, match="twice as 'uses'"):
        needing(Dependency(strap, 1), Dependency(strap))
    assert catalog.versions(helmet) == []
    publish(catalog, visor, b"visor")
    needing(Dependency(strap, 1), Dependency(strap, None, "material"), Dependency(visor))
    needing(Dependency(strap, 1), Dependency(strap, None, "material"), Dependency(visor))
    with pytest.raises(IdempotencyMismatch):
        needing(Dependency(strap, 1))
    with catalog.core.read() as connection:
        d = s.dependencies.c
        rows = connection.execute(
            sa.select(d.number, d.on_asset, d.on_number, d.kind).order_by(d.on_asset, d.kind)
        ).all()
    assert rows == [(1, str(strap), None, "material"), (1, str(strap), 1, "uses"), (1, str(visor), None, "uses")]


def test_assets_that_need_each_other_are_published_at_once(catalog):
    """Each holds its own asset and looks at the others': nobody waits in a ring."""
    refs = [AssetRef("acme", "robots", f"part-{n}") for n in range(4)]
    for ref in refs:
        publish(catalog, ref, b"first")
    for turn in range(3):
        wanted = [
            dataclasses.replace(
                publication(catalog, ref, b"%d" % turn), dependencies=tuple(Dependency(o) for o in refs if o != ref)
            )
            for ref in refs
        ]
        found = at_once(*(lambda p=p: catalog.publish(p).created for p in wanted))
        assert found == [True] * 4


def test_a_version_that_is_needed_in_the_same_moment_is_kept_or_gone_before(catalog, helmet):
    strap = AssetRef("acme", "robots", "strap")
    for n in range(4):
        publish(catalog, strap, b"strap %d" % n)
    for number in (1, 2, 3):
        wanted = dataclasses.replace(
            publication(catalog, helmet, b"needs %d" % number), dependencies=(Dependency(strap, number),)
        )
        published, deleted = at_once(
            lambda p=wanted: catalog.publish(p),
            lambda n=number: catalog.delete_version(strap, n, by="ada", why="old"),
        )
        assert isinstance(published, NotFound) != isinstance(deleted, Conflict), (published, deleted)


def test_a_deleted_version_does_not_stand_in_for_a_new_one(catalog, helmet):
    """Its bake key is that of the newest, but its bytes may be gone."""
    publish(catalog, helmet, b"same", channel=None)
    catalog.delete_version(helmet, 1, by="ada", why="")
    with pytest.raises(NotFound, match="it was deleted"):
        catalog.move_channel(helmet, "live", 1, "ada", "")
    again = publish(catalog, helmet, b"same")
    assert (again.version.number, again.created) == (2, True)


# ---- processes


def _publish_many(home: Path, url: str, worker: int, count: int) -> None:
    with Catalog.open(Settings(home=home, catalog_url=url)) as catalog:
        shared, own = AssetRef("acme", "robots", "raced"), AssetRef("acme", "robots", f"own-{worker}")
        for n in range(count):
            publish(catalog, shared, b"%d %d" % (worker, n))
            publish(catalog, own, b"%d" % n)


def test_processes_race_for_an_asset_and_share_blobs(url, home, request):
    """They find no catalog, and make it."""
    if url:
        server = request.getfixturevalue("postgres_server")
        url = server.database()
    server_of_forks = multiprocessing.get_context("forkserver")  # imports once, not once for each
    server_of_forks.set_forkserver_preload(["cloudbaker.testing.catalog"])
    workers = [server_of_forks.Process(target=_publish_many, args=(home, url, n, 6)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 4
    raced = AssetRef("acme", "robots", "raced")
    with Catalog.open(Settings(home=home, catalog_url=url)) as catalog:
        assert [v.number for v in catalog.versions(raced)] == list(range(24, 0, -1))
        assert catalog.channels(raced) == {"live": 24}
        assert broken(catalog) == []
        assert unchained(catalog) == []
    if url:
        server.drop(url)


def test_uploads_of_the_same_bytes_at_once_are_stored_once(catalog):
    found = at_once(*[lambda: catalog.put_bytes(b"same", "acme", "vault")] * THREADS)
    assert len(set(found)) == 1
    with catalog.core.read() as connection:
        assert connection.execute(sa.select(s.tenants.c.reserved_bytes)).scalar() == 4
        until = connection.execute(sa.select(s.blobs.c.lease_until)).scalar()
    assert until > catalog._clock() + timedelta(hours=23)
