"""For tests of and with the catalog: small publications, and the invariants that hold whatever happened before."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator

import sqlalchemy as sa

from cloudbaker.canonical import canonical_sha256
from cloudbaker.catalog import schema as s
from cloudbaker.catalog.core import Catalog, UploadKey
from cloudbaker.catalog.records import Published
from cloudbaker.model import Artifact, AssetRef, Finding, Loss, Publication, Role, Severity, Source

TOOLS = {"encoder": "1.0", "packer": "2.1"}


def publication(
    catalog: Catalog,
    asset: AssetRef,
    content: bytes,
    *,
    run_id: str | None = None,
    bake_key: str | None = None,
    channel: str | None = "live",
    files: int = 2,
    recipe: str = "web",
) -> Publication:
    """Upload a source and `files` artifacts that `content` decides, and make of them what `Catalog.publish` takes."""
    run_id = run_id or str(uuid.uuid4())
    source = catalog.put_bytes(content, asset.tenant, "vault")
    artifacts = []
    for n in range(files):
        name = "model.glb" if n == 0 else f"lod{n}.glb"
        data = b"%d:" % n + content
        hint = UploadKey(run_id, Role.MODEL_3D, name)
        blob = catalog.put_bytes(data, asset.tenant, "public", key_hint=hint)
        variant = "default" if n == 0 else f"lod{n}"
        figures = {"bytes": float(blob.size), "triangles": 12.0 / (n + 1)}
        artifacts.append(Artifact(Role.MODEL_3D, variant, name, "model/gltf-binary", blob, metrics=figures))
    return Publication(
        asset=asset,
        run_id=run_id,
        bake_key=bake_key or hashlib.sha256(content).hexdigest(),
        recipe=recipe,
        recipe_hash=canonical_sha256(recipe),
        engine=None,
        tools=TOOLS,
        sources=(Source(f"{asset.name}.glb", "model/gltf-binary", source),),
        artifacts=tuple(artifacts),
        findings=(Finding("gltf.unused-image", Severity.INFO, "/images/0", "image 0 is not used"),),
        losses=(Loss("name", "/nodes/3", "node 3 was removed with its name 'empty'"),),
        metrics={"source_bytes": float(source.size), "triangles": 12.0},
        provenance='{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[]}',
        created_by="tester",
        change_note="",
        channel=channel,
    )


def publish(catalog: Catalog, asset: AssetRef, content: bytes, **options: str | int | None) -> Published:
    """Upload and publish; options as of `publication`."""
    return catalog.publish(publication(catalog, asset, content, **options))  # type: ignore[arg-type]


def broken(catalog: Catalog) -> list[str]:
    """The invariants that do not hold, in words; empty for a healthy catalog. Reads every stored byte.

    Complete: no version lacks a part, no blob lacks its bytes, no pointer or pin dangles. Exact: reference counts, used
    and reserved bytes and usage events are the sums of what they count, and outbox and audit log hold each committed
    fact once.
    """
    return list(_broken(catalog))


def _broken(catalog: Catalog) -> Iterator[str]:
    with catalog.core.read() as connection:

        def rows(query: str) -> list[sa.Row[tuple[str, ...]]]:
            return list(connection.execute(sa.text(query)).all())

        for table, expected in _EXACT.items():
            for row in rows(expected):
                yield f"{table}: {tuple(row)}"
        if connection.dialect.name == "sqlite":  # which checks them on writing, but not what it was told to skip
            for check in connection.exec_driver_sql("PRAGMA foreign_key_check"):
                yield f"foreign key: {tuple(check)}"
        live = connection.execute(sa.select(s.blobs).where(s.blobs.c.state == "live")).all()
    for damage in catalog.verify_audit(published=False).damage:
        yield f"audit log of {damage.chain!r}: {damage.message}"
    for blob in live:
        info = catalog.store.stat(blob.storage_key)
        if info is None:
            yield f"blob {blob.storage_key} has no object"
            continue
        with catalog.store.open(blob.storage_key) as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        if (info.size, digest) != (blob.size_bytes, blob.sha256):
            yield f"blob {blob.storage_key} has other bytes than it says"


_LIVE = """(
    SELECT x.storage_key, x.sha256, x.size_bytes FROM (
        SELECT asset, number, storage_key, sha256, size_bytes FROM artifacts
        UNION ALL SELECT asset, number, storage_key, sha256, size_bytes FROM version_sources) x
    JOIN versions v ON v.asset = x.asset AND v.number = x.number WHERE v.deleted_at IS NULL)"""
"""The references of versions that are not deleted."""

_EXACT = {
    "version numbers are not 1, 2, 3 …": """
        SELECT asset, next_version FROM assets a
        WHERE next_version - 1 <> (SELECT count(*) FROM versions v WHERE v.asset = a.asset)
        OR next_version - 1 <> (SELECT coalesce(max(number), 0) FROM versions v WHERE v.asset = a.asset)""",
    "a version lacks a part": """
        SELECT asset, number FROM versions v
        WHERE NOT EXISTS (SELECT 1 FROM version_sources x WHERE x.asset = v.asset AND x.number = v.number)
        OR NOT EXISTS (SELECT 1 FROM artifacts x WHERE x.asset = v.asset AND x.number = v.number)
        OR NOT EXISTS (SELECT 1 FROM provenance x WHERE x.asset = v.asset AND x.number = v.number)
        OR size_bytes <> (SELECT sum(size_bytes) FROM artifacts x WHERE x.asset = v.asset AND x.number = v.number)""",
    "a reference is to a blob that is not live, or another": f"""
        SELECT r.storage_key FROM {_LIVE} r LEFT JOIN blobs b ON b.storage_key = r.storage_key
        WHERE b.state IS DISTINCT FROM 'live' OR b.sha256 <> r.sha256 OR b.size_bytes <> r.size_bytes""",
    "a reference count is wrong": f"""
        SELECT b.storage_key, refcount, coalesce(n, 0) FROM blobs b
        LEFT JOIN (SELECT storage_key, count(*) AS n FROM {_LIVE} r GROUP BY storage_key) c
        ON c.storage_key = b.storage_key WHERE refcount <> coalesce(n, 0)""",
    "used or reserved bytes are not the sums of their blobs": """
        SELECT tenant, used_bytes, used, reserved_bytes, reserved FROM (SELECT tenant, used_bytes, reserved_bytes,
            coalesce((SELECT sum(size_bytes) FROM blobs b WHERE b.tenant = t.tenant AND refcount > 0), 0) AS used,
            coalesce((SELECT sum(size_bytes) FROM blobs b WHERE b.tenant = t.tenant AND refcount = 0), 0) AS reserved
            FROM tenants t) q
        WHERE used_bytes <> used OR reserved_bytes <> reserved""",
    "usage events do not add up to the used bytes": """
        SELECT tenant, used_bytes, n FROM (SELECT tenant, used_bytes, coalesce((
            SELECT sum(amount) FROM usage_events u WHERE u.tenant = t.tenant AND kind = 'stored_bytes'), 0) AS n
            FROM tenants t) q
        WHERE used_bytes <> n""",
    "a project is credited with bytes that it was not charged": """
        SELECT a.tenant, a.project, subject, sum(amount) FROM usage_events u JOIN assets a ON a.asset = u.asset
        WHERE kind = 'stored_bytes' GROUP BY a.tenant, a.project, subject HAVING sum(amount) < 0""",
    "a channel is not where its last move put it": """
        SELECT asset, channel, number, n FROM (SELECT asset, channel, number, (SELECT number FROM pointer_moves m
            WHERE m.asset = c.asset AND m.channel = c.channel ORDER BY seq DESC LIMIT 1) AS n FROM channels c) q
        WHERE number IS DISTINCT FROM n""",
    "a channel's moves do not follow from one another": """
        SELECT asset, channel, previous, before FROM (SELECT asset, channel, previous,
            lag(number) OVER (PARTITION BY asset, channel ORDER BY seq) AS before FROM pointer_moves) q
        WHERE previous IS DISTINCT FROM before""",
    "a channel points at a deleted version": """
        SELECT c.asset, channel, c.number FROM channels c
        JOIN versions v ON v.asset = c.asset AND v.number = c.number WHERE deleted_at IS NOT NULL""",
    "a version is pinned to a deleted one": """
        SELECT d.asset, d.number, on_asset, on_number FROM dependencies d
        JOIN versions v ON v.asset = d.asset AND v.number = d.number
        JOIN versions p ON p.asset = on_asset AND p.number = on_number
        WHERE v.deleted_at IS NULL AND p.deleted_at IS NOT NULL""",
    "versions and their tombstones differ": """
        SELECT v.asset, v.number, deleted_at, t.created_at FROM versions v
        LEFT JOIN version_deletions t ON t.asset = v.asset AND t.number = v.number
        WHERE deleted_at IS DISTINCT FROM t.created_at""",
    "versions, outbox and audit log differ": """
        SELECT v.n, o.n, a.n FROM (SELECT count(*) AS n FROM versions) v,
            (SELECT count(*) AS n FROM outbox WHERE kind = 'asset.indexed') o,
            (SELECT count(*) AS n FROM audit WHERE action = 'publish') a
        WHERE v.n <> o.n OR v.n <> a.n""",
    "deletions, outbox and audit log differ": """
        SELECT v.n, o.n, a.n FROM (SELECT count(*) AS n FROM version_deletions) v,
            (SELECT count(*) AS n FROM outbox WHERE kind = 'version.deleted') o,
            (SELECT count(*) AS n FROM audit WHERE action = 'delete-version') a
        WHERE v.n <> o.n OR v.n <> a.n""",
    "channel moves, outbox and audit log differ": """
        SELECT m.n, o.n, a.n FROM (SELECT count(*) AS n FROM pointer_moves) m,
            (SELECT count(*) AS n FROM outbox WHERE kind = 'channel.moved') o,
            (SELECT count(*) AS n FROM audit WHERE action = 'move-channel') a
        WHERE m.n <> o.n OR m.n <> a.n""",
    "a hold is not what its last move says": """
        SELECT asset, number, until, last FROM (
            SELECT asset, number, until, (SELECT action FROM hold_moves m WHERE m.asset = h.asset
                AND coalesce(m.number, 0) = h.number ORDER BY seq DESC LIMIT 1) AS last FROM holds h) q
        WHERE last IS DISTINCT FROM 'place'""",
    "a tag is not what its last move says": """
        SELECT asset, tag, last, tagged FROM (
            SELECT m.asset, m.tag, action AS last, t.tag AS tagged FROM tag_moves m
            LEFT JOIN tags t ON t.asset = m.asset AND t.tag = m.tag WHERE m.seq = (
                SELECT max(seq) FROM tag_moves n WHERE n.asset = m.asset AND n.tag = m.tag)) q
        WHERE (last = 'add') <> (tagged IS NOT NULL)""",
    "a tag has no history": """
        SELECT asset, tag FROM tags t WHERE NOT EXISTS (
            SELECT 1 FROM tag_moves m WHERE m.asset = t.asset AND m.tag = t.tag)""",
    "a delivery is of no event, or of no sink": """
        SELECT d.sink, d.seq FROM deliveries d LEFT JOIN outbox o ON o.seq = d.seq AND o.asset = d.asset
        LEFT JOIN sinks k ON k.sink = d.sink WHERE o.seq IS NULL OR k.sink IS NULL""",
    "a run is open that has ended, or the other way round": """
        SELECT run_id, open, state FROM (SELECT r.run_id, o.run_id AS open, (SELECT state FROM run_states x
            WHERE x.run_id = r.run_id ORDER BY seq DESC LIMIT 1) AS state
            FROM runs r LEFT JOIN open_runs o ON o.run_id = r.run_id) q
        WHERE (open IS NOT NULL) <> (state = 'running')""",
    "a blob's key is a tombstone": """
        SELECT b.storage_key FROM blobs b JOIN deletions d ON d.storage_key = b.storage_key""",
}
