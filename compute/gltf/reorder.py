"""Put triangles and vertices in the order that GPUs like. Lossless: not one of them changes.

First triangles, so that vertices just transformed are used again; then clusters of them, outward-facing ones first, so
that fewer pixels are drawn twice; last vertices, in the order in which triangles fetch them.

Source: meshoptimizer; Sander, Nehab and Barczak, "Fast triangle reordering for vertex locality and reduced overdraw",
2007.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cloudbaker.compute.gltf.document import Array, Document
from cloudbaker.compute.gltf.pack import pack
from cloudbaker.compute.gltf.primitives import triangle_list
from cloudbaker.compute.gltf.references import Json
from cloudbaker.compute.gltf.vertices import Drawing, Triangles, rewrite, vertex_sets
from cloudbaker.compute.meshes import meshopt


@dataclass(frozen=True, slots=True)
class ReorderOptions:
    """Which of the three orders."""

    cache: bool = True
    """Triangles for the cache of transformed vertices."""
    overdraw: float = 1.05
    """How much worse the cache may be used so that fewer pixels are drawn twice (1.05: 5 %); 0 leaves that out."""
    fetch: bool = True
    """Vertices in the order of use; drops unused ones."""
    size: bool = False
    """An order of triangles that index codecs and gzip pack tighter, a little worse for the cache; no overdraw."""


@dataclass(frozen=True, slots=True)
class Reordered:
    """Average cache misses of a triangle (0.5 is the least possible, 3.0 the most), over all triangles."""

    before: float
    after: float


def reorder(document: Document, options: ReorderOptions = ReorderOptions()) -> Reordered:
    """Reorder, in place, every geometry that may be; what it used before is left for `prune`.

    Triangles that use the cache well already keep their order, and so do those of a blended material, which are seen
    through each other in it. Vertices that something else uses too keep their place. The document must be decoded (see
    `decompress.decode`).

    >>> reorder(document)                                                     # doctest: +SKIP
    Reordered(before=1.03, after=0.71)
    """
    total = before = after = 0.0
    made: list[int] = []
    for each in vertex_sets(document):
        positions = document.accessor(each.attributes["POSITION"])
        old = [triangle_list(document, drawing.first) for drawing in each.drawings]
        if not all(len(faces) for faces in old):  # an accessor must not be empty
            continue
        new = [
            faces if _is_blended(document, drawing) else _order(faces, positions, options)
            for drawing, faces in zip(each.drawings, old, strict=True)
        ]
        for number, (first, second) in enumerate(zip(old, new, strict=True)):
            misses = [meshopt.vertex_cache_misses(faces, len(positions)) for faces in (first, second)]
            if misses[1] >= misses[0] and not options.size:
                new[number], misses[1] = first, misses[0]
            total += len(first)
            before += len(first) * misses[0]
            after += len(first) * misses[1]
        source = None
        if options.fetch and not each.shared:
            renumbered, source = meshopt.optimize_vertex_fetch(np.concatenate(new), len(positions))
            if np.array_equal(source, np.arange(len(positions))):
                source = None
            else:
                new = np.split(renumbered, np.cumsum([len(faces) for faces in new])[:-1])
        if any(first is not second for first, second in zip(old, new, strict=True)):
            made += rewrite(document, each, new, source)
    pack(document, {*made})
    return Reordered(before / total, after / total) if total else Reordered(0.0, 0.0)


def _order(faces: Triangles, positions: Array, options: ReorderOptions) -> Triangles:
    if not options.cache:
        return faces
    ordered = meshopt.optimize_vertex_cache(faces, len(positions), strip=options.size)
    if options.overdraw and not options.size:
        # Integers of a quantized model serve as well: only directions and clusters matter.
        ordered = meshopt.optimize_overdraw(ordered, positions, threshold=options.overdraw)
    return ordered


def _is_blended(document: Document, drawing: Drawing) -> bool:
    """Whether some material, of a variant too, lets what lies behind shine through."""
    materials = document.items("materials")
    return any(materials[number].get("alphaMode") == "BLEND" for number in _materials(drawing.primitives))


def _materials(primitives: list[Json]) -> set[int]:
    found = {primitive["material"] for primitive in primitives if "material" in primitive}
    for primitive in primitives:
        variants = primitive.get("extensions", {}).get("KHR_materials_variants", {})
        found |= {mapping["material"] for mapping in variants.get("mappings", ()) if "material" in mapping}
    return found
