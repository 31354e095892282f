"""Take meshes out of groups that serve nothing: fewer nodes between a scene and what it shows.

Exporters wrap each mesh into a group or two. What a group is good for stays: animation, skeletons, names by which an
application finds it, extras, extensions. By itself this saves little; it lets `join` and `instance` find more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.nodes import Nodes, local, place
from cloudbaker.compute.gltf.transforms import decomposed, product


@dataclass(frozen=True, slots=True)
class FlattenOptions:
    """What counts as a group that serves nothing."""

    keep_named: bool = True
    """A group with a name is found by it, and keeps what is in it."""


def flatten(document: Document, options: FlattenOptions = FlattenOptions()) -> int:
    """Lift nodes with a mesh as far up as nobody notices, in place; how many were lifted.

    A node stays where it is if something moves it, if it or what is below it belongs to a skeleton, or if its new
    transform would be sheared, which glTF can't say. Where each mesh is seen does not change (but for float32
    rounding). Groups that are left empty are taken out of the scene; all nodes keep their numbers. Does nothing where
    an unknown extension may hold numbers of nodes.

    >>> flatten(document)                                                     # doctest: +SKIP
    12
    """
    nodes = Nodes(document)
    if nodes.pinned:
        return 0
    bony = _with_ancestors(nodes, nodes.bones)
    lifted = 0
    for number, node in enumerate(nodes.json):
        if "mesh" not in node or "skin" in node or number in bony or number in nodes.moving:
            continue
        passed = _passable(nodes, number, options)
        if not passed:
            continue
        matrix = np.eye(4)
        for at in reversed(passed):
            matrix = product(matrix, local(nodes.json[at]))
        parts = decomposed(product(matrix, local(node)))
        if parts is None:
            continue
        top = passed[-1]
        nodes.move(number, nodes.parents[top], top)
        place(node, *parts)
        lifted += 1
        for at in passed:
            if not nodes.has_children(at) and "mesh" not in nodes.json[at]:
                nodes.empty(at)
    nodes.save()
    return lifted


def _passable(nodes: Nodes, number: int, options: FlattenOptions) -> list[int]:
    """The ancestors of a node that it may leave, from the nearest."""
    passed = []
    at = nodes.parents[number]
    while at >= 0 and nodes.is_free(at, keep_named=options.keep_named):
        passed.append(at)
        at = nodes.parents[at]
    return passed


def _with_ancestors(nodes: Nodes, numbers: set[int]) -> set[int]:
    found: set[int] = set()
    for number in numbers:
        at = number
        while at >= 0 and at not in found:
            found.add(at)
            at = nodes.parents[at]
    return found
