"""Usage: what each tenant has stored, made and computed."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import sqlalchemy as sa

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.records import UsageRow


def usage(core: Core, tenant: str | None) -> list[UsageRow]:
    """See `cloudbaker.catalog.core.Catalog.usage`."""
    b, u = s.blobs.c, s.usage_events.c
    count, total = sa.func.count(), sa.func.sum
    with core.read() as connection:

        def by_tenant(table: sa.Table, *columns: sa.ColumnElement[Any], where: Any = None) -> dict[str, list[Any]]:
            keys = [column for column in columns if isinstance(column, sa.Column)]
            query = sa.select(table.c.tenant, *columns).group_by(table.c.tenant, *keys)
            if tenant is not None:
                query = query.where(table.c.tenant == tenant)
            found: dict[str, list[Any]] = defaultdict(list)
            for row in connection.execute(query if where is None else query.where(where)):
                found[row[0]].append(row[1:])
            return found

        tenants = by_tenant(s.tenants, sa.func.max(s.tenants.c.quota_bytes))
        assets, versions, runs = (by_tenant(table, count) for table in (s.assets, s.versions, s.runs))
        stored = by_tenant(
            s.blobs, b.zone, total(b.size_bytes), total(b.size_bytes * (b.refcount - 1)), where=b.refcount > 0
        )
        computed = by_tenant(s.usage_events, u.subject, total(u.amount), where=u.kind == "compute_ms")
    return [
        UsageRow(
            tenant=name,
            assets=assets[name][0][0] if assets[name] else 0,
            versions=versions[name][0][0] if versions[name] else 0,
            runs=runs[name][0][0] if runs[name] else 0,
            bytes_by_zone={zone: int(size) for zone, size, _ in stored[name]},
            saved_bytes=sum(int(saved) for _, _, saved in stored[name]),
            compute_seconds={device: amount / 1000 for device, amount in computed[name]},
            quota_bytes=tenants[name][0][0],
        )
        for name in sorted(tenants)
    ]
