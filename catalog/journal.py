"""Writing facts down: rows in bulk, figures, the audit log and the outbox. All inside the caller's transaction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker.catalog import schema as s
from cloudbaker.errors import UsageError
from cloudbaker.model import AssetRef


def measured(scope: str, subject: str, metrics: Mapping[str, float]) -> list[dict[str, Any]]:
    """Figures as rows of `schema.metrics`. Raises `UsageError` for a figure that is not finite."""
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise UsageError(f"metric {name} of {subject or scope} is {value}: leave out what could not be measured")
    return [{"scope": scope, "subject": subject, "name": name, "value": float(v)} for name, v in metrics.items()]


def many(connection: Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows, if there are any (an empty list would insert one row of defaults)."""
    if rows:
        connection.execute(sa.insert(table), rows)


def audit(
    connection: Connection,
    now: datetime,
    *,
    who: str,
    action: str,
    subject: str,
    why: str = "",
    tenant: str | None = None,
    run_id: str | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Write down who did what to what, and why."""
    connection.execute(
        sa.insert(s.audit),
        {
            "created_at": now,
            "tenant": tenant,
            "who": who,
            "action": action,
            "subject": subject,
            "why": why,
            "run_id": run_id,
            "detail": detail,
        },
    )


def tell(
    connection: Connection, now: datetime, asset: AssetRef, kind: str, payload: dict[str, Any], *, run_id: str | None
) -> None:
    """Put an event into the outbox: it will be told exactly if this transaction commits."""
    connection.execute(
        sa.insert(s.outbox),
        {
            "created_at": now,
            "tenant": asset.tenant,
            "asset": str(asset),
            "run_id": run_id,
            "kind": kind,
            "payload": payload,
        },
    )
