"""Usage: what each tenant has stored, made and computed, now and over time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

import sqlalchemy as sa

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.records import Metered, UsageRow
from cloudbaker.catalog.uploads import ensure_tenant
from cloudbaker.errors import UsageError
from cloudbaker.model import AssetRef, check_name

if TYPE_CHECKING:
    import duckdb

By = Literal["tenant", "project", "subject", "day"]
"""What usage is grouped by; it is by kind in any case. The subject is a zone, a device, or a direction."""

Direction = Literal["out", "in"]

_DAY_US = 24 * 3600 * 10**6
_MOST_DAYS = 40_000


def usage(core: Core, tenant: str | None) -> list[UsageRow]:
    """See `cloudbaker.catalog.core.Catalog.usage`."""
    b, u, v, t = s.blobs.c, s.usage_events.c, s.versions.c, s.tenants.c
    count, total = sa.func.count(), sa.func.sum
    with core.read() as connection:

        def by_tenant(table: sa.Table, *columns: sa.ColumnElement[Any], where: Any = None) -> dict[str, list[Any]]:
            keys = [column for column in columns if isinstance(column, sa.Column)]
            query = sa.select(table.c.tenant, *columns).group_by(table.c.tenant, *keys)
            if tenant is not None:
                query = query.where(table.c.tenant == tenant)
            found: dict[str, list[Any]] = defaultdict(list)
            for row in connection.execute(query if where is None else query.where(where)):
                found[row[0]].append(row[1:])
            return found

        tenants = by_tenant(s.tenants, t.quota_bytes, t.reserved_bytes)
        versions = by_tenant(s.versions, count, where=v.deleted_at.is_(None))
        assets, runs = (by_tenant(table, count) for table in (s.assets, s.runs))
        stored = by_tenant(
            s.blobs, b.zone, total(b.size_bytes), total(b.size_bytes * (b.refcount - 1)), where=b.refcount > 0
        )
        computed = by_tenant(s.usage_events, u.subject, total(u.amount), where=u.kind == "compute_ms")
    return [
        UsageRow(
            tenant=name,
            assets=assets[name][0][0] if assets[name] else 0,
            versions=versions[name][0][0] if versions[name] else 0,
            runs=runs[name][0][0] if runs[name] else 0,
            bytes_by_zone={zone: int(size) for zone, size, _ in stored[name]},
            reserved_bytes=tenants[name][0][1],
            saved_bytes=sum(int(saved) for _, _, saved in stored[name]),
            compute_seconds={device: int(amount) / 1000 for device, amount in computed[name]},
            quota_bytes=tenants[name][0][0],
        )
        for name in sorted(tenants)
    ]


def record_transfer(
    core: Core,
    tenant: str,
    asset: AssetRef | None,
    amount: int,
    direction: Direction,
    run_id: str | None,
    now: datetime,
) -> None:
    """See `cloudbaker.catalog.core.Catalog.record_transfer`."""
    check_name("tenant", tenant)
    if direction not in get_args(Direction) or isinstance(amount, bool) or amount < 0:
        raise UsageError(f"a transfer of {amount} bytes {direction!r} is none: give bytes from 0 on, out or in")
    if amount == 0:
        return
    row = {"tenant": tenant, "asset": None if asset is None else str(asset), "run_id": run_id, "created_at": now}
    with core.write() as connection:
        ensure_tenant(connection, tenant, now)
        connection.execute(
            sa.insert(s.usage_events), {**row, "kind": "transfer_bytes", "subject": direction, "amount": amount}
        )


def metered(
    duck: duckdb.DuckDBPyConnection,
    *,
    tenant: str | None,
    by: Sequence[By],
    since: datetime | None,
    until: datetime | None,
    now: datetime,
) -> list[Metered]:
    """See `cloudbaker.catalog.core.Catalog.metered`.

    In integers all the way: bytes × microseconds in 128 bits. So the days of a month add up to the month, and a month
    cut in two anywhere to the whole.
    """
    if unknown := [key for key in by if key not in get_args(By)]:
        raise UsageError(f"usage can't be grouped by {unknown[0]!r}: there are {', '.join(get_args(By))}")
    begins = _us(since) if since is not None else _first(duck, tenant)
    ends = min(_us(until or now), _us(now))  # what will be stored until then, nobody knows
    if begins is None or begins >= ends:
        return []
    daily = "day" in by
    days = (ends - 1) // _DAY_US - begins // _DAY_US + 1 if daily else 1
    if days > _MOST_DAYS:
        raise UsageError(f"usage of {days:,} days is more than one answer holds: give a later begin")
    keys = {"tenant": "tenant", "project": "split_part(asset, '/', 2)", "subject": "subject"}
    names = [key for key in keys if key in by]
    selected = "".join(f"{keys[key]} AS {key}, " for key in names)
    columns = "".join(f"{key}, " for key in names)
    partition = f"PARTITION BY {', '.join([*names, 'kind'])}"
    # Period n is from `starts` to `stops`; what was before them all is in period -1.
    period = f"(moment // {_DAY_US} - {begins // _DAY_US})" if daily else "0"
    starts = f"greatest({begins}, ({begins // _DAY_US} + n) * {_DAY_US})" if daily else f"{begins}"
    stops = f"least({ends}, ({begins // _DAY_US} + n + 1) * {_DAY_US})" if daily else f"{ends}"
    only = "" if tenant is None else "AND tenant = $tenant"
    query = f"""
        WITH events AS (
            SELECT tenant, asset, kind, subject, amount, epoch_us(created_at) AS moment FROM usage
            UNION ALL SELECT tenant, asset, 'runs', '', 1, epoch_us(started_at) FROM runs
        ), numbered AS (
            SELECT {selected}kind, amount::HUGEINT AS amount, moment,
                CASE WHEN moment < {begins} THEN -1 ELSE {period} END AS n
            FROM events WHERE moment < {ends} AND (moment >= {begins} OR kind = 'stored_bytes') {only}
        ), summed AS (
            SELECT {columns}kind, n, sum(amount) AS amount,
                sum(CASE WHEN n < 0 THEN 0 ELSE amount * ({stops} - moment) END) AS begun
            FROM numbered GROUP BY ALL
        ), levels AS (
            SELECT {columns}kind, n, coalesce(amount, 0) AS amount, coalesce(begun, 0) AS begun,
                sum(coalesce(amount, 0)) OVER ({partition} ORDER BY n) AS level
            FROM (SELECT DISTINCT {columns}kind FROM summed WHERE kind = 'stored_bytes')
            CROSS JOIN (SELECT unnest(range(-1, {days})) AS n)
            LEFT JOIN summed USING ({columns}kind, n)
        )
        SELECT {columns}'storage' AS kind, n, ((level - amount) * ({stops} - {starts}) + begun)::HUGEINT AS quantity,
            level::HUGEINT AS level
        FROM levels WHERE n >= 0 AND (level <> 0 OR amount <> 0 OR begun <> 0)
        UNION ALL
        SELECT {columns}CASE kind WHEN 'compute_ms' THEN 'compute' WHEN 'transfer_bytes' THEN 'transfer' ELSE kind END,
            n, amount::HUGEINT, NULL
        FROM summed WHERE kind <> 'stored_bytes'
        ORDER BY {", ".join(["n", *names, "kind"])}"""
    rows = duck.execute(query, None if tenant is None else {"tenant": tenant}).fetchall()
    first = date(1970, 1, 1) + timedelta(days=begins // _DAY_US)
    found = []
    for *values, kind, n, quantity, level in rows:
        grouped = dict(zip(names, values, strict=True))
        found.append(
            Metered(
                tenant=grouped.get("tenant"),
                project=grouped.get("project"),
                day=first + timedelta(days=n) if daily else None,
                kind=kind,
                subject=grouped.get("subject") or None,
                quantity=int(quantity),
                stored_bytes=None if level is None else int(level),
            )
        )
    return found


def _first(duck: duckdb.DuckDBPyConnection, tenant: str | None) -> int | None:
    """The moment of the first thing that was used."""
    only = "" if tenant is None else "WHERE tenant = $tenant"
    query = f"""SELECT min(moment) FROM (SELECT epoch_us(min(created_at)) AS moment FROM usage {only}
        UNION ALL SELECT epoch_us(min(started_at)) FROM runs {only})"""
    row = duck.execute(query, None if tenant is None else {"tenant": tenant}).fetchone()
    return None if row is None else row[0]


def _us(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise UsageError(f"time {moment} has no zone: use datetime.now(UTC) and the like")
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
