"""Quotas: how much a tenant may store and run. Set here; enforced where something begins.

Bytes are counted when an upload claims its place (`uploads`), runs when they start (`runs`): each inside the
transaction that takes what it asks for, so that no number of uploads or runs at once can pass a quota together.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker.catalog import schema as s
from cloudbaker.catalog import tenant_settings
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.records import Quota
from cloudbaker.errors import UsageError


class Keep(Enum):
    """The type of `KEEP`."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP
"""Leave this quota as it is; None takes it away."""

_MOST = 1 << 62
"""What fits into the database's integers, with room for sums."""


def set_quota(core: Core, tenant: str, now: datetime, *, by: str, why: str, **limits: int | Keep | None) -> None:
    """See `cloudbaker.catalog.core.Catalog.set_quota`."""
    values: dict[str, Any] = {}
    for name, limit in limits.items():
        if isinstance(limit, Keep):
            continue
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or not 0 <= limit < _MOST):
            raise UsageError(
                f"a quota of {limit} {name.replace('_', ' ')} makes no sense: give a whole number from 0 on, or none "
                "for no limit",
                tenant=tenant,
            )
        values[f"quota_{name}"] = limit
    tenant_settings.put(core, tenant, values, now, action="set-quota", by=by, why=why)


def quota(core: Core, tenant: str, now: datetime) -> Quota:
    """See `cloudbaker.catalog.core.Catalog.quota`."""
    with core.read() as connection:
        tenant_settings.row(connection, tenant)
        return _quotas(connection, now, tenant)[0]


def quotas(core: Core, now: datetime) -> list[Quota]:
    """See `cloudbaker.catalog.core.Catalog.quotas`."""
    with core.read() as connection:
        return _quotas(connection, now, None)


def _quotas(connection: Connection, now: datetime, tenant: str | None) -> list[Quota]:
    t, o, r = s.tenants.c, s.open_runs.c, s.runs.c

    def counted(column: sa.ColumnElement[Any], *where: sa.ColumnElement[bool]) -> dict[str, int]:
        query = sa.select(column, sa.func.count()).where(*where).group_by(column)
        if tenant is not None:
            query = query.where(column == tenant)
        return {row[0]: row[1] for row in connection.execute(query)}

    begun = midnight(now)
    in_flight = counted(o.tenant)
    today = counted(r.tenant, r.created_at >= begun, r.created_at < begun + timedelta(days=1))
    rows = sa.select(s.tenants).order_by(t.tenant)
    return [
        Quota(
            tenant=row.tenant,
            bytes=row.quota_bytes,
            used_bytes=row.used_bytes,
            reserved_bytes=row.reserved_bytes,
            runs_in_flight=row.quota_runs_in_flight,
            runs_in_flight_now=in_flight.get(row.tenant, 0),
            runs_per_day=row.quota_runs_per_day,
            runs_today=today.get(row.tenant, 0),
        )
        for row in connection.execute(rows if tenant is None else rows.where(t.tenant == tenant))
    ]


def midnight(now: datetime) -> datetime:
    """When the day of a quota began: midnight UTC, for tenants wherever they are."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
