"""Draco, the codec of ``KHR_draco_mesh_compression``, over DracoPy.

`encode` hands the payload to a decoder before it returns: vertex count and order, attribute ids and types are what a
decoder will see (Draco splits and joins vertices: 3,273 became 3,572 on one real mesh), and every attribute's error is
measured, not assumed. That costs a second encode with the source vertex numbers as one more attribute, about 0.5 µs a
triangle.

`decode` takes bytes from anywhere: 8,000 fuzzed payloads crashed nothing but raised six exception types, among them
MemoryError after 430 MB; all become `DracoError`.

Source: KHR_draco_mesh_compression in the Khronos glTF extension registry; the Draco bitstream specification (2.2) for
header and connectivity counts.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import DracoPy
import numpy as np
import numpy.typing as npt

from cloudbaker.compute.meshes.meshopt import MeshoptError, checked_floats, checked_triangles, weld
from cloudbaker.compute.meshes.quantize import dequantize, quantize_weights, unorm

Array = npt.NDArray[Any]

_SOURCE = "_SOURCE_VERTEX"
"""Name of the attribute that carries source vertex numbers through the measuring encode."""

OUTLIER_PERCENT = 0.5
"""Largest position error allowed, in % of the diagonal of the box that holds the middle 98 % of the vertices. 14 bits
over a clean model give 0.006 %; one vertex at 1e30 turns all others into one point."""


class DracoError(ValueError):
    """The mesh can't be encoded faithfully, or the payload is damaged or not what it claims to be."""


@dataclass(frozen=True, slots=True)
class DracoOptions:
    """Bits per component after quantization, and effort."""

    position_bits: int = 14
    normal_bits: int = 10
    texcoord_bits: int = 12
    """Of TEXCOORD_0. Further sets become as coarse in normalized uint16, or stay floats where they leave [0, 1]."""
    color_bits: int = 8
    """Up to 8: uint8; more: uint16."""
    level: int = 7
    """0 (fast) to 10 (small)."""

    def __post_init__(self) -> None:
        for name in ("position_bits", "normal_bits", "texcoord_bits"):
            if not 2 <= getattr(self, name) <= 30:
                raise DracoError(f"{name} must be 2 to 30, not {getattr(self, name)}")
        if not 1 <= self.color_bits <= 16:
            raise DracoError(f"color_bits must be 1 to 16, not {self.color_bits}")
        if not 0 <= self.level <= 10:
            raise DracoError(f"level must be 0 to 10, not {self.level}")


@dataclass(frozen=True, slots=True)
class DecodedDraco:
    """What a payload holds."""

    attributes: dict[str | int, Array]
    """(n, k) arrays, by semantic where `attribute_ids` were given to `decode`, else by unique id. Types are Draco's:
    float32, or integers (normalized, unless they are joints)."""
    indices: npt.NDArray[np.uint32]
    """(t, 3)."""
    vertex_count: int


@dataclass(frozen=True, slots=True)
class EncodedDraco:
    """A payload, and what every decoder makes of it."""

    data: bytes
    attribute_ids: dict[str, int]
    """Semantic → Draco unique id: the extension's ``attributes``."""
    vertex_count: int
    index_count: int
    """After decoding."""
    dropped_triangles: int
    """Triangles without area that are gone."""
    attributes: dict[str, Array]
    """Decoded values. Their dtypes are the accessors' component types; integers are normalized, unless joints or
    custom attributes."""
    indices: npt.NDArray[np.uint32]
    """(t, 3), decoded."""
    source: npt.NDArray[np.int64] | None
    """For each decoded vertex the source vertex it came from, so that data outside Draco (TANGENT, morph targets) can
    follow: ``tangents[source]``. None unless `keep_source` was asked for."""
    position_error_percent: float
    """Largest displacement of a vertex, in % of the bounding box's diagonal."""
    errors: dict[str, float] = field(default_factory=dict)
    """Largest error by semantic: degrees for NORMAL, else the largest absolute difference of a component."""


# ---------------------------------------------------------------------------------------------------------- encoding


def encode(
    attributes: Mapping[str, Array],
    indices: Array,
    options: DracoOptions = DracoOptions(),
    *,
    keep_source: bool = False,
    keep_flat: bool = False,
) -> EncodedDraco:
    """Compress a triangle mesh.

    `attributes` are (n, k) arrays by glTF semantic: POSITION (floats, required), NORMAL, TEXCOORD_n, COLOR_n (floats
    or normalized integers), JOINTS_n, WEIGHTS_n, and custom ones (float32 or unsigned integers, kept exactly).
    `indices` is (t, 3). Unused vertices are dropped, equal vertices are joined.

    With `keep_source` no vertices are joined, so that data outside Draco may differ between vertices that are equal
    inside it (`weld` everything together first); where Draco's order can't be traced, its order-keeping sequential
    method is used (2 to 4 times larger). Triangles without area are dropped, unless `keep_flat` says that morph targets
    move their vertices or the mesh has joints: then the sequential method is used too, which keeps them.

    Raises DracoError: wrong shapes or types, no triangle left, TANGENT (DracoPy can't quantize generic floats: one
    model became 1.7 times larger; keep tangents outside), or an outlier that would destroy all other positions.
    """
    # A triangle without area may open up when a morph target or a joint moves one of its vertices: keep it then.
    opens = keep_flat or any(name.startswith("JOINTS_") for name in attributes)
    prepared, faces, origin = _prepared(attributes, indices, options, join=not keep_source, keep_flat=opens)
    traced = None
    if not (opens and _flat(faces, prepared["POSITION"]).any()):  # edgebreaker would drop those
        data, decoded, traced = _encoded(prepared, faces, options, preserve_order=False)
    if traced is None or (keep_source and traced.ambiguous):
        data, decoded, traced = _encoded(prepared, faces, options, preserve_order=True)
        if traced is None or traced.ambiguous:
            raise DracoError("Draco changed the order of vertices that it was told to keep: store this mesh as it is")
    if len(decoded.indices) != len(faces):
        raise DracoError(f"Draco kept {len(decoded.indices)} of {len(faces)} triangles: store this mesh as it is")

    named = {str(k): v for k, v in decoded.attributes.items()}
    percent, errors = _measured(prepared, named, traced.vertex)
    return EncodedDraco(
        data=data,
        attribute_ids=traced.ids,
        vertex_count=decoded.vertex_count,
        index_count=decoded.indices.size,
        dropped_triangles=np.asarray(indices).size // 3 - len(decoded.indices),
        attributes=named,
        indices=decoded.indices,
        source=origin[traced.vertex] if keep_source else None,
        position_error_percent=percent,
        errors=errors,
    )


def _prepared(
    attributes: Mapping[str, Array], indices: Array, options: DracoOptions, *, join: bool, keep_flat: bool
) -> tuple[dict[str, Array], npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """Checked attributes in the types Draco will store, faces, and the source vertex of each vertex."""
    if "POSITION" not in attributes:
        raise DracoError("a mesh without POSITION can't be compressed")
    try:
        positions = checked_floats(attributes["POSITION"], 3, "POSITION")
        faces = checked_triangles(indices, len(positions)).reshape(-1, 3)
    except MeshoptError as error:
        raise DracoError(str(error)) from error
    prepared: dict[str, Array] = {"POSITION": positions}
    weights = sorted(k for k in attributes if k.startswith("WEIGHTS_"))
    for name, values in attributes.items():
        array = np.asarray(values)
        if array.ndim != 2 or len(array) != len(positions) or not 1 <= array.shape[1] <= 127:
            raise DracoError(f"{name} must have shape ({len(positions)}, k), not {array.shape}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DracoError(f"{name} must be finite")
        if name != "POSITION" and name not in weights:
            prepared[name] = _stored(name, array, options)
    for name, part in zip(weights, quantize_weights([np.asarray(attributes[k]) for k in weights]), strict=True):
        prepared[name] = part

    number = np.arange(len(positions), dtype=np.uint32)[:, None]
    streams = prepared if join else {**prepared, _SOURCE: number}
    # First without, then with equal vertices joined: joining can take the area of more triangles.
    joined = weld(streams, faces[~_flat(faces, None if keep_flat else positions)])
    flat = _flat(joined.indices, None if keep_flat else joined.streams["POSITION"])
    again = weld(joined.streams, joined.indices[~flat])
    if not len(again.indices):
        raise DracoError("every triangle is degenerate: nothing is left to compress")
    source = joined.source[again.source]
    return {k: v for k, v in again.streams.items() if k != _SOURCE}, again.indices, source


def _flat(faces: npt.NDArray[np.uint32], positions: Array | None) -> npt.NDArray[np.bool_]:
    """Triangles that name a vertex twice or, where `positions` are given, have two corners in the same place."""
    a, b, c = faces.T
    flat = (a == b) | (b == c) | (c == a)
    if positions is not None:
        p, q, r = positions[a], positions[b], positions[c]
        flat |= (p == q).all(axis=1) | (q == r).all(axis=1) | (r == p).all(axis=1)
    return np.asarray(flat)


def _stored(name: str, array: Array, options: DracoOptions) -> Array:
    """An attribute's values in the type in which Draco will store them."""
    if name == "TANGENT":
        raise DracoError("TANGENT belongs outside Draco: DracoPy can't quantize it")
    if name == "NORMAL":
        if array.shape[1] != 3:
            raise DracoError(f"NORMAL must have 3 components, not {array.shape[1]}")
        return dequantize(array)
    if name == "TEXCOORD_0":
        return dequantize(array)
    if name.startswith("TEXCOORD_"):
        values = dequantize(array)
        # Generic floats are stored raw. Normalized uint16 is a core component type of texture coordinates, halves the
        # size before any entropy coding, and holds what is as coarse as the first set: SheenChair's 157 kB become 139.
        if not values.size or values.min() < 0 or values.max() > 1:
            return values
        step = 1 << max(0, 16 - options.texcoord_bits)
        return np.asarray(np.minimum(np.rint(values.astype(np.float64) * (65535 / step)) * step, 65535), np.uint16)
    if name.startswith("COLOR_"):
        return unorm(dequantize(array), bits=options.color_bits)
    if name.startswith("JOINTS_"):
        if array.dtype.kind != "u":
            raise DracoError(f"{name} must be unsigned integers, not {array.dtype}")
        return array.astype(np.uint8 if not array.size or array.max() < 256 else np.uint16)
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    if array.dtype in (np.uint8, np.uint16, np.uint32):
        return array
    raise DracoError(f"{name} is {array.dtype}: Draco through DracoPy keeps float32 and unsigned integers only")


@dataclass(frozen=True, slots=True)
class _Traced:
    ids: dict[str, int]
    vertex: npt.NDArray[np.int64]
    """For each decoded vertex the encoded one it stands for."""
    ambiguous: bool
    """Some decoded vertices could stand for any of several encoded ones, equal but for quantization."""


def _encoded(
    attributes: Mapping[str, Array], faces: npt.NDArray[np.uint32], options: DracoOptions, *, preserve_order: bool
) -> tuple[bytes, DecodedDraco, _Traced | None]:
    """Encode, decode, and find out which vertex became which."""
    data, ids = _call(attributes, faces, options, preserve_order=preserve_order)
    decoded = decode(data, attribute_ids=ids)
    number = np.arange(len(attributes["POSITION"]), dtype=np.uint32)[:, None]
    if preserve_order:
        kept = decoded.vertex_count == len(number) and np.array_equal(decoded.indices, faces)
        return data, decoded, _Traced(ids, number[:, 0].astype(np.int64), ambiguous=False) if kept else None

    traced_data, traced_ids = _call({**attributes, _SOURCE: number}, faces, options, preserve_order=False)
    traced = decode(traced_data, attribute_ids=traced_ids)
    vertex = traced.attributes[_SOURCE][:, 0].astype(np.int64)
    same = decoded.vertex_count == traced.vertex_count and np.array_equal(decoded.indices, traced.indices)
    if same and all(np.array_equal(v, traced.attributes[k]) for k, v in decoded.attributes.items()):
        return data, decoded, _Traced(ids, vertex, ambiguous=False)

    # The extra attribute made Draco split a non-manifold vertex elsewhere (8 of 651 primitives of 16 real models):
    # look up each decoded row among the traced ones, both quantized alike.
    split = traced.vertex_count
    rows = {str(k): np.concatenate([traced.attributes[k], v]) for k, v in decoded.attributes.items()}
    total = split + decoded.vertex_count
    padding = np.full(-total % 3, total - 1)
    classes = weld(rows, np.concatenate([np.arange(total), padding]).reshape(-1, 3)).indices.ravel()[:total]
    first = np.full(int(classes.max()) + 1, -1, np.int64)
    first[classes[:split][::-1]] = vertex[::-1]
    found = first[classes[split:]]
    if (found < 0).any():
        return data, decoded, None
    ambiguous = bool((first[classes[:split]] != vertex).any())
    return data, decoded, _Traced(ids, found, ambiguous)


def _call(
    attributes: Mapping[str, Array], faces: npt.NDArray[np.uint32], options: DracoOptions, *, preserve_order: bool
) -> tuple[bytes, dict[str, int]]:
    """One call of DracoPy, and the unique ids it gave. Its own attribute slots are quantized; generic ones are not."""
    native: dict[str, Any] = {}
    generic: dict[int, Array] = {}
    order: list[str] = []
    for name, values in attributes.items():
        if name in ("POSITION", "NORMAL", "TEXCOORD_0") or (name == "COLOR_0" and values.dtype == np.uint8):
            continue
        generic[len(generic)] = values
        order.append(name)
    if len(order) > 100:  # unique ids are 8-bit and signed there
        raise DracoError(f"{len(attributes)} attributes are too many")
    # DracoPy numbers its own slots after the generic ones, in this order.
    if "COLOR_0" in attributes and attributes["COLOR_0"].dtype == np.uint8:
        native["colors"] = attributes["COLOR_0"]
        order.append("COLOR_0")
    if "TEXCOORD_0" in attributes:
        native["tex_coord"] = attributes["TEXCOORD_0"].astype(np.float64)  # float32 is refused
        native["tex_coord_quantization_bits"] = options.texcoord_bits
        order.append("TEXCOORD_0")
    if "NORMAL" in attributes:
        native["normals"] = attributes["NORMAL"].astype(np.float64)
        native["normal_quantization_bits"] = options.normal_bits
        order.append("NORMAL")
    order.append("POSITION")
    try:
        data = DracoPy.encode(
            attributes["POSITION"],
            faces,
            quantization_bits=options.position_bits,
            compression_level=options.level,
            preserve_order=preserve_order,
            generic_attributes=generic or None,
            **native,
        )
    except Exception as error:  # EncodingFailedException, AssertionError, ValueError, MemoryError, C++ exceptions
        raise DracoError(f"Draco could not encode the mesh: {error or type(error).__name__}") from error
    if not data:
        raise DracoError("Draco could not encode the mesh")
    return bytes(data), {name: number for number, name in enumerate(order)}


def _measured(
    before: Mapping[str, Array], after: Mapping[str, Array], vertex: npt.NDArray[np.int64]
) -> tuple[float, dict[str, float]]:
    """Largest error of each attribute. Raises DracoError when an outlier cost all other vertices their positions."""
    errors: dict[str, float] = {}
    for name, stored in before.items():
        was, now = stored[vertex].astype(np.float64), after[name].astype(np.float64)
        if was.shape != now.shape:
            raise DracoError(f"Draco changed the shape of {name}")
        if name == "NORMAL":
            length = np.linalg.norm(was, axis=1) * np.linalg.norm(now, axis=1)
            cosine = np.einsum("ij,ij->i", was, now)[length > 0] / length[length > 0]
            errors[name] = float(np.degrees(np.arccos(np.clip(cosine.min(initial=1.0), -1.0, 1.0))))
        else:
            errors[name] = float(np.abs(was - now).max(initial=0.0))
    points = before["POSITION"].astype(np.float64)
    moved = float(np.linalg.norm(points[vertex] - after["POSITION"], axis=1).max())
    middle = np.linalg.norm(np.subtract(*np.percentile(points, (99, 1), axis=0)))
    whole = float(np.linalg.norm(np.ptp(points, axis=0)))
    if middle > 0 and moved > middle * OUTLIER_PERCENT / 100:
        raise DracoError(
            f"quantization moves vertices by {moved / middle:.1%} of the size of most of the mesh: a few vertices lie "
            "very far away; remove them, or store this mesh without compression"
        )
    return (100 * moved / whole if whole else 0.0), errors


# ---------------------------------------------------------------------------------------------------------- decoding

_EXACT: dict[int, Any] = {1: np.int8, 2: np.uint8, 3: np.int16, 4: np.uint16, 5: np.int32, 6: np.uint32, 9: np.float32}
"""draco::DataType → numpy type, of those that glTF accessors can have."""


def decode(
    data: bytes | bytearray | memoryview,
    *,
    attribute_ids: Mapping[str, int] | None = None,
    max_triangles: int | None = None,
    max_vertices: int | None = None,
) -> DecodedDraco:
    """Decode a triangle mesh.

    `attribute_ids` is the extension's ``attributes`` (semantic → unique id). The limits are checked on the header,
    before memory is taken. Raises DracoError, whatever the payload.
    """
    payload = bytes(data)
    header = read_header(payload)
    if header.geometry != "mesh":
        raise DracoError("the Draco payload is a point cloud: glTF allows triangle meshes only")
    for what, count, limit in (
        ("triangles", header.triangles, max_triangles),
        ("vertices", header.vertices, max_vertices),
    ):
        if limit is not None and count is not None and count > limit:
            raise DracoError(f"the Draco payload claims {count} {what}: the limit is {limit}")
    try:
        mesh = DracoPy.decode(payload)
        raw: Sequence[dict[str, Any]] = mesh.attributes
        faces = mesh.faces if isinstance(mesh, DracoPy.DracoMesh) else np.empty((0, 3), np.uint32)
    except Exception as error:  # FileTypeException, TypeError, UnicodeDecodeError, MemoryError, RuntimeError …
        raise DracoError(f"the Draco payload is damaged ({type(error).__name__}): export the file again") from error

    decoded: dict[str | int, Array] = {int(a["unique_id"]): _typed(a) for a in raw}
    if len(decoded) != len(raw):
        raise DracoError("the Draco payload names two attributes alike")
    counts = {len(v) for v in decoded.values()}
    if len(counts) != 1:
        raise DracoError("the attributes of the Draco payload have different lengths")
    vertex_count = counts.pop()
    indices = np.ascontiguousarray(faces, np.uint32).reshape(-1, 3)
    if indices.size and int(indices.max()) >= vertex_count:
        raise DracoError(f"index {int(indices.max())} of the Draco payload is out of range: {vertex_count} vertices")
    if attribute_ids is None:
        return DecodedDraco(decoded, indices, vertex_count)
    missing = sorted(name for name, number in attribute_ids.items() if number not in decoded)
    if missing:
        raise DracoError(f"the Draco payload lacks {', '.join(missing)}, which the document says it has")
    return DecodedDraco({name: decoded[number] for name, number in attribute_ids.items()}, indices, vertex_count)


def _typed(attribute: Mapping[str, Any]) -> Array:
    """An attribute in the type it has in the payload: DracoPy widens uint16 and turns signed integers into floats."""
    values = attribute["data"]
    if values is None or not isinstance(values, np.ndarray) or values.ndim != 2:
        raise DracoError("the Draco payload has an attribute without values")
    wanted = _EXACT.get(int(attribute["data_type"]))
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise DracoError("the Draco payload holds values that are not finite")
        if wanted is not None and wanted is not np.float32:
            top = np.iinfo(wanted).max
            # Draco divides by the type's maximum on the way to floats when the attribute is flagged as normalized.
            whole = np.rint(values) if np.array_equal(values, np.rint(values)) else np.rint(values * top)
            return np.clip(whole, np.iinfo(wanted).min, top).astype(wanted)
    return np.ascontiguousarray(values if wanted is None else values.astype(wanted, copy=False))


# ------------------------------------------------------------------------------------------------------------ header


@dataclass(frozen=True, slots=True)
class DracoHeader:
    """What the first bytes of a payload claim."""

    version: tuple[int, int]
    geometry: str
    """``mesh`` or ``point_cloud``."""
    method: str
    """``sequential`` or ``edgebreaker`` (meshes), ``kd_tree`` (point clouds)."""
    triangles: int | None
    """None where metadata stands before the counts."""
    vertices: int | None


def read_header(data: bytes | bytearray | memoryview) -> DracoHeader:
    """Read a payload's header without decoding it: cheap enough to check limits on. Raises DracoError."""
    head = bytes(memoryview(data)[:64])
    if len(head) < 11 or head[:5] != b"DRACO":
        raise DracoError("the payload is not Draco: its first bytes should be 'DRACO'")
    major, minor, geometry, method, flags = struct.unpack_from("<BBBBH", head, 5)
    if not (1, 0) <= (major, minor) <= (2, 2 + (geometry == 0)) or geometry > 1 or method > 1:
        raise DracoError(f"the payload is Draco {major}.{minor}, type {geometry}, method {method}: not known")
    is_mesh = geometry == 1
    name = "sequential" if method == 0 else ("edgebreaker" if is_mesh else "kd_tree")
    triangles = vertices = None
    if is_mesh and (major, minor) >= (2, 2) and not flags & 0x8000:
        if method == 0:
            triangles, at = _varint(head, 11)
            vertices, _ = _varint(head, at)
        else:
            vertices, at = _varint(head, 12)  # after the traversal type
            triangles, _ = _varint(head, at)
    return DracoHeader((major, minor), "mesh" if is_mesh else "point_cloud", name, triangles, vertices)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A little-endian base-128 number, and where it ends."""
    value = 0
    for shift in range(0, 35, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    raise DracoError("the Draco payload is cut off in its header: export the file again")
