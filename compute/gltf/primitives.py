"""Triangle primitives as arrays, and back: what simplification and compression work on.

Primitives that draw the same accessors are one `Shape`, so that each geometry is worked on once, however many meshes
show it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from cloudbaker.compute.gltf.decompress import is_quantized
from cloudbaker.compute.gltf.dedup import opaque
from cloudbaker.compute.gltf.document import (
    ARRAY_BUFFER,
    COMPONENTS,
    ELEMENT_ARRAY_BUFFER,
    Array,
    Document,
    dequantized,
)
from cloudbaker.compute.gltf.references import REORDER_SAFE, Json

TRIANGLES, TRIANGLE_STRIP, TRIANGLE_FAN = 4, 5, 6
_UNIT = ("POSITION", "NORMAL", "TANGENT", "TEXCOORD_", "COLOR_", "WEIGHTS_")
"""Semantics (or their beginnings) that are read as floats; JOINTS_n and custom ones keep their type."""


@dataclass(slots=True)
class Geometry:
    """One triangle mesh. All arrays are (n, components) over the same n vertices."""

    attributes: dict[str, Array]
    """By semantic. float32 for positions, normals, tangents, texture coordinates, colours and weights."""
    indices: Array
    """(t, 3) uint32."""
    targets: list[dict[str, Array]] = field(default_factory=list)
    """Morph targets: displacements by semantic, float32."""


@dataclass(slots=True)
class Shape:
    """A distinct geometry and all primitives that draw it."""

    place: str
    """JSON pointer of the first primitive."""
    primitives: list[Json]
    """The primitives' own JSON: change all alike."""

    @property
    def first(self) -> Json:
        """The first primitive; the others refer to the same accessors."""
        return self.primitives[0]


def shapes(document: Document) -> Iterator[Shape]:
    """The distinct triangle geometries whose vertices and triangles may be put in another order.

    Left out: points and lines, primitives (or meshes) with an extension that we don't know or that counts on the order
    of vertices, and accessors that an unknown extension may give another meaning.
    """
    found: dict[object, Shape] = {}
    for number, mesh in enumerate(document.items("meshes")):
        for index, primitive in enumerate(mesh.get("primitives", ())):
            if not _reworkable(document, mesh, primitive):
                continue
            key = (
                primitive.get("mode", TRIANGLES),
                primitive.get("indices"),
                tuple(primitive["attributes"].items()),
                tuple(tuple(target.items()) for target in primitive.get("targets", ())),
            )
            shape = found.setdefault(key, Shape(f"/meshes/{number}/primitives/{index}", []))
            shape.primitives.append(primitive)
    yield from found.values()


def _reworkable(document: Document, mesh: Json, primitive: Json) -> bool:
    extensions = {*primitive.get("extensions", ()), *mesh.get("extensions", ())}
    attributes = primitive.get("attributes", {})
    return (
        primitive.get("mode", TRIANGLES) in (TRIANGLES, TRIANGLE_STRIP, TRIANGLE_FAN)
        and "POSITION" in attributes
        and extensions <= REORDER_SAFE
        and not any(opaque(document, index) for index in accessors_of(primitive))
        and document.items("accessors")[attributes["POSITION"]]["count"] > 0
    )


def accessors_of(primitive: Json) -> list[int]:
    """Numbers of all accessors that a primitive refers to by core properties."""
    indices = [primitive["indices"]] if "indices" in primitive else []
    targets = [index for target in primitive.get("targets", ()) for index in target.values()]
    return [*indices, *primitive.get("attributes", {}).values(), *targets]


def read(document: Document, primitive: Json, *, quantized: bool = False) -> Geometry:
    """The arrays of a primitive: strips and fans as triangles, vertices that no triangle uses left out.

    With `quantized`, attributes that KHR_mesh_quantization made integers stay integers.
    """
    attributes = {
        name: document.accessor(index)
        if quantized and is_quantized(name, document.items("accessors")[index])
        else _read(document, name, index)
        for name, index in primitive["attributes"].items()
    }
    targets = [
        {name: _read(document, name, index, delta=True) for name, index in target.items()}
        for target in primitive.get("targets", ())
    ]
    vertices = len(attributes["POSITION"])
    indices = triangle_list(document, primitive)
    named = np.zeros(vertices, bool)  # ten times as fast as np.unique
    named[indices.reshape(-1)] = True
    used = np.flatnonzero(named)
    if len(used) == vertices:
        return Geometry(attributes, indices, targets)
    number = np.zeros(vertices, np.uint32)
    number[used] = np.arange(len(used), dtype=np.uint32)
    return Geometry(
        {name: data[used] for name, data in attributes.items()},
        number[indices],
        [{name: data[used] for name, data in target.items()} for target in targets],
    )


def _read(document: Document, semantic: str, index: int, *, delta: bool = False) -> Array:
    if not delta and not semantic.startswith(_UNIT):
        return document.accessor(index)
    data = document.accessor(index)
    if document.items("accessors")[index].get("normalized"):
        return dequantized(data)
    return data.astype(np.float32, copy=False)


def triangle_list(document: Document, primitive: Json) -> Array:
    """Triangles (t, 3) of a list, strip or fan as uint32, with the winding of section 3.7.2.1."""
    if "indices" in primitive:
        order = document.accessor(primitive["indices"])[:, 0].astype(np.uint32)
    else:
        order = np.arange(document.items("accessors")[primitive["attributes"]["POSITION"]]["count"], dtype=np.uint32)
    mode = primitive.get("mode", TRIANGLES)
    if mode == TRIANGLES:
        return order[: len(order) // 3 * 3].reshape(-1, 3)
    if len(order) < 3:
        return np.empty((0, 3), np.uint32)
    if mode == TRIANGLE_FAN:
        return np.stack([order[1:-1], order[2:], np.broadcast_to(order[0], len(order) - 2)], axis=1)
    strip = np.stack([order[:-2], order[1:-1], order[2:]], axis=1)
    strip[1::2, 1:] = strip[1::2, :0:-1]
    return strip


def write(document: Document, shape: Shape, geometry: Geometry) -> None:
    """Give a shape's primitives new, plain accessors with this geometry; the old ones are left for `prune`.

    Each attribute gets the component type that it had (if core glTF allows it), so nothing grows by being rewritten.
    """
    first = shape.first
    attributes = {
        name: _write(document, name, data, first["attributes"].get(name)) for name, data in geometry.attributes.items()
    }
    targets = [
        {name: _write(document, name, data, old.get(name), delta=True) for name, data in target.items()}
        for target, old in zip(geometry.targets, first.get("targets", ()), strict=True)
    ]
    indices = document.add_accessor(
        index_array(geometry.indices, len(geometry.attributes["POSITION"])),
        like=first.get("indices"),
        target=ELEMENT_ARRAY_BUFFER,
    )
    for primitive in shape.primitives:
        primitive["attributes"] = dict(attributes)
        primitive["indices"] = indices
        primitive.pop("mode", None)
        if targets:
            primitive["targets"] = [dict(target) for target in targets]


def _write(document: Document, semantic: str, data: Array, like: int | None, *, delta: bool = False) -> int:
    old = document.items("accessors")[like] if like is not None else {}
    normalized = bool(old.get("normalized"))
    if normalized and data.dtype.kind == "f" and not delta and not is_quantized(semantic, old):
        dtype = COMPONENTS[old["componentType"]]
        data = np.rint(np.clip(data, 0, 1) * np.iinfo(dtype).max).astype(dtype)
    elif data.dtype.kind == "f":
        normalized = False
    return document.add_accessor(
        data, like=like, normalized=normalized, bounds=semantic == "POSITION", target=ARRAY_BUFFER
    )


def index_array(indices: Array, vertices: int) -> Array:
    """Triangle indices as an accessor's column: uint16 where that is enough (65535 means "restart"), else uint32."""
    return indices.reshape(-1, 1).astype(np.uint16 if vertices <= 0xFFFF else np.uint32)
