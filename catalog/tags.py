"""Tags: words that people put on assets, to find them again. Each change is a row of history, with who and why."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.journal import audit, many
from cloudbaker.errors import NotFound, UsageError
from cloudbaker.model import AssetRef, check_name

MOST = 64
"""Tags of one asset."""


def tags(core: Core, asset: AssetRef) -> tuple[str, ...]:
    """See `cloudbaker.catalog.core.Catalog.tags`."""
    with core.read() as connection:
        return tuple(sorted(_tags(connection, asset)))


def tag(
    core: Core, asset: AssetRef, names: Iterable[str], now: datetime, *, add: bool, by: str, why: str
) -> tuple[str, ...]:
    """Put tags on an asset, or with `add` false take them off; those it has afterwards. Saying it again is harmless.

    See `cloudbaker.catalog.core.Catalog.tag`.
    """
    wanted = {check_name("tag", name) for name in names}

    def work(connection: Connection) -> tuple[str, ...]:
        a, t = s.assets.c, s.tags.c
        # The asset's row is locked first, here as in `publish`: its facts then have the order of their commits.
        if connection.execute(sa.select(a.seq).where(a.asset == str(asset)).with_for_update()).first() is None:
            raise NotFound(f"there is no asset {asset} with a version: bake it first", asset=str(asset))
        has = _tags(connection, asset)
        change = sorted(wanted - has if add else wanted & has)
        after = has | wanted if add else has - wanted
        if len(after) > MOST:
            raise UsageError(f"{asset} would have {len(after)} tags, and may have {MOST}: take some off", most=MOST)
        if change:
            action = "add" if add else "remove"
            rows = [{"asset": str(asset), "tag": name} for name in change]
            if add:
                many(connection, s.tags, rows)
            else:
                connection.execute(sa.delete(s.tags).where(t.asset == str(asset), t.tag.in_(change)))
            many(
                connection,
                s.tag_moves,
                [{**row, "created_at": now, "action": action, "moved_by": by, "why": why} for row in rows],
            )
            audit(
                connection,
                now,
                tenant=asset.tenant,
                who=by,
                action="tag" if add else "untag",
                subject=str(asset),
                why=why,
                detail={"tags": change},
            )
        return tuple(sorted(after))

    return core.transact(work)


def _tags(connection: Connection, asset: AssetRef) -> set[str]:
    t = s.tags.c
    return set(connection.execute(sa.select(t.tag).where(t.asset == str(asset))).scalars())
