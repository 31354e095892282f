"""The node tree: a strict forest, as the specification asks (3.5.2), without cycles, shared nodes or bottomless depth.

One parent per node is also what keeps a small file from drawing 2^30 copies of a mesh. Linear in nodes and edges, and
without recursion. One known optimizer turns cyclic nodes into a file with "0 errors"; another hangs.
"""

from __future__ import annotations

from typing import Any

from cloudbaker.compute.gltf.findings import Findings
from cloudbaker.compute.gltf.limits import ContentLimits


def check_graph(document: dict[str, Any], limits: ContentLimits, findings: Findings) -> None:
    """Check nodes, scenes and skins of a document that has passed `check_schema`."""
    nodes = document.get("nodes", [])
    parents = _parents(nodes, findings)
    _cycles_and_depth(parents, limits, findings)
    _scenes(document, parents, findings)
    for at, node in enumerate(nodes):
        if "matrix" in node and not {"translation", "rotation", "scale"}.isdisjoint(node):
            findings.add(
                "gltf.node-conflict", f"/nodes/{at}", "it has a matrix and also translation, rotation or scale"
            )
        if "skin" in node and "mesh" not in node:
            findings.add("gltf.node-conflict", f"/nodes/{at}", "it has a skin, but no mesh")
    for at, skin in enumerate(document.get("skins", ())):
        if len(set(skin["joints"])) < len(skin["joints"]):
            findings.add("gltf.node-conflict", f"/skins/{at}/joints", "a node is listed twice")


def _parents(nodes: list[dict[str, Any]], findings: Findings) -> list[int]:
    """The parent of each node, -1 for roots."""
    parents = [-1] * len(nodes)
    for at, node in enumerate(nodes):
        for place, child in enumerate(node.get("children", ())):
            if parents[child] >= 0:
                findings.add(
                    "gltf.node-parents",
                    f"/nodes/{at}/children/{place}",
                    f"node {child} is already a child of node {parents[child]}",
                )
            else:
                parents[child] = at
    return parents


def _cycles_and_depth(parents: list[int], limits: ContentLimits, findings: Findings) -> None:
    depths = [0] * len(parents)  # 0: not known yet; -1: on the way at present
    deepest, deepest_at = 0, 0
    for start in range(len(parents)):
        way = []
        at = start
        while at >= 0 and depths[at] == 0:
            depths[at] = -1
            way.append(at)
            at = parents[at]
        if at >= 0 and depths[at] == -1:
            findings.add("gltf.node-cycle", f"/nodes/{at}", f"node {at} is its own ancestor")
            depth = 1
        else:
            depth = depths[at] if at >= 0 else 0
        for node in reversed(way):
            depth += 1
            depths[node] = depth
        if depth > deepest:
            deepest, deepest_at = depth, start
    if deepest > limits.node_depth:
        findings.add(
            "gltf.node-too-deep",
            f"/nodes/{deepest_at}",
            f"it is {deepest:,} levels deep, the limit is {limits.node_depth}",
        )


def _scenes(document: dict[str, Any], parents: list[int], findings: Findings) -> None:
    for at, scene in enumerate(document.get("scenes", ())):
        seen: set[int] = set()
        for place, root in enumerate(scene.get("nodes", ())):
            if parents[root] >= 0 or root in seen:
                why = "is listed twice" if root in seen else f"is a child of node {parents[root]}"
                findings.add("gltf.scene-root", f"/scenes/{at}/nodes/{place}", f"node {root} {why}")
            seen.add(root)
