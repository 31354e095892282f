"""The schema, its migrations, and catalogs of other releases."""

from __future__ import annotations

import re
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from cloudbaker.catalog import migrations
from cloudbaker.catalog import schema as s
from cloudbaker.catalog.core import Catalog
from cloudbaker.errors import CatalogTooNew
from cloudbaker.settings import Settings


def dump(path: Path) -> dict[str, str]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'alembic%' AND sql IS NOT NULL")
    # The order of a table's columns and constraints means nothing: ALTER TABLE puts a new one last.
    found = {name: ", ".join(sorted(_clauses(sql))) for name, sql in rows}
    connection.close()
    return found


def _clauses(sql: str) -> list[str]:
    head, _, body = " ".join(sql.split()).partition("(")
    body, _, tail = body.rpartition(")")
    return [head.replace('"', "").strip(), tail.strip(), *(c.strip() for c in re.split(r",(?![^(]*\))", body))]


def test_the_migrations_amount_to_the_schema(catalog, tmp_path):
    with catalog.core.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), s.metadata) == []
    # Autogenerate looks at no CHECK, no partial index and no AUTOINCREMENT: the SQL itself has to be the same.
    engine = sa.create_engine(f"sqlite:///{tmp_path}/direct.db")
    s.metadata.create_all(engine)
    engine.dispose()
    assert dump(catalog.core.path) == dump(tmp_path / "direct.db")


def test_every_revision_is_known(catalog):
    scripts = ScriptDirectory.from_config(migrations.config())
    assert [script.revision for script in scripts.walk_revisions()] == list(reversed(s.REVISIONS))


def test_facts_and_state_are_all_tables():
    state = {"blobs", "channels", "idempotency", "attempts", "quarantine", "catalog_info", "audit_chains", "tags"}
    state |= {"holds", "open_runs", "sinks", "deliveries"}
    assert {table.name for table in s.FACTS} | state == set(s.metadata.tables)


def test_a_catalog_of_a_newer_release_is_refused_and_not_touched(home):
    Catalog.open(Settings(home=home)).close()
    path = home / "catalog" / "catalog.db"
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.execute("CREATE TABLE from_the_future (x)")
    connection.commit()
    connection.close()
    before = dump(path)
    with pytest.raises(
        CatalogTooNew, match=r"newer release of Cloud Baker \(schema 9999.*nothing was changed"
    ) as caught:
        Catalog.open(Settings(home=home))
    assert caught.value.facts == {"revision": "9999", "known": s.HEAD}
    assert dump(path) == before


def test_a_migration_that_dies_half_way_leaves_what_was(home, monkeypatch):
    import alembic.op

    made = []
    create = alembic.op.create_table

    def dies(*args, **kw):
        made.append(args[0])
        if len(made) == 5:
            raise KeyboardInterrupt
        return create(*args, **kw)

    monkeypatch.setattr(alembic.op, "create_table", dies)
    with pytest.raises(KeyboardInterrupt):
        Catalog.open(Settings(home=home))
    assert dump(home / "catalog" / "catalog.db") == {}
    monkeypatch.undo()
    with Catalog.open(Settings(home=home)) as catalog:
        assert catalog.assets() == []


def test_the_database_is_as_safe_as_it_says(catalog):
    with catalog.core.read() as connection:
        found = {
            p: connection.exec_driver_sql(f"PRAGMA {p}").scalar()
            for p in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    assert catalog.core.path.stat().st_mode & 0o777 == 0o600


def test_times_are_exact_and_have_a_zone(catalog):
    moment = datetime(2026, 2, 3, 4, 5, 6, 789012, tzinfo=UTC)
    with catalog.core.write() as connection:
        connection.execute(sa.insert(s.tenants), {"tenant": "t", "created_at": moment})
        assert connection.execute(sa.select(s.tenants.c.created_at)).scalar() == moment
        assert connection.exec_driver_sql("SELECT created_at FROM tenants").scalar() == 1770091506789012
