"""Surfaces and noise that the test models are made of: exact arithmetic and rounded angles, so the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Surface:
    """An indexed triangle mesh, counter-clockwise seen from outside."""

    positions: Floats
    """(n, 3), metres, Y up."""
    normals: Floats
    """(n, 3), unit."""
    uvs: Floats
    """(n, 2), origin at the top left."""
    indices: NDArray[np.uint32]
    """(m, 3)"""

    def moved(self, offset: ArrayLike = (0, 0, 0), *, turn: float = 0.0) -> Surface:
        """Turned about Y by `turn` radians, then shifted."""
        s, c = np.sin(turn), np.cos(turn)
        matrix = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
        return replace(
            self,
            positions=f32(self.positions @ matrix + np.asarray(offset)),
            normals=f32(self.normals @ matrix),
        )

    def tiled(self, u: float, v: float) -> Surface:
        """With texture coordinates scaled."""
        return replace(self, uvs=f32(self.uvs * (u, v)))


def f32(array: ArrayLike) -> Floats:
    """Rounded to 1e-6 and single precision: sin and cos differ in the last digit from one CPU to the next."""
    return (np.round(np.asarray(array, dtype=np.float64), 6) + 0.0).astype(np.float32)


def joined(surfaces: Sequence[Surface]) -> Surface:
    """Several surfaces as one."""
    starts = np.cumsum([0, *(len(s.positions) for s in surfaces[:-1])])
    return Surface(
        np.concatenate([s.positions for s in surfaces]),
        np.concatenate([s.normals for s in surfaces]),
        np.concatenate([s.uvs for s in surfaces]),
        np.concatenate([s.indices + start for s, start in zip(surfaces, starts, strict=True)]).astype(np.uint32),
    )


def box(size: ArrayLike = (1.0, 1.0, 1.0), center: ArrayLike = (0.0, 0.0, 0.0)) -> Surface:
    """Six faces, 24 vertices, 12 triangles."""
    half = np.broadcast_to(np.asarray(size, dtype=np.float64), (3,)) / 2
    positions, normals = [], []
    for axis in range(3):
        for sign in (1.0, -1.0):
            normal, right, up = np.zeros(3), np.zeros(3), np.zeros(3)
            normal[axis] = sign
            up[2 if axis == 1 else 1] = -sign if axis == 1 else 1.0
            right = np.cross(up, normal)
            positions += [(normal + right * x + up * y) * half for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            normals += [normal] * 4
    uvs = np.tile([[0, 1], [1, 1], [1, 0], [0, 0]], (6, 1))
    quad = np.array([[0, 1, 2], [0, 2, 3]])
    indices = np.concatenate([quad + 4 * face for face in range(6)]).astype(np.uint32)
    return Surface(f32(np.array(positions) + np.asarray(center)), f32(normals), f32(uvs), indices)


def lathe(profile: ArrayLike, segments: int = 32, *, turn: float = 0.0) -> Surface:
    """A profile of (radius, height) points, from below upwards on the outside, turned about Y. Smooth along itself.

    (len(profile) × (segments + 1)) vertices; triangles that would be degenerate at the axis are left out. A sharp
    edge is two lathes.
    """
    points = np.asarray(profile, dtype=np.float64)
    rings = len(points)
    angle = np.linspace(0, 2 * np.pi, segments + 1)
    s, c = np.sin(angle + turn), np.cos(angle + turn)
    s[-1], c[-1] = s[0], c[0]
    slope = np.gradient(points, axis=0)
    outward = np.stack([slope[:, 1], -slope[:, 0]], axis=1)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    around = np.stack([s, np.ones_like(s), c], axis=1)
    positions = points[:, None, [0, 1, 0]] * around
    normals = outward[:, None, [0, 1, 0]] * around
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    uvs = np.stack(np.broadcast_arrays(angle / (2 * np.pi), 1 - (length / length[-1])[:, None]), axis=2)
    i, j = np.meshgrid(np.arange(rings - 1), np.arange(segments), indexing="ij")
    a, width = i * (segments + 1) + j, segments + 1
    lower, upper = points[:-1, 0] > 0, points[1:, 0] > 0
    indices = np.concatenate(
        [
            np.stack([a, a + 1, a + width + 1], axis=2)[lower].reshape(-1, 3),
            np.stack([a, a + width + 1, a + width], axis=2)[upper].reshape(-1, 3),
        ]
    )
    return Surface(
        f32(positions.reshape(-1, 3)), f32(normals.reshape(-1, 3)), f32(uvs.reshape(-1, 2)), indices.astype(np.uint32)
    )


def sphere(radius: float = 1.0, segments: int = 32) -> Surface:
    """A UV sphere of `segments` meridians and half as many rings."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, max(segments // 2, 2) + 1)
    profile = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius
    profile[[0, -1], 0] = 0
    return lathe(profile, segments)


def heightfield(height: Floats, size: float = 1.0) -> Surface:
    """A square sheet over (n + 1, n + 1) heights in metres; n·n·2 triangles."""
    rows, columns = height.shape
    z, x = np.meshgrid(np.linspace(-0.5, 0.5, rows), np.linspace(-0.5, 0.5, columns), indexing="ij")
    positions = np.stack([x * size, height, z * size], axis=2)
    dz, dx = np.gradient(height.astype(np.float64), size / (rows - 1), size / (columns - 1))
    normals = np.stack([-dx, np.ones_like(dx), -dz], axis=2)
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    uvs = np.stack([x + 0.5, z + 0.5], axis=2)
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns - 1), indexing="ij")
    a = (i * columns + j).ravel()
    indices = np.stack([a, a + columns, a + columns + 1, a, a + columns + 1, a + 1], axis=1).reshape(-1, 3)
    return Surface(
        f32(positions.reshape(-1, 3)), f32(normals.reshape(-1, 3)), f32(uvs.reshape(-1, 2)), indices.astype(np.uint32)
    )


def noise(size: int, *, seed: int, first: int = 4, octaves: int = 5) -> NDArray[np.float64]:
    """Tileable value noise in 0…1, (size, size). Only + and ×, so bit-exact on any machine."""
    rng = np.random.default_rng(seed)
    total: NDArray[np.float64] = np.zeros((size, size))
    weight = 1.0
    for octave in range(octaves):
        cells = min(first << octave, size)
        lattice = rng.random((cells, cells))
        at = np.arange(size) * (cells / size)
        low = at.astype(int)
        t = at - low
        t = t * t * (3 - 2 * t)
        high = (low + 1) % cells
        rows = lattice[low] * (1 - t)[:, None] + lattice[high] * t[:, None]
        total += weight * (rows[:, low] * (1 - t) + rows[:, high] * t)
        weight *= 0.5
    total -= total.min()
    total /= total.max()
    return total


def normal_map(height: NDArray[np.float64], strength: float) -> NDArray[np.uint8]:
    """Tangent-space normals, (h, w, 3), of a tileable height map; +Y up as glTF wants."""
    dx = (np.roll(height, -1, axis=1) - np.roll(height, 1, axis=1)) * strength
    dy = (np.roll(height, -1, axis=0) - np.roll(height, 1, axis=0)) * strength
    normal = np.stack([-dx, dy, np.ones_like(dx)], axis=2)
    normal /= np.sqrt((normal**2).sum(axis=2, keepdims=True))
    return to_bytes(normal * 0.5 + 0.5)


def to_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """0…1 to 0…255."""
    return np.clip(np.round(values * 255), 0, 255).astype(np.uint8)
