"""KHR_draco_mesh_compression for the triangle geometry of a document.

What Draco can't hold well stays outside and follows the payload's order of vertices: TANGENT as normalized 16-bit
integers (as raw floats inside Draco they made one model 1.72 times as large as a peer's), morph targets as they are. A
primitive that gains nothing, or whose decoded positions are off, keeps its plain accessors.

Source: KHR_draco_mesh_compression and KHR_mesh_quantization in the Khronos glTF extension registry.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cloudbaker.compute.gltf.document import ARRAY_BUFFER, Array, Document, describe
from cloudbaker.compute.gltf.primitives import Geometry, Shape, accessors_of, read, shapes
from cloudbaker.compute.gltf.references import DRACO, QUANTIZATION, Json
from cloudbaker.compute.meshes import draco
from cloudbaker.compute.meshes.draco import DracoError, DracoOptions, EncodedDraco

VIEW_COST, PRIMITIVE_COST = 60, 120
"""Bytes of JSON for a view of its own, and for the extension in each primitive that draws it."""


@dataclass(frozen=True, slots=True)
class Compressed:
    """What came of a compression."""

    done: int
    """Distinct geometries that are compressed now."""
    kept: int
    """Distinct geometries that stay plain because they would not get smaller."""
    notes: tuple[str, ...] = ()
    """Geometries that could not be compressed, and why."""


def compress_draco(
    document: Document,
    options: DracoOptions = DracoOptions(),  # noqa: B008
    *,
    static: bool = False,
) -> Compressed:
    """Compress every triangle geometry in place. The document must be decoded (see `decompress.decode`).

    With `static`, geometry that bends (joints, morph targets) is left for `compress_meshopt.compress_rest`.
    """
    done = kept = 0
    notes: list[str] = []
    for shape in list(shapes(document)):
        if static and bends(shape.first):
            continue
        geometry = read(document, shape.first)
        refused = _unfit(geometry)
        if refused:
            notes.append(f"{shape.place}: {refused}")
            continue
        inside = {name: data for name, data in geometry.attributes.items() if name != "TANGENT"}
        follows = "TANGENT" in geometry.attributes or bool(geometry.targets)
        try:
            # A triangle without area now may be opened by a morph target later.
            encoded = draco.encode(
                inside, geometry.indices, options, keep_source=follows, keep_flat=bool(geometry.targets)
            )
        except DracoError as error:
            notes.append(f"{shape.place}: {error}")
            continue
        outside = encoded.vertex_count * 8 if "TANGENT" in geometry.attributes else 0
        plain = sum(
            document.accessor(i).nbytes for i in {*accessors_of(shape.first)} - {*_target_accessors(shape.first)}
        )
        if len(encoded.data) + outside + VIEW_COST + PRIMITIVE_COST * len(shape.primitives) >= plain:
            kept += 1
            continue
        _place(document, shape, geometry, encoded)
        done += 1
    if done:
        document.declare(DRACO, required=True)
    return Compressed(done, kept, tuple(notes))


def bends(primitive: Json) -> bool:
    """Whether joints or morph targets move its vertices."""
    return bool(primitive.get("targets")) or any(name.startswith("JOINTS_") for name in primitive["attributes"])


def _unfit(geometry: Geometry) -> str:
    for name, data in geometry.attributes.items():
        if name.startswith("COLOR_") and data.size and (data.min() < 0 or data.max() > 1):
            return f"{name} leaves the range 0 to 1, which a quantized colour can't"
    return "" if len(geometry.indices) else "has no triangles"


def _target_accessors(primitive: Json) -> list[int]:
    return [index for target in primitive.get("targets", ()) for index in target.values()]


def _place(document: Document, shape: Shape, geometry: Geometry, encoded: EncodedDraco) -> None:
    first = shape.first
    view = document.add_view(encoded.data)
    attributes: dict[str, int] = {}
    for name in first["attributes"]:
        like = first["attributes"][name]
        if name == "TANGENT":
            attributes[name] = document.add_accessor(
                snorm16(geometry.attributes[name][encoded.source]), like=like, normalized=True, target=ARRAY_BUFFER
            )
            document.declare(QUANTIZATION, required=True)
            continue
        data = encoded.attributes[name]
        normalized = data.dtype.kind != "f" and (
            name.startswith(("COLOR_", "TEXCOORD_", "WEIGHTS_"))
            or (name.startswith("_") and bool(document.items("accessors")[like].get("normalized")))
        )
        attributes[name] = document.append_accessor(
            describe(data, normalized=normalized, bounds=name == "POSITION"), like=like
        )
    targets = [
        {
            name: document.add_accessor(
                data[encoded.source], like=old[name], bounds=name == "POSITION", target=ARRAY_BUFFER
            )
            for name, data in target.items()
        }
        for target, old in zip(geometry.targets, first.get("targets", ()), strict=True)
    ]
    indices: Json = {
        "componentType": 5123 if encoded.vertex_count <= 0xFFFF else 5125,
        "count": encoded.index_count,
        "type": "SCALAR",
    }
    number = document.append_accessor(indices, like=first.get("indices"))
    for primitive in shape.primitives:
        primitive["attributes"] = dict(attributes)
        primitive["indices"] = number
        primitive.pop("mode", None)
        if targets:
            primitive["targets"] = [dict(target) for target in targets]
        primitive["extensions"] = {
            **primitive.get("extensions", {}),
            DRACO: {"bufferView": view, "attributes": dict(encoded.attribute_ids)},
        }


def snorm16(values: Array) -> Array:
    """Values in [-1, 1] as normalized int16."""
    quantized: Array = np.rint(np.clip(values, -1, 1) * 32767).astype(np.int16)
    return quantized
