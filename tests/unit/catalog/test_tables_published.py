"""Published tables of either database: exactly once, whose they are, compaction, repair; in folder and bucket."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import deltalake
import duckdb
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from cloudbaker.catalog import export as exporter
from cloudbaker.catalog import schema as s
from cloudbaker.catalog import tables as care
from cloudbaker.catalog.arrow import fact_columns
from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.published import APP, Tables
from cloudbaker.catalog.rebuild import rebuild
from cloudbaker.cli.catalog.tables import tables as tables_command
from cloudbaker.errors import CatalogError, CatalogReplaced, Conflict, NotFound, StoreError, UsageError
from cloudbaker.model import AssetRef
from cloudbaker.settings import Settings, settings
from cloudbaker.testing.catalog import broken, publish

HELMET = AssetRef("acme", "robots", "helmet")
AT_ONCE = timedelta(0)


@pytest.fixture(params=["sqlite", "postgres"])
def either(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a catalog on one database or the other."""
    if request.param == "postgres":
        monkeypatch.setenv("CLOUDBAKER_CATALOG_URL", request.getfixturevalue("postgres"))
        settings.cache_clear()
    return Settings(home=home)


@pytest.fixture
def opened(either: Settings, clock: Any) -> Iterator[Catalog]:
    with Catalog.open(either, clock=clock) as catalog:
        yield catalog
        assert broken(catalog) == []


def rows(catalog: Catalog, table: sa.Table) -> list[dict[str, Any]]:
    with catalog.core.read() as connection:
        return exporter.read_facts(catalog.core, connection, table).to_pylist()


def parquet(catalog: Catalog, table: sa.Table) -> list[dict[str, Any]]:
    delta = catalog.published.open(table.name)
    if delta is None:
        return []
    found = delta.to_pyarrow_table().select([column.name for column in fact_columns(table)]).to_pylist()
    return sorted(found, key=lambda row: row["seq"])


def check_once(catalog: Catalog) -> None:
    """Everything is published, once; and the views show the same."""
    with catalog.connect() as duck:
        for table in s.FACTS:
            wanted = rows(catalog, table)
            assert parquet(catalog, table) == wanted, table.name
            assert duck.sql(f"FROM _{table.name} ORDER BY seq").to_arrow_table().to_pylist() == wanted, table.name


# ---- exactly once


def test_each_row_once_through_exports_and_compactions(opened: Catalog, clock: Any) -> None:
    for n in range(4):
        publish(opened, HELMET, b"%d" % n)
        clock.later(days=20)
        if n != 2:
            opened.export()
        if n == 1:
            opened.maintain_tables(plan=False, retention=AT_ONCE)
            check_once(opened)
    assert opened.sql("SELECT count(*) FROM versions").fetchall() == [(4,)]
    report = opened.maintain_tables(plan=False)
    assert {work.table for work in report.tables} >= {"versions", "artifacts", "outbox"}
    check_once(opened)
    assert opened.export().rows == {}


def test_a_transaction_that_commits_late_is_not_passed_over(postgres: str, home: Path, clock: Any) -> None:
    """On Postgres it holds a lower `seq` than rows that were published before it: by `seq` it would be lost."""
    config = Settings(home=home, catalog_url=postgres)
    with Catalog.open(config, clock=clock) as catalog:
        publish(catalog, HELMET, b"first")
        row = {"created_at": clock(), "tenant": "acme", "asset": str(HELMET), "kind": "late", "payload": {}}
        with catalog.core.write() as late:
            late.execute(sa.insert(s.outbox), row)
            publish(catalog, HELMET, b"second")
            published = catalog.export().rows.get("outbox", 0)
            assert published < len(rows(catalog, s.outbox))
            assert catalog.sql("SELECT count(*) FROM versions").fetchall() == [(2,)]  # the views wait for nobody
        catalog.export()
        assert "late" in [found["kind"] for found in parquet(catalog, s.outbox)]
        check_once(catalog)


def test_rivals_and_compactors_at_once(opened: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the lock that spares them the trouble. deltalake alone left 70 of 40 rows."""
    monkeypatch.setattr(exporter, "BATCH", 9)
    for n in range(3):
        publish(opened, HELMET, b"%d" % n)
    exporter.export_table(opened.core, opened.published, s.metrics)
    for n in range(3, 6):
        publish(opened, HELMET, b"%d" % n)
    start, errors = threading.Barrier(4), []
    [month] = {path.name[6:] for path in (opened.published.folder / "metrics").glob("month=*")}

    def work(job: Any) -> None:
        start.wait()
        for _ in range(3):
            try:
                job()
            except Conflict as error:  # overtaken twenty times in a row: allowed, and it said so
                errors.append(error)

    jobs = [
        *[lambda: exporter.export_table(opened.core, opened.published, s.metrics)] * 2,
        *[lambda: care.compact_month(opened.published, s.metrics, month)] * 2,
    ]
    threads = [threading.Thread(target=work, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    exporter.export_table(opened.core, opened.published, s.metrics)
    assert parquet(opened, s.metrics) == rows(opened, s.metrics)


def test_two_compactors_of_the_same_files(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(3):
        publish(catalog, HELMET, b"%d" % n)
        catalog.export()
    [month] = {path.name[6:] for path in (catalog.published.folder / "metrics").glob("month=*")}
    stale = catalog.published.open("metrics")
    assert care.compact_month(catalog.published, s.metrics, month)
    really = Tables.open
    handles = iter([stale])
    monkeypatch.setattr(Tables, "open", lambda self, name: next(handles, None) or really(self, name))
    assert not care.compact_month(catalog.published, s.metrics, month)
    assert parquet(catalog, s.metrics) == rows(catalog, s.metrics)
    files = list((catalog.published.folder / "metrics").glob("month=*/*.parquet"))
    assert len(files) == 4  # the loser's is gone


def test_a_compaction_that_an_export_overtook_goes_on(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(2):
        publish(catalog, HELMET, b"%d" % n)
        catalog.export()
    stale = catalog.published.open("metrics")
    publish(catalog, HELMET, b"more")
    catalog.export()
    really = Tables.open
    handles = iter([stale])
    monkeypatch.setattr(Tables, "open", lambda self, name: next(handles, None) or really(self, name))
    [month] = {path.name[6:] for path in (catalog.published.folder / "metrics").glob("month=*")}
    assert care.compact_month(catalog.published, s.metrics, month)
    assert parquet(catalog, s.metrics) == rows(catalog, s.metrics)
    assert len(catalog.published.open("metrics").file_uris()) == 2


# ---- compaction


def test_compaction_leaves_one_sorted_file_a_month(catalog: Catalog, clock: Any) -> None:
    for n in range(6):
        publish(catalog, AssetRef("acme", "robots", f"a{5 - n}"), b"%d" % n)
        publish(catalog, AssetRef("zeta", "robots", f"a{5 - n}"), b"%d" % n)
        catalog.export()
        clock.later(days=12)
    plan = catalog.maintain_tables(plan=True)
    assert plan.plan
    [planned] = [work for work in plan.tables if work.table == "versions"]
    assert 2 <= len(planned.compacted) <= 4
    before = catalog.published.open("versions").version()
    assert catalog.tables()[4].uncompacted == planned.compacted
    assert catalog.published.open("versions").version() == before  # a plan changes nothing

    report = catalog.maintain_tables(plan=False)
    [done] = [work for work in report.tables if work.table == "versions"]
    assert (done.compacted, done.files_after) == (planned.compacted, planned.files_after)
    delta = catalog.published.open("versions")
    for file in delta.file_uris():
        assets = pq.read_table(file, partitioning=None)["asset"].to_pylist()
        assert assets == sorted(assets)
    assert len(list((catalog.published.folder / "versions").rglob("*.parquet"))) > len(delta.file_uris())
    assert catalog.maintain_tables(plan=False).tables == ()

    catalog.maintain_tables(plan=False, compact=False, retention=AT_ONCE)
    assert len(list((catalog.published.folder / "versions").glob("month=*/*.parquet"))) == len(delta.file_uris())
    check_once(catalog)
    assert catalog.export().rows == {}  # the watermark outlives checkpoint and clean-up


def test_snapshots_are_the_views_in_an_order_of_their_own(catalog: Catalog) -> None:
    for n in range(4):
        publish(catalog, AssetRef("acme", "robots", f"a{n}"), b"%d" % (n // 2))
    report = catalog.maintain_tables(plan=False)
    with catalog.connect() as duck:
        for name in ("blobs", "usage_daily", "assets"):
            data = catalog.published.open(f"snapshots/{name}").to_pyarrow_table()
            assert data.num_rows == report.snapshots[name] == duck.sql(f"SELECT count(*) FROM {name}").fetchall()[0][0]
        hashes = catalog.published.open("snapshots/blobs").to_pyarrow_table()["sha256"].to_pylist()
    assert hashes == sorted(hashes)
    (catalog.published.folder / "snapshots" / "blobs" / "_delta_log" / "00000000000000000000.json").write_text(
        "{damaged"
    )
    assert catalog.maintain_tables(plan=False).snapshots == report.snapshots


def test_what_is_read_stays_readable_through_a_compaction(catalog: Catalog) -> None:
    for n in range(3):
        publish(catalog, HELMET, b"%d" % n)
        catalog.export()
    with catalog.connect() as duck:
        catalog.maintain_tables(plan=False)
        assert duck.sql("SELECT count(*) FROM versions").fetchall() == [(3,)]


def test_maintenance_leaves_it_to_whoever_is_at_work(catalog: Catalog) -> None:
    publish(catalog, HELMET, b"x")
    with catalog.published.only_one() as alone:
        assert alone
        assert catalog.maintain_tables(plan=False).busy
        with pytest.raises(Conflict, match="written to by another process"):
            catalog.repair_tables()


# ---- whose they are


def test_a_core_made_anew_does_not_go_on_where_another_was(opened: Catalog, either: Settings, tmp_path: Path) -> None:
    publish(opened, HELMET, b"x")
    opened.export()
    with Catalog.open(Settings(home=tmp_path / "other", catalog_url="", tables_url=opened.published.url)) as other:
        publish(other, HELMET, b"y")
        for broken_off in (other.export, other.connect, other.maintain_tables):
            with pytest.raises(CatalogReplaced, match="written from another core"):
                broken_off(**{"plan": False} if broken_off == other.maintain_tables else {})
        assert "another core" in other.tables()[0].problem
        check_once(opened)
        report = other.repair_tables()
        assert len(report.aside) > 10
        check_once(other)
    with pytest.raises(CatalogReplaced):
        opened.export()


def test_an_older_backup_does_not_lose_what_comes_after_it(home: Path, clock: Any) -> None:
    database = home / "catalog" / "catalog.db"
    with Catalog.open(Settings(home=home), clock=clock) as catalog:
        publish(catalog, HELMET, b"1")
    shutil.copy(database, home / "backup.db")
    with Catalog.open(Settings(home=home), clock=clock) as catalog:
        publish(catalog, HELMET, b"2")
        catalog.export()
    shutil.copy(home / "backup.db", database)
    with Catalog.open(Settings(home=home), clock=clock) as catalog:
        with pytest.raises(CatalogReplaced, match="put back from a backup"):
            catalog.export()
        for n in range(3, 6):  # as many as had been published: the numbers alone would tell nothing
            publish(catalog, HELMET, b"%d" % n)
        with pytest.raises(CatalogReplaced, match="put back from a backup"):
            catalog.export()
        catalog.repair_tables()
        check_once(catalog)


def test_a_restored_dump_numbers_its_transactions_anew(
    postgres: str, postgres_server: Any, home: Path, clock: Any
) -> None:
    with Catalog.open(Settings(home=home, catalog_url=postgres), clock=clock) as catalog:
        for n in range(3):
            publish(catalog, HELMET, b"%d" % n)
        catalog.export()
    name = postgres.partition("@/")[2].partition("?")[0]
    copy = postgres.replace(name, f"copy_{uuid.uuid4().hex[:8]}")
    with postgres_server.connect(postgres.replace(name, "postgres")) as admin:
        admin.execute(f"CREATE DATABASE {copy.partition('@/')[2].partition('?')[0]} TEMPLATE {name}")
    try:
        with Catalog.open(Settings(home=home, catalog_url=copy), clock=clock) as catalog:
            with pytest.raises(CatalogReplaced, match="is a copy of the catalog"):
                catalog.export()
            publish(catalog, HELMET, b"more")
            catalog.repair_tables()
            check_once(catalog)
            publish(catalog, HELMET, b"and more")
            catalog.export()
            check_once(catalog)
    finally:
        postgres_server.drop(copy)


def test_tables_of_the_first_release_go_on(catalog: Catalog) -> None:
    """They have no owner, and their audit log no chains."""
    for n in range(3):
        publish(catalog, HELMET, b"%d" % n)
    old = [row for row in rows(catalog, s.audit) if row["seq"] <= 2]
    with catalog.core.read() as connection:
        data = exporter.read_facts(catalog.core, connection, s.audit, upto=2).drop_columns(
            ["chain", "position", "hash"]
        )
    data = exporter._with_month(data)
    deltalake.write_deltalake(
        catalog.published.uri("audit"),
        data,
        partition_by=["month"],
        commit_properties=deltalake.CommitProperties(app_transactions=[deltalake.Transaction(APP, 2)]),
    )
    seen = catalog.sql("SELECT seq, chain FROM audit ORDER BY seq").fetchall()  # by this release's columns at once
    assert seen[:3] == [(1, None), (2, None), (3, "acme")]
    catalog.export()
    catalog.maintain_tables(plan=False)
    found = parquet(catalog, s.audit)
    assert [row["chain"] for row in found] == [None, None] + ["acme"] * (len(found) - 2)
    assert [row["subject"] for row in found[:2]] == [row["subject"] for row in old]


# ---- damage


def test_a_damaged_table_is_published_anew(catalog: Catalog) -> None:
    for n in range(2):
        publish(catalog, HELMET, b"%d" % n)
        catalog.export()
    log = catalog.published.folder / "versions" / "_delta_log" / "00000000000000000001.json"
    log.write_bytes(b"\x00\xff{")
    with pytest.raises(CatalogError, match="`cloudbaker catalog tables repair versions`"):
        catalog.export()
    [problem] = [status.problem for status in catalog.tables() if status.problem]
    assert "is damaged" in problem
    report = catalog.repair_tables(["versions"])
    assert report.rows == {"versions": 2}
    assert Path(report.aside["versions"], "_delta_log", log.name).read_bytes() == b"\x00\xff{"
    check_once(catalog)


def test_a_lost_file_is_told_and_mended(catalog: Catalog) -> None:
    publish(catalog, HELMET, b"x")
    catalog.export()
    for file in (catalog.published.folder / "artifacts").rglob("*.parquet"):
        file.unlink()
    with pytest.raises(duckdb.Error, match="No such file"):
        catalog.sql("SELECT sum(size_bytes) FROM artifacts").fetchall()
    catalog.repair_tables(["artifacts"])
    check_once(catalog)


def test_places_that_are_none(home: Path) -> None:
    for url in ("http://example.invalid/tables", "ftp://somewhere"):
        with pytest.raises(UsageError, match="no place for tables"):
            Tables(url)
    with Catalog.open(Settings(home=home, tables_url=str(home / "100%25"))) as catalog:
        publish(catalog, HELMET, b"x")
        with pytest.raises(UsageError, match="for its '%'"):
            catalog.export()
        assert catalog.sql("SELECT count(*) FROM versions").fetchall() == [(1,)]
        with pytest.raises(NotFound, match="no published table nope"):
            Catalog(catalog.core, catalog.store, home / "elsewhere").repair_tables(["nope"])


# ---- a bucket


@pytest.fixture(scope="module")
def bucket_server() -> Iterator[str]:
    """moto in a process of its own: delta-rs holds the interpreter's lock while it waits for an answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(params=["moto", pytest.param("ceph", marks=pytest.mark.slow)])
def in_bucket(request: pytest.FixtureRequest, s3_credentials: None, home: Path) -> Settings:
    from cloudbaker.testing.s3 import new_bucket

    endpoint = request.getfixturevalue("bucket_server" if request.param == "moto" else "ceph")
    store = new_bucket(endpoint)
    return Settings(home=home, tables_url=f"{store.url}/tables", s3_endpoint=endpoint)


def test_tables_in_a_bucket(in_bucket: Settings, clock: Any) -> None:
    with Catalog.open(in_bucket, clock=clock) as catalog:
        publish(catalog, HELMET, b"0")
        catalog.export()
        publish(catalog, HELMET, b"1")
        assert catalog.sql("SELECT count(*), max(number) FROM versions").fetchall() == [(2, 2)]
        stale = catalog.published.open("metrics")
        with pytest.raises(UsageError, match="at least an hour"):
            catalog.maintain_tables(plan=False, retention=AT_ONCE)
        report = catalog.maintain_tables(plan=False)
        assert report.snapshots["assets"] == 1
        with pytest.raises(deltalake.exceptions.CommitFailedError):  # refused by the bucket: the commit is there
            deltalake.write_deltalake(
                stale,
                stale.to_pyarrow_table(),
                mode="append",
                commit_properties=deltalake.CommitProperties(max_commit_retries=0),
            )
        aside = catalog.repair_tables(["versions"]).aside["versions"]
        assert aside.startswith(f"{catalog.published.url}/.aside/versions-")
        check_once(catalog)
        assert not (in_bucket.home / "catalog" / "published").exists()
    report = rebuild(catalog.published, f"sqlite:///{in_bucket.home}/again/catalog.db")
    assert (report.rows["versions"], report.broken_chains) == (2, ())


def test_a_bucket_that_is_not_there(in_bucket: Settings, clock: Any) -> None:
    missing = in_bucket.model_copy(update={"tables_url": "s3://not-there-at-all/tables"})
    with Catalog.open(missing, clock=clock) as catalog:
        publish(catalog, HELMET, b"x")
        with pytest.raises(StoreError, match="check the bucket, the credentials"):
            catalog.export()


# ---- the command line


def test_the_commands(home: Path, clock: Any) -> None:
    with Catalog.open(Settings(home=home), clock=clock) as catalog:
        publish(catalog, HELMET, b"x")

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(tables_command, arguments, standalone_mode=False, env=dict(os.environ))
        if result.exception is not None and code == 0:
            raise result.exception
        assert (result.return_value or 0) == code
        return result.output

    assert "new rows in" in run("export")
    assert '"behind": 0' in run("status", "--json")
    assert "nothing was changed" in run("compact", "--plan")
    assert "snapshot usage_daily: " in run("compact")
    assert '"plan": false' in run("vacuum", "--json")
    (home / "catalog" / "published" / "audit" / "_delta_log" / "00000000000000000000.json").write_text("{")
    shutil.rmtree(home / "catalog" / "published" / "audit" / "_delta_log")
    (home / "catalog" / "published" / "audit" / "_delta_log").mkdir()
    assert "audit" in run("repair", "audit")
    assert "versions" in run("repair", "--all")
