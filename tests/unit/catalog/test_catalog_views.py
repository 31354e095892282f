"""Export and views: Parquet ∪ tail is the core, always; and no query reaches anything else."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path

import deltalake
import duckdb
import pyarrow as pa
import pytest
import sqlalchemy as sa

from cloudbaker.catalog import export as exporter
from cloudbaker.catalog import schema as s
from cloudbaker.catalog import views
from cloudbaker.catalog.core import Catalog
from cloudbaker.errors import CatalogError, Conflict, StoreError, UsageError
from cloudbaker.model import AssetRef, Dependency, Run, RunState, Step, StepState
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import publication, publish


def fill(catalog: Catalog, clock, content: str) -> None:
    """A bit of everything."""
    for tenant in ("acme", "zeta"):
        asset = AssetRef(tenant, "robots", "helmet")
        run = Run(f"run-{tenant}-{content}", "bake", asset, "web", "direct", clock(), "tester")
        catalog.start_run(run)
        number = publish(catalog, asset, content.encode(), run_id=run.run_id).version.number
        begun = clock()
        clock.later(seconds=2)
        catalog.record_step(Step(run.run_id, "optimize", 1, StepState.DONE, begun, clock(), metrics={"psnr_db": 40.5}))
        catalog.finish_run(run.run_id, RunState.COMPLETED, version=number, metrics={"total": 1.0})
    catalog.record_attempt(asset, "k", run_id=None, status="lost", error={"code": "CB5002"})
    catalog.quarantine(asset, "k", run_id=None, attempts=3, error={"code": "CB5002"})


def fill_more(catalog: Catalog, clock, content: str) -> None:
    """A bit of everything, and of all that people do beside baking."""
    fill(catalog, clock, content)
    asset = AssetRef("zeta", "robots", "helmet")
    catalog.set_quota("zeta", bytes=10**9, by="ada", why=content)
    catalog.set_quota("zeta", bytes=2 * 10**9, by="ada", why="more")
    other = AssetRef("zeta", "robots", "arm")
    needs = (Dependency(asset),)
    arm = catalog.publish(
        dataclasses.replace(publication(catalog, other, b"arm" + content.encode()), dependencies=needs)
    )
    catalog.tag(asset, ["robot", content], "ada")
    catalog.untag(asset, ["robot"], "ada")
    catalog.place_hold(asset, by="ada", why="a trial")
    if arm.version.number > 1:
        catalog.delete_version(other, arm.version.number - 1, by="ada", why="old")


def core_rows(catalog: Catalog, table) -> list[tuple]:
    with catalog.core.read() as connection:
        return exporter.read_facts(catalog.core, connection, table).to_pylist()


def parquet_rows(catalog: Catalog, name: str) -> list[dict]:
    rows = deltalake.DeltaTable(catalog.published.uri(name)).to_pyarrow_table().to_pylist()
    return sorted(({k: v for k, v in row.items() if k != "month"} for row in rows), key=lambda row: row["seq"])


def test_views_need_no_export(catalog, clock):
    fill(catalog, clock, "one")
    assert not catalog.published.folder.exists()
    assert catalog.sql("SELECT tenant, count(*) FROM versions GROUP BY tenant ORDER BY 1").fetchall() == [
        ("acme", 1),
        ("zeta", 1),
    ]
    assert not catalog.published.folder.exists()


@pytest.mark.parametrize("exports", [(), (1,), (0, 1, 2)])
def test_the_views_are_the_core_whatever_is_published(catalog, clock, exports):
    for n in range(3):
        fill_more(catalog, clock, f"content-{n}")
        if n in exports:
            catalog.export()
    with catalog.connect() as duck:
        for table in s.FACTS:
            rows = duck.sql(f"SELECT * FROM _{table.name} ORDER BY seq").to_arrow_table().to_pylist()
            assert rows == core_rows(catalog, table), table.name
        for view in views.VIEWS:
            count = duck.sql(f"SELECT count(*) FROM {view}").fetchall()[0][0]
            assert count > 0 or view in ("deletions", "deliveries"), view


def test_state_that_is_computed_from_facts_is_that_of_the_core(catalog, clock):
    for n in range(3):
        fill_more(catalog, clock, f"content-{n}")
    catalog.export()
    catalog.untag(AssetRef("zeta", "robots", "helmet"), ["content-1"], "ada")
    catalog.release_hold(AssetRef("zeta", "robots", "helmet"), by="ada", why="over")
    catalog.place_hold(AssetRef("zeta", "robots", "arm"), 3, by="ada", why="shown")
    catalog.move_channel(AssetRef("acme", "robots", "helmet"), "live", 2, "ada", "back")
    catalog.put_bytes(b"not referred to", "acme", "inbox")
    with catalog.connect() as duck, catalog.core.read() as core:
        for table, columns in {
            "channels": "asset, channel, number, rev, moved_at, moved_by",
            "tags": "asset, tag",
            "holds": "asset, coalesce(number, 0) AS number, until, placed_at, placed_by, why",
            "tenants": "tenant, used_bytes, reserved_bytes, quota_bytes, quota_runs_in_flight, quota_runs_per_day",
            "blobs": "tenant, zone, sha256, size_bytes, refcount, state, storage_key",
        }.items():
            names = columns.replace("coalesce(number, 0) AS number", "number").split(", ")
            expected = core.execute(sa.select(*(s.metadata.tables[table].c[name] for name in names))).fetchall()
            seen = duck.sql(f"SELECT {columns} FROM {table}").fetchall()
            assert sorted(seen, key=str) == sorted(map(tuple, expected), key=str), table
        gone = core.execute(sa.select(s.versions.c.asset, s.versions.c.number, s.versions.c.deleted_at)).fetchall()
        assert sorted(duck.sql("SELECT asset, number, deleted_at FROM versions").fetchall(), key=str) == sorted(
            map(tuple, gone), key=str
        )


def test_questions_that_people_ask(catalog, clock):
    for n in range(2):
        fill(catalog, clock, f"content-{n}")
        catalog.export()
    catalog.move_channel(AssetRef("acme", "robots", "helmet"), "live", 1, "ada", "rollback")

    def ask(query: str) -> list[tuple]:
        return catalog.sql(query).fetchall()

    assert ask("SELECT asset, number, channels FROM versions WHERE tenant = 'acme' ORDER BY number") == [
        ("acme/robots/helmet", 1, ["live"]),
        ("acme/robots/helmet", 2, []),
    ]
    assert ask("SELECT asset, latest FROM assets ORDER BY asset") == [
        ("acme/robots/helmet", 2),
        ("zeta/robots/helmet", 2),
    ]
    assert ask("SELECT DISTINCT state, number, seconds >= 2 FROM runs ORDER BY number") == [
        ("completed", 1, True),
        ("completed", 2, True),
    ]
    assert ask("SELECT DISTINCT stage, round(seconds) FROM steps") == [("optimize", 2.0)]
    assert ask("SELECT tools->>'encoder' FROM latest_versions") == [("1.0",), ("1.0",)]
    assert ask("SELECT DISTINCT value FROM metrics WHERE name = 'psnr_db'") == [(40.5,)]
    assert ask(
        "SELECT tenant, sum(amount) = (SELECT used_bytes FROM tenants t WHERE t.tenant = u.tenant) FROM usage u "
        "WHERE kind = 'stored_bytes' GROUP BY tenant ORDER BY tenant"
    ) == [("acme", True), ("zeta", True)]
    assert ask("SELECT moved_by, previous, number, why FROM channel_moves ORDER BY moved_at DESC LIMIT 1") == [
        ("ada", 2, 1, "rollback")
    ]
    assert ask("SELECT kind, count(*) FROM outbox GROUP BY ALL ORDER BY ALL") == [
        ("asset.indexed", 4),
        ("channel.moved", 5),
        ("review.updated", 1),
        ("step.completed", 4),
    ]
    assert ask("SELECT error->>'code', attempts FROM quarantine") == [("CB5002", 3)]
    assert catalog.sql("SELECT number FROM versions WHERE tenant = $1 AND number > $2", ["acme", 1]).fetchall() == [
        (2,)
    ]
    named = catalog.sql("SELECT number FROM versions WHERE tenant = $t AND number < 2", {"t": "zeta"})
    assert named.fetchall() == [(1,)]


def test_a_relation_shows_itself_and_outlives_the_catalog(home, clock):
    with Catalog.open(Settings(home=home), clock=clock) as catalog:
        fill(catalog, clock, "x")
        catalog.export()
        relation = catalog.sql("SELECT asset, number FROM versions ORDER BY asset")
    assert "acme/robots/helmet" in repr(relation)
    assert relation.to_arrow_table().num_rows == 2


def test_an_export_is_exactly_once_and_partitioned_by_month(catalog, clock):
    fill(catalog, clock, "january")
    first = catalog.export().rows
    assert first["versions"] == 2
    assert catalog.export().rows == {}
    clock.later(days=40)
    fill(catalog, clock, "later")
    assert catalog.export().rows["versions"] == 2
    for table in s.FACTS:
        if catalog.published.open(table.name) is not None:
            assert parquet_rows(catalog, table.name) == core_rows(catalog, table), table.name
    months = {path.name for path in (catalog.published.folder / "versions").glob("month=*")}
    assert len(months) == 2
    assert (catalog.published.folder / "versions").stat().st_mode & 0o777 == 0o700


def test_a_long_export_goes_in_batches(catalog, clock, monkeypatch):
    monkeypatch.setattr(exporter, "BATCH", 7)
    for n in range(3):
        fill(catalog, clock, f"content-{n}")
    exporter.export_table(catalog.core, catalog.published, s.metrics)
    assert parquet_rows(catalog, "metrics") == core_rows(catalog, s.metrics)
    assert deltalake.DeltaTable(catalog.published.uri("metrics")).version() == -(
        -len(core_rows(catalog, s.metrics)) // 7
    )


def test_a_long_tail_is_published_by_asking(catalog, clock, monkeypatch):
    fill(catalog, clock, "x")
    monkeypatch.setattr(views, "LONG_TAIL", sum(len(core_rows(catalog, table)) for table in s.FACTS))
    assert catalog.sql("SELECT count(*) FROM versions").fetchall() == [(2,)]
    assert not catalog.published.folder.exists()
    fill(catalog, clock, "y")
    assert catalog.sql("SELECT count(*) FROM versions").fetchall() == [(4,)]
    assert len(parquet_rows(catalog, "versions")) == 4
    assert catalog.sql("SELECT count(*) FROM versions").fetchall() == [(4,)]


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_rival_exporters_publish_each_row_once(catalog, clock, monkeypatch):
    """Without the lock that spares them the trouble: Delta's own commit decides."""
    monkeypatch.setattr(exporter, "BATCH", 5)
    for n in range(3):
        fill(catalog, clock, f"content-{n}")
    start, lost = threading.Barrier(3), []

    def rival() -> None:
        start.wait()
        try:
            exporter.export_table(catalog.core, catalog.published, s.metrics)
        except Conflict as error:  # overtaken ten times in a row: allowed, and it said so
            lost.append(error)

    threads = [threading.Thread(target=rival) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lost) < 3
    assert parquet_rows(catalog, "metrics") == core_rows(catalog, s.metrics)


def test_a_second_exporter_leaves_it_to_the_first(catalog, clock):
    fill(catalog, clock, "x")
    with catalog.published.only_one() as alone:
        assert alone
        report = catalog.export()
    assert report.busy
    assert report.rows == {}
    assert catalog.export().rows["versions"] == 2


def test_a_damaged_table_is_named_and_mends_by_moving_it_away(catalog, clock):
    fill(catalog, clock, "x")
    catalog.export()
    for log in (catalog.published.folder / "versions" / "_delta_log").glob("*.json"):
        log.write_bytes(b"{damaged")
    for broken in (catalog.export, catalog.connect, lambda: catalog.sql("SELECT 1")):
        with pytest.raises(
            CatalogError, match="the published table versions is damaged: `cloudbaker catalog tables repair versions`"
        ):
            broken()
    (catalog.published.folder / "versions").rename(catalog.published.folder.parent / "damaged")
    assert catalog.sql("SELECT count(*) FROM versions").fetchall() == [(2,)]
    assert catalog.export().rows == {"versions": 2}
    assert parquet_rows(catalog, "versions") == core_rows(catalog, s.versions)


def test_a_folder_that_can_not_be_written_is_a_typed_error(catalog, clock):
    fill(catalog, clock, "x")
    catalog.published.folder.write_text("in the way")
    with pytest.raises(StoreError, match="make the folder writable"):
        catalog.export()


def test_an_export_on_a_full_disk_is_a_typed_error_and_ends_when_there_is_room(small_disk: Path, clock):
    home = small_disk.parent / "other"
    with Catalog.open(Settings(home=home), clock=clock) as catalog:
        catalog.published.folder.symlink_to(small_disk)
        for n in range(3):
            fill(catalog, clock, f"content-{n}")
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * 900_000)
        with pytest.raises((StoreError, CatalogError)):
            catalog.export()
        ballast.unlink()
        assert catalog.sql("SELECT count(*) FROM versions").fetchall() == [(6,)]
        subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
        catalog.export()
        for table in s.FACTS:
            if catalog.published.open(table.name) is not None:
                assert parquet_rows(catalog, table.name) == core_rows(catalog, table), table.name


def test_views_are_not_confused_by_a_compaction(catalog, clock):
    """Old files stay on the disk beside the compacted one: a glob over the folder would count rows twice."""
    for n in range(3):
        fill(catalog, clock, f"content-{n}")
        catalog.export()
    deltalake.DeltaTable(catalog.published.uri("versions")).optimize.compact()
    files = list((catalog.published.folder / "versions").rglob("*.parquet"))
    assert len(files) == 4
    assert catalog.sql("SELECT count(*) FROM versions").fetchall() == [(6,)]
    fill(catalog, clock, "after")
    assert catalog.export().rows["versions"] == 2
    assert catalog.sql("SELECT count(*) FROM versions").fetchall() == [(8,)]


# ---- no query reaches anything else

_ATTEMPTS = [
    "SELECT * FROM read_csv('{file}')",
    "SELECT content FROM read_text('{file}')",
    "SELECT * FROM '{file}'",
    "SELECT * FROM glob('{folder}/*')",
    "COPY (SELECT 1) TO '{folder}/out.csv'",
    "COPY versions TO '{folder}/out.parquet'",
    "EXPORT DATABASE '{folder}/out'",
    "ATTACH '{folder}/other.db'",
    "INSTALL httpfs",
    "LOAD '{file}'",
    "SET enable_external_access = true",
    "SET temp_directory = '{folder}'",
    "SET lock_configuration = false",
    "RESET enable_external_access",
    "PRAGMA enable_profiling='json'; PRAGMA profiling_output='{folder}/out.json'; SELECT 1",
    "INSERT INTO versions SELECT * FROM versions",
    "DELETE FROM versions",
    "UPDATE _tail_versions SET number = 7",
]


def test_a_query_reaches_no_file_and_changes_nothing(catalog, clock, tmp_path):
    fill(catalog, clock, "x")
    catalog.export()
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "file.csv").write_text("secret\n1\n")
    with catalog.connect() as duck:
        for attempt in _ATTEMPTS:
            query = attempt.format(file=folder / "file.csv", folder=folder)
            with pytest.raises(UsageError):
                views.query(duck, query, None)
            with pytest.raises(duckdb.Error):
                duck.execute(query)
        assert [path.name for path in folder.iterdir()] == ["file.csv"]
        assert duck.sql("SELECT count(*) FROM versions").fetchall() == [(2,)]


@pytest.mark.parametrize(
    "text", ["CREATE TABLE mine (x int)", "SELECT 1; SELECT 2", "", "-- nothing", "SELECT nope FROM versions", "SELEKT"]
)
def test_what_is_no_query(catalog, text):
    with pytest.raises(UsageError, match="the query"):
        catalog.sql(text)


def test_what_is_a_query(catalog):
    for text in ("DESCRIBE versions", "SHOW TABLES", "SUMMARIZE runs", "EXPLAIN SELECT 1", "FROM runs"):
        assert len(catalog.sql(text).columns) > 0


# ---- the condition of a re-bake


def test_latest_versions_with_a_condition(catalog, clock):
    for n in range(2):
        fill(catalog, clock, f"content-{n}")
    rows = catalog.latest_versions()
    assert [(str(r.asset), r.number, r.channels) for r in rows] == [
        ("acme/robots/helmet", 2, ("live",)),
        ("zeta/robots/helmet", 2, ("live",)),
    ]
    assert rows[0].sources == catalog.get_version(rows[0].asset, 2).sources
    assert rows[0].tools == {"encoder": "1.0", "packer": "2.1"}

    def names(where: str) -> list[str]:
        return [row.asset.tenant for row in catalog.latest_versions(where)]

    assert names("tenant = 'acme' AND size_bytes > 1") == ["acme"]
    assert names("list_contains(channels, 'live') -- a comment") == ["acme", "zeta"]
    assert names("tools->>'encoder' < '2' AND number = 2") == ["acme", "zeta"]
    assert names("number = 1") == []
    assert names("asset IN (SELECT asset FROM attempts)") == ["zeta"]
    assert names("created_at > now() - INTERVAL 1 DAY OR source_bytes = 9") == ["acme", "zeta"]


@pytest.mark.parametrize(
    "where",
    [
        *(
            "",
            "nope = 1",
            "1 = 1; DROP VIEW versions",
            "true); DELETE FROM versions; SELECT (1",
            "tenant = 'acme",
            "1,",
        ),
        "EXISTS (SELECT * FROM read_text('/etc/hostname'))",
        "EXISTS (SELECT * FROM '/etc/hostname')",
        "asset IN (SELECT asset FROM frame)",
        "true) UNION ALL (SELECT content FROM read_text('/etc/hostname')",
        "number / 0 = 'x'",
    ],
)
def test_a_condition_that_is_none_says_so(catalog, clock, where):
    frame = pa.table(
        {"asset": ["acme/robots/helmet"]}
    )  # a table of the caller's Python, which the condition can't name
    fill(catalog, clock, "x")
    with pytest.raises(UsageError, match="the condition"):
        catalog.latest_versions(where)
    assert frame.num_rows == 1


def test_a_table_of_ones_own_can_be_registered_and_joined(catalog, clock):
    fill(catalog, clock, "x")
    with catalog.connect() as duck:
        duck.register("wanted", pa.table({"tenant": ["zeta"]}))
        query = "SELECT asset FROM versions JOIN wanted USING (tenant)"
        assert duck.sql(query).fetchall() == [("zeta/robots/helmet",)]


def test_a_killed_exporter_loses_and_doubles_nothing(home, clock):
    """Killed before its first commit, after it, before its second, and again, until one has nothing left to do."""
    code = """
import os, signal
from cloudbaker.catalog import export, schema
from cloudbaker.catalog.core import Catalog
from cloudbaker.settings import settings
export.BATCH = 4
write = export.deltalake.write_deltalake
def exporter(left):
    def tick():
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    def killed_write(*args, **kw):
        tick()
        write(*args, **kw)
        tick()
    with Catalog.open(settings()) as catalog:
        delta = catalog.published.open("outbox")
        rows = [] if delta is None else sorted(delta.to_pyarrow_table()["seq"].to_pylist())
        assert rows == list(range(1, len(rows) + 1)), rows
        export.deltalake.write_deltalake = killed_write
        export.export_table(catalog.core, catalog.published, schema.outbox)
for kills in range(100):
    child = os.fork()
    if child == 0:
        exporter(kills % 3)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        break
    assert status == signal.SIGKILL, status
print(kills)
"""
    with Catalog.open(Settings(home=home), clock=clock) as catalog:
        for n in range(3):
            fill(catalog, clock, f"content-{n}")
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
        assert int(done.stdout) >= 5
        assert parquet_rows(catalog, "outbox") == core_rows(catalog, s.outbox)
