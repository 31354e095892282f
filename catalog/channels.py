"""Channels: movable pointers to versions. A move is a compare-and-swap; history stays."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.journal import audit, tell
from cloudbaker.catalog.records import PointerMove
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
    with core.write() as connection:
        v = s.versions.c
        exists = sa.select(v.seq).where(v.asset == str(asset), v.number == number)
        if connection.execute(exists).first() is None:
            raise NotFound(
                f"there is no version {asset}@{number} to point {channel!r} at", asset=str(asset), number=number
            )
        set_channel(connection, asset, channel, number, now, by=by, why=why, expected=expected)


def set_channel(
    connection: Connection,
    asset: AssetRef,
    channel: str,
    number: int,
    now: datetime,
    *,
    by: str,
    why: str,
    run_id: str | None = None,
    expected: int | None = None,
) -> None:
    """Point a channel at a version inside a transaction. A channel that points there already is left alone.

    `expected`: the number it must point at now, else `Conflict`.
    """
    c = s.channels.c
    this = (c.asset == str(asset), c.channel == channel)
    now_at = connection.execute(sa.select(c.number, c.rev).where(*this)).one_or_none()
    previous = now_at.number if now_at else None
    if expected is not None and previous != expected:
        points = f"points at version {previous}" if previous else "does not exist"
        raise Conflict(
            f"channel {channel!r} of {asset} {points} and not at {expected}: somebody moved it; look again",
            expected=expected,
            found=previous,
        )
    if previous == number:
        return
    values = {"number": number, "moved_at": now, "moved_by": by}
    if now_at is None:
        connection.execute(sa.insert(s.channels), {"asset": str(asset), "channel": channel, "rev": 1, **values})
    else:
        swap = sa.update(s.channels).where(*this, c.rev == now_at.rev).values(rev=now_at.rev + 1, **values)
        if connection.execute(swap).rowcount != 1:  # can't be while there is one writer; on Postgres it can
            raise Conflict(f"channel {channel!r} of {asset} was moved by somebody else: look again", asset=str(asset))
    connection.execute(
        sa.insert(s.pointer_moves),
        {
            "created_at": now,
            "asset": str(asset),
            "channel": channel,
            "number": number,
            "previous": previous,
            "moved_by": by,
            "why": why,
            "run_id": run_id,
        },
    )
    audit(
        connection,
        now,
        tenant=asset.tenant,
        who=by,
        action="move-channel",
        subject=f"{asset}:{channel}",
        why=why,
        run_id=run_id,
        detail={"from": previous, "to": number},
    )
    tell(connection, now, asset, "channel.moved", {"channel": channel, "from": previous, "to": number}, run_id=run_id)
