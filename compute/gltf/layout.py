"""Where a document's binary data lie: buffers, views, strides, alignment, accessors, and which belong together.

Nothing is read here, only counted (glTF 2.0, 3.6 and 5.1, 5.5, 5.10 to 5.12): after it, no accessor reaches outside the
binary chunk, and none may claim more than `ContentLimits.expansion_bytes` of data that is not there. The official
validator hangs on huge sparse accessors, and meshoptimizer segfaults on a destination that is too short.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cloudbaker.compute.gltf.findings import Findings, pointer_key, quote
from cloudbaker.compute.gltf.limits import ContentLimits
from cloudbaker.compute.gltf.references import DRACO, MESHOPT
from cloudbaker.compute.gltf.schema import COMPONENTS, TYPES

Document = dict[str, Any]

_FLOAT = frozenset({5126})
_NORMALIZED = frozenset({5121, 5123, 5126})
_QUANTIZED = frozenset({5120, 5121, 5122, 5123, 5126})
# Semantic → (types, component types of the core, those with KHR_mesh_quantization): 3.7.2.1 and the extension's table.
_SEMANTICS: dict[str, tuple[frozenset[str], frozenset[int], frozenset[int]]] = {
    "POSITION": (frozenset({"VEC3"}), _FLOAT, _QUANTIZED),
    "NORMAL": (frozenset({"VEC3"}), _FLOAT, frozenset({5120, 5122, 5126})),
    "TANGENT": (frozenset({"VEC4"}), _FLOAT, frozenset({5120, 5122, 5126})),
    "TEXCOORD": (frozenset({"VEC2"}), _NORMALIZED, _QUANTIZED),
    "COLOR": (frozenset({"VEC3", "VEC4"}), _NORMALIZED, _NORMALIZED),
    "JOINTS": (frozenset({"VEC4"}), frozenset({5121, 5123}), frozenset({5121, 5123})),
    "WEIGHTS": (frozenset({"VEC4"}), _NORMALIZED, _NORMALIZED),
}
_TARGETS: dict[str, tuple[frozenset[str], frozenset[int], frozenset[int]]] = {
    "POSITION": (frozenset({"VEC3"}), _FLOAT, _QUANTIZED),
    "NORMAL": (frozenset({"VEC3"}), _FLOAT, frozenset({5120, 5122, 5126})),
    "TANGENT": (frozenset({"VEC3"}), _FLOAT, frozenset({5120, 5122, 5126})),
    "TEXCOORD": (frozenset({"VEC2"}), _QUANTIZED, _QUANTIZED),
    "COLOR": (frozenset({"VEC3", "VEC4"}), _QUANTIZED, _QUANTIZED),
}


@dataclass(frozen=True, slots=True)
class Primitive:
    """A mesh primitive with its place, ``/meshes/0/primitives/1``."""

    place: str
    mesh: int
    json: Document

    @property
    def draco(self) -> Document | None:
        """Its Draco extension, if any."""
        found = self.json.get("extensions", {}).get(DRACO)
        return found if isinstance(found, dict) else None


def primitives(document: Document) -> Iterator[Primitive]:
    """All primitives of a document that has passed `check_schema`."""
    for mesh, json in enumerate(document.get("meshes", ())):
        for at, primitive in enumerate(json["primitives"]):
            yield Primitive(f"/meshes/{mesh}/primitives/{at}", mesh, primitive)


def meshopt_extension(view: Document) -> Document | None:
    """The meshopt extension of a buffer view, if any."""
    extensions = view.get("extensions", {})
    return next((extensions[name] for name in MESHOPT if name in extensions), None)


def is_fallback(buffer: Document) -> bool:
    """Whether a buffer only stands for what meshopt decodes to, and has no data of its own."""
    return "uri" not in buffer and any(
        isinstance(e := buffer.get("extensions", {}).get(name), dict) and e.get("fallback") is True for name in MESHOPT
    )


def element_bytes(accessor: Document) -> int:
    """Bytes of one element, with the padding of matrix columns to 4 bytes (3.6.2.4)."""
    size = COMPONENTS[accessor["componentType"]]
    match accessor["type"]:
        case "MAT2" if size == 1:
            return 8
        case "MAT3" if size < 4:
            return 12 * size if size == 1 else 24
        case kind:
            return size * TYPES[kind]


def check_layout(document: Document, bin_size: int | None, limits: ContentLimits, findings: Findings) -> None:
    """Check all bounds and counts of a document that has passed `check_schema`. `bin_size`: of the binary chunk."""
    _buffers(document, bin_size, findings)
    _views(document, findings)
    _accessors(document, findings)
    if findings.failed:
        return
    _expansion(document, limits, findings)
    for primitive in primitives(document):
        _primitive(primitive, document, findings)
    _skins(document, findings)
    _animations(document, findings)
    _instancing(document, findings)


def _buffers(document: Document, bin_size: int | None, findings: Findings) -> None:
    for at, buffer in enumerate(document.get("buffers", ())):
        place = f"/buffers/{at}"
        if is_fallback(buffer):
            continue
        if "uri" in buffer:
            findings.add("gltf.uri-in-glb", f"{place}/uri", f"the buffer refers to {quote(buffer['uri'], 40)}")
        elif at > 0 or bin_size is None:
            findings.add("gltf.buffer-too-short", place, "the buffer has no data in this file")
        elif buffer["byteLength"] > bin_size:
            findings.add(
                "gltf.buffer-too-short",
                place,
                f"the buffer says {buffer['byteLength']:,} bytes, the binary chunk has {bin_size:,}",
            )
    for at, image in enumerate(document.get("images", ())):
        if "uri" in image:
            findings.add("gltf.uri-in-glb", f"/images/{at}/uri", f"the image refers to {quote(image['uri'], 40)}")


def _views(document: Document, findings: Findings) -> None:
    buffers = document.get("buffers", [])
    for at, view in enumerate(document.get("bufferViews", ())):
        place = f"/bufferViews/{at}"
        _within(view, buffers[view["buffer"]], place, findings)
        stride = view.get("byteStride")
        if stride is not None and stride % 4:
            findings.add("gltf.view-stride", f"{place}/byteStride", f"{stride} is no multiple of 4")
        packed = meshopt_extension(view)
        if packed is None:
            if is_fallback(buffers[view["buffer"]]):
                findings.add("meshopt.invalid", place, "it lies in a fallback buffer, but is not compressed")
            continue
        place = f"{place}/extensions/{next(iter(view['extensions']))}"
        _within(packed, buffers[packed["buffer"]], place, findings)
        if is_fallback(buffers[packed["buffer"]]):
            findings.add("meshopt.invalid", place, "its compressed bytes lie in a fallback buffer, which has no data")
        _meshopt(packed, view, place, findings)


def _within(part: Document, buffer: Document, place: str, findings: Findings) -> None:
    start, size = part.get("byteOffset", 0), part["byteLength"]
    if start + size > buffer["byteLength"]:
        findings.add(
            "gltf.view-range",
            place,
            f"bytes {start:,} to {start + size:,} lie outside the buffer of {buffer['byteLength']:,}",
        )


def _meshopt(packed: Document, view: Document, place: str, findings: Findings) -> None:
    """The rules of EXT_meshopt_compression, "Specifying compressed views"."""
    stride, count, mode, filter_ = packed["byteStride"], packed["count"], packed["mode"], packed.get("filter", "NONE")
    wrong = None
    if stride * count != view["byteLength"]:
        wrong = f"{count:,} times {stride} bytes are not the view's {view['byteLength']:,}"
    elif mode == "ATTRIBUTES" and stride % 4:
        wrong = f"the stride {stride} is no multiple of 4"
    elif mode != "ATTRIBUTES" and stride not in (2, 4):
        wrong = f"indices have 2 or 4 bytes, not {stride}"
    elif mode == "TRIANGLES" and count % 3:
        wrong = f"{count:,} indices are not whole triangles"
    elif mode != "ATTRIBUTES" and filter_ != "NONE":
        wrong = f"the filter {filter_} is for attributes only"
    elif filter_ in ("OCTAHEDRAL", "COLOR") and stride not in (4, 8):
        wrong = f"the filter {filter_} needs a stride of 4 or 8, not {stride}"
    elif filter_ == "QUATERNION" and stride != 8:
        wrong = f"the filter QUATERNION needs a stride of 8, not {stride}"
    if wrong:
        findings.add("meshopt.invalid", place, wrong)


def _accessors(document: Document, findings: Findings) -> None:
    views = document.get("bufferViews", [])
    for at, accessor in enumerate(document.get("accessors", ())):
        place = f"/accessors/{at}"
        size = COMPONENTS[accessor["componentType"]]
        if "bufferView" in accessor:
            stride = views[accessor["bufferView"]].get("byteStride", element_bytes(accessor))
            _fits(
                views[accessor["bufferView"]],
                accessor.get("byteOffset", 0),
                (accessor["count"] - 1) * stride + element_bytes(accessor),
                size,
                place,
                findings,
            )
            if stride < element_bytes(accessor) or stride % size:
                findings.add(
                    "gltf.view-stride",
                    f"/bufferViews/{accessor['bufferView']}",
                    f"the stride {stride} does not fit accessor {at} with elements of {element_bytes(accessor)} bytes",
                )
        if accessor["componentType"] == 5126 and accessor.get("normalized"):
            findings.add("gltf.accessor-kind", f"{place}/normalized", "floats can't be normalized")
        for bound in ("min", "max"):
            if bound in accessor and len(accessor[bound]) != TYPES[accessor["type"]]:
                findings.add(
                    "gltf.accessor-kind", f"{place}/{bound}", f"{len(accessor[bound])} numbers for {accessor['type']}"
                )
        if "sparse" in accessor:
            _sparse(accessor, views, place, findings)


def _sparse(accessor: Document, views: list[Document], place: str, findings: Findings) -> None:
    sparse = accessor["sparse"]
    if sparse["count"] > accessor["count"]:
        findings.add("gltf.sparse-invalid", f"{place}/sparse/count", f"{sparse['count']:,} of {accessor['count']:,}")
    size = COMPONENTS[sparse["indices"]["componentType"]]
    for part, each, alignment in (
        ("indices", size, size),
        ("values", element_bytes(accessor), COMPONENTS[accessor["componentType"]]),
    ):
        view = views[sparse[part]["bufferView"]]
        where = f"{place}/sparse/{part}"
        if "byteStride" in view:
            findings.add("gltf.view-stride", where, "sparse data must lie in a view without byteStride")
        _fits(view, sparse[part].get("byteOffset", 0), sparse["count"] * each, alignment, where, findings)


def _fits(view: Document, offset: int, size: int, alignment: int, place: str, findings: Findings) -> None:
    if offset + size > view["byteLength"]:
        findings.add(
            "gltf.accessor-range",
            place,
            f"bytes {offset:,} to {offset + size:,} lie outside the view of {view['byteLength']:,}",
        )
    if offset % alignment or (view.get("byteOffset", 0) + offset) % alignment:
        findings.add("gltf.accessor-alignment", place, f"its data are not aligned to {alignment} bytes")


def _expansion(document: Document, limits: ContentLimits, findings: Findings) -> None:
    """What decodes to more than the file holds: data-less accessors (zeros, Draco), and meshopt views."""
    total = sum(a["count"] * element_bytes(a) for a in document.get("accessors", ()) if "bufferView" not in a)
    total += sum(view["byteLength"] for view in document.get("bufferViews", ()) if meshopt_extension(view))
    if total > limits.expansion_bytes:
        findings.add(
            "gltf.expands-too-far",
            "/accessors",
            f"data that is not in the file would take {total:,} bytes, the limit is {limits.expansion_bytes:,}",
        )


def _primitive(primitive: Primitive, document: Document, findings: Findings) -> None:
    accessors = document.get("accessors", [])
    quantized = "KHR_mesh_quantization" in document.get("extensionsUsed", ())
    json, place = primitive.json, primitive.place
    counts = {accessors[i]["count"] for i in json["attributes"].values()}
    for at, target in enumerate(json.get("targets", ())):
        counts |= {accessors[i]["count"] for i in target.values()}
        for name, index in target.items():
            _semantic(
                name, _TARGETS, accessors[index], quantized, f"{place}/targets/{at}/{pointer_key(name)}", findings
            )
    if len(counts) > 1:
        findings.add(
            "gltf.accessor-count",
            f"{place}/attributes",
            f"attributes have {sorted(counts)[:8]} elements, not one count",
        )
    for name, index in json["attributes"].items():
        _semantic(name, _SEMANTICS, accessors[index], quantized, f"{place}/attributes/{pointer_key(name)}", findings)
    if "indices" in json:
        accessor = accessors[json["indices"]]
        if accessor["type"] != "SCALAR" or accessor["componentType"] not in (5121, 5123, 5125):
            findings.add("gltf.accessor-kind", f"{place}/indices", "indices must be unsigned integer scalars")
        if "bufferView" in accessor and "byteStride" in document["bufferViews"][accessor["bufferView"]]:
            findings.add("gltf.view-stride", f"{place}/indices", "indices must lie in a view without byteStride")
    if (draco := primitive.draco) is not None:
        missing = sorted(set(draco["attributes"]) - set(json["attributes"]))
        if missing:
            findings.add("draco.mismatch", place, f"the payload has {quote(missing)}, the primitive has not")
        if json.get("mode", 4) not in (4, 5):
            findings.add("draco.mismatch", place, "Draco holds triangles, the primitive is of another mode")


def _semantic(
    name: str,
    table: dict[str, tuple[frozenset[str], frozenset[int], frozenset[int]]],
    accessor: Document,
    quantized: bool,
    place: str,
    findings: Findings,
) -> None:
    rule = table.get(name.rstrip("0123456789").rstrip("_") if name[-1:].isdigit() else name)
    if rule is None:
        return  # custom attributes (_TEMPERATURE) are free; wrong names are the official validator's business
    types, core, extended = rule
    if accessor["type"] not in types:
        findings.add("gltf.accessor-kind", place, f"is {accessor['type']}, must be {' or '.join(sorted(types))}")
    elif accessor["componentType"] not in (extended if quantized else core):
        need = "" if quantized or accessor["componentType"] not in extended else " without KHR_mesh_quantization"
        findings.add("gltf.accessor-kind", place, f"can't have component type {accessor['componentType']}{need}")


def _skins(document: Document, findings: Findings) -> None:
    accessors = document.get("accessors", [])
    for at, skin in enumerate(document.get("skins", ())):
        if "inverseBindMatrices" not in skin:
            continue
        matrices, place = accessors[skin["inverseBindMatrices"]], f"/skins/{at}/inverseBindMatrices"
        if matrices["type"] != "MAT4" or matrices["componentType"] != 5126:
            findings.add("gltf.accessor-kind", place, "must be MAT4 of floats")
        elif matrices["count"] < len(skin["joints"]):
            findings.add("gltf.accessor-count", place, f"{matrices['count']} matrices for {len(skin['joints'])} joints")


_OUTPUTS = {"translation": "VEC3", "scale": "VEC3", "rotation": "VEC4", "weights": "SCALAR"}


def _animations(document: Document, findings: Findings) -> None:
    accessors = document.get("accessors", [])
    nodes, meshes = document.get("nodes", []), document.get("meshes", [])
    for number, animation in enumerate(document.get("animations", ())):
        samplers = animation["samplers"]
        for at, sampler in enumerate(samplers):
            times, place = accessors[sampler["input"]], f"/animations/{number}/samplers/{at}"
            if times["type"] != "SCALAR" or times["componentType"] != 5126:
                findings.add("gltf.accessor-kind", f"{place}/input", "times must be float scalars")
            elif sampler.get("interpolation") == "CUBICSPLINE" and times["count"] < 2:
                findings.add("gltf.animation-invalid", f"{place}/input", "a spline needs two keys or more")
        for at, channel in enumerate(animation["channels"]):
            place = f"/animations/{number}/channels/{at}"
            if channel["sampler"] >= len(samplers):
                findings.add(
                    "gltf.reference",
                    f"{place}/sampler",
                    f"there are {len(samplers)} samplers, not {channel['sampler']}",
                )
                continue
            target = channel["target"]
            if target["path"] == "pointer":
                if not isinstance(target.get("extensions", {}).get("KHR_animation_pointer", {}).get("pointer"), str):
                    findings.add("gltf.animation-invalid", f"{place}/target", "the pointer of the path is missing")
                continue
            sampler = samplers[channel["sampler"]]
            keys, output = accessors[sampler["input"]]["count"], accessors[sampler["output"]]
            if output["type"] != _OUTPUTS[target["path"]]:
                findings.add(
                    "gltf.accessor-kind",
                    f"{place}/sampler",
                    f"{target['path']} needs {_OUTPUTS[target['path']]}, not {output['type']}",
                )
                continue
            keys *= 3 if sampler.get("interpolation") == "CUBICSPLINE" else 1
            if target["path"] == "weights":
                node = nodes[target["node"]] if "node" in target else {}
                mesh = meshes[node["mesh"]] if "mesh" in node else None
                if mesh is None:
                    continue
                keys *= max(len(p.get("targets", ())) for p in mesh["primitives"])
            if output["count"] != keys:
                findings.add("gltf.accessor-count", f"{place}/sampler", f"{output['count']:,} values for {keys:,} keys")


def _instancing(document: Document, findings: Findings) -> None:
    accessors = document.get("accessors", [])
    for at, node in enumerate(document.get("nodes", ())):
        attributes = node.get("extensions", {}).get("EXT_mesh_gpu_instancing", {}).get("attributes", {})
        if len({accessors[i]["count"] for i in attributes.values()}) > 1:
            findings.add(
                "gltf.accessor-count",
                f"/nodes/{at}/extensions/EXT_mesh_gpu_instancing",
                "attributes of instances differ in their counts",
            )
