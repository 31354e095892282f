"""Publish: the one transaction that makes a version visible, with everything that belongs to it.

Rows are locked in the order assets, blobs, tenant, audit chain, and what decides is read after the lock that guards it:
on Postgres, where others write meanwhile, two who publish to one asset go one after the other from the first line on,
and two who publish to assets of one tenant from the audit log on, some round trips before the commit.

Statements are compiled once and run by the driver (`statements.py`), on Postgres in a pipeline, in which SQLAlchemy's
own would not work: about 20 of them write some 30 rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker.canonical import canonical_sha256
from cloudbaker.catalog import schema as s
from cloudbaker.catalog.channels import point
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.journal import Entry, Event, audit_all, many, measured, tell_all
from cloudbaker.catalog.statements import Rows, Statement
from cloudbaker.catalog.turns import take_turn
from cloudbaker.catalog.uploads import ensure_tenant
from cloudbaker.errors import Conflict, IdempotencyMismatch, NotFound, UsageError
from cloudbaker.model import AssetRef, Blob, Dependency, Publication, check_name


def publish(core: Core, publication: Publication, now: datetime) -> tuple[int, bool]:
    """The number of the version, and whether it is new. See `cloudbaker.catalog.core.Catalog.publish`."""
    _check(publication)
    request = _request_hash(publication)
    return core.transact(lambda connection: _publish(connection, publication, request, now), pipelined=True)


def _check(p: Publication) -> None:
    if p.channel is not None:
        check_name("channel", p.channel)
    for kind, names in (("source", [x.name for x in p.sources]), ("artifact", [x.name for x in p.artifacts])):
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise UsageError(f"two {kind}s of one version are named {twice[0]!r}: names must differ", name=twice[0])
    for needed in p.dependencies:
        check_name("dependency kind", needed.kind)
        if needed.on_asset == p.asset:
            raise UsageError(f"{p.asset} can't depend on itself: leave that dependency out", on=str(needed.on_asset))
        if needed.on_asset.tenant != p.asset.tenant:
            raise UsageError(
                f"{p.asset} can't depend on {needed.on_asset}, which is another tenant's: publish a copy of it under "
                f"{p.asset.tenant}",
                on=str(needed.on_asset),
            )
    needs = Counter((needed.on_asset, needed.kind) for needed in p.dependencies)
    if doubled := [(on, kind) for (on, kind), count in needs.items() if count > 1]:
        on, kind = doubled[0]
        raise UsageError(f"{p.asset} depends on {on} twice as {kind!r}: name one version of it", on=str(on))


def _request_hash(p: Publication) -> str:
    # What the caller asks for, not what came out: a repeated run measures other times, signs with another nonce and
    # may have uploaded its previews anew. The bake key stands for the artifacts' bytes.
    request: dict[str, Any] = {
        "asset": str(p.asset),
        "bake_key": p.bake_key,
        "recipe": p.recipe_hash,
        "engine": p.engine,
        "sources": sorted([source.name, source.blob.sha256] for source in p.sources),
        "channel": p.channel,
    }
    if p.dependencies:  # not there at all without: hashes of the first release stay what they are
        request["dependencies"] = sorted([str(d.on_asset), d.kind, d.on_number or 0] for d in p.dependencies)
    return canonical_sha256(request)


def _publish(connection: Connection, p: Publication, request: str, now: datetime) -> tuple[int, bool]:
    asset, tenant = str(p.asset), p.asset.tenant
    key = f"publish:{p.run_id}"
    blobs = [x.blob for x in p.sources] + [x.blob for x in p.artifacts]
    references = Counter(blob.storage_key for blob in blobs)
    newest = _lock_asset(connection, p.asset, now)
    _lock_needed(connection, p.dependencies)
    standing = _STANDING.run(connection, tenant=tenant, key=key, asset=asset, newest=newest, channel=p.channel or "")
    locked = _lock_blobs(connection, tenant, sorted(references))
    request_hash, result, bake_key, points_at = standing.one()
    if request_hash is not None:
        if request_hash != request:
            raise IdempotencyMismatch(
                f"run {p.run_id} has published before, and something else: give each bake a run id of its own",
                run_id=p.run_id,
            )
        return int(result["number"]), bool(result["created"])

    created = newest == 0 or bake_key != p.bake_key or _needs(connection, asset, newest) != set(p.dependencies)
    if created and newest and p.replaces not in (None, newest):
        raise Conflict(
            f"{asset} has a version {newest} by now: a re-bake of version {p.replaces} is not wanted any more",
            superseded=True,
            newest=newest,
        )
    number = newest + 1 if created else newest
    entries: list[Entry] = []
    events: list[Event] = []
    if created:
        added = _refer(connection, blobs, references, locked)
        _insert_version(connection, p, number, added, now)
        detail = {"bake_key": p.bake_key, "channel": p.channel}
        entries.append(Entry(p.created_by, "publish", f"{asset}@{number}", p.change_note, p.run_id, detail))
        told = {"version": number, "bake_key": p.bake_key}
        events.append(Event(p.asset, "asset.indexed", told, p.run_id))
    # A re-bake leaves a channel alone that was moved since it was planned.
    if p.channel is not None and points_at != number and p.replaces in (None, points_at):
        why = p.change_note or f"published by run {p.run_id}"
        entry, event = point(
            connection, p.asset, p.channel, points_at, number, now, by=p.created_by, why=why, run_id=p.run_id
        )
        entries.append(entry)
        events.append(event)
    answer = {"number": number, "created": created}
    request_row = {"tenant": tenant, "key": key, "request_hash": request, "result": answer, "created_at": now}
    many(connection, s.idempotency, [request_row])
    tell_all(connection, now, events)
    audit_all(connection, now, tenant, entries)
    return number, created


# ---- the asset and what is known

_LOCK_ASSET = Statement(
    sa.select(s.assets.c.next_version).where(s.assets.c.asset == sa.bindparam("asset")).with_for_update(key_share=True)
)
_PROJECT = Statement(
    lambda insert: (
        insert(s.projects)
        .values({name: sa.bindparam(name) for name in ("tenant", "project", "created_at")})
        .on_conflict_do_nothing(index_elements=["tenant", "project"])
    )
)


def _lock_asset(connection: Connection, ref: AssetRef, now: datetime) -> int:
    """The number of the asset's newest version, 0 if it is new; nobody else publishes to it until we end.

    On Postgres the row's lock is the first thing that takes a transaction number, and its turn is before that: the
    numbers are in the order of the versions, and `tail.py` may cut between them.
    """
    take_turn(connection, ref)
    found = _LOCK_ASSET.run(connection, asset=str(ref)).one_or_none()
    if found is not None:
        return int(found[0]) - 1
    ensure_tenant(connection, ref.tenant, now)
    names = {"tenant": ref.tenant, "project": ref.project, "created_at": now}
    _PROJECT.run(connection, **names)
    many(connection, s.assets, [{"asset": str(ref), "name": ref.name, **names}])
    return 0


def _standing() -> sa.Select[Any]:
    """What was published before: by this run, as the newest version, in this channel. One row, NULL for what is not."""
    i, v, c = s.idempotency.c, s.versions.c, s.channels.c
    asset = sa.bindparam("asset", type_=sa.Text)
    run = (i.tenant == sa.bindparam("tenant"), i.key == sa.bindparam("key"))
    # A version that was deleted does not stand in the way of one like it.
    newest = (v.asset == asset, v.number == sa.bindparam("newest"), v.deleted_at.is_(None))
    return sa.select(
        sa.select(i.request_hash).where(*run).scalar_subquery(),
        sa.select(i.result).where(*run).scalar_subquery(),
        sa.select(v.bake_key).where(*newest).scalar_subquery(),
        sa.select(c.number).where(c.asset == asset, c.channel == sa.bindparam("channel")).scalar_subquery(),
    )


_STANDING = Statement(_standing())


# ---- blobs

_KEYS_AT_ONCE = 1024


def _lock_blobs(connection: Connection, tenant: str, keys: Sequence[str]) -> list[Rows]:
    """Rows of (storage key, zone, SHA-256, size, count) of those that are there, locked in the order of their keys."""
    found = []
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        some = keys[start : start + _KEYS_AT_ONCE]
        # As many parameters as the next power of two, the last key repeated: ten statements serve every number.
        size = 1 << (len(some) - 1).bit_length()
        named = {f"key_{n}": some[min(n, len(some) - 1)] for n in range(size)}
        found.append(_blobs(size).run(connection, tenant=tenant, **named))
    return found


@cache
def _blobs(size: int) -> Statement:
    b = s.blobs.c
    keys = [sa.bindparam(f"key_{n}", type_=sa.Text) for n in range(size)]
    return Statement(
        sa.select(b.storage_key, b.zone, b.sha256, b.size_bytes, b.refcount)
        .where(b.storage_key.in_(keys), b.tenant == sa.bindparam("tenant"), b.state == "live")
        .order_by(b.storage_key)
        .with_for_update(key_share=True)
    )


_REFER = Statement(
    sa.update(s.blobs)
    .where(s.blobs.c.storage_key == sa.bindparam("key"))
    .values(refcount=s.blobs.c.refcount + sa.bindparam("references"))
)
_CHARGE = Statement(
    sa.update(s.tenants)
    .where(s.tenants.c.tenant == sa.bindparam("this"))
    .values(
        used_bytes=s.tenants.c.used_bytes + sa.bindparam("used"),
        reserved_bytes=s.tenants.c.reserved_bytes - sa.bindparam("reserved"),
    )
)


def _refer(
    connection: Connection, blobs: Sequence[Blob], references: Counter[str], locked: list[Rows]
) -> dict[str, int]:
    """Count the references, having checked that each blob is there as claimed. Bytes first referred to, by zone."""
    claimed = {blob.storage_key: blob for blob in blobs}
    rows = [row for some in locked for row in some.all()]
    added: Counter[str] = Counter()
    for key, zone, sha256, size, count in rows:
        if (sha256, size) != (claimed[key].sha256, claimed[key].size):
            raise Conflict(f"blob {key} is not the one that was uploaded: upload it again", key=key)
        if count == 0:
            added[zone] += size
    if lost := sorted(set(references) - {row[0] for row in rows}):
        raise Conflict(
            f"{len(lost)} blob(s) of this version are not in the store any more, {lost[0]} first: their lease ran out "
            "and clean-up took them; upload them again and publish again",
            keys=lost,
        )
    _REFER.many(connection, [{"key": key, "references": count} for key, count in sorted(references.items())])
    return dict(sorted(added.items()))


# ---- the version

_NEXT = Statement(
    sa.update(s.assets)
    .where(s.assets.c.asset == sa.bindparam("this"))
    .values(next_version=sa.bindparam("following", type_=sa.BigInteger))
)


def _insert_version(connection: Connection, p: Publication, number: int, added: dict[str, int], now: datetime) -> None:
    asset, tenant = str(p.asset), p.asset.tenant
    common = {"created_at": now, "asset": asset, "number": number}
    of_run = {**common, "run_id": p.run_id}
    version = {
        **of_run,
        "tenant": tenant,
        "bake_key": p.bake_key,
        "recipe": p.recipe,
        "recipe_hash": p.recipe_hash,
        "engine": p.engine,
        "tools": p.tools,
        "created_by": p.created_by,
        "change_note": p.change_note,
        "size_bytes": sum(a.blob.size for a in p.artifacts),
    }
    _NEXT.run(connection, this=asset, following=number + 1)
    many(connection, s.versions, [version])
    many(connection, s.provenance, [{**common, "envelope": p.provenance}])
    many(
        connection,
        s.version_sources,
        [{**common, "name": x.name, "media_type": x.media_type, **_blob(x.blob)} for x in p.sources],
    )
    many(
        connection,
        s.artifacts,
        [
            {
                **common,
                "role": x.role.value,
                "variant": x.variant,
                "name": x.name,
                "media_type": x.media_type,
                "device": x.device,
                **_blob(x.blob),
            }
            for x in p.artifacts
        ],
    )
    if p.dependencies:
        _check_needed(connection, p)
        edges = [{"on_asset": str(d.on_asset), "on_number": d.on_number, "kind": d.kind} for d in p.dependencies]
        many(connection, s.dependencies, [{**common, **edge} for edge in edges])
    many(
        connection,
        s.findings,
        [
            {
                **of_run,
                "code": f.code,
                "severity": f.severity.value,
                "place": f.place,
                "message": f.message,
                "remedy": f.remedy,
            }
            for f in p.findings
        ],
    )
    many(connection, s.losses, [{**of_run, "kind": x.kind, "place": x.place, "detail": x.detail} for x in p.losses])
    figures = measured("version", "", p.metrics)
    for artifact in p.artifacts:
        figures += measured("artifact", artifact.name, artifact.metrics)
    many(connection, s.metrics, [{**of_run, **figure} for figure in figures])
    if added:
        total = sum(added.values())
        of_tenant = {"created_at": now, "tenant": tenant, "asset": asset, "run_id": p.run_id, "kind": "stored_bytes"}
        zones = [{"subject": zone, "amount": amount} for zone, amount in added.items()]
        many(connection, s.usage_events, [{**of_tenant, **zone} for zone in zones])
        # What the uploads had reserved. The quota held when they claimed it: nothing can be refused here any more.
        _CHARGE.run(connection, this=tenant, used=total, reserved=total)


def _blob(blob: Blob) -> dict[str, Any]:
    return {"sha256": blob.sha256, "size_bytes": blob.size, "storage_key": blob.storage_key}


_KEEP = Statement(
    sa.select(s.assets.c.seq)
    .where(s.assets.c.asset == sa.bindparam("asset"))
    .with_for_update(read=True, key_share=True)
)
_THERE = Statement(
    sa.select(s.versions.c.seq)
    .where(
        s.versions.c.asset == sa.bindparam("asset"),
        s.versions.c.number == sa.func.coalesce(sa.bindparam("pinned", type_=sa.BigInteger), s.versions.c.number),
        s.versions.c.deleted_at.is_(None),
    )
    .limit(1)
)


def _needs(connection: Connection, asset: str, number: int) -> set[Dependency]:
    """The dependencies of a version: other ones are another version, though the bytes be the same."""
    rows = _NEEDS.run(connection, asset=asset, number=number).all()
    return {Dependency(AssetRef.parse(on_asset), on_number, kind) for on_asset, on_number, kind in rows}


_NEEDS = Statement(
    sa.select(s.dependencies.c.on_asset, s.dependencies.c.on_number, s.dependencies.c.kind).where(
        s.dependencies.c.asset == sa.bindparam("asset"), s.dependencies.c.number == sa.bindparam("number")
    )
)


def _lock_needed(connection: Connection, dependencies: Sequence[Dependency]) -> None:
    """Keep what the version needs where it is until we end.

    The lock is shared, and no obstacle to who publishes there: two that publish to each other's dependencies do not
    wait for each other. Who deletes a version locks its asset for good, and waits.
    """
    for asset in sorted({str(needed.on_asset) for needed in dependencies}):
        _KEEP.run(connection, asset=asset)


def _check_needed(connection: Connection, p: Publication) -> None:
    """Check that what the version needs is there. Raises `NotFound`."""
    for needed in p.dependencies:
        if _THERE.run(connection, asset=str(needed.on_asset), pinned=needed.on_number).one_or_none() is None:
            on = str(needed.on_asset) if needed.on_number is None else f"{needed.on_asset}@{needed.on_number}"
            raise NotFound(
                f"{p.asset} depends on {on}, which does not exist or is deleted: publish that first, or name another "
                "version",
                on=on,
            )
