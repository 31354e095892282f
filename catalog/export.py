"""The exporter: every fact of the core into Delta tables (Parquet), exactly once, whoever dies or competes.

The rows and the watermark (the highest position among them, see `tail.py`) are one Delta commit, by its ``txn`` actions
(see `published.py`). An exporter that was killed has either committed both or neither; one that was overtaken fails its
commit (no retries) and looks again. Measured in the prototype: 20 kills and three rivals, no row lost, none doubled.

Partitioned by month alone: by tenant, small tenants would have thousands of tiny files.
"""

from __future__ import annotations

from collections.abc import Callable

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
from cloudbaker.catalog.tail import position, span
from cloudbaker.errors import Conflict

BATCH = 50_000
"""Rows of one commit, more or less: some 10 to 50 MB in memory."""
_TRIES = 20


def export(core: Core, tables: Tables, *, progress: Callable[[str, int], None] | None = None) -> ExportReport:
    """Publish what is new in every fact table. See `cloudbaker.catalog.core.Catalog.export`.

    `progress(table, rows)` is told of each commit.
    """
    tables.check()
    rows: dict[str, int] = {}
    with tables.only_one() as alone:
        if not alone:
            return ExportReport(busy=True)
        who = settle(core)
        for table in FACTS:
            if count := export_table(core, tables, table, who=who, progress=progress):
                rows[table.name] = count
    return ExportReport(rows)


def export_table(
    core: Core,
    tables: Tables,
    table: sa.Table,
    *,
    who: Owner | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> int:
    """Publish what is new in one table; how many rows. Correct without `only_one`, which merely saves work."""
    who = who or settle(core)
    total = overtaken = 0
    with tables.damaged(table.name):
        while True:
            # The watermark has to be that of the very snapshot that the commit goes on top of.
            delta = tables.open(table.name)
            with core.read() as connection:
                last = who.check(core, connection, table, delta)
                upto = span(core, connection, table, last, BATCH)
                batch = read_facts(core, connection, table, after=last, upto=upto)
                newest = last_row(core, connection, table, upto)
            if batch.num_rows == 0:
                return total
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
