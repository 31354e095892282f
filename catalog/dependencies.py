"""What a version needs of other assets, and what needs an asset. Cycles are allowed, and end."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.pages import Page
from cloudbaker.model import AssetRef


@dataclass(frozen=True, slots=True)
class Need:
    """One edge: a version that needs another asset."""

    asset: AssetRef
    number: int
    on_asset: AssetRef
    on_number: int | None
    """The version that it needs; None: whatever the asset's channel points at."""
    kind: str
    depth: int = 1
    """1: it needs the asset itself that was asked about; 2: something that needs it; and so on."""


def depends_on(core: Core, asset: AssetRef, number: int, *, transitive: bool = False) -> Page[Need]:
    """See `cloudbaker.catalog.core.Catalog.depends_on`."""
    with core.read() as connection:
        return Page(needs(connection, asset, number, transitive=transitive))


def needs(connection: Connection, asset: AssetRef, number: int, *, transitive: bool = False) -> list[Need]:
    """What a version needs; with `transitive` also what that needs, in the version that it gets of it."""
    d = s.dependencies.c
    columns = (d.asset, d.number, d.on_asset, d.on_number, d.kind)
    direct = sa.select(*columns).where(d.asset == str(asset), d.number == number)
    if not transitive:
        return [_need(row, 1) for row in connection.execute(direct.order_by(d.on_asset, d.kind))]
    # A version that is needed by number, or what `live` points at, or else the newest.
    c, a = s.channels.c, s.assets.c
    pointed = sa.select(c.number).where(c.asset == d.on_asset, c.channel == "live").scalar_subquery()
    newest = sa.select(a.next_version - 1).where(a.asset == d.on_asset).scalar_subquery()
    gets = sa.func.coalesce(d.on_number, pointed, newest)
    reached = (
        sa.select(d.on_asset.label("asset"), gets.label("number"))
        .where(d.asset == str(asset), d.number == number)
        .cte("reached", recursive=True)
    )
    # UNION and not UNION ALL: what was reached before is not walked again, so a cycle ends.
    reached = reached.union(
        sa.select(d.on_asset, gets).join_from(
            reached, s.dependencies, sa.and_(d.asset == reached.c.asset, d.number == reached.c.number)
        )
    )
    further = sa.select(*columns).join_from(
        reached, s.dependencies, sa.and_(d.asset == reached.c.asset, d.number == reached.c.number)
    )
    rows = connection.execute(sa.union(direct, further)).all()
    edges: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        edges[row.asset].append(row)
    return _by_depth(str(asset), edges, lambda row: row.on_asset)


def dependents(
    core: Core, asset: AssetRef, number: int | None, *, transitive: bool = False, old: bool = False
) -> Page[Need]:
    """See `cloudbaker.catalog.core.Catalog.dependents`."""
    with core.read() as connection:
        return Page(needed_by(connection, asset, number, transitive=transitive, old=old))


def needed_by(
    connection: Connection, asset: AssetRef, number: int | None, *, transitive: bool = False, old: bool = False
) -> list[Need]:
    """What needs an asset (or one version of it): see `dependents`."""
    d, v, a, c = s.dependencies.c, s.versions.c, s.assets.c, s.channels.c
    columns = (d.asset, d.number, d.on_asset, d.on_number, d.kind)
    alive = sa.and_(v.asset == d.asset, v.number == d.number, v.deleted_at.is_(None))
    newest = sa.exists().where(a.asset == d.asset, a.next_version == d.number + 1)
    pointed = sa.exists().where(c.asset == d.asset, c.number == d.number)
    matters = sa.true() if old else sa.or_(newest, pointed)
    which = sa.true() if number is None else sa.or_(d.on_number.is_(None), d.on_number == number)
    edges = sa.select(*columns).join_from(s.dependencies, s.versions, alive).where(matters)
    direct = edges.where(d.on_asset == str(asset), which)
    if not transitive:
        return [_need(row, 1) for row in connection.execute(direct.order_by(d.asset, d.number, d.kind))]
    first = direct.subquery()
    reached = sa.select(first.c.asset).cte("reached", recursive=True)
    upward = (
        sa.select(d.asset)
        .select_from(reached)
        .join(s.dependencies, d.on_asset == reached.c.asset)
        .join(s.versions, alive)
        .where(matters)
    )
    reached = reached.union(upward)
    further = edges.where(d.on_asset.in_(sa.select(reached.c.asset)))
    by_target: dict[str, list[Any]] = defaultdict(list)
    for row in connection.execute(sa.union(direct, further)):
        by_target[row.on_asset].append(row)
    if number is not None:  # reached again by a cycle, other versions of the asset itself are not what was asked
        by_target[str(asset)] = [row for row in by_target[str(asset)] if row.on_number in (None, number)]
    return _by_depth(str(asset), by_target, lambda row: row.asset)


def _by_depth(start: str, edges: dict[str, list[Any]], ahead: Any) -> list[Need]:
    """The edges reached from `start`, nearest first, each once."""
    found, seen, level, depth = list[Need](), {start}, [start], 1
    while level:
        rows = [row for name in level for row in edges[name]]
        rows.sort(key=lambda row: (row.asset, row.number, row.on_asset, row.kind))
        found += [_need(row, depth) for row in rows]
        level = sorted({ahead(row) for row in rows} - seen)
        seen.update(level)
        depth += 1
    return found


def _need(row: Any, depth: int) -> Need:
    return Need(AssetRef.parse(row.asset), row.number, AssetRef.parse(row.on_asset), row.on_number, row.kind, depth)
