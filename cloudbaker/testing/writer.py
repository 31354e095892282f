"""A small glTF 2.0 writer for generated test models. On purpose it shares no code with what it is used to test."""

from __future__ import annotations

import json
import struct
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloudbaker.testing.shapes import Surface

GENERATOR = "Cloud Baker test models"
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
_COMPONENT = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
_TYPE = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}


class Writer:
    """Collects a document and its binary buffer; `glb` packs both.

    `json` is open on purpose: a test model may set in it whatever the format allows, and a hostile one what it
    does not.
    """

    def __init__(self, *, copyright: str = "") -> None:
        self.json: dict[str, Any] = {"asset": {"version": "2.0", "generator": GENERATOR}}
        if copyright:
            self.json["asset"]["copyright"] = copyright
        self.bin = bytearray()

    def add(self, collection: str, item: dict[str, Any]) -> int:
        """Append to a top-level array (``nodes``, ``materials`` …); returns the index."""
        items: list[dict[str, Any]] = self.json.setdefault(collection, [])
        items.append(item)
        return len(items) - 1

    def use(self, extension: str, *, required: bool = False) -> None:
        """Declare an extension, once."""
        for key in ("extensionsUsed", *(["extensionsRequired"] if required else [])):
            if extension not in self.json.setdefault(key, []):
                self.json[key].append(extension)

    def append(self, data: bytes) -> int:
        """Put bytes into the buffer, 4-byte aligned; returns their offset."""
        self.bin += b"\0" * (-len(self.bin) % 4)
        offset = len(self.bin)
        self.bin += data
        return offset

    def view(self, data: bytes, *, stride: int = 0, target: int = 0) -> int:
        """A bufferView over new bytes."""
        item: dict[str, Any] = {"buffer": 0, "byteOffset": self.append(data), "byteLength": len(data)}
        if stride:
            item["byteStride"] = stride
        if target:
            item["target"] = target
        return self.add("bufferViews", item)

    def accessor(
        self,
        array: NDArray[Any],
        *,
        target: int = 0,
        bounds: bool = False,
        normalized: bool = False,
        view: int | None = None,
        offset: int = 0,
    ) -> int:
        """An accessor of shape (n,) or (n, components), in its own bufferView unless `view` names one.

        Rows of vertex attributes are padded to 4 bytes (glTF 2.0, 3.6.2.4).
        """
        rows = array.reshape(len(array), -1)
        item: dict[str, Any] = {
            "componentType": _COMPONENT[rows.dtype.str[1:]],
            "count": len(rows),
            "type": _TYPE[rows.shape[1]],
        }
        if view is None:
            width = rows.shape[1] * rows.itemsize
            padding = -width % 4 if target == ARRAY_BUFFER else 0
            data = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), width)
            data = np.pad(data, ((0, 0), (0, padding)))
            view = self.view(data.tobytes(), stride=width + padding if padding else 0, target=target)
        elif offset:
            item["byteOffset"] = offset
        item["bufferView"] = view
        if normalized:
            item["normalized"] = True
        if bounds:
            item["min"], item["max"] = rows.min(axis=0).tolist(), rows.max(axis=0).tolist()
        return self.add("accessors", item)

    def indices(self, indices: NDArray[np.uint32]) -> int:
        """An index accessor of the narrowest type that holds them (and not the restart value)."""
        narrow = np.uint16 if indices.size == 0 or indices.max() < 0xFFFF else np.uint32
        return self.accessor(indices.astype(narrow).ravel(), target=ELEMENT_ARRAY_BUFFER)

    def attribute(self, array: NDArray[Any], *, bounds: bool = False, normalized: bool = False) -> int:
        """An accessor for a vertex attribute."""
        return self.accessor(array, target=ARRAY_BUFFER, bounds=bounds, normalized=normalized)

    def primitive(self, surface: Surface, *, material: int | None = None, uv: bool = True) -> dict[str, Any]:
        """A triangle primitive of a surface."""
        attributes = {
            "POSITION": self.attribute(surface.positions, bounds=True),
            "NORMAL": self.attribute(surface.normals),
        }
        if uv:
            attributes["TEXCOORD_0"] = self.attribute(surface.uvs)
        primitive: dict[str, Any] = {"attributes": attributes, "indices": self.indices(surface.indices)}
        if material is not None:
            primitive["material"] = material
        return primitive

    def mesh(self, surface: Surface, *, name: str = "", material: int | None = None, uv: bool = True) -> int:
        """A mesh of one primitive."""
        return self.add("meshes", _named(name, {"primitives": [self.primitive(surface, material=material, uv=uv)]}))

    def node(self, *, name: str = "", **properties: Any) -> int:
        """A node; properties by their glTF names."""
        return self.add("nodes", _named(name, properties))

    def texture(self, data: bytes, *, mime: str = "image/png", name: str = "") -> int:
        """A texture over an embedded image, sampled with mipmaps and repeated."""
        image = self.add("images", _named(name, {"bufferView": self.view(data), "mimeType": mime}))
        if not self.json.get("samplers"):
            self.add("samplers", {"magFilter": 9729, "minFilter": 9987, "wrapS": 10497, "wrapT": 10497})
        return self.add("textures", {"sampler": 0, "source": image})

    def animation(self, name: str, channels: list[tuple[int, str, NDArray[np.float32], NDArray[np.float32]]]) -> int:
        """A linear animation of (node, path, times (k,) in seconds, values (k, components)) channels."""
        item: dict[str, Any] = _named(name, {"channels": [], "samplers": []})
        for node, path, times, values in channels:
            item["channels"].append({"sampler": len(item["samplers"]), "target": {"node": node, "path": path}})
            flat = values.ravel() if path == "weights" else values
            item["samplers"].append({"input": self.accessor(times, bounds=True), "output": self.accessor(flat)})
        return self.add("animations", item)

    def scene(self, *roots: int, name: str = "") -> None:
        """The default scene."""
        self.json["scene"] = self.add("scenes", _named(name, {"nodes": list(roots)}))

    def glb(self) -> bytes:
        """The binary container (glTF 2.0, 4.4)."""
        if self.bin:
            buffers = self.json.setdefault("buffers", [{}])
            buffers[0]["byteLength"] = len(self.bin)
        return pack(self.json, bytes(self.bin))


def pack(document: dict[str, Any] | bytes, binary: bytes = b"") -> bytes:
    """A GLB of a document (or its raw JSON text, for what `json` would not write) and a binary chunk."""
    text = document if isinstance(document, bytes) else json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    if binary:
        chunks += struct.pack("<II", len(binary), 0x004E4942) + binary
    return struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks


def unpack(glb: bytes) -> tuple[dict[str, Any], bytes]:
    """The inverse of `pack` for the well-formed GLBs of this package (no checks)."""
    length = struct.unpack_from("<I", glb, 12)[0]
    return json.loads(glb[20 : 20 + length]), glb[28 + length :]


def encode_image(pixels: NDArray[np.uint8], mime: str = "image/png", **options: Any) -> bytes:
    """An image file of (h, w), (h, w, 3) or (h, w, 4) pixels."""
    out = BytesIO()
    defaults: dict[str, Any] = {"image/png": {"compress_level": 6}, "image/jpeg": {"quality": 90}}.get(mime, {})
    Image.fromarray(pixels).save(out, format=mime.removeprefix("image/"), **defaults | options)
    return out.getvalue()


def _named(name: str, item: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, **item} if name else item
