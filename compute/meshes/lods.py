"""One level of detail of one primitive: as many triangles as asked for, or as few as the measured error allows.

A chain of attempts, because no single one works on every mesh:

1. ``attributes``: collapse with normals, texture coordinates, colours and morph targets in the error metric. Vertices
   are only selected, never moved, so skins, morph targets and custom attributes survive.
2. ``flat``: a flat-shaded mesh has no two triangles that share a vertex, and so nothing to collapse. Join the vertices
   without their normals, collapse, and give the new triangles flat normals again.
3. ``replaced``: another surface in its place that the caller has made (``compute/meshlab``), where it is better. Its
   vertices are new, so this is for geometry with nothing but positions and normals.
4. ``kept``: the mesh as it is, vertices joined where they are equal.

meshoptimizer's own error estimate is not believed: each attempt is measured (`surface_error`) and must pass the gate,
else more triangles are tried. No mesh vanishes: an empty result never passes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudbaker.compute.meshes import meshopt
from cloudbaker.compute.meshes.error import MeshError, Surface, surface_error
from cloudbaker.compute.meshes.meshopt import MeshoptError
from cloudbaker.compute.meshes.normals import smooth_normals
from cloudbaker.compute.meshes.quantize import dequantize
from cloudbaker.compute.meshes.simplify import MAX_ATTRIBUTES, simplify
from cloudbaker.compute.meshes.stretch import texcoord_error
from cloudbaker.compute.meshes.topology import open_edges

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.uint32]

_LOCKED = "/locked"
"""Name of the stream that carries `locked`. Those of morph targets are ``/0/POSITION`` and so on: no attribute's name
begins with a slash."""


@dataclass(frozen=True, slots=True)
class LodOptions:
    """Weights of attributes against a position error of the mesh's whole extent, and how hard to try.

    Measured on FlightHelmet at 25 % of its triangles, as mean position error in %, texture error in pixels of 1024,
    normal error in degrees, difference of the pictures in %: normal weight 0.2 .048, 5.3, 5.5, .85; 0.1 .034, 3.8, 8.4,
    .86; 0.05 .032, 4.3, 9.5, 1.11; 0 (as gltf-transform) .032, 5.2, 12.3, 1.82. What moves a surface least is not what
    looks most alike: shading shows more than a silhouette that is a hundredth of a percent off.
    """

    normal_weight: float = 0.1
    texcoord_weight: float = 1.0
    color_weight: float = 1.0
    morph_weight: float = 1.0
    """Of a morph target's displacement, on the scale of the mesh's extent: what moves apart is not joined."""
    stall: float = 1.1
    """An attempt has stalled if it has more than this many times the wanted triangles."""
    max_texcoord_pixels: float = math.inf
    """Gate on how far the first texture may be shown in other places, a mean in pixels of 1024 (see `stretch.py`).
    Meshes cut into small charts have a floor of some pixels; DamagedHelmet at 25 % has 48."""
    max_to_mean: float = 10.0
    """The worst point may be this many times the gate: a mean of 2 % is also that of a box without one corner."""
    min_triangles: int = 32
    """Smaller primitives are kept: what they cost is a draw call, and a missing corner of a box shows."""
    searches: int = 5
    """Attempts between the ratio that failed and the whole mesh."""
    samples: int = 5_000
    """Points a side for each measurement."""


@dataclass(frozen=True, slots=True)
class LodResult:
    """A simplified primitive. Attributes have the types they came with."""

    attributes: dict[str, Array]
    indices: Indices
    """(t, 3), in vertex cache order; vertices in the order of use, none unused."""
    triangles: int
    error_mean_percent: float
    """Measured against the primitive as it came, in % of its bounding box's diagonal (or of `diagonal`)."""
    error_max_percent: float
    method: str
    """``attributes``, ``flat``, ``replaced`` or ``kept``."""
    note: str
    """Why there are more triangles than asked for; else empty."""
    morph_targets: list[dict[str, Array]] | None
    """As they came in, for the vertices that are left."""
    source: npt.NDArray[np.int64]
    """For each vertex the source vertex it was copied from; -1 where it is a new one."""


def simplify_primitive(
    attributes: Mapping[str, Array],
    indices: Array,
    *,
    ratio: float,
    max_error_percent: float,
    morph_targets: Sequence[Mapping[str, Array]] | None = None,
    locked: Array | None = None,
    diagonal: float | None = None,
    poses: Sequence[Array] = (),
    replacement: tuple[Array, Array] | None = None,
    options: LodOptions = LodOptions(),
) -> LodResult:
    """Simplify a triangle primitive to `ratio` of its triangles, or less far if the mean error would pass the gate.

    `attributes` are (n, k) arrays by glTF semantic, POSITION among them as floats; `indices` is (t, 3);
    `morph_targets` are displacements by semantic, (n, 3) each. Vertices where `locked` (n,) is true stay: pass
    `shared_vertices` of a mesh with several primitives, and no gaps open between them. `diagonal` is what percentages
    refer to, if not to the primitive's own bounding box. `poses` are positions (n, 3) of the same vertices as a skin or
    morph targets move them: the error is the largest of all, so that what passes at rest doesn't tear at an elbow.
    `replacement` is another simplification of it, (positions, indices), that is taken if it passes the gate too and has
    fewer triangles, or as few and a smaller error; only where `may_be_replaced`. Raises MeshoptError on bad shapes,
    indices and numbers.
    """
    if "POSITION" not in attributes:
        raise MeshoptError("a primitive without POSITION can't be simplified")
    positions = meshopt.checked_floats(attributes["POSITION"], 3, "POSITION")
    faces = meshopt.checked_triangles(indices, len(positions)).reshape(-1, 3)
    if not 0 < ratio <= 1:
        raise MeshoptError(f"ratio must be in (0, 1], not {ratio}")
    if any(name.startswith("/") for name in attributes):
        raise MeshoptError("attribute names can't begin with '/'")
    streams: dict[str, Array] = {k: np.asarray(v) for k, v in attributes.items()}
    for number, target in enumerate(morph_targets or ()):
        streams |= {f"/{number}/{k}": np.asarray(v) for k, v in target.items()}
    if locked is not None:
        streams[_LOCKED] = np.asarray(locked, np.uint8)[:, None]
    for name, values in streams.items():
        if values.ndim != 2 or len(values) != len(positions):
            raise MeshoptError(f"{name} must have shape ({len(positions)}, k), not {values.shape}")

    moved = [meshopt.checked_floats(pose, 3, "poses") for pose in poses]
    if any(len(pose) != len(positions) for pose in moved):
        raise MeshoptError(f"poses must have {len(positions)} vertices each")
    posed = tuple((Surface(pose, faces), pose) for pose in moved)
    work = _Work(
        Surface(positions, faces), posed, faces, ratio, max_error_percent, diagonal, options, streams.get("TEXCOORD_0")
    )
    seen = _visible(streams, faces)
    if not len(seen):  # a mesh in one point: a viewer may still find it by name
        seen = faces
    whole = meshopt.weld(streams, seen)
    best = None
    if len(faces) >= options.min_triangles:
        best = work.search(whole, flat=False)
        if work.stalled(best) and _is_flat_shaded(streams, faces):
            without = meshopt.weld({k: v for k, v in streams.items() if k != "NORMAL"}, seen)
            flat = work.search(without, flat=True)
            if flat is not None and (best is None or len(flat.mesh.indices) < len(best.mesh.indices)):
                best = flat
    if replacement is not None and locked is None and may_be_replaced(attributes, morph_targets or ()):
        other = work.replaced(*replacement, like=streams)
        if other is not None and other.better_than(best):
            best = other
    kept = _Attempt(whole, MeshError(0.0, 0.0), "kept", gated=True)
    return _finished(best or kept, len(morph_targets) if morph_targets is not None else None, work)


def may_be_replaced(attributes: Mapping[str, Array], morph_targets: Sequence[Mapping[str, Array]] = ()) -> bool:
    """Whether a primitive's vertices carry nothing that new vertices would lack: positions, and normals made anew."""
    return attributes.keys() <= {"POSITION", "NORMAL"} and not morph_targets


def shared_vertices(positions: Sequence[Array]) -> list[npt.NDArray[np.bool_]]:
    """For each primitive of a mesh, which of its vertices lie exactly where another primitive has one too.

    `positions` are the primitives' (n, 3) arrays, all of one type. Primitives are simplified one by one; if these
    vertices moved, cracks would open along the seams between materials.
    """
    if len(positions) < 2:
        return [np.zeros(len(p), bool) for p in positions]
    owner = np.repeat(np.arange(len(positions)), [len(p) for p in positions])
    place = np.unique(np.concatenate([np.asarray(p) for p in positions]), axis=0, return_inverse=True)[1].ravel()
    first, last = np.full(len(owner), len(positions)), np.full(len(owner), -1)
    np.minimum.at(first, place, owner)
    np.maximum.at(last, place, owner)
    shared = first[place] != last[place]
    return np.split(shared, np.cumsum([len(p) for p in positions])[:-1])


# --------------------------------------------------------------------------------------------------------- the search


@dataclass(frozen=True, slots=True)
class _Attempt:
    mesh: meshopt.Welded
    error: MeshError
    method: str
    gated: bool
    """Fewer triangles were possible, but did not pass the gate."""

    def better_than(self, other: _Attempt | None) -> bool:
        """Fewer triangles by a twentieth, or about as many and a smaller error."""
        if other is None:
            return True
        ours, theirs = len(self.mesh.indices), len(other.mesh.indices)
        return ours < 0.95 * theirs or (ours <= 1.05 * theirs and self.error.mean_percent < other.error.mean_percent)


@dataclass(frozen=True)
class _Work:
    """What all attempts at one primitive share."""

    source: Surface
    poses: tuple[tuple[Surface, Array], ...]
    faces: Indices
    ratio: float
    gate: float
    diagonal: float | None
    options: LodOptions
    texcoords: Array | None
    """TEXCOORD_0 of the source's vertices."""

    @cached_property
    def borders(self) -> int:
        """Open edges of the source."""
        return open_edges(self.source.vertices, self.source.faces)

    @property
    def wanted(self) -> int:
        return max(1, round(len(self.faces) * self.ratio))

    def stalled(self, attempt: _Attempt | None) -> bool:
        return attempt is None or len(attempt.mesh.indices) > self.wanted * self.options.stall

    def search(self, mesh: meshopt.Welded, *, flat: bool) -> _Attempt | None:
        """The simplest attempt that passes the gate: the wanted ratio, or by bisection between it and the whole."""
        available = len(mesh.indices)
        if available <= self.wanted:
            return None
        low = self.wanted / available
        best = self.attempt(mesh, low, flat=flat, gated=False)
        if best is not None:
            return best
        high = 1.0
        for _ in range(self.options.searches):
            middle = (low + high) / 2
            attempt = self.attempt(mesh, middle, flat=flat, gated=True)
            if attempt is None:
                low = middle
            else:
                best, high = attempt, middle
        return best

    def attempt(self, mesh: meshopt.Welded, ratio: float, *, flat: bool, gated: bool) -> _Attempt | None:
        """One simplification, measured; None if nothing was gained or it did not pass the gate."""
        values, weights = _metric(mesh.streams, self.options)
        locked = mesh.streams[_LOCKED][:, 0] if _LOCKED in mesh.streams else None
        points = mesh.streams["POSITION"]
        indices, _ = simplify(points, mesh.indices, ratio=ratio, attributes=values, weights=weights, locked=locked)
        indices = _visible(mesh.streams, indices)
        if not len(indices) or len(indices) >= len(self.faces):
            return None
        error = self.error(mesh, indices)
        if not self.passes(error) or self.tears(points, indices) or self.stretches(mesh, indices):
            return None
        simpler = meshopt.Welded(mesh.streams, indices, mesh.source)
        if flat:
            return _Attempt(_with_flat_normals(simpler), error, "flat", gated)
        return _Attempt(simpler, error, "attributes", gated)

    def error(self, mesh: meshopt.Welded, indices: Indices) -> MeshError:
        """Of triangles over a mesh's vertices, at rest and in all poses; the first that does not pass is enough."""
        pairs = [(self.source, mesh.streams["POSITION"]), *((pose, moved[mesh.source]) for pose, moved in self.poses)]
        worst = MeshError(0.0, 0.0)
        for surface, points in pairs:
            found = surface_error(
                surface, Surface(points, indices), samples=self.options.samples, diagonal=self.diagonal
            )
            worst = MeshError(max(worst.mean_percent, found.mean_percent), max(worst.max_percent, found.max_percent))
            if not self.passes(worst):
                break
        return worst

    def replaced(self, positions: Array, indices: Array, *, like: Mapping[str, Array]) -> _Attempt | None:
        """A surface that the caller has made, with normals of its own where the source has normals."""
        points = meshopt.checked_floats(positions, 3, "replacement")
        faces = meshopt.checked_triangles(indices, len(points)).reshape(-1, 3)
        if not len(faces) or len(faces) >= len(self.faces):
            return None
        error = surface_error(self.source, Surface(points, faces), samples=self.options.samples, diagonal=self.diagonal)
        if not self.passes(error) or self.tears(points, faces):
            return None
        corner = faces.ravel()
        streams = {"POSITION": points[corner]}
        if "NORMAL" in like:
            streams["NORMAL"] = smooth_normals(points, faces).reshape(-1, 3)
        joined = meshopt.weld(streams, np.arange(len(corner), dtype=np.uint32).reshape(-1, 3))
        mesh = meshopt.Welded(joined.streams, joined.indices, np.full(len(joined.source), -1, np.int64))
        return _Attempt(mesh, error, "replaced", gated=False)

    def stretches(self, mesh: meshopt.Welded, indices: Indices) -> bool:
        """Whether the texture is shown too far from where it was."""
        if self.texcoords is None or math.isinf(self.options.max_texcoord_pixels):
            return False
        other = Surface(mesh.streams["POSITION"], indices)
        off = texcoord_error(
            self.source, self.texcoords, other, mesh.streams["TEXCOORD_0"], samples=self.options.samples
        )
        return off > self.options.max_texcoord_pixels

    def tears(self, positions: Array, indices: Array) -> bool:
        """Whether it is open where its source is closed, or more open: a crack hardly shows in a mean error."""
        return open_edges(positions, indices) > self.borders

    def passes(self, error: MeshError) -> bool:
        """The gate."""
        return error.mean_percent <= self.gate and error.max_percent <= self.gate * self.options.max_to_mean


def _metric(streams: Mapping[str, Array], options: LodOptions) -> tuple[Array, Array]:
    """Attribute values (n, k ≤ 32) and weights (k,) for the simplifier's metric."""
    parts: list[Array] = []
    weights: list[float] = []
    for name, weight in (
        ("NORMAL", options.normal_weight),
        ("TEXCOORD_0", options.texcoord_weight),
        ("COLOR_0", options.color_weight),
    ):
        if name in streams and weight > 0:
            values = dequantize(streams[name])
            parts.append(values)
            weights += [weight] * values.shape[1]
    points = streams["POSITION"]
    extent = float(np.ptp(points, axis=0).max()) if len(points) else 0.0
    moves = [v for k, v in streams.items() if k.startswith("/") and k.endswith("/POSITION")]
    if extent > 0 and options.morph_weight > 0:
        # There is room for eight or so: those that move most.
        moves.sort(key=lambda v: -float(np.abs(v).max(initial=0)))
        for move in moves[: (MAX_ATTRIBUTES - len(weights)) // 3]:
            # A thousand times the extent is far enough: a target of a mesh in nearly one point passes 3e38.
            parts.append(np.clip(np.asarray(move, np.float64) / extent, -1e3, 1e3).astype(np.float32))
            weights += [options.morph_weight] * 3
    if not parts:
        return np.empty((len(points), 0), np.float32), np.empty(0, np.float32)
    return np.concatenate(parts, axis=1), np.asarray(weights, np.float32)


# ---------------------------------------------------------------------------------------------------- flat shading


def _face_normals(positions: Array, faces: Indices) -> Array:
    """Unit normals (t, 3); zero where a triangle has no area."""
    a, b, c = (np.asarray(positions, np.float64)[faces[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.asarray(np.divide(normals, length, out=np.zeros_like(normals), where=length > 0))


def _is_flat_shaded(streams: Mapping[str, Array], faces: Indices) -> bool:
    """Whether nine in ten corners have the normal of their triangle (within 2.5°), and nothing else hangs on normals.

    Tangents and morph targets of normals would have to be made anew with them.
    """
    bound = ("/NORMAL", "/TANGENT")
    if "NORMAL" not in streams or "TANGENT" in streams or any(k.startswith("/") and k.endswith(bound) for k in streams):
        return False
    normals = dequantize(streams["NORMAL"]).astype(np.float64)[faces]
    cosine = np.einsum("tkc,tc->tk", normals, _face_normals(streams["POSITION"], faces))
    return bool(np.mean(cosine > 0.999 * np.linalg.norm(normals, axis=2)) > 0.9)


def _with_flat_normals(mesh: meshopt.Welded) -> meshopt.Welded:
    """Each triangle with its own three corners and one normal; equal ones joined again (coplanar neighbours)."""
    faces = _face_normals(mesh.streams["POSITION"], mesh.indices)
    # A triangle without area shows nothing, but its normals must still have length one.
    faces[~faces.any(axis=1)] = (0.0, 0.0, 1.0)
    corner = mesh.indices.ravel()
    streams = {k: v[corner] for k, v in mesh.streams.items()}
    streams["NORMAL"] = np.repeat(faces, 3, axis=0).astype(np.float32)
    joined = meshopt.weld(streams, np.arange(len(corner), dtype=np.uint32).reshape(-1, 3))
    return meshopt.Welded(joined.streams, joined.indices, mesh.source[corner][joined.source])


# ----------------------------------------------------------------------------------------------------------- the end


def _visible(streams: Mapping[str, Array], faces: Indices) -> Indices:
    """Without triangles that have two corners in one place, if nothing can ever move these apart.

    Collapsing an edge of a texture seam leaves such triangles: one in fifty on a sphere at half its triangles.
    """
    moving = ("POSITION", "JOINTS_", "WEIGHTS_")
    together = {
        k: v for k, v in streams.items() if k.startswith(moving) or (k.startswith("/") and k.endswith("/POSITION"))
    }
    a, b, c = meshopt.weld(together, faces).indices.T
    return np.asarray(faces[(a != b) & (b != c) & (c != a)])


def _finished(best: _Attempt, targets: int | None, work: _Work) -> LodResult:
    """Triangles and vertices in the order a GPU likes, unused vertices dropped everywhere alike."""
    mesh = best.mesh
    count = len(mesh.streams["POSITION"])
    indices = meshopt.optimize_vertex_cache(mesh.indices, count)
    indices = meshopt.optimize_overdraw(indices, mesh.streams["POSITION"])
    indices, used = meshopt.optimize_vertex_fetch(indices, count)
    streams = {k: np.ascontiguousarray(v[used]) for k, v in mesh.streams.items() if k != _LOCKED}
    triangles = len(indices)
    note = ""
    if len(work.faces) < work.options.min_triangles:
        note = f"kept: {triangles} triangles are too few to simplify"
    elif triangles > work.wanted * work.options.stall:
        reason = "the error gate" if best.gated else "its topology"
        note = f"{triangles} triangles instead of {work.wanted}: {reason} allows no fewer"
    morphs = None
    if targets is not None:
        morphs = [
            {k.split("/", 2)[2]: v for k, v in streams.items() if k.startswith(f"/{number}/")}
            for number in range(targets)
        ]
    return LodResult(
        attributes={k: v for k, v in streams.items() if not k.startswith("/")},
        indices=indices,
        triangles=triangles,
        error_mean_percent=best.error.mean_percent,
        error_max_percent=best.error.max_percent,
        method=best.method,
        note=note,
        morph_targets=morphs,
        source=mesh.source[used],
    )
