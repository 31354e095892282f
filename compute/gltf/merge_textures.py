"""Occlusion and metallic-roughness in one image: red is what glTF reads as occlusion, green and blue the others.

Two textures become one: less memory on the GPU, one fetch for each pixel less, and one file for an encoder to do.
`split_textures` is the way back.

Source: glTF 2.0, 3.9.3 and 5.19 (channels of occlusionTexture and metallicRoughnessTexture are disjoint on purpose).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from cloudbaker.canonical import canonical_json
from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.pixels import ImageFormat, TextureWork, Unreadable, placement, same_size
from cloudbaker.compute.gltf.references import Json, references, texture_infos
from cloudbaker.compute.textures.measure import Pixels


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """How to merge."""

    resize: bool = False
    """Also where the sizes differ: the smaller one is scaled up, which is no longer exact."""
    format: ImageFormat = "png"
    """Of new images, which are lossless."""


@dataclass(frozen=True, slots=True)
class Textured:
    """What came of merging or splitting."""

    materials: int = 0
    """That have other textures now."""
    textures: int = 0
    """Made for them."""
    notes: tuple[str, ...] = ()
    """Materials that stay as they were, and why."""


def merge_textures(document: Document, options: MergeOptions = MergeOptions()) -> Textured:
    """Give each material one texture for occlusion and metallic-roughness, in place, texel by texel as they were.

    Only where both lie alike on the surface (UV set, transform, sampler) and have the same size, and where no other
    use would keep one of the old images in the file. The old textures lose their users.

    >>> merge_textures(document)                                                  # doctest: +SKIP
    Textured(materials=1, textures=1, notes=())
    """
    work = TextureWork(document, format=options.format)
    before, notes = len(document.items("textures")), {}
    pairs: dict[int, tuple[Json, Json]] = {}
    for index, material in enumerate(document.items("materials")):
        found = _pair(material)
        if found is None:
            continue
        reason = _why_not(work, *found, resize=options.resize)
        if reason:
            notes[index] = reason
        else:
            pairs[index] = found
    for index in _shared(document, work, pairs):
        del pairs[index]
        notes[index] = "something else uses one of the two images, which would stay in the file beside the new one"
    done = 0
    for index, (occlusion, rough) in pairs.items():
        key = work.image(occlusion["index"]), work.image(rough["index"]), _sampler(document, rough)
        try:
            texture = work.make(key, rough["index"], "", partial(_merged, work, occlusion["index"], rough["index"]))
        except Unreadable as error:  # headers are sound, what follows is not
            notes[index] = str(error)
            continue
        occlusion["index"] = rough["index"] = texture
        done += 1
    return Textured(
        done,
        len(document.items("textures")) - before,
        tuple(f"/materials/{index}: {reason}" for index, reason in sorted(notes.items()) if reason != _DONE),
    )


_DONE = "both show one image already"


def _why_not(work: TextureWork, occlusion: Json, rough: Json, *, resize: bool) -> str:
    """Why the two can't be one; empty where they can."""
    try:
        if work.image(occlusion["index"]) == work.image(rough["index"]):
            return _DONE
        if placement(occlusion) != placement(rough):
            return "the two lie differently on the surface"
        if _sampler(work.document, occlusion) != _sampler(work.document, rough):
            return "the two are sampled differently"
        first, second = work.size(occlusion["index"]), work.size(rough["index"])
    except Unreadable as error:
        return str(error)
    if first != second and not resize:
        sizes = " and ".join(f"{width} × {height}" for width, height in (first, second))
        return f"they have {sizes} pixels: option resize scales the smaller one up"
    return ""


def _shared(document: Document, work: TextureWork, pairs: dict[int, tuple[Json, Json]]) -> list[int]:
    """Materials whose images also serve something that stays as it is."""
    holders = _holders(document, work)
    left, refused = dict(pairs), list[int]()
    while True:  # one that stays may make others stay
        replaced = {id(info) for pair in left.values() for info in pair}
        stay = [
            index for index, pair in left.items() if any(holders[work.image(info["index"])] - replaced for info in pair)
        ]
        if not stay:
            return refused
        refused += stay
        for index in stay:
            del left[index]


def _pair(material: Json) -> tuple[Json, Json] | None:
    """Texture infos of occlusion and metallic-roughness."""
    occlusion = material.get("occlusionTexture")
    rough = material.get("pbrMetallicRoughness", {}).get("metallicRoughnessTexture")
    return (occlusion, rough) if occlusion and rough else None


def _sampler(document: Document, info: Json) -> bytes:
    """What a texture's sampler does, whatever it is called."""
    index = document.items("textures")[info["index"]].get("sampler")
    sampler = document.items("samplers")[index] if index is not None else {}
    return canonical_json(
        {
            "wrapS": sampler.get("wrapS", 10497),
            "wrapT": sampler.get("wrapT", 10497),
            "filters": [sampler.get("magFilter"), sampler.get("minFilter")],
        }
    )


def _holders(document: Document, work: TextureWork) -> dict[int, set[int]]:
    """For each image the `id` of every texture info that shows it; 0 stands for any other use."""
    infos = {id(info) for material in document.items("materials") for _, info in texture_infos(material)}
    found: dict[int, set[int]] = {index: set() for index in range(len(document.items("images")))}
    for holder, key, _ in references(document.json, "textures"):
        try:
            found[work.image(holder[key])].add(id(holder) if id(holder) in infos else 0)
        except Unreadable:
            continue  # not one that we can merge
    textures = {id(t) for t in document.items("textures")}
    textures |= {id(e) for t in document.items("textures") for e in (t.get("extensions") or {}).values()}
    for holder, key, _ in references(document.json, "images"):
        if id(holder) not in textures:
            found[holder[key]].add(0)
    return found


def _merged(work: TextureWork, occlusion: int, rough: int) -> Pixels:
    first, second = same_size(work.pixels(occlusion), work.pixels(rough), slots=("data", "data"))
    return np.dstack([first[..., 0], second[..., 1], second[..., 2]])
