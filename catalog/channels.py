"""Channels: movable pointers to versions. A move is a compare-and-swap under the asset's lock; history stays."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.journal import Entry, Event, audit_all, many, tell_all
from cloudbaker.catalog.records import PointerMove
from cloudbaker.catalog.statements import Statement
from cloudbaker.catalog.turns import lock_asset
from cloudbaker.errors import Conflict, NotFound
from cloudbaker.model import AssetRef, check_name


def channels(core: Core, asset: AssetRef) -> dict[str, int]:
    """The asset's channels and the version number that each points at."""
    c = s.channels.c
    with core.read() as connection:
        rows = connection.execute(sa.select(c.channel, c.number).where(c.asset == str(asset)).order_by(c.channel))
        return {row.channel: row.number for row in rows}


def moves(core: Core, asset: AssetRef) -> list[PointerMove]:
    """Every move of the asset's channels, newest first."""
    m = s.pointer_moves.c
    columns = (m.created_at, m.channel, m.number, m.previous, m.moved_by, m.why, m.run_id)
    with core.read() as connection:
        rows = connection.execute(sa.select(*columns).where(m.asset == str(asset)).order_by(m.seq.desc()))
        return [PointerMove(*row) for row in rows]


def move_channel(
    core: Core,
    asset: AssetRef,
    channel: str,
    number: int,
    now: datetime,
    *,
    by: str,
    why: str,
    expected: int | None = None,
) -> None:
    """See `cloudbaker.catalog.core.Catalog.move_channel`."""
    check_name("channel", channel)

    def move(connection: Connection) -> None:
        lock_asset(connection, asset)
        v, c = s.versions.c, s.channels.c
        version = connection.execute(
            sa.select(v.deleted_at).where(v.asset == str(asset), v.number == number)
        ).one_or_none()
        if version is None or version.deleted_at is not None:
            raise NotFound(
                f"there is no version {asset}@{number} to point {channel!r} at"
                + ("" if version is None else ": it was deleted"),
                asset=str(asset),
                number=number,
            )
        now_at = sa.select(c.number).where(c.asset == str(asset), c.channel == channel)
        previous: int | None = connection.execute(now_at).scalar()
        if expected is not None and previous != expected:
            points = f"points at version {previous}" if previous else "does not exist"
            raise Conflict(
                f"channel {channel!r} of {asset} {points} and not at {expected}: somebody moved it; look again",
                expected=expected,
                found=previous,
            )
        if previous == number:
            return
        entry, event = point(connection, asset, channel, previous, number, now, by=by, why=why)
        tell_all(connection, now, [event])
        audit_all(connection, now, asset.tenant, [entry])

    core.transact(move)


_POINT = Statement(
    lambda insert: (
        (row := insert(s.channels))
        .values(
            {name: sa.bindparam(name) for name in ("asset", "channel", "number", "moved_at", "moved_by")} | {"rev": 1}
        )
        .on_conflict_do_update(
            index_elements=["asset", "channel"],
            set_={name: row.excluded[name] for name in ("number", "moved_at", "moved_by")}
            | {"rev": s.channels.c.rev + 1},
        )
    )
)


def point(
    connection: Connection,
    asset: AssetRef,
    channel: str,
    previous: int | None,
    number: int,
    now: datetime,
    *,
    by: str,
    why: str,
    run_id: str | None = None,
) -> tuple[Entry, Event]:
    """Point a channel at another version inside a transaction that has the asset locked; what to audit and to tell.

    The lock is what makes it a compare-and-swap: `previous` was read under it.
    """
    _POINT.run(connection, asset=str(asset), channel=channel, number=number, moved_at=now, moved_by=by)
    move = {
        "created_at": now,
        "asset": str(asset),
        "channel": channel,
        "number": number,
        "previous": previous,
        "moved_by": by,
        "why": why,
        "run_id": run_id,
    }
    many(connection, s.pointer_moves, [move])
    entry = Entry(by, "move-channel", f"{asset}:{channel}", why, run_id, {"from": previous, "to": number})
    event = Event(asset, "channel.moved", {"channel": channel, "from": previous, "to": number}, run_id)
    return entry, event
