"""The manifest beside a pack: what it is, for which engine, and every file in it. Canonical JSON, named in the
signature; no run, no time, no device."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from cloudbaker.canonical import canonical_json
from cloudbaker.compute.godot.bake import PACK
from cloudbaker.compute.godot.engines import Engine
from cloudbaker.compute.package import GODOT_SCHEMA
from cloudbaker.model import AssetRef, Loss, to_json

MODEL_FIELDS = (
    *("path", "variant", "triangles", "vertices"),
    *("error_mean_percent", "error_max_percent"),  # distance to the source's surface, % of the bounding box's diagonal
    "suggested_distance",
)
SOUND_FIELDS = (
    *("path", "seconds", "rate", "channels", "loop"),
    *("rms_dbfs", "peak_dbfs"),  # of the source
    "snr_db",  # of what was encoded, decoded again; null where the source is kept
    "kept",
)


def build_manifest(
    *,
    asset: AssetRef,
    recipe: str,
    recipe_hash: str,
    bake_key: str,
    engine: Engine,
    mod: str,
    pack: bytes,
    contents: Sequence[Mapping[str, Any]],
    classes: Mapping[str, str],
    unstable: Sequence[str] = (),
    models: Sequence[Mapping[str, Any]] = (),
    sounds: Sequence[Mapping[str, Any]] = (),
    textures: Sequence[Mapping[str, Any]] = (),
    losses: Sequence[Loss] = (),
) -> bytes:
    """Canonical JSON of schema ``cloudbaker/godot-pack/v1`` (fields: docs/godot.md).

    `contents` are the files in the pack (path, bytes, sha256), `classes` what the engine loaded them as, `unstable`
    those that the engine writes differently each time.
    """
    return canonical_json(
        {
            "schema": GODOT_SCHEMA,
            "asset": str(asset),
            "recipe": {"name": recipe, "sha256": recipe_hash},
            "bake_key": bake_key,
            "engine": {
                "name": "godot",
                "version": engine.version,
                "number": list(engine.number),
                "pack_format": engine.pack_format,
            },
            "mod": {"id": mod, "root": f"res://mods/{mod}/"},
            "files": [{"name": PACK, "bytes": len(pack), "sha256": hashlib.sha256(pack).hexdigest()}],
            "contents": [
                {"path": f"res://{row['path']}", "bytes": row["bytes"], "sha256": row["sha256"]} for row in contents
            ],
            "resources": dict(sorted(classes.items())),
            "not_reproducible": sorted(f"res://{path}" for path in unstable),
            "models": _rows(models, MODEL_FIELDS),
            "sounds": _rows(sounds, SOUND_FIELDS),
            "textures": sorted((dict(row) for row in textures), key=lambda row: str(row["path"])),
            "losses": sorted(map(to_json, losses), key=lambda row: (row["kind"], row["place"], row["detail"])),
        }
    )


def _rows(rows: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> list[dict[str, Any]]:
    return sorted(({name: row.get(name) for name in fields} for row in rows), key=lambda row: str(row["path"]))
