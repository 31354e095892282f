"""Where the published Delta tables are, a folder or a prefix of a bucket, and whose they are.

Each commit of the exporter carries, beside its rows, three numbers as Delta's ``txn`` actions (Delta protocol,
"Transaction Identifiers"), so that they are there exactly if the rows are:

| app id | number |
|---|---|
| ``cloudbaker`` (SQLite), ``cloudbaker/<core_id>`` (Postgres) | the watermark: every row at a position up to it is in |
| ``cloudbaker.owner`` | the core that the rows are from |
| ``cloudbaker.last_row`` | the `created_at` of the last of them, in microseconds |

The second and third keep a core that was put back from an older backup, or made anew beside old tables, from going on
where another left off: its rows would be taken for published ones and be lost. A Postgres database says also in which
cluster it is, since transactions are numbered anew where a dump of it is restored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import sqlalchemy as sa
from deltalake.exceptions import DeltaError, TableNotFoundError
from sqlalchemy.engine import Connection

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.locks import alone
from cloudbaker.catalog.tail import position
from cloudbaker.errors import CatalogError, CatalogReplaced, CloudBakerError, StoreError, UsageError

APP = "cloudbaker"
"""Name of the watermark among a Delta table's transaction identifiers."""
OWNER = "cloudbaker.owner"
LAST_ROW = "cloudbaker.last_row"
CLUSTER = "cluster"
"""Row of `schema.catalog_info`: the Postgres cluster and database that first published."""
WHERE = (
    "(SELECT system_identifier FROM pg_control_system())::text || '/' || "
    "(SELECT oid FROM pg_database WHERE datname = current_database())::text"
)
"""Cluster and database, as Postgres numbers them."""
PROPERTIES = {
    # The log is for writers that were overtaken, not for history: that is in the rows.
    "delta.logRetentionDuration": "interval 1 days",
    "delta.enableExpiredLogCleanup": "true",
    "delta.deletedFileRetentionDuration": "interval 1 days",
    "delta.checkpointInterval": "50",
}
_AT_ONCE = 8
_S3_SECONDS = 30
"""After which a request to the bucket is given up; delta-rs would go on for three minutes."""


class Tables:
    """The place of the published tables. It need not be there yet."""

    def __init__(self, where: str | Path, *, endpoint: str = "") -> None:
        """`where`: a folder, or ``s3://bucket/prefix``; `endpoint`: URL of an S3-compatible server."""
        text = str(where)
        self.endpoint = endpoint
        self.folder: Path | None = None
        """None in a bucket."""
        if text.startswith("s3://"):
            self.url = text.rstrip("/")
        elif re.match(r"[a-z][a-z0-9+.-]+://", text):
            raise UsageError(
                f"CLOUDBAKER_TABLES_URL {text!r} is no place for tables: write a folder, or s3://bucket/prefix"
            )
        else:
            self.folder = Path(text.removeprefix("folder:")).absolute()
            self.url = str(self.folder)

    @classmethod
    def at(cls, where: str | Path | Tables, *, endpoint: str = "") -> Tables:
        """`Tables` of a place, or the one that it is already."""
        return where if isinstance(where, Tables) else cls(where, endpoint=endpoint)

    def __str__(self) -> str:
        return self.url

    @property
    def usable(self) -> bool:
        """Whether Delta finds its tables again: deltalake 1.6 takes a folder "a%20b" for "a b", however written."""
        return "%" not in self.url

    def check(self) -> None:
        """Raises `UsageError` where Delta could not find its tables again."""
        if not self.usable:
            raise UsageError(
                f"can't publish under {self.url}, for its '%': give CLOUDBAKER_HOME or CLOUDBAKER_TABLES_URL a path "
                "without one"
            )

    def uri(self, name: str) -> str:
        """Of one table, as Delta wants it."""
        return f"{self.url}/{name}"

    def open(self, name: str) -> deltalake.DeltaTable | None:
        """The table as it is now, None if there is none. A handle that is kept slows down to 250 ms a commit."""
        if not self.usable:
            return None
        try:  # and not `is_deltatable`, which holds the interpreter's lock while it waits for a bucket
            return deltalake.DeltaTable(self.uri(name), storage_options=self.options)
        except TableNotFoundError:
            return None

    def open_all(self, names: Sequence[str]) -> dict[str, deltalake.DeltaTable | None]:
        """`open` of several, side by side where each waits for a network. Raises as `damaged` does."""

        def opened(name: str) -> deltalake.DeltaTable | None:
            with self.damaged(name):
                return self.open(name)

        if self.folder is not None:
            return {name: opened(name) for name in names}
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="tables") as pool:
            return dict(zip(names, pool.map(opened, names), strict=True))

    def create(self, name: str, schema: pa.Schema, *, partition_by: list[str] | None = None) -> None:
        """Create a table, if it is not there."""
        if self.folder is not None:
            (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        deltalake.DeltaTable.create(
            self.uri(name),
            schema=schema,
            mode="ignore",
            partition_by=partition_by,
            configuration=PROPERTIES,
            storage_options=self.options,
        )

    @cached_property
    def _session(self) -> Any:
        import boto3

        return boto3.Session()

    @property
    def options(self) -> dict[str, str] | None:
        """For delta-rs: boto3's credentials (asked for each time, as they may be short-lived), region and endpoint."""
        if self.folder is not None:
            return None
        credentials = self._session.get_credentials()
        options = {
            "aws_region": self._session.region_name or "us-east-1",
            "retry_timeout": f"{_S3_SECONDS}s",
            "conditional_put": "etag",  # a commit that somebody else was first with is refused by the bucket itself
        }
        if credentials is not None:
            frozen = credentials.get_frozen_credentials()
            options |= {"aws_access_key_id": frozen.access_key, "aws_secret_access_key": frozen.secret_key}
            if frozen.token:
                options["aws_session_token"] = frozen.token
        if self.endpoint:
            options["aws_endpoint_url"] = self.endpoint
            options["aws_allow_http"] = str(self.endpoint.startswith("http://")).lower()
        return options

    @contextmanager
    def damaged(self, name: str) -> Iterator[None]:
        """Turns what Delta raises about a table into the typed error that names the remedy."""
        try:
            yield
        except CloudBakerError:
            raise
        except OSError as error:
            how = (
                "free some space there, or make the folder writable"
                if self.folder is not None
                else "check the bucket, the credentials and CLOUDBAKER_S3_ENDPOINT"
            )
            raise StoreError(
                f"the published tables under {self.url} can't be read or written: {how}", detail=str(error)
            ) from error
        except (DeltaError, pa.ArrowException) as error:
            raise CatalogError(
                f"the published table {name} is damaged: `cloudbaker catalog tables repair {name}` puts it aside and "
                "publishes it anew from the core, which has every row",
                detail=str(error),
                table=name,
            ) from error

    @contextmanager
    def only_one(self) -> Iterator[bool]:
        """Whether nobody else of this machine writes to the tables meanwhile. Spares work; nothing relies on it.

        In a bucket always true: there Delta's own commits decide, as they would here.
        """
        if self.folder is None:
            yield True
            return
        with ExitStack() as stack:
            try:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                ours = stack.enter_context(alone(self.folder / ".export.lock"))
            except OSError as error:
                raise StoreError(
                    f"can't write to {self.folder}: make the folder writable", detail=str(error)
                ) from error
            yield ours

    def put_aside(self, name: str) -> str | None:
        """Move a table, whatever state it is in, out of the way; where it is now, None if there was nothing."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        if self.folder is not None:
            here, there = self.folder / name, self.folder / ".aside" / f"{name}-{stamp}"
            if not here.exists():
                return None
            there.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            here.rename(there)
            return str(there)
        from cloudbaker.catalog.stores.s3 import S3Options, S3Store

        store = S3Store(self.url, S3Options(self.endpoint))
        there_key = f".aside/{name}-{stamp}/"
        keys = [key for page in self._pages(store, f"{store.prefix}{name}/") for key in page]
        # The log last: until then readers see the table, or an error, and never a part of it. Copied within the server.
        for key in sorted(keys, key=lambda key: "/_delta_log/" in key):
            target = f"{store.prefix}{there_key}{key.removeprefix(f'{store.prefix}{name}/')}"
            store.client.copy_object(Bucket=store.bucket, Key=target, CopySource={"Bucket": store.bucket, "Key": key})
            store.client.delete_object(Bucket=store.bucket, Key=key)
        return f"{self.url}/{there_key}" if keys else None

    @staticmethod
    def _pages(store: Any, prefix: str) -> Iterator[list[str]]:
        for page in store.client.get_paginator("list_objects_v2").paginate(Bucket=store.bucket, Prefix=prefix):
            yield [found["Key"] for found in page.get("Contents", [])]


@dataclass(frozen=True, slots=True)
class Owner:
    """A core, as the commits of its published tables name it."""

    core_id: str
    postgres: bool

    @property
    def app(self) -> str:
        """Name of its watermark. On SQLite the one of the first release, whose tables go on."""
        return f"{APP}/{self.core_id}" if self.postgres else APP

    @property
    def number(self) -> int:
        """Of `core_id` as many bits as a version of a transaction identifier holds."""
        return int(self.core_id[:15], 16)

    def watermark(self, delta: deltalake.DeltaTable | None) -> int:
        """How far the table goes, 0 without one."""
        return 0 if delta is None else delta.transaction_version(self.app) or 0

    def transactions(self, upto: int, last_row: int | None) -> list[deltalake.Transaction]:
        """What a commit of rows up to this position carries; `last_row` as of `last_row`."""
        marks = [deltalake.Transaction(self.app, upto), deltalake.Transaction(OWNER, self.number)]
        return marks + ([deltalake.Transaction(LAST_ROW, last_row)] if last_row is not None else [])

    def check(self, core: Core, connection: Connection, table: sa.Table, delta: deltalake.DeltaTable | None) -> int:
        """The watermark of a table, if what is published of it is from this core as it is now.

        Raises `CatalogReplaced` if not: another core's, or of a later state than this one's.
        """
        if delta is None:
            return 0
        upto = self.watermark(delta)
        owned = delta.transaction_version(OWNER)
        if owned is not None and owned != self.number:
            raise CatalogReplaced(
                f"the published table {table.name} was written from another core: `cloudbaker catalog rebuild` makes a "
                "new core from the tables; `cloudbaker catalog tables repair --all` publishes this one anew",
                table=table.name,
            )
        last = delta.transaction_version(LAST_ROW)
        if owned is not None and last != last_row(core, connection, table, upto):
            raise CatalogReplaced(
                f"the published table {table.name} was written from a later state of this catalog: was its database "
                "put back from a backup? `cloudbaker catalog rebuild` makes a new core from the tables; `cloudbaker "
                "catalog tables repair --all` publishes this one anew",
                table=table.name,
            )
        return upto


def owner(core: Core) -> Owner:
    """Who the core is. Raises `CatalogReplaced` for a Postgres database that was copied to another place."""
    with core.read() as connection:
        info = {row.name: row.value for row in connection.execute(sa.select(s.catalog_info))}
        postgres = core.engine.dialect.name == "postgresql"
        where = _cluster(connection) if postgres else None
    if postgres and info.get(CLUSTER, where) != where:
        raise CatalogReplaced(
            "this database is a copy of the catalog that published its tables, and numbers its transactions anew: "
            "`cloudbaker catalog rebuild` makes a new core from the tables; `cloudbaker catalog tables repair --all` "
            "publishes this one anew"
        )
    return Owner(info["core_id"], postgres)


def settle(core: Core) -> Owner:
    """`owner`, after a Postgres database has written down where it is: from its first publishing on it stays there."""
    who = owner(core)
    if who.postgres:
        i = s.catalog_info.c
        with core.write() as connection:
            where = {"name": CLUSTER, "value": _cluster(connection)}
            if connection.execute(sa.select(i.name).where(i.name == CLUSTER).with_for_update()).first() is None:
                from sqlalchemy.dialects.postgresql import insert

                connection.execute(insert(s.catalog_info).on_conflict_do_nothing(), where)
    return who


def resettle(connection: Connection, core_id: str) -> None:
    """Give the core a new identity, at the place where it is: from now on it publishes as another one."""
    i = s.catalog_info.c
    connection.execute(sa.update(s.catalog_info).where(i.name == "core_id").values(value=core_id))
    connection.execute(sa.delete(s.catalog_info).where(i.name == CLUSTER))
    if connection.dialect.name == "postgresql":
        connection.execute(sa.insert(s.catalog_info), {"name": CLUSTER, "value": _cluster(connection)})
        # In the numbering of this cluster; what a sink was not told of yet stays behind its watermark.
        told = connection.execute(sa.select(sa.func.min(s.sinks.c.watermark))).scalar() or 0
        connection.execute(sa.update(s.outbox).where(s.outbox.c.xid <= told).values(xid=0))
        for table in s.FACTS:
            highest = connection.execute(sa.select(sa.func.max(table.c.seq))).scalar() or 0
            spread = sa.update(table).values(xid=table.c.seq * OLD_POSITIONS // max(highest, 1) + 1)
            connection.execute(spread.where(s.outbox.c.xid > 0) if table is s.outbox else spread)
        connection.execute(sa.update(s.sinks).values(watermark=0))


OLD_POSITIONS = 500
"""Of rows that another core wrote: below any transaction of a Postgres cluster (the first has a number above 700), and
so many that one batch of the exporter never has to hold them all: 1 to this and one more, in the order of `seq`."""


def last_row(core: Core, connection: Connection, table: sa.Table, upto: int) -> int | None:
    """`created_at`, in microseconds, of the row with the highest `seq` at a position up to this; None without rows."""
    created = sa.type_coerce(table.c.created_at, sa.BigInteger)
    newest = sa.select(created).where(position(core, table) <= upto).order_by(table.c.seq.desc()).limit(1)
    found = connection.execute(newest).scalar()
    return None if found is None else int(found)


def _cluster(connection: Connection) -> str:
    """Cluster and database, as Postgres numbers them: a restored dump is elsewhere."""
    return str(connection.execute(sa.text(f"SELECT {WHERE}")).scalar_one())
