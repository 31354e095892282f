"""The exporter: every fact of the core into Delta tables (Parquet), exactly once, whoever dies or competes.

The rows and the watermark (the highest `seq` among them) are one Delta commit: the watermark is the commit's ``txn``
action (Delta protocol, "Transaction Identifiers"). An exporter that was killed has either committed both or neither;
one that was overtaken fails its commit (no retries) and looks again. Measured in the prototype: 20 kills and three
rivals, no row lost, none doubled.

This holds because `seq` grows in commit order, which it does with one writer at a time (`engine.py`). On Postgres it
would not: going by ``seq > last`` lost 103 of 5,812 rows there.

Partitioned by month alone: by tenant, small tenants would have thousands of tiny files.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import sqlalchemy as sa
from deltalake.exceptions import CommitFailedError, DeltaError
from sqlalchemy.engine import Connection

from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.records import ExportReport
from cloudbaker.catalog.schema import FACTS, MUTABLE, Json, UtcTime
from cloudbaker.errors import CatalogError, CloudBakerError, Conflict, StoreError, UsageError

APP = "cloudbaker"
"""Name of the watermark among a Delta table's transaction identifiers."""
BATCH = 50_000
"""Rows of one commit, at most: some 10 to 50 MB in memory."""
_TRIES = 20


def export(core: Core, published: Path) -> ExportReport:
    """Publish what is new in every fact table. See `cloudbaker.catalog.core.Catalog.export`."""
    if not can_publish(published):
        raise UsageError(f"can't publish under {published}, for its '%': give CLOUDBAKER_HOME a path without one")
    rows: dict[str, int] = {}
    with _only_one(published) as alone:
        if not alone:
            return ExportReport(busy=True)
        for table in FACTS:
            if count := export_table(core, published, table):
                rows[table.name] = count
    return ExportReport(rows)


def export_table(core: Core, published: Path, table: sa.Table) -> int:
    """Publish what is new in one table; how many rows. Correct without `_only_one`, which merely saves work."""
    total = overtaken = 0
    with damaged(published, table):
        while True:
            # The watermark has to be that of the very snapshot that the commit goes on top of. Also, a long-lived
            # handle slows down to 250 ms a commit.
            delta, last = open_table(published, table)
            with core.read() as connection:
                batch = read_facts(connection, table, after=last, limit=BATCH)
            if batch.num_rows == 0:
                return total
            watermark = deltalake.Transaction(APP, batch["seq"][-1].as_py())
            commit = deltalake.CommitProperties(app_transactions=[watermark], max_commit_retries=0)
            try:
                if delta is None:
                    _create(published, table)  # and look again: a rival may have created it, and published
                    continue
                deltalake.write_deltalake(delta, _with_month(batch), mode="append", commit_properties=commit)
            except CommitFailedError as error:  # a rival was faster, with the same rows: see how far it came
                overtaken += 1
                if overtaken == _TRIES:
                    raise Conflict(
                        f"somebody else keeps publishing {table.name} at the same time: run one exporter, and try again"
                    ) from error
                continue
            total += batch.num_rows


def open_table(published: Path, table: sa.Table) -> tuple[deltalake.DeltaTable | None, int]:
    """The Delta table as it is now, None if there is none yet, and its watermark: the highest `seq` that is in it."""
    path = str(published / table.name)
    if not can_publish(published) or not deltalake.DeltaTable.is_deltatable(path):
        return None, 0
    delta = deltalake.DeltaTable(path)
    return delta, delta.transaction_version(APP) or 0


def can_publish(published: Path) -> bool:
    """Whether Delta can find tables there: deltalake 1.6 takes a folder "a%20b" for "a b", however it is written."""
    return "%" not in str(published.absolute())


def read_facts(connection: Connection, table: sa.Table, *, after: int, limit: int = -1) -> pa.Table:
    """Rows with a higher `seq` than `after`, in its order, as Arrow; columns that change are left out."""
    columns = fact_columns(table)
    names = ", ".join(f'"{column.name}"' for column in columns)
    # Past SQLAlchemy's result types: Arrow takes microseconds and JSON text as they are, ten times as fast.
    rows = connection.exec_driver_sql(
        f'SELECT {names} FROM "{table.name}" WHERE seq > ? ORDER BY seq LIMIT ?',  # names of our own schema only
        (after, limit),
    ).fetchall()
    return to_arrow(columns, rows)


def to_arrow(columns: list[sa.Column[Any]], rows: Any) -> pa.Table:
    """Rows as the driver gives them, as an Arrow table."""
    values = list(zip(*rows, strict=True)) or [()] * len(columns)
    return pa.table(
        {c.name: pa.array(v, type=_arrow_type(c)) for c, v in zip(columns, values, strict=True)},
    )


def fact_columns(table: sa.Table) -> list[sa.Column[Any]]:
    """The columns of a fact that never change."""
    return [column for column in table.columns if column.info != MUTABLE]


def _arrow_type(column: sa.Column[Any]) -> pa.DataType:
    match column.type:
        case UtcTime():
            return pa.timestamp("us", tz="UTC")
        case Json() | sa.Text():
            return pa.string()
        case sa.Double():
            return pa.float64()
        case sa.Boolean():
            return pa.bool_()
        case sa.BigInteger() | sa.Integer():
            return pa.int64()
        case other:
            raise TypeError(f"no Arrow type for {column.table.name}.{column.name}: {other!r}")


def _with_month(batch: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    return batch.append_column("month", pc.strftime(batch["created_at"], format="%Y-%m"))


def _create(published: Path, table: sa.Table) -> None:
    schema = pa.schema(
        [pa.field(c.name, _arrow_type(c)) for c in fact_columns(table)] + [pa.field("month", pa.string())]
    )
    path = published / table.name
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    deltalake.DeltaTable.create(str(path), schema=schema, mode="ignore", partition_by=["month"])


@contextmanager
def damaged(published: Path, table: sa.Table) -> Iterator[None]:
    """Turns what Delta raises into the typed error that names the remedy."""
    try:
        yield
    except CloudBakerError:
        raise
    except OSError as error:
        raise StoreError(
            f"the published tables under {published} can't be read or written: free some space there, or make the "
            "folder writable",
            detail=str(error),
        ) from error
    except (DeltaError, pa.ArrowException) as error:
        raise CatalogError(
            f"the published table {table.name} is damaged: move {published / table.name} away, and the next export "
            "publishes it anew from the core, which has every row",
            detail=str(error),
            table=table.name,
        ) from error


@contextmanager
def _only_one(published: Path) -> Iterator[bool]:
    try:
        published.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(published / ".export.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"can't write to {published}: make the folder writable", detail=str(error)) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)
