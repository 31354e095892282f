"""Attempts and quarantine of bulk work. We count, not Ray: three failures are three whoever was killed in between."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.journal import audit, tell
from cloudbaker.catalog.records import QuarantineEntry
from cloudbaker.catalog.upsert import insert
from cloudbaker.model import AssetRef


def record_attempt(
    core: Core,
    asset: AssetRef,
    bake_key: str,
    now: datetime,
    *,
    run_id: str | None,
    status: str,
    error: dict[str, Any],
) -> int:
    """See `cloudbaker.catalog.core.Catalog.record_attempt`."""
    values = {"last_status": status, "last_error": error, "run_id": run_id, "last_at": now}
    with core.write() as connection:
        row = insert(connection, s.attempts).values(
            asset=str(asset), bake_key=bake_key, count=1, first_at=now, **values
        )
        counted = row.on_conflict_do_update(
            index_elements=["asset", "bake_key"], set_={"count": s.attempts.c["count"] + 1, **values}
        ).returning(s.attempts.c["count"])
        return int(connection.execute(counted).scalar_one())


def attempts(core: Core, asset: AssetRef, bake_key: str) -> int:
    """See `cloudbaker.catalog.core.Catalog.attempts`."""
    a = s.attempts.c
    with core.read() as connection:
        which = (a.asset == str(asset), a.bake_key == bake_key)
        return int(connection.execute(sa.select(a["count"]).where(*which)).scalar() or 0)


def clear_attempts(core: Core, asset: AssetRef, bake_key: str | None) -> int:
    """See `cloudbaker.catalog.core.Catalog.clear_attempts`."""
    with core.write() as connection:
        return connection.execute(sa.delete(s.attempts).where(*_which(s.attempts, asset, bake_key))).rowcount


def quarantine(
    core: Core,
    asset: AssetRef,
    bake_key: str,
    now: datetime,
    *,
    run_id: str | None,
    attempts: int,
    status: str,
    error: dict[str, Any],
) -> None:
    """See `cloudbaker.catalog.core.Catalog.quarantine`."""
    facts = {"bake_key": bake_key, "attempts": attempts, "status": status, "error": error}
    with core.write() as connection:
        row = insert(connection, s.quarantine).values(asset=str(asset), run_id=run_id, created_at=now, **facts)
        new = row.on_conflict_do_nothing().returning(s.quarantine.c.asset)
        if connection.execute(new).first() is not None:
            told = {"state": "quarantined", "bake_key": bake_key, "attempts": attempts, "status": status}
            tell(connection, now, asset, "review.updated", told, run_id=run_id)
            audit(
                connection,
                now,
                tenant=asset.tenant,
                who="cloudbaker",
                action="quarantine",
                subject=str(asset),
                why=f"attempt {attempts} failed",
                run_id=run_id,
                detail=facts,
            )


def quarantined(core: Core, asset: AssetRef | None) -> list[QuarantineEntry]:
    """See `cloudbaker.catalog.core.Catalog.quarantined`."""
    q = s.quarantine.c
    columns = (q.asset, q.bake_key, q.attempts, q.status, q.error, q.run_id, q.created_at)
    query = sa.select(*columns).order_by(q.created_at, q.asset)
    if asset is not None:
        query = query.where(q.asset == str(asset))
    with core.read() as connection:
        return [QuarantineEntry(AssetRef.parse(row.asset), *row[1:]) for row in connection.execute(query)]


def release(core: Core, asset: AssetRef, bake_key: str | None, now: datetime, *, by: str, why: str) -> int:
    """See `cloudbaker.catalog.core.Catalog.release`."""
    with core.write() as connection:
        released = connection.execute(sa.delete(s.quarantine).where(*_which(s.quarantine, asset, bake_key))).rowcount
        connection.execute(sa.delete(s.attempts).where(*_which(s.attempts, asset, bake_key)))
        if released:
            detail = {"bake_key": bake_key, "entries": released}
            subject = str(asset)
            told = {"state": "released", "bake_key": bake_key, "by": by, "why": why}
            tell(connection, now, asset, "review.updated", told, run_id=None)
            audit(
                connection, now, tenant=asset.tenant, who=by, action="release", subject=subject, why=why, detail=detail
            )
    return released


def _which(table: sa.Table, asset: AssetRef, bake_key: str | None) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = [table.c.asset == str(asset)]
    return conditions + ([table.c.bake_key == bake_key] if bake_key is not None else [])
