"""EXT_mesh_gpu_instancing: nodes that only repeat a mesh become one node that draws it many times.

A thousand trees are one draw call instead of a thousand, and 40 bytes a tree instead of a node's 120 of JSON. What it
costs: the trees can't be found or moved one by one any more (a picked one is known by its instance's number).

Source: EXT_mesh_gpu_instancing in the Khronos glTF extension registry.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cloudbaker.canonical import canonical_json
from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.nodes import TRANSFORM, Nodes, local
from cloudbaker.compute.gltf.transforms import decomposed

EXTENSION = "EXT_mesh_gpu_instancing"


@dataclass(frozen=True, slots=True)
class InstanceOptions:
    """What is worth it."""

    least: int = 5
    """Fewer nodes than this stay nodes."""
    keep_named: bool = True
    """A node with a name stays a node, and meshes that differ in their names are not the same. Without this a node's
    name stays behind on an empty node where it was, and the first mesh stands for the others."""


@dataclass(frozen=True, slots=True)
class Instanced:
    """What came of it."""

    nodes: int
    """That are instances now."""
    batches: int
    """Nodes that draw them."""


def instance(document: Document, options: InstanceOptions = InstanceOptions()) -> Instanced:
    """Draw nodes that show the same mesh below the same parent as instances, in place.

    Taken are nodes without children, extras and extensions that nothing moves, and of meshes without morph targets.
    Mirrored and sheared ones stay, since a renderer turns no triangle around for a single instance. Instances are in
    the order of their nodes, the first of which draws them. All nodes keep their numbers. Does nothing where an unknown
    extension may hold numbers of nodes.

    >>> instance(document)                                                    # doctest: +SKIP
    Instanced(nodes=125, batches=1)
    """
    nodes = Nodes(document)
    done = batches = 0
    if nodes.pinned:
        return Instanced(0, 0)
    for numbers in _repeats(nodes, options).values():
        parts = {number: decomposed(local(nodes.json[number])) for number in numbers}
        fit = {number: found for number, found in parts.items() if found is not None and (found[2] > 0).all()}
        if len(fit) < max(options.least, 2):
            continue
        first, *others = fit
        columns = [np.array(column, np.float32) for column in zip(*fit.values(), strict=True)]
        attributes = {
            name: document.add_accessor(column)
            for name, column, default in zip(
                ("TRANSLATION", "ROTATION", "SCALE"), columns, ((0, 0, 0), (0, 0, 0, 1), (1, 1, 1)), strict=True
            )
            if np.abs(column - default).max() > 1e-7
        }
        # Nodes in one and the same place still are as many: the extension needs an attribute to count by.
        attributes = attributes or {"TRANSLATION": document.add_accessor(columns[0])}
        for key in TRANSFORM:
            nodes.json[first].pop(key, None)
        nodes.json[first]["extensions"] = {EXTENSION: {"attributes": attributes}}
        for number in others:
            nodes.empty(number)
        done += len(fit)
        batches += 1
    nodes.save()
    if batches:
        document.declare(EXTENSION, required=True)
    return Instanced(done, batches)


def _repeats(nodes: Nodes, options: InstanceOptions) -> dict[object, list[int]]:
    """Candidates that show the same mesh below the same parent."""
    found: dict[object, list[int]] = {}
    meshes = nodes.document.items("meshes")
    drawn: dict[int, bytes] = {}
    for number, node in enumerate(nodes.json):
        if "mesh" not in node or nodes.has_children(number) or not nodes.is_free(number, keep_named=options.keep_named):
            continue
        mesh = meshes[node["mesh"]]
        if node["mesh"] in nodes.animated_meshes or any("targets" in p for p in mesh["primitives"]):
            continue
        if node["mesh"] not in drawn:
            said = mesh if options.keep_named else {key: value for key, value in mesh.items() if key != "name"}
            drawn[node["mesh"]] = canonical_json(said)
        found.setdefault((drawn[node["mesh"]], nodes.siblings(number)), []).append(number)
    return found
