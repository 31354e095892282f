"""How far one triangle mesh is from another: the measured error behind every LOD and lossy codec.

Points are spread over either surface, and for each the distance to the nearest point of the other surface is computed
exactly, not to the nearest vertex: a flat face with few vertices has no error. Both directions count, so a hole shows
(source → candidate) and so does a bump (candidate → source). This is Metro's method with even instead of random
sampling, so that the same meshes give the same figures.

Nearest points come from libigl's bounding volume hierarchy: with 10,000 points and 10,000 triangles in 15 ms, where our
own in numpy took 230 ms.

Source: Cignoni, Rocchini, Scopigno, "Metro: measuring error on simplified surfaces", Computer Graphics Forum 17(2),
1998; Ericson, "Real-Time Collision Detection", 5.1 (closest points).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import igl
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MeshError:
    """Distance between two surfaces, in % of the diagonal of the source's bounding box."""

    mean_percent: float
    """Area-weighted mean, the larger of the two directions."""
    max_percent: float
    """Largest found (Hausdorff, over the samples and the vertices), both directions."""


class Surface:
    """A mesh that is measured against: keep it where several are held against the same."""

    def __init__(self, positions: Array, indices: Array, *, what: str = "mesh") -> None:
        """`positions` (n, 3), `indices` (t, 3). Raises ValueError on shapes, bad indices and values not finite."""
        points, faces = np.asarray(positions), np.asarray(indices)
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"{what} positions must have shape (n, 3), not {points.shape}")
        if faces.dtype.kind not in "iu" or faces.ndim != 2 or faces.shape[1] != 3:
            raise ValueError(f"{what} indices must be integers of shape (t, 3), not {faces.dtype} {faces.shape}")
        if faces.size and (int(faces.min()) < 0 or int(faces.max()) >= len(points)):
            raise ValueError(f"{what} index {int(faces.max())} is out of range: there are {len(points)} vertices")
        used = np.zeros(len(points), bool)
        used[faces] = True
        if not np.isfinite(points[used]).all():
            raise ValueError(f"{what} positions must be finite")
        number = np.cumsum(used) - 1
        self.vertices = np.ascontiguousarray(points[used], np.float64)
        """(v, 3), those that a triangle has."""
        self.faces = np.ascontiguousarray(number[faces], np.int64)
        self.used = used
        """Which of the positions these are, (n,)."""
        self._tree: Any = None

    @property
    def box(self) -> tuple[Doubles, Doubles]:
        """Lowest and highest corner, (3,) each."""
        return self.vertices.min(axis=0), self.vertices.max(axis=0)

    @property
    def diagonal(self) -> float:
        """Of its bounding box."""
        low, high = self.box
        return float(np.linalg.norm(high - low))

    def distances(self, points: Doubles) -> Doubles:
        """Distance of each of (m, 3) points to the surface, (m,)."""
        return np.asarray(np.sqrt(self._nearest(points)[0])).reshape(-1)

    def nearest(self, points: Doubles) -> tuple[npt.NDArray[np.int64], Doubles]:
        """For each of (m, 3) points the nearest triangle, (m,), and the weights of its corners there, (m, 3)."""
        _, hit, places = self._nearest(points)
        corners = self._placed[self.faces[hit]]
        weights = igl.barycentric_coordinates(places, *(np.ascontiguousarray(corners[:, k]) for k in range(3)))
        clipped = np.clip(np.nan_to_num(weights, nan=1 / 3), 0.0, 1.0)
        return np.asarray(hit, np.int64), np.asarray(clipped / clipped.sum(axis=1, keepdims=True))

    def _nearest(self, points: Doubles) -> Any:
        """Squared distances, triangles, and places relative to the middle."""
        if self._tree is None:
            # In the middle of the numbers, where doubles are finest.
            self._middle = np.mean(self.box, axis=0)
            self._placed = self.vertices - self._middle
            self._tree = igl.AABB()
            self._tree.init(self._placed, self.faces)
        return self._tree.squared_distance(self._placed, self.faces, points - self._middle)

    def probes(self, count: int) -> tuple[Doubles, Doubles]:
        """Points to measure from: `count` evenly over the area, and up to as many of the vertices."""
        # Removed vertices are where a simplified surface is farthest away.
        return _spread(self.vertices[self.faces], count), self.vertices[:: -(-len(self.vertices) // count)]


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
    source = Surface(source_positions, source_indices, what="source")
    return surface_error(source, Surface(positions, indices), samples=samples, diagonal=diagonal)


def surface_error(
    source: Surface, other: Surface, *, samples: int = 10_000, diagonal: float | None = None
) -> MeshError:
    """`mesh_error` of surfaces that are there already."""
    if samples < 1:
        raise ValueError(f"samples must be positive, not {samples}")
    if not len(source.faces):
        raise ValueError("the source mesh has no triangles to measure against")
    if not len(other.faces):
        return MeshError(math.inf, math.inf)
    scale = source.diagonal if diagonal is None else float(diagonal)
    if not math.isfinite(scale) or scale < 0:
        raise ValueError(f"the diagonal must be a positive number, not {scale}")
    if scale == 0:  # all in one point
        scale = 1.0
    count = min(samples, max(500, 8 * (len(source.faces) + len(other.faces))))
    mean = largest = 0.0
    for a, b in ((source, other), (other, source)):
        spread, corners = map(b.distances, a.probes(count))
        mean = max(mean, float(spread.mean()))
        largest = max(largest, float(spread.max()), float(corners.max()))
    return MeshError(100 * mean / scale, 100 * largest / scale)


def _spread(triangles: Doubles, count: int) -> Doubles:
    """`count` points evenly over the triangles' area, always the same ones."""
    chosen, weights = even_places(triangles, count)
    if not len(chosen):  # no area at all: the corners are all there is
        return np.asarray(triangles.reshape(-1, 3)[: 3 * count])
    return np.asarray(np.einsum("ij,ijk->ik", weights, triangles[chosen]))


def even_places(triangles: Doubles, count: int) -> tuple[npt.NDArray[np.int64], Doubles]:
    """`count` places evenly over the area of (t, 3, 3) corners, always the same: the triangle of each, (m,), and the
    weights of its corners, (m, 3). None where there is no area.

    Equal steps along the running sum of areas choose the triangles; inside them the points follow the R2 sequence
    (Roberts, 2018), which leaves smaller gaps than random numbers do.
    """
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    running = np.cumsum(np.linalg.norm(np.cross(b - a, c - a), axis=1))
    if not running[-1] > 0:
        return np.empty(0, np.int64), np.empty((0, 3))
    step = (np.arange(count) + 0.5) / count
    chosen = np.minimum(np.searchsorted(running, step * running[-1], side="right"), len(triangles) - 1)
    number = np.arange(1, count + 1)
    u, v = np.sqrt((0.5 + number * 0.7548776662466927) % 1), (0.5 + number * 0.5698402909980532) % 1
    return chosen, np.stack([1 - u, u * (1 - v), u * v], axis=1)
