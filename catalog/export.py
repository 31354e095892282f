"""The exporter: every fact of the core into Delta tables (Parquet), exactly once, whoever dies or competes.

The rows and the watermark (the highest position among them, see `tail.py`) are one Delta commit, by its ``txn`` actions
(see `published.py`). An exporter that was killed has either committed both or neither; one that was overtaken fails its
commit (no retries) and looks again. Measured in the prototype: 20 kills and three rivals, no row lost, none doubled.

Partitioned by month alone: by tenant, small tenants would have thousands of tiny files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import deltalake
import pyarrow as pa
import sqlalchemy as sa
from deltalake.exceptions import CommitFailedError
from sqlalchemy.engine import Connection

from cloudbaker.catalog.arrow import fact_columns, fetch, schema_of
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.published import Owner, Tables, last_row, settle
from cloudbaker.catalog.records import ExportReport
from cloudbaker.catalog.schema import FACTS
from cloudbaker.catalog.tail import horizon, position, span
from cloudbaker.errors import CatalogError, Conflict

BATCH = 50_000
"""Rows of one commit, more or less: some 10 to 50 MB in memory."""
COMPLETE = "snapshots/complete"
"""The table that says which version of each table belongs to one moment."""
_TRIES = 20


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a table was at some moment."""

    version: int
    """Of its Delta log; -1: there was no table."""
    app: str
    watermark: int
    """As of `published.Owner`. While it is the same the rows are, whatever a compaction has done to their files."""


Progress = Callable[[str, int], None]
"""Is told of each commit: the table, and its rows."""


def export(core: Core, tables: Tables, *, progress: Progress | None = None) -> ExportReport:
    """Publish what is new in every fact table. See `cloudbaker.catalog.core.Catalog.export`.

    All tables are brought to one moment of the core, and which commits that are is written down at the end
    (`COMPLETE`): a core that is made from the tables alone is then one that has been.
    """
    tables.check()
    with tables.only_one() as alone:
        return export_alone(core, tables, progress=progress) if alone else ExportReport(busy=True)


def export_alone(core: Core, tables: Tables, *, progress: Progress | None = None) -> ExportReport:
    """`export` under the lock of `Tables.only_one`."""
    who = settle(core)
    with core.read() as connection:
        bounds = {table: horizon(core, connection, table) for table in FACTS}
    rows: dict[str, int] = {}
    cut: dict[str, Cut] = {}
    for table in FACTS:
        count, reached = _export(core, tables, table, who, bounds[table], progress)
        if count:
            rows[table.name] = count
        if reached is not None:
            cut[table.name] = reached
    if len(cut) == len(FACTS):  # else a rival is ahead, and writes it down
        write_complete(tables, cut)
    return ExportReport(rows)


def export_table(
    core: Core, tables: Tables, table: sa.Table, *, who: Owner | None = None, progress: Progress | None = None
) -> int:
    """Publish what is new in one table; how many rows. Correct without `only_one`, which merely saves work."""
    return _export(core, tables, table, who or settle(core), None, progress)[0]


def _export(
    core: Core, tables: Tables, table: sa.Table, who: Owner, bound: int | None, progress: Progress | None
) -> tuple[int, Cut | None]:
    """Rows published, and where the table is if it holds those up to `bound` and no others."""
    total = overtaken = 0
    with tables.damaged(table.name):
        while True:
            # The watermark has to be that of the very snapshot that the commit goes on top of.
            delta = tables.open(table.name)
            with core.read() as connection:
                last = who.check(core, connection, table, delta)
                upto = span(core, connection, table, last, BATCH)
                upto = upto if bound is None else min(upto, bound)
                batch = read_facts(core, connection, table, after=last, upto=upto)
                newest = last_row(core, connection, table, upto)
            if batch.num_rows == 0:
                reached = Cut(-1 if delta is None else delta.version(), who.app, last)
                return total, reached if bound is None or last <= bound else None
            if delta is None:
                create(tables, table)  # and look again: a rival may have created it, and published
                continue
            marks = who.transactions(upto, newest)
            try:
                deltalake.write_deltalake(
                    delta,
                    _with_month(batch),
                    mode="append",
                    # A column that is newer than the table: the rows that are there have none of it.
                    schema_mode="merge" if _lacks(delta, batch) else None,
                    commit_properties=deltalake.CommitProperties(app_transactions=marks, max_commit_retries=0),
                )
            except CommitFailedError as error:  # a rival was faster, with the same rows: see how far it came
                overtaken += 1
                if overtaken == _TRIES:
                    raise Conflict(
                        f"somebody else keeps publishing {table.name} at the same time: run one exporter, and try again"
                    ) from error
                continue
            total += batch.num_rows
            if progress is not None:
                progress(table.name, batch.num_rows)


def complete(tables: Tables) -> dict[str, Cut] | None:
    """Where each table was at the end of the last export that came to its end; None if there was none."""
    with tables.damaged(COMPLETE):
        delta = tables.open(COMPLETE)
        rows = delta.to_pyarrow_table().to_pylist() if delta is not None else []
    return {row["table"]: Cut(row["version"], row["app"], row["watermark"]) for row in rows} or None


def write_complete(tables: Tables, cut: dict[str, Cut]) -> None:
    """Write down where the tables are at one moment."""
    with tables.damaged(COMPLETE):
        try:
            if complete(tables) == cut:
                return
        except CatalogError:  # damaged: written anew
            tables.put_aside(COMPLETE)
        data = pa.table(
            {"table": list(cut), **{f.name: [getattr(c, f.name) for c in cut.values()] for f in fields(Cut)}}
        )
        tables.create(COMPLETE, data.schema)
        delta = tables.open(COMPLETE)
        # Two that come to an end at once: whichever is written down last, it is true.
        deltalake.write_deltalake(delta or tables.uri(COMPLETE), data, mode="overwrite")


def read_facts(
    core: Core, connection: Connection, table: sa.Table, *, after: int = 0, upto: int | None = None
) -> pa.Table:
    """Rows above one position and up to another, by `seq`, as Arrow; columns that change are left out."""
    at = position(core, table).name
    until = "" if upto is None else f"AND {at} <= {upto:d}"
    return fetch(connection, fact_columns(table), f"WHERE {at} > {after:d} {until} ORDER BY seq")


def published_schema(table: sa.Table) -> pa.Schema:
    """Of a fact's Delta table."""
    return schema_of(fact_columns(table)).append(pa.field("month", pa.string()))


def create(tables: Tables, table: sa.Table) -> None:
    """Create a fact's Delta table, if it is not there."""
    tables.create(table.name, published_schema(table), partition_by=["month"])


def _with_month(batch: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    return batch.append_column("month", pc.strftime(batch["created_at"], format="%Y-%m"))


def _lacks(delta: deltalake.DeltaTable, batch: pa.Table) -> bool:
    return not {field.name for field in delta.schema().fields}.issuperset(batch.schema.names)
