"""What an operator sets for a tenant: quotas and retention. Each setting is a fact, and on the tenant's row for use."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.journal import audit, many
from cloudbaker.catalog.uploads import ensure_tenant
from cloudbaker.errors import NotFound
from cloudbaker.model import check_name

NAMES = ("quota_bytes", "quota_runs_in_flight", "quota_runs_per_day", "retention")
"""The settings there are; each is a column of `schema.tenants` too."""


def put(
    core: Core, tenant: str, values: Mapping[str, Any], now: datetime, *, action: str, by: str, why: str
) -> dict[str, Any]:
    """Set some of a tenant's settings, in one transaction; those that differed, as they were.

    A tenant that is not known yet becomes known: its quota may come before its first upload. What is set already is
    not written down again. Raises `NameRefused`.
    """
    check_name("tenant", tenant)
    with core.write() as connection:
        ensure_tenant(connection, tenant, now)
        t = s.tenants.c
        was = connection.execute(
            sa.select(*(t[name] for name in NAMES)).where(t.tenant == tenant).with_for_update()
        ).one()
        changed = {name: value for name, value in values.items() if was._mapping[name] != value}
        if not changed:
            return {}
        before = {name: was._mapping[name] for name in changed}
        connection.execute(sa.update(s.tenants).where(t.tenant == tenant).values(**changed))
        common = {"created_at": now, "tenant": tenant, "set_by": by, "why": why}
        many(connection, s.tenant_settings, [{**common, "name": n, "value": v} for n, v in sorted(changed.items())])
        detail = {name: {"from": before[name], "to": value} for name, value in sorted(changed.items())}
        audit(connection, now, tenant=tenant, who=by, action=action, subject=tenant, why=why, detail=detail)
    return before


def row(connection: Connection, tenant: str) -> sa.Row[Any]:
    """The tenant's row. Raises `NotFound`."""
    found = connection.execute(sa.select(s.tenants).where(s.tenants.c.tenant == tenant)).one_or_none()
    if found is None:
        raise NotFound(f"there is no tenant {tenant}: its first upload or setting makes it known", tenant=tenant)
    return found
