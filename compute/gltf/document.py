"""A glTF document: plain JSON beside its bytes, read lazily and without copies, written deterministically.

No object model stands between a caller and the file: `Document.json` is what `json.loads` gives, so whatever we don't
know (extensions, extras, properties of a later specification) is carried verbatim. An object model lost copyright,
extras and fallback buffers on the same corpus, and needed 9.7 s where `json.loads` needs 26 ms
(docs/decisions/004-document-layer.md).
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudbaker.compute.gltf import references
from cloudbaker.compute.gltf.glb import join_glb, read_glb
from cloudbaker.compute.gltf.references import MESHOPT, Json
from cloudbaker.compute.meshes import meshopt

Array = npt.NDArray[Any]
Bytes = bytes | bytearray | memoryview

COMPONENTS: dict[int, np.dtype[Any]] = {
    5120: np.dtype("i1"),
    5121: np.dtype("u1"),
    5122: np.dtype("<i2"),
    5123: np.dtype("<u2"),
    5125: np.dtype("<u4"),
    5126: np.dtype("<f4"),
}
COMPONENT_TYPES = {dtype: number for number, dtype in COMPONENTS.items()}
SHAPES = {
    "SCALAR": (1, 1),
    "VEC2": (1, 2),
    "VEC3": (1, 3),
    "VEC4": (1, 4),
    "MAT2": (2, 2),
    "MAT3": (3, 3),
    "MAT4": (4, 4),
}
"""Columns and rows of an accessor type."""
TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 9: "MAT3", 16: "MAT4"}
ARRAY_BUFFER = 34962
ELEMENT_ARRAY_BUFFER = 34963


class DocumentError(ValueError):
    """The document contradicts itself at `place` (a JSON pointer). The pre-check finds these with a remedy each."""

    def __init__(self, place: str, message: str) -> None:
        super().__init__(f"{place}: {message}: run the validation, it names the remedy")
        self.place = place
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.place, self.message)


class Document:
    """A glTF document that lives in memory. Assumes that the pre-check has passed; raises `DocumentError` if not.

    >>> document = Document.from_glb(data)                          # doctest: +SKIP
    >>> document.accessor(0).shape                                  # doctest: +SKIP
    (24, 3)
    >>> document.json["nodes"][0]["name"] = "Root"                  # doctest: +SKIP
    >>> data = document.to_glb()                                    # doctest: +SKIP
    """

    json: Json
    """The document as `json.loads` gave it; change it freely, but views and accessors through the methods."""

    def __init__(self, json: Json, bin: Bytes | None = None) -> None:
        self.json = json
        self._bin = memoryview(bin if bin is not None else b"").cast("B")
        self._new: dict[int, memoryview] = {}
        self._decoded: dict[int, memoryview] = {}
        self._heirs: dict[int, int] = {}

    @classmethod
    def from_glb(cls, data: Bytes) -> Document:
        """Read a GLB. Costs a `json.loads` and nothing per accessor. Raises `GlbError` on a damaged container."""
        container = read_glb(data)
        return cls(container.document, container.bin)

    def clone(self) -> Document:
        """An independent copy of the JSON over the same bytes."""
        twin = Document(pickle.loads(pickle.dumps(self.json, pickle.HIGHEST_PROTOCOL)), self._bin)
        twin._new = dict(self._new)
        twin._decoded = dict(self._decoded)
        twin._heirs = dict(self._heirs)
        return twin

    def items(self, kind: str) -> list[Any]:
        """A top-level array such as ``meshes``; empty where the document has none."""
        value = self.json.get(kind, [])
        if not isinstance(value, list):
            raise DocumentError(f"/{kind}", "is no array")
        return value

    # -- reading ---------------------------------------------------------------------------------------------------

    def stored(self, index: int) -> memoryview:
        """The bytes of a buffer view as they lie in the file: for a compressed view, the compressed ones."""
        if index in self._new:
            return self._new[index]
        view = self._item("bufferViews", index)
        place = compression(view) or view
        try:
            buffer, offset, length = place["buffer"], place.get("byteOffset", 0), place["byteLength"]
        except KeyError as error:
            raise DocumentError(f"/bufferViews/{index}", f"has no {error}") from error
        if buffer != 0 or "uri" in (self.items("buffers") or [{}])[0]:
            raise DocumentError(
                f"/bufferViews/{index}", f"lies in buffer {buffer}, which is not the binary chunk of this GLB"
            )
        if not 0 <= offset <= offset + length <= len(self._bin):
            raise DocumentError(f"/bufferViews/{index}", "leaves its buffer")
        return self._bin[offset : offset + length]

    def view(self, index: int) -> memoryview:
        """The bytes of a buffer view, decompressed where EXT_meshopt_compression packed them (once, then kept)."""
        packed = compression(self._item("bufferViews", index))
        if packed is None:
            return self.stored(index)
        if index not in self._decoded:
            try:
                data = meshopt.decode_buffer(
                    self.stored(index),
                    count=packed["count"],
                    stride=packed["byteStride"],
                    mode=packed["mode"],
                    filter=packed.get("filter", "NONE"),
                )
            except (ValueError, KeyError) as error:
                raise DocumentError(f"/bufferViews/{index}", f"can't be decompressed: {error}") from error
            expected = self._item("bufferViews", index).get("byteLength")
            if len(data) != expected:
                raise DocumentError(
                    f"/bufferViews/{index}", f"can't be decompressed: {len(data)} bytes instead of {expected}"
                )
            self._decoded[index] = memoryview(data)
        return self._decoded[index]

    def accessor(self, index: int, *, dequantize: bool = False) -> Array:
        """Elements of an accessor, shape (count, components), read-only where it is a view into the file.

        Interleaved, sparse and meshopt-compressed ones are handled; matrices are given column by column without their
        padding. With `dequantize`, normalized integers become float32 in [-1, 1] or [0, 1] (section 3.11 of the
        specification); what is not normalized keeps its type. What lies in a Draco payload reads as zeros until
        `decompress.decode` has run.
        """
        return self._read(index, base=False, dequantize=dequantize)

    def base(self, index: int) -> Array:
        """Elements of an accessor as they lie in its buffer view, without what its sparse part replaces."""
        return self._read(index, base=True, dequantize=False)

    def _read(self, index: int, *, base: bool, dequantize: bool) -> Array:
        accessor = self._item("accessors", index)
        try:
            dtype = COMPONENTS[accessor["componentType"]]
            columns, rows = SHAPES[accessor["type"]]
            count = int(accessor["count"])
        except KeyError as error:
            raise DocumentError(f"/accessors/{index}", f"lacks or has an unknown value: {error}") from error
        if "bufferView" in accessor:
            view = self._item("bufferViews", accessor["bufferView"])
            data = self._elements(
                accessor["bufferView"],
                accessor.get("byteOffset", 0),
                view.get("byteStride"),
                count,
                dtype,
                columns,
                rows,
            )
        else:
            data = np.zeros((count, columns * rows), dtype)
        if "sparse" in accessor and not base:
            data = self._sparse(index, accessor["sparse"], data, dtype, columns, rows)
        return dequantized(data) if dequantize and accessor.get("normalized") else data

    def _elements(
        self, view: int, offset: int, stride: int | None, count: int, dtype: np.dtype[Any], columns: int, rows: int
    ) -> Array:
        # Columns of a matrix begin at multiples of 4 (section 3.6.2.4), so small component types are padded.
        column = rows * dtype.itemsize if columns == 1 else -(-rows * dtype.itemsize // 4) * 4
        shape, strides = (count, columns, rows), (stride or columns * column, column, dtype.itemsize)
        content = self.view(view)
        if count and not content:  # NumPy takes an empty buffer for one of unknown size, and reads whatever lies there
            raise DocumentError(f"/bufferViews/{view}", "is empty")
        try:
            data: Array = np.ndarray(shape, dtype, content, offset, strides)
        except (TypeError, ValueError) as error:
            raise DocumentError(f"/bufferViews/{view}", f"is too short for its accessor: {error}") from error
        return data[:, 0, :] if columns == 1 else data.reshape(count, columns * rows)

    def _sparse(self, index: int, sparse: Json, base: Array, dtype: np.dtype[Any], columns: int, rows: int) -> Array:
        count, at, values = sparse["count"], sparse["indices"], sparse["values"]
        where = self._elements(
            at["bufferView"], at.get("byteOffset", 0), None, count, COMPONENTS[at["componentType"]], 1, 1
        )[:, 0]
        if count and int(where.max()) >= len(base):
            raise DocumentError(f"/accessors/{index}/sparse/indices", "point behind the end of the accessor")
        data = base.copy()
        data[where] = self._elements(
            values["bufferView"], values.get("byteOffset", 0), None, count, dtype, columns, rows
        )
        return data

    def _item(self, kind: str, index: int) -> Json:
        items = self.items(kind)
        if not 0 <= index < len(items) or not isinstance(items[index], dict):
            raise DocumentError(f"/{kind}/{index}", "does not exist")
        item: Json = items[index]
        return item

    # -- changing --------------------------------------------------------------------------------------------------

    def add_view(self, content: Bytes, **properties: Any) -> int:
        """Append a buffer view with these bytes and properties (``target``, ``byteStride`` …); its index."""
        views = self.json.setdefault("bufferViews", [])
        views.append({})
        self.set_view(len(views) - 1, content, **properties)
        return len(views) - 1

    def set_view(self, index: int, content: Bytes, **properties: Any) -> None:
        """Replace the bytes of a buffer view; what it was is forgotten but for its name, extras and extensions."""
        body = memoryview(content).cast("B")
        kept = _identity(self._item("bufferViews", index))
        self.json["bufferViews"][index] = {"buffer": 0, "byteLength": len(body), **properties, **kept}
        self._new[index] = body
        self._decoded.pop(index, None)

    def add_accessor(
        self,
        data: Array,
        *,
        like: int | None = None,
        normalized: bool = False,
        bounds: bool = False,
        target: int | None = None,
        type: str | None = None,
    ) -> int:
        """Append an accessor over a new buffer view with `data`, shape (n, components); its index.

        `like` names an accessor whose name, extras and extensions it takes over. `bounds` writes ``min`` and ``max``.
        """
        index = self.append_accessor({}, like=like)
        self.set_accessor(index, data, normalized=normalized, bounds=bounds, target=target, type=type)
        return index

    def append_accessor(self, accessor: Json, *, like: int | None = None) -> int:
        """Append an accessor as it is, with the name, extras and extensions of `like`, whose heir it is; its index."""
        accessors = self.json.setdefault("accessors", [])
        accessors.append(accessor)
        if like is not None:
            accessor.update(_identity(self._item("accessors", like)))
            self._heirs.setdefault(like, len(accessors) - 1)
        return len(accessors) - 1

    def set_accessor(
        self,
        index: int,
        data: Array,
        *,
        normalized: bool = False,
        bounds: bool = False,
        target: int | None = None,
        type: str | None = None,
    ) -> None:
        """Replace the elements of an accessor in its place, which keeps its name, extras and extensions."""
        accessor = describe(data, normalized=normalized, bounds=bounds, type=type)
        stride = -(-data.shape[1] * data.dtype.itemsize // 4) * 4
        if target == ARRAY_BUFFER:  # section 3.6.2.4: vertex attributes are aligned to 4 bytes
            view = self.add_view(padded(data, stride), byteStride=stride, target=target)
        else:
            view = self.add_view(
                np.ascontiguousarray(data).reshape(-1).view(np.uint8).data, **({"target": target} if target else {})
            )
        kept = _identity(self._item("accessors", index))
        self.json["accessors"][index] = {"bufferView": view, **accessor, **kept}

    def heir(self, index: int) -> int:
        """The accessor that was first added in the likeness of this one, and so on to the last; itself without one."""
        while index in self._heirs:
            index = self._heirs[index]
        return index

    def remap(self, kind: str, new: Sequence[int], count: int) -> None:
        """Renumber a collection: item `i` becomes ``new[i]`` of `count`, -1 drops it; the first of several stays.

        All references of the table follow. Nothing may refer to what is dropped.
        """
        items = self.items(kind)
        kept: list[Any] = [None] * count
        contents: dict[int, memoryview] = {}
        decoded: dict[int, memoryview] = {}
        for old in range(len(items) - 1, -1, -1):
            to = new[old]
            if to < 0:
                continue
            kept[to] = items[old]
            if kind == "bufferViews":
                contents.pop(to, None), decoded.pop(to, None)
                if old in self._new:
                    contents[to] = self._new[old]
                if old in self._decoded:
                    decoded[to] = self._decoded[old]
        if kind == "bufferViews":
            self._new, self._decoded = contents, decoded
        if kind == "accessors":
            self._heirs = {}
        references.renumber(self.json, kind, new)
        if kept:
            self.json[kind] = kept
        else:
            self.json.pop(kind, None)

    def declare(self, extension: str, *, required: bool = False) -> None:
        """Name an extension in ``extensionsUsed`` (and ``extensionsRequired``), behind those already there."""
        for key in ("extensionsUsed", "extensionsRequired") if required else ("extensionsUsed",):
            if extension not in self.json.setdefault(key, []):
                self.json[key].append(extension)

    def undeclare(self, *extensions: str) -> None:
        """Take extensions out of ``extensionsUsed`` and ``extensionsRequired``; empty lists go."""
        for key in ("extensionsUsed", "extensionsRequired"):
            if key in self.json:
                self.json[key] = [name for name in self.json[key] if name not in extensions]
                if not self.json[key]:
                    del self.json[key]

    # -- writing ---------------------------------------------------------------------------------------------------

    def to_glb(self) -> bytes:
        """The document as a GLB: views in their order, each at a multiple of 4; the same document, the same bytes.

        Compressed views get a second, virtual buffer that says where their plain bytes would lie, as
        EXT_meshopt_compression asks.
        """
        json = dict(self.json)
        parts: list[Bytes] = []
        offset = virtual = 0
        views: list[Json] = []
        packing = ""
        for index, old in enumerate(self.items("bufferViews")):
            content = self.stored(index)
            view = {key: value for key, value in old.items() if key not in ("buffer", "byteOffset")}
            packed = compression(old)
            if packed is None:
                view = {"buffer": 0, "byteOffset": offset, **view, "byteLength": len(content)}
            else:
                packing = next(name for name in MESHOPT if name in old["extensions"])
                moved = {**packed, "buffer": 0, "byteOffset": offset, "byteLength": len(content)}
                view = {"buffer": 1, "byteOffset": virtual, **view}
                view["extensions"] = {**old["extensions"], packing: moved}
                virtual += -(-old["byteLength"] // 4) * 4
            if not view["byteOffset"]:
                del view["byteOffset"]
            views.append(view)
            parts += (content, b"\0" * (-len(content) % 4))
            offset += -(-len(content) // 4) * 4
        json.pop("buffers", None)
        if packing:  # there is no plain copy to fall back to, so a reader has to know
            for key in ("extensionsUsed", "extensionsRequired"):
                json[key] = [*json.get(key, []), *([] if packing in json.get(key, []) else [packing])]
        if views:
            json["bufferViews"] = views
            first = dict((self.items("buffers") or [{}])[0])
            first.pop("uri", None)
            json["buffers"] = [{**first, "byteLength": offset}]
            if packing:
                json["buffers"].append({"byteLength": virtual, "extensions": {packing: {"fallback": True}}})
        return join_glb(json, b"".join(parts))


def _identity(item: Json) -> Json:
    """What makes an item more than its data: it outlives a change of the data."""
    return {key: item[key] for key in ("name", "extras", "extensions") if key in item}


def compression(view: Json) -> Json | None:
    """The meshopt extension of a buffer view, if it has one."""
    extensions = view.get("extensions") or {}
    for name in MESHOPT:
        if name in extensions:
            found: Json = extensions[name]
            return found
    return None


def dequantized(data: Array) -> Array:
    """Normalized integers as float32 (section 3.11): unsigned to [0, 1], signed to [-1, 1]."""
    if data.dtype.kind == "f":
        return data
    scaled = data.astype(np.float32) / np.float32(np.iinfo(data.dtype).max)
    return np.maximum(scaled, np.float32(-1)) if data.dtype.kind == "i" else scaled


def padded(data: Array, stride: int) -> memoryview:
    """Elements as bytes with `stride` bytes each, zeros behind what an element fills."""
    data = np.ascontiguousarray(data)
    size = data.shape[1] * data.dtype.itemsize
    if size == stride:
        return data.reshape(-1).view(np.uint8).data
    rows = np.zeros((len(data), stride), np.uint8)
    rows[:, :size] = data.view(np.uint8).reshape(len(data), size)
    return rows.reshape(-1).data


def describe(data: Array, *, normalized: bool = False, bounds: bool = False, type: str | None = None) -> Json:
    """The JSON of an accessor over `data`, shape (n, components), without a buffer view."""
    try:
        component = COMPONENT_TYPES[data.dtype.newbyteorder("<")]
    except KeyError:
        raise ValueError(f"glTF has no component type for {data.dtype}") from None
    accessor: Json = {"componentType": component, "count": len(data), "type": type or TYPES[data.shape[1]]}
    if normalized:
        accessor["normalized"] = True
    if bounds and len(data):
        accessor["min"], accessor["max"] = _numbers(data.min(axis=0)), _numbers(data.max(axis=0))
    return accessor


def _numbers(values: Array) -> list[float] | list[int]:
    # The shortest decimal that reads back as the same float32: half the text of the float64 that .tolist() would give.
    return [float(str(v)) for v in values] if values.dtype.kind == "f" else values.tolist()
