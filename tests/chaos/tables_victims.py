"""Processes that publish, compact and read the tables, and are killed: run by test_tables_kill.py, not collected.

No lock keeps them apart here: what holds is what Delta's commits alone give.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from datetime import timedelta

from catalog_victims import ended, forked

from cloudbaker.catalog import export, publish, rebuild, tables, views  # noqa: F401 (imported once, before the forks)
from cloudbaker.catalog import schema as s
from cloudbaker.catalog.core import Catalog
from cloudbaker.errors import Conflict
from cloudbaker.model import AssetRef
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import broken
from cloudbaker.testing.catalog import publish as publish_one

_TABLES = (s.versions, s.artifacts, s.outbox, s.audit)


def writer() -> None:
    """Publishes."""
    dice = random.Random()
    with Catalog.open(Settings()) as catalog:
        while True:
            with contextlib.suppress(Conflict):
                publish_one(catalog, AssetRef("acme", "robots", f"a{dice.randrange(4)}"), b"%d" % dice.getrandbits(64))


def exporter() -> None:
    """Publishes to the tables, in small commits."""
    export.BATCH = 20
    with Catalog.open(Settings()) as catalog:
        while True:
            for table in _TABLES:
                with contextlib.suppress(Conflict):
                    export.export_table(catalog.core, catalog.published, table)


def compactor() -> None:
    """Compacts, over and over."""
    with Catalog.open(Settings()) as catalog:
        while True:
            for table in _TABLES:
                delta = catalog.published.open(table.name)
                for month in () if delta is None else tables._scattered(tables._files(delta)):
                    tables.compact_month(catalog.published, table, month)
                if (delta := catalog.published.open(table.name)) is not None:
                    tables.tidy(delta, timedelta(hours=1))


def reader() -> None:
    """Sees each row once, whatever the others do."""
    with Catalog.open(Settings()) as catalog:
        while True:
            with catalog.connect() as duck:
                for table in _TABLES:
                    query = f"SELECT count(*), count(DISTINCT seq) FROM _{table.name}"
                    [(rows, distinct)] = duck.sql(query).fetchall()
                    assert rows == distinct, (table.name, rows, distinct)
                [(versions, newest)] = duck.sql(
                    "SELECT (SELECT count(*) FROM versions), (SELECT coalesce(sum(latest), 0) FROM assets)"
                ).fetchall()
                assert versions == newest, (versions, newest)


def main(kills: int, seed: int) -> None:
    """One of them killed again and again; then everything is looked at."""
    dice = random.Random(seed)
    roles = [writer, exporter, exporter, compactor, compactor, reader]
    Catalog.open(Settings()).close()
    children = [forked(role) for role in roles]
    for _ in range(kills):
        time.sleep(dice.uniform(0.1, 0.5))
        victim = dice.randrange(1, len(roles))
        os.kill(children[victim], signal.SIGKILL)
        assert ended(children[victim]) == -signal.SIGKILL, f"{roles[victim].__name__} ended by itself"
        children[victim] = forked(roles[victim])
    for role, child in zip(roles, children, strict=True):
        os.kill(child, signal.SIGKILL)
        assert ended(child) == -signal.SIGKILL, f"{role.__name__} ended by itself"
    assert ended(forked(_all_is_well)) == 0


def _all_is_well() -> None:
    with Catalog.open(Settings()) as catalog:
        catalog.export()
        commits = 0
        with catalog.core.read() as connection:
            for table in s.FACTS:
                wanted = export.read_facts(catalog.core, connection, table)
                delta = catalog.published.open(table.name)
                if delta is None:
                    assert wanted.num_rows == 0
                    continue
                seen = delta.to_pyarrow_table().select(wanted.schema.names).sort_by("seq")
                assert seen.cast(wanted.schema).equals(wanted), table.name
                commits += delta.version()
        assert (found := broken(catalog)) == [], found[:5]
        count = sum(info.latest for info in catalog.assets())
    into = f"sqlite:///{Settings().home}/rebuilt/catalog.db"
    report = rebuild.rebuild(catalog.published, into)
    assert report.rows["versions"] == count
    assert report.broken_chains == ()
    print(json.dumps({"versions": count, "commits": commits}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
