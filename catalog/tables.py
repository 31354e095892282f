"""Care of the published tables: what state they are in, compaction, snapshots, removal of what was replaced, repair.

Compaction makes one sorted file of each month's, so that a question about one asset reads a few
row groups. Writers go on meanwhile: exporters that were overtaken look again, and rows are only moved, never changed.

Not by deltalake's own `optimize`: in 1.6 it leaves out what its `commit_properties` say and does not notice another one
beside it. The second, begun on the same files, removed them once more and added its own: of 30 rows 60 were left
(measured). Here the commit has no retries, so that it goes on top of the very snapshot in which its files were seen.
"""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import deltalake
import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq
import sqlalchemy as sa
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import AddAction, RemoveAction

from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.export import COMPLETE, export_alone, export_table
from cloudbaker.catalog.published import Tables, owner, resettle, settle
from cloudbaker.catalog.records import MaintenanceReport, RepairReport, TableStatus, TableWork
from cloudbaker.catalog.schema import FACTS
from cloudbaker.catalog.tail import position
from cloudbaker.errors import CatalogError, CloudBakerError, Conflict, NotFound, UsageError

SORTED_BY = ("asset", "run_id", "tenant", "storage_key", "seq")
"""A table is sorted by the first of these that it has; an asset's name begins with its tenant's."""
ROW_GROUP = 100_000
"""Rows that are read at least: some 5 ms."""
TRIES = 20
_MEMORY = "1GB"
"""Of sorting a month; what is more goes to the disk."""
SHORTEST_RETENTION = timedelta(hours=1)
"""In a bucket, where no lock keeps the files of a commit under way from being taken for left-overs."""
SNAPSHOTS = {
    "blobs": "SELECT * EXCLUDE (state, lease_until) FROM blobs WHERE refcount > 0 ORDER BY sha256, tenant, zone",
    "assets": (
        "SELECT a.*, v.created_at AS latest_at, v.recipe, v.size_bytes, v.channels "
        "FROM assets AS a LEFT JOIN latest_versions AS v USING (asset) ORDER BY asset"
    ),
    "usage_daily": "SELECT * FROM usage_daily ORDER BY tenant, day, kind, subject, project",
}
"""Tables below ``snapshots/``, each written anew by maintenance: for other tools, and in an order of their own."""


def status(core: Core, tables: Tables) -> list[TableStatus]:
    """See `cloudbaker.catalog.core.Catalog.tables`."""
    return [_status(core, tables, table) for table in FACTS]


def _status(core: Core, tables: Tables, table: sa.Table) -> TableStatus:
    after, problem, files, version = 0, "", _files(None), 0
    try:
        with tables.damaged(table.name):
            delta = tables.open(table.name)
            files = _files(delta)
            version = -1 if delta is None else delta.version()
            who = owner(core)
            with core.read() as connection:
                after = who.check(core, connection, table, delta)
    except CloudBakerError as error:
        problem = error.message
    with core.read() as connection:
        at = position(core, table)
        behind = connection.execute(sa.select(sa.func.count()).select_from(table).where(at > after)).scalar_one()
    return TableStatus(
        table=table.name,
        rows=sum(files["num_records"].to_pylist()),
        files=files.num_rows,
        bytes=sum(files["size_bytes"].to_pylist()),
        version=version,
        watermark=after,
        behind=behind,
        uncompacted=_scattered(files),
        problem=problem,
    )


def maintain(
    core: Core,
    tables: Tables,
    *,
    plan: bool,
    compact: bool,
    retention: timedelta,
    progress: Callable[[str, int], None] | None = None,
) -> MaintenanceReport:
    """See `cloudbaker.catalog.core.Catalog.maintain_tables`."""
    tables.check()
    if tables.folder is None and retention < SHORTEST_RETENTION:
        raise UsageError(
            "keep files of tables in a bucket for at least an hour after they were replaced: a commit may be under way"
        )
    with tables.only_one() as alone:
        if not alone:
            return MaintenanceReport(plan, busy=True)
        if compact and not plan:
            export_alone(core, tables, progress=progress)
        work = []
        for table in FACTS:
            done = _maintain(tables, table, plan=plan, compact=compact, retention=retention)
            if done.compacted or done.removed or done.note:
                work.append(done)
            if progress is not None:
                progress(table.name, done.files_after)
        rows = {}
        if compact and not plan:
            rows = snapshots(core, tables, progress=progress)
        for name in () if plan else (COMPLETE, *(f"snapshots/{short}" for short in SNAPSHOTS)):
            with tables.damaged(name):
                if (delta := tables.open(name)) is not None:
                    tidy(delta, retention)
    return MaintenanceReport(plan, tuple(work), rows)


def _maintain(tables: Tables, table: sa.Table, *, plan: bool, compact: bool, retention: timedelta) -> TableWork:
    name = table.name
    with tables.damaged(name):
        delta = tables.open(name)
        if delta is None:
            return TableWork(name)
        before = _files(delta)
        months = _scattered(before) if compact else ()
        if plan:
            after = before.num_rows - sum(_per_month(before)[month] - 1 for month in months)
            return TableWork(name, months, before.num_rows, after, len(_outdated(delta, retention)))
        months = tuple(month for month in months if compact_month(tables, table, month))
        delta = tables.open(name) or delta
        return TableWork(name, months, before.num_rows, _files(delta).num_rows, tidy(delta, retention))


def compact_month(tables: Tables, table: sa.Table, month: str) -> bool:
    """One month of a table into one sorted file; False if there was nothing to do, or somebody else did it."""
    delta = tables.open(table.name)
    if delta is None:
        return False
    old = [file for file in _actions(delta) if file["partition.month"] == month]
    if len(old) < 2:
        return False
    files = pa_fs.PyFileSystem(DeltaStorageHandler(tables.uri(table.name), tables.options))
    added = _sorted_file(delta, table, month, files)
    now = int(time.time() * 1000)
    removed = [
        RemoveAction(file["path"], False, now, file["size_bytes"], {"month": month})  # not a change of data
        for file in old
    ]
    for _ in range(TRIES):
        try:
            delta.create_write_transaction(
                [*removed, added],
                "append",
                delta.schema(),
                partition_by=["month"],
                commit_properties=deltalake.CommitProperties(max_commit_retries=0),
            )
            return True
        except CommitFailedError:  # somebody published, or compacted
            delta = tables.open(table.name)
            if delta is None or not {file["path"] for file in old} <= {file["path"] for file in _actions(delta)}:
                break
    files.delete_file(added.path)
    return False


def _sorted_file(delta: deltalake.DeltaTable, table: sa.Table, month: str, files: pa_fs.FileSystem) -> AddAction:
    """Write all rows of a month, in order; what the log is to say of the file."""
    key = next(name for name in SORTED_BY if name in table.c)
    path = f"month={month}/part-00000-{uuid.uuid4()}-c000.zstd.parquet"
    # By all columns that the table has, which may be more than this release knows.
    data = delta.to_pyarrow_dataset().filter(pc.field("month") == month)
    rows = 0
    with (
        tempfile.TemporaryDirectory(prefix="cloudbaker-compact-") as spill,
        duckdb.connect(":memory:", config={"temp_directory": spill, "memory_limit": _MEMORY}) as duck,
    ):
        duck.execute("SET TimeZone = 'UTC'")
        duck.register("rows", data)
        # `seq` after the key: the same rows make the same file.
        reader = duck.sql(f'SELECT * EXCLUDE (month) FROM rows ORDER BY "{key}", seq').to_arrow_reader(ROW_GROUP)
        schema = pa.schema([f for f in data.schema if f.name != "month"])
        with files.open_output_stream(path) as out, pq.ParquetWriter(out, schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch.cast(schema), row_group_size=ROW_GROUP)
                rows += batch.num_rows
    [info] = files.get_file_info([path])
    return AddAction(
        path, info.size, {"month": month}, int(time.time() * 1000), False, json.dumps({"numRecords": rows})
    )


def tidy(delta: deltalake.DeltaTable, retention: timedelta) -> int:
    """Remove files that were replaced before `retention`, and the log from before a new checkpoint; how many files."""
    removed = _outdated(delta, retention)
    if removed:  # it writes two commits, whatever it finds
        _vacuum(delta, retention, dry_run=False)
    if delta.version() > 0:
        delta.create_checkpoint()
        delta.cleanup_metadata()
    return len(removed)


def _outdated(delta: deltalake.DeltaTable, retention: timedelta) -> list[str]:
    return _vacuum(delta, retention, dry_run=True)


def _vacuum(delta: deltalake.DeltaTable, retention: timedelta, *, dry_run: bool) -> list[str]:
    hours = int(retention / timedelta(hours=1))
    # `full`: those too that a killed writer left and no commit names.
    return delta.vacuum(hours, dry_run=dry_run, enforce_retention_duration=False, full=True)


# ---- snapshots


def snapshots(core: Core, tables: Tables, *, progress: Callable[[str, int], None] | None = None) -> dict[str, int]:
    """Write each of `SNAPSHOTS` anew, all of one moment; their rows."""
    from cloudbaker.catalog.views import connect

    rows = {}
    with connect(core, tables) as duck:
        for short, query in SNAPSHOTS.items():
            name = f"snapshots/{short}"
            # As one table: DuckDB's reader would be used by Delta's own threads.
            data = duck.sql(query).to_arrow_table()
            with tables.damaged(name):
                _replace(tables, name, data)
            rows[short] = data.num_rows
            if progress is not None:
                progress(name, data.num_rows)
    return rows


def _replace(tables: Tables, name: str, data: pa.Table) -> None:
    try:
        tables.create(name, data.schema)
        delta = tables.open(name)
    except (DeltaError, pa.ArrowException):  # damaged: nothing of it is missed
        tables.put_aside(name)
        tables.create(name, data.schema)
        delta = tables.open(name)
    if delta is None:
        raise CatalogError(f"the snapshot {name} was removed while it was written: run this again")
    deltalake.write_deltalake(
        delta, data, mode="overwrite", schema_mode="overwrite", writer_properties=_writer(), target_file_size=256 << 20
    )


def _writer() -> deltalake.WriterProperties:
    return deltalake.WriterProperties(compression="ZSTD", max_row_group_size=ROW_GROUP)


def due(tables: Tables, before: datetime) -> bool:
    """Whether the snapshots are older than that, or not there."""
    name = f"snapshots/{next(reversed(SNAPSHOTS))}"
    try:
        with tables.damaged(name):
            delta = tables.open(name)
            written = [file["modification_time"] for file in _actions(delta)] if delta is not None else []
    except CatalogError:
        return True  # damaged: written anew
    return max(written, default=0) < before.timestamp() * 1000


# ---- repair


def repair(core: Core, tables: Tables, names: Sequence[str]) -> RepairReport:
    """See `cloudbaker.catalog.core.Catalog.repair_tables`."""
    tables.check()
    known = {table.name: table for table in FACTS}
    if unknown := sorted(set(names) - set(known)):
        raise NotFound(f"there is no published table {unknown[0]}: there are {', '.join(known)}", table=unknown[0])
    aside, rows = {}, {}
    with tables.only_one() as alone:
        if not alone:
            raise Conflict("the tables are being written to by another process: try again when it is done")
        if not names:
            # Whatever is there, and wherever this database was copied from: it publishes as a core of its own.
            with core.write() as connection:
                resettle(connection, uuid.uuid4().hex)
        who = settle(core)
        for name in names or known:
            with tables.damaged(name):
                if (where := tables.put_aside(name)) is not None:
                    aside[name] = where
            rows[name] = export_table(core, tables, known[name], who=who)
        tables.put_aside(COMPLETE)
        export_alone(core, tables)
    return RepairReport(rows, aside)


# ---- files


def _files(delta: deltalake.DeltaTable | None) -> pa.Table:
    """Size, rows and month of each of a table's files."""
    found = [] if delta is None else _actions(delta)
    return pa.table({name: [file[name] for file in found] for name in ("size_bytes", "num_records", "partition.month")})


def _actions(delta: deltalake.DeltaTable) -> list[dict[str, Any]]:
    """What the log says of a table's files."""
    return pa.table(delta.get_add_actions(flatten=True)).to_pylist() if delta.file_uris() else []


def _per_month(files: pa.Table) -> Counter[str]:
    return Counter(files["partition.month"].to_pylist())


def _scattered(files: pa.Table) -> tuple[str, ...]:
    """Months with more than one file."""
    return tuple(sorted(month for month, count in _per_month(files).items() if count > 1))
