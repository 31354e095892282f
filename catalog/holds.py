"""Holds: "not this one". A held version is not deleted, by whatever retention says or whoever asks."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.journal import audit
from cloudbaker.catalog.records import Hold
from cloudbaker.catalog.turns import lock_asset
from cloudbaker.errors import NotFound, UsageError
from cloudbaker.model import AssetRef

ALL = 0
"""In place of a number: all versions of the asset, those to come too."""


def place_hold(
    core: Core, asset: AssetRef, number: int | None, now: datetime, *, until: datetime | None, by: str, why: str
) -> None:
    """See `cloudbaker.catalog.core.Catalog.place_hold`."""
    if until is not None and until.tzinfo is None:
        raise UsageError(f"the end of a hold, {until}, has no zone: use datetime.now(UTC) and the like")
    if until is not None and until <= now:
        raise UsageError(f"a hold until {until:%Y-%m-%d %H:%M} has ended before it begins: give a later time, or none")
    h = s.holds.c
    this = (h.asset == str(asset), h.number == (number or ALL))
    values = {"until": until, "placed_by": by, "why": why, "placed_at": now}
    with core.write() as connection:
        lock_asset(connection, asset)
        if number is not None:
            v = s.versions.c
            live = sa.select(v.seq).where(v.asset == str(asset), v.number == number, v.deleted_at.is_(None))
            if connection.execute(live).first() is None:
                raise NotFound(
                    f"there is no version {asset}@{number} to hold: it was never published, or is deleted already",
                    asset=str(asset),
                    number=number,
                )
        if connection.execute(sa.update(s.holds).where(*this).values(**values)).rowcount == 0:
            connection.execute(sa.insert(s.holds), {"asset": str(asset), "number": number or ALL, **values})
        _write_down(connection, asset, number, "place", now, until=until, by=by, why=why)


def release_hold(core: Core, asset: AssetRef, number: int | None, now: datetime, *, by: str, why: str) -> bool:
    """See `cloudbaker.catalog.core.Catalog.release_hold`."""
    h = s.holds.c
    with core.write() as connection:
        lock_asset(connection, asset)
        gone = sa.delete(s.holds).where(h.asset == str(asset), h.number == (number or ALL))
        if connection.execute(gone).rowcount == 0:
            return False
        _write_down(connection, asset, number, "release", now, until=None, by=by, why=why)
    return True


def holds(core: Core, asset: AssetRef | None, tenant: str | None, now: datetime) -> list[Hold]:
    """See `cloudbaker.catalog.core.Catalog.holds`."""
    h, a = s.holds.c, s.assets.c
    columns = (h.asset, h.number, h.until, h.placed_by, h.why, h.placed_at)
    query = sa.select(*columns).join(s.assets, a.asset == h.asset).where(in_force(now)).order_by(h.asset, h.number)
    if asset is not None:
        query = query.where(h.asset == str(asset))
    if tenant is not None:
        query = query.where(a.tenant == tenant)
    with core.read() as connection:
        rows = connection.execute(query).all()
    return [Hold(AssetRef.parse(r.asset), r.number or None, r.until, r.placed_by, r.why, r.placed_at) for r in rows]


def in_force(now: datetime) -> sa.ColumnElement[bool]:
    """The condition that a row of `schema.holds` still holds."""
    return sa.or_(s.holds.c.until.is_(None), s.holds.c.until > now)


def _write_down(
    connection: Connection,
    asset: AssetRef,
    number: int | None,
    action: str,
    now: datetime,
    *,
    until: datetime | None,
    by: str,
    why: str,
) -> None:
    move = {"created_at": now, "asset": str(asset), "number": number, "action": action}
    connection.execute(sa.insert(s.hold_moves), {**move, "until": until, "moved_by": by, "why": why})
    subject = str(asset) if number is None else f"{asset}@{number}"
    detail = None if until is None else {"until": until.isoformat()}
    audit(
        connection, now, tenant=asset.tenant, who=by, action=f"{action}-hold", subject=subject, why=why, detail=detail
    )
