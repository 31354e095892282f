"""Levels of detail in one file by MSFT_lod, for the engines that read it (Babylon.js): an extra file, on request.

Each node that shows a mesh gets nodes with the simpler meshes in its ``ids``, and from which screen coverage on each is
enough in ``extras.MSFT_screencoverage``. The simpler nodes are in no scene; a viewer that does not know the extension
shows the full model. Materials, textures and skins are shared by all levels.

Source: MSFT_lod in the Khronos glTF extension registry (vendor extensions).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cloudbaker.compute.gltf.document import ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER, Document
from cloudbaker.compute.gltf.facts import triangles_of
from cloudbaker.compute.gltf.measure import FIELD_OF_VIEW, node_scales
from cloudbaker.compute.gltf.references import Json

MSFT_LOD = "MSFT_lod"
ASPECT = 16 / 9
"""Width over height of the view that coverages are counted in."""
_OWN = ("translation", "rotation", "scale", "matrix", "skin")
"""What a level's node has in common with the node that it stands for."""


@dataclass(frozen=True, slots=True)
class Level:
    """A level of detail: another document with the same nodes and meshes."""

    document: Document
    """Decoded, its geometry simpler."""
    distance: float
    """From how far away (scene units) it is enough."""


@dataclass(frozen=True, slots=True)
class Levelled:
    """What came of it."""

    nodes: int
    """Nodes that have levels now."""
    left: int
    """Nodes whose levels could not follow them: they are animated, or have children, which a level would hide."""


def msft_lod(document: Document, levels: Sequence[Level]) -> Levelled:
    """Put the levels, finest first, into a decoded `document` as MSFT_lod. What both share is left for `dedup`.

    Raises ValueError where a level's nodes are not the document's.
    """
    nodes = document.items("nodes")
    if any(len(level.document.items("nodes")) != len(nodes) for level in levels):
        raise ValueError("a level of detail must have the nodes of the document")
    moved = _moved(document)
    scales = node_scales(document)
    copies: list[dict[int, int]] = [{} for _ in levels]
    done = left = 0
    for number in range(len(nodes)):
        node = nodes[number]
        if "mesh" not in node or MSFT_LOD in node.get("extensions", {}):
            continue
        chosen = _simpler(document, levels, number)
        if not chosen:
            continue
        if node.get("children") or number in moved:
            left += 1
            continue
        reach = _radius(document, node["mesh"]) * scales.get(number, 1.0)
        ids = []
        for at in chosen:
            mesh = _copied_mesh(document, levels[at].document, number, copies[at])
            name = {"name": f"{node['name']} lod{at + 1}"} if "name" in node else {}
            nodes.append({**name, **{key: node[key] for key in _OWN if key in node}, "mesh": mesh})
            ids.append(len(nodes) - 1)
        node.setdefault("extensions", {})[MSFT_LOD] = {"ids": ids}
        extras = node.get("extras", {})
        if isinstance(extras, dict):
            # The last is where nothing is shown any more: never.
            covers = [screen_coverage(reach, levels[at].distance) for at in chosen]
            node["extras"] = {**extras, "MSFT_screencoverage": [*covers, 0.0]}
        done += 1
    if done:
        used = document.json.setdefault("extensionsUsed", [])
        if MSFT_LOD not in used:
            used.append(MSFT_LOD)
    return Levelled(done, left)


def without_levels(document: Document) -> Document:
    """The document as it was before `msft_lod`, but for what nobody points at any more: to be compared by."""
    plain = document.clone()
    for node in plain.items("nodes"):
        if MSFT_LOD not in node.get("extensions", {}):
            continue
        del node["extensions"][MSFT_LOD]
        if isinstance(node.get("extras"), dict):
            node["extras"].pop("MSFT_screencoverage", None)
        for key in ("extensions", "extras"):
            if key in node and not node[key]:
                del node[key]
    used = [name for name in plain.json.get("extensionsUsed", ()) if name != MSFT_LOD]
    plain.json["extensionsUsed"] = used
    if not used:
        del plain.json["extensionsUsed"]
    return plain


def screen_coverage(radius: float, distance: float) -> float:
    """Part of a 16:9 view of 50° that a ball of this radius fills at a distance (same units), 0 to 1."""
    if distance <= radius:
        return 1.0
    height = radius / (distance * math.tan(FIELD_OF_VIEW / 2))  # of the ball, as part of the view's
    return float(f"{min(1.0, math.pi / 4 * height * height / ASPECT):.3g}")


def _moved(document: Document) -> set[int]:
    """Nodes that an animation moves: a level's node, which no channel names, would stay behind. Joints among them."""
    return {
        channel["target"]["node"]
        for animation in document.items("animations")
        for channel in animation.get("channels", ())
        if "node" in channel.get("target", {})
    }


def _simpler(document: Document, levels: Sequence[Level], number: int) -> list[int]:
    """The levels in which a node's mesh has fewer triangles than in the one before."""
    chosen: list[int] = []
    before = _triangles(document, number)
    for at, level in enumerate(levels):
        now = _triangles(level.document, number)
        if now < before:
            chosen.append(at)
            before = now
    return chosen


def _triangles(document: Document, number: int) -> int:
    mesh = document.items("meshes")[document.items("nodes")[number]["mesh"]]
    return sum(triangles_of(primitive, document.json) for primitive in mesh.get("primitives", ()))


def _radius(document: Document, mesh: int) -> float:
    """Half the diagonal of a mesh's box, in its own units."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for primitive in document.items("meshes")[mesh].get("primitives", ()):
        if "POSITION" in primitive.get("attributes", {}):
            places = document.accessor(primitive["attributes"]["POSITION"], dequantize=True)
            low, high = np.minimum(low, places.min(axis=0)), np.maximum(high, places.max(axis=0))
    return float(np.linalg.norm(high - low)) / 2 if (low <= high).all() else 0.0


def _copied_mesh(document: Document, level: Document, number: int, copies: dict[int, int]) -> int:
    """The mesh of a level's node, with its data, in the document; its number there."""
    mesh = level.items("nodes")[number]["mesh"]
    if mesh in copies:
        return copies[mesh]
    source = level.items("meshes")[mesh]
    full = document.items("meshes")[document.items("nodes")[number]["mesh"]]
    made: dict[int, int] = {}
    primitives = []
    # Materials and extensions are the full mesh's: a level's document may number them in another way.
    for ours, theirs in zip(full["primitives"], source["primitives"], strict=True):
        primitive: Json = {key: value for key, value in ours.items() if key not in ("attributes", "indices", "targets")}
        primitive.pop("mode", None)
        if "mode" in theirs:
            primitive["mode"] = theirs["mode"]
        primitive["attributes"] = {k: _copied(document, level, i, made) for k, i in theirs["attributes"].items()}
        if "indices" in theirs:
            primitive["indices"] = _copied(document, level, theirs["indices"], made, target=ELEMENT_ARRAY_BUFFER)
        if "targets" in theirs:
            primitive["targets"] = [
                {k: _copied(document, level, i, made) for k, i in target.items()} for target in theirs["targets"]
            ]
        primitives.append(primitive)
    document.items("meshes").append({**{k: v for k, v in full.items() if k != "primitives"}, "primitives": primitives})
    copies[mesh] = len(document.items("meshes")) - 1
    return copies[mesh]


def _copied(
    document: Document, level: Document, index: int, made: dict[int, int], *, target: int = ARRAY_BUFFER
) -> int:
    if index not in made:
        item: dict[str, Any] = level.items("accessors")[index]
        made[index] = document.add_accessor(
            level.accessor(index),
            normalized=bool(item.get("normalized")),
            bounds="min" in item,
            target=target,
            type=item["type"],
        )
    return made[index]
