"""Fewer triangles: every triangle geometry of a document, each as far as its measured error allows.

See `meshes.lods.simplify_primitive` for how one geometry is done, and what it falls back on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cloudbaker.compute.gltf.document import Array, Document
from cloudbaker.compute.gltf.poses import deform, poses, stands, viewers
from cloudbaker.compute.gltf.primitives import Geometry, read, shapes, write
from cloudbaker.compute.gltf.surfaces import key_of, seams
from cloudbaker.compute.meshes.lods import LodOptions, simplify_primitive

_SEARCH = LodOptions(samples=1500)
"""A mean over 1,500 points is good to some 10 %, which is enough for a gate."""


@dataclass(frozen=True, slots=True)
class SimplifyOptions:
    """How far to go."""

    ratio: float = 0.5
    """Triangles wanted, of those there are."""
    max_error_percent: float = 1.0
    """Gate on each geometry's measured mean error, in % of its bounding box's diagonal, at rest and in every pose."""
    max_texcoord_pixels: float = math.inf
    """Gate on how far its texture may be shown in other places, a mean in pixels of 1024."""
    search: LodOptions = _SEARCH


@dataclass(frozen=True, slots=True)
class Simplified:
    """What came of it: triangles of the distinct geometries, each once."""

    before: int
    after: int
    note: str = ""
    """Why there are more than were wanted; else empty."""


def simplify(document: Document, options: SimplifyOptions = SimplifyOptions()) -> Simplified:
    """Simplify, in place, every geometry whose vertices may be put in another order (see `primitives.shapes`).

    The document must be decoded (see `decompress.decode`); what it used before is left for `prune`. Vertices are only
    ever dropped, never moved, so skins, morph targets, colours and texture coordinates stay as they are; no geometry
    vanishes, and primitives of one mesh still meet where they met. Raises `MeshoptError` on a ratio outside (0, 1].

    >>> simplify(document, SimplifyOptions(ratio=0.25))                       # doctest: +SKIP
    Simplified(before=3448, after=862, note='')
    """
    return simplify_or_replace(document, options, {})


def simplify_or_replace(
    document: Document, options: SimplifyOptions, replacements: Mapping[str, tuple[Array, Array]]
) -> Simplified:
    """`simplify`, with other simplifications at hand: (positions, indices) by `surfaces.key_of`, for geometry that
    carries nothing but positions and normals. The better is taken (see `lods.simplify_primitive`)."""
    before = after = 0
    search = replace(options.search, max_texcoord_pixels=options.max_texcoord_pixels)
    moments = poses(document)
    shown = viewers(document) if moments else {}
    found = [(shape, read(document, shape.first)) for shape in shapes(document)]
    for (shape, arrays), locked in zip(found, seams(document, found), strict=True):
        if not len(arrays.indices):
            continue
        nodes = [node for primitive in shape.primitives for node in shown.get(id(primitive), ())]
        result = simplify_primitive(
            arrays.attributes,
            arrays.indices,
            ratio=options.ratio,
            max_error_percent=options.max_error_percent,
            morph_targets=arrays.targets,
            locked=locked,
            poses=[deform(document, *at, arrays) for at in stands(document, moments, nodes, arrays)],
            replacement=replacements.get(key_of(arrays)) if replacements else None,
            options=search,
        )
        before += len(arrays.indices)
        after += result.triangles
        if result.triangles < len(arrays.indices):
            write(document, shape, Geometry(result.attributes, result.indices, result.morph_targets or []))
    note = ""
    if after > before * options.ratio * 1.1:
        note = (
            f"{after / before:.0%} of the triangles instead of {options.ratio:.0%}: with fewer the mean error would "
            f"pass {options.max_error_percent:g} %, or the mesh can't be simplified further"
        )
    return Simplified(before, after, note)
