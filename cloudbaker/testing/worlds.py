"""What a document draws, as triangles in its scenes: two documents that look alike have the same, in whatever order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudbaker.compute.gltf.document import Document

Doubles = npt.NDArray[np.float64]


def world_triangles(document: Document) -> Doubles:
    """Corners (t, 3, 3) of every triangle list that a scene shows, at rest, once for each node and instance.

    Skins and morph targets are left out of account. The document must be decoded.
    """
    found = [np.empty((0, 3, 3))]
    for scene in document.items("scenes"):
        for root in scene.get("nodes", ()):
            found += _below(document, root, np.eye(4))
    return np.concatenate(found)


def world_difference(a: Document, b: Document) -> float:
    """How far apart two scenes are, in parts of their size; infinite where they have not as many triangles.

    Each triangle is told by its centre and its area vector. Along any direction these can be sorted, and sorted lists
    of values that are off by little are off by little: no triangle has to be matched with its counterpart.
    """
    ours, theirs = world_triangles(a), world_triangles(b)
    if ours.shape != theirs.shape:
        return float("inf")
    if not len(ours):
        return 0.0
    size = float(np.ptp(ours.reshape(-1, 3), axis=0).max()) or 1.0
    directions = np.random.default_rng(0).normal(size=(6, 16))
    first, second = (np.sort(_features(each, size) @ directions, axis=0) for each in (ours, theirs))
    return float(np.abs(first - second).max())


def _features(triangles: Doubles, size: float) -> Doubles:
    corner = triangles[:, 0]
    area = np.cross(triangles[:, 1] - corner, triangles[:, 2] - corner)
    return np.concatenate([triangles.mean(axis=1) / size, area / size**2], axis=1)


def _below(document: Document, number: int, parent: Doubles) -> Iterator[Doubles]:
    node = document.items("nodes")[number]
    matrix = parent @ node_matrix(node)
    if "mesh" in node:
        for placed in _instances(document, node, matrix):
            for primitive in document.items("meshes")[node["mesh"]]["primitives"]:
                if primitive.get("mode", 4) == 4:
                    yield _corners(document, primitive, placed)
    for child in node.get("children", ()):
        yield from _below(document, child, matrix)


def _corners(document: Document, primitive: dict[str, Any], matrix: Doubles) -> Doubles:
    points = document.accessor(primitive["attributes"]["POSITION"], dequantize=True).astype(np.float64)
    points = points @ matrix[:3, :3].T + matrix[:3, 3]
    order = np.arange(len(points))
    if "indices" in primitive:
        order = document.accessor(primitive["indices"])[:, 0].astype(np.int64)
    triangles = points[order].reshape(-1, 3, 3)
    # A mirror turns triangles inside out, and a viewer turns them back (section 3.7.4).
    return np.asarray(triangles[:, ::-1] if np.linalg.det(matrix[:3, :3]) < 0 else triangles)


def _instances(document: Document, node: dict[str, Any], matrix: Doubles) -> Iterator[Doubles]:
    attributes = node.get("extensions", {}).get("EXT_mesh_gpu_instancing", {}).get("attributes", {})
    if not attributes:
        yield matrix
        return
    data = {name.lower(): document.accessor(index, dequantize=True).tolist() for name, index in attributes.items()}
    for number in range(len(next(iter(data.values())))):
        yield matrix @ node_matrix({name: values[number] for name, values in data.items()})


def node_matrix(node: dict[str, Any]) -> Doubles:
    """A node's 4 × 4 transform, column vectors, by rotating the axes with the quaternion one after the other."""
    if "matrix" in node:
        return np.asarray(node["matrix"], np.float64).reshape(4, 4).T
    result = np.eye(4)
    axis, w = np.asarray(node.get("rotation", (0, 0, 0, 1))[:3], float), node.get("rotation", (0, 0, 0, 1))[3]
    for column, scale in enumerate(node.get("scale", (1, 1, 1))):
        unit = np.eye(3)[column]
        around = np.cross(axis, unit)
        result[:3, column] = scale * (unit + 2 * (w * around + np.cross(axis, around)))
    result[:3, 3] = node.get("translation", (0, 0, 0))
    return result
