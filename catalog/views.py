"""What people query: DuckDB views of published Parquet ∪ the unpublished tail of the core, at one moment.

The Parquet files of each Delta table are fixed first, by its snapshot; then one read transaction of the core gives all
rows above each table's watermark. Facts are never changed, so together they are exactly the core at that transaction,
for all tables alike. Never glob a Delta folder instead: after a compaction that counts rows twice.

State that changes (channels, tags, holds, blobs, what is deleted) is computed from facts when it is asked for: opening
costs the same however large the catalog is, and what is seen is of the same moment. Only what no fact tells is read
from the core: counters and settings of tenants, attempts, quarantine, deliveries, and blobs that no version refers to.

The files are handed to DuckDB as Arrow datasets and not by `read_parquet`: DuckDB pushes filters and columns down into
either, but with datasets its own access to files can be shut off and locked, so that no query, whoever wrote it, reads
or writes a file of this machine. It also needs no DuckDB extension for tables on S3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import sqlalchemy as sa

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.arrow import fact_columns, fetch
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.export import export, published_schema, read_facts
from cloudbaker.catalog.published import Tables, owner
from cloudbaker.catalog.tail import position
from cloudbaker.errors import UsageError

LONG_TAIL = 20_000
"""Unpublished rows (all tables together) above which `connect` publishes first; reading them took 0.1 s."""

_STATE: dict[sa.Table, str] = {
    s.tenants: "",
    s.attempts: "",
    s.quarantine: "",
    s.deliveries: "",
    s.blobs: "WHERE refcount = 0",
}
"""Read from the core as they are, and which of their rows."""

_READS = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
"""SHOW, DESCRIBE and SUMMARIZE are of type SELECT."""

_REF = "split_part(asset, '/', 1) AS tenant, split_part(asset, '/', 2) AS project, split_part(asset, '/', 3) AS name"

VIEWS: dict[str, str] = {
    "tenants": """
        SELECT tenant, created_at, used_bytes, reserved_bytes, quota_bytes, quota_runs_in_flight, quota_runs_per_day,
            retention::JSON AS retention
        FROM _state_tenants""",
    "tenant_settings": """
        SELECT created_at AS set_at, tenant, name, value::JSON AS value, set_by, why FROM _tenant_settings""",
    "projects": "SELECT tenant, project, created_at FROM _projects",
    "assets": """
        SELECT asset, tenant, project, name, created_at, coalesce(latest, 0) AS latest
        FROM _assets LEFT JOIN (SELECT asset, max(number) AS latest FROM _versions GROUP BY asset) USING (asset)""",
    "channel_moves": """
        SELECT created_at AS moved_at, asset, channel, number, previous, moved_by, why, run_id FROM _pointer_moves""",
    "channels": """
        SELECT asset, channel, last.number AS number, rev, last.created_at AS moved_at, last.moved_by AS moved_by
        FROM (
            SELECT asset, channel, count(*) AS rev,
                arg_max({'number': number, 'created_at': created_at, 'moved_by': moved_by}, seq) AS last
            FROM _pointer_moves GROUP BY asset, channel)""",
    "versions": f"""
        SELECT asset, number, {_REF}, created_at, created_by, change_note, run_id, bake_key, recipe, recipe_hash,
            engine, tools::JSON AS tools, size_bytes, coalesce(channels, []) AS channels, deleted_at
        FROM _versions LEFT JOIN (
            SELECT asset, number, list(channel ORDER BY channel) AS channels FROM channels GROUP BY asset, number
        ) USING (asset, number)
        LEFT JOIN (SELECT asset, number, created_at AS deleted_at FROM _version_deletions) USING (asset, number)""",
    "latest_versions": """
        SELECT versions.* EXCLUDE (deleted_at), coalesce(source_bytes, 0) AS source_bytes
        FROM versions JOIN (SELECT asset, max(number) AS number FROM _versions GROUP BY asset) USING (asset, number)
        LEFT JOIN (
            SELECT asset, number, sum(size_bytes)::BIGINT AS source_bytes FROM _version_sources GROUP BY asset, number
        ) USING (asset, number)
        WHERE deleted_at IS NULL""",
    "version_deletions": "SELECT created_at AS deleted_at, asset, number, deleted_by, why FROM _version_deletions",
    "dependencies": "SELECT asset, number, on_asset, on_number, kind FROM _dependencies",
    "tag_moves": "SELECT created_at AS moved_at, asset, tag, action, moved_by, why FROM _tag_moves",
    "tags": """
        SELECT asset, tag, created_at AS tagged_at, moved_by AS tagged_by, why
        FROM (SELECT * FROM _tag_moves QUALIFY row_number() OVER (PARTITION BY asset, tag ORDER BY seq DESC) = 1)
        WHERE action = 'add'""",
    "hold_moves": "SELECT created_at AS moved_at, asset, number, action, until, moved_by, why FROM _hold_moves",
    "holds": """
        SELECT asset, number, until, created_at AS placed_at, moved_by AS placed_by, why
        FROM (SELECT * FROM _hold_moves QUALIFY row_number() OVER (PARTITION BY asset, number ORDER BY seq DESC) = 1)
        WHERE action = 'place'""",
    "version_sources": "SELECT asset, number, name, media_type, sha256, size_bytes, storage_key FROM _version_sources",
    "artifacts": """
        SELECT asset, number, role, variant, name, media_type, sha256, size_bytes, storage_key, device
        FROM _artifacts""",
    "provenance": "SELECT asset, number, envelope::JSON AS envelope FROM _provenance",
    "runs": f"""
        SELECT run_id, flow, asset, {_REF}, recipe, mode, state, _runs.created_at AS started_at,
            CASE WHEN state <> 'running' THEN ended.created_at END AS finished_at,
            epoch(CASE WHEN state <> 'running' THEN ended.created_at END - _runs.created_at) AS seconds,
            number, error::JSON AS error, created_by, parent_run_id
        FROM _runs JOIN (
            SELECT run_id, created_at, state, number, error FROM _run_states
            QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY seq DESC) = 1
        ) AS ended USING (run_id)""",
    "steps": """
        SELECT run_id, asset, stage, attempt, state, started_at, finished_at,
            epoch(finished_at - started_at) AS seconds, device, error::JSON AS error
        FROM _steps JOIN (SELECT run_id, asset FROM _runs) USING (run_id)""",
    "findings": "SELECT created_at, run_id, asset, number, code, severity, place, message, remedy FROM _findings",
    "losses": "SELECT created_at, run_id, asset, number, kind, place, detail FROM _losses",
    "metrics": "SELECT created_at, run_id, asset, number, scope, subject, name, value FROM _metrics",
    "usage": "SELECT created_at, tenant, asset, run_id, kind, subject, amount FROM _usage_events",
    "usage_daily": """
        SELECT created_at::DATE AS day, tenant, coalesce(split_part(asset, '/', 2), '') AS project, kind, subject,
            sum(amount)::BIGINT AS amount
        FROM _usage_events GROUP BY ALL""",
    "audit": """
        SELECT seq, created_at, tenant, who, action, subject, why, run_id, detail::JSON AS detail, chain, position, hash
        FROM _audit""",
    "outbox": "SELECT seq, created_at, tenant, asset, run_id, kind, payload::JSON AS payload FROM _outbox",
    "deliveries": """
        SELECT sink, seq, asset, state, attempts, next_at, error, created_at FROM _state_deliveries""",
    "blobs": """
        SELECT split_part(asset, '/', 1) AS tenant, split_part(storage_key, '/', 1) AS zone, sha256,
            any_value(size_bytes) AS size_bytes, count(*) AS refcount, 'live' AS state,
            NULL::TIMESTAMPTZ AS lease_until, min(created_at) AS created_at, storage_key
        FROM (
            SELECT asset, number, sha256, size_bytes, created_at, storage_key FROM _artifacts
            UNION ALL SELECT asset, number, sha256, size_bytes, created_at, storage_key FROM _version_sources
        ) AS reference
        ANTI JOIN _version_deletions USING (asset, number)
        GROUP BY ALL
        UNION ALL
        SELECT tenant, zone, sha256, size_bytes, refcount, state, lease_until, created_at, storage_key
        FROM _state_blobs""",
    "deletions": "SELECT created_at AS deleted_at, storage_key, why FROM _deletions",
    "attempts": f"""
        SELECT asset, {_REF}, bake_key, count, last_status, last_error::JSON AS last_error, run_id, first_at, last_at
        FROM _state_attempts""",
    "quarantine": f"""
        SELECT asset, {_REF}, bake_key, attempts, status, error::JSON AS error, run_id, created_at
        FROM _state_quarantine""",
}
"""The views and their columns: the contract of ``cb.catalog()``, explained in ``docs/catalog.md``.

Names that begin with ``_`` are what they are made of, and may change.
"""


def connect(core: Core, tables: Tables) -> duckdb.DuckDBPyConnection:
    """See `cloudbaker.catalog.core.Catalog.connect`."""
    if tables.usable and _long_tail(core, tables):
        export(core, tables)
    who = owner(core)
    opened = tables.open_all([table.name for table in s.FACTS])
    parquet: dict[str, Any] = {}
    with core.read() as connection:
        tails = {}
        for table in s.FACTS:
            delta = opened[table.name]
            after = who.check(core, connection, table, delta)
            tails[table.name] = read_facts(core, connection, table, after=after)
            if delta is not None:
                with tables.damaged(table.name):
                    # By this release's schema: what an older one published has fewer columns.
                    parquet[table.name] = delta.to_pyarrow_dataset(schema=published_schema(table))
        state = {table.name: fetch(connection, list(table.columns), rest) for table, rest in _STATE.items()}

    # No spilling to disk: the temporary folder would be the current one of whoever asks.
    duck = duckdb.connect(":memory:", config={"temp_directory": ""})
    duck.execute("SET TimeZone = 'UTC'")
    for name, rows in state.items():
        duck.register(f"_state_{name}", rows)
    for table in s.FACTS:
        name, columns = table.name, ", ".join(f'"{column.name}"' for column in fact_columns(table))
        duck.register(f"_tail_{name}", tails[name])
        parts = [f"SELECT {columns} FROM _tail_{name}"]
        if name in parquet:
            duck.register(f"_parquet_{name}", parquet[name])
            parts.insert(0, f"SELECT {columns} FROM _parquet_{name}")
        duck.execute(f"CREATE VIEW _{name} AS {' UNION ALL '.join(parts)}")
    for name, query in VIEWS.items():
        duck.execute(f"CREATE VIEW {name} AS {query}")
    # With it go Python's variables by name (`FROM frame`): tables of one's own are registered, `duck.register`.
    duck.execute("SET enable_external_access = false")
    duck.execute("SET lock_configuration = true")
    return duck


def query(
    duck: duckdb.DuckDBPyConnection, text: str, params: Sequence[Any] | Mapping[str, Any] | None
) -> duckdb.DuckDBPyRelation:
    """Run a query that gives rows. See `cloudbaker.catalog.core.Catalog.sql`."""
    try:
        statements = duck.extract_statements(text)
        if [statement.type for statement in statements] not in ([kind] for kind in _READS):
            raise UsageError("the query has to be one SELECT: the catalog can only be read this way")
        return duck.sql(statements[0], params=params)
    except duckdb.Error as error:
        raise UsageError(f"the query failed: {error}") from error


def matching_assets(core: Core, tables: Tables, where: str) -> list[str]:
    """Assets whose newest version fulfils an SQL condition. Raises `UsageError` with DuckDB's message.

    The condition may come from a form: it must be one expression, it sees the views and nothing else.
    """
    duck = connect(core, tables)
    # On a line of its own: a comment at its end would else swallow the bracket.
    text = f"SELECT asset FROM latest_versions WHERE (\n{where}\n)"
    try:
        statements = duck.extract_statements(text)
        if len(statements) != 1:
            raise UsageError("the condition has to be one SQL expression, like: recipe = 'web' AND size_bytes > 1e6")
        return [str(row[0]) for row in duck.execute(statements[0]).fetchall()]
    except duckdb.Error as error:
        raise UsageError(f"the condition {where!r} failed: {error}", where=where) from error
    finally:
        duck.close()


def _long_tail(core: Core, tables: Tables) -> bool:
    """Whether so much is not published yet that publishing it is quicker than reading it each time."""
    newest = {}
    with core.read() as connection:
        for table in s.FACTS:
            newest[table] = connection.execute(sa.select(sa.func.max(table.c.seq))).scalar() or 0
    if sum(newest.values()) <= LONG_TAIL:  # however little is published: spares opening the Delta tables twice
        return False
    who, total = owner(core), 0
    opened = tables.open_all([table.name for table in s.FACTS])
    with core.read() as connection:
        for table in s.FACTS:
            after, at = who.check(core, connection, table, opened[table.name]), position(core, table)
            some = sa.select(sa.literal(1)).select_from(table).where(at > after).limit(LONG_TAIL).subquery()
            total += connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one()
    return total > LONG_TAIL
