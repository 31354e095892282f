"""Package a bake as a web bundle: the GLB variants and a canonical ``manifest.json`` that says what each one is.

Nothing in a bundle differs from run to run (no run id, no time, no device), so that the same bake key gives the same
bytes; when and where it was baked stands in the signed statement beside it.
"""

from __future__ import annotations

import hashlib
import math
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from cloudbaker import media
from cloudbaker.canonical import canonical_json
from cloudbaker.model import AssetRef, Loss, to_json

SCHEMA: Final = "cloudbaker/web-bundle/v1"
GODOT_SCHEMA: Final = "cloudbaker/godot-pack/v1"
"""Of the manifest beside a Godot pack, see `cloudbaker.compute.godot.package`."""
SCHEMAS: Final = frozenset({SCHEMA, GODOT_SCHEMA})
MANIFEST: Final = "manifest.json"
ENVELOPE: Final = "provenance.dsse.json"
"""Name of the signed envelope where it lies beside the files (folder, ``.zip``); it is no file of the bundle."""

FILE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,126}")
"""Names of a bundle's files: flat, lower-case, safe on any file system."""
MODEL_FIELDS: Final = (
    "variant",  # default, lod1 …
    "triangles",
    "vertices",
    "compression",  # draco, meshopt, draco+meshopt (what stands beside Draco's payloads is packed too), none
    "error_mean_percent",  # mean distance to the source's surface, % of the bounding box's diagonal; null: not measured
    "error_max_percent",
    "suggested_distance",  # from how far away it may stand in
)
"""What a manifest takes from a variant's row."""
TEXTURE_FIELDS: Final = (
    "index",  # into the source's glTF images
    "slots",
    "mime",
    "width",
    "height",
    "source_width",
    "source_height",
    "bytes",
    "bytes_before",
    "kept",  # the source's own bytes were kept
    "gpu_bytes",  # in a GPU's memory, with mipmaps
    "gpu_bytes_before",
    "levels",  # mipmaps in the file
    "lossless",
    "psnr_db",  # against the scaled source, by an independent decoder; null: equal, or kept
    "angle_degrees",  # mean angle error of a normal map
)
"""What a manifest takes from a texture's row: never the device, which differs between machines."""
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def build_manifest(
    *,
    asset: AssetRef,
    recipe: str,
    recipe_hash: str,
    bake_key: str,
    files: Mapping[str, bytes],
    variants: Sequence[Mapping[str, Any]],
    textures: Sequence[Mapping[str, Any]] = (),
    losses: Sequence[Loss] = (),
) -> bytes:
    """Canonical JSON of a bundle's manifest, schema ``cloudbaker/web-bundle/v1`` (fields: docs/signing.md).

    `files` are the models by name, `variants` one row for each (``assemble_job``), `textures` one row for each image
    (``unpack_job`` with ``encode_job``); of the rows only the documented fields are taken. Raises ValueError where
    files and variants don't match, or a name can't stand in a bundle: that is a bug of the caller.
    """
    rows = {row["name"]: row for row in variants}
    if not rows or rows.keys() != files.keys() or len(rows) != len(variants):
        raise ValueError(f"files {sorted(files)} and variants {[row['name'] for row in variants]} don't match")
    if len({row["variant"] for row in variants}) != len(variants):
        raise ValueError("two models of a bundle have the same variant")
    return canonical_json(
        {
            "schema": SCHEMA,
            "asset": str(asset),
            "recipe": {"name": recipe, "sha256": recipe_hash},
            "bake_key": bake_key,
            "files": [_file_entry(rows[name], files[name]) for name in sorted(files)],
            "textures": [
                {name: _plain(row.get(name)) for name in TEXTURE_FIELDS}
                for row in sorted(textures, key=lambda row: int(row["index"]))
            ],
            "losses": sorted(map(to_json, losses), key=lambda row: (row["kind"], row["place"], row["detail"])),
        }
    )


def check_file_name(name: str) -> str:
    """Return `name` if a bundle's model may have it, else raise ValueError."""
    if not FILE_NAME.fullmatch(name) or ".." in name or name in (MANIFEST, ENVELOPE):
        raise ValueError(f"{name!r} can't be the name of a model in a bundle")
    media.media_type(name)
    return name


def write_zip(files: Mapping[str, bytes | Path], envelope: str, target: BinaryIO) -> None:
    """Write files and envelope as a ``.zip`` whose bytes depend on nothing else: sorted, no times, stored as they are.

    Stored, since GLB, WebP and KTX2 are compressed inside. ``cloudbaker verify`` takes such a file.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, data in _entries(files, envelope):
            info = zipfile.ZipInfo(name, _ZIP_EPOCH)
            info.create_system, info.external_attr = 3, 0o644 << 16
            if isinstance(data, Path):
                info.file_size = data.stat().st_size
                with data.open("rb") as source, archive.open(info, "w") as entry:
                    while chunk := source.read(1 << 20):
                        entry.write(chunk)
            else:
                archive.writestr(info, data)


def _entries(files: Mapping[str, bytes | Path], envelope: str) -> Iterable[tuple[str, bytes | Path]]:
    return sorted({**files, ENVELOPE: envelope.encode()}.items())


def _file_entry(row: Mapping[str, Any], data: bytes) -> dict[str, Any]:
    name = check_file_name(row["name"])
    return {
        **{field: _plain(row.get(field)) for field in MODEL_FIELDS},
        "name": name,
        "media_type": media.media_type(name),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _plain(value: Any) -> Any:
    """JSON for the manifest: figures to four significant digits, None for what is not finite (PSNR of equal pictures).

    Four, because sums of floats differ in the last bits between CPUs, and the manifest's bytes must not.
    """
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return sorted(value) if isinstance(value, (list, tuple)) else value
