"""Tangents: leave out those that a reader makes up alike, or add those that a normal map needs.

A mesh without TANGENT is to be shaded with MikkTSpace tangents (section 3.7.2.1 of the specification), so stored ones
that are just these say nothing new, and are what compresses worst: Draco through DracoPy can't quantize them at all.
They are dropped only on request: some viewers (three.js) take another way where tangents are missing, from the screen's
derivatives, and the picture changes by a shade. Exporters have ways of their own, too: of 35 geometries with tangents
in 16 real models none has these in every corner.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cloudbaker.compute.gltf.document import Array, Document
from cloudbaker.compute.gltf.primitives import Geometry, Shape, read, shapes, write
from cloudbaker.compute.gltf.references import Json, texture_infos
from cloudbaker.compute.meshes import meshopt
from cloudbaker.compute.meshes.tangents import mikktspace

_NEEDING = ("normalTexture", "clearcoatNormalTexture")
_ANISOTROPY = "KHR_materials_anisotropy"


@dataclass(frozen=True, slots=True)
class TangentsOptions:
    """Which way."""

    mode: Literal["drop", "generate"] = "drop"
    """``drop`` what readers make up alike, ``generate`` what a normal map needs and has not."""
    degrees: float = 1.0
    """How far a stored tangent may be from the one that MikkTSpace gives to be dropped. 8-bit ones are off by 0.6."""
    unused: bool = False
    """With ``drop``: also tangents that no material of the primitive asks for."""


@dataclass(frozen=True, slots=True)
class Tangents:
    """Distinct geometries."""

    changed: int
    """That have lost, or got, tangents."""
    kept: int
    """That keep the tangents they came with."""


def tangents(document: Document, options: TangentsOptions = TangentsOptions()) -> Tangents:
    """Drop or generate the tangents of a document in place; what it used before is left for `prune`.

    The texture coordinates are those of the normal map (or of the map of anisotropy). Left alone: geometry whose morph
    targets move tangents, whose materials read different texture coordinates, or have them transformed, and points and
    lines. To generate, vertices are split where the triangles around them need different tangents. The document must
    be decoded (see `decompress.decode`).

    >>> tangents(document)                                                    # doctest: +SKIP
    Tangents(changed=3, kept=34)
    """
    changed = kept = 0
    for shape in list(shapes(document)):
        has = "TANGENT" in shape.first["attributes"]
        if has != (options.mode == "drop"):
            kept += has
            continue
        done = _drop(document, shape, options) if has else _generate(document, shape)
        changed += done
        kept += has and not done
    return Tangents(changed, kept)


# -- drop --------------------------------------------------------------------------------------------------------------


def _drop(document: Document, shape: Shape, options: TangentsOptions) -> bool:
    if any("TANGENT" in target for target in shape.first.get("targets", ())):
        return False
    sets = _texcoords(document, shape)
    if sets != frozenset() or not options.unused:
        if sets is None or len(sets) != 1:
            return False
        geometry = read(document, shape.first)
        made = _made(geometry, *sets)
        if made is None or not _alike(geometry, made, options.degrees):
            return False
    for primitive in shape.primitives:
        del primitive["attributes"]["TANGENT"]
    return True


def _alike(geometry: Geometry, made: Array, degrees: float) -> bool:
    corners = geometry.attributes["POSITION"][geometry.indices]
    seen = np.ones(len(corners), bool)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        seen &= (corners[:, a] != corners[:, b]).any(axis=1)
    stored = geometry.attributes["TANGENT"][geometry.indices[seen]].astype(np.float64)
    made = made[seen]
    length = np.linalg.norm(stored[..., :3], axis=-1)
    cosine = (stored[..., :3] * made[..., :3]).sum(axis=-1) / np.where(length > 0, length, 1)
    return bool((cosine >= np.cos(np.radians(degrees))).all() and (np.sign(stored[..., 3]) == made[..., 3]).all())


# -- generate ----------------------------------------------------------------------------------------------------------


def _generate(document: Document, shape: Shape) -> bool:
    sets = _texcoords(document, shape)
    if sets is None or len(sets) != 1:
        return False
    geometry = read(document, shape.first)
    made = _made(geometry, *sets)
    if made is None:
        return False
    # Each corner as a vertex of its own, and joined again where the tangents allow.
    corner = geometry.indices.ravel()
    streams = {name: data[corner] for name, data in geometry.attributes.items()}
    streams["TANGENT"] = made.reshape(-1, 4)
    for number, target in enumerate(geometry.targets):
        streams |= {f"/{number}/{name}": data[corner] for name, data in target.items()}
    joined = meshopt.weld(streams, np.arange(len(corner), dtype=np.uint32).reshape(-1, 3))
    names = [*geometry.attributes, "TANGENT"]
    write(
        document,
        shape,
        Geometry(
            {name: joined.streams[name] for name in names},
            joined.indices,
            [
                {name: joined.streams[f"/{number}/{name}"] for name in target}
                for number, target in enumerate(geometry.targets)
            ],
        ),
    )
    return True


def _made(geometry: Geometry, texcoord: int) -> Array | None:
    """Tangents of all corners, (t, 3, 4); None where the geometry has not what they are made from."""
    attributes = geometry.attributes
    if "NORMAL" not in attributes or f"TEXCOORD_{texcoord}" not in attributes or not len(geometry.indices):
        return None
    return mikktspace(
        attributes["POSITION"], attributes["NORMAL"], attributes[f"TEXCOORD_{texcoord}"], geometry.indices
    )


# -- materials ---------------------------------------------------------------------------------------------------------


def _texcoords(document: Document, shape: Shape) -> frozenset[int] | None:
    """The sets of texture coordinates that tangents belong to; None where it can't be said."""
    found: set[int] = set()
    for primitive in shape.primitives:
        for material in _materials(document, primitive):
            for info in _asking(material):
                if info is None or info.get("extensions"):  # KHR_texture_transform and whatever else there is
                    return None
                found.add(info.get("texCoord", 0))
    return frozenset(found)


def _materials(document: Document, primitive: Json) -> Iterator[Json]:
    """The material of a primitive, and those of its variants."""
    materials = document.items("materials")
    if "material" in primitive:
        yield materials[primitive["material"]]
    variants = primitive.get("extensions", {}).get("KHR_materials_variants", {})
    for mapping in variants.get("mappings", ()):
        yield materials[mapping["material"]]


def _asking(material: Json) -> Iterator[dict[str, Any] | None]:
    """The texture infos that need tangents; None for anisotropy without a texture."""
    for slot, info in texture_infos(material):
        if slot in _NEEDING:
            yield info
    anisotropy = material.get("extensions", {}).get(_ANISOTROPY)
    if anisotropy is not None:
        yield anisotropy.get("anisotropyTexture")
