"""Soup to surface: merge, remove what is double or flat, part what branches, orient, close holes; then measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudbaker.compute.job import Limits
from cloudbaker.compute.meshes.error import MeshError, Surface, surface_error
from cloudbaker.compute.meshes.topology import Topology, parts, topology
from cloudbaker.compute.meshlab.process import LIMITS, MeshlabError, call

Array = npt.NDArray[Any]

DECISIVE = 0.6
"""Part of a component's area that has to agree on a front side before the component keeps it."""


@dataclass(frozen=True, slots=True)
class RepairOptions:
    """What is mended."""

    merge_percent: float = 0.001
    """Vertices that are closer than this, in % of the bounding box's diagonal, become one. 0: only equal ones."""
    largest_hole: int = 30
    """Holes of at most this many edges are closed; 0: none. Larger ones are more likely meant."""
    remove_branches: bool = False
    """Where more than two triangles meet at an edge, remove the smallest until two are left. Otherwise they are parted
    at the edge and nothing disappears: two boxes that touch stay two boxes."""

    def __post_init__(self) -> None:
        if not 0 <= self.merge_percent <= 10:
            raise MeshlabError(f"merge_percent must be 0 to 10, not {self.merge_percent}")
        if not 0 <= self.largest_hole <= 10_000:
            raise MeshlabError(f"largest_hole must be 0 to 10000, not {self.largest_hole}")


@dataclass(frozen=True, slots=True)
class Repaired:
    """A mended mesh, what it was before, and how far it is from that."""

    positions: npt.NDArray[np.float32]
    """(n, 3)."""
    indices: npt.NDArray[np.uint32]
    """(t, 3)."""
    before: Topology
    after: Topology
    error: MeshError
    """Against the source, both ways: what was removed counts, and so does what closed a hole."""
    new_triangles: int
    """Those that close holes."""
    turned_triangles: int
    """Those that show their other side now."""
    notes: tuple[str, ...]
    """Filters that refused the mesh."""
    seconds: float
    """Of PyMeshLab's process, its start included (about 0.6 s)."""


def repair(
    positions: Array, indices: Array, options: RepairOptions = RepairOptions(), *, limits: Limits = LIMITS
) -> Repaired:
    """Mend a mesh of finite `positions` (n, 3) and `indices` (t, 3) in a process of its own.

    Only positions are worked on: normals, texture coordinates and weights have to be made anew. A component whose
    triangles mostly agreed on a front side keeps it; where they did not, a closed one is turned outwards. Raises what
    `process.call` raises, and `MeshlabError` if nothing is left.
    """
    before = topology(positions, indices)
    answer = call(
        "repair",
        {
            "merge_percent": options.merge_percent,
            "largest_hole": options.largest_hole,
            "branches": "Remove Faces" if options.remove_branches else "Split Vertices",
        },
        [(positions, indices)],
        limits=limits,
    )
    if not len(answer.indices):
        raise MeshlabError("no triangle is left after the repair: the mesh has no area")
    source = np.asarray(positions, np.float64)[np.asarray(indices, np.int64)]
    faces = _oriented(answer.positions, answer.indices.astype(np.int64), answer.origin, source)
    points = answer.positions.astype(np.float32)
    error = surface_error(Surface(np.asarray(positions, np.float64), np.asarray(indices)), Surface(points, faces))
    known = answer.origin >= 0
    agreement = np.einsum("ij,ij->i", _area(answer.positions[faces[known]]), _area(source[answer.origin[known]]))
    return Repaired(
        positions=points,
        indices=faces.astype(np.uint32),
        before=before,
        after=topology(points, faces),
        error=error,
        new_triangles=int((~known).sum()),
        turned_triangles=int((agreement < 0).sum()),
        notes=answer.notes,
        seconds=answer.seconds,
    )


def _area(triangles: Array) -> Array:
    """Normals (t, 3) of (t, 3, 3) corners, as long as the triangle's area is large."""
    return np.asarray(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]) / 2)


def _oriented(
    positions: npt.NDArray[np.float64],
    faces: npt.NDArray[np.int64],
    origin: npt.NDArray[np.int32],
    source: Array,
) -> npt.NDArray[np.int64]:
    """Components, each coherent by now, turned to the side that most of the source's triangles showed, or outwards."""
    part = parts(faces)
    count = int(part.max()) + 1
    areas = _area(positions[faces])
    known = origin >= 0
    agreement = np.zeros(len(faces))
    agreement[known] = np.sign(np.einsum("ij,ij->i", areas[known], _area(source[origin[known]])))
    weight = np.linalg.norm(areas, axis=1)
    voted = np.bincount(part[known], weights=weight[known], minlength=count)
    votes = np.bincount(part, weights=weight * agreement, minlength=count)
    # Signed volume, about the middle: far from the origin it would be a difference of large numbers.
    centers = positions[faces].mean(axis=1) - positions.mean(axis=0)
    volume = np.bincount(part, weights=np.einsum("ij,ij->i", centers, areas), minlength=count)
    decisive = np.abs(votes) >= (2 * DECISIVE - 1) * voted
    turn = np.where(decisive & (voted > 0), votes < 0, volume < 0)[part]
    result = faces.copy()
    result[turn] = faces[turn][:, ::-1]
    return result
