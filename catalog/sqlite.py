"""The core in a SQLite file, WAL mode, ``synchronous=FULL``: an acknowledged commit survives a power cut.

Writers stand in a `flock` queue and then say ``BEGIN IMMEDIATE``. SQLite's own busy timeout starves (2 to 1,036 commits
per writer in one minute, stalls of 10 s, measured with eight writers); the kernel's lock queue gave each 604 to 711,
none waiting over 0.45 s. One writer at a time is also what makes `seq` grow in commit order.
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

from cloudbaker.errors import CatalogError, CloudBakerError, Conflict, StoreError

_BUSY_MS = 60_000
"""Only readers that recover a log, and a person's own sqlite3 shell, ever make us wait here."""

_PRAGMAS = (
    f"busy_timeout={_BUSY_MS}",
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    # A publish writes 40 pages. SQLite's default, a checkpoint at 1,000, comes every 24 commits and writes nearly as
    # much again; at 8,000 (32 MB of log) pages that are written often go to the file once.
    "wal_autocheckpoint=8000",
    "cache_size=-16000",
)


class Sqlite:
    """See `cloudbaker.catalog.engine.Dialect`."""

    def __init__(self, url: str) -> None:
        """Raises `CatalogError` if the URL names no file."""
        # Read literally and not as SQLAlchemy reads URLs: a home named "what?" is a home.
        _, _, path = url.partition(":///")
        if path in ("", ":memory:"):
            raise CatalogError(
                "a catalog in memory would be gone with the process: write CLOUDBAKER_CATALOG_URL as "
                "sqlite:////path/to/catalog.db, or leave it empty"
            )
        self.path = Path(path).absolute()
        self.place = str(self.path)
        self._lock_path = self.path.with_name(self.path.name + ".lock")
        self.engine = sa.create_engine(sa.URL.create("sqlite", database=str(self.path)))
        event.listen(self.engine, "connect", _on_connect)
        event.listen(self.engine, "begin", _on_begin)
        self._writers = self.engine.execution_options(write=True)

    def exists(self) -> bool:
        """Whether the file is there; its folder is made."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._cannot_open(self.path, error) from error
        return self.path.exists()

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """SQLite's DDL is transactional: killed half-way, the catalog is what it was before."""
        with self._queue(), self._writers.connect() as connection:
            yield connection
            self.path.chmod(0o600)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """In WAL mode a read transaction sees one moment and holds up nobody."""
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, *, pipelined: bool = False) -> Iterator[Connection]:
        """The only one that writes while it lasts. There are no round trips to save."""
        with self._queue(), self._writers.begin() as connection:
            yield connection

    def passes(self, error: Exception) -> bool:
        """Never: nobody else writes meanwhile, so doing it over would come to the same."""
        return False

    def lost(self, error: Exception) -> bool:
        """Never: it is a file."""
        return False

    def typed(self, error: Exception, detail: str) -> CloudBakerError:
        """By SQLite's name of the error."""
        name = getattr(error, "sqlite_errorname", "") or ""
        facts: dict[str, Any] = {"path": str(self.path), "sqlite": name}
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            return StoreError(
                f"the catalog could not be written under {self.path.parent}: the disk is full or failing; free some "
                "space there and run it again (nothing was half-written)",
                detail=detail,
                **facts,
            )
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return Conflict(
                f"the catalog was locked for over {_BUSY_MS // 1000} s by something outside Cloud Baker (an open "
                "sqlite3 shell?): close it and run this again",
                detail=detail,
                **facts,
            )
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
            return self._cannot_open(self.path, error)
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return CatalogError(
                f"the catalog at {self.path} is damaged or no SQLite database: put back a backup of that folder",
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

    @contextmanager
    def _queue(self) -> Iterator[None]:
        # Opened anew each time (10 µs), so that threads queue like processes do. Unlocked by name and not just closed:
        # a child that some other thread forked meanwhile holds the same open file, and would keep the lock for as long
        # as it lives.
        try:
            fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._cannot_open(self._lock_path, error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(fd, fcntl.LOCK_UN)
        finally:
            os.close(fd)

    @staticmethod
    def _cannot_open(path: Path, error: Exception) -> CatalogError:
        return CatalogError(
            f"can't open the catalog at {path}: make the folder writable for this user, or point CLOUDBAKER_HOME at "
            "one that is",
            detail=str(error),
            path=str(path),
        )


def _on_connect(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own transaction handling off: it begins late and DEFERRED, which fails half-way under contention.
    connection.isolation_level = None
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _on_begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("write", False)
    driver: Any = connection.connection.dbapi_connection
    driver.execute("BEGIN IMMEDIATE" if write else "BEGIN")  # by SQLAlchemy: 20 µs more
