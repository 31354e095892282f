"""The core on Postgres 13 or later, by psycopg 3: several machines may share it.

Transactions that write are READ COMMITTED and lock the rows that decide (asset, blobs, tenant, audit chain, in this
order), so that what they read after that is what they change. SERIALIZABLE would need no locks, but aborts under
contention: with eight writers to one tenant nearly every transaction conflicts with another. Snapshots for reading are
REPEATABLE READ: views and exports need all tables of one moment.

A writer that falls asleep would hold its locks, and hold up the exporter (`tail.py`), for ever: the server ends it
after a minute.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection

from cloudbaker.errors import CatalogError, CatalogUnavailable, CloudBakerError, Conflict, StoreError, UsageError

LOCK_SECONDS = 60
"""Longest wait for a row that another transaction holds."""
IDLE_SECONDS = 60
"""Longest silence inside a transaction, after which the server ends it."""
CONNECT_SECONDS = 10
_QUIET_SECONDS = 5.0
"""Silence after which a pooled connection is asked whether it lives (a round trip) before it is used."""
_MIGRATION = 0x636C6F756462616B  # "cloudbak"
"""Key of the advisory lock that migrations hold."""


_GONE = ("", "57P01", "57P02", "57P03")
"""SQLSTATEs of a server that shuts down, crashed, or starts up; none where it does not answer at all."""


class Postgres:
    """See `cloudbaker.catalog.engine.Dialect`."""

    path = None

    def __init__(self, url: str) -> None:
        """Raises `CatalogError` for a URL that can't be read."""
        try:
            parsed = sa.make_url(url).set(drivername="postgresql+psycopg")
        except (sa.exc.ArgumentError, ValueError):  # its text may repeat a password: not in any message
            raise CatalogError(
                "CLOUDBAKER_CATALOG_URL can't be read: write postgresql://user@host:5432/database, special characters "
                "of a password as %xx, or keep the password in PGPASSFILE"
            ) from None
        if not parsed.database:
            raise CatalogError("CLOUDBAKER_CATALOG_URL names no database: write postgresql://user@host/database")
        host = parsed.query.get("host", parsed.host) or "the local socket"
        self.place = f"{parsed.database} on {host if isinstance(host, str) else ', '.join(host)}"
        self.engine = sa.create_engine(
            parsed,
            # Eight writers in one process are many; what is above waits for nobody and is closed afterwards.
            pool_size=8,
            max_overflow=-1,
            connect_args={"connect_timeout": CONNECT_SECONDS, "application_name": "cloudbaker"},
            hide_parameters=True,
        )
        self._snapshots = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        event.listen(self.engine, "connect", _on_connect)
        event.listen(self.engine, "checkin", _on_checkin)
        event.listen(self.engine, "checkout", _on_checkout)

    def exists(self) -> bool:
        """Whether there is a catalog is seen by its revision."""
        return True

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """Postgres's DDL is transactional too: killed half-way, the catalog is what it was before."""
        with self.engine.connect() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION)))
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """REPEATABLE READ, read only."""
        with self._snapshots.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, *, pipelined: bool = False) -> Iterator[Connection]:
        """READ COMMITTED: each statement sees what was committed before it began."""
        with self.engine.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            try:
                with driver.pipeline() if pipelined else nullcontext(), connection.begin():
                    yield connection
            except psycopg.Error as error:  # from `statements.py`: SQLAlchemy has not seen it
                if self.lost(error):
                    connection.invalidate(error)
                    self.engine.dispose()  # the others in the pool are as dead
                raise

    def passes(self, error: Exception) -> bool:
        """Deadlocks, serialization failures, and unique keys that somebody else took in the same moment."""
        return _state(error) in ("40P01", "40001", "23505")

    def lost(self, error: Exception) -> bool:
        """Ended by the server (restart, idle timeout), by its crash, or by the network."""
        if isinstance(error, psycopg.errors.IdleInTransactionSessionTimeout):
            return True
        state = _state(error)
        return isinstance(error, psycopg.OperationalError) and (state in _GONE or state.startswith("08"))

    def typed(self, error: Exception, detail: str) -> CloudBakerError:
        """By the SQLSTATE."""
        state = _state(error)
        facts: dict[str, Any] = {"place": self.place, "sqlstate": state}
        if state.startswith(("23", "40")):
            return Conflict(
                "the catalog refused a row that contradicts another: somebody else was first; look again and retry",
                detail=detail,
                **facts,
            )
        if state in ("55P03", "57014"):  # lock_timeout, statement_timeout
            return Conflict(
                f"the catalog was locked for over {LOCK_SECONDS} s by another transaction: run this again, and look "
                "for who holds it in pg_stat_activity",
                detail=detail,
                **facts,
            )
        if state.startswith(("53100", "58")):
            return StoreError(
                f"the catalog ({self.place}) could not be written: its server's disk is full or failing; free some "
                "space there and run it again (nothing was half-written)",
                detail=detail,
                **facts,
            )
        if state.startswith(("28", "3D", "42501")):
            return CatalogError(
                f"the catalog ({self.place}) lets us not in: check user, password and database of "
                "CLOUDBAKER_CATALOG_URL, and that the user may create tables there",
                detail=detail,
                **facts,
            )
        if isinstance(error, psycopg.DataError) or state.startswith("22"):
            return UsageError(f"the catalog can't hold this value: {_first_line(error)}", detail=detail, **facts)
        if self.lost(error) or isinstance(error, psycopg.OperationalError):
            return CatalogUnavailable(
                f"the catalog ({self.place}) can't be reached, has no connection to spare, or dropped ours: check that "
                "the server runs and that CLOUDBAKER_CATALOG_URL is right, then run this again; what was written is "
                "not written twice",
                detail=detail,
                **facts,
            )
        return CatalogError("the catalog failed; the log holds the details", detail=detail, **facts)


def _state(error: Exception) -> str:
    return getattr(error, "sqlstate", None) or ""


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _on_connect(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SET lock_timeout = '{LOCK_SECONDS}s'; SET idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'; "
            "SET TimeZone = 'UTC'"
        )
    connection.commit()


def _on_checkin(_connection: object, record: Any) -> None:
    record.info["used"] = time.monotonic()


def _on_checkout(connection: Any, record: Any, _proxy: object) -> None:
    # SQLAlchemy's own pool_pre_ping asks each time: a tenth of a small transaction.
    used = record.info.get("used")
    if used is not None and time.monotonic() - used > _QUIET_SECONDS:
        try:
            connection.execute("")
            connection.rollback()
        except Exception as error:
            raise sa.exc.DisconnectionError from error
