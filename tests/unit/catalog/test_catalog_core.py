"""Publish, versions, channels, runs, attempts: one transaction each, harmless to repeat."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.core import Catalog
from cloudbaker.errors import (
    CatalogError,
    Conflict,
    IdempotencyMismatch,
    NameRefused,
    NotFound,
    QuotaExceeded,
    StoreError,
    UsageError,
)
from cloudbaker.model import AssetRef, Finding, Run, RunState, Severity, Step, StepState
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import TOOLS, broken, publication, publish


@pytest.fixture(params=["sqlite", "postgres"])
def catalog(request: pytest.FixtureRequest, home: Path, clock) -> Iterator[Catalog]:
    """Everything here holds on either database."""
    url = request.getfixturevalue("postgres") if request.param == "postgres" else ""
    with Catalog.open(Settings(home=home, catalog_url=url), clock=clock) as opened:
        yield opened
        assert broken(opened) == []


def make_run(run_id: str, asset: AssetRef, **more: str) -> Run:
    return Run(run_id, "bake", asset, "web", "direct", datetime.now(UTC), "tester", **more)


# ---- publish and versions


def test_a_publication_becomes_a_version_with_all_that_belongs_to_it(catalog, helmet):
    wanted = publication(catalog, helmet, b"one")
    published = catalog.publish(wanted)
    version = published.version
    assert published.created
    assert (version.asset, version.number, version.channels) == (helmet, 1, ("live",))
    for field in dataclasses.fields(wanted):
        if field.name not in ("engine", "channel", "replaces"):
            assert getattr(version, field.name) == getattr(wanted, field.name), field.name
    assert version.size_bytes == sum(a.blob.size for a in wanted.artifacts)
    assert version.tools == TOOLS
    assert (
        version == catalog.get_version(helmet, 1) == catalog.get_version(helmet, "live") == catalog.get_version(helmet)
    )
    assert version == catalog.find_version(helmet, wanted.bake_key)
    assert catalog.versions(helmet) == [version]


def test_versions_are_numbered_and_listed_newest_first(catalog, helmet):
    numbers = [publish(catalog, helmet, b"%d" % n).version.number for n in range(5)]
    assert numbers == [1, 2, 3, 4, 5]
    assert [v.number for v in catalog.versions(helmet)] == [5, 4, 3, 2, 1]
    newest = catalog.versions(helmet, limit=1)
    assert [v.number for v in catalog.versions(helmet, limit=2, cursor=newest.next)] == [4, 3]
    assert catalog.versions(AssetRef("acme", "robots", "none")) == []
    assert catalog.get_version(helmet, "live").number == 5


def test_the_same_bake_key_twice_in_a_row_is_one_version(catalog, helmet):
    first = publish(catalog, helmet, b"same")
    again = publish(catalog, helmet, b"same")
    assert first.created
    assert not again.created
    assert again.version == first.version
    assert catalog.channels(helmet) == {"live": 1}
    beta = publish(catalog, helmet, b"same", channel="beta")
    assert not beta.created
    assert catalog.channels(helmet) == {"beta": 1, "live": 1}


def test_going_back_to_older_content_is_a_new_version(catalog, helmet):
    for content in (b"a", b"b", b"a"):
        assert publish(catalog, helmet, content).created
    assert catalog.find_version(helmet, publication(catalog, helmet, b"a").bake_key).number == 3
    assert catalog.usage("acme")[0].versions == 3


def test_the_same_run_again_changes_nothing_and_gets_the_same_answer(catalog, helmet):
    first = publish(catalog, helmet, b"one", run_id="run-1")
    publish(catalog, helmet, b"two", run_id="run-2")
    again = publish(catalog, helmet, b"one", run_id="run-1")
    assert (again.version.number, again.created) == (first.version.number, first.created) == (1, True)
    assert len(catalog.versions(helmet)) == 2
    assert catalog.channels(helmet) == {"live": 2}


def test_a_run_can_not_publish_something_else_the_second_time(catalog, helmet):
    publish(catalog, helmet, b"one", run_id="run-1")
    for other in ({"content": b"two"}, {"content": b"one", "channel": "beta"}, {"content": b"one", "recipe": "vr"}):
        with pytest.raises(IdempotencyMismatch, match="run-1 has published before"):
            publish(catalog, helmet, **other, run_id="run-1")
    with pytest.raises(IdempotencyMismatch):
        publish(catalog, AssetRef("acme", "robots", "other"), b"one", run_id="run-1")
    assert len(catalog.versions(helmet)) == 1


def test_names_and_figures_of_a_publication_are_checked(catalog, helmet):
    good = publication(catalog, helmet, b"x")
    twice = dataclasses.replace(good, artifacts=good.artifacts + good.artifacts[:1])
    with pytest.raises(UsageError, match="two artifacts of one version are named 'model.glb'"):
        catalog.publish(twice)
    with pytest.raises(UsageError, match="two sources"):
        catalog.publish(dataclasses.replace(good, sources=good.sources * 2))
    with pytest.raises(UsageError, match="metric psnr_db of version is inf"):
        catalog.publish(dataclasses.replace(good, metrics={"psnr_db": float("inf")}))
    with pytest.raises(NameRefused):
        catalog.publish(dataclasses.replace(good, channel="../live"))
    assert catalog.assets() == []
    assert catalog.publish(good).created


def test_a_blob_of_another_tenant_is_not_ours_to_publish(catalog, helmet):
    theirs = publication(catalog, AssetRef("zeta", "robots", "helmet"), b"secret")
    with pytest.raises(Conflict):
        catalog.publish(dataclasses.replace(theirs, asset=helmet))
    lying = dataclasses.replace(theirs.artifacts[0].blob, size=1)
    changed = dataclasses.replace(theirs.artifacts[0], blob=lying)
    with pytest.raises(Conflict, match="is not the one that was uploaded"):
        catalog.publish(dataclasses.replace(theirs, artifacts=(changed,)))


def test_one_blob_in_two_roles_is_counted_twice_and_stored_once(catalog, helmet):
    one = publication(catalog, helmet, b"x", files=1)
    copy = dataclasses.replace(one.artifacts[0], name="copy.glb", variant="copy")
    catalog.publish(dataclasses.replace(one, artifacts=(*one.artifacts, copy)))
    [usage] = catalog.usage()
    size = one.artifacts[0].blob.size
    assert usage.bytes_by_zone == {"public": size, "vault": 1}
    assert usage.saved_bytes == size


def test_lookups_that_find_nothing_say_what_there_is(catalog, helmet):
    with pytest.raises(NotFound, match="no asset acme/robots/helmet with a version: bake it first"):
        catalog.get_version(helmet, 1)
    publish(catalog, helmet, b"x", channel=None)
    with pytest.raises(NotFound, match=r"no version 7; versions: 1 to 1, channels: none"):
        catalog.get_version(helmet, 7)
    publish(catalog, helmet, b"y")
    with pytest.raises(NotFound, match=r"no channel 'beta'; versions: 1 to 2, channels: live"):
        catalog.get_version(helmet, "beta")
    assert catalog.find_version(helmet, "0" * 64) is None


def test_assets_are_listed_by_name_and_tenant(catalog):
    refs = [AssetRef("acme", "robots", f"a{n}") for n in range(3)] + [AssetRef("zeta", "cars", "z")]
    for ref in refs:
        publish(catalog, ref, str(ref).encode())
    publish(catalog, refs[0], b"second", channel="beta")
    assert [info.asset for info in catalog.assets()] == refs
    assert [info.asset for info in catalog.assets("zeta")] == [refs[3]]
    begin = catalog.assets("acme", limit=1)
    assert [info.asset for info in catalog.assets("acme", limit=1, cursor=begin.next)] == [refs[1]]
    first = catalog.assets("acme")[0]
    assert (first.latest, first.channels) == (2, {"live": 1, "beta": 2})


def test_a_quota_is_never_passed_by_one_byte(catalog, helmet):
    first = publication(catalog, helmet, b"12345")
    size = sum(b.size for b in [first.sources[0].blob, *(a.blob for a in first.artifacts)])
    catalog.publish(first)

    def limit(quota: int) -> None:
        with catalog.core.write() as connection:
            connection.execute(sa.update(s.tenants).values(quota_bytes=quota))

    limit(2 * size - 1)
    with pytest.raises(QuotaExceeded, match=r"has room for \d+ bytes more"):
        publish(catalog, helmet, b"54321")
    assert len(catalog.versions(helmet)) == 1
    assert catalog.usage()[0].bytes == size
    limit(2 * size)
    assert publish(catalog, helmet, b"54321").created
    assert catalog.usage()[0].bytes == catalog.usage()[0].quota_bytes == 2 * size


# ---- channels


def test_rollback_moves_the_pointer_and_history_stays(catalog, helmet):
    for content in (b"a", b"b"):
        publish(catalog, helmet, content)
    catalog.move_channel(helmet, "live", 1, "ada", "b has a hole")
    assert catalog.channels(helmet) == {"live": 1}
    assert catalog.get_version(helmet, "live").number == 1
    assert len(catalog.versions(helmet)) == 2
    moves = catalog.channel_moves(helmet)
    assert [(m.previous, m.number, m.moved_by) for m in moves] == [(2, 1, "ada"), (1, 2, "tester"), (None, 1, "tester")]
    assert moves[0].why == "b has a hole"
    catalog.move_channel(helmet, "live", 1, "ada", "again: nothing to do")
    assert len(catalog.channel_moves(helmet)) == 3


def test_a_channel_moves_only_from_where_it_is_expected(catalog, helmet):
    for content in (b"a", b"b", b"c"):
        publish(catalog, helmet, content)
    with pytest.raises(Conflict, match="points at version 3 and not at 2"):
        catalog.move_channel(helmet, "live", 1, "ada", "", expected=2)
    with pytest.raises(Conflict, match="does not exist and not at 1"):
        catalog.move_channel(helmet, "beta", 2, "ada", "", expected=1)
    catalog.move_channel(helmet, "live", 2, "ada", "", expected=3)
    assert catalog.channels(helmet) == {"live": 2}
    with pytest.raises(NotFound, match="no version acme/robots/helmet@4"):
        catalog.move_channel(helmet, "live", 4, "ada", "")
    with pytest.raises(NameRefused):
        catalog.move_channel(helmet, "../live", 1, "ada", "")


# ---- runs


def test_a_run_is_known_from_its_start_to_its_end(catalog, helmet):
    run = make_run("run-1", helmet, parent_run_id="bulk-1")
    catalog.start_run(run)
    started = catalog.get_run("run-1")
    assert (started.run, started.state, started.finished_at, started.steps) == (run, RunState.RUNNING, None, ())
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    steps = [
        Step("run-1", "optimize", 1, StepState.FAILED, begun, begun + timedelta(seconds=2), error={"code": "CB3001"}),
        Step("run-1", "optimize", 2, StepState.DONE, begun, begun + timedelta(seconds=1.5), "cuda", {"psnr_db": 41.0}),
    ]
    for step in steps:
        catalog.record_step(step)
    catalog.finish_run("run-1", RunState.COMPLETED, version=None, metrics={"total_seconds": 3.5})
    ended = catalog.get_run("run-1")
    assert (ended.state, ended.steps, ended.metrics) == (RunState.COMPLETED, tuple(steps), {"total_seconds": 3.5})
    assert ended.finished_at is not None
    assert catalog.usage("acme")[0].compute_seconds == {"cpu": 2.0, "cuda": 1.5}


def test_saying_it_again_is_harmless_and_a_retried_run_is_running_again(catalog, helmet):
    run = make_run("run-1", helmet)
    for _ in range(2):
        catalog.start_run(run)
    for _ in range(2):
        catalog.finish_run("run-1", RunState.FAILED, error={"code": "CB5201"})
    assert catalog.get_run("run-1").error == {"code": "CB5201"}
    catalog.start_run(run)
    assert catalog.get_run("run-1").state is RunState.RUNNING
    assert catalog.get_run("run-1").finished_at is None
    catalog.finish_run("run-1", RunState.COMPLETED, version=3)
    assert (catalog.get_run("run-1").state, catalog.get_run("run-1").version) == (RunState.COMPLETED, 3)
    with catalog.core.read() as connection:
        assert connection.execute(sa.select(s.run_states.c.state).order_by(s.run_states.c.seq)).scalars().all() == [
            *("running", "failed", "running", "completed")
        ]


def test_findings_of_a_rejected_run_are_kept_once(catalog, helmet):
    catalog.start_run(make_run("run-1", helmet))
    findings = (Finding("glb.truncated", Severity.ERROR, "", "the file ends early", "export it again"),)
    catalog.finish_run("run-1", RunState.REJECTED, findings=findings)
    catalog.finish_run("run-1", RunState.REJECTED, findings=findings)
    assert catalog.sql("SELECT code, severity, number FROM findings").fetchall() == [("glb.truncated", "error", None)]


def test_findings_that_publish_wrote_down_are_not_written_twice(catalog, helmet):
    catalog.start_run(make_run("run-1", helmet))
    published = publish(catalog, helmet, b"x", run_id="run-1")
    catalog.finish_run("run-1", RunState.COMPLETED, version=1, findings=published.version.findings)
    assert catalog.sql("SELECT count(*) FROM findings").fetchall() == [(1,)]


def test_runs_that_do_not_exist(catalog, helmet):
    now = datetime.now(UTC)
    with pytest.raises(NotFound, match="no run nope"):
        catalog.get_run("nope")
    with pytest.raises(NotFound, match="start_run comes first"):
        catalog.finish_run("nope", RunState.FAILED)
    with pytest.raises(NotFound, match="start_run comes first"):
        catalog.record_step(Step("nope", "ingest", 1, StepState.DONE, now, now))
    catalog.start_run(make_run("run-1", helmet))
    with pytest.raises(IdempotencyMismatch, match="give each run an id of its own"):
        catalog.start_run(make_run("run-1", AssetRef("acme", "robots", "other")))


def test_a_time_without_a_zone_is_refused(catalog, helmet):
    with pytest.raises(UsageError, match="has no zone"):
        catalog.start_run(dataclasses.replace(make_run("run-1", helmet), started_at=datetime(2026, 1, 1)))
    with pytest.raises(NotFound):
        catalog.get_run("run-1")


# ---- attempts and quarantine


def test_attempts_are_counted_per_asset_and_bake_key(catalog, helmet):
    other = AssetRef("acme", "robots", "other")

    def fail(asset: AssetRef, key: str) -> int:
        return catalog.record_attempt(asset, key, run_id="r", status="lost", error={"code": "CB5002"})

    assert [fail(helmet, "k1"), fail(helmet, "k1"), fail(other, "k1"), fail(helmet, "k2")] == [1, 2, 1, 1]
    assert catalog.attempts(helmet, "k1") == 2
    assert catalog.attempts(helmet, "k3") == 0
    assert catalog.clear_attempts(helmet, "k1") == 1
    assert fail(helmet, "k1") == 1
    assert catalog.clear_attempts(helmet) == 2
    assert catalog.attempts(other, "k1") == 1


def test_quarantine_keeps_the_evidence_and_can_be_left(catalog, helmet):
    error = {"code": "CB3001", "message": "killed after 300 s"}
    catalog.record_attempt(helmet, "k1", run_id="r", status="timeout", error=error)
    for _ in range(2):
        catalog.quarantine(helmet, "k1", run_id="bulk", attempts=3, error=error, status="timeout")
    catalog.quarantine(helmet, "k2", run_id="bulk", attempts=3, error=error)
    first, _second = catalog.quarantined()
    assert (first.asset, first.bake_key, first.attempts, first.status) == (helmet, "k1", 3, "timeout")
    assert (first.error, first.run_id) == (error, "bulk")
    assert catalog.release(helmet, "k1", by="ada", why="new engine") == 1
    assert catalog.attempts(helmet, "k1") == 0
    assert [entry.bake_key for entry in catalog.quarantined(helmet)] == ["k2"]
    assert catalog.release(helmet) == 1
    assert catalog.release(helmet) == 0
    actions = catalog.sql("SELECT action, who FROM audit ORDER BY seq").fetchall()
    assert actions == [("quarantine", "cloudbaker")] * 2 + [("release", "ada"), ("release", "")]


# ---- the file itself


def test_two_homes_never_meet(tmp_path, helmet):
    with Catalog.open(Settings(home=tmp_path / "a")) as a, Catalog.open(Settings(home=tmp_path / "b")) as b:
        publish(a, helmet, b"x")
        assert b.assets() == []
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["with space", "ü-é", "a#b", "a?b=c", "a:b", "a'b", "a%20b"])
def test_a_home_may_have_any_name(tmp_path, helmet, name):
    with Catalog.open(Settings(home=tmp_path / name / "home")) as catalog:
        publish(catalog, helmet, b"published")
        if "%" in name:
            with pytest.raises(UsageError, match=r"give CLOUDBAKER_HOME or \w+ a path without one"):
                catalog.export()
        else:
            assert catalog.export().rows["versions"] == 1
        publish(catalog, helmet, b"tail")
        assert catalog.sql("SELECT count(*) FROM versions").fetchall() == [(2,)]
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == [name]


def test_what_is_not_a_catalog_url(tmp_path):
    for url in ("sqlite://", "sqlite:///:memory:", "nonsense", "mysql://root:secret@db/x"):
        with pytest.raises(CatalogError, match="sqlite:////path/to/catalog.db") as caught:
            Catalog.open(Settings(home=tmp_path, catalog_url=url))
        assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "catalog.db").write_bytes(b"this is not SQLite" * 100)
    with pytest.raises(CatalogError, match="damaged or no SQLite database: put back a backup"):
        Catalog.open(Settings(home=tmp_path, catalog_url=f"sqlite:///{tmp_path}/catalog.db"))
    (tmp_path / "file").write_text("")
    with pytest.raises(CatalogError, match="point CLOUDBAKER_HOME at one that is"):
        Catalog.open(Settings(home=tmp_path / "file"))


def test_a_full_disk_is_a_typed_error_and_the_catalog_stays_whole(small_disk: Path, helmet):
    with Catalog.open(Settings(home=small_disk / "home", store_url=f"folder:{small_disk.parent}/objects")) as catalog:
        publish(catalog, helmet, b"before")
        done = 1
        with suppress(StoreError):
            for n in range(1000):
                publish(catalog, helmet, b"%d" % n)
                done += 1
        with pytest.raises(StoreError, match="disk is full or failing; free some space"):
            publish(catalog, helmet, b"no room")
        assert 1 < done < 1000
        assert broken(catalog) == []
        subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
        assert catalog.get_version(helmet).number == done
        assert publish(catalog, helmet, b"after").version.number == done + 1
        assert broken(catalog) == []


def test_a_forked_process_may_go_on_with_an_open_catalog(home, helmet):
    """Forked while a transaction of the parent holds the queue: the child must not inherit the lock, nor keep it."""
    code = """
import os, sys, time
from cloudbaker.catalog.core import Catalog
from cloudbaker.model import AssetRef
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import broken, publish
helmet = AssetRef("acme", "robots", "helmet")
catalog = Catalog.open(Settings())
publish(catalog, helmet, b"parent 1")
ready, done = os.pipe()
with catalog.core.write():
    sleeper = os.fork()
    if sleeper == 0:
        os.read(ready, 1)
        os._exit(0)
child = os.fork()
if child == 0:
    publish(catalog, helmet, b"child")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
publish(catalog, helmet, b"parent 2")
os.write(done, b"x")
assert os.waitpid(sleeper, 0)[1] == 0
assert [v.number for v in catalog.versions(helmet)] == [3, 2, 1]
assert broken(catalog) == []
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_importing_and_opening_leaves_the_heavy_libraries_alone(home):
    Catalog.open(Settings(home=home)).close()
    code = """
import sys
from cloudbaker.catalog.core import Catalog
from cloudbaker.settings import settings
Catalog.open(settings()).close()
print(sorted({"alembic", "duckdb", "deltalake", "pyarrow", "prefect", "ray", "numpy"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"
