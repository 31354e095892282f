"""A GLB as Godot wants it: plain floats, and its textures as files of their own.

Godot rejects a model that requires Draco, meshopt or quantization (and exits with 0), so geometry goes in uncompressed
and the engine compresses it in its own way. An image inside a GLB ends up in the scene as it is, 4 bytes per texel on
the GPU; the same image as a file beside it is imported as a texture like any other: compressed, with mipmaps, and as a
normal map where it is one. So images are taken out, once each for the model and its levels of detail.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cloudbaker.compute.gltf import optimize
from cloudbaker.compute.gltf.decompress import decompress
from cloudbaker.compute.gltf.document import Bytes, Document, DocumentError
from cloudbaker.compute.gltf.glb import GlbError
from cloudbaker.compute.gltf.prune import drop_unused
from cloudbaker.compute.gltf.references import WEBP
from cloudbaker.compute.gltf.textures import encodable_images
from cloudbaker.compute.job import Inputs, JobResult, Params
from cloudbaker.model import Finding, Severity, to_json

_EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
_STRICTNESS = {"color": 0, "data": 1, "normal": 2}


@dataclass(slots=True)
class Parted:
    """A model whose images are files."""

    model: bytes
    textures: dict[str, Bytes] = field(default_factory=dict)
    """File name → encoded image."""
    slot_classes: dict[str, str] = field(default_factory=dict)
    """File name → ``color``, ``normal`` or ``data``."""


def model_job(inputs: Inputs, params: Params) -> JobResult:
    """A model and its levels of detail for Godot.

    Input ``model.glb`` (self-contained); params ``name`` (of the model's file: textures are named after it) and
    ``lods`` (the recipe's, empty where the engine makes its own). Files: ``model.glb``, ``lod1.glb`` … and
    ``texture-<n>``; value: ``{"variants", "textures": [{name, file, slot_class, bytes}], "losses", "findings"}``.
    A model that can't be read whole (a buffer in another file, a damaged payload) is a finding, and gives no files.
    """
    try:
        return _made(inputs, params)
    except (GlbError, DocumentError) as error:
        finding = Finding(
            "godot.model", Severity.ERROR, "", f"the model can't be read: {error}", "export it as one .glb"
        )
        return JobResult({"variants": [], "textures": [], "losses": [], "findings": [to_json(finding)]})


def _made(inputs: Inputs, params: Params) -> JobResult:
    plain = decompress(inputs[optimize.MAIN])
    made = optimize.assemble_job(
        {optimize.MAIN: memoryview(plain)}, {"meshes": {"compression": "none"}, "lods": params.get("lods", [])}
    )
    files: dict[str, bytes | bytearray | memoryview] = {}
    textures: dict[str, Bytes] = {}
    slots: dict[str, str] = {}
    for row in made.value["variants"]:
        parted = part(decompress(made.files[row["name"]]), stem=_stem(params["name"]))
        files[row["name"]] = parted.model
        row["bytes"] = len(parted.model)
        textures |= parted.textures
        slots |= parted.slot_classes
    rows = []
    for number, (name, content) in enumerate(sorted(textures.items())):
        files[f"texture-{number}"] = content
        row = {"name": name, "file": f"texture-{number}", "slot_class": slots[name], "bytes": len(content)}
        rows.append(row)
    return JobResult(
        {"variants": made.value["variants"], "textures": rows, "losses": made.value["losses"], "findings": []},
        files,
    )


def part(glb: Bytes, *, stem: str) -> Parted:
    """Take the images that materials use out of a GLB; it refers to them by file name.

    Names are ``<stem>.<hash8>.<ext>``: equal images are one file. Images that anything else uses stay inside. WebP
    loses its extension of glTF: Godot imports the file by itself.
    """
    document = Document.from_glb(glb)
    found = Parted(b"")
    _spell_out(document)
    for image in encodable_images(document):
        content = document.view(image.view)
        name = f"{stem}.{hashlib.sha256(content).hexdigest()[:8]}.{_EXTENSIONS[image.mime]}"
        before = found.slot_classes.get(name, "color")
        found.textures[name] = bytes(content)
        found.slot_classes[name] = max(before, image.slot_class, key=_STRICTNESS.__getitem__)
        item = document.items("images")[image.index]
        document.items("images")[image.index] = {
            **{key: value for key, value in item.items() if key not in ("bufferView", "mimeType")},
            "uri": name,
        }
        _name_plainly(document, image.index)
    drop_unused(document, "bufferViews")
    document.undeclare(*([WEBP] if not _uses(document, WEBP) else []))
    found.model = document.to_glb()
    return found


def _spell_out(document: Document) -> None:
    """Write the default angles of spot lights: Godot 3.2.3 and 4.6.3 take those that are left out for zero, and 3.2.3
    then gives the whole model up (KHR_lights_punctual, "spot")."""
    extensions = document.json.get("extensions", {})
    for light in (extensions.get("KHR_lights_punctual") or {}).get("lights", ()):
        if light.get("type") == "spot":
            light["spot"] = {"innerConeAngle": 0.0, "outerConeAngle": math.pi / 4, **light.get("spot", {})}


def _name_plainly(document: Document, image: int) -> None:
    """Name the image as an ordinary source where EXT_texture_webp names it."""
    for texture in document.items("textures"):
        extensions: Mapping[str, Any] = texture.get("extensions", {})
        if (extensions.get(WEBP) or {}).get("source") == image:
            rest = {key: value for key, value in extensions.items() if key != WEBP}
            texture["source"] = image
            texture.pop("extensions")
            if rest:
                texture["extensions"] = rest


def _uses(document: Document, extension: str) -> bool:
    return any(extension in texture.get("extensions", {}) for texture in document.items("textures"))


def _stem(name: str) -> str:
    """A file's stem without anything that an URI or Godot reads in a way of its own."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name.rsplit("/", 1)[-1].rsplit(".", 1)[0])[:64] or "model"
