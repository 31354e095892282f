"""The one schema of the catalog's core, for SQLite and Postgres alike.

Two kinds of tables:

- *Facts* are append-only. Each has `seq`, its number; `xid`, on Postgres the transaction that wrote it, by which the
  exporter knows what can still appear before it (on SQLite, with one writer at a time, `seq` grows in commit order and
  `xid` is NULL); and `created_at`, the UTC time that decides the month it is filed under when it is published to Delta.
  A row of a fact is never changed, except columns marked `MUTABLE` (counters that ride along); those are not published.
- *State* is what changes: blobs and their reference counts, channels, tags, holds, idempotency keys, attempts,
  quarantine. State can be computed again from facts, or is only of use while work is under way.

What the database itself guarantees, whatever the code does: (asset, number) is unique, a storage key belongs to one
blob, a channel points at an existing version, a dependency at an existing asset, a reference count is never negative.
The first is why the core is SQL and not Delta alone: two Delta appends never conflict, and 280 duplicates of 320 raced
versions were measured.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect

REVISIONS = ("0001", "0002")
"""Every Alembic revision, oldest first. A catalog whose revision is not among them comes from a newer release."""
HEAD = REVISIONS[-1]

_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(moment: datetime) -> int:
    """Since 1970 UTC. A naive time raises ValueError: it would mean something else on another machine."""
    if moment.tzinfo is None:
        raise ValueError(f"time {moment} has no zone: use datetime.now(UTC)")
    return (moment - _EPOCH) // _MICROSECOND


class UtcTime(sa.types.TypeDecorator[datetime]):
    """A moment as integer microseconds since 1970 UTC: exact, sortable, and the same in SQLite, Postgres and Arrow."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """See `microseconds`."""
        return None if value is None else microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """The moment, with its zone."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


class Json(sa.types.TypeDecorator[Any]):
    """A JSON value as text (NaN refused): read as it stands by SQLite, DuckDB and people."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """JSON text; None stays NULL."""
        return None if value is None else _JSON.encode(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """The parsed value."""
        return None if value is None else json.loads(value)


metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

MUTABLE = {"mutable": True}
"""`info` of a column of a fact that changes, and is not published."""

_Seq = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite's rowid alias must be spelt INTEGER


def _text(name: str, *args: Any, null: bool = False, **kw: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, *args, nullable=null, **kw)


def _int(name: str, *args: Any, null: bool = False, **kw: Any) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, *args, nullable=null, **kw)


def _time(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, UtcTime, nullable=null)


def _json(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, Json, nullable=null)


def _only(condition: str) -> dict[str, Any]:
    """A partial index holds the few rows that clean-up looks for, not all."""
    # No postgresql_where beside it yet: naming a dialect imports it, 0.1 s of every command's start.
    return {"sqlite_where": sa.text(condition)}


def _fact(name: str, *rest: sa.schema.SchemaItem) -> sa.Table:
    # AUTOINCREMENT: a number is not given again even if the newest rows were pruned after export; the exporter's
    # watermark would skip them for ever.
    return sa.Table(
        name,
        metadata,
        sa.Column("seq", _Seq, primary_key=True),
        _time("created_at"),
        *rest,
        _int("xid", null=True, info=MUTABLE),
        sqlite_autoincrement=True,
    )


# ---- who and what
tenants = _fact(
    "tenants",
    _text("tenant", unique=True),
    _int("quota_bytes", null=True, info=MUTABLE),  # of used and reserved bytes together; NULL: no quota
    _int("quota_runs_in_flight", null=True, info=MUTABLE),
    _int("quota_runs_per_day", null=True, info=MUTABLE),  # a day begins at midnight UTC
    _int("used_bytes", server_default="0", info=MUTABLE),  # sum of the sizes of its referenced blobs
    _int("reserved_bytes", server_default="0", info=MUTABLE),  # sum of those of its other blobs, uploading or live
    sa.Column("retention", Json, nullable=True, info=MUTABLE),  # NULL: keep everything
)
tenant_settings = _fact(
    "tenant_settings",  # quotas and retention policies as they were set; the newest of a name is in force
    _text("tenant"),
    _text("name"),
    _json("value", null=True),
    _text("set_by"),
    _text("why"),
    sa.Index(None, "tenant", "name"),
)
projects = _fact("projects", _text("tenant"), _text("project"), sa.UniqueConstraint("tenant", "project"))
assets = _fact(
    "assets",
    _text("asset", unique=True),  # tenant/project/name, the key of everything below
    _text("tenant"),
    _text("project"),
    _text("name"),
    _int("next_version", server_default="1", info=MUTABLE),
    sa.Index(None, "tenant", "asset"),
    sa.Index(None, "tenant", "project", "asset"),
)
versions = _fact(
    "versions",
    _text("asset", sa.ForeignKey("assets.asset")),
    _int("number"),
    _text("tenant"),
    _text("bake_key"),
    _text("recipe"),
    _text("recipe_hash"),
    _text("engine", null=True),
    _json("tools"),
    _text("run_id"),
    _text("created_by"),
    _text("change_note"),
    _int("size_bytes"),
    sa.Column("deleted_at", UtcTime, nullable=True, info=MUTABLE),  # its row in version_deletions, for quick looks
    sa.UniqueConstraint("asset", "number"),
    sa.Index(None, "asset", "bake_key"),
    sa.Index(None, "created_at", "seq"),  # pages of the newest, of all and of a tenant
    sa.Index(None, "tenant", "created_at", "seq"),
)
version_deletions = _fact(
    "version_deletions",  # tombstones: the version's rows stay for ever, its blobs are given up
    _text("asset"),
    _int("number"),
    _text("deleted_by"),
    _text("why"),
    sa.UniqueConstraint("asset", "number"),
    sa.ForeignKeyConstraint(["asset", "number"], ["versions.asset", "versions.number"]),
)
dependencies = _fact(
    "dependencies",  # what a version needs of other assets
    _text("asset"),
    _int("number"),
    _text("on_asset", sa.ForeignKey("assets.asset")),
    _int("on_number", null=True),  # NULL: whatever its channel points at; else pinned, and that version is kept
    _text("kind"),
    sa.UniqueConstraint("asset", "number", "on_asset", "kind"),
    sa.ForeignKeyConstraint(["asset", "number"], ["versions.asset", "versions.number"]),
    sa.Index(None, "on_asset", "on_number"),
)
provenance = _fact(
    "provenance",  # apart from versions: some kilobytes each, and read only to verify
    _text("asset"),
    _int("number"),
    _text("envelope"),
    sa.UniqueConstraint("asset", "number"),
    sa.ForeignKeyConstraint(["asset", "number"], ["versions.asset", "versions.number"]),
)
version_sources = _fact(
    "version_sources",
    _text("asset"),
    _int("number"),
    _text("name"),
    _text("media_type"),
    _text("sha256"),
    _int("size_bytes"),
    _text("storage_key"),
    sa.UniqueConstraint("asset", "number", "name"),
    sa.ForeignKeyConstraint(["asset", "number"], ["versions.asset", "versions.number"]),
    sa.Index(None, "storage_key"),
)
artifacts = _fact(
    "artifacts",
    _text("asset"),
    _int("number"),
    _text("role"),
    _text("variant"),
    _text("name"),
    _text("media_type"),
    _text("sha256"),
    _int("size_bytes"),
    _text("storage_key"),
    _text("device"),
    sa.UniqueConstraint("asset", "number", "name"),
    sa.ForeignKeyConstraint(["asset", "number"], ["versions.asset", "versions.number"]),
    sa.Index(None, "storage_key"),
)
pointer_moves = _fact(
    "pointer_moves",
    _text("asset"),
    _text("channel"),
    _int("number"),
    _int("previous", null=True),
    _text("moved_by"),
    _text("why"),
    _text("run_id", null=True),
    sa.Index(None, "asset"),
)
tag_moves = _fact(
    "tag_moves",
    _text("asset", sa.ForeignKey("assets.asset")),
    _text("tag"),
    _text("action"),  # add or remove
    _text("moved_by"),
    _text("why"),
)
hold_moves = _fact(
    "hold_moves",
    _text("asset", sa.ForeignKey("assets.asset")),
    _int("number", null=True),  # NULL: all its versions
    _text("action"),  # place or release
    _time("until", null=True),  # NULL: until it is released
    _text("moved_by"),
    _text("why"),
)

# ---- what happened
runs = _fact(
    "runs",
    _text("run_id", unique=True),
    _text("flow"),
    _text("asset"),
    _text("tenant"),
    _text("recipe"),
    _text("mode"),
    _text("created_by"),
    _text("parent_run_id", null=True),
    sa.Index(None, "asset"),
    sa.Index(None, "tenant", "created_at"),
)
run_states = _fact(
    "run_states",  # a run's newest row is its state: a run that Prefect retries is running again after it failed
    _text("run_id", sa.ForeignKey("runs.run_id")),
    _text("state"),
    _int("number", null=True),
    _json("error", null=True),
    sa.Index(None, "run_id"),
)
steps = _fact(
    "steps",
    _text("run_id", sa.ForeignKey("runs.run_id")),
    _text("stage"),
    _int("attempt"),
    _text("state"),
    _time("started_at"),
    _time("finished_at"),
    _text("device"),
    _json("error", null=True),
    sa.Index(None, "run_id"),
)
findings = _fact(
    "findings",
    _text("run_id"),
    _text("asset"),
    _int("number", null=True),  # NULL: the run published nothing
    _text("code"),
    _text("severity"),
    _text("place"),
    _text("message"),
    _text("remedy"),
    sa.Index(None, "asset", "number"),
)
losses = _fact(
    "losses",
    _text("run_id"),
    _text("asset"),
    _int("number"),
    _text("kind"),
    _text("place"),
    _text("detail"),
    sa.Index(None, "asset", "number"),
)
metrics = _fact(
    "metrics",
    _text("run_id"),
    _text("asset"),
    _int("number", null=True),
    _text("scope"),  # version, artifact, step or run
    _text("subject"),  # artifact: its name; step: stage#attempt; else empty
    _text("name"),
    sa.Column("value", sa.Double, nullable=False),
    sa.Index(None, "run_id"),
)
usage_events = _fact(
    "usage_events",
    _text("tenant"),
    _text("asset", null=True),
    _text("run_id", null=True),
    _text("kind"),  # stored_bytes (subject: zone), compute_ms (device class) or transfer_bytes (out, in)
    _text("subject"),
    _int("amount"),
    sa.Index(None, "tenant", "kind"),
)
audit = _fact(
    "audit",
    _text("tenant", null=True),
    _text("who"),
    _text("action"),
    _text("subject"),
    _text("why"),
    _text("run_id", null=True),
    _json("detail", null=True),
    # One chain of hashes per tenant, and one (the empty name) for what concerns all. NULL: older than the chains.
    _text("chain", null=True),
    _int("position", null=True),  # 1, 2, 3 … in its chain
    _text("hash", null=True),  # SHA-256 over the row's content and the hash before it
    sa.Index("uq_audit_chain_position", "chain", "position", unique=True),
)
outbox = _fact(
    "outbox",  # what the world is to be told, in the order it was committed
    _text("tenant"),
    _text("asset"),
    _text("run_id", null=True),
    _text("kind"),
    _json("payload"),
)
deletions = _fact(
    "deletions",  # tombstones, for ever: a storage key that was given up is never used again
    _text("storage_key", unique=True),
    _text("why"),
    sa.Column("done", sa.Boolean, nullable=False, server_default=sa.false(), info=MUTABLE),
    sa.Index("ix_deletions_pending", "storage_key", **_only("NOT done")),
)

FACTS: tuple[sa.Table, ...] = (
    tenants,
    tenant_settings,
    projects,
    assets,
    versions,
    version_deletions,
    dependencies,
    provenance,
    version_sources,
    artifacts,
    pointer_moves,
    tag_moves,
    hold_moves,
    runs,
    run_states,
    steps,
    findings,
    losses,
    metrics,
    usage_events,
    audit,
    outbox,
    deletions,
)
"""What is published to Delta, one table each."""

# ---- state
blobs = sa.Table(
    "blobs",
    metadata,
    _text("tenant", primary_key=True),
    _text("zone", primary_key=True),
    _text("sha256", primary_key=True),
    _text("storage_key", unique=True),
    _int("size_bytes"),
    _int("refcount"),
    _text("state"),  # uploading: the key is claimed; live: the bytes are there
    _time("lease_until"),  # clean-up leaves it alone until then, whatever its count
    _time("created_at"),
    sa.CheckConstraint("refcount >= 0", name="refcount"),
    sa.CheckConstraint("state IN ('uploading', 'live')", name="state"),
    sa.Index("ix_blobs_unreferenced", "lease_until", **_only("refcount = 0")),
)
channels = sa.Table(
    "channels",
    metadata,
    _text("asset", primary_key=True),
    _text("channel", primary_key=True),
    _int("number"),
    _int("rev"),  # grows with each move: the compare-and-swap is on it
    _time("moved_at"),
    _text("moved_by"),
    sa.ForeignKeyConstraint(["asset", "number"], ["versions.asset", "versions.number"]),
)
idempotency = sa.Table(
    "idempotency",
    metadata,
    _text("tenant", primary_key=True),
    _text("key", primary_key=True),
    _text("request_hash"),
    _json("result"),
    _time("created_at"),
)
attempts = sa.Table(
    "attempts",
    metadata,
    _text("asset", primary_key=True),
    _text("bake_key", primary_key=True),  # other tools, another recipe, other sources: counted anew
    _int("count"),
    _text("last_status"),
    _json("last_error"),
    _text("run_id", null=True),
    _time("first_at"),
    _time("last_at"),
)
quarantine = sa.Table(
    "quarantine",
    metadata,
    _text("asset", primary_key=True),
    _text("bake_key", primary_key=True),
    _int("attempts"),
    _text("status"),
    _json("error"),
    _text("run_id", null=True),
    _time("created_at"),
)
catalog_info = sa.Table(
    "catalog_info",
    metadata,
    _text("name", primary_key=True),  # core_id: names this database among all that ever published to the same tables
    _text("value"),
)
audit_chains = sa.Table(
    "audit_chains",
    metadata,
    _text("chain", primary_key=True),
    _int("position"),
    _text("hash"),  # of the newest row: who appends holds this row locked
)
tags = sa.Table(
    "tags",
    metadata,
    _text("asset", sa.ForeignKey("assets.asset"), primary_key=True),
    _text("tag", primary_key=True),
    sa.Index(None, "tag", "asset"),
)
holds = sa.Table(
    "holds",
    metadata,
    _text("asset", sa.ForeignKey("assets.asset"), primary_key=True),
    _int("number", primary_key=True, autoincrement=False),  # 0: all its versions
    _time("until", null=True),
    _text("placed_by"),
    _text("why"),
    _time("placed_at"),
)
open_runs = sa.Table(
    "open_runs",
    metadata,
    _text("run_id", primary_key=True),
    _text("tenant"),
    _time("since"),
    sa.Index(None, "tenant"),
)
sinks = sa.Table(
    "sinks",
    metadata,
    _text("sink", primary_key=True),  # who is told of the outbox's events
    _int("watermark"),  # all events below it are told, or stand in `deliveries`
    _time("updated_at"),
)
deliveries = sa.Table(
    "deliveries",
    metadata,
    _text("sink", primary_key=True),
    _int("seq", primary_key=True, autoincrement=False),  # of the outbox
    _text("asset"),  # its later events wait behind it
    _text("state"),  # waiting or dead
    _int("attempts"),
    _time("next_at"),
    _text("error"),
    _time("created_at"),
    sa.CheckConstraint("state IN ('waiting', 'dead')", name="state"),
    sa.Index(None, "sink", "asset", "seq"),
)
