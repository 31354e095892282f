"""How far a simplified surface shows its texture in other places: what no distance between surfaces sees.

Source: the measure behind the table in docs/decisions/003, with even instead of random places.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cloudbaker.compute.meshes.error import Surface, even_places
from cloudbaker.compute.meshes.quantize import dequantize

Array = npt.NDArray[Any]

PIXELS = 1024
"""Pixels that a texture is taken to have across: errors are in those."""


def texcoord_error(
    source: Surface, source_texcoords: Array, other: Surface, texcoords: Array, *, samples: int = 5_000
) -> float:
    """Mean distance, in pixels of a texture of 1024, between where a place of `other` lies in the texture and where the
    nearest place of `source` does.

    Both texture coordinates are (n, 2), floats or normalized integers, for all the positions that the surfaces were
    made of. At a seam of the texture the nearest place may be on its other side, which counts as it is: a mesh cut into
    small charts has a floor of some pixels. Raises ValueError on shapes.
    """
    ours, theirs = (_of(surface, values) for surface, values in ((source, source_texcoords), (other, texcoords)))
    if not len(source.faces) or not len(other.faces):
        return 0.0
    corners = other.vertices[other.faces]
    chosen, weights = even_places(corners, samples)
    if not len(chosen):
        return 0.0
    there = np.einsum("ij,ijk->ik", weights, theirs[other.faces[chosen]])
    hit, placed = source.nearest(np.einsum("ij,ijk->ik", weights, corners[chosen]))
    here = np.einsum("ij,ijk->ik", placed, ours[source.faces[hit]])
    return float(PIXELS * np.linalg.norm(here - there, axis=1).mean())


def _of(surface: Surface, texcoords: Array) -> npt.NDArray[np.float64]:
    """Texture coordinates of a surface's own vertices."""
    values = np.asarray(texcoords)
    if values.shape != (len(surface.used), 2):
        raise ValueError(f"texture coordinates must have shape ({len(surface.used)}, 2), not {values.shape}")
    return np.asarray(dequantize(values)[surface.used], np.float64)
