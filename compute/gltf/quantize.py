"""Vertex attributes as small integers: KHR_mesh_quantization, which every viewer reads without a decoder.

Half of the bytes and of the GPU's memory, where Draco and meshopt only save bytes on the way. Both codecs quantize on
their own, so this is for files that want none of them.

Normals, tangents, texture coordinates, colours, weights and joints need nothing else. Positions do: their integers
are in a box of their own, and the node has to put them back where they were. That changes nodes, so it is asked for.

Source: KHR_mesh_quantization in the Khronos glTF extension registry; glTF 2.0, 3.11 (animations of node transforms).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from cloudbaker.compute.gltf.compress_draco import snorm16
from cloudbaker.compute.gltf.dedup import opaque, usage
from cloudbaker.compute.gltf.document import ARRAY_BUFFER, Array, Document
from cloudbaker.compute.gltf.poses import local_matrix
from cloudbaker.compute.gltf.references import DRACO, KNOWN, QUANTIZATION, Json
from cloudbaker.compute.meshes.quantize import quantize_weights, unorm


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """Bits per component; up to 8 are stored in bytes, more in 16-bit integers, and equal steps compress well."""

    normal_bits: int = 8
    """Also of tangents."""
    texcoord_bits: int = 12
    """What leaves [0, 1], as tiling textures do, stays float."""
    color_bits: int = 8
    weight_bits: int = 8
    """8 or 16."""
    positions: bool = False
    """Positions too, where only a mesh and no child, animation or light hangs on the node: its scale and translation
    then are others than before."""
    position_bits: int = 14

    def __post_init__(self) -> None:
        for name in ("normal_bits", "texcoord_bits", "color_bits", "position_bits"):
            if not 2 <= getattr(self, name) <= 16:
                raise ValueError(f"{name} must be 2 to 16, not {getattr(self, name)}")
        if self.weight_bits not in (8, 16):
            raise ValueError(f"weight_bits must be 8 or 16, not {self.weight_bits}")


@dataclass(frozen=True, slots=True)
class Quantized:
    """What came of it."""

    accessors: int = 0
    """That are integers now."""
    meshes: int = 0
    """Of which the positions are, too."""
    notes: tuple[str, ...] = ()
    """Meshes whose positions stay floats, and why."""


def quantize(document: Document, options: QuantizeOptions = QuantizeOptions()) -> Quantized:
    """Store float attributes as normalized integers, in place. The document must be decoded (`decompress.decode`).

    Sparse accessors, morph targets, and accessors that something else than vertices uses stay as they are.

    >>> quantize(document, QuantizeOptions(positions=True))                       # doctest: +SKIP
    Quantized(accessors=3, meshes=1, notes=())
    """
    work = _Work(document, options)
    for mesh in document.items("meshes"):
        for primitive in mesh["primitives"]:
            if DRACO not in primitive.get("extensions", {}):
                work.attributes(primitive["attributes"])
    meshes, notes = _positions(work) if options.positions else (0, [])
    if work.extended:
        document.declare(QUANTIZATION, required=True)
    return Quantized(len(work.done), meshes, tuple(notes))


class _Work:
    def __init__(self, document: Document, options: QuantizeOptions) -> None:
        self.document = document
        self.options = options
        self.uses = usage(document)
        self.done: dict[tuple[int, str], int] = {}
        """Old accessor and what it is used as → new one. One that is a normal and a colour becomes two."""
        self.extended = False
        """Something is stored that core glTF does not allow."""

    def free(self, index: int) -> bool:
        """Whether an accessor holds plain floats for vertices and nothing else."""
        accessor = self.document.items("accessors")[index]
        return (
            index < len(self.uses)
            and self.uses[index] == "vertex"
            and accessor["componentType"] == 5126
            and "sparse" not in accessor
            and "bufferView" in accessor
            and not opaque(self.document, index)
        )

    def attributes(self, attributes: Json) -> None:
        """Quantize what a primitive has, but for its positions."""
        options = self.options
        weights = [name for name in sorted(attributes) if name.startswith("WEIGHTS_")]
        if weights and all(self.free(attributes[name]) for name in weights):
            old = [attributes[name] for name in weights]
            if not any((index, "WEIGHTS") in self.done for index in old):
                sets = quantize_weights([self.document.accessor(i) for i in old], bits=options.weight_bits)
                for index, data in zip(old, sets, strict=True):
                    self.put(index, "WEIGHTS", data)
        for name, index in attributes.items():
            form = _form(name)
            if form in ("", "WEIGHTS") or (index, form) in self.done or not self.free(index):
                continue
            data = self.document.accessor(index)
            if form == "NORMAL" and _within(data, -1, 1):
                self.put(index, form, snorm(data, options.normal_bits))
                self.extended = True
            elif form == "TEXCOORD" and _within(data, 0, 1):
                self.put(index, form, unorm(data, bits=options.texcoord_bits))
            elif form == "COLOR" and _within(data, 0, 1):
                self.put(index, form, unorm(data, bits=options.color_bits))
        for name in attributes:
            attributes[name] = self.done.get((attributes[name], _form(name)), attributes[name])

    def put(self, index: int, form: str, data: Array, *, bounds: bool = False) -> None:
        kind = self.document.items("accessors")[index]["type"]
        self.done[index, form] = self.document.add_accessor(
            data, like=index, normalized=True, bounds=bounds, target=ARRAY_BUFFER, type=kind
        )


def _form(name: str) -> str:
    """Semantics that are stored alike; empty for those that stay."""
    if name in ("NORMAL", "TANGENT"):
        return "NORMAL"
    form = name.partition("_")[0]
    return form if form in ("TEXCOORD", "COLOR", "WEIGHTS") else ""


def _within(data: Array, low: float, high: float) -> bool:
    return bool(data.size) and float(data.min()) >= low - 1e-5 and float(data.max()) <= high + 1e-5


def snorm(values: Array, bits: int) -> Array:
    """Values in [-1, 1] as normalized int8 (`bits` ≤ 8) or int16, in 2^bits - 1 steps spread over the whole range."""
    levels = (1 << (bits - 1)) - 1
    steps = np.rint(np.clip(values, -1, 1).astype(np.float64) * levels) / levels
    return np.rint(steps * 127).astype(np.int8) if bits <= 8 else snorm16(steps)


# -- positions ---------------------------------------------------------------------------------------------------------


def _positions(work: _Work) -> tuple[int, list[str]]:
    """Quantize the positions of meshes whose nodes can take the transform; how many, and why not the others."""
    document, done, notes = work.document, 0, []
    users: dict[int, list[int]] = {}
    for number, node in enumerate(document.items("nodes")):
        if "mesh" in node:
            users.setdefault(node["mesh"], []).append(number)
    busy = _busy(document)
    for group in _groups(document):
        nodes = [n for mesh in group for n in users.get(mesh, ())]
        indices = sorted({i for mesh in group for i in _position_accessors(document, mesh)})
        reason = next((r for mesh in group if (r := _unfit(document, work, mesh))), "")
        reason = reason or next((f"node {n} {busy[n]}" for n in nodes if n in busy), "")
        if reason or not nodes:
            notes += [f"/meshes/{mesh}: {reason or 'no node shows it'}" for mesh in sorted(group)]
            continue
        low = np.min([document.accessor(i).min(axis=0) for i in indices], axis=0).astype(np.float64)
        high = np.max([document.accessor(i).max(axis=0) for i in indices], axis=0).astype(np.float64)
        centre, scale = (low + high) / 2, float((high - low).max() / 2) or 1.0
        for index in indices:
            points = snorm((document.accessor(index) - centre) / scale, work.options.position_bits)
            work.put(index, "POSITION", points, bounds=True)
        for mesh in group:
            for primitive in document.items("meshes")[mesh]["primitives"]:
                position = primitive["attributes"]["POSITION"]
                primitive["attributes"]["POSITION"] = work.done[position, "POSITION"]
        for number in nodes:
            _place(document.items("nodes")[number], centre, scale)
        work.extended = True
        done += len(group)
    return done, notes


def _position_accessors(document: Document, mesh: int) -> Iterator[int]:
    for primitive in document.items("meshes")[mesh]["primitives"]:
        if "POSITION" in primitive["attributes"]:
            yield primitive["attributes"]["POSITION"]


def _groups(document: Document) -> Iterable[set[int]]:
    """Meshes that share positions, and so have to share a box."""
    owner: dict[int, int] = {}
    groups: dict[int, set[int]] = {}
    for mesh in range(len(document.items("meshes"))):
        groups[mesh] = {mesh}
        for index in _position_accessors(document, mesh):
            other = owner.setdefault(index, mesh)
            if groups[other] is not groups[mesh]:
                joined = groups[other] | groups[mesh]
                for member in joined:
                    groups[member] = joined
    return {id(group): group for group in groups.values()}.values()


def _unfit(document: Document, work: _Work, mesh: int) -> str:
    item = document.items("meshes")[mesh]
    if any(primitive.get("targets") for primitive in item["primitives"]):
        return "its morph targets are in the units of its positions"
    if item.get("extensions") or any(set(p.get("extensions", ())) - _HARMLESS for p in item["primitives"]):
        return "an extension may use its positions"
    if any("POSITION" not in p["attributes"] for p in item["primitives"]):
        return "a primitive has no positions"
    if not all(work.free(index) for index in _position_accessors(document, mesh)):
        return "its positions are no plain floats of its own"
    return ""


_HARMLESS = frozenset({"KHR_materials_variants"})


def _busy(document: Document) -> dict[int, str]:
    """Nodes whose transform means more than where a mesh is, and what."""
    busy: dict[int, str] = {}
    for number, node in enumerate(document.items("nodes")):
        if node.get("children"):
            busy[number] = "has children"
        elif "skin" in node:
            busy[number] = "is skinned"
        elif "camera" in node or node.get("extensions"):
            busy[number] = "has a camera or an extension"
    for skin in document.items("skins"):
        busy |= dict.fromkeys((*skin["joints"], *([skin["skeleton"]] if "skeleton" in skin else ())), "is a joint")
    for animation in document.items("animations"):
        for channel in animation["channels"]:
            target = channel["target"]
            if "node" in target:
                busy[target["node"]] = "is animated"
            pointer = target.get("extensions", {}).get("KHR_animation_pointer", {}).get("pointer", "")
            parts = pointer.split("/")
            if len(parts) > 2 and parts[1] == "nodes" and parts[2].isdecimal():
                busy[int(parts[2])] = "is animated"
    if set(document.json.get("extensionsUsed", ())) - KNOWN:
        return dict.fromkeys(range(len(document.items("nodes"))), "may be used by an unknown extension")
    return busy


def _place(node: Json, centre: Array, scale: float) -> None:
    """Move a node's transform behind the one that undoes the quantization: scale, then shift."""
    shift = local_matrix(node) @ np.append(centre, 1.0)
    if "matrix" in node:
        matrix = np.array(node["matrix"], np.float64).reshape(4, 4).T
        matrix[:3, :3] *= scale
        matrix[:3, 3] = shift[:3]
        node["matrix"] = matrix.T.reshape(-1).tolist()
        return
    node["translation"] = shift[:3].tolist()
    node["scale"] = [value * scale for value in node.get("scale", (1, 1, 1))]
