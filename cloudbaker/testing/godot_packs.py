"""Builders of packs and binary resources, honest or not: what no engine would write can be written here too.

`raw_pack` puts a pack together from what it is told (flags, offsets and MD5s that lie included); an honest one is
`cloudbaker.compute.godot.pck.write_pck`. `rsrc` writes a binary resource of Godot 3 or 4 from values of the resource
tree, `rscc` compresses one, and `bundle` is the property that makes a packed scene of a resource.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import zstandard

from cloudbaker.compute.godot.pck import write_pck
from cloudbaker.compute.godot.resources.tree import (
    ArrayValue,
    Construct,
    DictValue,
    ExtRef,
    NodePath,
    Numbers,
    ResourceRef,
    StringName,
    SubRef,
    Value,
)

GODOT_3 = (3, 2, 3)
GODOT_4 = (4, 6, 3)
ENGINE_OF = {1: GODOT_3, 2: (4, 3, 0), 3: GODOT_4, 4: (4, 7, 0)}
"""An engine for each pack format."""


@dataclass(frozen=True, slots=True)
class RawFile:
    """An entry of `raw_pack`; what is None is filled in honestly."""

    path: str | bytes
    data: bytes = b""
    flags: int = 0
    md5: bytes | None = None
    offset: int | None = None
    """As it is written: absolute in format 1, relative to the file base later."""
    size: int | None = None


def raw_pack(
    files: Iterable[RawFile | tuple[str | bytes, bytes]],
    *,
    format: int = 3,
    engine: tuple[int, int, int] | None = None,
    flags: int = 2,
    count: int | None = None,
    base: int | None = None,
    directory: int | None = None,
    reserved: bytes = bytes(64),
    align: int = 32,
    version: int | None = None,
) -> bytes:
    """A pack of exactly these entries, in this order. `count`, `base`, `directory` and `version` replace the truth."""
    entries = [file if isinstance(file, RawFile) else RawFile(*file) for file in files]
    names = [_padded(file.path if isinstance(file.path, bytes) else file.path.encode()) for file in entries]
    head = 20 + 64 + (12 if format >= 2 else 0) + (8 if format >= 3 else 0)
    size = 4 + sum(4 + len(name) + 32 + (4 if format >= 2 else 0) for name in names)
    start = head if format >= 3 else head + size
    start += -start % align
    at, offsets, body = start, [], bytearray()
    for file in entries:
        offsets.append(at)
        body += file.data + bytes(-len(file.data) % align)
        at = start + len(body)
    table = bytearray(struct.pack("<I", len(entries) if count is None else count))
    for file, name, offset in zip(entries, names, offsets, strict=True):
        where = offset - (start if format >= 2 else 0) if file.offset is None else file.offset
        table += struct.pack("<I", len(name)) + name
        table += struct.pack("<QQ", where, len(file.data) if file.size is None else file.size)
        table += hashlib.md5(file.data, usedforsecurity=False).digest() if file.md5 is None else file.md5
        table += struct.pack("<I", file.flags) if format >= 2 else b""
    header = b"GDPC" + struct.pack("<4I", format if version is None else version, *(engine or ENGINE_OF[format]))
    if format >= 2:
        header += struct.pack("<IQ", flags, start if base is None else base)
    if format >= 3:
        header += struct.pack("<Q", at if directory is None else directory)
        return header + reserved + bytes(start - head) + bytes(body) + bytes(table)
    return header + reserved + bytes(table) + bytes(start - head - size) + bytes(body)


def pack(files: Mapping[str, bytes], *, format: int = 3) -> bytes:
    """An honest pack in memory."""
    out = io.BytesIO()
    write_pck(files, out, format=format, engine=ENGINE_OF[format])
    return out.getvalue()


def appended(front: bytes, packed: bytes) -> bytes:
    """A file with a pack behind it and the trailer by which the engine finds it."""
    return front + packed + struct.pack("<Q", len(packed)) + b"GDPC"


def _padded(name: bytes) -> bytes:
    return name + bytes(-len(name) % 4)


@dataclass(slots=True)
class Internal:
    """An internal resource of `rsrc`."""

    type: str
    properties: Sequence[tuple[str, Value]] = ()
    id: str = ""
    """After ``local://``; left out, its number."""


@dataclass(slots=True)
class _Writer:
    endian: str
    engine: tuple[int, int]
    inline_names: bool
    strings: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    named: bool = True
    out: bytearray = field(default_factory=bytearray)

    def number(self, code: str, value: float) -> None:
        self.out += struct.pack(self.endian + code, value)

    def string(self, text: str | bytes) -> None:
        raw = (text if isinstance(text, bytes) else text.encode()) + b"\0"
        self.number("I", len(raw))
        self.out += raw

    def name(self, text: str) -> None:
        if self.inline_names:
            raw = text.encode() + b"\0"
            self.number("I", len(raw) | 0x80000000)
            self.out += raw
            return
        if text not in self.strings:
            self.strings.append(text)
        self.number("I", self.strings.index(text))

    def value(self, value: Value) -> None:
        if value is None:
            self.number("I", 1)
        elif isinstance(value, bool):
            self.number("I", 2)
            self.number("I", value)
        elif isinstance(value, int):
            small = -(1 << 31) <= value < 1 << 31
            self.number("I", 3 if small else 40)
            self.number("i" if small else "q", value)
        elif isinstance(value, float):
            self.number("I", 41)
            self.number("d", value)
        elif isinstance(value, NodePath):
            self.number("I", 22)
            names, *subnames = value.removeprefix("/").split(":")
            parts = names.split("/") if names else []
            self.number("H", len(parts))
            self.number("H", len(subnames) | (0x8000 if value.startswith("/") else 0))
            for part in (*parts, *subnames):
                self.name(part)
        elif isinstance(value, str):
            self.number("I", 44 if isinstance(value, StringName) else 5)
            self.string(value)
        elif isinstance(value, Construct):
            self.construct(value)
        elif isinstance(value, ArrayValue):
            self.number("I", 30)
            self.number("I", len(value.items))
            for item in value.items:
                self.value(item)
        elif isinstance(value, DictValue):
            self.number("I", 26)
            self.number("I", len(value.items))
            for key, item in value.items:
                self.value(key)
                self.value(item)
        elif isinstance(value, ResourceRef):
            self.number("I", 24)
            self.number("I", 1)
            self.string(value.type)
            self.string(value.path)
        elif isinstance(value, ExtRef):
            self.number("I", 24)
            self.number("I", 3)
            self.number("I", int(value.id))
        elif isinstance(value, SubRef):
            self.number("I", 24)
            self.number("I", 2)
            self.number("I", self.ids.index(value.id) if self.named else int(value.id))
        else:
            raise TypeError(f"no variant for {value!r}")

    def construct(self, value: Construct) -> None:
        if value.name in ("PackedStringArray", "PoolStringArray"):
            self.number("I", 34)
            self.number("I", len(value.args))
            for item in value.args:
                self.string(str(item))
            return
        kind, code, parts = _CONSTRUCTS[value.name]
        self.number("I", kind)
        if value.numbers is None:
            if value.name == "RID":
                self.number("I", int(str(value.args[0])) if value.args else 0)
            return
        numbers = value.numbers.values()
        if parts:
            self.number("I", len(numbers) // parts)
        for number in numbers:
            self.number(code, int(number) if code in "Biq" else number)
        if code == "B":
            self.out += bytes(-len(numbers) % 4)


# By constructor: variant type, struct code, and for packed arrays the numbers that make one item.
_CONSTRUCTS = {
    **{"Vector2": (10, "f", 0), "Rect2": (11, "f", 0), "Vector3": (12, "f", 0), "Plane": (13, "f", 0)},
    **{"Quaternion": (14, "f", 0), "Quat": (14, "f", 0), "AABB": (15, "f", 0), "Basis": (16, "f", 0)},
    **{"Transform3D": (17, "f", 0), "Transform": (17, "f", 0), "Transform2D": (18, "f", 0), "Color": (20, "f", 0)},
    **{"RID": (23, "I", 0), "Callable": (42, "", 0), "Signal": (43, "", 0), "Vector2i": (45, "i", 0)},
    **{"Rect2i": (46, "i", 0), "Vector3i": (47, "i", 0), "Vector4": (50, "f", 0), "Vector4i": (51, "i", 0)},
    **{"Projection": (52, "f", 0), "PackedByteArray": (31, "B", 1), "PackedInt32Array": (32, "i", 1)},
    **{"PackedFloat32Array": (33, "f", 1), "PackedVector3Array": (35, "f", 3), "PackedColorArray": (36, "f", 4)},
    **{"PackedVector2Array": (37, "f", 2), "PackedInt64Array": (48, "q", 1), "PackedFloat64Array": (49, "d", 1)},
    **{"PackedVector4Array": (53, "f", 4), "PoolByteArray": (31, "B", 1), "PoolIntArray": (32, "i", 1)},
    **{"PoolRealArray": (33, "f", 1), "PoolVector2Array": (37, "f", 2), "PoolVector3Array": (35, "f", 3)},
    **{"PoolColorArray": (36, "f", 4)},
}


def rsrc(
    type: str,
    properties: Sequence[tuple[str, Value]] = (),
    *,
    internals: Sequence[Internal] = (),
    externals: Sequence[tuple[str, str] | tuple[str, str, int]] = (),
    engine: tuple[int, int] = (4, 6),
    format: int | None = None,
    big_endian: bool = False,
    uid: int | None = None,
    script_class: str = "",
    inline_names: bool = False,
    header_type: str | None = None,
    tail: bytes = b"RSRC",
    to_pack: bool = False,
) -> bytes:
    """A binary resource: formats 3 (Godot 3) and 5 (Godot 4) unless told otherwise.

    `internals` come before the main resource, in the order that the engine reads them; a `SubRef` names one by its id,
    an `ExtRef` the number of an external. `inline_names` puts names where they are used, not into the string table.
    `to_pack`: for `rscc`, where offsets count from behind the magic.
    """
    old = engine[0] < 4
    form = format if format is not None else (3 if old else 5)
    ids = [part.id or str(number) for number, part in enumerate(internals, 1)]
    body = _Writer(">" if big_endian else "<", engine, inline_names, ids=ids, named=not old)
    starts: list[int] = []
    for part in (*internals, Internal(type, properties)):
        starts.append(len(body.out))
        body.string(part.type)
        body.number("I", len(part.properties))
        for name, value in part.properties:
            body.name(name)
            body.value(value)
    head = _Writer(body.endian, engine, inline_names)
    for number in (int(big_endian), 0, *engine, form):
        # Whether the file is big-endian is not a question of byte order: any other number than zero says so.
        head.number("I", number)
    head.string(type if header_type is None else header_type)
    head.number("Q", 0)
    if old:
        head.out += bytes(56)
    else:
        head.number("I", 1 | (2 if uid is not None else 0) | (8 if script_class else 0))
        head.number("Q", uid or 0)
        if script_class:
            head.string(script_class)
        head.out += bytes(44)
    head.number("I", len(body.strings))
    for text in body.strings:
        head.string(text)
    head.number("I", len(externals))
    for kind, path, *rest in externals:
        head.string(kind)
        head.string(path)
        if uid is not None:
            head.number("Q", int(rest[0]) if rest else (1 << 64) - 1)
    head.number("I", len(starts))
    paths = [f"local://{name}" for name in ids] + ["res://main.res"]
    base = (0 if to_pack else 4) + len(head.out) + sum(4 + len(path) + 1 + 8 for path in paths)
    for path, start in zip(paths, starts, strict=True):
        head.string(path)
        head.number("Q", base + start)
    return b"RSRC" + bytes(head.out) + bytes(body.out) + tail


COMPRESSIONS = {"fastlz": 0, "deflate": 1, "zstd": 2, "gzip": 3}


def rscc(resource: bytes, compression: str = "zstd", *, block: int = 4096, total: int | None = None) -> bytes:
    """A binary resource (made `to_pack`), compressed as the engine does it: without its magic, in blocks."""
    stream = resource.removeprefix(b"RSRC")
    size = len(stream) if total is None else total
    pieces = [stream[at : at + block] for at in range(0, len(stream) // block * block + 1, block)]
    packed = [_squeeze(piece, compression) for piece in pieces]
    table = struct.pack(f"<{len(packed)}I", *map(len, packed))
    return b"RSCC" + struct.pack("<3I", COMPRESSIONS[compression], block, size) + table + b"".join(packed) + b"RSCC"


def _squeeze(data: bytes, compression: str) -> bytes:
    if compression == "zstd":
        return zstandard.compress(data)
    if compression == "fastlz":
        return fastlz(data.ljust(16, b"\0"))
    squeezer = zlib.compressobj(wbits=15 if compression == "deflate" else 31)
    return squeezer.compress(data) + squeezer.flush()


def fastlz(data: bytes) -> bytes:
    """FastLZ, level 1: runs of one byte become matches, everything else literals. Honest, and small enough."""
    out = bytearray()
    literal = bytearray()

    def flush() -> None:
        for at in range(0, len(literal), 32):
            piece = literal[at : at + 32]
            out.append(len(piece) - 1)
            out.extend(piece)
        literal.clear()

    at = 0
    while at < len(data):
        run = 0
        while at and run < 264 and at + run < len(data) and data[at + run] == data[at - 1]:
            run += 1
        if run >= 3:
            flush()
            out.extend(bytes([((run - 2) << 5), 0]) if run < 9 else bytes([7 << 5, run - 9, 0]))
            at += run
        else:
            literal.append(data[at])
            at += 1
    flush()
    return bytes(out)


def numbers(name: str, *values: float) -> Construct:
    """A numeric constructor as a value: ``numbers("Vector3", 0, 1, 0)``."""
    return Construct(name, 0, Numbers(", ".join(str(value) for value in values)))


def strings(*values: str, name: str = "PackedStringArray") -> Construct:
    """A packed array of strings as a value."""
    return Construct(name, 0, args=values)


def array(*items: Value) -> ArrayValue:
    """An array as a value."""
    return ArrayValue(list(items), 0)


def dictionary(items: Mapping[str, Value]) -> DictValue:
    """A dictionary with strings as keys as a value."""
    return DictValue(list(items.items()), 0)


@dataclass(slots=True)
class SceneNode:
    """A node of `bundle`. Parents are numbers of nodes, -1 for the root."""

    name: str
    type: str | None
    parent: int = -1
    properties: Mapping[str, Value] = field(default_factory=dict)
    groups: Sequence[str] = ()
    instance: Value = None


@dataclass(slots=True)
class SceneConnection:
    """A connection of `bundle`; source and target are numbers of nodes."""

    source: int
    target: int
    signal: str
    method: str
    binds: Sequence[Value] = ()


def bundle(
    nodes: Sequence[SceneNode], connections: Sequence[SceneConnection] = (), *, base: Value = None, version: int = 3
) -> DictValue:
    """The ``_bundled`` of a packed scene."""
    names: list[str] = []
    values: list[Value] = []

    def name(text: str) -> int:
        if text not in names:
            names.append(text)
        return names.index(text)

    def value(item: Value) -> int:
        values.append(item)
        return len(values) - 1

    base_scene = -1 if base is None else value(base)
    flat: list[int] = []
    for node in nodes:
        flat += [node.parent, 0 if node.parent >= 0 else -1, 0x7FFFFFFF if node.type is None else name(node.type)]
        flat += [name(node.name), -1 if node.instance is None else value(node.instance), len(node.properties)]
        for key, held in node.properties.items():
            flat += [name(key), value(held)]
        flat += [len(node.groups), *map(name, node.groups)]
    wires: list[int] = []
    for wire in connections:
        wires += [wire.source, wire.target, name(wire.signal), name(wire.method), 2, len(wire.binds)]
        wires += map(value, wire.binds)
        wires += [0] if version >= 3 else []
    return dictionary(
        {
            "names": strings(*names),
            "variants": ArrayValue(values, 0),
            "node_count": len(nodes),
            "nodes": numbers("PackedInt32Array", *flat),
            "conn_count": len(connections),
            "conns": numbers("PackedInt32Array", *wires),
            "node_paths": array(),
            "editable_instances": array(),
            "base_scene": base_scene,
            "version": version,
        }
    )
