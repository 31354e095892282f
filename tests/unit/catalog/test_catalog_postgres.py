"""What only Postgres has: connections that are lost, deadlocks, locks that last, a server that crashes, passwords."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGQUIT
from typing import TypeVar

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from cloudbaker.catalog import postgres as dialect
from cloudbaker.catalog import schema as s
from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.engine import Core
from cloudbaker.errors import CatalogError, CatalogTooNew, CatalogUnavailable, CloudBakerError, Conflict, UsageError
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import broken, publication, publish
from cloudbaker.testing.postgres import Server, missing

T = TypeVar("T")


@pytest.fixture
def catalog(postgres: str, home: Path, clock) -> Iterator[Catalog]:
    with Catalog.open(Settings(home=home, catalog_url=postgres), clock=clock) as opened:
        yield opened
        assert broken(opened) == []


def test_the_migrations_amount_to_the_schema(catalog):
    with catalog.core.read() as connection:
        found = compare_metadata(MigrationContext.configure(connection), s.metadata)
        facts = (
            connection.execute(sa.text("SELECT relname FROM pg_class WHERE relname LIKE 'ix\\_%\\_xid'"))
            .scalars()
            .all()
        )
        names = "('ix_blobs_unreferenced', 'ix_deletions_pending')"
        definitions = f"SELECT indexdef FROM pg_indexes WHERE indexname IN {names}"
        partial = connection.execute(sa.text(definitions)).scalars().all()
        default = "SELECT column_default FROM information_schema.columns WHERE column_name = 'xid'"
        defaults = connection.execute(sa.text(default)).scalars().all()
    # Indexes by which the tail of each fact is read are there on Postgres only.
    assert {(kind, index.name) for kind, index in found} == {
        ("remove_index", f"ix_{table.name}_xid") for table in s.FACTS
    }
    assert sorted(facts) == sorted(f"ix_{table.name}_xid" for table in s.FACTS)
    assert len(defaults) == len(s.FACTS)
    assert all("WHERE" in text for text in partial)
    assert len(partial) == 2
    assert all("pg_current_xact_id" in text for text in defaults)


def test_transactions_are_what_they_say(catalog):
    show = sa.text("SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')")
    with catalog.core.read() as connection:
        assert connection.execute(show).one() == ("repeatable read", "on")
    with catalog.core.write() as connection:
        assert connection.execute(show).one() == ("read committed", "off")
        waits = "SELECT current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')"
        assert connection.execute(sa.text(waits)).one() == ("1min", "1min")


def test_a_snapshot_is_one_moment(catalog, helmet):
    publish(catalog, helmet, b"1")
    with catalog.core.read() as connection:
        count = sa.select(sa.func.count()).select_from(s.versions)
        assert connection.execute(count).scalar() == 1
        publish(catalog, helmet, b"2")
        assert connection.execute(count).scalar() == 1


def test_a_catalog_of_a_newer_release_is_refused_and_not_touched(catalog, postgres, postgres_server):
    with postgres_server.connect(postgres) as admin:
        admin.execute("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(CatalogTooNew, match=r"schema 9999.*nothing was changed"):
            Core(postgres).open()
        assert admin.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]


def test_either_spelling_of_the_url(postgres):
    core = Core(postgres.replace("postgresql+psycopg://", "postgresql://"))
    core.open()
    with core.read() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1
    core.close()


# ---- connections that are lost


OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def end_others(server: Server, url: str) -> int:
    with server.connect(url) as admin:
        return int(str(admin.execute(f"SELECT count(pg_terminate_backend(pid)) {OTHERS}").fetchall()[0][0]))


def insist(work: Callable[[], T]) -> tuple[T, int]:
    """As tasks do: said again for as long as the error says that this may help; how often."""
    for again in range(1000):
        try:
            return work(), again
        except CloudBakerError as error:
            if not error.retryable:
                raise
    raise AssertionError("1,000 times")


def test_a_connection_lost_between_two_statements_is_made_anew(catalog, helmet, postgres, postgres_server):
    """Nothing was committed: the whole transaction is done over, once."""
    wanted = publication(catalog, helmet, b"x")
    turns = []

    def work(connection: sa.Connection) -> int:
        turns.append(connection.execute(sa.update(s.tenants).values(quota_bytes=10**6)).rowcount)
        if len(turns) == 1:
            assert end_others(postgres_server, postgres) >= 1
        return int(connection.execute(sa.select(sa.func.count()).select_from(s.tenants)).scalar_one())

    assert catalog.core.transact(work) == 1
    assert len(turns) == 2
    end_others(postgres_server, postgres)  # idle ones: the pool finds out when it uses them
    assert catalog.publish(wanted).version.number == 1


def test_a_connection_that_is_lost_again_is_told(catalog, postgres, postgres_server):
    def work(connection: sa.Connection) -> None:
        connection.execute(sa.select(s.tenants)).all()
        end_others(postgres_server, postgres)
        connection.execute(sa.select(s.tenants)).all()

    with pytest.raises(CatalogUnavailable, match="dropped ours") as caught:
        catalog.core.transact(work)
    assert caught.value.retryable
    with pytest.raises(CatalogUnavailable), catalog.core.write() as connection:
        work(connection)
    assert catalog.assets() == []


def test_every_backend_ended_again_and_again_loses_and_doubles_nothing(
    catalog, helmet, postgres, postgres_server, tell
):
    """Callers that say it again, as tasks do, get every version once, whatever was under way."""
    wanted = [publication(catalog, helmet, b"%d" % n) for n in range(40)]
    stop, kills, retries = threading.Event(), 0, 0

    def kill() -> None:
        nonlocal kills
        while not stop.wait(0.03):
            kills += end_others(postgres_server, postgres)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        for each in wanted:
            retries += insist(lambda p=each: catalog.publish(p))[1]
    finally:
        stop.set()
        killer.join()
    made, _ = insist(lambda: catalog.versions(helmet, limit=100))
    assert [v.bake_key for v in made] == [p.bake_key for p in reversed(wanted)]
    tell(f"{kills} backends ended under 40 publishes, {retries} said again: no version lost, none doubled")


def test_a_server_that_crashes_keeps_what_was_acknowledged(home, helmet, clock):
    if reason := missing():
        pytest.skip(reason)
    with (
        Server() as server,
        Catalog.open(Settings(home=home, catalog_url=server.database(migrated=True)), clock=clock) as catalog,
    ):
        for n in range(5):
            publish(catalog, helmet, b"%d" % n)
        server.stop(SIGQUIT)
        with pytest.raises(CatalogUnavailable, match="can't be reached"):
            publish(catalog, helmet, b"down")
        server.start()
        assert catalog.get_version(helmet).number == 5
        assert publish(catalog, helmet, b"up again").version.number == 6
        assert broken(catalog) == []


# ---- deadlocks and locks


def test_a_deadlock_is_done_over(catalog):
    for tenant in ("a", "b"):
        catalog.put_bytes(b"x", tenant, "vault")
    t = s.tenants.c
    start = threading.Barrier(2)
    turns: list[str] = []

    def work(first: str, second: str) -> None:
        def steps(connection: sa.Connection) -> None:
            turns.append(first)
            for n, name in enumerate((first, second)):
                connection.execute(sa.update(s.tenants).where(t.tenant == name).values(quota_bytes=10**6 + n))
                if n == 0 and len(turns) <= 2:
                    start.wait(30)

        catalog.core.transact(steps)

    threads = [threading.Thread(target=work, args=names) for names in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(turns) == 3
    assert not any(thread.is_alive() for thread in threads)


def test_a_row_that_stays_locked_is_a_conflict_that_names_where_to_look(postgres, home, helmet, monkeypatch):
    monkeypatch.setattr(dialect, "LOCK_SECONDS", 0.2)
    with Catalog.open(Settings(home=home, catalog_url=postgres)) as catalog:
        wanted = publication(catalog, helmet, b"x")
        with catalog.core.write() as connection:
            connection.execute(sa.select(s.blobs).with_for_update()).all()
            with pytest.raises(Conflict, match=r"locked for over 0.2 s .* pg_stat_activity"):
                catalog.publish(wanted)
        assert catalog.publish(wanted).created


def test_a_writer_that_falls_asleep_is_ended_by_the_server(postgres, home, monkeypatch):
    monkeypatch.setattr(dialect, "IDLE_SECONDS", 0.2)
    with Catalog.open(Settings(home=home, catalog_url=postgres)) as catalog:

        def doze() -> None:
            with catalog.core.write() as connection:
                connection.execute(sa.update(s.catalog_info).values(value="by one who slept")).close()
                threading.Event().wait(1)
                connection.execute(sa.select(s.tenants)).all()

        with pytest.raises(CatalogUnavailable):
            doze()
        with catalog.core.read() as connection:
            assert connection.execute(sa.select(s.catalog_info.c.value)).scalar() != "by one who slept"


# ---- what can't be opened


def test_no_password_is_ever_told(home, postgres):
    socket = postgres.partition("host=")[2]
    for url in (
        "postgresql://ada:s3cret@127.0.0.1:1/db",
        "postgresql://ada:s3cret@/db?host=/nowhere",
        "postgresql://ada:s3cret@host:notaport/db",
        "postgresql://ada:s3cret@127.0.0.1",
        f"postgresql://nobody-there:s3cret@/db?host={socket}",
        f"postgresql://postgres:s3cret@/no-such-database?host={socket}",
    ):
        with pytest.raises(CatalogError) as caught:
            Catalog.open(Settings(home=home, catalog_url=url))
        error: BaseException | None = caught.value
        while error is not None:
            assert "s3cret" not in f"{error} {getattr(error, 'detail', '')} {getattr(error, 'facts', '')}"
            error = error.__cause__
        assert "CLOUDBAKER_CATALOG_URL" in str(caught.value)


def test_a_user_that_may_not_create_tables(postgres, postgres_server, home):
    name = "reader_of_" + postgres.partition("@/")[2].partition("?")[0]
    with postgres_server.connect(postgres) as admin:
        admin.execute(f"CREATE USER {name}")
        admin.execute("DROP TABLE alembic_version")
        with pytest.raises(CatalogError, match="may create tables there"):
            Catalog.open(Settings(home=home, catalog_url=postgres.replace("postgres@", f"{name}@")))
        admin.execute(f"DROP USER {name}")


def test_values_that_postgres_can_not_hold_are_refused(catalog, helmet):
    publish(catalog, helmet, b"x")
    for note in ("with a NUL \0", "half a pair \ud83d"):
        with pytest.raises(UsageError, match="can't hold this value"):
            catalog.move_channel(helmet, "beta", 1, "ada", note)
    assert catalog.channels(helmet) == {"live": 1}


def test_a_full_disk_of_the_server_is_told_as_such():
    error = psycopg.errors.DiskFull("could not extend file")
    found = dialect.Postgres("postgresql://ada@db/x").typed(error, "")
    assert "disk is full" in str(found)
    assert found.code == "CB6301"
