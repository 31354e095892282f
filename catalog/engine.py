"""The core's database: connections, the queue of writers, and what a driver's errors mean.

SQLite in WAL mode with ``synchronous=FULL``: a commit that was acknowledged survives a power cut. Writers stand in a
`flock` queue and then say ``BEGIN IMMEDIATE``. SQLite's own busy timeout starves (2 to 1,036 commits per writer in one
minute, stalls of 10 s, measured with eight writers); the kernel's lock queue gave each 604 to 711, none waiting over
0.45 s. One writer at a time is also what makes `seq` grow in commit order, which the exporter relies on.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection

from cloudbaker.catalog.schema import HEAD, REVISIONS
from cloudbaker.errors import CatalogError, CatalogTooNew, CloudBakerError, Conflict, StoreError, UsageError

_BUSY_MS = 60_000
"""Only readers that recover a log, and a person's own sqlite3 shell, ever make us wait here."""


class Core:
    """The transactional core. Threads and processes may share it; a process that was forked may go on using it."""

    def __init__(self, url: str) -> None:
        """Raises `CatalogError` if the URL is not one of a SQLite file."""
        # Read literally and not as SQLAlchemy reads URLs: a home named "what?" is a home.
        scheme, _, path = url.partition(":///")
        if scheme != "sqlite" or path in ("", ":memory:"):
            # Not a matter of dialect only: on Postgres `seq` order is not commit order, and an exporter that goes by
            # it lost 103 of 5,812 rows.
            raise CatalogError(
                "this release keeps its catalog in a SQLite file only: write CLOUDBAKER_CATALOG_URL as "
                "sqlite:////path/to/catalog.db, or leave it empty",
                scheme=scheme,
            )
        self.path = Path(path).absolute()
        self._lock_path = self.path.with_name(self.path.name + ".lock")
        self._pid = os.getpid()
        self.engine = sa.create_engine(sa.URL.create("sqlite", database=str(self.path)))
        event.listen(self.engine, "connect", _on_connect)
        event.listen(self.engine, "begin", _on_begin)

    def open(self) -> None:
        """Create the database or bring it to this release's schema. Raises `CatalogTooNew`.

        An up-to-date catalog is recognised by one SELECT: importing Alembic costs 0.8 s, more than a small bake's
        whole overhead may be.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_open(self.path, error) from error
        if self.path.exists() and self._revision() == HEAD:
            return
        with self._queue():
            # Looked at again: another process may have migrated while this one stood in the queue.
            if self.path.exists() and self._revision() == HEAD:
                return
            from cloudbaker.catalog.migrations import upgrade

            with translated(self.path), self.engine.connect().execution_options(write=True) as connection:
                upgrade(connection)
                connection.commit()
            self.path.chmod(0o600)

    def close(self) -> None:
        """Close all connections."""
        self._check_fork()
        self.engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot: everything read inside belongs to one moment. Writers are not held up."""
        self._check_fork()
        with translated(self.path), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, the only one that writes while it lasts: keep it short, and never open one inside another.

        Committed at the end of the block, rolled back if it raises.
        """
        self._check_fork()
        with translated(self.path), self._queue():
            connection = self.engine.connect().execution_options(write=True)
            with connection, connection.begin():
                yield connection

    @contextmanager
    def _queue(self) -> Iterator[None]:
        # Opened anew each time (10 µs), so that threads queue like processes do. Unlocked by name and not just closed:
        # a child that some other thread forked meanwhile holds the same open file, and would keep the lock for as long
        # as it lives.
        try:
            fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _cannot_open(self._lock_path, error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(fd, fcntl.LOCK_UN)
        finally:
            os.close(fd)

    def _revision(self) -> str | None:
        """The schema's revision, None for an empty database."""
        with self.read() as connection:
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

    def _check_fork(self) -> None:
        if self._pid != os.getpid():
            # A SQLite connection must not cross a fork: leave the parent's alone and open our own.
            self.engine.dispose(close=False)
            self._pid = os.getpid()


def _on_connect(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own transaction handling off: it begins late and DEFERRED, which fails half-way under contention.
    connection.isolation_level = None
    for pragma in (f"busy_timeout={_BUSY_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _on_begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns what a database driver raises into the typed error that names the remedy."""
    try:
        yield
    except CloudBakerError:
        raise
    except sa.exc.DBAPIError as error:
        raise _typed(error, path) from error
    except sa.exc.StatementError as error:  # a value that can't be written: a time without a zone, NaN in JSON
        raise UsageError(f"the catalog can't hold this value: {error.orig}", detail=str(error)) from error


def _typed(error: sa.exc.DBAPIError, path: Path) -> CatalogError:
    cause: Any = error.orig
    name = getattr(cause, "sqlite_errorname", "") or ""
    facts: dict[str, Any] = {"path": str(path), "sqlite": name}
    detail = str(error)
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return StoreError(
            f"the catalog could not be written under {path.parent}: the disk is full or failing; free some space there "
            "and run it again (nothing was half-written)",
            detail=detail,
            **facts,
        )
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Conflict(
            f"the catalog was locked for over {_BUSY_MS // 1000} s by something outside Cloud Baker (an open sqlite3 "
            "shell?): close it and run this again",
            detail=detail,
            **facts,
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        return _cannot_open(path, error)
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return CatalogError(
            f"the catalog at {path} is damaged or no SQLite database: put back a backup of that folder",
            detail=detail,
            **facts,
        )
    if name.startswith("SQLITE_CONSTRAINT"):
        return Conflict(
            "the catalog refused a row that contradicts another: somebody else was first; look again and retry",
            detail=detail,
            **facts,
        )
    return CatalogError("the catalog failed; the log holds the details", detail=detail, **facts)


def _cannot_open(path: Path, error: Exception) -> CatalogError:
    return CatalogError(
        f"can't open the catalog at {path}: make the folder writable for this user, or point CLOUDBAKER_HOME at one "
        "that is",
        detail=str(error),
        path=str(path),
    )
