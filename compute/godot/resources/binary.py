"""Read binary resources (RSRC, and RSCC after unpacking) of Godot 3 (formats 1 to 3) and Godot 4 (formats 3 to 6).

Any of some 25 extensions may hold one (``.res .scn .mesh .material .anim .tex …``): the magic decides. Layout, from the
engine's ``core/io/resource_format_binary.cpp``; all offsets count from the ``RSRC``:

======  ======================================================================================================
header  ``RSRC``, u32 big-endian?, u32 real64, u32 major, minor, format, string class, u64 import metadata;
        Godot 4: u32 flags (1 named ids, 2 UIDs, 4 doubles, 8 script class), u64 UID, [string script class],
        11 × u32; Godot 3: 14 × u32
tables  strings; externals (class, path, [u64 UID]); internals (path, u64 offset); the last internal is the
        resource itself
body    for each internal: string class, u32 count, then (name, value) pairs
======  ======================================================================================================

Strings have a u32 length and usually a NUL at their end. Of a compressed resource the stream continues directly after
the magic, so its offsets are four too large for the stream; here ``RSRC`` is put before it.

Every variant is parsed, nothing is skipped: an inline external (object type 1) names a file that the tables don't.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

from cloudbaker.compute.gltf.findings import quote
from cloudbaker.compute.godot.findings import Reporter
from cloudbaker.compute.godot.resources import compression
from cloudbaker.compute.godot.resources.scene import read_bundles
from cloudbaker.compute.godot.resources.tree import (
    ArrayValue,
    Construct,
    DictValue,
    ExtRef,
    ExtResource,
    NodePath,
    Numbers,
    Property,
    Resource,
    ResourceError,
    ResourceRef,
    StringName,
    SubRef,
    SubResource,
    Value,
)
from cloudbaker.model import Finding

MAGIC = b"RSRC"
_NAMED_IDS, _UIDS, _DOUBLES, _SCRIPT_CLASS = 1, 2, 4, 8
_NO_UID = (1 << 64) - 1
_LOCAL = "local://"


@dataclass(frozen=True, slots=True)
class BinaryLimits:
    """What a binary resource may hold before it is refused."""

    bytes: int = 256 << 20
    """After unpacking."""
    values: int = 2_000_000
    strings: int = 200_000
    """Of the string table; each of the others may have as many entries."""
    depth: int = 100
    path_bytes: int = 1 << 16
    """Of a node path: its parts are named by number, so that 200 KB could say 100 GB."""


# Variant types by number: numbers of a fixed count, as (constructor, count, struct code). `r` is a float, or a double
# where the header says so (Godot 4 built with double precision).
_FIXED = {
    10: ("Vector2", 2, "r"),
    11: ("Rect2", 4, "r"),
    12: ("Vector3", 3, "r"),
    13: ("Plane", 4, "r"),
    14: ("Quaternion", 4, "r"),
    15: ("AABB", 6, "r"),
    16: ("Basis", 9, "r"),
    17: ("Transform3D", 12, "r"),
    18: ("Transform2D", 6, "r"),
    20: ("Color", 4, "f"),
    45: ("Vector2i", 2, "i"),
    46: ("Rect2i", 4, "i"),
    47: ("Vector3i", 3, "i"),
    50: ("Vector4", 4, "r"),
    51: ("Vector4i", 4, "i"),
    52: ("Projection", 16, "r"),
}
_PACKED = {
    31: ("PackedByteArray", 1, "B"),
    32: ("PackedInt32Array", 1, "i"),
    33: ("PackedFloat32Array", 1, "f"),
    35: ("PackedVector3Array", 3, "r"),
    36: ("PackedColorArray", 4, "f"),
    37: ("PackedVector2Array", 2, "r"),
    48: ("PackedInt64Array", 1, "q"),
    49: ("PackedFloat64Array", 1, "d"),
    53: ("PackedVector4Array", 4, "r"),
}
_GODOT_3_ONLY = {21, 25}
_GODOT_4_ONLY = {42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53}


def parse_binary(
    data: bytes | bytearray | memoryview,
    *,
    limits: BinaryLimits | None = None,
    findings: list[Finding] | None = None,
) -> Resource:
    """Read a binary resource. Raises `ResourceError`; with a list for `findings`, all that is wrong is appended there,
    and the result holds what could be read until then."""
    resource = Resource("binary", "", findings=findings if findings is not None else [])
    report = Reporter(ResourceError, findings)
    try:
        limits = limits or BinaryLimits()
        view = memoryview(data).cast("B")
        magic = bytes(view[:4])
        packed = magic == compression.MAGIC
        if packed:
            view = memoryview(compression.unpack_rscc(view, limit=limits.bytes, magic=MAGIC))
        elif magic != MAGIC:
            raise ResourceError("binary.bad-magic", f"the file begins with {quote(magic)}")
        reader = _Reader(view, limits, resource, report)
        # The engine counts from the beginning of the stream, which in a compressed file has no magic.
        reader.shift = len(MAGIC) if packed else 0
        reader.read()
        read_bundles(resource, lambda code, message, place: report(code, message, resource.where(place)))
    except ResourceError as error:
        if findings is None:
            raise
        report(error.code, error.message, error.place, remedy=error.remedy)
    return resource


@dataclass(slots=True)
class _Open:
    """A container whose items have not all been read."""

    left: int
    """Values that are still to come; a pair counts twice."""
    pairs: bool
    place: int
    items: list[Value] = field(default_factory=list)

    def finished(self) -> Value:
        if self.pairs:
            return DictValue(list(zip(self.items[::2], self.items[1::2], strict=True)), self.place)
        return ArrayValue(self.items, self.place)


class _Reader:
    """A cursor over the bytes of one resource."""

    def __init__(self, view: memoryview, limits: BinaryLimits, resource: Resource, report: Reporter) -> None:
        self.view, self.limits, self.resource, self._report = view, limits, resource, report
        self.at = 4
        self.endian = "<"
        self.real = "f"
        self.strings: list[str] = []
        self.sub_ids: list[str] = []
        self.lookup: dict[str, str] = {}
        self.values = 0
        self.shift = 0
        """What to add to the offsets of the table."""

    def error(self, code: str, message: str, place: int | None = None) -> ResourceError:
        """An error after which nothing more can be read."""
        return ResourceError(code, message, place=self.resource.where(self.at if place is None else place))

    def report(self, code: str, message: str, place: int) -> None:
        """Something wrong that reading survives."""
        self._report(code, message, self.resource.where(place))

    # --- primitives

    def take(self, code: str) -> Any:
        """One number of a struct code."""
        layout = self.endian + code
        size = struct.calcsize(layout)
        if self.at + size > len(self.view):
            raise self.error("binary.truncated", "the resource ends in the middle of a number")
        (value,) = struct.unpack_from(layout, self.view, self.at)
        self.at += size
        return value

    def bytes(self, count: int, what: str) -> memoryview:
        """The next bytes, without a copy."""
        if count > len(self.view) - self.at:
            raise self.error("binary.truncated", f"{what} of {count:,} bytes leaves the resource")
        piece = self.view[self.at : self.at + count]
        self.at += count
        return piece

    def string(self, length: int | None = None) -> str:
        """A string with its length before it; a single NUL at the end is not part of it."""
        start = self.at
        raw = bytes(self.bytes(int(self.take("I")) if length is None else length, "a string"))
        text = raw[:-1] if raw.endswith(b"\0") else raw
        if b"\0" in text:
            # The engine reads up to the NUL; nothing honest stands behind it.
            self.report("binary.encoding", f"the string {quote(text)} holds a NUL", start)
            text = text[: text.index(b"\0")]
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError:
            self.report("binary.encoding", f"the string {quote(text)} is not UTF-8", start)
            return text.decode("utf-8", "replace")

    def name(self) -> str:
        """A string of the table, or one that stands here (high bit set)."""
        index = int(self.take("I"))
        if index & 0x80000000:
            return self.string(index & 0x7FFFFFFF)
        if index >= len(self.strings):
            raise self.error("binary.value", f"the string {index:,} of {len(self.strings):,}", self.at - 4)
        return self.strings[index]

    def count(self, what: str, least: int, limit: int) -> int:
        """A count that can be true: `least` bytes for each are there, and the limit holds."""
        number = int(self.take("I"))
        if number > limit:
            raise self.error("binary.too-large", f"{number:,} {what}, the limit is {limit:,}", self.at - 4)
        if number * least > len(self.view) - self.at:
            raise self.error("binary.truncated", f"{number:,} {what} do not fit into the rest", self.at - 4)
        return number

    # --- the file

    def read(self) -> None:
        """Header, tables and body."""
        if len(self.view) > self.limits.bytes:
            raise self.error(
                "binary.too-large", f"it has {len(self.view):,} bytes, the limit is {self.limits.bytes:,}", 0
            )
        flags = self.header()
        self.strings = [self.string() for _ in range(self.count("strings", 4, self.limits.strings))]
        for index in range(self.count("externals", 8, self.limits.strings)):
            place = self.at
            kind, path = self.string(), self.string()
            uid = int(self.take("Q")) if flags & _UIDS else _NO_UID
            self.resource.external.append(ExtResource(str(index), kind, path, _uid(uid), place))
        count = self.count("internals", 12, self.limits.strings)
        table = [(self.string(), int(self.take("Q")) + self.shift) for _ in range(count)]
        if not table:
            raise self.error("binary.structure", "there is no resource in the file")
        self.body(table, named=bool(flags & _NAMED_IDS))

    def header(self) -> int:
        """Everything up to the tables; the flags of Godot 4, 0 for Godot 3."""
        big = self.take("I")
        if big not in (0, 1, 1 << 24):
            self.report("binary.structure", f"the byte order is {big:#x}", 4)
        self.take("I")  # a hint that engines write and ignore
        if big:
            self.endian = ">"
        major, minor, form = (int(self.take("I")) for _ in range(3))
        self.resource.engine, self.resource.format = (major, minor), form
        if not (major in (2, 3) and 1 <= form <= 3) and not (major == 4 and 3 <= form <= 6):
            raise self.error("binary.bad-version", f"format {form} of Godot {major}.{minor}", 12)
        self.resource.type = self.string()
        self.take("Q")
        if major < 4:
            self.bytes(56, "the header")
            return 0
        flags = int(self.take("I"))
        uid = int(self.take("Q"))
        self.resource.uid = _uid(uid) if flags & _UIDS else ""
        if flags & ~(_NAMED_IDS | _UIDS | _DOUBLES | _SCRIPT_CLASS):
            raise self.error("binary.bad-version", f"the header has the flags {flags:#x}")
        if flags & _DOUBLES:
            self.real = "d"
        if flags & _SCRIPT_CLASS:
            self.resource.script_class = self.string()
        self.bytes(44, "the header")
        return flags

    def body(self, table: list[tuple[str, int]], *, named: bool) -> None:
        """All internals, which have to be where the table says, one behind the other."""
        start = self.at
        self.sub_ids = [path.removeprefix(_LOCAL) for path, _ in table]
        if len(set(self.sub_ids)) < len(table):
            self.report("binary.structure", "two internal resources have the same path", start)
        if named:
            self.lookup = {str(index): name for index, name in enumerate(self.sub_ids)}
        else:
            self.lookup = {name: name for name in self.sub_ids}
        spans: list[tuple[int, int]] = []
        for number, (path, offset) in enumerate(table):
            if number < len(table) - 1 and not path.startswith(_LOCAL):
                # The engine caches an internal resource under its path, in the place of the file of that name.
                self.report("binary.structure", f"an internal resource takes the path {quote(path)}", start)
            if not start <= offset < len(self.view):
                raise self.error("binary.structure", f"the internal resource {quote(path)} is at {offset:#x}")
            self.at = offset
            kind = self.string()
            if number < len(table) - 1:
                part = SubResource(self.sub_ids[number], kind, [], offset)
                self.resource.internal.append(part)
                self.properties(part.properties)
            else:
                if kind != self.resource.type:
                    self.report(
                        "binary.structure", f"the header says {quote(self.resource.type)}, it is {quote(kind)}", offset
                    )
                self.resource.type = kind
                self.properties(self.resource.properties)
            spans.append((offset, self.at))
        reached = start
        for begin, end in sorted(spans):
            if begin < reached:
                self.report("binary.structure", "two internal resources share bytes", begin)
            elif begin > reached:
                self.report("binary.structure", f"{begin - reached:,} bytes belong to nothing", reached)
            reached = max(reached, end)
        if bytes(self.view[reached:]) not in (b"", MAGIC):
            self.report("binary.structure", f"{len(self.view) - reached:,} bytes follow after the end", reached)

    def properties(self, into: list[Property]) -> None:
        """The properties of one internal resource, one by one: an error leaves those before it."""
        for _ in range(self.count("properties", 8, self.limits.values)):
            place = self.at
            name = self.name()
            if not name:
                self.report("binary.value", "a property has no name", place)
            into.append(Property(name, self.value(), place))

    # --- values

    def value(self) -> Value:
        """One variant with everything in it."""
        stack: list[_Open] = []
        while True:
            self.values += 1
            if self.values > self.limits.values:
                raise self.error("binary.too-large", f"there are more than {self.limits.values:,} values")
            begun = self.begin()
            if isinstance(begun, _Open):
                if len(stack) >= self.limits.depth:
                    raise self.error("binary.too-deep", f"values are nested more than {self.limits.depth} deep")
                if begun.left:
                    stack.append(begun)
                    continue
                begun = begun.finished()
            value = begun
            while stack:
                top = stack[-1]
                top.items.append(value)
                top.left -= 1
                if top.left:
                    break
                value = stack.pop().finished()
            else:
                return value

    def begin(self) -> Value | _Open:
        """A variant without parts, or the beginning of an array or a dictionary."""
        place = self.at
        kind = int(self.take("I"))
        old = (self.resource.engine or (4, 0))[0] < 4
        if kind in (_GODOT_4_ONLY if old else _GODOT_3_ONLY):
            raise self.error("binary.value", f"the variant {kind} is of another engine", place)
        if kind in _FIXED:
            name, count, code = _FIXED[kind]
            return Construct(name, place, self.numbers(count, code))
        if kind in _PACKED:
            return self.packed(*_PACKED[kind], place)
        match kind:
            case 1:
                return None
            case 2:
                return bool(self.take("I"))
            case 3:
                return int(self.take("i"))
            case 4:
                return float(self.take(self.real))
            case 5:
                return self.string()
            case 21:
                return self.image(place)
            case 22:
                return self.node_path()
            case 23:
                return Construct("RID", place, args=(int(self.take("I")),))
            case 24:
                return self.object(place)
            case 26 | 30:
                pairs = kind == 26
                count = self.shared_count(8 if pairs else 4)
                return _Open(count * 2 if pairs else count, pairs, place)
            case 34:
                count = self.count("strings", 4, self.limits.values - self.values)
                self.values += count
                return Construct("PackedStringArray", place, args=tuple(self.string() for _ in range(count)))
            case 40:
                return int(self.take("q"))
            case 41:
                return float(self.take("d"))
            case 42 | 43:
                return Construct("Callable" if kind == 42 else "Signal", place)
            case 44:
                return StringName(self.string())
            case _:
                raise self.error("binary.value", f"the variant {kind} is unknown", place)

    def shared_count(self, least: int) -> int:
        """The length of an array or a dictionary; its high bit says that it is shared."""
        number = int(self.take("I")) & 0x7FFFFFFF
        if number * least > len(self.view) - self.at:
            raise self.error("binary.truncated", f"{number:,} items do not fit into the rest", self.at - 4)
        return number

    def numbers(self, count: int, code: str) -> Numbers:
        """Numbers as they stand in the file."""
        code = self.real if code == "r" else code
        return Numbers(self.bytes(count * struct.calcsize("<" + code), "a list of numbers"), self.endian + code)

    def packed(self, name: str, parts: int, code: str, place: int) -> Construct:
        """A packed array."""
        count = int(self.take("I"))
        numbers = self.numbers(count * parts, code)
        if code == "B":
            self.bytes(-count % 4, "the padding of an array")
        return Construct(name, place, numbers)

    def node_path(self) -> NodePath:
        """Names, then subnames, each of the string table."""
        names = int(self.take("H"))
        rest = int(self.take("H"))
        subnames = rest & 0x7FFF
        if self.resource.format < 3:
            subnames += 1
        place = self.at
        parts: list[str] = ["/"] if rest & 0x8000 else []
        length = 0
        for number in range(names + subnames):
            part = self.name()
            length += len(part) + 1
            if length > self.limits.path_bytes:
                raise self.error("binary.too-large", "a node path is too long", place)
            parts += (":" if number >= names else "/" if number else "", part)
        return NodePath("".join(parts))

    def object(self, place: int) -> Value:
        """A reference to a resource, or nothing."""
        kind = int(self.take("I"))
        if kind == 0:
            return None
        if kind == 1:
            of, path = self.string(), self.string()
            return ResourceRef(path, "", place, of)
        index = int(self.take("I"))
        if kind == 2:
            key = self.lookup.get(str(index))
            if key is None:
                raise self.error("binary.value", f"the internal resource {index:,} is not in the file", place)
            return SubRef(key, place)
        if kind == 3:
            if index >= len(self.resource.external):
                raise self.error("binary.value", f"the external resource {index:,} is not in the table", place)
            return ExtRef(str(index), place)
        raise self.error("binary.value", f"the object type {kind:,} is unknown", place)

    def image(self, place: int) -> Construct:
        """An image as Godot 2 wrote them inline, and Godot 3 still reads them."""
        encoding = int(self.take("I"))
        if encoding == 0:
            return Construct("Image", place)
        if encoding == 1:
            for _ in range(4):
                self.take("I")
        elif encoding > 3:
            raise self.error("binary.value", f"the image encoding {encoding:,} is unknown", place)
        count = int(self.take("I"))
        data = self.bytes(count, "an image")
        self.bytes(-count % 4, "the padding of an image")
        return Construct("Image", place, Numbers(data, "<B"))


def _uid(number: int) -> str:
    return "" if number in (_NO_UID, 0) else f"{number:#x}"
