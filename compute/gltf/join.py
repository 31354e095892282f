"""Fewer draw calls: primitives with the same material become one, and so do nodes that nobody can tell apart.

A viewer spends about as much on a draw call as on some ten thousand triangles. What joining takes away is the choice to
hide, move, pick or cull the parts: it is never done unless asked for, and never to what has a name (unless that is
asked for, too), extras, an extension, or is moved by anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cloudbaker.canonical import canonical_json
from cloudbaker.compute.gltf.dedup import opaque
from cloudbaker.compute.gltf.document import ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER, Array, Document, dequantized
from cloudbaker.compute.gltf.facts import triangles_of
from cloudbaker.compute.gltf.nodes import TRANSFORM, Nodes, local
from cloudbaker.compute.gltf.primitives import (
    TRIANGLE_FAN,
    TRIANGLES,
    accessors_of,
    index_array,
    triangle_list,
)
from cloudbaker.compute.gltf.references import Json
from cloudbaker.compute.gltf.transforms import determinant, inverse, product

_DIRECTIONS = ("NORMAL", "TANGENT")
_VARIANTS = "KHR_materials_variants"


@dataclass(frozen=True, slots=True)
class JoinOptions:
    """What may be joined."""

    nodes: bool = True
    """Also meshes of different nodes; without, only primitives of one mesh."""
    keep_named: bool = True
    """Nodes and meshes with a name stay what they are. Without this a node's name stays behind on an empty node, and
    that of its mesh is lost."""
    copies: bool = False
    """Also where vertices that several meshes share would have to be copied: the file grows."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Primitives that the nodes of the document draw."""

    before: int
    after: int


def join(document: Document, options: JoinOptions = JoinOptions()) -> Joined:
    """Join primitives and nodes in place; what they used before is left for `prune`. The document must be decoded.

    Joined are triangles with the same material (in every variant), attributes of the same types and no morph targets.
    Nodes must have the same parent (see `flatten`) and a mesh of their own that uses the same materials; the first
    takes all of it in, moved to where it was seen. All nodes keep their numbers. Does nothing where an unknown
    extension may hold numbers of nodes.

    >>> join(document)                                                        # doctest: +SKIP
    Joined(before=412, after=36)
    """
    nodes = Nodes(document)
    before = _drawn(document)
    if nodes.pinned:
        return Joined(before, before)
    if options.nodes:
        users = Counter(i for m in document.items("meshes") for p in m["primitives"] for i in p["attributes"].values())
        for numbers in list(_groups(nodes, options)):
            _join_nodes(nodes, numbers, options, users)
        nodes.save()
    for mesh in document.items("meshes"):
        mesh["primitives"] = _join_primitives(document, [(p, np.eye(4)) for p in mesh["primitives"]])
    return Joined(before, _drawn(document))


def _drawn(document: Document) -> int:
    meshes = document.items("meshes")
    return sum(len(meshes[node["mesh"]]["primitives"]) for node in document.items("nodes") if "mesh" in node)


# -- nodes -------------------------------------------------------------------------------------------------------------


def _groups(nodes: Nodes, options: JoinOptions) -> Iterator[list[int]]:
    """Nodes that may be joined with each other, two or more."""
    document = nodes.document
    meshes = document.items("meshes")
    users: dict[int, int] = {}
    for node in nodes.json:
        if "mesh" in node:
            users[node["mesh"]] = users.get(node["mesh"], 0) + 1
    found: dict[object, list[int]] = {}
    for number, node in enumerate(nodes.json):
        if "mesh" not in node or not nodes.is_free(number, keep_named=options.keep_named):
            continue
        mesh = meshes[node["mesh"]]
        if users[node["mesh"]] > 1 or node["mesh"] in nodes.animated_meshes:
            continue  # what several nodes show would have to be copied
        if not mesh.keys() <= {"primitives", *(() if options.keep_named else ("name",))}:
            continue
        keys = [_key(document, primitive) for primitive in mesh["primitives"]]
        matrix = local(node)
        if None in keys or not np.isfinite(matrix).all() or not determinant(matrix):
            continue
        found.setdefault((nodes.siblings(number), tuple(sorted({*map(str, keys)}))), []).append(number)
    yield from (numbers for numbers in found.values() if len(numbers) > 1)


def _join_nodes(nodes: Nodes, numbers: Sequence[int], options: JoinOptions, users: Counter[int]) -> None:
    document = nodes.document
    meshes = document.items("meshes")
    first, *others = numbers
    parts = [(primitive, np.eye(4)) for primitive in meshes[nodes.json[first]["mesh"]]["primitives"]]
    back = inverse(local(nodes.json[first]))
    for number in others:
        node = nodes.json[number]
        same = all(node.get(key) == nodes.json[first].get(key) for key in TRANSFORM)
        matrix = np.eye(4) if same else product(back, local(node))
        parts += [(primitive, matrix) for primitive in meshes[node["mesh"]]["primitives"]]
    if not options.copies and _copies(parts, users):
        return
    meshes[nodes.json[first]["mesh"]]["primitives"] = _join_primitives(document, parts)
    for number in others:
        nodes.empty(number)


def _copies(parts: Sequence[tuple[Json, Array]], users: Counter[int]) -> bool:
    """Whether vertices that are stored once would be stored twice: they are used elsewhere, or in two places here."""
    ours = Counter(index for primitive, _ in parts for index in primitive["attributes"].values())
    placed: dict[int, bytes] = {}
    return any(
        ours[index] < users[index] or placed.setdefault(index, matrix.tobytes()) != matrix.tobytes()
        for primitive, matrix in parts
        for index in primitive["attributes"].values()
    )


# -- primitives --------------------------------------------------------------------------------------------------------


def _join_primitives(document: Document, parts: Sequence[tuple[Json, Array]]) -> list[Json]:
    """Primitives, each with the transform to apply, with those of one key joined; in the order of the first of each."""
    groups: dict[object, list[tuple[Json, Array]]] = {}
    for number, (primitive, matrix) in enumerate(parts):
        groups.setdefault(_key(document, primitive) or number, []).append((primitive, matrix))
    return [group[0][0] if len(group) == 1 else _joined(document, group) for group in groups.values()]


def _key(document: Document, primitive: Json) -> str | None:
    """What primitives must have in common to be joined; None where one can't be."""
    extensions = primitive.get("extensions", {})
    if (
        not TRIANGLES <= primitive.get("mode", TRIANGLES) <= TRIANGLE_FAN
        or "POSITION" not in primitive["attributes"]
        or primitive.get("targets")
        or "extras" in primitive
        or not triangles_of(primitive, document.json)
        or not extensions.keys() <= {_VARIANTS}
        or any(opaque(document, index) for index in accessors_of(primitive))
        or any(name.startswith("JOINTS_") for name in primitive["attributes"])
    ):
        return None
    accessors = document.items("accessors")
    forms = {
        name: [accessors[i]["type"], accessors[i]["componentType"], bool(accessors[i].get("normalized"))]
        for name, i in primitive["attributes"].items()
    }
    return canonical_json([primitive.get("material"), forms, extensions]).decode()


def _joined(document: Document, group: Sequence[tuple[Json, Array]]) -> Json:
    """One primitive in place of several with the same key. Vertices that some of them share are there once."""
    first = group[0][0]
    offsets: dict[object, int] = {}
    columns: dict[str, list[Array]] = {name: [] for name in first["attributes"]}
    lists: list[Array] = []
    moves = any(not np.array_equal(matrix, np.eye(4)) for _, matrix in group)
    count = 0
    for primitive, matrix in group:
        accessors = tuple(sorted(primitive["attributes"].items()))
        faces = triangle_list(document, primitive)
        if determinant(matrix) < 0:
            faces = faces[:, ::-1]
        key = (accessors, matrix.tobytes())
        if key not in offsets:
            offsets[key] = count
            for name, index in accessors:
                data = document.accessor(index)
                if moves and name in ("POSITION", *_DIRECTIONS):
                    normalized = bool(document.items("accessors")[index].get("normalized"))
                    data = _moved(name, dequantized(data) if normalized else data, matrix)
                columns[name].append(data)
            count += len(columns["POSITION"][-1])
        lists.append(faces + np.uint32(offsets[key]))
    stored = document.items("accessors")
    attributes = {}
    for name, index in first["attributes"].items():
        data = np.concatenate(columns[name])
        normalized = data.dtype.kind != "f" and bool(stored[index].get("normalized"))
        attributes[name] = document.add_accessor(
            data, like=index, normalized=normalized, bounds=name == "POSITION", target=ARRAY_BUFFER
        )
    indices = document.add_accessor(
        index_array(np.concatenate(lists), count), like=first.get("indices"), target=ELEMENT_ARRAY_BUFFER
    )
    kept = {key: value for key, value in first.items() if key != "mode"}
    return {**kept, "attributes": attributes, "indices": indices}


def _moved(name: str, data: Array, matrix: Array) -> Array:
    """Places or directions as float32, transformed."""
    if np.array_equal(matrix, np.eye(4)):
        return data.astype(np.float32, copy=False)
    values = data.astype(np.float64)
    if name == "POSITION":
        return np.asarray(product(values, matrix[:3, :3].T) + matrix[:3, 3], np.float32)
    turned = product(values[:, :3], inverse(matrix)[:3, :3] if name == "NORMAL" else matrix[:3, :3].T)
    length = np.sqrt((turned * turned).sum(axis=1, keepdims=True))
    turned = np.divide(turned, length, out=turned, where=length > 0)
    if name == "TANGENT":  # the bitangent is what w times the cross product gives, which a mirror turns around
        side = values[:, 3:] * (-1 if determinant(matrix) < 0 else 1)
        turned = np.concatenate([turned, side], axis=1)
    return np.asarray(turned, np.float32)
