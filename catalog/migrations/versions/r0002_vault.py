"""The vault: Postgres, quotas on runs, retention, holds, tombstones of versions, tags, dependencies, chains of audit.

A revision is frozen once released; `schema.py` is what it amounts to, and a test holds the two together.
"""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_OLD_FACTS = (
    *("tenants", "projects", "assets", "versions", "provenance", "version_sources", "artifacts", "pointer_moves"),
    *("runs", "run_states", "steps", "findings", "losses", "metrics", "usage_events", "audit", "outbox", "deletions"),
)
_XID = sa.text("(pg_current_xact_id()::text::bigint)")
"""The transaction that writes the row. 64 bits: it does not wrap."""


def upgrade() -> None:
    """Add what is new, and let go of the keys by which facts held on to blobs: a tombstone outlives its bytes."""
    postgres = op.get_bind().dialect.name == "postgresql"
    for table in ("version_sources", "artifacts"):
        with op.batch_alter_table(table, table_kwargs={"sqlite_autoincrement": True}) as batch:
            batch.drop_constraint(op.f(f"fk_{table}_storage_key"), type_="foreignkey")
    for table in _OLD_FACTS:
        op.add_column(table, sa.Column("xid", sa.BigInteger(), nullable=True))
    for quota in ("quota_runs_in_flight", "quota_runs_per_day"):
        op.add_column("tenants", sa.Column(quota, sa.BigInteger(), nullable=True))
    op.add_column("tenants", sa.Column("reserved_bytes", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("tenants", sa.Column("retention", sa.Text(), nullable=True))
    op.execute(
        "UPDATE tenants SET reserved_bytes = coalesce("
        "(SELECT sum(size_bytes) FROM blobs WHERE blobs.tenant = tenants.tenant AND refcount = 0), 0)"
    )
    op.add_column("versions", sa.Column("deleted_at", sa.BigInteger(), nullable=True))
    op.create_index(op.f("ix_runs_tenant_created_at"), "runs", ["tenant", "created_at"])
    op.drop_index(op.f("ix_assets_tenant"), "assets")
    op.create_index(op.f("ix_assets_tenant_asset"), "assets", ["tenant", "asset"])
    op.create_index(op.f("ix_assets_tenant_project_asset"), "assets", ["tenant", "project", "asset"])
    op.create_index(op.f("ix_versions_created_at_seq"), "versions", ["created_at", "seq"])
    op.create_index(op.f("ix_versions_tenant_created_at_seq"), "versions", ["tenant", "created_at", "seq"])
    for column in (sa.Column("chain", sa.Text()), sa.Column("position", sa.BigInteger()), sa.Column("hash", sa.Text())):
        op.add_column("audit", column)
    op.create_index("uq_audit_chain_position", "audit", ["chain", "position"], unique=True)

    _fact(
        "tenant_settings",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("set_by", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
    )
    op.create_index(op.f("ix_tenant_settings_tenant_name"), "tenant_settings", ["tenant", "name"])
    _fact(
        "version_deletions",
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("deleted_by", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.UniqueConstraint("asset", "number", name=op.f("uq_version_deletions_asset_number")),
        sa.ForeignKeyConstraint(
            ["asset", "number"], ["versions.asset", "versions.number"], name=op.f("fk_version_deletions_asset_number")
        ),
    )
    _fact(
        "dependencies",
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("on_asset", sa.Text(), nullable=False),
        sa.Column("on_number", sa.BigInteger(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.UniqueConstraint(
            "asset", "number", "on_asset", "kind", name=op.f("uq_dependencies_asset_number_on_asset_kind")
        ),
        sa.ForeignKeyConstraint(["on_asset"], ["assets.asset"], name=op.f("fk_dependencies_on_asset")),
        sa.ForeignKeyConstraint(
            ["asset", "number"], ["versions.asset", "versions.number"], name=op.f("fk_dependencies_asset_number")
        ),
    )
    op.create_index(op.f("ix_dependencies_on_asset_on_number"), "dependencies", ["on_asset", "on_number"])
    _fact(
        "tag_moves",
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("moved_by", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["asset"], ["assets.asset"], name=op.f("fk_tag_moves_asset")),
    )
    _fact(
        "hold_moves",
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("moved_by", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["asset"], ["assets.asset"], name=op.f("fk_hold_moves_asset")),
    )

    op.create_table(
        "catalog_info",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_catalog_info")),
    )
    info = sa.table("catalog_info", sa.column("name"), sa.column("value"))
    op.bulk_insert(info, [{"name": "core_id", "value": uuid.uuid4().hex}])
    op.create_table(
        "audit_chains",
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("chain", name=op.f("pk_audit_chains")),
    )
    op.create_table(
        "tags",
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["asset"], ["assets.asset"], name=op.f("fk_tags_asset")),
        sa.PrimaryKeyConstraint("asset", "tag", name=op.f("pk_tags")),
    )
    op.create_index(op.f("ix_tags_tag_asset"), "tags", ["tag", "asset"])
    op.create_table(
        "holds",
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("placed_by", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("placed_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["asset"], ["assets.asset"], name=op.f("fk_holds_asset")),
        sa.PrimaryKeyConstraint("asset", "number", name=op.f("pk_holds")),
    )
    op.create_table(
        "open_runs",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_open_runs")),
    )
    op.create_index(op.f("ix_open_runs_tenant"), "open_runs", ["tenant"])
    op.execute(
        "INSERT INTO open_runs (run_id, tenant, since) SELECT run_id, tenant, created_at FROM runs r WHERE 'running' = "
        "(SELECT state FROM run_states s WHERE s.run_id = r.run_id ORDER BY seq DESC LIMIT 1)"
    )
    op.create_table(
        "sinks",
        sa.Column("sink", sa.Text(), nullable=False),
        sa.Column("watermark", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sink", name=op.f("pk_sinks")),
    )
    op.create_table(
        "deliveries",
        sa.Column("sink", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('waiting', 'dead')", name=op.f("ck_deliveries_state")),
        sa.PrimaryKeyConstraint("sink", "seq", name=op.f("pk_deliveries")),
    )
    op.create_index(op.f("ix_deliveries_sink_asset_seq"), "deliveries", ["sink", "asset", "seq"])
    if postgres:
        # 0001 made them whole there: it named SQLite only.
        for table, name, indexed, condition in (
            ("blobs", "ix_blobs_unreferenced", "lease_until", "refcount = 0"),
            ("deletions", "ix_deletions_pending", "storage_key", "NOT done"),
        ):
            op.drop_index(name, table)
            op.create_index(name, table, [indexed], postgresql_where=sa.text(condition))
        for table in (*_OLD_FACTS, "tenant_settings", "version_deletions", "dependencies", "tag_moves", "hold_moves"):
            op.alter_column(table, "xid", server_default=_XID)
            op.create_index(op.f(f"ix_{table}_xid"), table, ["xid"])


def _fact(name: str, *rest: sa.schema.SchemaItem) -> None:
    op.create_table(
        name,
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        *rest,
        sa.Column("xid", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f(f"pk_{name}")),
        sqlite_autoincrement=True,
    )
