"""EXT_ or KHR_meshopt_compression for a whole document: geometry with filters, animations and matrices bit by bit.

Positions, texture coordinates and morph targets go through the exponential filter and stay floats, so no node needs a
dequantizing transform; normals and tangents through the octahedral one. Accessors of one form share a compressed view:
a view of its own for each of 8,800 animation accessors would cost more JSON than it saves bytes.

Source: EXT_meshopt_compression in the Khronos glTF extension registry; meshoptimizer.h.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from cloudbaker.compute.gltf.compress_draco import Compressed
from cloudbaker.compute.gltf.dedup import opaque, usage
from cloudbaker.compute.gltf.document import (
    ARRAY_BUFFER,
    ELEMENT_ARRAY_BUFFER,
    Array,
    Document,
    compression,
    dequantized,
    describe,
    padded,
)
from cloudbaker.compute.gltf.primitives import Geometry, Shape, index_array, read, shapes
from cloudbaker.compute.gltf.references import DRACO, MESHOPT, QUANTIZATION, Json
from cloudbaker.compute.meshes import meshopt
from cloudbaker.compute.meshes.meshopt import Filter, MeshoptError, Mode
from cloudbaker.compute.meshes.quantize import quantize_weights, unorm

NAMES = dict(zip(("EXT", "KHR"), MESHOPT, strict=True))
JSON_COST = 200
"""Bytes of JSON that the extension adds to a view."""


@dataclass(frozen=True, slots=True)
class MeshoptOptions:
    """Bits per component after quantization."""

    position_bits: int = 14
    """Relative to the bounding box, as in Draco: the largest error is its longest side / 2^(bits + 1)."""
    normal_bits: int = 10
    texcoord_bits: int = 12
    color_bits: int = 8
    extension: Literal["EXT", "KHR"] = "EXT"
    """``KHR_meshopt_compression`` packs 2 to 22 % tighter, but few viewers read it yet (three.js r187 does)."""


@dataclass(frozen=True, slots=True)
class _Stream:
    """Elements in the form in which the codec takes them."""

    rows: Array
    """(n, k); a row is `stride` bytes."""
    decoded: Array
    """(n, components): what a reader gets, in the accessor's type."""
    mode: Mode
    filter: Filter = Filter.NONE
    normalized: bool = False
    target: int | None = None
    vertices: int = 0
    """For triangle indices: how many vertices they may name."""

    @property
    def stride(self) -> int:
        return int(self.rows.shape[1] * self.rows.dtype.itemsize)


@dataclass(slots=True)
class _Group:
    """Streams of one form, on their way into one view."""

    streams: list[_Stream] = field(default_factory=list)
    holders: list[Json] = field(default_factory=list)

    def encoded(self, version: int) -> bytes:
        first = self.streams[0]
        if first.mode is Mode.TRIANGLES:
            # Triangles of several meshes in a row are a triangle list like any other to the codec.
            rows = np.concatenate([s.rows.reshape(-1) for s in self.streams]).reshape(-1, 3)
            return meshopt.encode_index_buffer(rows, max(s.vertices for s in self.streams))
        # As bytes: rows of one stride may be of several types, such as floats and 16-bit weights.
        content = b"".join(np.ascontiguousarray(s.rows).tobytes() for s in self.streams)
        return meshopt.encode_vertex_buffer(np.frombuffer(content, np.uint8).reshape(-1, first.stride), version=version)

    def plain(self) -> bytes:
        size = self.streams[0].stride
        return b"".join(bytes(padded(s.decoded, size)) for s in self.streams)


_Key = tuple[str, str, str, int, int]
"""Use, mode, filter, stride, target: what streams must have in common to share a view."""


def compress_meshopt(document: Document, options: MeshoptOptions = MeshoptOptions()) -> Compressed:
    """Compress geometry, animations and matrices in place. The document must be decoded (see `decompress.decode`).

    Attributes that KHR_mesh_quantization made integers may stay so: they are packed as they are, bit by bit.
    """
    groups: dict[_Key, _Group] = {}
    done = 0
    notes: list[str] = []
    for shape in list(shapes(document)):
        geometry = read(document, shape.first, quantized=True)
        try:
            _place_shape(document, groups, shape, geometry, options)
            done += 1
        except MeshoptError as error:
            notes.append(f"{shape.place}: {error}")
    _place_others(document, groups)
    packed = kept = 0
    for key, group in sorted(groups.items(), key=lambda item: item[0]):
        if _add_view(document, key, group, options):
            packed += 1
        else:
            kept += 1
    if packed:
        document.declare(NAMES[options.extension], required=True)
    return Compressed(done, kept, tuple(notes))


def compress_rest(document: Document, options: MeshoptOptions = MeshoptOptions()) -> int:
    """Compress what `compress_draco` has left, in place: whole geometries, and tangents, morph targets, keyframes and
    matrices outside its payloads; how many views that are.

    A tangent takes 8 bytes beside Draco, and 2.5 this way: FlightHelmet's geometry is 400 kB instead of 690.
    """
    groups: dict[_Key, _Group] = {}
    seen: set[int] = set()
    for shape in list(shapes(document)):
        if DRACO not in shape.first.get("extensions", {}):
            with suppress(MeshoptError):  # it stays plain
                _place_shape(document, groups, shape, read(document, shape.first), options)
    for mesh in document.items("meshes"):
        for primitive in mesh["primitives"]:
            if DRACO not in primitive.get("extensions", {}):
                continue
            positions = document.items("accessors")[primitive["attributes"]["POSITION"]]
            extent = float(np.max(np.subtract(positions["max"], positions["min"])))
            inside = primitive["extensions"][DRACO]["attributes"]
            outside = [(n, i, False) for n, i in primitive["attributes"].items() if n not in inside]
            outside += [(n, i, True) for target in primitive.get("targets", ()) for n, i in target.items()]
            for name, index, moves in outside:
                if index not in seen and "sparse" not in document.items("accessors")[index]:
                    seen.add(index)
                    _place_follower(document, groups, name, index, extent, options, moves=moves)
    _place_others(document, groups)
    packed = sum(
        _add_view(document, key, group, options) for key, group in sorted(groups.items(), key=lambda item: item[0])
    )
    if packed:
        document.declare(NAMES[options.extension], required=True)
    return packed


def _place_follower(
    document: Document,
    groups: dict[_Key, _Group],
    name: str,
    index: int,
    extent: float,
    options: MeshoptOptions,
    *,
    moves: bool,
) -> None:
    accessor = document.items("accessors")[index]
    data = document.accessor(index, dequantize=True)
    if moves:
        stream = _displacement(name, data, extent, options)
    elif name == "TANGENT":
        stream = _attribute(name, data, extent, True, options)
    else:
        stream = _exact(document.accessor(index), normalized=bool(accessor.get("normalized")))
    accessor.pop("min", None)
    accessor.pop("max", None)
    accessor.update(describe(stream.decoded, normalized=stream.normalized, bounds=name == "POSITION"))
    _put(groups, accessor, stream, "follower")


def _add_view(document: Document, key: _Key, group: _Group, options: MeshoptOptions) -> bool:
    """Write a group into one view, compressed if that makes it smaller."""
    _, mode, filter_, stride, target = key
    count = sum(len(s.rows) for s in group.streams)
    plain, packed = group.plain(), group.encoded(1 if options.extension == "KHR" else 0)
    properties: Json = {"target": target} if target else {}
    if target == ARRAY_BUFFER:
        properties["byteStride"] = stride
    smaller = len(packed) + JSON_COST < len(plain)
    if smaller:
        view = document.add_view(packed, **properties)
        described: Json = {"buffer": 0, "byteLength": len(packed), "byteStride": stride, "mode": mode, "count": count}
        if filter_ != Filter.NONE:
            described["filter"] = filter_
        document.items("bufferViews")[view]["byteLength"] = len(plain)
        document.items("bufferViews")[view]["extensions"] = {NAMES[options.extension]: described}
    else:
        view = document.add_view(plain, **properties)
    offset = 0
    for stream, holder in zip(group.streams, group.holders, strict=True):
        holder["bufferView"] = view
        holder.pop("byteOffset", None)
        if offset:
            holder["byteOffset"] = offset
        offset += len(stream.rows) * stride
    return smaller


def _put(groups: dict[_Key, _Group], holder: Json, stream: _Stream, use: str = "geometry") -> None:
    key = (use, str(stream.mode), str(stream.filter), stream.stride, stream.target or 0)
    group = groups.setdefault(key, _Group())
    group.streams.append(stream)
    group.holders.append(holder)


# -- geometry ----------------------------------------------------------------------------------------------------------


def _place_shape(
    document: Document, groups: dict[_Key, _Group], shape: Shape, geometry: Geometry, options: MeshoptOptions
) -> None:
    geometry = ordered(geometry)
    positions = geometry.attributes["POSITION"]
    extent = float(np.ptp(positions, axis=0).max()) if len(positions) else 0.0
    first = shape.first
    streams: dict[str, _Stream] = {}
    for name, data in geometry.attributes.items():
        normalized = bool(document.items("accessors")[first["attributes"][name]].get("normalized"))
        if not name.startswith("WEIGHTS_"):
            streams[name] = _attribute(name, data, extent, normalized, options)
    weights = [name for name in geometry.attributes if name.startswith("WEIGHTS_")]
    for name, part in zip(weights, quantize_weights([geometry.attributes[n] for n in weights], bits=16), strict=True):
        streams[name] = _Stream(part, part, Mode.ATTRIBUTES, normalized=True, target=ARRAY_BUFFER)
    targets = [
        {name: _displacement(name, data, extent, options) for name, data in target.items()}
        for target in geometry.targets
    ]
    column = index_array(geometry.indices, len(positions))
    triangles = _Stream(column, column, Mode.TRIANGLES, target=ELEMENT_ARRAY_BUFFER, vertices=len(positions))

    # Everything has been encoded without an error: only now is the document changed.
    def put(stream: _Stream, like: int | None, bounds: bool = False) -> int:
        described = describe(stream.decoded, normalized=stream.normalized, bounds=bounds)
        number = document.append_accessor(described, like=like)
        _put(groups, document.items("accessors")[number], stream)
        return number

    attributes = {n: put(streams[n], first["attributes"][n], n == "POSITION") for n in first["attributes"]}
    moved = [
        {n: put(stream, old[n], n == "POSITION") for n, stream in target.items()}
        for target, old in zip(targets, first.get("targets", ()), strict=True)
    ]
    number = put(triangles, first.get("indices"))
    if any(
        document.items("accessors")[attributes[n]]["componentType"] == 5122
        for n in ("NORMAL", "TANGENT")
        if n in attributes
    ) or any(
        document.items("accessors")[attributes[n]]["componentType"] == 5120
        for n in ("NORMAL", "TANGENT")
        if n in attributes
    ):
        document.declare(QUANTIZATION, required=True)
    for primitive in shape.primitives:
        primitive["attributes"] = dict(attributes)
        primitive["indices"] = number
        primitive.pop("mode", None)
        if moved:
            primitive["targets"] = [dict(target) for target in moved]


def ordered(geometry: Geometry) -> Geometry:
    """The same geometry: equal vertices joined, degenerate triangles gone, ordered as the codec likes, and GPUs well
    enough."""
    streams = dict(geometry.attributes)
    for number, target in enumerate(geometry.targets):
        streams |= {f"{number}/{name}": data for name, data in target.items()}
    welded = meshopt.weld(streams, geometry.indices)
    faces = welded.indices
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])]
    if not len(faces):
        raise MeshoptError("every triangle is degenerate")
    positions = welded.streams["POSITION"]
    # Strips rather than the very best order for the GPU: 0.89 cache misses a triangle on FlightHelmet instead of 0.71
    # (1.04 as it came), but 772 kB instead of 833; a fine grid is a quarter smaller, and 39 % through brotli.
    faces = meshopt.optimize_vertex_cache(faces, len(positions), strip=True)
    faces, source = meshopt.optimize_vertex_fetch(faces, len(positions))
    return Geometry(
        {name: welded.streams[name][source] for name in geometry.attributes},
        faces,
        [
            {name: welded.streams[f"{number}/{name}"][source] for name in target}
            for number, target in enumerate(geometry.targets)
        ],
    )


def _attribute(name: str, data: Array, extent: float, normalized: bool, options: MeshoptOptions) -> _Stream:
    integers = data.dtype.kind != "f"  # quantized before: to be rounded no further
    if name == "POSITION":
        return _exact(data, normalized=normalized) if integers else _exponential(data, extent, options.position_bits)
    if name in ("NORMAL", "TANGENT"):
        if integers and data.dtype != np.int8:
            return _exact(data, normalized=normalized)
        # Of 8 bits the octahedral form has as many, at half the size of three separate ones.
        bits = 8 if integers else options.normal_bits
        rows = meshopt.encode_filter_oct(dequantized(data) if integers else data, bits=bits)
        decoded = _decoded(rows, Filter.OCTAHEDRAL)
        return _Stream(rows, decoded[:, : data.shape[1]], Mode.ATTRIBUTES, Filter.OCTAHEDRAL, True, ARRAY_BUFFER)
    if name.startswith("TEXCOORD_"):
        if integers:
            return _exact(data, normalized=normalized)
        return _exponential(data, float(np.ptp(data, axis=0).max()), options.texcoord_bits)
    if name.startswith("COLOR_"):
        if data.size and (data.min() < 0 or data.max() > 1):
            return _exact(data, normalized=False)
        return _exact(unorm(data, bits=options.color_bits), normalized=True)
    if name.startswith("JOINTS_"):
        return _exact(data.astype(np.uint8 if not data.size or data.max() < 256 else np.uint16), normalized=False)
    return _exact(data, normalized=normalized)


def _displacement(name: str, data: Array, extent: float, options: MeshoptOptions) -> _Stream:
    """A morph target's attribute: as precise as the one that it is added to."""
    if name == "POSITION":
        return _exponential(data, extent, options.position_bits)
    if name in ("NORMAL", "TANGENT"):
        return _exponential(data, 1.0, options.normal_bits)
    return _exact(data, normalized=False)


def _exact(data: Array, *, normalized: bool) -> _Stream:
    size = -(-data.shape[1] * data.dtype.itemsize // 4) * 4
    rows = np.frombuffer(padded(data, size), np.uint8).reshape(len(data), size)
    return _Stream(rows, data, Mode.ATTRIBUTES, normalized=normalized, target=ARRAY_BUFFER)


def _exponential(data: Array, extent: float, bits: int) -> _Stream:
    """Floats with an error of at most ``extent / 2^(bits + 1)``, which is what `bits` over a bounding box give."""
    largest = float(np.abs(data).max(initial=0.0))
    if not largest or not extent or not math.isfinite(largest):
        return _exact(data.astype(np.float32), normalized=False)
    # Shared exponents don't go below that of 1.0, whatever the data: a model of 0.02 units came out 50 times coarser
    # than asked for. So the largest value is brought to [1, 2) and back; powers of two change no digit.
    shift = 1 - math.frexp(largest)[1]
    # The error is 2^-wanted of the next power of two over the largest value, however small the box: an object far from
    # the origin needs more bits for the same precision.
    wanted = bits + 3 - math.frexp(extent)[1] - shift
    if wanted > 24 or shift > 80:
        return _exact(data.astype(np.float32), normalized=False)
    scaled = np.ldexp(data.astype(np.float64), shift)
    packed = meshopt.encode_filter_exp(scaled, bits=max(wanted, 2)).view(np.int32)
    rows = ((((packed >> 24) - shift) << 24) | (packed & 0xFFFFFF)).view(np.uint32)
    decoded = _decoded(rows, Filter.EXPONENTIAL).view(np.float32)
    return _Stream(rows, decoded, Mode.ATTRIBUTES, Filter.EXPONENTIAL, target=ARRAY_BUFFER)


def _decoded(rows: Array, filter_: Filter) -> Array:
    """What a reader's decoder makes of filtered rows, by the codec's own way there and back."""
    stride = rows.shape[1] * rows.dtype.itemsize
    data = meshopt.decode_buffer(
        meshopt.encode_vertex_buffer(rows), count=len(rows), stride=stride, mode=Mode.ATTRIBUTES, filter=filter_
    )
    return np.frombuffer(data, rows.dtype).reshape(rows.shape)


# -- everything else -----------------------------------------------------------------------------------------------


def _place_others(document: Document, groups: dict[_Key, _Group]) -> None:
    """Keyframes, inverse bind matrices and instance transforms, lossless."""
    for index, use in enumerate(usage(document)):
        accessor = document.items("accessors")[index]
        if (
            use not in ("other", "skin")
            or "sparse" in accessor
            or "bufferView" not in accessor
            or opaque(document, index)
        ):
            continue
        data = document.accessor(index)
        size = data.shape[1] * data.dtype.itemsize
        if not len(data) or size % 4 or compression(document.items("bufferViews")[accessor["bufferView"]]):
            continue
        _put(groups, accessor, _Stream(data, data, Mode.ATTRIBUTES), use)
