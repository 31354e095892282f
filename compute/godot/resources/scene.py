"""Packed scenes inside resources: the bundle of ``PackedScene``, as nodes and connections.

A saved binary scene is a resource with one property, ``_bundled``: names, values and a list of numbers that says which
node has which (``SceneState::set_bundled_scene`` in the engine's ``packed_scene.cpp``). A text resource may hold the
same, so that a scene can hide in a ``.tres``; here it becomes nodes and connections like those of any ``.tscn``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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

_NO_TYPE = 0x7FFFFFFF
_PLACEHOLDER = 1 << 30
_INSTANCE_MASK = (1 << 24) - 1
_NAME_BITS = 18
_PATH_PROPERTY = 1 << 30
_NO_PARENT = 0x7FFFFFFF
_ID_IS_PATH = 1 << 30
_ID_MASK = (1 << 24) - 1


class _BadBundle(Exception):
    """Something points at nothing."""


def read_bundles(resource: Resource, report: Report) -> None:
    """Add the nodes and connections of every bundle in a resource to it. A damaged one is ``scene.bundle``."""
    for owner, held in list(resource.assignments()):
        if held.name == "_bundled" and owner in ("PackedScene", ""):
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
    names = _strings(bundle.get("names"))
    variants = bundle.get("variants")
    values = variants.items if isinstance(variants, ArrayValue) else []
    paths = [str(p) for p in _items(bundle.get("node_paths")) if isinstance(p, str)]
    version = bundle.get("version")
    numbers = _Cursor(_integers(bundle.get("nodes")), "nodes")
    nodes = [
        _node(numbers, names, values, paths, place)
        for _ in range(_count(bundle.get("node_count"), numbers, 6, "nodes"))
    ]
    numbers.done()
    if nodes and isinstance(base := bundle.get("base_scene"), int) and base >= 0:
        nodes[0].instance = _pick(values, base, "the base scene")
    wires = _Cursor(_integers(bundle.get("conns")), "connections")
    count = _count(bundle.get("conn_count"), wires, 6, "connections")
    unbinds = isinstance(version, int) and version >= 3
    connections = [_connection(wires, names, values, nodes, paths, place, unbinds=unbinds) for _ in range(count)]
    wires.done()
    editable = [str(p) for p in _items(bundle.get("editable_instances")) if isinstance(p, str)]
    return nodes, connections, editable


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


def _node(numbers: _Cursor, names: list[str], values: list[Value], paths: list[str], place: int) -> Node:
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
        _pick(names, name & ((1 << _NAME_BITS) - 1), "a name") if name >= 0 else "",
        "" if kind == _NO_TYPE else _pick(names, kind, "a type"),
        _parent(parent, paths),
        shown,
        placeholder,
        groups,
        [],
        properties,
        place,
    )


def _parent(parent: int, paths: list[str]) -> str:
    if parent in (-1, _NO_PARENT):
        return ""
    if parent >= 0 and parent & _ID_IS_PATH:
        return _pick(paths, parent & _ID_MASK, "a path")
    return f"#{parent}"


def _connection(
    wires: _Cursor,
    names: list[str],
    values: list[Value],
    nodes: list[Node],
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
        return _pick(nodes, number, "a node").name

    return Connection(
        end(source),
        end(target),
        _pick(names, signal, "a signal"),
        _pick(names, method, "a method"),
        ArrayValue(binds, place) if binds else None,
        [],
        place,
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


def _pick(items: Sequence[object], index: int, what: str) -> object:
    if not 0 <= index < len(items):
        raise _BadBundle(f"{what} has the index {index}, there are {len(items)}")
    return items[index]


def _items(value: Value) -> Sequence[Value]:
    if isinstance(value, ArrayValue):
        return value.items
    return value.args if isinstance(value, Construct) else ()


def _strings(value: Value) -> list[str]:
    return [str(item) for item in _items(value)]


def _integers(value: Value) -> list[int]:
    if isinstance(value, Construct) and value.numbers is not None:
        return [int(number) for number in value.numbers.values()]
    if isinstance(value, ArrayValue):
        return [item for item in value.items if isinstance(item, int)]
    if value is None:
        return []
    raise _BadBundle("the bundle's lists are no lists of numbers")
