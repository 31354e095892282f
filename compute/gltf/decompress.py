"""Undo Draco, meshopt and quantization: a GLB with plain accessors and everything else verbatim.

For two readers: the official validator, which is blind inside compressed payloads, and engines without a decoder
(Godot). `decode` is also the first step of the optimizer, on a document in memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cloudbaker.compute.gltf.document import (
    ARRAY_BUFFER,
    COMPONENTS,
    ELEMENT_ARRAY_BUFFER,
    Array,
    Bytes,
    Document,
    DocumentError,
    compression,
    dequantized,
)
from cloudbaker.compute.gltf.prune import Reserved, drop_unused, prune, reserve
from cloudbaker.compute.gltf.references import DRACO, MESHOPT, QUANTIZATION, Json
from cloudbaker.compute.meshes import draco

_FLOAT_SEMANTICS = ("POSITION", "NORMAL", "TANGENT")


def decompress(data: Bytes) -> bytes:
    """A GLB with its geometry as plain accessors: floats for what KHR_mesh_quantization had made integers.

    Names, extras, images, extensions and unknown things come through unchanged. Raises `GlbError` or `DocumentError`
    where the container or a payload is damaged.
    """
    document = Document.from_glb(data)
    unpack(document)
    return document.to_glb()


def unpack(document: Document) -> None:
    """`decompress` on a document in memory, in place."""
    reserved = reserve(document)
    decode(document)
    dequantize(document)
    _drop_views(document, reserved)


def decode(document: Document) -> None:
    """Unpack, in place, every Draco and meshopt payload. Quantized accessors stay quantized."""
    for index, view in enumerate(document.items("bufferViews")):
        if compression(view) is not None:
            plain = document.view(index)
            properties = {key: view[key] for key in ("byteStride", "target") if key in view}
            _remove_extension(view, *MESHOPT)
            document.set_view(index, plain, **properties)
    placed: dict[int, int] = {}
    for mesh, item in enumerate(document.items("meshes")):
        for number, primitive in enumerate(item.get("primitives", ())):
            if DRACO in (primitive.get("extensions") or {}):
                _decode_draco(document, primitive, f"/meshes/{mesh}/primitives/{number}", placed)
    document.undeclare(DRACO, *MESHOPT)


def _decode_draco(document: Document, primitive: Json, place: str, placed: dict[int, int]) -> None:
    payload = primitive["extensions"][DRACO]
    try:
        decoded = draco.decode(document.view(payload["bufferView"]), attribute_ids=payload["attributes"])
    except ValueError as error:
        raise DocumentError(place, f"the Draco payload can't be decoded: {error}") from error
    _remove_extension(primitive, DRACO)
    for semantic in payload["attributes"]:
        if semantic not in primitive["attributes"]:
            raise DocumentError(f"{place}/attributes", f"lack {semantic}, which the Draco payload has")
        accessor = document.items("accessors")[primitive["attributes"][semantic]]
        data = _cast(np.asarray(decoded.attributes[semantic]), COMPONENTS[accessor["componentType"]], place)
        primitive["attributes"][semantic] = _put(
            document, primitive["attributes"][semantic], data, payload["bufferView"], placed, ARRAY_BUFFER
        )
    # The specification lets a strip hold a Draco mesh, but what a decoder gives are triangles.
    primitive.pop("mode", None)
    indices = np.asarray(decoded.indices, np.uint32).reshape(-1, 1)
    if decoded.vertex_count <= 0xFFFF:
        indices = indices.astype(np.uint16)
    if "indices" in primitive:
        primitive["indices"] = _put(
            document, primitive["indices"], indices, payload["bufferView"], placed, ELEMENT_ARRAY_BUFFER
        )
    else:
        primitive["indices"] = document.add_accessor(indices, target=ELEMENT_ARRAY_BUFFER)


def _put(document: Document, index: int, data: Array, view: int, placed: dict[int, int], target: int) -> int:
    """Give an accessor its decoded data. One that two payloads claim gets a twin for the second."""
    accessor = document.items("accessors")[index]
    options: dict[str, Any] = {
        "normalized": bool(accessor.get("normalized")),
        "bounds": "min" in accessor,
        "target": target,
        "type": accessor["type"],
    }
    if placed.setdefault(index, view) == view:
        document.set_accessor(index, data, **options)
        return index
    return document.add_accessor(data, like=index, **options)


def _cast(data: Array, dtype: np.dtype[Any], place: str) -> Array:
    if data.dtype.kind == "f" and dtype.kind != "f":
        raise DocumentError(place, f"the accessor says {dtype}, the Draco payload holds {data.dtype}")
    return data.astype(dtype, copy=False)


def dequantize(document: Document) -> None:
    """Turn, in place, the accessors that only KHR_mesh_quantization allows into float32 ones."""
    done: set[int] = set()
    for mesh in document.items("meshes"):
        for primitive in mesh.get("primitives", ()):
            for attributes in (primitive.get("attributes", {}), *primitive.get("targets", ())):
                for semantic, index in attributes.items():
                    accessor = document.items("accessors")[index]
                    if index not in done and is_quantized(semantic, accessor):
                        data = document.accessor(index)
                        plain = dequantized(data) if accessor.get("normalized") else data.astype(np.float32)
                        document.set_accessor(index, plain, bounds="min" in accessor, target=ARRAY_BUFFER)
                    done.add(index)
    document.undeclare(QUANTIZATION)


def is_quantized(semantic: str, accessor: Json) -> bool:
    """Whether an attribute has a form that core glTF does not allow and KHR_mesh_quantization does."""
    component, normalized = accessor["componentType"], bool(accessor.get("normalized"))
    if component == 5126:
        return False
    if semantic in _FLOAT_SEMANTICS:
        return True
    return semantic.startswith("TEXCOORD_") and not (normalized and component in (5121, 5123))


def _remove_extension(item: Json, *names: str) -> None:
    for name in names:
        item["extensions"].pop(name, None)
    if not item["extensions"]:
        del item["extensions"]


def _drop_views(document: Document, reserved: Reserved) -> None:
    if reserved.pinned:
        prune(document, reserved)
    else:
        drop_unused(document, "bufferViews")
