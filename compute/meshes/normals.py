"""Normals of a surface that has lost its own: smooth over the surface, hard where it has an edge.

Each corner takes the normals of the triangles around its place that lie within the crease angle of its own triangle's,
weighted by the angle that each has there (Thürmer, Wüthrich, "Computing Vertex Normals from Polygonal Facets", 1998),
so that it does not matter how a flat face is cut into triangles.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cloudbaker.compute.meshes.topology import merged

Array = npt.NDArray[Any]
_PAIRS = 1 << 22
"""Pairs of corners that are compared at once: some 200 MB."""


def smooth_normals(positions: Array, indices: Array, *, crease_degrees: float = 40.0) -> npt.NDArray[np.float32]:
    """A unit normal for each corner, (t, 3, 3), of `positions` (n, 3) and `indices` (t, 3).

    Vertices in one place count as one. A triangle without area takes its neighbours' normals, or +Z where it has none.
    """
    places, faces = merged(positions, indices)
    corners = places.astype(np.float64)[faces]
    edges = np.roll(corners, -1, axis=1) - corners
    weighted = np.cross(edges[:, 0], -edges[:, 2])
    area = np.linalg.norm(weighted, axis=1, keepdims=True)
    normals = np.divide(weighted, area, out=np.zeros_like(weighted), where=area > 0)
    angles = _angles(edges)

    # Corners by place, and for each all corners of the same place.
    flat = faces.ravel()
    order = np.argsort(flat, kind="stable")
    start = np.searchsorted(flat[order], np.arange(len(places) + 1))
    count = (start[1:] - start[:-1])[flat]
    total = np.zeros((len(flat), 3))
    limit = np.cos(np.radians(crease_degrees))
    first = 0
    ends = np.cumsum(count)
    while first < len(flat):
        # As many corners as there is room for their pairs, at least one.
        done = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + _PAIRS, side="right")))
        mine = np.repeat(np.arange(first, last), count[first:last])
        step = np.arange(len(mine)) - np.repeat(ends[first:last] - count[first:last] - done, count[first:last])
        other = order[start[flat[mine]] + step]
        near = np.einsum("ij,ij->i", normals[mine // 3], normals[other // 3]) >= limit
        near |= area[mine // 3, 0] == 0
        near |= mine == other
        share = np.where(near, angles.ravel()[other], 0.0)[:, None] * normals[other // 3]
        for axis in range(3):
            total[first:last, axis] = np.bincount(mine - first, weights=share[:, axis], minlength=last - first)
        first = last
    length = np.linalg.norm(total, axis=1, keepdims=True)
    own = np.repeat(normals, 3, axis=0)
    result = np.divide(total, length, out=own, where=length > 1e-12)
    result[~result.any(axis=1)] = (0.0, 0.0, 1.0)
    return np.asarray(result.astype(np.float32).reshape(-1, 3, 3))


def _angles(edges: Array) -> Array:
    """The angle of each triangle's corners in radians, (t, 3); `edges` lead from each corner to the next."""
    there = edges
    back = -np.roll(edges, 1, axis=1)
    length = np.linalg.norm(there, axis=2) * np.linalg.norm(back, axis=2)
    cosine = np.divide(np.einsum("tkc,tkc->tk", there, back), length, out=np.ones_like(length), where=length > 0)
    return np.asarray(np.arccos(np.clip(cosine, -1.0, 1.0)))
