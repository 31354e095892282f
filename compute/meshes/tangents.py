"""MikkTSpace: the tangents that glTF asks readers to make up where a mesh has none.

Written anew on arrays, by the rules of the reference implementation (Mikkelsen's mikktspace.c; none of its code is
here): what counts as one vertex, which triangles around it belong together, by what they are weighted, and what becomes
of triangles without area in space or in texture. Only around the last kind do these depend on the order of triangles;
there it is followed one triangle after the other. Of a million corners of 65 real geometries 10 are off by more than
1e-3, and for five of those meshoptimizer 1.3 agrees with us. 4 µs a triangle.

Source: Mikkelsen, "Simulation of wrinkled surfaces revisited", 2008; glTF 2.0 section 3.7.2.1 (meshes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloudbaker.compute.meshes.meshopt import MeshoptError, checked_floats, checked_triangles, weld

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_TINY = np.finfo(np.float32).tiny
"""What is not larger counts as zero."""
_LARGEST_FAN = 512
"""Triangles around a vertex up to which opposite tangents are looked for in pairs."""


@np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore")
def mikktspace(positions: Floats, normals: Floats, texcoords: Floats, indices: npt.NDArray[np.uint32]) -> Floats:
    """Tangents of every corner of every triangle, (t, 3, 4) float32: direction, and the sign of the bitangent.

    `positions` and `normals` are (n, 3), `texcoords` (n, 2), `indices` (t, 3). The bitangent is
    ``cross(normal, tangent) * w`` with v pointing down, as glTF has it. Corners that belong to nothing (all their
    triangles have no area in texture) get (1, 0, 0). Raises `MeshoptError` on wrong shapes and indices.
    """
    streams = {
        "positions": checked_floats(positions, 3, "positions") + np.float32(0),
        "normals": checked_floats(normals, 3, "normals") + np.float32(0),
        "texcoords": checked_floats(texcoords, 2, "texcoords") + np.float32(0),
    }
    if len({len(stream) for stream in streams.values()}) != 1:
        raise MeshoptError("positions, normals and texcoords must be as many")
    faces = checked_triangles(indices, len(streams["positions"])).reshape(-1, 3)
    result = np.empty((len(faces), 3, 4), np.float32)
    result[:] = (1, 0, 0, 1)
    if not len(faces):
        return result
    joined = weld(streams, faces)
    corners = joined.streams["positions"][joined.indices]
    flat = np.zeros(len(faces), bool)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        flat |= (corners[:, a] == corners[:, b]).all(axis=1)
    whole = np.flatnonzero(~flat)
    mesh = _Mesh(
        joined.indices[whole].astype(np.int64),
        joined.streams["positions"],
        joined.streams["normals"],
        joined.streams["texcoords"],
    )
    result[whole] = mesh.tangents()
    _lend(result, joined.indices, whole, np.flatnonzero(flat))
    return result


def _lend(result: Floats, faces: npt.NDArray[np.uint32], whole: Numbers, flat: Numbers) -> None:
    """A triangle without area takes, for each corner, what the first other triangle has at the same vertex."""
    if not len(flat) or not len(whole):
        return
    corners = faces[whole].ravel()
    first = np.full(int(faces.max()) + 1, -1, np.int64)
    first[corners[::-1]] = np.arange(len(corners))[::-1]
    lender = first[faces[flat]]
    given = result[whole].reshape(-1, 4)[lender]
    result[flat] = np.where((lender >= 0)[..., None], given, result[flat])


@dataclass(slots=True)
class _Mesh:
    """Triangles with area over vertices that differ in position, normal or texture coordinate."""

    faces: Numbers
    positions: Floats
    normals: Floats
    texcoords: Floats

    def tangents(self) -> Floats:
        """(t, 3, 4), with w as glTF has it."""
        along, across, preserving, idle = self.derivatives()
        group, turned = self.groups(preserving, idle)
        side = np.where(preserving[:, None], np.float32(-1), np.float32(1))
        result = np.empty((len(self.faces), 3, 4), np.float32)
        result[:] = (1, 0, 0, 1)
        corner = np.flatnonzero(group.ravel() >= 0)
        face, at = corner // 3, corner % 3
        number = group.ravel()[corner]
        normal = self.normals[self.faces[face, at]]
        s, t = _unit(_projected(along[face], normal)), _unit(_projected(across[face], normal))
        weight = self.angles(face, at, normal)
        weight[idle[face]] = 0  # it belongs to the group, and has nothing to say
        total = np.zeros((int(number.max(initial=-1)) + 1, 3), np.float32)
        np.add.at(total, number, weight[:, None] * s)
        result[face, at, :3] = _unit(total)[number]
        result[:, :, 3] = side
        result[turned[:, 0], turned[:, 1], 3] = turned[:, 2]
        result[group < 0] = (1, 0, 0, 1)
        self._split_opposites(result, number, face, at, s, t, weight, idle)
        self._settle(result)
        return result

    def _settle(self, result: Floats) -> None:
        """Where everything cancels out, any direction in the surface will do; zero would not."""
        face, at = np.nonzero(~result[:, :, :3].any(axis=2))
        normal = self.normals[self.faces[face, at]]
        axis = np.eye(3, dtype=np.float32)[np.abs(normal).argmin(axis=1)]
        result[face, at, :3] = _unit(_projected(axis, normal))

    def derivatives(self) -> tuple[Floats, Floats, Flags, Flags]:
        """Per triangle: unit vectors along u and v, whether texture is not mirrored, and whether it has no area."""
        p, uv = self.positions[self.faces], self.texcoords[self.faces]
        d1, d2 = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]
        (x1, y1), (x2, y2) = (uv[:, 1] - uv[:, 0]).T, (uv[:, 2] - uv[:, 0]).T
        area = x1 * y2 - y1 * x2
        along = y2[:, None] * d1 - y1[:, None] * d2
        across = -x2[:, None] * d1 + x1[:, None] * d2
        preserving = area > 0
        sign = np.where(preserving, np.float32(1), np.float32(-1))
        some = np.abs(area) > _TINY
        idle = ~some
        for vectors in (along, across):
            length = _length(vectors)
            factor = np.where(length > _TINY, sign / length, np.float32(1))
            np.multiply(vectors, np.where(some, factor, np.float32(0))[:, None], out=vectors)
            idle |= ~(length / np.abs(area) > _TINY)
        return np.nan_to_num(along), np.nan_to_num(across), preserving, idle

    def neighbours(self) -> tuple[Numbers, Numbers]:
        """Pairs of corners, one in each of two triangles that share an edge, at the same vertex: (2e,) and (2e,).

        Corner 3f + i is corner i of triangle f. Where more than two triangles share an edge, the first pairs that run
        in opposite directions belong together.
        """
        start, end = self.faces.ravel(), self.faces[:, (1, 2, 0)].ravel()
        low, high = np.minimum(start, end), np.maximum(start, end)
        forward = start < end
        order = np.lexsort((np.arange(len(start)), forward, high, low))
        low, high, forward = low[order], high[order], forward[order]
        new = np.ones(len(order), bool)
        new[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1]) | (forward[1:] != forward[:-1])
        began = np.flatnonzero(new)
        rank = np.arange(len(order)) - np.repeat(began, np.diff([*began, len(order)]))
        order2 = np.lexsort((forward, rank, high, low))
        low, high, rank, forward, edge = low[order2], high[order2], rank[order2], forward[order2], order[order2]
        pair = np.flatnonzero(
            (low[1:] == low[:-1]) & (high[1:] == high[:-1]) & (rank[1:] == rank[:-1]) & (forward[1:] != forward[:-1])
        )
        a, b = edge[pair], edge[pair + 1]
        return np.concatenate([a, _next(a)]), np.concatenate([_next(b), b])

    def groups(self, preserving: Flags, idle: Flags) -> tuple[Numbers, Numbers]:
        """For each corner (t, 3) the number of its group, -1 without; and corners of idle triangles with their sign.

        A group is what hangs together around a vertex with texture the same way round.
        """
        a, b = self.neighbours()
        face_a, face_b = a // 3, b // 3
        vertex = self.faces.ravel()
        odd = np.zeros(len(self.positions), bool)
        odd[self.faces[idle]] = True  # vertices where an idle triangle may bridge what it lies between
        plain = ~odd[vertex[a]] & (preserving[face_a] == preserving[face_b])
        label = _components(self.faces.size, a[plain], b[plain])
        label[odd[vertex]] = -1
        signs: list[tuple[int, int, int]] = []
        if odd.any():
            corners = np.flatnonzero(odd[vertex])
            links: dict[int, list[int]] = {int(c): [] for c in corners}
            for x, y in zip(a[odd[vertex[a]]].tolist(), b[odd[vertex[a]]].tolist(), strict=True):
                links[x].append(y)
                links[y].append(x)
            _assign_in_order(label, links, preserving, idle, signs)
        _, number = np.unique(label, return_inverse=True)
        number = number.reshape(-1).astype(np.int64) - bool((label < 0).any())
        return number.reshape(-1, 3), np.array(signs, np.int64).reshape(-1, 3)

    def angles(self, face: Numbers, at: Numbers, normal: Floats) -> Floats:
        """The angle of each corner, seen along the normal."""
        here = self.positions[self.faces[face, at]]
        v = [_unit(_projected(self.positions[self.faces[face, (at + step) % 3]] - here, normal)) for step in (2, 1)]
        return np.arccos(np.clip(_dot(*v), -1, 1).astype(np.float64)).astype(np.float32)

    def _split_opposites(
        self,
        result: Floats,
        number: Numbers,
        face: Numbers,
        at: Numbers,
        s: Floats,
        t: Floats,
        weight: Floats,
        idle: Flags,
    ) -> None:
        """Tangents that point exactly against each other don't belong together, even in one group."""
        order = np.argsort(number, kind="stable")
        began = np.flatnonzero(np.diff(number[order], prepend=-1))
        size = np.diff([*began, len(order)])
        first = np.repeat(order[began], size)
        apart = np.minimum(_dot(s[order], s[first]), _dot(t[order], t[first])) < 0
        some = np.logical_or.reduceat(apart, began) & (size <= _LARGEST_FAN) if len(began) else np.zeros(0, bool)
        for begin, count in zip(began[some], size[some], strict=True):
            members = order[begin : begin + count]
            lazy = idle[face[members]]
            near = (s[members] @ s[members].T > -1) & (t[members] @ t[members].T > -1)
            near |= lazy[:, None] | lazy[None, :] | np.eye(count, dtype=bool)
            if near.all():
                continue
            for row, member in zip(near, members, strict=True):
                total = (weight[members[row], None] * s[members[row]]).sum(axis=0, dtype=np.float32)
                result[face[member], at[member], :3] = _unit(total[None])[0]


def _assign_in_order(
    label: Numbers, links: dict[int, list[int]], preserving: Flags, idle: Flags, signs: list[tuple[int, int, int]]
) -> None:
    """Groups where idle triangles are: the first group that reaches one decides which way round it is."""
    way: dict[int, bool] = {}  # of idle triangles
    for start in sorted(links):
        if label[start] >= 0 or idle[start // 3]:
            continue
        orientation = bool(preserving[start // 3])
        stack = [start]
        while stack:
            corner = stack.pop()
            face = corner // 3
            if label[corner] >= 0:
                continue
            if idle[face]:
                way.setdefault(face, orientation)
            if (way[face] if idle[face] else bool(preserving[face])) != orientation:
                continue
            label[corner] = start
            if idle[face]:
                signs.append((face, corner % 3, -1 if orientation else 1))
            stack += links[corner]


def _components(count: int, a: Numbers, b: Numbers) -> Numbers:
    """For each of `count` items the lowest item that it hangs together with, by the links ``a[i]``–``b[i]``."""
    label = np.arange(count)
    while True:
        x, y = label[a], label[b]
        apart = x != y
        if not apart.any():
            return label
        low, high = np.minimum(x, y)[apart], np.maximum(x, y)[apart]
        np.minimum.at(label, high, low)
        while not np.array_equal(shorter := label[label], label):
            label = shorter


def _next(corner: Numbers) -> Numbers:
    return np.asarray(corner // 3 * 3 + (corner % 3 + 1) % 3)


def _dot(a: Floats, b: Floats) -> Floats:
    return np.asarray((a * b).sum(axis=-1, dtype=np.float32))


def _length(vectors: Floats) -> Floats:
    return np.asarray(np.sqrt(_dot(vectors, vectors)))


def _projected(vectors: Floats, normals: Floats) -> Floats:
    return np.asarray(vectors - normals * _dot(normals, vectors)[:, None])


def _unit(vectors: Floats) -> Floats:
    length = _length(vectors)[:, None]
    some = (np.abs(vectors) > _TINY).any(axis=1, keepdims=True) & (length > 0)
    return np.divide(vectors, length, out=vectors.copy(), where=some)
