"""What is in a model, as tables: scenes, meshes, materials, textures, animations, extensions, totals.

The model for it is glTF-Transform's ``inspect``: each estimate has a footnote that says how it comes about. Everything
is read from JSON and image headers; nothing is decoded, so it is safe and quick on any file that passes the pre-check.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudbaker.compute.gltf.facts import facts, instances_of, triangles_of, vertices_of
from cloudbaker.compute.gltf.images import image_bytes
from cloudbaker.compute.gltf.layout import element_bytes, meshopt_extension, primitives
from cloudbaker.compute.gltf.limits import ContentLimits
from cloudbaker.compute.gltf.precheck import precheck
from cloudbaker.compute.gltf.references import KNOWN, texture_infos
from cloudbaker.compute.job import Inputs, JobResult, Params
from cloudbaker.compute.textures.headers import image_header

Document = dict[str, Any]
Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]

_MODES = ("points", "lines", "line loop", "line strip", "triangles", "triangle strip", "triangle fan")
_COMPONENTS = {5120: "i8", 5121: "u8", 5122: "i16", 5123: "u16", 5125: "u32", 5126: "f32"}
FOOTNOTES = {
    "scenes": [
        "bounds: from the accessors' min and max in bind pose; morph targets, skins and animations may go beyond.",
        "triangles and vertices: a mesh counts once for each node and each instance that shows it.",
    ],
    "meshes": [
        "bytes: as stored, compressed; data that meshes share count for each of them. Accessors in one meshopt buffer "
        "view divide its payload by their decompressed sizes.",
        "GPU bytes: attributes and indices decompressed, each attribute padded to 4 bytes a vertex, shared accessors "
        "once for each mesh; morph targets at 16 bytes for each vertex, target and attribute, as in three.js's float "
        "textures.",
        "instances: nodes that show the mesh, times EXT_mesh_gpu_instancing.",
    ],
    "materials": [
        "primitives: those whose own material it is; what KHR_materials_variants may choose instead is not counted.",
    ],
    "textures": [
        "GPU bytes: width × height × 4 with all mip levels (× 4/3) for PNG, JPEG, WebP and AVIF, which a GPU holds "
        "decompressed; for KTX2 one byte per pixel (BC7, ASTC 4×4) with mip levels.",
    ],
    "animations": [
        "bytes: as stored; accessors that channels share count once.",
        "keyframes: of every sampler, also where samplers share their times.",
        "seconds: the largest of the times' max, as the accessors declare it.",
    ],
    "extensions": ["known: its references are followed and kept right; others are carried along as they are."],
    "totals": [
        "other bytes: padding, data that nothing refers to, and what extensions hold.",
        "draw calls: primitives of all nodes, without what a viewer merges, culls or draws twice (shadows).",
        "GPU bytes: see the tables of meshes and textures; geometry counts accessors that meshes share once.",
    ],
}


def inspect_job(inputs: Inputs, params: Params) -> JobResult:
    """The tables of one model.

    Input ``model.glb``; params ``{"limits": {…}}``. Value: ``{"findings": […], "scenes": table, "meshes": table,
    "materials": table, "textures": table, "animations": table, "extensions": table, "totals": {…}}`` with ``table =
    {"rows": [{column: value}], "footnotes": [text]}``. A file that does not pass the pre-check has findings only.
    """
    checked = precheck(inputs["model.glb"], ContentLimits.of(params))
    value: dict[str, Any] = {"findings": checked.findings.to_json()}
    if checked.document is not None:
        value |= inspect(checked.document, checked.bin, len(inputs["model.glb"]))
    return JobResult(value)


def inspect(document: Document, bin: memoryview | None, size: int) -> dict[str, Any]:
    """The tables (see `inspect_job`) of a document that has passed the pre-check. `size` is the file's."""
    sizes = _stored_sizes(document)
    rows = {
        "scenes": list(_scenes(document)),
        "meshes": list(_meshes(document, sizes)),
        "materials": list(_materials(document)),
        "textures": list(_textures(document, bin)),
        "animations": list(_animations(document, sizes)),
        "extensions": list(_extensions(document)),
    }
    tables = {name: {"rows": found, "footnotes": FOOTNOTES.get(name, [])} for name, found in rows.items()}
    images = sum(row["bytes"] for row in rows["textures"])
    geometry = _stored(sizes, _geometry_accessors(document)) + sum(_draco_views(document).values())
    animation = _stored(sizes, _animation_accessors(document))
    chunk = 0 if bin is None else len(bin)
    totals = facts(document, size) | {
        "draw_calls": sum(
            len(document["meshes"][node["mesh"]]["primitives"]) for node in document.get("nodes", ()) if "mesh" in node
        ),
        "cameras": len(document.get("cameras", ())),
        "lights": len(document.get("extensions", {}).get("KHR_lights_punctual", {}).get("lights", ())),
        "variants": len(document.get("extensions", {}).get("KHR_materials_variants", {}).get("variants", ())),
        "keyframes": sum(row["keyframes"] for row in rows["animations"]),
        "geometry_gpu_bytes": _gpu_bytes(document, [p.json for p in primitives(document)]),
        "texture_gpu_bytes": sum(row["gpu_bytes"] for row in rows["textures"]),
        "geometry_bytes": geometry,
        "animation_bytes": animation,
        "image_bytes": images,
        "json_bytes": size - chunk,
        "other_bytes": max(0, chunk - geometry - animation - images),
        "footnotes": FOOTNOTES["totals"],
    }
    return tables | {"totals": totals}


# -- rows of the tables ------------------------------------------------------------------------------------------------


def _scenes(document: Document) -> Iterator[Document]:
    trees: dict[int, _Tree] = {}  # nodes are a forest: however many scenes show a root, it is walked once
    for at, scene in enumerate(document.get("scenes", ())):
        shown: list[_Tree] = []
        for root in scene.get("nodes", ()):
            if root not in trees:
                trees[root] = _tree(document, root)
            shown.append(trees[root])
        boxes = [tree.bounds for tree in shown if tree.bounds is not None]
        yield {
            "#": at,
            "name": scene.get("name", ""),
            "nodes": sum(tree.nodes for tree in shown),
            "bounds_min": _rounded(np.min([low for low, _ in boxes], axis=0)) if boxes else None,
            "bounds_max": _rounded(np.max([high for _, high in boxes], axis=0)) if boxes else None,
            "triangles": sum(tree.triangles for tree in shown),
            "vertices": sum(tree.vertices for tree in shown),
        }


@dataclass(slots=True)
class _Tree:
    """What hangs below one root of the node forest."""

    nodes: int = 0
    triangles: int = 0
    vertices: int = 0
    bounds: tuple[Vector, Vector] | None = None


def _tree(document: Document, root: int) -> _Tree:
    tree, nodes = _Tree(), document["nodes"]
    for number, matrix in _world(nodes, root):
        tree.nodes += 1
        node = nodes[number]
        if "mesh" not in node:
            continue
        times = instances_of(node, document)
        for primitive in document["meshes"][node["mesh"]]["primitives"]:
            tree.triangles += triangles_of(primitive, document) * times
            tree.vertices += vertices_of(primitive, document) * times
            corners = _box(primitive, document)
            if corners is not None:
                with np.errstate(all="ignore"):  # a matrix of 1e300 is legal; bounds that overflow are not shown
                    placed = corners @ matrix[:3, :3].T + matrix[:3, 3]
                low, high = placed.min(axis=0), placed.max(axis=0)
                if tree.bounds is not None:
                    low, high = np.minimum(low, tree.bounds[0]), np.maximum(high, tree.bounds[1])
                tree.bounds = low, high
    return tree


def _meshes(document: Document, sizes: list[float]) -> Iterator[Document]:
    shown: Counter[int] = Counter()
    for node in document.get("nodes", ()):
        if "mesh" in node:
            shown[node["mesh"]] += instances_of(node, document)
    accessors = document.get("accessors", [])
    payloads = _draco_views(document)
    for at, mesh in enumerate(document.get("meshes", ())):
        modes: set[str] = set()
        indices: set[str] = set()
        attributes: dict[str, str] = {}
        used: set[int] = set()
        packed: set[int] = set()
        for primitive in mesh["primitives"]:
            modes.add(_MODES[primitive.get("mode", 4)])
            used |= set(_primitive_accessors(primitive))
            draco = primitive.get("extensions", {}).get("KHR_draco_mesh_compression")
            if draco is not None:
                packed.add(draco["bufferView"])
            if "indices" in primitive:
                indices.add(_COMPONENTS[accessors[primitive["indices"]]["componentType"]])
            for name, index in primitive["attributes"].items():
                attributes[name] = _COMPONENTS[accessors[index]["componentType"]]
        yield {
            "#": at,
            "name": mesh.get("name", ""),
            "mode": ", ".join(sorted(modes)),
            "primitives": len(mesh["primitives"]),
            "triangles": sum(triangles_of(p, document) for p in mesh["primitives"]),
            "vertices": sum(vertices_of(p, document) for p in mesh["primitives"]),
            "indices": ", ".join(sorted(indices)),
            "attributes": ", ".join(f"{name}:{kind}" for name, kind in attributes.items()),
            "morph_targets": max(len(p.get("targets", ())) for p in mesh["primitives"]),
            "instances": shown[at],
            "bytes": _stored(sizes, used) + sum(payloads[view] for view in packed),
            "gpu_bytes": _gpu_bytes(document, mesh["primitives"]),
        }


def _materials(document: Document) -> Iterator[Document]:
    used: Counter[int] = Counter(p.json["material"] for p in primitives(document) if "material" in p.json)
    for at, material in enumerate(document.get("materials", ())):
        yield {
            "#": at,
            "name": material.get("name", ""),
            "primitives": used[at],
            "textures": ", ".join(dict(texture_infos(material))),
            "alpha_mode": material.get("alphaMode", "OPAQUE"),
            "double_sided": material.get("doubleSided", False),
            "extensions": ", ".join(sorted(material.get("extensions", {}))),
        }


def _textures(document: Document, bin: memoryview | None) -> Iterator[Document]:
    slots: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for material in document.get("materials", ()):
        for slot, info in texture_infos(material):
            for image in texture_images(document["textures"][info["index"]]):
                slots[image][slot] += 1
    for at, image in enumerate(document.get("images", ())):
        data = image_bytes(document, bin, image)
        header = image_header(data) if data is not None else None
        pixels = header.pixels if header else 0
        yield {
            "#": at,
            "name": image.get("name", ""),
            "slots": ", ".join(slots[at]),
            "instances": slots[at].total(),
            "mime": header.mime if header else "",
            "width": header.width if header else 0,
            "height": header.height if header else 0,
            "alpha": header.has_alpha if header else False,
            "bytes": len(data) if data is not None else 0,
            "gpu_bytes": pixels * (1 if header and header.mime == "image/ktx2" else 4) * 4 // 3,
        }


def texture_images(texture: Document) -> list[int]:
    """Images of a texture: its source, and those of its extensions (WebP, AVIF, KTX2)."""
    sources = [texture, *texture.get("extensions", {}).values()]
    return [source["source"] for source in sources if type(source.get("source")) is int]


def _animations(document: Document, sizes: list[float]) -> Iterator[Document]:
    accessors = document.get("accessors", [])
    for at, animation in enumerate(document.get("animations", ())):
        inputs = {sampler["input"] for sampler in animation["samplers"]}
        ends = [accessors[i]["max"][0] for i in inputs if accessors[i].get("max")]
        used = inputs | {sampler["output"] for sampler in animation["samplers"]}
        yield {
            "#": at,
            "name": animation.get("name", ""),
            "channels": len(animation["channels"]),
            "samplers": len(animation["samplers"]),
            "keyframes": sum(accessors[sampler["input"]]["count"] for sampler in animation["samplers"]),
            "seconds": round(float(max(ends)), 3) if ends else None,
            "bytes": _stored(sizes, used),
        }


def _extensions(document: Document) -> Iterator[Document]:
    required = set(document.get("extensionsRequired", ()))
    for name in sorted(set(document.get("extensionsUsed", ())) | required):
        yield {"name": name, "required": name in required, "known": name in KNOWN}


# -- bytes -------------------------------------------------------------------------------------------------------------


def _primitive_accessors(primitive: Document) -> Iterator[int]:
    yield from primitive["attributes"].values()
    if "indices" in primitive:
        yield primitive["indices"]
    for target in primitive.get("targets", ()):
        yield from target.values()


def _geometry_accessors(document: Document) -> set[int]:
    used = {index for primitive in primitives(document) for index in _primitive_accessors(primitive.json)}
    used |= {skin["inverseBindMatrices"] for skin in document.get("skins", ()) if "inverseBindMatrices" in skin}
    for node in document.get("nodes", ()):
        used |= set(node.get("extensions", {}).get("EXT_mesh_gpu_instancing", {}).get("attributes", {}).values())
    return used


def _animation_accessors(document: Document) -> set[int]:
    samplers = [s for animation in document.get("animations", ()) for s in animation["samplers"]]
    return {s["input"] for s in samplers} | {s["output"] for s in samplers}


def _draco_views(document: Document) -> dict[int, int]:
    """Draco payloads: buffer view → bytes."""
    views = {p.draco["bufferView"] for p in primitives(document) if p.draco is not None}
    return {view: int(document["bufferViews"][view]["byteLength"]) for view in views}


def _stored_sizes(document: Document) -> list[float]:
    """Bytes that each accessor takes in the file, with its sparse part. Those of a meshopt view share its payload."""
    accessors, views = document.get("accessors", []), document.get("bufferViews", [])
    plain: defaultdict[int, int] = defaultdict(int)
    for accessor in accessors:
        if "bufferView" in accessor:
            plain[accessor["bufferView"]] += accessor["count"] * element_bytes(accessor)
    sizes: list[float] = []
    for accessor in accessors:
        size = 0.0
        if "bufferView" in accessor:
            size = accessor["count"] * element_bytes(accessor)
            packed = meshopt_extension(views[accessor["bufferView"]])
            if packed is not None:
                size *= packed["byteLength"] / plain[accessor["bufferView"]]
        if "sparse" in accessor:
            each = element_bytes(accessor) + element_bytes({**accessor["sparse"]["indices"], "type": "SCALAR"})
            size += accessor["sparse"]["count"] * each
        sizes.append(size)
    return sizes


def _stored(sizes: list[float], accessors: Iterable[int]) -> int:
    """Bytes of several accessors, each once."""
    return round(sum(sizes[index] for index in set(accessors)))


def _gpu_bytes(document: Document, drawn: Iterable[Document]) -> int:
    """What primitives take in a GPU's memory, decompressed; accessors that they share once. See the footnote."""
    accessors = document.get("accessors", [])
    sizes: dict[tuple[str, int], int] = {}
    for primitive in drawn:
        for index in primitive["attributes"].values():
            sizes["vertex", index] = accessors[index]["count"] * -(-element_bytes(accessors[index]) // 4) * 4
        if "indices" in primitive:
            accessor = accessors[primitive["indices"]]
            # No GPU interface of today has indices of one byte: three.js and WebGPU make two of them.
            sizes["index", primitive["indices"]] = accessor["count"] * max(2, element_bytes(accessor))
        for target in primitive.get("targets", ()):
            for index in target.values():
                sizes["target", index] = accessors[index]["count"] * 16
    return sum(sizes.values())


# -- bounds ------------------------------------------------------------------------------------------------------------


def _world(nodes: list[Document], root: int) -> Iterator[tuple[int, Matrix]]:
    """World matrices of a root and all nodes below it, parents first, without recursion."""
    stack: list[tuple[int, Matrix]] = [(root, np.eye(4))]
    with np.errstate(all="ignore"):
        while stack:
            number, parent = stack.pop()
            matrix = parent @ _local(nodes[number])
            yield number, matrix
            stack += [(child, matrix) for child in nodes[number].get("children", ())]


def _local(node: Document) -> Matrix:
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = node.get("rotation", (0.0, 0.0, 0.0, 1.0))
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, :3] *= np.array(node.get("scale", (1.0, 1.0, 1.0)), np.float64)
    matrix[:3, 3] = node.get("translation", (0.0, 0.0, 0.0))
    return matrix


def _box(primitive: Document, document: Document) -> Matrix | None:
    """The eight corners of a primitive's bounds, shape (8, 3)."""
    index = primitive["attributes"].get("POSITION")
    accessor = document["accessors"][index] if index is not None else {}
    if "min" not in accessor or "max" not in accessor:
        return None
    low, high = np.array(accessor["min"], np.float64), np.array(accessor["max"], np.float64)
    if accessor.get("normalized"):
        top = {5120: 127, 5121: 255, 5122: 32767, 5123: 65535}[accessor["componentType"]]
        low, high = np.maximum(low / top, -1), np.maximum(high / top, -1)
    corners = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij"))
    return corners.reshape(3, 8).T


def _rounded(point: Vector) -> list[float] | None:
    return [float(f"{value:.6g}") for value in point] if np.isfinite(point).all() else None
