"""One asset with all that people ask of it: channels, tags, holds, newest versions, dependencies both ways."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

import sqlalchemy as sa

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.dependencies import Need, needed_by, needs
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.pages import table_html
from cloudbaker.catalog.records import Hold
from cloudbaker.errors import NotFound
from cloudbaker.model import AssetRef, to_json


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version in a list."""

    number: int
    created_at: datetime
    created_by: str
    recipe: str
    size_bytes: int
    change_note: str
    run_id: str
    channels: tuple[str, ...]
    held: bool
    deleted_at: datetime | None


@dataclass(frozen=True, slots=True)
class AssetView:
    """An asset as `Catalog.show` gives it. Shows itself in a notebook."""

    asset: AssetRef
    created_at: datetime
    latest: int
    channels: dict[str, int]
    tags: tuple[str, ...]
    holds: tuple[Hold, ...]
    versions: tuple[VersionRow, ...]
    """The newest, newest first."""
    depends_on: tuple[Need, ...]
    """Of the newest version."""
    dependents: tuple[Need, ...]
    """Newest versions, and those that a channel points at, of assets that need this one."""
    dependents_more: bool
    """There are more of them than are shown."""

    def to_json(self) -> dict[str, Any]:
        """The ``--json`` contract (docs/versions.md)."""
        return dict(to_json(self))

    def _repr_html_(self) -> str:
        rows = [
            (v.number, v.channels, v.created_at, v.created_by, v.recipe, v.size_bytes, v.change_note)
            for v in self.versions
        ]
        columns = ("version", "channels", "created", "by", "recipe", "bytes", "note")
        lines = [
            ("tags", ", ".join(self.tags)),
            ("holds", "; ".join(f"{h.number or 'all versions'}: {h.why}" for h in self.holds)),
            ("depends on", ", ".join(_target(n) for n in self.depends_on)),
            ("needed by", ", ".join(f"{n.asset}@{n.number}" for n in self.dependents)),
        ]
        items = "".join(f"<li>{name}: {escape(text)}</li>" for name, text in lines if text)
        return f"<div><b>{escape(str(self.asset))}</b><ul>{items}</ul>{table_html(columns, rows)}</div>"


def _target(need: Need) -> str:
    return str(need.on_asset) if need.on_number is None else f"{need.on_asset}@{need.on_number}"


def show(core: Core, asset: AssetRef, now: datetime, *, versions: int, dependents: int) -> AssetView:
    """See `cloudbaker.catalog.core.Catalog.show`."""
    a, v, c, t, h = s.assets.c, s.versions.c, s.channels.c, s.tags.c, s.holds.c
    this = str(asset)
    with core.read() as connection:
        known = connection.execute(sa.select(a.created_at, a.next_version).where(a.asset == this)).one_or_none()
        if known is None:
            raise NotFound(f"there is no asset {asset} with a version: bake it first", asset=this)
        channels: dict[str, int] = {
            row.channel: row.number
            for row in connection.execute(sa.select(c.channel, c.number).where(c.asset == this).order_by(c.channel))
        }
        tags = tuple(connection.execute(sa.select(t.tag).where(t.asset == this).order_by(t.tag)).scalars())
        in_force = sa.or_(h.until.is_(None), h.until > now)
        holds = tuple(
            Hold(asset, row.number or None, row.until, row.placed_by, row.why, row.placed_at)
            for row in connection.execute(
                sa.select(h.number, h.until, h.placed_by, h.why, h.placed_at)
                .where(h.asset == this, in_force)
                .order_by(h.number)
            )
        )
        held = {hold.number for hold in holds}
        columns = (v.number, v.created_at, v.created_by, v.recipe, v.size_bytes, v.change_note, v.run_id, v.deleted_at)
        newest = sa.select(*columns).where(v.asset == this).order_by(v.number.desc()).limit(versions)
        rows = tuple(
            VersionRow(
                number=row.number,
                created_at=row.created_at,
                created_by=row.created_by,
                recipe=row.recipe,
                size_bytes=row.size_bytes,
                change_note=row.change_note,
                run_id=row.run_id,
                channels=tuple(name for name, number in channels.items() if number == row.number),
                held=bool(held & {None, row.number}),
                deleted_at=row.deleted_at,
            )
            for row in connection.execute(newest)
        )
        latest = known.next_version - 1
        up = needed_by(connection, asset, None)
        return AssetView(
            asset=asset,
            created_at=known.created_at,
            latest=latest,
            channels=channels,
            tags=tags,
            holds=holds,
            versions=rows,
            depends_on=tuple(needs(connection, asset, latest)),
            dependents=tuple(up[:dependents]),
            dependents_more=len(up) > dependents,
        )
