"""meshoptimizer: vertex welding and ordering, and the codec of ``EXT_meshopt_compression``.

The PyPI wheel carries meshoptimizer's whole C API in one shared library, but its Python layer covers only part of it
and checks nothing: an index out of range, an ``(n, 3)`` index array or a short destination is a SIGSEGV. So the
library is bound here once, with types, and every argument is checked before native code sees it.

Encoded vertex buffers are of format version 0, the one ``EXT_meshopt_compression`` allows, unless version 1 is asked
for, which belongs to ``KHR_meshopt_compression``; both are decoded.

Source: EXT_meshopt_compression in the Khronos glTF extension registry, and meshoptimizer.h.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

UINT32_MAX = 0xFFFFFFFF

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.uint32]


class MeshoptError(ValueError):
    """The data can't be encoded, or the encoded data is damaged or not what it claims to be."""


class Mode(StrEnum):
    """``mode`` of the extension: how a buffer view is encoded."""

    ATTRIBUTES = "ATTRIBUTES"
    TRIANGLES = "TRIANGLES"
    INDICES = "INDICES"


class Filter(StrEnum):
    """``filter`` of the extension: what is undone after decoding."""

    NONE = "NONE"
    OCTAHEDRAL = "OCTAHEDRAL"
    QUATERNION = "QUATERNION"
    EXPONENTIAL = "EXPONENTIAL"
    COLOR = "COLOR"
    """Of ``KHR_meshopt_compression``; decoded, never written."""


class ExponentMode(StrEnum):
    """Which values of an EXPONENTIAL-filtered array share an exponent (meshopt_EncodeExpMode)."""

    SEPARATE = "separate"
    SHARED_VECTOR = "shared_vector"
    SHARED_COMPONENT = "shared_component"


# ---------------------------------------------------------------------------------------------------- the library

_SIZE = ctypes.c_size_t
_PTR = ctypes.c_void_p
_INT = ctypes.c_int
_UINT = ctypes.c_uint
_FLOAT = ctypes.c_float


class _CacheStatistics(ctypes.Structure):
    """meshopt_VertexCacheStatistics."""

    _fields_ = (("vertices_transformed", _UINT), ("warps_executed", _UINT), ("acmr", _FLOAT), ("atvr", _FLOAT))


_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "generateVertexRemapMulti": (_SIZE, (_PTR, _PTR, _SIZE, _SIZE, _PTR, _SIZE)),
    "optimizeVertexCache": (None, (_PTR, _PTR, _SIZE, _SIZE)),
    "optimizeVertexCacheStrip": (None, (_PTR, _PTR, _SIZE, _SIZE)),
    "optimizeOverdraw": (None, (_PTR, _PTR, _SIZE, _PTR, _SIZE, _SIZE, _FLOAT)),
    "optimizeVertexFetchRemap": (_SIZE, (_PTR, _PTR, _SIZE, _SIZE)),
    "encodeVertexVersion": (None, (_INT,)),
    "encodeIndexVersion": (None, (_INT,)),
    "encodeVertexBufferBound": (_SIZE, (_SIZE, _SIZE)),
    "encodeVertexBuffer": (_SIZE, (_PTR, _SIZE, _PTR, _SIZE, _SIZE)),
    "encodeIndexBufferBound": (_SIZE, (_SIZE, _SIZE)),
    "encodeIndexBuffer": (_SIZE, (_PTR, _SIZE, _PTR, _SIZE)),
    "encodeIndexSequenceBound": (_SIZE, (_SIZE, _SIZE)),
    "encodeIndexSequence": (_SIZE, (_PTR, _SIZE, _PTR, _SIZE)),
    "decodeVertexBuffer": (_INT, (_PTR, _SIZE, _SIZE, _PTR, _SIZE)),
    "decodeIndexBuffer": (_INT, (_PTR, _SIZE, _SIZE, _PTR, _SIZE)),
    "decodeIndexSequence": (_INT, (_PTR, _SIZE, _SIZE, _PTR, _SIZE)),
    "decodeFilterOct": (None, (_PTR, _SIZE, _SIZE)),
    "decodeFilterQuat": (None, (_PTR, _SIZE, _SIZE)),
    "decodeFilterExp": (None, (_PTR, _SIZE, _SIZE)),
    "encodeFilterOct": (None, (_PTR, _SIZE, _SIZE, _INT, _PTR)),
    "encodeFilterQuat": (None, (_PTR, _SIZE, _SIZE, _INT, _PTR)),
    "encodeFilterExp": (None, (_PTR, _SIZE, _SIZE, _INT, _PTR, _INT)),
    "simplify": (_SIZE, (_PTR, _PTR, _SIZE, _PTR, _SIZE, _SIZE, _SIZE, _FLOAT, _UINT, _PTR)),
    "simplifyWithAttributes": (
        _SIZE,
        (_PTR, _PTR, _SIZE, _PTR, _SIZE, _SIZE, _PTR, _SIZE, _PTR, _SIZE, _PTR, _SIZE, _FLOAT, _UINT, _PTR),
    ),
    "analyzeVertexCache": (_CacheStatistics, (_PTR, _SIZE, _SIZE, _UINT, _UINT, _UINT)),
    "simplifyScale": (_FLOAT, (_PTR, _SIZE, _SIZE)),
}


class _Stream(ctypes.Structure):
    """meshopt_Stream: a vertex attribute stream."""

    _fields_ = (("data", _PTR), ("size", _SIZE), ("stride", _SIZE))


@functools.cache
def library() -> Any:
    """meshoptimizer's C API, names without the ``meshopt_`` prefix, argument and result types set.

    For the modules of this folder, which check arguments first. Raises ImportError when the wheel is not installed.
    """
    # The wheel's own package is not imported: its loader sets other types on its own handle of the same library, and
    # prints to stdout when something is missing.
    spec = importlib.util.find_spec("meshoptimizer")
    folders = [Path(p) for p in (spec.submodule_search_locations or ())] if spec else []
    found = sorted(f for folder in folders for f in folder.glob("_meshoptimizer*.so"))
    if not found:
        raise ImportError("meshoptimizer is not installed: pip install meshoptimizer")
    handle = ctypes.CDLL(str(found[0]))
    names: dict[str, Any] = {}
    for name, (restype, argtypes) in _SIGNATURES.items():
        function = getattr(handle, f"meshopt_{name}")
        function.restype, function.argtypes = restype, argtypes
        names[name] = staticmethod(function)
    # Globals of the library; see `encode_vertex_buffer`.
    handle.meshopt_encodeVertexVersion(0)
    handle.meshopt_encodeIndexVersion(1)
    return type("Library", (), names)


def pointer(array: Array) -> int:
    """Address of a C-contiguous array's first byte."""
    return int(array.ctypes.data)


# ----------------------------------------------------------------------------------------------- checks of arguments


def checked_triangles(indices: Array, vertex_count: int) -> Indices:
    """`indices`, (t, 3) or flat, as a flat contiguous uint32 array of 3·t, every value below `vertex_count`.

    Raises MeshoptError.
    """
    flat = checked_indices(indices, vertex_count)
    if flat.size % 3:
        raise MeshoptError(f"{flat.size} indices are no triangle list: the number must be a multiple of 3")
    return flat


def checked_indices(indices: Array, vertex_count: int) -> Indices:
    """`indices` of any topology as a flat contiguous uint32 array, every value below `vertex_count`."""
    array = np.asarray(indices)
    if array.dtype.kind not in "iu":
        raise MeshoptError(f"indices must be integers, not {array.dtype}")
    if array.size and (int(array.min()) < 0 or int(array.max()) >= vertex_count):
        raise MeshoptError(f"index {int(array.max())} is out of range: there are {vertex_count} vertices")
    if vertex_count > UINT32_MAX:
        raise MeshoptError(f"{vertex_count} vertices are more than 32-bit indices can name")
    return np.ascontiguousarray(array.reshape(-1), np.uint32)


def checked_floats(values: Array, components: int | None, what: str) -> Floats:
    """`values` as a contiguous finite float32 array of shape (n, components)."""
    array = np.asarray(values)
    if array.ndim != 2 or (components is not None and array.shape[1] != components) or array.shape[1] == 0:
        wanted = "(n, k)" if components is None else f"(n, {components})"
        raise MeshoptError(f"{what} must have shape {wanted}, not {array.shape}")
    with np.errstate(over="ignore"):
        floats = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(floats).all():
        raise MeshoptError(f"{what} must be finite numbers that fit a 32-bit float")
    return floats


def _rows(array: Array, what: str) -> Array:
    """(n, k) values as contiguous bytes of shape (n, row size)."""
    values = np.asarray(array)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] == 0:
        raise MeshoptError(f"{what} must have shape (n, k), not {values.shape}")
    return np.ascontiguousarray(values).view(np.uint8).reshape(len(values), values.dtype.itemsize * values.shape[1])


# ------------------------------------------------------------------------------------------------- weld and reorder


@dataclass(frozen=True, slots=True)
class Welded:
    """A vertex set without repetitions or unused vertices."""

    streams: dict[str, Array]
    indices: Indices
    """(t, 3), into the new streams."""
    source: npt.NDArray[np.int64]
    """For each new vertex the old one it was copied from."""


def weld(streams: Mapping[str, Array], indices: Array) -> Welded:
    """Join vertices whose bytes are equal in all streams, and drop vertices that no triangle uses. Lossless.

    `streams` are (n, k) arrays of any type, named as the caller likes (attributes and morph targets together);
    `indices` is (t, 3). Vertices come out in the order in which triangles first use them. Compares bits: 0.0 and -0.0
    stay apart. Raises MeshoptError.
    """
    if not streams:
        raise MeshoptError("there is no vertex stream to weld")
    counts = {len(s) for s in streams.values()}
    if len(counts) != 1:
        raise MeshoptError(f"vertex streams have different lengths: {sorted(counts)}")
    vertex_count = counts.pop()
    flat = checked_triangles(indices, vertex_count)
    if not flat.size:
        empty = np.empty(0, np.int64)
        return Welded({k: np.asarray(v)[:0] for k, v in streams.items()}, flat.reshape(-1, 3), empty)

    # Streams of one C call are at most 16, of at most 256 bytes: wide sets (many morph targets) are cut into pieces.
    rows = np.concatenate([_rows(v, f"stream {k}") for k, v in streams.items()], axis=1)
    pieces = [np.ascontiguousarray(rows[:, at : at + 256]) for at in range(0, rows.shape[1], 256)]
    while len(pieces) > 16:
        # Beyond 4096 bytes a vertex: replace sixteen pieces by one 4-byte class number each round.
        number = _remap(pieces[:16], None, vertex_count)[0]
        pieces = [*pieces[16:], number[:, None].view(np.uint8).reshape(vertex_count, 4)]
    remap, unique = _remap(pieces, flat, vertex_count)
    used = np.flatnonzero(remap != UINT32_MAX)
    source = np.empty(unique, np.int64)
    source[remap[used][::-1]] = used[::-1]  # reversed, so that the first of equal vertices wins
    return Welded(
        {k: np.ascontiguousarray(np.asarray(v)[source]) for k, v in streams.items()},
        remap[flat].reshape(-1, 3),
        source,
    )


def _remap(pieces: Sequence[Array], flat: Indices | None, vertex_count: int) -> tuple[Indices, int]:
    table = (_Stream * len(pieces))(*[_Stream(pointer(p), p.shape[1], p.shape[1]) for p in pieces])
    remap = np.empty(vertex_count, np.uint32)
    unique = library().generateVertexRemapMulti(
        pointer(remap),
        None if flat is None else pointer(flat),
        vertex_count if flat is None else flat.size,
        vertex_count,
        ctypes.addressof(table),
        len(pieces),
    )
    return remap, int(unique)


def optimize_vertex_cache(indices: Array, vertex_count: int, *, strip: bool = False) -> Indices:
    """The same triangles in an order that re-uses recently transformed vertices; (t, 3).

    With `strip` in one that re-uses a little fewer of them, but packs tighter.
    """
    flat = checked_triangles(indices, vertex_count)
    out = np.empty_like(flat)
    if flat.size:
        order = library().optimizeVertexCacheStrip if strip else library().optimizeVertexCache
        order(pointer(out), pointer(flat), flat.size, vertex_count)
    return out.reshape(-1, 3)


def vertex_cache_misses(indices: Array, vertex_count: int) -> float:
    """Average cache misses of a triangle (ACMR), 0.5 to 3, of a first-in-first-out cache of 16 vertices."""
    flat = checked_triangles(indices, vertex_count)
    if not flat.size:
        return 0.0
    return float(library().analyzeVertexCache(pointer(flat), flat.size, vertex_count, 16, 0, 0).acmr)


def optimize_overdraw(indices: Array, positions: Array, *, threshold: float = 1.05) -> Indices:
    """The same triangles, outward-facing clusters first; `indices` must come from `optimize_vertex_cache`.

    `threshold` is how much worse vertex cache use may get (1.05: 5 %).
    """
    points = checked_floats(positions, 3, "positions")
    flat = checked_triangles(indices, len(points))
    out = np.empty_like(flat)
    if flat.size:
        library().optimizeOverdraw(
            pointer(out), pointer(flat), flat.size, pointer(points), len(points), 12, max(1.0, float(threshold))
        )
    return out.reshape(-1, 3)


def optimize_vertex_fetch(indices: Array, vertex_count: int) -> tuple[Indices, npt.NDArray[np.int64]]:
    """Number vertices in the order in which triangles use them, unused ones dropped.

    Returns the new (t, 3) indices, and for each new vertex the old one: ``attribute[source]`` is the new attribute.
    """
    flat = checked_triangles(indices, vertex_count)
    remap = np.empty(vertex_count, np.uint32)
    unique = 0
    if flat.size:
        unique = library().optimizeVertexFetchRemap(pointer(remap), pointer(flat), flat.size, vertex_count)
    else:
        remap.fill(UINT32_MAX)
    used = np.flatnonzero(remap != UINT32_MAX)
    source = np.empty(unique, np.int64)
    source[remap[used]] = used
    return remap[flat].reshape(-1, 3), source


# ---------------------------------------------------------------------------------------------------------- encoding


_VERSION = threading.Lock()


def encode_vertex_buffer(values: Array, *, version: int = 0) -> bytes:
    """``ATTRIBUTES``: (n, k) values of any type; a row must be a multiple of 4 bytes, at most 256.

    `version` of the format: 0, or 1, which is 2 to 22 % smaller and belongs to ``KHR_meshopt_compression``.
    """
    if version not in (0, 1):
        raise MeshoptError(f"there is no version {version} of encoded vertices: 0 or 1")
    rows = _rows(values, "values")
    count, stride = rows.shape
    if stride % 4 or not 4 <= stride <= 256:
        raise MeshoptError(f"a vertex of {stride} bytes can't be encoded: pad it to a multiple of 4, at most 256")
    if not count:
        raise MeshoptError("there are no vertices to encode")
    lib = library()
    out = np.empty(lib.encodeVertexBufferBound(count, stride), np.uint8)
    # The version is a global of the library, so whoever encodes holds it.
    with _VERSION:
        lib.encodeVertexVersion(version)
        try:
            size = lib.encodeVertexBuffer(pointer(out), out.size, pointer(rows), count, stride)
        finally:
            lib.encodeVertexVersion(0)
    return _taken(out, size)


def encode_index_buffer(indices: Array, vertex_count: int) -> bytes:
    """``TRIANGLES``: a triangle list, (t, 3). The decoder may rotate a triangle's corners; winding is kept."""
    flat = checked_triangles(indices, vertex_count)
    if not flat.size:
        raise MeshoptError("there are no triangles to encode")
    lib = library()
    out = np.empty(lib.encodeIndexBufferBound(flat.size, vertex_count), np.uint8)
    return _taken(out, lib.encodeIndexBuffer(pointer(out), out.size, pointer(flat), flat.size))


def encode_index_sequence(indices: Array, vertex_count: int) -> bytes:
    """``INDICES``: indices of any topology, exactly in order."""
    flat = checked_indices(indices, vertex_count)
    if not flat.size:
        raise MeshoptError("there are no indices to encode")
    lib = library()
    out = np.empty(lib.encodeIndexSequenceBound(flat.size, vertex_count), np.uint8)
    return _taken(out, lib.encodeIndexSequence(pointer(out), out.size, pointer(flat), flat.size))


def _taken(out: Array, size: int) -> bytes:
    if size == 0:
        raise MeshoptError("meshoptimizer could not encode the buffer")
    return out[:size].tobytes()


def encode_filter_oct(vectors: Array, *, bits: int = 8) -> Array:
    """Unit vectors, (n, 3) or (n, 4), as octahedral int8 (`bits` ≤ 8) or int16 rows of 4, for ``OCTAHEDRAL``.

    The fourth component (a tangent's sign) is rounded to the same type; without one it is 1.
    """
    if not 2 <= bits <= 16:
        raise MeshoptError(f"bits must be 2 to 16, not {bits}")
    array = np.asarray(vectors)
    if array.ndim == 2 and array.shape[1] == 3:
        array = np.concatenate([array, np.ones((len(array), 1), np.float32)], axis=1)
    floats = checked_floats(array, 4, "vectors")
    out = np.empty((len(floats), 4), np.int8 if bits <= 8 else np.int16)
    if len(floats):
        library().encodeFilterOct(pointer(out), len(floats), out.dtype.itemsize * 4, bits, pointer(floats))
    return out


def encode_filter_quat(quaternions: Array, *, bits: int = 16) -> npt.NDArray[np.int16]:
    """Unit quaternions (n, 4) as int16 rows of 4, for ``QUATERNION``. Their sign may flip: the rotation is the same."""
    if not 4 <= bits <= 16:
        raise MeshoptError(f"bits must be 4 to 16, not {bits}")
    floats = checked_floats(quaternions, 4, "quaternions")
    out = np.empty((len(floats), 4), np.int16)
    if len(floats):
        library().encodeFilterQuat(pointer(out), len(floats), 8, bits, pointer(floats))
    return out


_EXPONENT_MODES = {ExponentMode.SEPARATE: 0, ExponentMode.SHARED_VECTOR: 1, ExponentMode.SHARED_COMPONENT: 2}


def encode_filter_exp(
    values: Array, *, bits: int = 15, mode: ExponentMode = ExponentMode.SHARED_COMPONENT
) -> npt.NDArray[np.uint32]:
    """Floats (n, k ≤ 64) as 8-bit exponent and `bits`-bit mantissa, for ``EXPONENTIAL``; they decode to floats.

    The error is at most 2^-bits times the next power of two over the largest absolute value among those that share an
    exponent, so it pays to keep data near the origin. A zero counts like a value of 1 there: among smaller values it
    makes them as coarse, so bring the largest to [1, 2) by a power of two first, and take it off the exponents after.
    """
    if not 1 <= bits <= 24:
        raise MeshoptError(f"bits must be 1 to 24, not {bits}")
    floats = checked_floats(values, None, "values")
    if floats.shape[1] > 64:
        raise MeshoptError(f"{floats.shape[1]} components are too many: at most 64")
    out = np.empty(floats.shape, np.uint32)
    if len(floats):
        stride = floats.shape[1] * 4
        library().encodeFilterExp(pointer(out), len(floats), stride, bits, pointer(floats), _EXPONENT_MODES[mode])
    return out


# ---------------------------------------------------------------------------------------------------------- decoding


def decode_buffer(
    data: bytes | bytearray | memoryview,
    *,
    count: int,
    stride: int,
    mode: str,
    filter: str = "NONE",
) -> bytes:
    """Decode one compressed buffer view of ``EXT_meshopt_compression``: ``count * stride`` bytes.

    All parameters are checked by the extension's rules, and sizes against what any valid stream of that length can
    hold, before memory is taken. Indices may still be out of range in the result: the decoder is memory-safe on any
    input but does not know the vertex count. Nor does it always see a `count` that is too large: up to the next
    multiple of 64 the missing vertices are zeros. Raises MeshoptError.
    """
    try:
        mode_, filter_ = Mode(mode), Filter(filter)
    except ValueError as error:
        raise MeshoptError(f"unknown meshopt mode or filter: {error}") from error
    if isinstance(count, bool) or isinstance(stride, bool) or not isinstance(count, int) or not isinstance(stride, int):
        raise MeshoptError("count and byteStride must be integers")
    source = np.frombuffer(data, np.uint8)
    if count <= 0:
        raise MeshoptError(f"count must be positive, not {count}")
    _check_form(mode_, filter_, count, stride)
    if count > _most(mode_, source.size, stride):
        raise MeshoptError(f"{source.size} bytes can't hold {count} {mode_.lower()} of {stride} bytes")

    out = np.empty(count * stride, np.uint8)
    lib = library()
    if mode_ is Mode.ATTRIBUTES:
        code = lib.decodeVertexBuffer(pointer(out), count, stride, pointer(source), source.size)
    elif mode_ is Mode.TRIANGLES:
        code = lib.decodeIndexBuffer(pointer(out), count, stride, pointer(source), source.size)
    else:
        code = lib.decodeIndexSequence(pointer(out), count, stride, pointer(source), source.size)
    if code != 0:
        raise MeshoptError(f"the meshopt payload is damaged ({mode_.lower()}, error {code}): export the file again")
    if filter_ is Filter.OCTAHEDRAL:
        lib.decodeFilterOct(pointer(out), count, stride)
    elif filter_ is Filter.QUATERNION:
        lib.decodeFilterQuat(pointer(out), count, stride)
    elif filter_ is Filter.EXPONENTIAL:
        lib.decodeFilterExp(pointer(out), count, stride)
    elif filter_ is Filter.COLOR:
        out = _decoded_colors(out, stride)
    return out.tobytes()


def _decoded_colors(data: Array, stride: int) -> Array:
    """Undo the COLOR filter, which this library does not know yet: YCoCg and alpha of k bits to RGBA of all.

    k is told by alpha's highest bit. Source: KHR_meshopt_compression, appendix B.
    """
    unsigned, signed = (np.uint8, np.int8) if stride == 4 else (np.uint16, np.int16)
    rows = data.view(unsigned).reshape(-1, 4)
    y, alpha = rows[:, 0].astype(np.int64), rows[:, 3].astype(np.int64)
    co, cg = (rows[:, column].view(signed).astype(np.int64) for column in (1, 2))
    top = alpha.copy()  # all bits below the highest
    for shift in (1, 2, 4, 8):
        top |= top >> shift
    wide = alpha & (top >> 1)
    colors = np.stack([y + co - cg, y + cg, y - co - cg, wide << 1 | wide & 1], axis=1)
    # A row without a highest bit is no colour: it becomes black rather than a division by zero.
    most, half = np.float32(np.iinfo(unsigned).max), np.float32(0.5)
    scale = np.divide(most, top, out=np.zeros(len(top), np.float32), where=top > 0, dtype=np.float32)
    scaled = np.floor(colors.astype(np.float32) * scale[:, None] + half)
    return np.ascontiguousarray(np.clip(scaled, 0, np.iinfo(unsigned).max).astype(unsigned)).view(np.uint8)


def _check_form(mode: Mode, filter_: Filter, count: int, stride: int) -> None:
    """The extension's rules on byteStride, count and filter."""
    if mode is Mode.ATTRIBUTES:
        if stride % 4 or not 4 <= stride <= 256:
            raise MeshoptError(f"byteStride {stride} is not allowed: a multiple of 4, at most 256")
        if filter_ is Filter.OCTAHEDRAL and stride not in (4, 8):
            raise MeshoptError(f"the OCTAHEDRAL filter needs a byteStride of 4 or 8, not {stride}")
        if filter_ is Filter.COLOR and stride not in (4, 8):
            raise MeshoptError(f"the COLOR filter needs a byteStride of 4 or 8, not {stride}")
        if filter_ is Filter.QUATERNION and stride != 8:
            raise MeshoptError(f"the QUATERNION filter needs a byteStride of 8, not {stride}")
        return
    if stride not in (2, 4):
        raise MeshoptError(f"byteStride {stride} is not allowed for {mode.lower()}: 2 or 4")
    if filter_ is not Filter.NONE:
        raise MeshoptError(f"the {filter_} filter is not allowed for {mode.lower()}")
    if mode is Mode.TRIANGLES and count % 3:
        raise MeshoptError(f"{count} indices are no triangle list: the count must be a multiple of 3")


def _most(mode: Mode, size: int, stride: int) -> int:
    """The most elements that `size` encoded bytes can stand for: what refuses a bomb before it takes memory.

    Triangles and sequences spend at least a byte on each triangle or index. A vertex buffer's cheapest block, up to
    256 vertices, spends one control byte for four byte channels (version 1; version 0 spends four for each channel).
    """
    if mode is Mode.TRIANGLES:
        return size * 3
    if mode is Mode.INDICES:
        return size
    return size * 256 * 4 // stride + 256
