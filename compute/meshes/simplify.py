"""Fewer triangles from the same vertices, by meshoptimizer.

Edges are collapsed onto existing vertices only, so every attribute (skin, morph targets, colours, texture coordinates)
survives with the vertices it belongs to. Measured against pymeshlab: 10 to 30 times faster, with comparable error.

Source: Garland and Heckbert, "Surface simplification using quadric error metrics", 1997, and Hoppe's attribute
quadrics, 1999, as implemented in meshoptimizer.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudbaker.compute.meshes.meshopt import MeshoptError, checked_floats, checked_triangles, library, pointer

Array = npt.NDArray[Any]

MAX_ATTRIBUTES = 32
"""Attribute components that meshoptimizer can weigh."""

_LOCK_BORDER, _PRUNE = 1 << 0, 1 << 3


@dataclass(frozen=True, slots=True)
class SimplifyOptions:
    """What may be collapsed."""

    max_error: float = 1.0
    """Stop where a collapse would move the surface by more than this part of the mesh's extent (meshoptimizer's own
    estimate; measure the result with `mesh_error`)."""
    lock_border: bool = False
    """Keep vertices on open edges, for parts that must still meet their neighbours."""
    prune: bool = False
    """Also drop small disconnected parts. With a large `max_error` this can empty a mesh."""


def simplify(
    positions: Array,
    indices: Array,
    *,
    ratio: float,
    attributes: Array | None = None,
    weights: Array | None = None,
    locked: Array | None = None,
    options: SimplifyOptions = SimplifyOptions(),
) -> tuple[npt.NDArray[np.uint32], float]:
    """The (t, 3) indices of a simpler mesh over the same vertices, and meshoptimizer's estimate of its error.

    `ratio` is the part of the triangles wanted, in (0, 1]; topology, seams and `max_error` may stop it earlier, and the
    result may be empty. `attributes` (n, k ≤ 32) are values whose change counts as error beside the positions', each
    times its one of `weights` (k,), on a scale where the mesh's extent is 1. Vertices where `locked` (n,) is true do
    not move. The error is relative to the mesh's extent. Raises MeshoptError.
    """
    points = checked_floats(positions, 3, "positions")
    flat = checked_triangles(indices, len(points))
    if not 0 < ratio <= 1:
        raise MeshoptError(f"ratio must be in (0, 1], not {ratio}")
    if not flat.size:
        return flat.reshape(-1, 3), 0.0
    if not options.max_error >= 0:
        raise MeshoptError(f"max_error must not be negative, not {options.max_error}")
    # At least one triangle is asked for: a target of zero empties any mesh.
    target = 3 * max(1, round(flat.size // 3 * ratio))
    flags = (_LOCK_BORDER if options.lock_border else 0) | (_PRUNE if options.prune else 0)

    values, scale = np.empty((len(points), 0), np.float32), np.empty(0, np.float32)
    if attributes is not None and np.asarray(attributes).size:
        values = checked_floats(attributes, None, "attributes")
        scale = checked_floats(np.asarray(weights).reshape(1, -1), None, "weights")[0]
        if len(values) != len(points) or values.shape[1] != len(scale):
            raise MeshoptError(f"attributes {values.shape} and weights {scale.shape} do not fit {len(points)} vertices")
        if values.shape[1] > MAX_ATTRIBUTES:
            raise MeshoptError(f"{values.shape[1]} attribute components are too many: at most {MAX_ATTRIBUTES}")
        if (scale < 0).any():
            raise MeshoptError("weights must not be negative")
    fixed = None
    if locked is not None:
        fixed = np.ascontiguousarray(np.asarray(locked, bool), np.uint8)
        if fixed.shape != (len(points),):
            raise MeshoptError(f"locked must have shape ({len(points)},), not {fixed.shape}")

    out = np.empty_like(flat)
    error = ctypes.c_float(0.0)
    common = (pointer(out), pointer(flat), flat.size, pointer(points), len(points), 12)
    limit = (target, float(options.max_error), flags, ctypes.addressof(error))
    if values.shape[1] or fixed is not None:
        count = library().simplifyWithAttributes(
            *common,
            pointer(values),
            values.shape[1] * 4,
            pointer(scale),
            values.shape[1],
            None if fixed is None else pointer(fixed),
            *limit,
        )
    else:
        count = library().simplify(*common, *limit)
    return out[:count].reshape(-1, 3).copy(), float(error.value)
