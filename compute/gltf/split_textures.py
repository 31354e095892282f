"""Occlusion and metallic-roughness in an image each, where one image holds both: the way back of `merge_textures`.

For tools that edit one of them, and for occlusion that is to be stored smaller than the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.merge_textures import Textured
from cloudbaker.compute.gltf.pixels import ImageFormat, TextureWork, Unreadable
from cloudbaker.compute.textures.measure import Pixels


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """How to split."""

    format: ImageFormat = "png"
    """Of new images, which are lossless."""


def split_textures(document: Document, options: SplitOptions = SplitOptions()) -> Textured:
    """Give each material whose occlusion and metallic-roughness show one image two textures, in place.

    Occlusion becomes a grey image; metallic-roughness keeps green and blue, and black where occlusion was.

    >>> split_textures(document)                                                  # doctest: +SKIP
    Textured(materials=1, textures=2, notes=())
    """
    work = TextureWork(document, format=options.format)
    before, done, notes = len(document.items("textures")), 0, []
    for index, material in enumerate(document.items("materials")):
        occlusion = material.get("occlusionTexture")
        rough = material.get("pbrMetallicRoughness", {}).get("metallicRoughnessTexture")
        if not occlusion or not rough:
            continue
        try:
            image = work.image(rough["index"])
            if work.image(occlusion["index"]) != image:
                continue
            pixels = work.pixels(rough["index"])
        except Unreadable as error:
            notes.append(f"/materials/{index}: {error}")
            continue
        at = occlusion["index"], rough["index"]
        occlusion["index"] = work.make((at[0], image, "r"), at[0], "occlusion", partial(_red, pixels))
        rough["index"] = work.make((at[1], image, "gb"), at[1], "", partial(_without_red, pixels))
        done += 1
    return Textured(done, len(document.items("textures")) - before, tuple(notes))


def _red(pixels: Pixels) -> Pixels:
    return pixels[..., 0]


def _without_red(pixels: Pixels) -> Pixels:
    out = pixels[..., :3].copy()
    out[..., 0] = 0
    return out
