"""A GLB as the other forms people hand in: a folder of .gltf, .bin and images, or a zip of it."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

from cloudbaker.testing.writer import unpack

_SUFFIX = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "image/ktx2": ".ktx2"}


def write_gltf_folder(glb: bytes, folder: Path, *, name: str = "model") -> Path:
    """Write a GLB of this package as ``name.gltf``, ``name.bin`` and ``textures/…``; returns the path of the .gltf.

    Images go to files named as they are in the document, with the spaces and letters percent-encoded in the URI.
    """
    document, binary = unpack(glb)
    folder.mkdir(parents=True, exist_ok=True)
    views = document.get("bufferViews", [])
    for index, image in enumerate(document.get("images", [])):
        view = views[image.pop("bufferView")]
        start = view.get("byteOffset", 0)
        file = f"textures/{image.get('name', f'image {index}')}{_SUFFIX[image.pop('mimeType')]}"
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(binary[start : start + view["byteLength"]])
        image["uri"] = quote(file)
    if document.get("buffers"):
        document["buffers"][0]["uri"] = quote(f"{name}.bin")
        (folder / f"{name}.bin").write_bytes(binary[: document["buffers"][0]["byteLength"]])
    path = folder / f"{name}.gltf"
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")
    return path


def zip_of(folder: Path) -> bytes:
    """A zip of all files of a folder, with fixed times: the same folder gives the same bytes."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())
    return out.getvalue()
