"""A Postgres server for tests: a cluster of its own in a temporary folder, reached by a socket, gone at the end.

    with Server() as server:
        url = server.database()

Nothing is configured, no port is taken, and several may run at once. `fsync` stays on: what a test says about crashes
and about speed is said about a real server. Postgres refuses to run as root; started by root it runs as ``postgres``
(or ``nobody``).
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from types import TracebackType

import psycopg
from psycopg import sql

_START_SECONDS = 60
_OWNER = "postgres"
"""Superuser of the cluster. The socket's folder is of mode 700: who reaches it is trusted."""


def missing() -> str | None:
    """Why no server can be started here, with the remedy; None if one can."""
    if binaries() is None:
        return "no Postgres server is installed: apt-get install postgresql"
    if os.geteuid() == 0 and _account() is None:
        return "Postgres does not run as root, and there is no user postgres or nobody here"
    return None


def binaries() -> Path | None:
    """The folder of ``initdb`` and ``postgres``, the newest of Debian's or the one on PATH."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("postgres")
    found = [Path(on_path)] if on_path else debian[-1:]
    return found[0].parent if found and (found[0].parent / "initdb").exists() else None


class Server:
    """A running server. Raises RuntimeError where it can't start, with its log."""

    def __init__(self, **settings: str | int) -> None:
        """`settings` go into ``postgresql.conf``: ``Server(max_connections=200)``."""
        if reason := missing():
            raise RuntimeError(reason)
        self._bin = binaries() or Path()
        self.folder = Path(tempfile.mkdtemp(prefix="cloudbaker-postgres-"))
        self._template: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        if account := _account():
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        try:
            # No fsync of the empty cluster: it is not what is tested.
            initdb = ("--no-sync", "-A", "trust", "-U", _OWNER, "-E", "UTF8", "--locale=C.UTF-8", "--no-instructions")
            made = subprocess.run(
                self._command("initdb", *initdb, "-D", str(self._data)),
                capture_output=True,
                text=True,
                check=False,
                cwd=self.folder,
            )
            if made.returncode != 0:
                raise RuntimeError(f"initdb failed: {made.stderr}")
            defaults = {"shared_buffers": "64MB", "max_connections": 60, "max_wal_size": "256MB"}
            lines = [f"{name} = '{value}'" for name, value in {**defaults, **settings}.items()]
            with (self._data / "postgresql.conf").open("a") as file:
                file.write(
                    "\n".join(["", "listen_addresses = ''", f"unix_socket_directories = '{self.folder}'", *lines])
                )
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        """Start it (again), and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command("postgres", "-D", str(self._data)), stdout=log, stderr=log, cwd=self.folder
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self._conninfo("postgres")).close()
                return
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"Postgres did not start: {(self.folder / 'log').read_text()}") from error
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT in an orderly way, SIGQUIT as a crash would (it recovers at the next `start`)."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=_START_SECONDS)
            self._process = None

    def database(self, *, migrated: bool = False) -> str:
        """SQLAlchemy URL of a fresh database: empty, or with the catalog's schema of today (copied: 10 times as fast).

        A copy has a ``core_id`` of its own, as a catalog has that was made by migration.
        """
        name = f"t{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as admin:
            if migrated and self._template is None:
                from cloudbaker.catalog.engine import Core

                admin.execute("CREATE DATABASE catalog_template")
                core = Core(self._url("catalog_template"))
                core.open()
                core.close()
                self._template = "catalog_template"
            template = self._template if migrated and self._template else "template1"
            admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*map(sql.Identifier, (name, template))))
        if migrated:
            with psycopg.connect(self._conninfo(name)) as connection:
                connection.execute("UPDATE catalog_info SET value = %s WHERE name = 'core_id'", [uuid.uuid4().hex])
        return self._url(name)

    def drop(self, url: str) -> None:
        """Remove a database, whoever is still connected to it."""
        name = url.partition("@/")[2].partition("?")[0]
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def connect(self, url: str) -> psycopg.Connection[tuple[object, ...]]:
        """A plain connection to one of its databases, for what a test does behind the catalog's back."""
        return psycopg.connect(url.replace("postgresql+psycopg", "postgresql"), autocommit=True)

    def close(self) -> None:
        """End it, and remove its folder."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://{_OWNER}@/{name}?host={self.folder}"

    def _conninfo(self, name: str) -> str:
        return f"host={self.folder} user={_OWNER} dbname={name}"

    def _command(self, program: str, *arguments: str) -> list[str]:
        # It ends with us, even if we are killed.
        command = ["setpriv", "--pdeathsig=INT"]
        if account := _account():
            command += [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        return [*command, str(self._bin / program), *arguments]


def _account() -> pwd.struct_passwd | None:
    """Who the server runs as if we are root."""
    if os.geteuid() != 0:
        return None
    for name in (_OWNER, "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None
