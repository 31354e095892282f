"""Skinned and morphed geometry as it stands in an animation: what simplification and compression must not spoil.

A mesh that looks right at rest may tear at an elbow, or lose the lids of its eyes: its error is measured in several
poses. They are moments of the animations, and of the morph targets those that move most, each alone.

Source: glTF 2.0, 3.7.2.2 (morph targets) and 3.7.3.3 (skinned mesh attributes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cloudbaker.compute.gltf.curves import Curve, between, read_curve
from cloudbaker.compute.gltf.document import Array, Document
from cloudbaker.compute.gltf.primitives import Geometry
from cloudbaker.compute.gltf.references import Json

Doubles = npt.NDArray[np.float64]

POSES = 4
"""Moments of animations. Each costs a measurement for each attempt at each primitive."""
TARGETS = 4
"""Morph targets that are looked at alone."""


NODES = 2
"""Nodes that show a mesh with skins of their own: more show the same thing in other places."""


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the nodes are, and how far their meshes are morphed."""

    name: str
    """Of the animation and its time, or of the target."""
    worlds: Sequence[Doubles]
    """For each node its 4 × 4 transform in the scene, column vectors."""
    weights: Mapping[int, Doubles] = field(default_factory=dict)
    """Of morph targets, by node; those of other nodes rest."""
    only: frozenset[int] | None = None
    """Nodes that stand otherwise than in the poses before; None: any may."""


def deforms(document: Document) -> bool:
    """Whether anything in it is skinned or morphed."""
    return bool(document.items("skins")) or any(
        "targets" in primitive for mesh in document.items("meshes") for primitive in mesh.get("primitives", ())
    )


def poses(document: Document, *, moments: int = POSES, targets: int = TARGETS) -> list[Pose]:
    """The poses of a decoded document that its deforming geometry is measured in; empty where nothing deforms.

    The rest pose of skins, then up to `moments` of the animations, spread over all of them and over their length, and
    up to `targets` morph targets of each mesh at weight 1.
    """
    if not deforms(document):
        return []
    found = [Pose("at rest", world_matrices(document))] if document.items("skins") else []
    animations = [animation for animation in document.items("animations") if animation.get("channels")]
    count = min(moments, 2 * len(animations)) if animations else 0
    for number in range(count):
        # One moment of each of as many animations, or several of few. Never the ends: they often are the rest pose.
        chosen = number * len(animations) // count
        turns = [n for n in range(count) if n * len(animations) // count == chosen]
        part = (turns.index(number) + 1) / (len(turns) + 1)
        found.append(_moment(document, animations[chosen], chosen, part))
    found += _targets(document, targets)
    return found


def deform(document: Document, pose: Pose, node: int, geometry: Geometry) -> Array:
    """Positions (n, 3) of a primitive's `geometry` where `node` shows it in a pose.

    `document` is the geometry's; the pose may be of another with the same nodes. Morphed only, positions are in the
    mesh's own space; skinned, in the scene.
    """
    points = geometry.attributes["POSITION"].astype(np.float64)
    if geometry.targets:
        weights = pose.weights.get(node, _rest_weights(document, node))
        for weight, target in zip(weights, geometry.targets, strict=False):
            if weight and "POSITION" in target:
                points = points + weight * target["POSITION"].astype(np.float64)
    skin = document.items("nodes")[node].get("skin")
    if skin is None or "JOINTS_0" not in geometry.attributes:
        return points
    matrices = _joints(document, document.items("skins")[skin], pose)
    blended = np.zeros((len(points), 4, 4))
    total = np.zeros((len(points), 1, 1))
    for name, joints in geometry.attributes.items():
        weights_name = name.replace("JOINTS_", "WEIGHTS_")
        if not name.startswith("JOINTS_") or weights_name not in geometry.attributes:
            continue
        weights = geometry.attributes[weights_name].astype(np.float64)
        for column in range(joints.shape[1]):
            share = weights[:, column, None, None]
            blended += share * matrices[np.minimum(joints[:, column], len(matrices) - 1)]
            total += share
    blended = np.divide(blended, total, out=np.tile(np.eye(4), (len(points), 1, 1)), where=total > 0)
    placed = np.einsum("nij,nj->ni", blended[:, :3, :3], points) + blended[:, :3, 3]
    return np.asarray(placed)


def stands(
    document: Document, found: Sequence[Pose], nodes: Sequence[int], geometry: Geometry
) -> list[tuple[Pose, int]]:
    """The poses, and those of `nodes` (see `viewers`), in which they show the geometry otherwise than it is at rest."""
    if not geometry.targets and "JOINTS_0" not in geometry.attributes:
        return []
    result: list[tuple[Pose, int]] = []
    for pose in found:
        for node in nodes[:NODES]:
            if pose.only is None or node in pose.only:
                with np.errstate(over="ignore", invalid="ignore"):
                    points = deform(document, pose, node, geometry).astype(np.float32)
                if np.isfinite(points).all() and not np.array_equal(points, geometry.attributes["POSITION"]):
                    result.append((pose, node))
    return result


def viewers(document: Document) -> dict[int, list[int]]:
    """The nodes that show each primitive, by the `id` of its JSON, one node for each skin."""
    shown = shown_by(document)
    return {
        id(primitive): shown.get(number, [])
        for number, mesh in enumerate(document.items("meshes"))
        for primitive in mesh.get("primitives", ())
    }


def shown_by(document: Document) -> dict[int, list[int]]:
    """For each mesh the nodes that show it, one for each skin: where several share a skin, they deform alike."""
    found: dict[int, dict[object, int]] = {}
    for number, node in enumerate(document.items("nodes")):
        if "mesh" in node:
            found.setdefault(node["mesh"], {}).setdefault(node.get("skin"), number)
    return {mesh: list(nodes.values()) for mesh, nodes in found.items()}


# -- how nodes stand ---------------------------------------------------------------------------------------------------


def world_matrices(document: Document, moved: Mapping[int, Json] | None = None) -> list[Doubles]:
    """Each node's 4 × 4 transform in the scene, with the properties in `moved` in place of its own."""
    moved = moved or {}
    nodes = document.items("nodes")
    parent = {child: number for number, node in enumerate(nodes) for child in node.get("children", ())}
    worlds: dict[int, Doubles] = {}
    for number in range(len(nodes)):
        chain = [number]
        while chain[-1] not in worlds and chain[-1] in parent:
            chain.append(parent[chain[-1]])
        for at in reversed(chain):
            if at not in worlds:
                own = local_matrix({**nodes[at], **moved.get(at, {})})
                worlds[at] = worlds[parent[at]] @ own if at in parent else own
    return [worlds[number] for number in range(len(nodes))]


def _joints(document: Document, skin: Json, pose: Pose) -> Doubles:
    """A skin's joint matrices, (joints, 4, 4)."""
    placed = np.stack([pose.worlds[joint] for joint in skin["joints"]])
    if "inverseBindMatrices" not in skin:
        return placed
    inverse = document.accessor(skin["inverseBindMatrices"])[: len(placed)].reshape(-1, 4, 4).transpose(0, 2, 1)
    return np.asarray(placed @ inverse.astype(np.float64))


def _moment(document: Document, animation: Json, number: int, part: float) -> Pose:
    """An animation, `part` of its way."""
    curves = [
        (channel["target"], read_curve(document, animation["samplers"][channel["sampler"]], channel["target"]["path"]))
        for channel in animation["channels"]
        if "node" in channel.get("target", {}) and channel["target"].get("path") != "pointer"
    ]
    curves = [(target, curve) for target, curve in curves if len(curve.times)]
    start = min((curve.times[0] for _, curve in curves), default=0.0)
    end = max((curve.times[-1] for _, curve in curves), default=0.0)
    time = start + part * (end - start)
    moved: dict[int, Json] = {}
    weights: dict[int, Doubles] = {}
    for target, curve in curves:
        value = _at(curve, time)
        if target["path"] == "weights":
            weights[target["node"]] = value
        else:
            moved.setdefault(target["node"], {})[target["path"]] = value
    name = animation.get("name", f"animation {number}")
    return Pose(f"{name} at {time:.2f} s", world_matrices(document, moved), weights)


def _at(curve: Curve, time: float) -> Doubles:
    """A curve's value. Of splines the key before is taken: a pose need not be smooth, only one that happens."""
    values = curve.values
    if curve.interpolation == "CUBICSPLINE":
        values = values.reshape(len(curve.times), 3, -1)[:, 1]
    last = len(curve.times) - 1
    before = int(np.clip(np.searchsorted(curve.times, time, side="right") - 1, 0, last))
    after = before if curve.interpolation != "LINEAR" else min(before + 1, last)
    span = curve.times[after] - curve.times[before]
    part = np.clip((time - curve.times[before]) / span, 0.0, 1.0) if span > 0 else 0.0
    rows = values[before : before + 1], values[after : after + 1]
    return np.asarray(between(*rows, np.array([part]), rotation=curve.rotation)[0])


def _rest_weights(document: Document, node: int) -> Doubles:
    """How far a node's mesh is morphed when nothing moves it."""
    own = document.items("nodes")[node]
    weights = own.get("weights", document.items("meshes")[own["mesh"]].get("weights", ()))
    return np.asarray(weights, np.float64)


def _targets(document: Document, most: int) -> list[Pose]:
    """A pose for each of the morph targets that move most, in all meshes at once."""
    if not most:
        return []
    chosen: dict[int, list[int]] = {}
    for mesh, nodes in shown_by(document).items():
        reach: dict[int, float] = {}
        for primitive in document.items("meshes")[mesh].get("primitives", ()):
            for number, target in enumerate(primitive.get("targets", ())):
                if "POSITION" in target:
                    moves = document.accessor(target["POSITION"], dequantize=True)
                    reach[number] = max(reach.get(number, 0.0), float(np.abs(moves).max(initial=0)))
        # Those that move nothing show nothing.
        order = sorted((n for n in reach if reach[n] > 0), key=lambda n: -reach[n])[:most]
        for node in nodes:
            chosen[node] = order
    worlds = world_matrices(document)
    found = []
    for rank in range(max(map(len, chosen.values()), default=0)):
        weights = {}
        for node, order in chosen.items():
            if rank < len(order):
                alone = np.zeros(order[rank] + 1)
                alone[order[rank]] = 1.0
                weights[node] = alone
        found.append(Pose(f"morph target {rank + 1} of those that move most", worlds, weights, frozenset(weights)))
    return found


def local_matrix(node: Json) -> Array:
    """A node's own 4 × 4 transform, column vectors (section 3.5.3)."""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = node.get("rotation", (0, 0, 0, 1))
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ],
        np.float64,
    )
    result = np.eye(4)
    result[:3, :3] = turn * np.array(node.get("scale", (1, 1, 1)), np.float64)
    result[:3, 3] = node.get("translation", (0, 0, 0))
    return result
