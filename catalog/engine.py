"""The core's database: transactions, retries, and what a driver's errors mean. SQLite by default, Postgres by URL.

What is the same for both is here; `sqlite.py` and `postgres.py` hold what differs: who may write when, what a snapshot
is, under which lock a migration runs, and what the driver's errors say.

| | SQLite | Postgres |
|---|---|---|
| `read` | a snapshot | a snapshot (REPEATABLE READ, read only) |
| `write` | one at a time, in the order of a `flock` queue | many at a time: rows that decide are locked |
| `seq` of facts | grows in commit order | does not: see `tail.py` |
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker.catalog.schema import HEAD, REVISIONS
from cloudbaker.errors import CatalogError, CatalogTooNew, CloudBakerError, UsageError

T = TypeVar("T")

TRIES = 8
"""Times that `Core.transact` does its work over, should others be first each time."""


class Dialect(Protocol):
    """What the two databases do differently."""

    engine: sa.Engine
    place: str
    """Where the catalog is, for messages: a path, or host and database. Never a password."""

    @property
    def path(self) -> Path | None:
        """The file, if it is one."""

    def exists(self) -> bool:
        """Whether there may be a catalog. Raises `CatalogError` where none can be made."""

    def migrating(self) -> AbstractContextManager[Connection]:
        """A transaction that no other migration runs beside; the caller commits."""

    def reading(self) -> AbstractContextManager[Connection]:
        """A snapshot."""

    def writing(self, *, pipelined: bool = False) -> AbstractContextManager[Connection]:
        """A transaction; committed at the end of the block."""

    def typed(self, error: Exception, detail: str) -> CloudBakerError:
        """The error that names the remedy, for one of the driver."""

    def passes(self, error: Exception) -> bool:
        """Whether the transaction is undone and would succeed when done over: a deadlock, a row that was new twice."""

    def lost(self, error: Exception) -> bool:
        """Whether the connection is gone."""


class Core:
    """The transactional core. Threads and processes may share it; a process that was forked may go on using it."""

    def __init__(self, url: str) -> None:
        """Raises `CatalogError` if the URL is neither one of a SQLite file nor of a Postgres database."""
        scheme = url.partition(":")[0]
        self.dialect: Dialect
        if scheme == "sqlite":
            from cloudbaker.catalog.sqlite import Sqlite

            self.dialect = Sqlite(url)
        elif scheme in ("postgresql", "postgresql+psycopg"):
            from cloudbaker.catalog.postgres import Postgres

            self.dialect = Postgres(url)
        else:
            raise CatalogError(
                "CLOUDBAKER_CATALOG_URL is no URL of a catalog: write sqlite:////path/to/catalog.db or "
                "postgresql://user@host/database, or leave it empty",
                scheme=scheme if scheme.isalnum() else "",
            )
        self.engine = self.dialect.engine
        self._pid = os.getpid()

    @property
    def path(self) -> Path | None:
        """The SQLite file; None on Postgres."""
        return self.dialect.path

    def open(self) -> None:
        """Create the schema or bring it to this release's. Raises `CatalogTooNew`, `CatalogUnavailable`.

        An up-to-date catalog is recognised by one SELECT: importing Alembic costs 0.8 s, more than a small bake's
        whole overhead may be.
        """
        if self.dialect.exists() and self._revision() == HEAD:
            return
        with translated(self.dialect), self.dialect.migrating() as connection:
            # Looked at again: another process may have migrated while this one waited.
            if _revision(connection) == HEAD:
                return
            from cloudbaker.catalog.migrations import upgrade

            upgrade(connection)
            connection.commit()

    def close(self) -> None:
        """Close all connections."""
        self._check_fork()
        self.engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot: everything read inside belongs to one moment. Writers are not held up."""
        self._check_fork()
        with translated(self.dialect), self.dialect.reading() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: keep it short, and never open one inside another. On SQLite the only one that writes.

        Committed at the end of the block, rolled back if it raises. On Postgres rows are to be locked in this order, by
        everybody: asset, blobs by storage key, tenants by name, audit chains by name; who does not may still meet a
        deadlock, told as a `Conflict`, that `transact` would have done over.
        """
        self._check_fork()
        with translated(self.dialect), self.dialect.writing() as connection:
            yield connection

    def transact(self, work: Callable[[Connection], T], *, pipelined: bool = False) -> T:
        """One transaction, done over if another was first to a row (or a connection that had been idle was gone).

        `work` may run several times, and has to begin anew each time. Raises `Conflict` after `TRIES` times.

        `pipelined`: on Postgres statements, the commit among them, are sent without waiting for each other's answers.
        All of them have to be those of `statements.py`; SQLAlchemy's own want their answers at once.
        """
        self._check_fork()
        for tries in range(1, TRIES + 1):
            committing = False
            try:
                with self.dialect.writing(pipelined=pipelined) as connection:
                    done = work(connection)
                    committing = True
                return done
            except Exception as error:
                cause = _of_driver(self.dialect, error)
                if cause is None:
                    if refused := _value_error(error):
                        raise refused from error
                    raise
                # Lost before COMMIT was sent: nothing was written. The others in the pool are as dead, so that the next
                # try connects anew; once only, since a server that is gone is gone.
                again = self.dialect.passes(cause) or (self.dialect.lost(cause) and not committing and tries == 1)
                if not again or tries == TRIES:
                    raise self.dialect.typed(cause, str(error)) from error
            time.sleep(random.uniform(0, 0.002 * 2**tries))
        raise AssertionError

    def _revision(self) -> str | None:
        with self.read() as connection:
            return _revision(connection)

    def _check_fork(self) -> None:
        if self._pid != os.getpid():
            # A connection must not cross a fork: leave the parent's alone and open our own.
            self.engine.dispose(close=False)
            self._pid = os.getpid()


def _revision(connection: Connection) -> str | None:
    """The schema's revision, None for an empty database. Raises `CatalogTooNew`."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    revision = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    if revision is not None and revision not in REVISIONS:
        raise CatalogTooNew(
            f"this catalog was written by a newer release of Cloud Baker (schema {revision}, this release knows "
            f"{HEAD}): install that release or a later one; nothing was changed",
            revision=revision,
            known=HEAD,
        )
    return None if revision is None else str(revision)


@contextmanager
def translated(dialect: Dialect) -> Iterator[None]:
    """Turns what a database driver raises into the typed error that names the remedy."""
    try:
        yield
    except Exception as error:
        cause = _of_driver(dialect, error)
        if cause is not None:
            raise dialect.typed(cause, str(error)) from error
        if refused := _value_error(error):
            raise refused from error
        raise


def _of_driver(dialect: Dialect, error: Exception) -> Exception | None:
    """What the driver raised, directly (`statements.py`) or by way of SQLAlchemy; None if it is no such error."""
    if isinstance(error, sa.exc.DBAPIError):
        return error.orig if isinstance(error.orig, Exception) else error
    driver: Any = dialect.engine.dialect.loaded_dbapi
    return error if isinstance(error, driver.Error) else None


def _value_error(error: Exception) -> UsageError | None:
    """A value that can't be written: a time without a zone, NaN in JSON."""
    if isinstance(error, sa.exc.StatementError):
        return UsageError(f"the catalog can't hold this value: {error.orig}", detail=str(error))
    return None
