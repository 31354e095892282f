"""Publish: the one transaction that makes a version visible, with everything that belongs to it."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Connection

from cloudbaker.canonical import canonical_sha256
from cloudbaker.catalog import schema as s
from cloudbaker.catalog.channels import set_channel
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.journal import audit, many, measured, tell
from cloudbaker.catalog.uploads import ensure_tenant
from cloudbaker.errors import Conflict, IdempotencyMismatch, QuotaExceeded, UsageError
from cloudbaker.model import AssetRef, Blob, Publication, check_name, to_json


def publish(core: Core, publication: Publication, now: datetime) -> tuple[int, bool]:
    """The number of the version, and whether it is new. See `cloudbaker.catalog.core.Catalog.publish`."""
    p, asset = publication, str(publication.asset)
    if p.channel is not None:
        check_name("channel", p.channel)
    for kind, names in (("source", [x.name for x in p.sources]), ("artifact", [x.name for x in p.artifacts])):
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise UsageError(f"two {kind}s of one version are named {twice[0]!r}: names must differ", name=twice[0])
    key, request = f"publish:{p.run_id}", _request_hash(p)
    with core.write() as connection:
        done = connection.execute(
            sa.select(s.idempotency.c.request_hash, s.idempotency.c.result).where(
                s.idempotency.c.tenant == p.asset.tenant, s.idempotency.c.key == key
            )
        ).one_or_none()
        if done is not None:
            if done.request_hash != request:
                raise IdempotencyMismatch(
                    f"run {p.run_id} has published before, and something else: give each bake a run id of its own",
                    run_id=p.run_id,
                )
            return int(done.result["number"]), bool(done.result["created"])

        number = _next_number(connection, p.asset, now)
        newest = number - 1
        created = not (newest and _bake_key(connection, asset, newest) == p.bake_key)
        if created and newest and p.replaces not in (None, newest):
            raise Conflict(
                f"{asset} has a version {newest} by now: a re-bake of version {p.replaces} is not wanted any more",
                superseded=True,
                newest=newest,
            )
        if created:
            _insert_version(connection, p, number, now)
        else:
            number -= 1
        if p.channel is not None and _may_move(connection, p):
            why = p.change_note or f"published by run {p.run_id}"
            set_channel(connection, p.asset, p.channel, number, now, by=p.created_by, why=why, run_id=p.run_id)
        connection.execute(
            sa.insert(s.idempotency),
            {
                "tenant": p.asset.tenant,
                "key": key,
                "request_hash": request,
                "result": {"number": number, "created": created},
                "created_at": now,
            },
        )
    return number, created


def _may_move(connection: Connection, p: Publication) -> bool:
    """A re-bake leaves a channel alone that was moved since it was planned."""
    if p.replaces is None:
        return True
    c = s.channels.c
    where = sa.select(c.number).where(c.asset == str(p.asset), c.channel == p.channel)
    return connection.execute(where).scalar() == p.replaces


def _request_hash(p: Publication) -> str:
    # What the caller asks for, not what came out: a repeated run measures other times, signs with another nonce and
    # may have uploaded its previews anew. The bake key stands for the artifacts' bytes.
    return canonical_sha256(
        {
            "asset": str(p.asset),
            "bake_key": p.bake_key,
            "recipe": p.recipe_hash,
            "engine": p.engine,
            "sources": sorted([source.name, source.blob.sha256] for source in p.sources),
            "channel": p.channel,
        }
    )


def _next_number(connection: Connection, ref: AssetRef, now: datetime) -> int:
    number = connection.execute(sa.select(s.assets.c.next_version).where(s.assets.c.asset == str(ref))).scalar()
    if number is not None:
        return int(number)
    ensure_tenant(connection, ref.tenant, now)
    names = {"tenant": ref.tenant, "project": ref.project, "created_at": now}
    connection.execute(insert(s.projects).on_conflict_do_nothing(), names)
    connection.execute(sa.insert(s.assets), {"asset": str(ref), "name": ref.name, **names})
    return 1


def _bake_key(connection: Connection, asset: str, number: int) -> str | None:
    v = s.versions.c
    return connection.execute(sa.select(v.bake_key).where(v.asset == asset, v.number == number)).scalar()


def _insert_version(connection: Connection, p: Publication, number: int, now: datetime) -> None:
    asset, tenant = str(p.asset), p.asset.tenant
    common = {"created_at": now, "asset": asset, "number": number}
    of_run = {**common, "run_id": p.run_id}
    connection.execute(sa.update(s.assets).where(s.assets.c.asset == asset).values(next_version=number + 1))
    connection.execute(
        sa.insert(s.versions),
        {
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
        },
    )
    connection.execute(sa.insert(s.provenance), {**common, "envelope": p.provenance})
    usage = _refer(connection, tenant, [x.blob for x in p.sources] + [x.blob for x in p.artifacts])
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
    many(connection, s.findings, [{**of_run, **to_json(finding)} for finding in p.findings])
    many(connection, s.losses, [{**of_run, **to_json(loss)} for loss in p.losses])
    figures = measured("version", "", p.metrics)
    for artifact in p.artifacts:
        figures += measured("artifact", artifact.name, artifact.metrics)
    many(connection, s.metrics, [{**of_run, **figure} for figure in figures])
    many(
        connection,
        s.usage_events,
        [
            {"created_at": now, "tenant": tenant, "asset": asset, "run_id": p.run_id, "kind": "stored_bytes", **zone}
            for zone in ({"subject": zone, "amount": amount} for zone, amount in sorted(usage.items()))
        ],
    )
    audit(
        connection,
        now,
        tenant=tenant,
        who=p.created_by,
        action="publish",
        subject=f"{asset}@{number}",
        why=p.change_note,
        run_id=p.run_id,
        detail={"bake_key": p.bake_key, "channel": p.channel},
    )
    tell(connection, now, p.asset, "asset.indexed", {"version": number, "bake_key": p.bake_key}, run_id=p.run_id)


def _refer(connection: Connection, tenant: str, blobs: list[Blob]) -> dict[str, int]:
    """Count the references, check that each blob is there as claimed, and charge the new ones. Bytes added by zone."""
    wanted = Counter(blob.storage_key for blob in blobs)
    by_key = {blob.storage_key: blob for blob in blobs}
    b = s.blobs.c
    rows = connection.execute(
        sa.select(b.storage_key, b.zone, b.sha256, b.size_bytes, b.refcount)
        .where(b.storage_key.in_(list(wanted)), b.tenant == tenant, b.state == "live")
        .with_for_update()
    ).all()
    for row in rows:
        if (row.sha256, row.size_bytes) != (by_key[row.storage_key].sha256, by_key[row.storage_key].size):
            raise Conflict(
                f"blob {row.storage_key} is not the one that was uploaded: upload it again", key=row.storage_key
            )
    if lost := sorted(set(wanted) - {row.storage_key for row in rows}):
        raise Conflict(
            f"{len(lost)} blob(s) of this version are not in the store any more, {lost[0]} first: their lease ran out "
            "and clean-up took them; upload them again and publish again",
            keys=lost,
        )
    if rows:
        connection.execute(
            sa.update(s.blobs)
            .where(b.storage_key == sa.bindparam("key"))
            .values(refcount=b.refcount + sa.bindparam("references")),
            [{"key": key, "references": count} for key, count in wanted.items()],
        )
    added: Counter[str] = Counter()
    for row in rows:
        if row.refcount == 0:
            added[row.zone] += row.size_bytes
    if total := added.total():
        t = s.tenants.c
        fits = sa.or_(t.quota_bytes.is_(None), t.used_bytes + total <= t.quota_bytes)
        charged = sa.update(s.tenants).where(t.tenant == tenant, fits).values(used_bytes=t.used_bytes + total)
        if connection.execute(charged).rowcount != 1:
            raise QuotaExceeded(
                f"tenant {tenant} has no room for {total:,} more bytes: delete something, or ask for a larger quota",
                tenant=tenant,
                bytes=total,
            )
    return dict(added)


def _blob(blob: Blob) -> dict[str, Any]:
    return {"sha256": blob.sha256, "size_bytes": blob.size, "storage_key": blob.storage_key}
