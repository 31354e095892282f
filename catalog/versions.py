"""Reading versions, and lists of them by pages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.pages import Order, Page
from cloudbaker.catalog.records import LatestVersion, ProjectInfo
from cloudbaker.errors import NotFound, UsageError
from cloudbaker.model import Artifact, AssetRef, Blob, Dependency, Finding, Loss, Role, Severity, Source, Version

VersionSort = Literal["newest", "oldest"]

_COLUMNS = ("number", "channels", "created_at", "created_by", "recipe", "size_bytes", "change_note", "bake_key")
"""Of a notebook's table of versions."""
_CHUNK = 500
"""Values of one IN list; SQLite's default limit of variables is 32,766, older ones' 999."""


def find_version(core: Core, asset: AssetRef, bake_key: str) -> Version | None:
    """See `cloudbaker.catalog.core.Catalog.find_version`."""
    v = s.versions.c
    with core.read() as connection:
        same = (v.asset == str(asset), v.bake_key == bake_key, v.deleted_at.is_(None))
        newest = sa.select(s.versions).where(*same).order_by(v.number.desc())
        rows = connection.execute(newest.limit(1)).all()
        return next(iter(_load(connection, asset, rows)), None)


def get_version(core: Core, asset: AssetRef, which: int | str) -> Version:
    """See `cloudbaker.catalog.core.Catalog.get_version`."""
    v, c = s.versions.c, s.channels.c
    with core.read() as connection:
        number: int | None = which if isinstance(which, int) else None
        if isinstance(which, str):
            number = connection.execute(sa.select(c.number).where(c.asset == str(asset), c.channel == which)).scalar()
        rows = connection.execute(sa.select(s.versions).where(v.asset == str(asset), v.number == number)).all()
        if rows:
            return _load(connection, asset, rows)[0]
        newest = connection.execute(sa.select(sa.func.max(v.number)).where(v.asset == str(asset))).scalar()
        names = list(
            connection.execute(sa.select(c.channel).where(c.asset == str(asset)).order_by(c.channel)).scalars()
        )
    if newest is None:
        raise NotFound(f"there is no asset {asset} with a version: bake it first", asset=str(asset))
    kind = "version" if isinstance(which, int) else "channel"
    raise NotFound(
        f"{asset} has no {kind} {which!r}; versions: 1 to {newest}, channels: {', '.join(names) or 'none'}",
        asset=str(asset),
        versions=newest,
        channels=list(names),
    )


def versions(
    core: Core, asset: AssetRef, *, sort: VersionSort, limit: int, cursor: str | None, deleted: bool
) -> Page[Version]:
    """See `cloudbaker.catalog.core.Catalog.versions`."""
    if sort not in ("newest", "oldest"):
        raise UsageError(f"versions are sorted by 'newest' or 'oldest', not by {sort!r}")
    v = s.versions.c
    order = Order((v.number,), sort == "newest", {"versions": str(asset), "deleted": deleted})
    query = sa.select(s.versions).where(v.asset == str(asset))
    if not deleted:
        query = query.where(v.deleted_at.is_(None))
    with core.read() as connection:
        found = connection.execute(order.page(query, limit=limit, cursor=cursor)).all()
        rows, after = order.cut(found, limit)
        return Page(_load(connection, asset, rows), next=after, columns=_COLUMNS)


def projects(core: Core, tenant: str | None) -> Page[ProjectInfo]:
    """See `cloudbaker.catalog.core.Catalog.projects`."""
    p, a = s.projects.c, s.assets.c
    count = sa.select(sa.func.count()).where(a.tenant == p.tenant, a.project == p.project).scalar_subquery()
    query = sa.select(p.tenant, p.project, p.created_at, count.label("assets")).order_by(p.tenant, p.project)
    if tenant is not None:
        query = query.where(p.tenant == tenant)
    with core.read() as connection:
        return Page(ProjectInfo(*row) for row in connection.execute(query))


def latest_versions(core: Core, only: Iterable[str] | None) -> list[LatestVersion]:
    """The newest version of each asset, in the order of their names; `only` of these assets where it is given."""
    v, a, src, c = s.versions.c, s.assets.c, s.version_sources.c, s.channels.c
    # What was deleted is not to be baked again.
    newest = sa.and_(a.asset == v.asset, v.number == a.next_version - 1, v.deleted_at.is_(None))
    columns = (v.asset, v.number, v.recipe, v.recipe_hash, v.bake_key, v.engine, v.tools)
    query = sa.select(*columns).join_from(s.assets, s.versions, newest)
    query_sources = (
        sa.select(src.asset, src.name, src.media_type, src.sha256, src.size_bytes, src.storage_key)
        .join_from(s.assets, s.version_sources, sa.and_(a.asset == src.asset, src.number == a.next_version - 1))
        .order_by(src.seq)
    )
    query_channels = (
        sa.select(a.asset, c.channel)
        .join_from(s.assets, s.channels, sa.and_(a.asset == c.asset, c.number == a.next_version - 1))
        .order_by(c.channel)
    )
    found: list[Any] = []
    channels: dict[str, list[str]] = defaultdict(list)
    sources: dict[str, list[Source]] = defaultdict(list)
    wanted: list[list[str]] | list[None] = [None] if only is None else _chunks(sorted(only))
    with core.read() as connection:
        for some in wanted:
            narrow = sa.true() if some is None else a.asset.in_(some)
            found += connection.execute(query.where(narrow)).all()
            for row in connection.execute(query_sources.where(narrow)):
                sources[row.asset].append(Source(row.name, row.media_type, _blob(row)))
            for asset, channel in connection.execute(query_channels.where(narrow)):
                channels[asset].append(channel)
    return [
        LatestVersion(
            asset=AssetRef.parse(row.asset),
            number=row.number,
            recipe=row.recipe,
            recipe_hash=row.recipe_hash,
            bake_key=row.bake_key,
            engine=row.engine,
            sources=tuple(sources[row.asset]),
            tools=row.tools,
            channels=tuple(channels[row.asset]),
        )
        for row in sorted(found, key=lambda row: str(row.asset))
    ]


def _load(connection: Connection, asset: AssetRef, rows: Sequence[Any]) -> list[Version]:
    """Versions of one asset, each with everything that belongs to it, by one query per table for all of them."""
    numbers = [row.number for row in rows]
    if not numbers:
        return []

    def group(table: sa.Table) -> dict[int, list[Any]]:
        found: dict[int, list[Any]] = defaultdict(list)
        for some in _chunks(numbers):
            c = table.c
            belongs = sa.select(table).where(c.asset == str(asset), c.number.in_(some)).order_by(c.seq)
            for row in connection.execute(belongs):
                found[row.number].append(row)
        return found

    sources, artifacts, findings, losses = map(group, (s.version_sources, s.artifacts, s.findings, s.losses))
    envelopes, needs = group(s.provenance), group(s.dependencies)
    metrics: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    m = s.metrics.c
    for some in _chunks([row.run_id for row in rows]):
        chosen = sa.select(m.run_id, m.scope, m.subject, m.name, m.value).where(m.run_id.in_(some))
        for row in connection.execute(chosen.where(m.scope.in_(["version", "artifact"])).order_by(m.seq)):
            metrics[row.run_id, row.scope, row.subject][row.name] = row.value
    channels: dict[int, list[str]] = defaultdict(list)
    c = s.channels.c
    pointers = sa.select(c.channel, c.number).where(c.asset == str(asset)).order_by(c.channel)
    for channel, number in connection.execute(pointers):
        channels[number].append(channel)
    return [
        Version(
            asset=asset,
            number=row.number,
            bake_key=row.bake_key,
            recipe=row.recipe,
            recipe_hash=row.recipe_hash,
            run_id=row.run_id,
            created_at=row.created_at,
            created_by=row.created_by,
            change_note=row.change_note,
            size_bytes=row.size_bytes,
            sources=tuple(Source(x.name, x.media_type, _blob(x)) for x in sources[row.number]),
            artifacts=tuple(
                Artifact(
                    role=Role(x.role),
                    variant=x.variant,
                    name=x.name,
                    media_type=x.media_type,
                    blob=_blob(x),
                    device=x.device,
                    metrics=metrics[row.run_id, "artifact", x.name],
                )
                for x in artifacts[row.number]
            ),
            findings=tuple(
                Finding(x.code, Severity(x.severity), x.place, x.message, x.remedy) for x in findings[row.number]
            ),
            losses=tuple(Loss(x.kind, x.place, x.detail) for x in losses[row.number]),
            metrics=metrics[row.run_id, "version", ""],
            tools=row.tools,
            provenance=envelopes[row.number][0].envelope,
            channels=tuple(channels[row.number]),
            engine=row.engine,
            dependencies=tuple(_dependency(x) for x in needs[row.number]),
            deleted_at=row.deleted_at,
        )
        for row in rows
    ]


def _blob(row: Any) -> Blob:
    return Blob(row.sha256, row.size_bytes, row.storage_key)


def _dependency(row: Any) -> Dependency:
    return Dependency(AssetRef.parse(row.on_asset), row.on_number, row.kind)


def _chunks(values: list[Any]) -> list[list[Any]]:
    return [values[i : i + _CHUNK] for i in range(0, len(values), _CHUNK)]
