"""Processes that are killed: run by test_catalog_kill.py, not collected.

They are forked from one parent that has imported everything, so that a kill costs milliseconds and not a second. The
parent itself opens no database and uses no Delta: neither survives a fork.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event

from cloudbaker.catalog import (  # noqa: F401 (imported once, before the forks)
    export,
    gc,
    publish,
    runs,
    uploads,
    views,
)
from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.statements import Statement
from cloudbaker.errors import Conflict, StoreError
from cloudbaker.model import AssetRef, Run, RunState, Step, StepState
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import broken, publication

_CALLS = [(os, name) for name in ("open", "write", "fsync", "link", "unlink", "mkdir", "rmdir")] + [(fcntl, "flock")]


def forked(work: Callable[[], object]) -> int:
    """Run in a child; its process id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


def ended(child: int) -> int:
    """Wait; 0, 1 or the number of the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die_at(n: int) -> None:
    """SIGKILL this process before its n-th system call or SQL statement from now on."""
    counter = itertools.count()

    def tick(*_: object) -> None:
        if next(counter) == n:
            os.kill(os.getpid(), signal.SIGKILL)

    def ticking(call: Callable[..., object]) -> Callable[..., object]:
        def ticked(*args: object, **kw: object) -> object:
            tick()
            return call(*args, **kw)

        return ticked

    for module, name in _CALLS:
        setattr(module, name, ticking(getattr(module, name)))
    for moment in ("before_cursor_execute", "commit", "rollback"):
        event.listen(sa.Engine, moment, tick)
    for name in ("run", "many"):  # compiled statements go past SQLAlchemy
        setattr(Statement, name, ticking(getattr(Statement, name)))


def bake(catalog: Catalog, asset: AssetRef, content: bytes, run_id: str) -> int:
    """What a bake does to the catalog; the version's number."""
    now = datetime.now(UTC)
    catalog.start_run(Run(run_id, "bake", asset, "web", "direct", now, "victim"))
    result = catalog.publish(publication(catalog, asset, content, run_id=run_id))
    catalog.record_step(Step(run_id, "publish", 1, StepState.DONE, now, now + timedelta(seconds=1)))
    catalog.finish_run(run_id, RunState.COMPLETED, version=result.version.number)
    return result.version.number


# ---- every point


def every_point() -> None:
    """One bake, killed at its 1st, 2nd, 3rd … operation until it gets through; then everything is looked at."""

    def asset(n: int) -> AssetRef:
        return AssetRef("acme", "robots", f"asset-{n}")

    def victim(n: int) -> None:
        with Catalog.open(Settings()) as catalog:
            die_at(n)
            bake(catalog, asset(n), b"content %d" % n, f"run-{n}")

    def survivor(n: int) -> None:
        with Catalog.open(Settings()) as catalog:
            assert (found := broken(catalog)) == [], found
            if n % 2:  # every other time nobody tries again, and what is left is left to clean-up
                return
            # The same run again, as Prefect would: it ends, with the one version that it would have made.
            assert bake(catalog, asset(n), b"content %d" % n, f"run-{n}") == 1
            assert (found := broken(catalog)) == [], found
            assert catalog.channels(asset(n)) == {"live": 1}

    def cleaner(kills: int) -> None:
        later = datetime.now(UTC) + timedelta(days=2)
        with Catalog.open(Settings(), clock=lambda: later) as catalog:
            kinds = sorted({item.kind for item in catalog.gc(plan=False).items})
            assert catalog.gc(grace=timedelta(0)).items == ()
            assert (found := broken(catalog)) == [], found
            done = [version for info in catalog.assets() for version in catalog.versions(info.asset)]
            kept = [x.blob.storage_key for version in done for x in (*version.sources, *version.artifacts)]
            assert sorted(info.key for info in catalog.store.list()) == sorted(kept)
            assert {version.asset for version in done} >= {asset(n) for n in range(0, kills, 2)}
            print(json.dumps({"kills": kills, "versions": len(done), "found": kinds}))

    for n in itertools.count():
        code = ended(forked(lambda n=n: victim(n)))
        assert ended(forked(lambda n=n: survivor(n))) == 0, f"after a kill at operation {n}"
        if code == 0:
            break
        assert code == -signal.SIGKILL, code
    assert ended(forked(lambda n=n: cleaner(n))) == 0


# ---- any time


def any_time(kills: int, seed: int) -> None:
    """Writers, clean-up with a lease far too short, and an exporter: one of them killed again and again."""
    dice = random.Random(seed)
    acknowledged = Path(os.environ["CLOUDBAKER_HOME"]).with_name("acknowledged")
    lease = timedelta(milliseconds=200)

    def writer() -> None:
        names = random.Random()
        with Catalog.open(Settings(), lease=lease) as catalog, acknowledged.open("a", buffering=1) as told:
            while True:
                asset = AssetRef("acme", "robots", f"a{names.randrange(4)}")
                content, run_id = b"%d" % names.randrange(1000), f"run-{names.getrandbits(64):x}"
                # Clean-up took a blob, or a file as it was written: both say that trying again helps.
                with contextlib.suppress(Conflict, StoreError):
                    number = bake(catalog, asset, content, run_id)
                    told.write(f"{asset} {number} {run_id}\n")

    def cleaner() -> None:
        with Catalog.open(Settings(), lease=lease) as catalog:
            while True:
                catalog.gc(plan=False, grace=timedelta(milliseconds=200))

    def exporter() -> None:
        with Catalog.open(Settings()) as catalog:
            while True:
                catalog.export()

    roles = [writer, writer, writer, cleaner, exporter]
    Catalog.open(Settings()).close()
    children = [forked(role) for role in roles]
    for _ in range(kills):
        time.sleep(dice.uniform(0.05, 0.3))
        victim = dice.randrange(len(roles))
        os.kill(children[victim], signal.SIGKILL)
        assert ended(children[victim]) == -signal.SIGKILL, f"{roles[victim].__name__} ended by itself"
        children[victim] = forked(roles[victim])
    for child in children:
        os.kill(child, signal.SIGKILL)
        assert ended(child) == -signal.SIGKILL
    assert ended(forked(lambda: _all_is_well(acknowledged))) == 0


def _all_is_well(acknowledged: Path) -> None:
    later = datetime.now(UTC) + timedelta(days=2)
    with Catalog.open(Settings(), clock=lambda: later) as catalog:
        assert (found := broken(catalog)) == [], found[:5]
        told = {line for line in acknowledged.read_text().splitlines() if line.count(" ") == 2}
        for _ in range(2):  # with an unpublished tail, and without
            with catalog.connect() as duck:
                known = {f"{a} {n} {r}" for a, n, r in duck.sql("SELECT asset, number, run_id FROM runs").fetchall()}
                assert told <= known, sorted(told - known)[:5]
                assert len(told) > 0
                with catalog.core.read() as connection:
                    for table in export.FACTS:
                        rows = export.read_facts(catalog.core, connection, table)
                        seen = duck.sql(f"SELECT * FROM _{table.name} ORDER BY seq").to_arrow_table()
                        assert seen.equals(rows.cast(seen.schema)), table.name
            catalog.export()
        catalog.gc(plan=False)
        assert catalog.gc(grace=timedelta(0)).items == ()
        assert (found := broken(catalog)) == [], found[:5]
        print(json.dumps({"acknowledged": len(told), "versions": sum(a.latest for a in catalog.assets())}))


if __name__ == "__main__":
    if sys.argv[1] == "every-point":
        every_point()
    else:
        any_time(int(sys.argv[2]), int(sys.argv[3]))
