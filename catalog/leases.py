"""How long what nobody refers to is kept."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.records import Retention


def lease(connection: Connection, tenant: str, zone: str, default: timedelta) -> timedelta:
    """The lease of an upload: in the inbox the time that the tenant's policy names, if there is one."""
    if zone != "inbox":
        return default
    t = s.tenants.c
    policy = Retention.parse(connection.execute(sa.select(t.retention).where(t.tenant == tenant)).scalar())
    return default if policy is None else timedelta(hours=policy.inbox_hours)
