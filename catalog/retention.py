"""Retention: which versions a tenant's policy lets go, and the deletion of a version, by policy or by hand.

A deleted version stays in the catalog for ever, with its numbers, its provenance and a tombstone that says who deleted
it and why. What it gives up is its blobs: each that no other version refers to is then clean-up's.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker.catalog import schema as s
from cloudbaker.catalog import tenant_settings
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.holds import ALL, in_force
from cloudbaker.catalog.journal import audit, many, tell
from cloudbaker.catalog.records import Retention
from cloudbaker.catalog.turns import lock_asset
from cloudbaker.errors import InUse, NotFound
from cloudbaker.model import AssetRef

PRESETS = {"keep": Retention(), "render": Retention(delete_after_days=7, keep_last=0)}
"""``keep`` is what holds without a policy; ``render`` is for tenants whose results are fetched within days."""

_CHUNK = 500
"""Values of one IN list."""
_PER_TRANSACTION = 20
"""Versions of one asset that are deleted at once: the writers behind wait some milliseconds."""


def set_retention(core: Core, tenant: str, policy: Retention | None, now: datetime, *, by: str, why: str) -> None:
    """See `cloudbaker.catalog.core.Catalog.set_retention`."""
    value = None if policy is None else dataclasses.asdict(policy)
    tenant_settings.put(core, tenant, {"retention": value}, now, action="set-retention", by=by, why=why)


def retention(core: Core, tenant: str) -> Retention | None:
    """See `cloudbaker.catalog.core.Catalog.retention`."""
    with core.read() as connection:
        return Retention.parse(tenant_settings.row(connection, tenant).retention)


# ---- by policy


@dataclass(frozen=True, slots=True)
class Expired:
    """A version that goes."""

    asset: AssetRef
    number: int
    created_at: datetime
    why: str


def expired(connection: Connection, now: datetime) -> list[Expired]:
    """The versions that their tenants' policies let go, in an order in which each can be deleted.

    Never one of the newest `keep_last`, nor one that a channel points at, a hold covers, or a version that stays needs.
    What is needed only by others that go, goes after them.
    """
    t = s.tenants.c
    policies = connection.execute(sa.select(t.tenant, t.retention).where(t.retention.is_not(None)).order_by(t.tenant))
    candidates: dict[tuple[str, int], Expired] = {}
    for tenant, value in policies.all():
        terms = Retention.parse(value)
        if terms is None or terms.delete_after_days is None:
            continue
        why = f"retention: older than {terms.delete_after_days} days"
        for row in connection.execute(_of_age(tenant, terms, now)):
            candidates[row.asset, row.number] = Expired(AssetRef.parse(row.asset), row.number, row.created_at, why)
    needs = _needed_by(connection, candidates)
    order: list[Expired] = []
    # Leaf by leaf. Versions that need each other in a ring, if ever there were any, stay.
    while ready := [key for key in candidates if not needs[key]]:
        for key in ready:
            order.append(candidates.pop(key))
        gone = set(ready)
        for key in candidates:
            needs[key] -= gone
    return order


def _of_age(tenant: str, terms: Retention, now: datetime) -> sa.Select[Any]:
    """Versions of a tenant by age and rank alone, and without a channel or a hold."""
    a, v, c, h = s.assets.c, s.versions.c, s.channels.c, s.holds.c
    rank = sa.func.row_number().over(partition_by=v.asset, order_by=v.number.desc()).label("rank")
    live = (
        sa.select(v.asset, v.number, v.created_at, rank)
        .join_from(s.assets, s.versions, a.asset == v.asset)
        .where(a.tenant == tenant, v.deleted_at.is_(None))
        .subquery()
    )
    this = live.c
    held = sa.and_(h.asset == this.asset, h.number.in_([this.number, ALL]), in_force(now))
    return (
        sa.select(this.asset, this.number, this.created_at)
        .where(
            this.rank > terms.keep_last,
            this.created_at <= now - timedelta(days=terms.delete_after_days or 0),
            ~sa.exists().where(c.asset == this.asset, c.number == this.number),
            ~sa.exists().where(held),
        )
        .order_by(this.asset, this.number)
    )


def _needed_by(
    connection: Connection, candidates: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], set[tuple[str, int]]]:
    """Of each of these versions, the live ones that are pinned to it."""
    wanted = set(candidates)
    d, v = s.dependencies.c, s.versions.c
    query = (
        sa.select(d.asset, d.number, d.on_asset, d.on_number)
        .join_from(s.dependencies, s.versions, sa.and_(v.asset == d.asset, v.number == d.number))
        .where(d.on_number.is_not(None), v.deleted_at.is_(None))
    )
    needs: dict[tuple[str, int], set[tuple[str, int]]] = defaultdict(set)
    for some in chunks(sorted({asset for asset, _ in wanted})):
        for row in connection.execute(query.where(d.on_asset.in_(some))):
            if (row.on_asset, row.on_number) in wanted:
                needs[row.on_asset, row.on_number].add((row.asset, row.number))
    return needs


def given_up(connection: Connection, versions: Sequence[Expired]) -> Counter[str]:
    """How often these versions refer to each storage key: by so much its count falls when they go."""
    found: Counter[str] = Counter()
    for some in chunks([(str(version.asset), version.number) for version in versions]):
        for table in (s.version_sources, s.artifacts):
            c = table.c
            these = sa.select(c.storage_key).where(sa.tuple_(c.asset, c.number).in_(some))
            found.update(connection.execute(these).scalars())
    return found


def delete_expired(core: Core, versions: Sequence[Expired], now: datetime) -> Iterator[Expired]:
    """Delete these, some of one asset per transaction; those that somebody needs by now are left. Yields the others."""
    for asset, same in groupby(versions, key=lambda version: version.asset):
        for some in chunks(list(same), _PER_TRANSACTION):

            def work(connection: Connection, asset: AssetRef = asset, some: list[Expired] = some) -> list[Expired]:
                lock_asset(connection, asset)
                # One by one, as the first may be what needs the second; all else then together.
                done = [
                    version
                    for version in some
                    if not blockers(connection, asset, version.number, now)
                    and _mark(connection, asset, version.number, now)
                ]
                _give_up(connection, asset, {v.number: v.why for v in done}, now, by="cloudbaker")
                return done

            yield from core.transact(work)


# ---- by hand


def delete_version(core: Core, asset: AssetRef, number: int, now: datetime, *, by: str, why: str) -> bool:
    """See `cloudbaker.catalog.core.Catalog.delete_version`."""
    v = s.versions.c

    def work(connection: Connection) -> bool:
        lock_asset(connection, asset)
        row = connection.execute(sa.select(v.deleted_at).where(v.asset == str(asset), v.number == number)).one_or_none()
        if row is None:
            raise NotFound(f"there is no version {asset}@{number}", asset=str(asset), number=number)
        if row.deleted_at is not None:
            return False
        if reasons := blockers(connection, asset, number, now):
            message = f"{asset}@{number} can't be deleted: {'; '.join(reasons)}"
            raise InUse(message, asset=str(asset), number=number, reasons=reasons)
        _mark(connection, asset, number, now)
        _give_up(connection, asset, {number: why}, now, by=by)
        return True

    return core.transact(work)


def blockers(connection: Connection, asset: AssetRef, number: int, now: datetime) -> list[str]:
    """What keeps a version from being deleted, each with what to do about it. The asset must be locked."""
    c, h, d, v = s.channels.c, s.holds.c, s.dependencies.c, s.versions.c
    name = str(asset)
    reasons = [
        f"channel {channel!r} points at it: move that channel first"
        for channel in connection.execute(
            sa.select(c.channel).where(c.asset == name, c.number == number).order_by(c.channel)
        ).scalars()
    ]
    held = sa.select(h.until, h.placed_by, h.why).where(h.asset == name, h.number.in_([number, ALL]), in_force(now))
    for hold in connection.execute(held.order_by(h.number)):
        until = "" if hold.until is None else f" until {hold.until:%Y-%m-%d %H:%M}"
        reasons.append(f"{hold.placed_by} holds it{until} ({hold.why or 'no reason given'}): release that hold first")
    needed = (
        sa.select(d.asset, d.number)
        .join_from(s.dependencies, s.versions, sa.and_(v.asset == d.asset, v.number == d.number))
        .where(d.on_asset == name, d.on_number == number, v.deleted_at.is_(None))
        .order_by(d.asset, d.number)
        .limit(3)
    )
    for needing in connection.execute(needed):
        reasons.append(f"{needing.asset}@{needing.number} is pinned to it: delete that one first")
    return reasons


def _mark(connection: Connection, asset: AssetRef, number: int, now: datetime) -> bool:
    v = s.versions.c
    live = sa.update(s.versions).where(v.asset == str(asset), v.number == number, v.deleted_at.is_(None))
    return connection.execute(live.values(deleted_at=now)).rowcount == 1


def _give_up(connection: Connection, asset: AssetRef, reasons: Mapping[int, str], now: datetime, *, by: str) -> None:
    """What the deletion of these versions brings with it: tombstones, references, usage, audit, outbox."""
    if not reasons:
        return
    tombstone = {"created_at": now, "asset": str(asset), "deleted_by": by}
    many(connection, s.version_deletions, [{**tombstone, "number": n, "why": why} for n, why in reasons.items()])
    _dereference(connection, asset, list(reasons), now)
    for number, why in reasons.items():
        tell(connection, now, asset, "version.deleted", {"version": number, "by": by, "why": why}, run_id=None)
    for number, why in reasons.items():  # last, as whoever audits waits for this transaction
        subject = f"{asset}@{number}"
        audit(connection, now, tenant=asset.tenant, who=by, action="delete-version", subject=subject, why=why)


def _dereference(connection: Connection, asset: AssetRef, numbers: Sequence[int], now: datetime) -> None:
    """Take these versions' references off their blobs, and credit what no version refers to any more."""
    counts: Counter[str] = Counter()
    for table in (s.version_sources, s.artifacts):
        c = table.c
        keys = sa.select(c.storage_key).where(c.asset == str(asset), c.number.in_(numbers))
        counts.update(connection.execute(keys).scalars())
    b = s.blobs.c
    rows: list[Any] = []
    for some in chunks(sorted(counts)):  # by key: nobody locks the same blobs crosswise
        locked = sa.select(b.storage_key, b.zone, b.size_bytes, b.refcount).where(b.storage_key.in_(some))
        rows += connection.execute(locked.order_by(b.storage_key).with_for_update()).all()
    if rows:
        connection.execute(
            sa.update(s.blobs)
            .where(b.storage_key == sa.bindparam("key"))
            .values(refcount=b.refcount - sa.bindparam("references")),
            [{"key": row.storage_key, "references": counts[row.storage_key]} for row in rows],
        )
    freed = [row for row in rows if row.refcount == counts[row.storage_key]]
    total = sum(row.size_bytes for row in freed)
    if total:
        t = s.tenants.c
        connection.execute(
            sa.update(s.tenants)
            .where(t.tenant == asset.tenant)
            .values(used_bytes=t.used_bytes - total, reserved_bytes=t.reserved_bytes + total)
        )
    charged = _charged(connection, [row.storage_key for row in freed], default=str(asset))
    amounts: Counter[tuple[str, str]] = Counter()
    for row in freed:
        amounts[charged[row.storage_key], row.zone] -= row.size_bytes
    many(
        connection,
        s.usage_events,
        [
            {
                "created_at": now,
                "tenant": asset.tenant,
                "asset": payer,
                "run_id": None,
                "kind": "stored_bytes",
                "subject": zone,
                "amount": amount,
            }
            for (payer, zone), amount in sorted(amounts.items())
        ],
    )


def _charged(connection: Connection, keys: Sequence[str], *, default: str) -> dict[str, str]:
    """The asset that each of these blobs was charged to: it, and not the one deleted last, is credited.

    A blob is charged to whoever refers to it first, and again first after a time without references: the version that
    begins the last unbroken stretch of lives.
    """
    lives: dict[str, list[tuple[datetime, datetime, str]]] = defaultdict(list)
    v = s.versions.c
    for some in chunks(list(keys)):
        for table in (s.version_sources, s.artifacts):
            c = table.c
            query = (
                sa.select(c.storage_key, c.asset, v.created_at, v.deleted_at)
                .join_from(table, s.versions, sa.and_(v.asset == c.asset, v.number == c.number))
                .where(c.storage_key.in_(some), v.deleted_at.is_not(None))
                .order_by(v.created_at, v.seq)
            )
            for row in connection.execute(query):
                lives[row.storage_key].append((row.created_at, row.deleted_at, row.asset))
    charged: dict[str, str] = {}
    for key in keys:
        payer, reach = default, None
        for begun, ended, asset in sorted(lives[key], key=lambda life: life[0]):
            if reach is None or begun > reach:
                payer, reach = asset, ended
            reach = max(reach, ended)
        charged[key] = payer
    return charged


def chunks(values: list[Any], size: int = _CHUNK) -> list[list[Any]]:
    """Lists of at most `size` values."""
    return [values[i : i + size] for i in range(0, len(values), size)]
