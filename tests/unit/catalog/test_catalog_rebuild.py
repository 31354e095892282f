"""A core from Parquet alone: the same rows, the same answers, on the same database or the other."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from cloudbaker.catalog import export as exporter
from cloudbaker.catalog import schema as s
from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.rebuild import rebuild
from cloudbaker.catalog.views import VIEWS
from cloudbaker.cli.catalog.rebuild import rebuild as rebuild_command
from cloudbaker.errors import CatalogReplaced, Conflict, IdempotencyMismatch, NotFound
from cloudbaker.model import AssetRef
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import broken, publication, publish
from cloudbaker.testing.history import HistoryOptions, fill

HELMET = AssetRef("acme", "robots", "helmet")
LATER = "attempts", "sinks", "deliveries", "catalog_info"
"""Not computed from facts: begun anew."""


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a past, made once; each test works on a copy."""
    folder = tmp_path_factory.mktemp("past") / "home"
    fill(Settings(home=folder, catalog_url="", tables_url=""), HistoryOptions(bakes=40, bytes=300))
    with Catalog.open(Settings(home=folder)) as catalog:
        catalog.gc(plan=False, grace=timedelta(0))
        asset, control = AssetRef("acme", "robots", "odd"), "a\x1fb\tc é"
        wanted = publication(catalog, asset, b"odd", run_id="odd")
        catalog.publish(_named(wanted, control))
        catalog.quarantine(asset, "k", run_id=None, attempts=3, error={"code": "CB5002"})
        catalog.quarantine(HELMET, "k", run_id=None, attempts=3, error={"code": "CB5002"})
        catalog.release(HELMET, by="ada", why="again")
    return folder


def _named(wanted: Any, name: str) -> Any:
    import dataclasses

    return dataclasses.replace(wanted, sources=(dataclasses.replace(wanted.sources[0], name=name),))


@pytest.fixture
def old(past: Path, home: Path) -> Iterator[Catalog]:
    shutil.copytree(past, home)
    with Catalog.open(Settings(home=home)) as catalog:
        yield catalog


def content(catalog: Catalog) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of the core, but for what positions and leases are."""
    left_out = {("blobs", "lease_until"), ("blobs", "created_at"), ("deletions", "done")}
    found = {}
    with catalog.core.read() as connection:
        for table in s.metadata.tables.values():
            if table.name not in LATER:
                columns = [c for c in table.columns if c.name != "xid" and (table.name, c.name) not in left_out]
                found[table.name] = sorted(map(tuple, connection.execute(sa.select(*columns)).all()), key=repr)
    return found


def answers(catalog: Catalog) -> dict[str, list[Any]]:
    """What each view shows, and what some methods do."""
    with catalog.connect() as duck:
        seen = {
            name: sorted(duck.sql(f"FROM {name}").fetchall(), key=repr)
            for name in VIEWS
            if name not in (*LATER, "blobs")
        }
    seen["usage()"] = catalog.usage()
    seen["assets()"] = list(catalog.assets())
    seen["versions()"] = [list(catalog.versions(info.asset)) for info in catalog.assets()]
    seen["latest_versions()"] = catalog.latest_versions()
    seen["holds()"] = catalog.holds()
    seen["quarantined()"] = catalog.quarantined()
    seen["audit_heads()"] = list(catalog.audit_heads())
    return seen


def without_loose_bytes(catalog: Catalog) -> None:
    """Bytes that no version refers to are not rebuilt: none are there to compare."""
    with catalog.core.write() as connection:
        connection.execute(sa.delete(s.blobs).where(s.blobs.c.refcount == 0))
        connection.execute(sa.update(s.tenants).values(reserved_bytes=0))


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_the_same_core_comes_out(old: Catalog, database: str, request: pytest.FixtureRequest, clock: Any) -> None:
    without_loose_bytes(old)
    old.maintain_tables(plan=False)
    before, asked = content(old), answers(old)
    config = Settings(home=old.published.folder.parent.parent)
    if database == "postgres":
        config = config.model_copy(update={"catalog_url": request.getfixturevalue("postgres")})
    old.close()

    plan = rebuild(old.published, config.database_url, plan=True)
    assert plan.plan
    report = rebuild(old.published, config.database_url)
    assert {name: report.rows[name] for name in plan.rows} == plan.rows
    assert report.rows["versions"] == len(before["versions"]) > 25
    assert report.rows["quarantine"] == len(before["quarantine"]) >= 1
    assert report.broken_chains == ()

    with Catalog.open(config, clock=clock) as catalog:
        after = content(catalog)
        assert after.keys() == before.keys()
        for table in before:
            assert after[table] == before[table], table
        assert answers(catalog) == asked
        assert broken(catalog) == []
        assert catalog.export().rows == {}  # what the tables hold is not published again
        again = publication(catalog, AssetRef("acme", "robots", "odd"), b"odd", run_id="odd")
        assert catalog.publish(_named(again, "a\x1fb\tc é")).version.number == 1
        assert len(catalog.versions(again.asset)) == 1
        with pytest.raises(IdempotencyMismatch):
            catalog.publish(again)
        assert publish(catalog, HELMET, b"new").created
        assert catalog.export().rows["versions"] == 1
        seqs = [seq for (seq,) in catalog.sql("SELECT seq FROM _versions").fetchall()]
        assert len(seqs) == len(set(seqs)) == len(before["versions"]) + 1
        assert catalog.verify_audit().ok
        assert catalog.gc(plan=True).missing == ()
        assert broken(catalog) == []
    if database == "sqlite":
        assert len(list(config.home.glob("catalog/catalog.db.replaced-*"))) == 1
    else:
        with Catalog.open(Settings(home=config.home)) as left, pytest.raises(CatalogReplaced, match="another core"):
            left.export()


def test_objects_without_a_version_are_found_as_orphans(old: Catalog, clock: Any) -> None:
    kept = old.put_bytes(b"never referred to", "acme", "vault").storage_key
    old.export()
    config = Settings(home=old.published.folder.parent.parent)
    old.close()
    rebuild(old.published, config.database_url)
    clock.later(days=3)
    with Catalog.open(config, clock=clock) as catalog:
        assert kept in [item.key for item in catalog.gc(plan=True).items if item.kind == "orphan"]


def test_what_was_published_in_part_is_taken_back(home: Path, clock: Any) -> None:
    """An exporter was killed between two tables, and the core is lost: what comes out is the moment before."""
    config = Settings(home=home)
    with Catalog.open(config, clock=clock) as catalog:
        publish(catalog, HELMET, b"1")
        catalog.export()
        wanted = content(catalog)
        publish(catalog, HELMET, b"2")
        publish(catalog, AssetRef("zeta", "cars", "wheel"), b"3")
        for table in (s.tenants, s.versions, s.artifacts, s.audit):
            exporter.export_table(catalog.core, catalog.published, table)
        catalog.maintain_tables(plan=False, compact=False)
    (home / "catalog" / "catalog.db").unlink()
    rebuild(catalog.published, config.database_url)
    with Catalog.open(config, clock=clock) as catalog:
        assert {name: rows for name, rows in content(catalog).items() if name != "blobs"} == {
            name: rows for name, rows in wanted.items() if name != "blobs"
        }
        assert broken(catalog) == []
        assert publish(catalog, HELMET, b"2, again").version.number == 2
        catalog.export()
        assert catalog.sql("SELECT number FROM versions ORDER BY 1").fetchall() == [(1,), (2,)]


def test_a_core_with_more_than_is_published_is_not_replaced(old: Catalog) -> None:
    url = str(old.core.engine.url)
    tables = old.published
    old.export()
    publish(old, HELMET, b"not yet published")
    versions = old.sql("SELECT count(*) FROM versions").fetchall()
    old.close()
    with pytest.raises(Conflict, match="holds rows that are not published"):
        rebuild(tables, url)
    with Catalog.open(Settings(home=tables.folder.parent.parent)) as catalog:
        assert catalog.sql("SELECT count(*) FROM versions").fetchall() == versions
        with pytest.raises(Conflict, match="is in use: end every process"):
            rebuild(tables, url, force=True)
    assert list(tables.folder.parent.glob(".*rebuild*")) == []
    rebuild(tables, url, force=True)
    [kept] = [
        path for path in tables.folder.parent.glob("catalog.db.replaced-*") if path.suffix.startswith(".replaced")
    ]
    with sqlite3.connect(kept) as replaced:
        assert replaced.execute("SELECT count(*) FROM versions").fetchall() == versions


def test_a_damaged_core_is_replaced_when_told(old: Catalog) -> None:
    old.export()
    config = Settings(home=old.published.folder.parent.parent)
    old.close()
    database = config.home / "catalog" / "catalog.db"
    database.write_bytes(b"no database at all" * 1000)
    for left in database.parent.glob("catalog.db-*"):
        left.unlink()
    with pytest.raises(Conflict, match="--force replaces it"):
        rebuild(old.published, config.database_url)
    rebuild(old.published, config.database_url, force=True)
    with Catalog.open(config) as catalog:
        assert broken(catalog) == []


def test_a_postgres_core_is_replaced_in_one_transaction(
    old: Catalog, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should it fail at the last moment, what was there is there."""
    old.export()
    tables, home = old.published, old.published.folder.parent.parent
    old.close()
    rebuild(tables, postgres)
    with Catalog.open(Settings(home=home, catalog_url=postgres)) as catalog:
        before = content(catalog)
    from cloudbaker.catalog import rebuild as module

    def fails(*_: object) -> None:
        raise Conflict("in the middle")

    with monkeypatch.context() as patch:
        patch.setattr(module._Found, "take_over", fails)
        with pytest.raises(Conflict, match="in the middle"):
            rebuild(tables, postgres)
    with Catalog.open(Settings(home=home, catalog_url=postgres)) as catalog:
        assert content(catalog) == before
        assert catalog.export().rows == {}
        publish(catalog, HELMET, b"one more")
    with pytest.raises(Conflict, match="not published"):
        rebuild(tables, postgres)
    rebuild(tables, postgres, force=True)
    with Catalog.open(Settings(home=home, catalog_url=postgres)) as catalog:
        assert content(catalog) == before
        assert broken(catalog) == []


def test_an_audit_log_that_was_tampered_with_is_told(old: Catalog) -> None:
    config = Settings(home=old.published.folder.parent.parent)
    with old.core.write() as connection:
        some = sa.select(sa.func.min(s.audit.c.seq)).where(s.audit.c.chain == "orbit").scalar_subquery()
        connection.execute(sa.update(s.audit).where(s.audit.c.seq == some).values(who="nobody"))
    old.export()
    old.close()
    result = CliRunner().invoke(rebuild_command, ["--force"], standalone_mode=False)
    assert result.return_value == 1, result.output
    assert "the audit log of orbit does not hold" in result.output
    assert "versions" in result.output
    assert config.home.exists()


def test_nothing_to_rebuild_from(home: Path) -> None:
    with Catalog.open(Settings(home=home)) as catalog:
        catalog.close()
        with pytest.raises(NotFound, match="nothing is published"):
            rebuild(catalog.published, Settings(home=home).database_url)
