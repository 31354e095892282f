"""Care of the published tables: what state they are in, compaction, snapshots, removal of what was replaced, repair.

Compaction makes one sorted file (or some, of 256 MB) of each month's, so that a question about one asset reads a few
row groups. Writers go on meanwhile: exporters that were overtaken look again, and rows are only moved, never changed.

Two compactions of one table at once are kept apart by a ``txn`` action. deltalake 1.6 does not notice them: the second,
begun on the same files, removed them once more and added its own, so that of 40 rows 70 were left (measured). Two
transactions of one application, however, do conflict.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta

import deltalake
import pyarrow as pa
import sqlalchemy as sa
from deltalake.exceptions import CommitFailedError, DeltaError

from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.export import COMPLETE, export_alone, export_table
from cloudbaker.catalog.published import Tables, owner, resettle, settle
from cloudbaker.catalog.records import MaintenanceReport, RepairReport, TableStatus, TableWork
from cloudbaker.catalog.schema import FACTS
from cloudbaker.catalog.tail import position
from cloudbaker.errors import CatalogError, CloudBakerError, Conflict, NotFound, UsageError

COMPACTION = "cloudbaker.compaction"
"""Counts a table's compactions among its transaction identifiers."""
SORTED_BY = ("asset", "run_id", "tenant", "storage_key", "seq")
"""A table is sorted by the first of these that it has; an asset's name begins with its tenant's."""
ROW_GROUP = 100_000
"""Rows that are read at least: some 5 ms."""
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
        try:
            for month in months:
                compact_month(tables, table, month)
        except CommitFailedError:
            return TableWork(name, (), before.num_rows, before.num_rows, note="somebody else was compacting it")
        delta = tables.open(name) or delta
        return TableWork(name, months, before.num_rows, _files(delta).num_rows, tidy(delta, retention))


def compact_month(tables: Tables, table: sa.Table, month: str) -> None:
    """One month of a table into one sorted file. Raises `CommitFailedError` if somebody else did just that."""
    delta = tables.open(table.name)
    if delta is None:
        return
    key = next(name for name in SORTED_BY if name in table.c)
    count = (delta.transaction_version(COMPACTION) or 0) + 1
    delta.optimize.z_order(
        [key],  # of one column: in its order
        partition_filters=[("month", "=", month)],
        writer_properties=_writer(),
        commit_properties=deltalake.CommitProperties(app_transactions=[deltalake.Transaction(COMPACTION, count)]),
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
    names = ("size_bytes", "num_records", "partition.month")
    if delta is None or not delta.file_uris():
        return pa.table({name: pa.array([], type=pa.int64()) for name in names})
    actions = pa.table(delta.get_add_actions(flatten=True))
    return actions.select([name for name in names if name in actions.schema.names])


def _per_month(files: pa.Table) -> Counter[str]:
    return Counter(files["partition.month"].to_pylist())


def _scattered(files: pa.Table) -> tuple[str, ...]:
    """Months with more than one file."""
    return tuple(sorted(month for month, count in _per_month(files).items() if count > 1))
