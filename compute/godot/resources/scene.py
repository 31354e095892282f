"""Packed scenes inside resources: the bundle of ``PackedScene``, as nodes and connections.

A saved binary scene is a resource with one property, ``_bundled``: names, values and a list of numbers that says which
node has which (``SceneState::set_bundled_scene`` in the engine's ``packed_scene.cpp``). A text resource may hold the
same, so that a scene can hide in a ``.tres``; here it becomes nodes and connections like those of any ``.tscn``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from cloudbaker.compute.godot.resources.tree import (
    ArrayValue,
    Connection,
    Construct,
    DictValue,
    Node,
    Property,
    Resource,
    Value,
)

Report = Callable[[str, str, int], None]
T = TypeVar("T")

_NO_TYPE = 0x7FFFFFFF
_PLACEHOLDER = 1 << 30
_INSTANCE_MASK = (1 << 24) - 1
_NAME_BITS = 18
_PATH_PROPERTY = 1 << 30
_NO_PARENT = 0x7FFFFFFF
_ID_IS_PATH = 1 << 30
_ID_MASK = (1 << 24) - 1
_MAX_PATH = 4096
"""Bytes of a node's path: a chain of 100,000 nodes would have paths of 10 GB."""
_MAX_NUMBERS = 2_000_000


class _BadBundle(Exception):
    """Something points at nothing."""


def read_bundles(resource: Resource, report: Report) -> None:
    """Add the nodes and connections of every bundle in a resource to it. A damaged one is ``scene.bundle``."""
    for owner, held in list(resource.assignments()):
        if held.name == "_bundled" and owner == "PackedScene":
            if not isinstance(held.value, DictValue):
                report("scene.bundle", "a scene's bundle is no dictionary", held.place)
                continue
            try:
                nodes, connections, editable = _read(held.value, held.place)
            except _BadBundle as problem:
                report("scene.bundle", str(problem), held.place)
                continue
            resource.nodes += nodes
            resource.connections += connections
            resource.editable += editable


def _read(bundle: DictValue, place: int) -> tuple[list[Node], list[Connection], list[str]]:
    keys = [key for key, _ in bundle.items]
    if any(type(key) is not str for key in keys) or len(set(map(str, keys))) < len(keys):
        # Which of two equal keys counts, and whether &"nodes" equals "nodes", depends on the engine's version.
        raise _BadBundle("the keys of the bundle are no strings, or one is there twice")
    names = _strings(bundle.get("names"))
    variants = bundle.get("variants")
    values = variants.items if isinstance(variants, ArrayValue) else []
    paths = _strings(bundle.get("node_paths"))
    version = bundle.get("version")
    if version is not None and not isinstance(version, int):
        raise _BadBundle("the version is no whole number")
    numbers = _Cursor(_integers(bundle.get("nodes")), "nodes")
    nodes: list[Node] = []
    tree: list[str] = []  # the path of each node
    for _ in range(_count(bundle.get("node_count"), numbers, 6, "nodes")):
        node = _node(numbers, names, values, paths, tree, place)
        nodes.append(node)
        tree.append("." if not node.parent else node.name if node.parent == "." else f"{node.parent}/{node.name}")
        if len(tree[-1]) > _MAX_PATH:
            raise _BadBundle("nodes are nested too deeply")
    numbers.done()
    if nodes and isinstance(base := bundle.get("base_scene"), int) and base >= 0:
        nodes[0].instance = _pick(values, base, "the base scene")
    wires = _Cursor(_integers(bundle.get("conns")), "connections")
    count = _count(bundle.get("conn_count"), wires, 6, "connections")
    unbinds = isinstance(version, int) and version >= 3
    connections = [_connection(wires, names, values, tree, paths, place, unbinds=unbinds) for _ in range(count)]
    wires.done()
    return nodes, connections, _strings(bundle.get("editable_instances"))


class _Cursor:
    """Numbers, read one after the other."""

    def __init__(self, numbers: Sequence[int], what: str) -> None:
        self.numbers, self.what, self.at = numbers, what, 0

    def next(self) -> int:
        if self.at >= len(self.numbers):
            raise _BadBundle(f"the list of {self.what} ends too early")
        self.at += 1
        return self.numbers[self.at - 1]

    def done(self) -> None:
        if self.at != len(self.numbers):
            raise _BadBundle(f"the list of {self.what} goes on after the last one")


def _node(
    numbers: _Cursor, names: list[str], values: list[Value], paths: list[str], tree: list[str], place: int
) -> Node:
    parent, _owner, kind, name, instance = (numbers.next() for _ in range(5))
    properties = []
    for _ in range(_size(numbers)):
        key, value = numbers.next(), numbers.next()
        properties.append(
            Property(_pick(names, key & (_PATH_PROPERTY - 1), "a name"), _pick(values, value, "a value"), place)
        )
    groups = tuple(_pick(names, numbers.next(), "a name") for _ in range(_size(numbers)))
    shown: Value = None
    placeholder = ""
    if instance >= 0:
        held = _pick(values, instance & _INSTANCE_MASK, "an instance")
        if instance & _PLACEHOLDER:
            placeholder = str(held) if isinstance(held, str) else ""
        else:
            shown = held
    return Node(
        _pick(names, name & ((1 << _NAME_BITS) - 1), "a name"),
        "" if kind == _NO_TYPE else _pick(names, kind, "a type"),
        _parent(parent, paths, tree),
        shown,
        placeholder,
        groups,
        [],
        properties,
        place,
        bundled=True,
    )


def _parent(parent: int, paths: list[str], tree: list[str]) -> str:
    if parent in (-1, _NO_PARENT):
        return ""
    if parent >= 0 and parent & _ID_IS_PATH:
        return _pick(paths, parent & _ID_MASK, "a path")
    return _pick(tree, parent, "a parent")


def _connection(
    wires: _Cursor,
    names: list[str],
    values: list[Value],
    tree: list[str],
    paths: list[str],
    place: int,
    *,
    unbinds: bool,
) -> Connection:
    source, target, signal, method, _flags = (wires.next() for _ in range(5))
    binds = [_pick(values, wires.next(), "a bind") for _ in range(_size(wires))]
    if unbinds:
        wires.next()

    def end(number: int) -> str:
        if number >= 0 and number & _ID_IS_PATH:
            return _pick(paths, number & _ID_MASK, "a path")
        return _pick(tree, number, "a node")

    return Connection(
        end(source),
        end(target),
        _pick(names, signal, "a signal"),
        _pick(names, method, "a method"),
        ArrayValue(binds, place) if binds else None,
        [],
        place,
        bundled=True,
    )


def _size(numbers: _Cursor) -> int:
    count = numbers.next()
    if not 0 <= count <= len(numbers.numbers) - numbers.at:
        raise _BadBundle(f"a count in the list of {numbers.what} is {count}")
    return count


def _count(value: Value, numbers: _Cursor, least: int, what: str) -> int:
    if value is None:
        value = 0
    if not isinstance(value, int) or not 0 <= value <= len(numbers.numbers) // least:
        raise _BadBundle(f"the number of {what} does not fit their list")
    return value


def _pick(items: Sequence[T], index: int, what: str) -> T:
    if not 0 <= index < len(items):
        raise _BadBundle(f"{what} has the index {index}, there are {len(items)}")
    return items[index]


def _items(value: Value) -> Sequence[Value]:
    if isinstance(value, ArrayValue):
        return value.items
    return value.args if isinstance(value, Construct) else ()


def _strings(value: Value) -> list[str]:
    items = _items(value)
    if not all(isinstance(item, str) for item in items):
        raise _BadBundle("a list of strings holds something else")
    return [str(item) for item in items]


def _integers(value: Value) -> list[int]:
    if value is None:
        return []
    found: Sequence[Value] = ()
    if isinstance(value, ArrayValue):
        found = value.items
    elif isinstance(value, Construct) and value.numbers is not None and len(value.numbers) <= _MAX_NUMBERS:
        found = value.numbers.values()
    else:
        raise _BadBundle("the bundle's lists are no lists of numbers, or too long")
    whole = [item for item in found if isinstance(item, int) and -(1 << 31) <= item < 1 << 32]
    if len(whole) < len(found):
        raise _BadBundle("the bundle's lists hold something else than whole numbers")
    return whole
