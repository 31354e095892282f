"""A new core from the published tables alone, on either database: after a loss, or to move from SQLite to Postgres.

All facts come with their numbers, and from them all state is computed. Taken is the moment of the last export that came
to its end: what a later one published in part, before it was killed and its core lost, is taken back.

Not in the tables, and so not in the new core: counts of failed attempts (they begin again), uploads that no version
refers to (clean-up finds their objects as orphans), what sinks were told (they are made anew), and requests that
changed nothing.

Filled by ADBC: into a SQLite file that nobody else has open yet (see `arrow.py`), or by COPY in one transaction.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import deltalake
import duckdb
import pyarrow as pa
import sqlalchemy as sa
from deltalake.exceptions import DeltaError

from cloudbaker.canonical import canonical_sha256
from cloudbaker.catalog import schema as s
from cloudbaker.catalog.arrow import fact_columns
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.export import Cut, complete, published_schema, write_complete
from cloudbaker.catalog.published import CLUSTER, OLD_POSITIONS, WHERE, Owner, Tables, owner
from cloudbaker.catalog.records import RebuildReport
from cloudbaker.catalog.tail import position
from cloudbaker.catalog.views import VIEWS
from cloudbaker.errors import CatalogError, CatalogReplaced, Conflict, NotFound

BATCH = 100_000
"""Rows that are held in memory at a time."""

STATE: dict[sa.Table, str] = {
    s.blobs: """
        SELECT tenant, zone, sha256, storage_key, size_bytes, refcount, 'live' AS state,
            created_at AS lease_until, created_at
        FROM blobs WHERE refcount > 0""",
    s.channels: "SELECT asset, channel, number, rev, moved_at, moved_by FROM channels",
    s.tags: "SELECT asset, tag FROM tags",
    s.holds: """
        SELECT asset, coalesce(number, 0) AS number, until, placed_by, why,
            placed_at
        FROM holds""",
    s.audit_chains: """
        SELECT chain, max(position) AS position, arg_max(hash, position) AS hash
        FROM _audit WHERE chain IS NOT NULL GROUP BY chain""",
    s.open_runs: """
        SELECT run_id, tenant, started_at AS since FROM runs WHERE state = 'running'""",
    s.idempotency: """
        SELECT tenant, 'publish:' || run_id AS key, sha256(request) AS request_hash,
            '{"number":' || number || ',"created":true}' AS result, created_at
        FROM (
            SELECT v.tenant, v.run_id, v.number, v.created_at,
                -- As `publish` hashes a request: its keys in order, no white space.
                '{"asset":' || to_json(v.asset) || ',"bake_key":' || to_json(v.bake_key)
                || ',"channel":' || coalesce((a.detail->'channel')::VARCHAR, 'null')
                || coalesce(',"dependencies":' || n.needs, '')
                || ',"engine":' || coalesce(to_json(v.engine)::VARCHAR, 'null')
                || ',"recipe":' || to_json(v.recipe_hash) || ',"sources":' || r.sources || '}' AS request
            FROM _versions v
            JOIN (
                SELECT asset, number, to_json(list([name, sha256] ORDER BY name, sha256))::VARCHAR AS sources
                FROM _version_sources GROUP BY ALL) r USING (asset, number)
            LEFT JOIN (
                SELECT asset, number, '[' || string_agg(
                    '[' || to_json(on_asset) || ',' || to_json(kind) || ',' || coalesce(on_number, 0) || ']',
                    ',' ORDER BY on_asset, kind, on_number) || ']' AS needs
                FROM _dependencies GROUP BY asset, number) n USING (asset, number)
            JOIN (SELECT subject, detail::JSON AS detail FROM _audit WHERE action = 'publish') a
                ON a.subject = v.asset || '@' || v.number)""",
    s.quarantine: """
        SELECT asset, bake_key, (detail->>'attempts')::BIGINT AS attempts, detail->>'status' AS status,
            (detail->'error')::VARCHAR AS error, run_id, created_at
        FROM (
            SELECT seq, subject AS asset, detail->>'bake_key' AS bake_key, detail, run_id, created_at
            FROM (SELECT * REPLACE (detail::JSON AS detail) FROM _audit WHERE action = 'quarantine')
            QUALIFY row_number() OVER (PARTITION BY asset, bake_key ORDER BY seq DESC) = 1) q
        WHERE NOT EXISTS (
            FROM _audit r WHERE r.action = 'release' AND r.subject = q.asset AND r.seq > q.seq
            AND coalesce(r.detail::JSON->>'bake_key', q.bake_key) = q.bake_key)""",
}
"""State, computed from facts: the columns of each table."""

_MUTABLE = {
    s.tenants: """
        SELECT t.*, quota_bytes, quota_runs_in_flight, quota_runs_per_day, coalesce(used, 0) AS used_bytes,
            0 AS reserved_bytes, retention
        FROM _tenants t
        LEFT JOIN (SELECT tenant, sum(size_bytes)::BIGINT AS used FROM blobs WHERE refcount > 0 GROUP BY tenant)
            USING (tenant)
        LEFT JOIN (
            SELECT tenant,
                any_value(value) FILTER (name = 'quota_bytes')::BIGINT AS quota_bytes,
                any_value(value) FILTER (name = 'quota_runs_in_flight')::BIGINT AS quota_runs_in_flight,
                any_value(value) FILTER (name = 'quota_runs_per_day')::BIGINT AS quota_runs_per_day,
                any_value(value) FILTER (name = 'retention') AS retention
            FROM (
                FROM _tenant_settings QUALIFY row_number() OVER (PARTITION BY tenant, name ORDER BY seq DESC) = 1)
            GROUP BY tenant) USING (tenant)""",
    s.assets: """
        SELECT a.*, coalesce(newest, 0) + 1 AS next_version
        FROM _assets a LEFT JOIN (SELECT asset, max(number) AS newest FROM _versions GROUP BY asset) USING (asset)""",
    s.versions: """
        SELECT v.*, d.created_at AS deleted_at
        FROM _versions v
        LEFT JOIN (SELECT asset, number, created_at FROM _version_deletions) d USING (asset, number)""",
    # What was given up and not removed yet is found by clean-up, as an orphan.
    s.deletions: "SELECT *, true AS done FROM _deletions",
}
"""Facts with the columns that ride along."""


def rebuild(
    tables: Tables,
    into: str,
    *,
    plan: bool = False,
    force: bool = False,
    progress: Callable[[str, int], None] | None = None,
) -> RebuildReport:
    """Make a core at the URL `into` from the published tables, and the tables that core's.

    A core that is there already and holds nothing that is not published is put aside (SQLite: the file is renamed) or
    replaced (Postgres: in one transaction); with `force` whatever it holds. With `plan` nothing is written. No process
    may have a SQLite catalog open meanwhile.

    Raises `NotFound` if nothing is published, `Conflict` for a core that holds more, or that is in use.
    """
    tables.check()
    began = time.perf_counter()
    with tables.only_one() as alone:
        if not alone:
            raise Conflict("the tables are being written to by another process: try again when it is done")
        found = _Found(tables)
        target = Core(into)
        if plan:
            rows = {table.name: found.count(table) for table in s.FACTS}
            return RebuildReport(True, target.dialect.place, rows, seconds=time.perf_counter() - began)
        _check(target, tables, force=force)
        postgres = target.engine.dialect.name == "postgresql"
        who = Owner(uuid.uuid4().hex, postgres)
        with _filling(target) as connection:
            counts = _fill(connection, found, who, progress)
            if postgres:
                _settle(connection)
            # Before the new core is there: should this be the end, the tables are nobody's but a rebuild's.
            found.take_over(who)
        core = Core(into)
        core.open()
        from cloudbaker.catalog.audit import verify

        with core.read() as opened:
            opened.exec_driver_sql("ANALYZE" if postgres else "PRAGMA optimize=0x10002")
        report = verify(core, None)
        core.close()
        target.close()
    chains = tuple(sorted({damage.chain for damage in report.damage}))
    return RebuildReport(False, target.dialect.place, counts, chains, time.perf_counter() - began)


class _Found:
    """What is published, of one moment, as views of DuckDB."""

    def __init__(self, tables: Tables) -> None:
        """Raises `NotFound` if nothing is."""
        self.tables = tables
        self.duck = duckdb.connect(":memory:", config={"temp_directory": ""})
        self.duck.execute("SET TimeZone = 'UTC'")
        self.deltas: dict[sa.Table, deltalake.DeltaTable] = {}
        self.back: dict[sa.Table, int] = {}
        """Tables that a killed export left with more than the others, and the version to go back to."""
        cut = complete(tables) or {}
        opened = tables.open_all([table.name for table in s.FACTS])
        for table in s.FACTS:
            if (delta := opened[table.name]) is not None:
                with tables.damaged(table.name):
                    self.deltas[table] = self._of_the_moment(table, delta, cut.get(table.name))
        if not self.deltas:
            raise NotFound(
                f"nothing is published under {tables}: set CLOUDBAKER_TABLES_URL to where the tables are",
                url=str(tables),
            )
        for table in s.FACTS:
            columns, source = fact_columns(table), f"_parquet_{table.name}"
            if (delta := self.deltas.get(table)) is not None:
                with tables.damaged(table.name):
                    self.duck.register(source, delta.to_pyarrow_dataset(schema=published_schema(table)))
            else:
                self.duck.register(source, published_schema(table).empty_table())
            names = ", ".join(f'"{column.name}"' for column in columns)
            self.duck.execute(f"CREATE VIEW _{table.name} AS SELECT {names} FROM {source}")
        unreferenced = pa.schema(
            [
                *(pa.field(name, pa.string()) for name in ("tenant", "zone", "sha256", "state", "storage_key")),
                *(pa.field(name, pa.int64()) for name in ("size_bytes", "refcount")),
                *(pa.field(name, pa.timestamp("us", tz="UTC")) for name in ("lease_until", "created_at")),
            ]
        )
        self.duck.register("_state_blobs", unreferenced.empty_table())
        for view in ("channels", "tags", "holds", "blobs", "runs"):
            self.duck.execute(f"CREATE VIEW {view} AS {VIEWS[view]}")

    def _of_the_moment(self, table: sa.Table, delta: deltalake.DeltaTable, cut: Cut | None) -> deltalake.DeltaTable:
        if cut is None or (cut.version >= 0 and (delta.transaction_version(cut.app) or 0) == cut.watermark):
            return delta
        # Published further by an export that did not come to its end. What there was before is still in the log.
        self.back[table] = max(cut.version, 0)
        try:
            return self._version(table, self.back[table])
        except DeltaError as error:
            raise CatalogError(
                f"the published table {table.name} was written further than the others, and its older state is gone: "
                "put back a backup of the tables",
                table=table.name,
                detail=str(error),
            ) from error

    def _version(self, table: sa.Table, version: int) -> deltalake.DeltaTable:
        uri, options = self.tables.uri(table.name), self.tables.options
        return deltalake.DeltaTable(uri, version=version, storage_options=options)

    def count(self, table: sa.Table) -> int:
        """Rows of a fact."""
        return int(self.duck.sql(f"SELECT count(*) FROM _{table.name}").fetchall()[0][0])

    def ends(self, table: sa.Table) -> tuple[int, int | None]:
        """The highest `seq`, 0 for none, and the `created_at` of its row in microseconds."""
        query = f"SELECT coalesce(max(seq), 0), arg_max(epoch_us(created_at), seq) FROM _{table.name}"
        [(highest, created)] = self.duck.sql(query).fetchall()
        return highest, created

    def rows(self, table: sa.Table, *, postgres: bool) -> pa.RecordBatchReader:
        """What goes into a table of the core."""
        query = _MUTABLE.get(table) or STATE.get(table) or f"FROM _{table.name}"
        names = self.duck.sql(query).columns
        columns = [_plain(table.c[name]) for name in names]
        if postgres and table in s.FACTS:
            columns.append(f"seq * {OLD_POSITIONS} // {max(self.ends(table)[0], 1)} + 1 AS xid")
        return self.duck.sql(f"SELECT {', '.join(columns)} FROM ({query})").to_arrow_reader(BATCH)

    def take_over(self, who: Owner) -> None:
        """Make the tables those of a core that holds exactly these rows."""
        cut = {table.name: Cut(-1, who.app, 0) for table in s.FACTS}
        for table, found in self.deltas.items():
            with self.tables.damaged(table.name):
                delta = self.tables.open(table.name) or found
                if table in self.back:
                    delta.restore(self.back[table])
                    delta = self.tables.open(table.name) or delta
                highest, created = self.ends(table)
                upto = OLD_POSITIONS + 1 if who.postgres else highest
                marks = who.transactions(upto, created)
                commit = deltalake.CommitProperties(app_transactions=marks, max_commit_retries=0)
                delta.create_write_transaction([], "append", delta.schema(), commit_properties=commit)
                cut[table.name] = Cut(delta.version() + 1, who.app, upto)
        write_complete(self.tables, cut)


def _plain(column: sa.Column[Any]) -> str:
    if isinstance(column.type, s.UtcTime):
        return f'epoch_us("{column.name}") AS "{column.name}"'
    if isinstance(column.type, s.Json):
        return f'"{column.name}"::VARCHAR AS "{column.name}"'
    if isinstance(column.type, sa.Integer):  # COPY takes a column's own width only
        return f'"{column.name}"::BIGINT AS "{column.name}"'
    return f'"{column.name}"'


def _fill(connection: Any, found: _Found, who: Owner, progress: Callable[[str, int], None] | None) -> dict[str, int]:
    counts = {}
    with connection.cursor() as cursor:
        for table in (*s.FACTS, *STATE):
            reader = found.rows(table, postgres=who.postgres)
            counts[table.name] = count = cursor.adbc_ingest(table.name, reader, mode="append")
            if progress is not None and count:
                progress(table.name, count)
        cursor.execute(f"UPDATE catalog_info SET value = '{who.core_id}' WHERE name = 'core_id'")
    _respell(connection, found)
    return counts


def _respell(connection: Any, found: _Found) -> None:
    """DuckDB writes a control character as \\u001F, `canonical_json` as \\u001f: hash those few requests again."""
    inner = STATE[s.idempotency].split("FROM (", 1)[1].rsplit(")", 1)[0]
    rows = found.duck.sql(f"SELECT tenant, run_id, request FROM ({inner}) WHERE contains(request, '\\u00')").fetchall()
    with connection.cursor() as cursor:
        for tenant, run_id, request in rows:
            digest = canonical_sha256(json.loads(request))
            query = "UPDATE idempotency SET request_hash = $1 WHERE tenant = $2 AND key = $3"
            cursor.execute(query, (digest, tenant, f"publish:{run_id}"))


# ---- the target


def _check(target: Core, tables: Tables, *, force: bool) -> None:
    """Raises `Conflict` if the core at the target holds rows that are not in the tables."""
    place = target.dialect.place
    if target.path is not None and not target.path.exists():
        return
    try:
        target.open()
        with target.read() as connection:
            held = [table for table in s.FACTS if connection.execute(sa.select(table.c.seq).limit(1)).first()]
        if not held or force:
            return
        who = owner(target)
        with target.read() as connection:
            for table in held:
                after = who.check(target, connection, table, tables.open(table.name))
                newer = sa.select(table.c.seq).where(position(target, table) > after).limit(1)
                if connection.execute(newer).first() is not None:
                    raise Conflict(
                        f"the core at {place} holds rows that are not published: `cloudbaker catalog tables export` "
                        "publishes them; --force replaces it all the same",
                        table=table.name,
                    )
    except Conflict:
        raise
    except CatalogReplaced as error:
        raise Conflict(
            f"the core at {place} is not the one that its tables were published from: --force replaces it all the same"
        ) from error
    except CatalogError as error:
        if not force:
            raise Conflict(f"the core at {place} can't be read ({error.message}): --force replaces it") from error
    finally:
        target.close()


@contextmanager
def _filling(target: Core) -> Iterator[Any]:
    """An ADBC connection to an empty core, which becomes the target at the end of the block, or not at all."""
    import adbc_driver_manager

    try:
        with _filling_postgres(target) if target.path is None else _filling_sqlite(target.path) as connection:
            yield connection
    except adbc_driver_manager.Error as error:
        raise CatalogError(
            f"the core at {target.dialect.place} could not be written: the log holds the details", detail=str(error)
        ) from error


@contextmanager
def _filling_postgres(target: Core) -> Iterator[Any]:
    import adbc_driver_postgresql.dbapi as adbc

    from cloudbaker.catalog.postgres import LOCK_SECONDS

    target.open()
    url = target.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with adbc.connect(url) as connection:
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
            names = ", ".join(f'"{table.name}"' for table in s.metadata.tables.values() if table is not s.catalog_info)
            cursor.execute(f"TRUNCATE {names} RESTART IDENTITY CASCADE")
        yield connection
        with connection.cursor() as cursor:
            for table in s.FACTS:
                cursor.execute(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', 'seq'), max(seq)) FROM \"{table.name}\""
                )
                cursor.fetchall()
        connection.commit()


def _settle(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM catalog_info WHERE name = '{CLUSTER}'")
        cursor.execute(f"INSERT INTO catalog_info (name, value) SELECT '{CLUSTER}', ({WHERE})")


@contextmanager
def _filling_sqlite(path: Path) -> Iterator[Any]:
    import adbc_driver_sqlite.dbapi as adbc

    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.rebuild")
    indexes = [index for table in s.metadata.tables.values() for index in table.indexes]
    try:
        made = Core(f"sqlite:///{draft}")
        made.open()
        dialect = made.engine.dialect
        made.close()
        with adbc.connect(str(draft), autocommit=True) as connection:
            with connection.cursor() as cursor:
                # No journal: should this end before its end, the draft is thrown away. The cache holds the unique keys,
                # which grow in another order than the rows come in.
                for pragma in ("journal_mode=DELETE", "journal_mode=OFF", "synchronous=OFF", "cache_size=-500000"):
                    cursor.execute(f"PRAGMA {pragma}")
                    cursor.fetchall()
                cursor.execute("BEGIN")
                for index in indexes:  # made at the end, from sorted rows
                    cursor.execute(str(sa.schema.DropIndex(index).compile(dialect=dialect)))
            yield connection
            with connection.cursor() as cursor:
                for index in indexes:
                    cursor.execute(str(sa.schema.CreateIndex(index).compile(dialect=dialect)))
                cursor.execute("COMMIT")
        _put_in_place(draft, path)
    finally:
        for left in path.parent.iterdir() if path.parent.is_dir() else ():
            if left.name.startswith(draft.name):
                left.unlink()


def _put_in_place(draft: Path, path: Path) -> None:
    """The draft in place of what is there, which is kept beside it."""
    with open(f"{path}.lock", "a", opener=lambda name, flags: os.open(name, flags, 0o600)) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the queue of writers: nobody creates the catalog meanwhile
        if path.exists():
            _unused(path)
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
            for suffix in ("", "-wal", "-shm"):  # the latter only beside a damaged one
                with suppress(FileNotFoundError):
                    Path(f"{path}{suffix}").rename(f"{path}.replaced-{stamp}{suffix}")
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.rename(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _unused(path: Path) -> None:
    """Raises `Conflict` if a process has the catalog open: it would go on with the old file and lose what it writes."""
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        # SQLite leaves WAL mode for the only connection that there is, and for no other.
        connection.execute("PRAGMA journal_mode=DELETE").fetchall()
    except sqlite3.OperationalError as error:
        raise Conflict(
            f"the catalog at {path} is in use: end every process that has it open (`cloudbaker down`), and try again"
        ) from error
    except sqlite3.DatabaseError:
        pass  # damaged: nobody works with it
    finally:
        connection.close()
