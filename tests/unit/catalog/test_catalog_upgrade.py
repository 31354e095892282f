"""Catalogs of every released schema, frozen as SQL with real rows, open in this release with all they hold.

``tests/golden/catalog/0001.sql`` was written by the first release: six publishes of three assets of two tenants, a
rollback, runs that were rejected, failed and are under way, attempts, quarantine, a tombstone, and uploads that no
version refers to: three of acme (23, 13 and, claimed only, 25 bytes), one of zeta (23). Never edit it.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.core import Catalog
from cloudbaker.errors import CatalogError
from cloudbaker.model import AssetRef, RunState
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import broken, publish

GOLDEN = Path(__file__).parents[2] / "golden" / "catalog"
HELMET, MUG, BOAT = (
    AssetRef("acme", "robots", "helmet"),
    AssetRef("acme", "kitchen", "mug"),
    AssetRef.parse("zeta/default/boat"),
)
CONTENT = [b"helmet 1", b"helmet 2", b"mug 1", b"boat 1"]
BYTES = [*CONTENT, *(b"%d:" % n + c for n in (0, 1) for c in CONTENT), b"uploaded, not published", b"inbox of acme"]


@pytest.fixture
def old(home: Path) -> Path:
    """The home of the first release: database and objects."""
    path = home / "catalog" / "catalog.db"
    path.parent.mkdir(parents=True)
    connection = sqlite3.connect(path)
    connection.executescript((GOLDEN / "0001.sql").read_text())
    by_hash = {hashlib.sha256(data).hexdigest(): data for data in BYTES}
    for key, sha256 in connection.execute("SELECT storage_key, sha256 FROM blobs WHERE state = 'live'"):
        file = home / "objects" / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(by_hash[sha256])
    connection.close()
    return home


@pytest.fixture
def upgraded(old: Path, clock) -> Iterator[Catalog]:
    with Catalog.open(Settings(home=old), clock=clock) as catalog:
        yield catalog
        assert broken(catalog) == []


def test_every_released_schema_has_its_frozen_catalog():
    released = [revision for revision in s.REVISIONS if (GOLDEN / f"{revision}.sql").exists()]
    assert released == list(s.REVISIONS[: len(released)])
    assert released
    for revision in released:
        assert f"INSERT INTO \"alembic_version\" VALUES('{revision}')" in (GOLDEN / f"{revision}.sql").read_text()


def test_all_facts_are_as_they_were(old, clock):
    connection = sqlite3.connect(old / "catalog" / "catalog.db")
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    kept = [t for t in tables if not t.startswith("sqlite_") and t not in ("alembic_version", "audit")]

    def picture(columns: dict[str, list[str]]) -> dict[str, list[tuple[object, ...]]]:
        return {
            t: connection.execute(f"SELECT {', '.join(columns[t])} FROM {t} ORDER BY 1, 2").fetchall() for t in kept
        }

    columns = {t: [row[1] for row in connection.execute(f"PRAGMA table_info({t})")] for t in kept}
    before = picture(columns)
    assert sum(map(len, before.values())) > 150
    Catalog.open(Settings(home=old), clock=clock).close()
    assert picture(columns) == before
    connection.close()


def test_counters_that_are_new_are_right(upgraded):
    t = s.tenants.c
    with upgraded.core.read() as connection:
        rows = connection.execute(sa.select(t.tenant, t.quota_bytes, t.used_bytes, t.reserved_bytes).order_by(t.tenant))
        assert rows.all() == [("acme", None, 75, 23 + 13 + 25), ("zeta", 1000, 22, 23)]
        o = s.open_runs.c
        assert connection.execute(sa.select(o.run_id, o.tenant).order_by(o.run_id)).all() == [
            ("run-again", "zeta"),
            ("run-open", "acme"),
        ]
        assert connection.execute(sa.select(s.catalog_info.c.name)).scalars().all() == ["core_id"]
        assert connection.execute(sa.select(sa.func.count()).where(s.audit.c.hash.is_not(None))).scalar() == 0


def test_versions_runs_and_usage_read_as_before(upgraded):
    assert [v.number for v in upgraded.versions(HELMET)] == [3, 2, 1]
    assert upgraded.channels(HELMET) == {"beta": 3, "live": 1}
    assert upgraded.get_version(HELMET, 3).artifacts == upgraded.get_version(HELMET, 1).artifacts
    assert upgraded.read_blob(upgraded.get_version(MUG).sources[0].blob) == b"mug 1"
    assert upgraded.get_run("run-6").state is RunState.UNCHANGED
    assert upgraded.get_run("run-rejected").findings[0].code == "glb.truncated"
    assert [entry.attempts for entry in upgraded.quarantined(BOAT)] == [3]
    acme, zeta = upgraded.usage()
    assert (acme.bytes_by_zone, acme.compute_seconds) == ({"public": 54, "vault": 21}, {"cpu": 8.0, "cuda": 9.0})
    assert (zeta.bytes, zeta.quota_bytes) == (22, 1000)


def test_life_goes_on(upgraded):
    again = publish(upgraded, MUG, b"mug 1")
    assert not again.created
    assert publish(upgraded, HELMET, b"helmet 4").version.number == 4
    assert publish(upgraded, BOAT, b"uploaded, not published").version.number == 2
    for run_id in ("run-open", "run-again"):
        upgraded.finish_run(run_id, RunState.COMPLETED)
    with upgraded.core.read() as connection:
        assert connection.execute(sa.select(s.open_runs)).all() == []
        a = s.audit.c
        chained = sa.select(a.chain, a.position, a.action).where(a.hash.is_not(None)).order_by(a.seq)
        assert connection.execute(chained).all() == [
            ("acme", 1, "publish"),
            ("acme", 2, "move-channel"),
            ("zeta", 1, "publish"),
            ("zeta", 2, "move-channel"),
        ]
    upgraded.export()
    assert upgraded.sql("SELECT count(*) FROM versions").fetchall() == [(7,)]


def test_a_run_that_published_before_the_upgrade_gets_its_answer_after_it(upgraded):
    """Request hashes are what they were."""
    first = upgraded.get_version(HELMET, 1)
    again = publish(upgraded, HELMET, b"helmet 1", run_id="run-1")
    assert (again.version, again.created) == (first, True)


def test_tables_without_a_revision_are_no_catalog_of_ours(old):
    connection = sqlite3.connect(old / "catalog" / "catalog.db")
    connection.execute("DELETE FROM alembic_version")
    connection.commit()
    with pytest.raises(CatalogError, match="the catalog failed"):
        Catalog.open(Settings(home=old))
    assert connection.execute("SELECT count(*) FROM versions").fetchall() == [(5,)]
    connection.close()


def test_times_survive(upgraded):
    assert upgraded.get_version(HELMET, 1).created_at == datetime(2026, 10, 1, 8, 0, 0, 80000, tzinfo=UTC)
