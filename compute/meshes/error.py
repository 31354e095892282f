"""How far one triangle mesh is from another: the measured error behind every LOD and lossy codec.

Points are spread over either surface, and for each the distance to the nearest point of the other surface is computed
exactly, not to the nearest vertex: a flat face with few vertices has no error. Both directions count, so a hole shows
(source → candidate) and so does a bump (candidate → source). This is Metro's method with even instead of random
sampling, so that the same meshes give the same figures.

Nearest triangles are found with a bounding volume hierarchy over the triangles in Morton order, walked for all points
at once in numpy, level by level. A uniform grid was the other way: it degrades where a model mixes large and tiny
triangles, as any scanned object on a ground plane does.

Source: Cignoni, Rocchini, Scopigno, "Metro: measuring error on simplified surfaces", Computer Graphics Forum 17(2),
1998; Ericson, "Real-Time Collision Detection", 5.1 (closest points).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]

_LEAF = 4
"""Triangles per leaf of the hierarchy."""
_BEAM = 4
"""Boxes of each level that the search for a first upper bound follows."""
_CHUNK = 8192
"""Points walked at once: bounds memory to some 50 MB."""


@dataclass(frozen=True, slots=True)
class MeshError:
    """Distance between two surfaces, in % of the diagonal of the source's bounding box."""

    mean_percent: float
    """Area-weighted mean, the larger of the two directions."""
    max_percent: float
    """Largest found (Hausdorff, over the samples and the vertices), both directions."""


def mesh_error(
    source_positions: Array,
    source_indices: Array,
    positions: Array,
    indices: Array,
    *,
    samples: int = 10_000,
    diagonal: float | None = None,
) -> MeshError:
    """Measure the mesh (`positions` (n, 3), `indices` (t, 3)) against the source mesh, in the same units.

    `samples` bounds the points spread over each surface (small meshes get fewer, at least 500) and the vertices looked
    at on each; with 10,000 the mean is good to about 2 % of itself. `diagonal` replaces the source's own bounding box's
    where the mesh is a part of something larger. A mesh without triangles, against a source that has some, is
    infinitely far. Raises ValueError on shapes, indices out of range, and values that are not finite.
    """
    if samples < 1:
        raise ValueError(f"samples must be positive, not {samples}")
    source = _corners(source_positions, source_indices, "source")
    other = _corners(positions, indices, "mesh")
    if not len(source):
        raise ValueError("the source mesh has no triangles to measure against")
    if not len(other):
        return MeshError(math.inf, math.inf)
    low, high = source.min(axis=(0, 1)), source.max(axis=(0, 1))
    scale = float(np.linalg.norm(high - low)) if diagonal is None else float(diagonal)
    if not math.isfinite(scale) or scale < 0:
        raise ValueError(f"the diagonal must be a positive number, not {scale}")
    if scale == 0:  # all in one point
        scale = 1.0
    middle = (low + high) / 2
    source, other = (source - middle) / scale, (other - middle) / scale
    count = min(samples, max(500, 8 * (len(source) + len(other))))
    means, maxima = zip(
        *(_one_way(a, b, count) for a, b in ((source, other), (other, source))),
        strict=True,
    )
    return MeshError(100 * max(means), 100 * max(maxima))


def _corners(positions: Array, indices: Array, what: str) -> Doubles:
    """Triangles as (t, 3 corners, 3), checked."""
    points = np.asarray(positions, np.float64)
    faces = np.asarray(indices)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"{what} positions must have shape (n, 3), not {points.shape}")
    if faces.dtype.kind not in "iu" or faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(f"{what} indices must be integers of shape (t, 3), not {faces.dtype} {faces.shape}")
    if faces.size and (int(faces.min()) < 0 or int(faces.max()) >= len(points)):
        raise ValueError(f"{what} index {int(faces.max())} is out of range: there are {len(points)} vertices")
    corners = points[faces]
    if not np.isfinite(corners).all():
        raise ValueError(f"{what} positions must be finite")
    return np.asarray(corners)


def _one_way(source: Doubles, target: Doubles, count: int) -> tuple[float, float]:
    """Mean and largest distance from one surface's points to the other surface."""
    tree = _Tree(target)
    spread = tree.distance(_spread(source, count))
    corners = source.reshape(-1, 3)
    # Removed vertices are where a simplified surface is farthest away: look at up to `count` of them. Six corners or so
    # are one vertex; to find out for all of 3 million took longer than everything else.
    corners = np.unique(corners[:: -(-len(corners) // (8 * count))], axis=0)
    at_corners = tree.distance(corners[:: -(-len(corners) // count)])
    return float(spread.mean()), float(max(spread.max(), at_corners.max()))


def _spread(triangles: Doubles, count: int) -> Doubles:
    """`count` points evenly over the triangles' area, always the same ones.

    Equal steps along the running sum of areas choose the triangles; inside them the points follow the R2 sequence
    (Roberts, 2018), which leaves smaller gaps than random numbers do.
    """
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    running = np.cumsum(np.linalg.norm(np.cross(b - a, c - a), axis=1))
    if not running[-1] > 0:  # no area at all: the corners are all there is
        return np.asarray(triangles.reshape(-1, 3)[: 3 * count])
    step = (np.arange(count) + 0.5) / count
    chosen = np.minimum(np.searchsorted(running, step * running[-1], side="right"), len(triangles) - 1)
    number = np.arange(1, count + 1)
    u, v = np.sqrt((0.5 + number * 0.7548776662466927) % 1), (0.5 + number * 0.5698402909980532) % 1
    weights = np.stack([1 - u, u * (1 - v), u * v], axis=1)
    return np.asarray(np.einsum("ij,ijk->ik", weights, triangles[chosen]))


class _Tree:
    """Bounding volume hierarchy over triangles: a complete binary tree, leaves of `_LEAF` triangles in Morton order."""

    def __init__(self, triangles: Doubles) -> None:
        order = np.argsort(_morton(triangles.mean(axis=1)), kind="stable")
        self.depth = max(0, (-(-len(triangles) // _LEAF) - 1).bit_length())
        # Triangles are shared out evenly; where a leaf has room left, its last triangle is repeated.
        first = np.arange((1 << self.depth) + 1) * len(triangles) >> self.depth
        chosen = np.minimum(first[:-1, None] + np.arange(_LEAF), first[1:, None] - 1)
        leaf = triangles[order[chosen]]
        self.a = leaf[:, :, 0]
        self.ab = leaf[:, :, 1] - self.a
        self.ac = leaf[:, :, 2] - self.a
        low, high = leaf.min(axis=(1, 2)), leaf.max(axis=(1, 2))
        self.boxes = [(low, high)]  # by level, soon from the root
        for _ in range(self.depth):
            low, high = np.minimum(low[::2], low[1::2]), np.maximum(high[::2], high[1::2])
            self.boxes.append((low, high))
        self.boxes.reverse()

    def distance(self, points: Doubles) -> Doubles:
        """Distance of each of (m, 3) points to the nearest triangle; (m,)."""
        parts = [self._distance(points[at : at + _CHUNK]) for at in range(0, len(points), _CHUNK)]
        return np.asarray(np.sqrt(np.concatenate(parts)))

    def _distance(self, points: Doubles) -> Doubles:
        """Squared distances: a close upper bound first, then every box that could hold something nearer.

        The bound comes from a descent that keeps the `_BEAM` most promising boxes of each level. With one only, a point
        in two overlapping boxes often took the wrong one: bounds 100 times too large, and 160 boxes to open a point.
        """
        everyone = np.arange(len(points))
        row = everyone[:, None]
        beam = np.zeros((len(points), 1), np.int64)
        for level in range(1, self.depth + 1):
            beam = np.concatenate([beam * 2, beam * 2 + 1], axis=1)
            if beam.shape[1] > _BEAM:
                rank = self._rank(level, beam, points)
                beam = beam[row, np.argpartition(rank, _BEAM - 1, axis=1)[:, :_BEAM]]
        width = beam.shape[1]
        best = self._leaf(beam.ravel(), np.repeat(points, width, axis=0)).reshape(-1, width).min(axis=1)

        point, node = everyone, np.zeros(len(points), np.int64)
        for level in range(1, self.depth + 1):
            point = np.repeat(point, 2)
            node = np.repeat(node, 2) * 2
            node[1::2] += 1
            near = self._box(level, node, points[point]) < best[point]
            point, node = point[near], node[near]
        if len(point):
            found = self._leaf(node, points[point])
            starts = np.flatnonzero(np.concatenate([[True], point[1:] != point[:-1]]))  # points are still in order
            at = point[starts]
            best[at] = np.minimum(best[at], np.minimum.reduceat(found, starts))
        return np.asarray(best)

    def _rank(self, level: int, node: npt.NDArray[np.int64], points: Doubles) -> Doubles:
        """How promising boxes are, (m, k): their distance, and where a point is inside several, their middles'."""
        low, high = self.boxes[level]
        at = points[:, None]
        outside = np.maximum(np.maximum(low[node] - at, at - high[node]), 0.0)
        off = at - (low[node] + high[node]) / 2
        rank = np.einsum("ijk,ijk->ij", outside, outside) + 1e-3 * np.einsum("ijk,ijk->ij", off, off)
        return np.asarray(rank)

    def _box(self, level: int, node: npt.NDArray[np.int64], points: Doubles) -> Doubles:
        """Squared distance of each point to the box of its node."""
        low, high = self.boxes[level]
        outside = np.maximum(np.maximum(low[node] - points, points - high[node]), 0.0)
        return np.asarray(np.einsum("ij,ij->i", outside, outside))

    def _leaf(self, node: npt.NDArray[np.int64], points: Doubles) -> Doubles:
        """Squared distance of each point to the nearest triangle of its leaf."""
        best = np.full(len(points), np.inf)
        for slot in range(_LEAF):
            squared = _point_triangle(points - self.a[node, slot], self.ab[node, slot], self.ac[node, slot])
            np.minimum(best, squared, out=best)
        return best


def _point_triangle(p: Doubles, ab: Doubles, ac: Doubles) -> Doubles:
    """Squared distance of points to triangles, row by row; `p` and the two edges are relative to the first corner.

    Inside the prism over the triangle it is the distance to the plane, else to the nearest edge. Triangles without
    area fall through to their edges.
    """
    d00, d01, d11 = _dot(ab, ab), _dot(ab, ac), _dot(ac, ac)
    d20, d21 = _dot(p, ab), _dot(p, ac)
    area = d00 * d11 - d01 * d01
    v, w = d11 * d20 - d01 * d21, d00 * d21 - d01 * d20
    inside = (area > 0) & (v >= 0) & (w >= 0) & (v + w <= area)
    bc = ac - ab
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        off = p - (v / area)[:, None] * ab - (w / area)[:, None] * ac
        plane = _dot(off, off)
    edges = np.minimum(
        np.minimum(_point_segment(p, ab, d20, d00), _point_segment(p, ac, d21, d11)),
        _point_segment(p - ab, bc, _dot(p - ab, bc), _dot(bc, bc)),
    )
    return np.where(inside, np.minimum(plane, edges), edges)


def _point_segment(p: Doubles, along: Doubles, projected: Doubles, length: Doubles) -> Doubles:
    t = np.clip(np.divide(projected, length, out=np.zeros_like(projected), where=length > 0), 0.0, 1.0)
    off = p - t[:, None] * along
    return _dot(off, off)


def _dot(a: Doubles, b: Doubles) -> Doubles:
    return np.asarray(np.einsum("ij,ij->i", a, b))


def _morton(points: Doubles) -> npt.NDArray[np.uint64]:
    """Place of each point along a Z-order curve, 21 bits an axis."""
    low = points.min(axis=0)
    size = np.ptp(points, axis=0).max()
    grid = ((points - low) / (size or 1.0) * ((1 << 21) - 1)).astype(np.uint64)
    for shift, mask in (
        (32, 0x1F00000000FFFF),
        (16, 0x1F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):
        grid = (grid | grid << np.uint64(shift)) & np.uint64(mask)
    return np.asarray(grid[:, 0] | grid[:, 1] << np.uint64(1) | grid[:, 2] << np.uint64(2))
