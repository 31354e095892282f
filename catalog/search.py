"""Finding assets: by words of their names, tags, tenant, project, recipe and time, by pages.

Every page is read along an index in the order that it is shown in, so it costs what it shows and not what there is.
Two questions cost more, and say so here: *words* look at each name of the tenant (200,000 names: 15 ms), since they are
found anywhere in it; and *tags* with ``newest`` sort the assets that have the first of the tags.

Questions about figures, notes, findings or hashes are for `Catalog.sql`, which reads columns of millions of rows.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.pages import Order, Page
from cloudbaker.catalog.records import AssetInfo
from cloudbaker.errors import UsageError
from cloudbaker.model import AssetRef, check_name

Sort = Literal["name", "-name", "newest", "oldest"]
"""By name, or by when the newest version was published."""

_CHUNK = 500
_WORDS = 16


def search(
    core: Core,
    text: str = "",
    *,
    tags: Sequence[str] = (),
    tenant: str | None = None,
    project: str | None = None,
    recipe: str | None = None,
    created_by: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    deleted: bool = False,
    sort: Sort = "name",
    limit: int = 100,
    cursor: str | None = None,
) -> Page[AssetInfo]:
    """See `cloudbaker.catalog.core.Catalog.search`."""
    words = _words(text)
    tags = tuple(sorted({check_name("tag", tag) for tag in tags}))
    if sort not in get_args(Sort):
        raise UsageError(f"sort by one of {', '.join(get_args(Sort))}, not by {sort!r}")
    if project is not None and tenant is None:
        raise UsageError("a project is one of a tenant: say which tenant")
    for moment in (since, until):
        if moment is not None and moment.tzinfo is None:
            raise UsageError(f"time {moment} has no zone: write 2026-01-31T12:00:00+00:00, or datetime.now(UTC)")
    a, v, t = s.assets.c, s.versions.c, s.tags.c
    newest = sa.and_(v.asset == a.asset, v.number == a.next_version - 1)
    by_name = sort in ("name", "-name")
    columns = (a.created_at, a.next_version, v.recipe, v.size_bytes, v.created_at.label("changed_at"), v.created_by)
    # What is first in FROM and in ORDER BY is what the database walks along.
    if tags:
        start = s.tags.join(s.assets, a.asset == t.asset).join(s.versions, newest)
        query = sa.select(t.asset, *columns).select_from(start).where(t.tag == tags[0])
        name: sa.ColumnElement[Any] = t.asset
    else:
        query = sa.select(a.asset, *columns)
        if by_name:
            query = query.select_from(s.assets.join(s.versions, newest))
        else:
            # The number by a subquery: in the join, Postgres takes it for so rare that it reads and sorts all versions
            # (500,000: 217 ms for a page).
            of = s.assets.alias()
            last = sa.select(of.c.next_version - 1).where(of.c.asset == v.asset).scalar_subquery()
            query = query.select_from(s.versions.join(s.assets, v.asset == a.asset)).where(v.number == last)
        name = a.asset
    for tag in tags[1:]:
        other = s.tags.alias()
        query = query.where(sa.exists().where(other.c.asset == a.asset, other.c.tag == tag))
    if tenant is not None:
        owner = a.tenant if by_name or tags else v.tenant
        query = query.where(owner == check_name("tenant", tenant))
    if project is not None:
        query = query.where(a.project == check_name("project", project))
    for word in words:
        query = query.where(a.asset.contains(word, autoescape=True))
    if recipe is not None:
        query = query.where(v.recipe == recipe)
    if created_by is not None:
        query = query.where(v.created_by == created_by)
    if since is not None:
        query = query.where(v.created_at >= since)
    if until is not None:
        query = query.where(v.created_at < until)
    if not deleted:
        old = s.versions.alias()
        alive = sa.exists().where(old.c.asset == a.asset, old.c.deleted_at.is_(None))
        query = query.where(sa.or_(v.deleted_at.is_(None), alive))
    question = {
        "search": [words, list(tags), tenant, project, recipe, created_by, str(since), str(until), deleted],
        "sort": sort,
    }
    keys = (name,) if by_name else (v.created_at, v.seq)
    order = Order(keys, sort in ("-name", "newest"), question)
    with core.read() as connection:
        found = connection.execute(order.page(query, limit=limit, cursor=cursor)).all()
        rows, after = order.cut(found, limit)
        return Page(_infos(connection, rows), next=after)


def _words(text: str) -> list[str]:
    """What to look for in names, which are lower-case ASCII: accents off, case and width folded."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text).casefold() if not unicodedata.combining(c))
    words = sorted({word for word in plain.replace("\0", " ").split() if word})
    if len(words) > _WORDS or len(plain) > 1000:
        raise UsageError(f"search for up to {_WORDS} words, 1,000 characters together")
    return words


def _infos(connection: Connection, rows: Sequence[Any]) -> list[AssetInfo]:
    c, t = s.channels.c, s.tags.c
    pointers: dict[str, dict[str, int]] = defaultdict(dict)
    tags: dict[str, list[str]] = defaultdict(list)
    names = [row.asset for row in rows]
    for some in (names[i : i + _CHUNK] for i in range(0, len(names), _CHUNK)):
        chosen = sa.select(c.asset, c.channel, c.number).where(c.asset.in_(some)).order_by(c.asset, c.channel)
        for asset, channel, number in connection.execute(chosen):
            pointers[asset][channel] = number
        for asset, tag in connection.execute(
            sa.select(t.asset, t.tag).where(t.asset.in_(some)).order_by(t.asset, t.tag)
        ):
            tags[asset].append(tag)
    return [
        AssetInfo(
            asset=AssetRef.parse(row.asset),
            latest=row.next_version - 1,
            created_at=row.created_at,
            channels=pointers[row.asset],
            tags=tuple(tags[row.asset]),
            recipe=row.recipe,
            size_bytes=row.size_bytes,
            changed_at=row.changed_at,
            created_by=row.created_by,
        )
        for row in rows
    ]
