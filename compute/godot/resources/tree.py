"""What a Godot resource holds, whichever way it is written: one tree for text and binary, made of plain data.

Nothing here is a Godot object: a value that the engine would turn into a script, an object or a loaded file is kept as
what it says. Values of the engine's own kinds are these:

======================  ================================================================================
``None`` bool int float  as they are (numbers of vectors and arrays stay unconverted, see `Numbers`)
``str``                  a string; `StringName` and `NodePath` are strings with a kind
`Construct`              ``Vector3(…)``, ``Color(…)``, ``PackedByteArray(…)``, ``RID()``, ``Callable()`` …
`ArrayValue`             ``[…]`` and ``Array[T]([…])``
`DictValue`              ``{…}`` and ``Dictionary[K, V]({…})``
`ObjectValue`            ``Object(Type, "property": value)``: an instance made on the spot
`ResourceRef`            a file loaded by its path, from within a value
`ExtRef`, `SubRef`       a reference into the table of external or internal resources
======================  ================================================================================

`place` is the offset in bytes from the file's beginning (of the unpacked stream for compressed resources);
`Resource.where` makes words of it. The classes are not frozen: a scene has a million of them, and a frozen dataclass
takes three times as long to make (1.0 against 0.3 µs).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from cloudbaker.compute.godot.findings import BadContent
from cloudbaker.model import Finding


class ResourceError(BadContent):
    """A resource can't be read, or engines would read it in different ways."""


class StringName(str):
    """``&"text"`` (Godot 3 also ``@"text"``)."""

    __slots__ = ()


class NodePath(str):
    """``NodePath("text")``."""

    __slots__ = ()


class Numbers:
    """Numbers as they stand in the file, converted on demand: a mesh has millions, and nobody asks for most of them.

    Of text, the part between the parentheses; of a binary resource, a view with its struct code (``<f``).
    """

    __slots__ = ("code", "source")

    def __init__(self, source: str | memoryview, code: str = "") -> None:
        self.source = source
        self.code = code

    def __len__(self) -> int:
        if isinstance(self.source, str):
            return self.source.count(",") + 1 if self.source.strip() else 0
        return len(self.source) // _SIZES[self.code[1]]

    def values(self) -> list[float]:
        """All of them: integers where the file has integers."""
        if isinstance(self.source, str):
            return [_number(part) for part in self.source.split(",")] if self.source.strip() else []
        import struct

        return list(struct.unpack(f"{self.code[0]}{len(self)}{self.code[1]}", self.source))

    def __repr__(self) -> str:
        return f"Numbers({len(self)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Numbers) and self.values() == other.values()

    __hash__ = None  # type: ignore[assignment]


_SIZES = {"B": 1, "i": 4, "q": 8, "f": 4, "d": 8}


def _number(text: str) -> float:
    text = text.strip()
    if text == "inf_neg":
        return float("-inf")
    try:
        return int(text)
    except ValueError:
        # The engine reads `1e` and `1e+` as 1.
        return float(text.rstrip("+-").rstrip("e"))


Value: TypeAlias = (
    "bool | int | float | str | Construct | ArrayValue | DictValue | ObjectValue | ResourceRef | ExtRef | SubRef | None"
)


@dataclass(slots=True)
class Construct:
    """A built-in constructor: ``Vector3(0, 1, 0)``. Numeric ones have `numbers`, others `args`."""

    name: str
    place: int
    numbers: Numbers | None = None
    args: tuple[Value, ...] = ()


@dataclass(slots=True)
class ArrayValue:
    """``[…]``; `element_type` is the name or reference between the brackets of ``Array[T]([…])``."""

    items: list[Value]
    place: int
    element_type: Value = None


@dataclass(slots=True)
class DictValue:
    """``{…}`` as pairs in their order, since keys may repeat and need not be strings."""

    items: list[tuple[Value, Value]]
    place: int
    key_type: Value = None
    value_type: Value = None

    def get(self, key: str) -> Value:
        """The last value of a string key (what the engine keeps), or None."""
        found = (value for name, value in reversed(self.items) if type(name) in (str, StringName) and name == key)
        return next(found, None)


@dataclass(slots=True)
class Property:
    """An assignment, in the order of the file: the engine runs the setter of each, also of repeated ones."""

    name: str
    value: Value
    place: int


@dataclass(slots=True)
class ObjectValue:
    """``Object(Type, "name": value, …)``: the engine makes an instance while it reads and runs its setters."""

    type: str
    properties: list[Property]
    place: int


@dataclass(slots=True)
class ResourceRef:
    """A file that the engine loads while it reads the value: ``Resource("path")``, or an inline external."""

    path: str
    uid: str
    place: int
    type: str = ""
    """Only inline externals of binary resources say one."""


@dataclass(slots=True)
class ExtRef:
    """``ExtResource("id")``; for binary resources, the index in `Resource.external` as text."""

    id: str
    place: int


@dataclass(slots=True)
class SubRef:
    """``SubResource("id")``; for binary resources, the id of the `SubResource` it leads to."""

    id: str
    place: int


@dataclass(slots=True)
class ExtResource:
    """A file that the engine loads before anything else."""

    id: str
    type: str
    path: str
    uid: str
    """``uid://…`` or, of a binary resource, ``0x…``; empty where there is none. It wins over the path."""
    place: int


@dataclass(slots=True)
class SubResource:
    """A resource inside this one."""

    id: str
    type: str
    properties: list[Property]
    place: int


@dataclass(slots=True)
class Node:
    """A node of a scene. `type` is empty for instanced and inherited nodes."""

    name: str
    type: str
    parent: str
    """Path from the root (``.`` is the root itself); empty for the root."""
    instance: Value
    """What it is an instance of, or the scene that this one inherits from; None for an ordinary node."""
    instance_placeholder: str
    groups: tuple[str, ...]
    attributes: list[Property]
    """All attributes of the tag as they stand, those above included; empty in a bundle."""
    properties: list[Property]
    place: int
    bundled: bool = False
    """Out of a bundle: its values are also those of the ``_bundled`` that it comes from."""


@dataclass(slots=True)
class Connection:
    """A signal connected to a method: what a scene can *do* without a script."""

    source: str
    target: str
    signal: str
    method: str
    binds: Value
    attributes: list[Property]
    place: int
    bundled: bool = False


@dataclass(slots=True)
class Section:
    """A section of a configuration file; the one before the first header has an empty name."""

    name: str
    properties: list[Property]
    place: int


class Lines:
    """Line numbers of a text, counted in steps: a list of all line feeds would be larger than the text."""

    STEP = 1 << 16

    def __init__(self, text: str) -> None:
        self._text = text
        self._before: list[int] = [0]
        """Line feeds before each step, as far as anybody has asked."""

    def at(self, place: int) -> int:
        """The line of an offset, from 1."""
        step = place // self.STEP
        while len(self._before) <= step:
            start = (len(self._before) - 1) * self.STEP
            self._before.append(self._before[-1] + self._text.count("\n", start, start + self.STEP))
        return self._before[step] + self._text.count("\n", step * self.STEP, place) + 1


@dataclass(slots=True)
class Resource:
    """A resource file. Scenes have nodes; everything else has `properties`."""

    kind: str
    """``text``, ``binary`` or ``config``."""
    type: str
    """Its class; ``PackedScene`` for a scene, empty for a configuration file."""
    format: int = 0
    engine: tuple[int, int] | None = None
    """Major and minor version of the engine that wrote it; text resources don't say."""
    uid: str = ""
    script_class: str = ""
    header: list[Property] = field(default_factory=list)
    """All attributes of the first tag of a text resource, those of others that no such tag has, and
    what was begun where a collecting reader had to end."""
    external: list[ExtResource] = field(default_factory=list)
    internal: list[SubResource] = field(default_factory=list)
    """All but the main one."""
    properties: list[Property] = field(default_factory=list)
    """Of the main resource."""
    nodes: list[Node] = field(default_factory=list)
    """Also those inside the bundles of packed scenes."""
    connections: list[Connection] = field(default_factory=list)
    editable: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    """Of a configuration file."""
    findings: list[Finding] = field(default_factory=list)
    """What a collecting reader found."""
    lines: Lines | None = field(default=None, repr=False, compare=False)
    """Of a text, for `line`."""

    def line(self, place: int) -> int | None:
        """The line of a place, from 1; None for binary resources."""
        return None if self.lines is None else self.lines.at(place)

    def where(self, place: int) -> str:
        """A place in words: ``line 12`` or ``offset 0x40``."""
        return f"offset {place:#x}" if self.lines is None else f"line {self.lines.at(place)}"

    def assignments(self) -> Iterator[tuple[str, Property]]:
        """Every property that the engine sets, with the class it is set on; each before those inside its value.

        ``Object(…)`` inside any value is included: the engine sets its properties just the same. Configuration files
        have the section's name instead of a class.
        """
        for part in self.internal:
            yield from _assignments(part.type, part.properties)
        yield from _assignments(self.type, self.properties)
        for node in self.nodes:
            if node.bundled:
                yield from ((node.type, held) for held in node.properties)
            else:
                yield from _assignments(node.type, node.properties)
        for section in self.sections:
            yield from _assignments(section.name, section.properties)
        for held in self._attributes():
            yield from _inner(held.value)

    def values(self) -> Iterator[Value]:
        """Every value anywhere, once, before its parts: of properties, attributes, arrays, dictionaries, objects."""
        parts = [part.properties for part in self.internal]
        parts += [self.properties, *(node.properties for node in self.nodes if not node.bundled)]
        parts += [section.properties for section in self.sections]
        for properties in parts:
            for held in properties:
                yield from walk(held.value)
        for held in self._attributes():
            yield from walk(held.value)

    def _attributes(self) -> Iterator[Property]:
        """All attributes of tags. Only those of the first tag, of nodes and of connections may be more than text."""
        yield from self.header
        for node in self.nodes:
            yield from node.attributes
        for connection in self.connections:
            yield from connection.attributes


def _assignments(owner: str, properties: list[Property]) -> Iterator[tuple[str, Property]]:
    for held in properties:
        yield owner, held
        yield from _inner(held.value)


def _inner(value: Value) -> Iterator[tuple[str, Property]]:
    if isinstance(value, (ArrayValue, DictValue, ObjectValue)):
        for item in walk(value):
            if isinstance(item, ObjectValue):
                yield from ((item.type, held) for held in item.properties)


def walk(value: Value) -> Iterator[Value]:
    """A value and all values inside it, keys and types of containers included, in the order of the file."""
    stack: list[Value] = [value]
    while stack:
        item = stack.pop()
        yield item
        if isinstance(item, ArrayValue):
            stack.extend(reversed(item.items))
            if item.element_type is not None:
                stack.append(item.element_type)
        elif isinstance(item, DictValue):
            for key, held in reversed(item.items):
                stack += (held, key)
            stack += (t for t in (item.value_type, item.key_type) if t is not None)
        elif isinstance(item, ObjectValue):
            stack.extend(inner.value for inner in reversed(item.properties))
        elif isinstance(item, Construct):
            stack.extend(reversed(item.args))
