"""Publishes a second, on SQLite and Postgres, beside the smallest transaction that could do the same.

    python benchmarks/catalog_commits.py [FOLDER] [--seconds 3] [--rounds 5]

FOLDER (default: the temporary folder) is on the disk that is measured. Prints Markdown tables.

*Minimal* is what a catalog can't do without, ten statements by the driver itself on eight tables: idempotency key,
quota, blob reference, version number, version, its blob, pointer, usage, outbox, audit. *Publish* is the product's own
`cloudbaker.catalog.publish`, whole: 1 source, 3 artifacts, 10 figures, a finding, a loss, provenance, a channel, two
chained audit entries, two events.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import multiprocessing
import os
import platform
import queue
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import psycopg

from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.publish import publish
from cloudbaker.catalog.sqlite import Sqlite
from cloudbaker.model import AssetRef
from cloudbaker.settings import Settings
from cloudbaker.testing import postgres
from cloudbaker.testing.catalog import publication

WRITERS = 8
ASSETS = 100
"""Of each writer; all belong to one tenant, whose audit chain they share."""


@dataclass(frozen=True)
class Way:
    """One row of the table."""

    database: str
    work: str
    writers: int


@dataclass
class Result:
    """What the writers of one round did."""

    times: list[list[float]]
    """Milliseconds of each commit, per writer."""
    cpu: float
    """Seconds of all writers."""

    @property
    def commits(self) -> int:
        return sum(map(len, self.times))


def main() -> None:
    """Run all and print it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="cloudbaker-benchmark-", dir=arguments.folder))
    ways = [Way("SQLite", work, n) for n in (1, WRITERS) for work in ("minimal", "publish")]
    ways.append(Way("SQLite", "publish, busy timeout", WRITERS))
    print("# Commits of the catalog\n")
    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} shared vCPUs, Python {platform.python_version()}, ")
    print(f"SQLite {sqlite3.sqlite_version}. Load average at the start: {os.getloadavg()[0]:.1f}.")
    print(f"`python benchmarks/catalog_commits.py --seconds {arguments.seconds:g} --rounds {arguments.rounds}`\n")
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        server = None
        if reason := postgres.missing():
            print(f"No Postgres: {reason}.\n")
        else:
            server = stack.enter_context(postgres.Server())
            ways += [Way("Postgres", work, n) for n in (1, WRITERS) for work in ("minimal", "publish")]
        best: dict[Way, Result] = {}
        for _ in range(arguments.rounds):
            for way in ways:
                with tempfile.TemporaryDirectory(dir=folder) as home:
                    found = race(way, Path(home), server, arguments.seconds)
                best[way] = max(best.get(way, found), found, key=lambda result: result.commits)
    table(best, arguments.seconds, arguments.rounds)


def table(best: dict[Way, Result], seconds: float, rounds: int) -> None:
    """Print the results."""
    print(f"Best of {rounds} rounds of {seconds:g} s, the ways in turn. Every commit is on the disk before it counts:")
    print("SQLite `synchronous=FULL`, Postgres `fsync` and `synchronous_commit` on. Writers are processes.\n")
    print(
        "| database | transaction | writers | commits/s | of minimal | CPU ms | p50 ms | p99 ms | max ms | per writer |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for way, result in best.items():
        times = sorted(ms for each in result.times for ms in each)
        counts = [len(each) for each in result.times]
        minimal = best[dataclasses.replace(way, work="minimal")]
        cells = (
            way.database,
            way.work,
            way.writers,
            f"{result.commits / seconds:,.0f}",
            "" if way.work == "minimal" else f"{result.commits / minimal.commits:.0%}",
            f"{result.cpu * 1000 / result.commits:.2f}",
            f"{statistics.median(times):.2f}",
            f"{times[int(len(times) * 0.99)]:.1f}",
            f"{times[-1]:.0f}",
            f"{min(counts):,} to {max(counts):,}",
        )
        print(f"| {' | '.join(map(str, cells))} |")
    print()


def race(way: Way, home: Path, server: postgres.Server | None, seconds: float) -> Result:
    """All writers at once, for so many seconds."""
    url = server.database(migrated=way.work != "minimal") if way.database == "Postgres" and server else ""
    if way.work == "minimal":
        _setup_minimal(home, url, way.writers)
    else:
        with Catalog.open(Settings(home=home, catalog_url=url)) as catalog:
            for n in range(way.writers):
                publication(catalog, _asset(n, 0), b"content", files=3)
    fork = multiprocessing.get_context("forkserver")  # one that has imported this file, and has no thread
    start, results = fork.Barrier(way.writers), fork.Queue()
    arguments = (way, home, url, seconds, start, results)
    writers = [fork.Process(target=_writer, args=(n, *arguments)) for n in range(way.writers)]
    for writer in writers:
        writer.start()
    found = []
    while len(found) < way.writers:
        try:
            found.append(results.get(timeout=5))
        except queue.Empty:
            if any(writer.exitcode for writer in writers):
                raise SystemExit(f"a writer of {way} died: its error is above") from None
    for writer in writers:
        writer.join()
    if url and server:
        server.drop(url)
    return Result([times for times, _ in found], sum(cpu for _, cpu in found))


def _writer(
    writer: int,
    way: Way,
    home: Path,
    url: str,
    seconds: float,
    start: Barrier,
    results: multiprocessing.Queue[tuple[list[float], float]],
) -> None:
    times: list[float] = []
    make = _minimal_work if way.work == "minimal" else _publish_work
    with make(writer, way, home, url) as work:
        for n in range(ASSETS // 10):  # the first of each statement is compiled, and planned
            work(-1 - n)
        start.wait()
        cpu, n = time.process_time(), 0
        end = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < end:
            work(n)
            n += 1
            times.append((time.perf_counter() - begun) * 1000)
        cpu = time.process_time() - cpu
    results.put((times, cpu))


# ---- the product's own


@contextlib.contextmanager
def _publish_work(writer: int, way: Way, home: Path, url: str) -> Iterator[Callable[[int], object]]:
    if "busy timeout" in way.work:
        Sqlite._queue = lambda _self: contextlib.nullcontext()  # type: ignore[method-assign, assignment, return-value]
    with Catalog.open(Settings(home=home, catalog_url=url)) as catalog:
        base = publication(catalog, _asset(writer, 0), b"content", files=3)
        base = dataclasses.replace(base, metrics={f"figure_{n}": float(n) for n in range(4)})

        def work(n: int) -> object:
            asset = _asset(writer, n % ASSETS)
            each = dataclasses.replace(base, asset=asset, run_id=f"{writer}-{n}", bake_key=f"key {n}")
            return publish(catalog.core, each, datetime.now(UTC))

        yield work


def _asset(writer: int, n: int) -> AssetRef:
    return AssetRef("acme", f"p{writer}", f"asset-{n}")


# ---- the smallest transaction

_TABLES = """
CREATE TABLE tenants (tenant TEXT PRIMARY KEY, quota_bytes BIGINT, used_bytes BIGINT);
CREATE TABLE assets (asset TEXT PRIMARY KEY, next_version BIGINT, current_version BIGINT, pointer_rev BIGINT);
CREATE TABLE versions (seq {seq}, asset TEXT, version BIGINT, tenant TEXT, bake_key TEXT, size_bytes BIGINT,
    run_id TEXT, created_at BIGINT, UNIQUE (asset, version));
CREATE TABLE version_blobs (asset TEXT, version BIGINT, role TEXT, sha256 TEXT, PRIMARY KEY (asset, version, role));
CREATE TABLE blobs (sha256 TEXT PRIMARY KEY, storage_key TEXT UNIQUE, size_bytes BIGINT, refcount BIGINT);
CREATE TABLE idempotency (tenant TEXT, key TEXT, request_hash TEXT, result TEXT, PRIMARY KEY (tenant, key));
CREATE TABLE usage_events (seq {seq}, tenant TEXT, asset TEXT, amount BIGINT, created_at BIGINT);
CREATE TABLE outbox (seq {seq}, asset TEXT, kind TEXT, payload TEXT, created_at BIGINT);
CREATE TABLE audit (seq {seq}, tenant TEXT, who TEXT, action TEXT, subject TEXT, created_at BIGINT);
"""


def _setup_minimal(home: Path, url: str, writers: int) -> None:
    rows = {
        "INSERT INTO tenants VALUES (?, ?, 0)": [("acme", 1 << 60)],
        "INSERT INTO blobs VALUES (?, ?, 1000, 1)": [(f"hash {w}", f"key {w}") for w in range(writers)],
        "INSERT INTO assets VALUES (?, 1, 0, 0)": [(str(_asset(w, n)),) for w in range(writers) for n in range(ASSETS)],
    }
    if url:
        with _postgres(url) as connection, connection.cursor() as cursor:
            cursor.execute(_TABLES.format(seq="BIGSERIAL PRIMARY KEY"))
            for statement, values in rows.items():
                cursor.executemany(statement.replace("?", "%s"), values)
    else:
        with contextlib.closing(sqlite3.connect(home / "minimal.db", isolation_level=None)) as file:
            file.execute("PRAGMA journal_mode=WAL")
            file.executescript(_TABLES.format(seq="INTEGER PRIMARY KEY AUTOINCREMENT"))
            for statement, values in rows.items():
                file.executemany(statement, values)


def _postgres(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(url.replace("postgresql+psycopg", "postgresql"))


@contextlib.contextmanager
def _minimal_work(writer: int, way: Way, home: Path, url: str) -> Iterator[Callable[[int], object]]:
    if way.database == "Postgres":
        with _postgres(url) as connection:

            def work(n: int) -> None:
                with connection.transaction():
                    _minimal(lambda sql, values: connection.execute(sql.replace("?", "%s"), values), writer, n)

            yield work
        return
    file = sqlite3.connect(home / "minimal.db", isolation_level=None)
    for pragma in ("busy_timeout=60000", "synchronous=FULL"):
        file.execute(f"PRAGMA {pragma}")

    def locked(n: int) -> None:
        fd = os.open(home / "minimal.lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(fd, fcntl.LOCK_EX)
        file.execute("BEGIN IMMEDIATE")
        _minimal(file.execute, writer, n)
        file.execute("COMMIT")
        os.close(fd)

    with contextlib.closing(file):
        yield locked


def _minimal(run: Callable[[str, tuple[Any, ...]], Any], writer: int, n: int) -> None:
    asset, now = str(_asset(writer, n % ASSETS)), time.time_ns() // 1000
    run("INSERT INTO idempotency VALUES ('acme', ?, 'request', 'result')", (f"{writer}-{n}",))
    charged = run(
        "UPDATE tenants SET used_bytes = used_bytes + 1 WHERE tenant = ? AND used_bytes < quota_bytes", ("acme",)
    )
    assert charged.rowcount == 1
    run("UPDATE blobs SET refcount = refcount + 1 WHERE sha256 = ?", (f"hash {writer}",))
    version, rev = run(
        "UPDATE assets SET next_version = next_version + 1 WHERE asset = ? RETURNING next_version - 1, pointer_rev",
        (asset,),
    ).fetchone()
    run(
        "INSERT INTO versions (asset, version, tenant, bake_key, size_bytes, run_id, created_at) "
        "VALUES (?, ?, 'acme', ?, 1000, ?, ?)",
        (asset, version, f"key {n}", f"{writer}-{n}", now),
    )
    run("INSERT INTO version_blobs VALUES (?, ?, 'model_3d', ?)", (asset, version, f"hash {writer}"))
    moved = run(
        "UPDATE assets SET current_version = ?, pointer_rev = pointer_rev + 1 WHERE asset = ? AND pointer_rev = ?",
        (version, asset, rev),
    )
    assert moved.rowcount == 1
    run("INSERT INTO usage_events (tenant, asset, amount, created_at) VALUES ('acme', ?, 1, ?)", (asset, now))
    run("INSERT INTO outbox (asset, kind, payload, created_at) VALUES (?, 'asset.indexed', '{}', ?)", (asset, now))
    run(
        "INSERT INTO audit (tenant, who, action, subject, created_at) VALUES ('acme', 'x', 'publish', ?, ?)",
        (asset, now),
    )


if __name__ == "__main__":
    main()
