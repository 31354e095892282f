"""Finding assets: by words of their names, tags, tenant, project, recipe and time, by pages.

Every page is read along an index in the order that it is shown in, so it costs what it shows and not what there is.
Two questions cost more: *words* look at each name of the tenant (200,000 names: 13 ms), since they are found anywhere
in it; and *tags* with ``newest`` look at every asset that has the first of the tags.

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
    by_name = sort in ("name", "-name")
    of_asset = [a.asset.contains(word, autoescape=True) for word in words]
    for tag in tags[1:]:  # the first is where the search begins
        other = s.tags.alias()
        of_asset.append(_there(sa.select(other.c.tag).where(other.c.asset == a.asset, other.c.tag == tag)))
    if tenant is not None:
        of_asset.append(a.tenant == check_name("tenant", tenant))
    if project is not None:
        of_asset.append(a.project == check_name("project", project))
    of_version = list[sa.ColumnElement[bool]]()
    if recipe is not None:
        of_version.append(v.recipe == recipe)
    if created_by is not None:
        of_version.append(v.created_by == created_by)
    if since is not None:
        of_version.append(v.created_at >= since)
    if until is not None:
        of_version.append(v.created_at < until)

    # One table to walk along, and everything about others in subqueries of a single row: joined, Postgres takes the
    # newest versions for so rare that it reads and sorts all there are (500,000: 217 ms for a page, now 2).
    name: sa.ColumnElement[Any] = a.asset
    if by_name:
        query = sa.select(a.asset).where(*of_asset)
        if tags:
            name = t.asset
            query = (
                sa.select(t.asset).join_from(s.tags, s.assets, a.asset == t.asset).where(t.tag == tags[0], *of_asset)
            )
        if not deleted:
            query = query.where(_lives(a.asset))
        if of_version:
            newest = sa.select(v.seq).where(v.asset == a.asset, v.number == a.next_version - 1, *of_version)
            query = query.where(_there(newest))
    else:
        last = sa.select(a.next_version - 1).where(a.asset == v.asset, *of_asset).limit(1).scalar_subquery()
        query = sa.select(v.asset).where(v.number == last, *of_version)
        if not deleted:
            query = query.where(sa.or_(v.deleted_at.is_(None), _lives(v.asset)))
        if tenant is not None:
            query = query.where(v.tenant == tenant)
        if tags:
            query = query.where(v.asset.in_(sa.select(t.asset).where(t.tag == tags[0])))
    question = {
        "search": [words, list(tags), tenant, project, recipe, created_by, str(since), str(until), deleted],
        "sort": sort,
    }
    keys = (name,) if by_name else (v.created_at, v.seq)
    order = Order(keys, sort in ("-name", "newest"), question)
    with core.read() as connection:
        found = connection.execute(order.page(query, limit=limit, cursor=cursor)).all()
        rows, after = order.cut(found, limit)
        return Page(_infos(connection, [row.asset for row in rows]), next=after)


def _lives(asset: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether any version of the asset is not deleted; the newest are looked at first."""
    old = s.versions.alias().c
    living = sa.select(old.number).where(old.asset == asset, old.deleted_at.is_(None))
    return _there(living.order_by(old.number.desc()))


def _there(row: sa.Select[Any]) -> sa.ColumnElement[bool]:
    """Whether there is such a row. Not EXISTS, which Postgres may answer by reading the whole table into a hash."""
    return row.limit(1).scalar_subquery().is_not(None)


def _words(text: str) -> list[str]:
    """What to look for in names, which are lower-case ASCII: accents off, case and width folded."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text).casefold() if not unicodedata.combining(c))
    words = sorted({word for word in plain.replace("\0", " ").split() if word})
    if len(words) > _WORDS or len(plain) > 1000:
        raise UsageError(f"search for up to {_WORDS} words, 1,000 characters together")
    return words


def _infos(connection: Connection, names: Sequence[str]) -> list[AssetInfo]:
    """What is shown of assets, in the order of their names as given."""
    a, v, c, t = s.assets.c, s.versions.c, s.channels.c, s.tags.c
    assets: dict[str, Any] = {}
    pointers: dict[str, dict[str, int]] = defaultdict(dict)
    tags: dict[str, list[str]] = defaultdict(list)
    columns = (a.asset, a.created_at, a.next_version)
    newest = (v.recipe, v.size_bytes, v.created_at.label("changed_at"), v.created_by)
    for some in (names[i : i + _CHUNK] for i in range(0, len(names), _CHUNK)):
        numbered = sa.select(*columns, *newest).join_from(
            s.assets, s.versions, sa.and_(v.asset == a.asset, v.number == a.next_version - 1)
        )
        assets.update({row.asset: row for row in connection.execute(numbered.where(a.asset.in_(some)))})
        chosen = sa.select(c.asset, c.channel, c.number).where(c.asset.in_(some)).order_by(c.asset, c.channel)
        for asset, channel, number in connection.execute(chosen):
            pointers[asset][channel] = number
        tagged = sa.select(t.asset, t.tag).where(t.asset.in_(some)).order_by(t.asset, t.tag)
        for asset, tag in connection.execute(tagged):
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
        for row in (assets[name] for name in names)
    ]
