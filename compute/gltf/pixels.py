"""Pixels of a document's textures, for the verbs that compute new ones: read when needed, put back as new images.

What comes back is stored without loss. It has the pixels that glTF means (8 bits a channel, no colour profile, no EXIF
orientation), so a bake may encode it anew like any other image.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Literal

import numpy as np
from PIL import Image

from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.references import WEBP, Json
from cloudbaker.compute.textures.decode import READABLE, ImageError, checked_header, decode_image
from cloudbaker.compute.textures.headers import ImageHeader
from cloudbaker.compute.textures.measure import Pixels
from cloudbaker.compute.textures.prepare import scale

ImageFormat = Literal["png", "webp"]
MAX_PIXELS = 64 << 20
_KEPT = 4
"""Images that stay decoded: materials come with their textures, and fifty of 4096² pixels would take 2.5 GB."""
_ALTERNATIVES = ("KHR_texture_basisu", "EXT_texture_avif", "MSFT_texture_dds")


class Unreadable(Exception):
    """A texture whose pixels can't be had here, and why."""


class TextureWork:
    """The textures of a document while a verb works on them."""

    def __init__(self, document: Document, *, format: ImageFormat = "png", max_pixels: int = MAX_PIXELS) -> None:
        if format not in ("png", "webp"):
            raise ValueError(f"format must be png or webp, not {format!r}")
        self.document = document
        self.format = format
        self.max_pixels = max_pixels
        self._read: dict[int, Pixels] = {}
        self._made: dict[object, int] = {}

    def image(self, texture: int) -> int:
        """The image that a texture shows: its WebP, else its core source. Raises `Unreadable` where it has neither."""
        item = self.document.items("textures")[texture]
        extensions = item.get("extensions") or {}
        for name in _ALTERNATIVES:
            if name in extensions:
                raise Unreadable(f"texture {texture} is in {name}, whose pixels are not decoded here")
        index = (extensions.get(WEBP) or {}).get("source", item.get("source"))
        if type(index) is not int:
            raise Unreadable(f"texture {texture} has no image")
        return index

    def size(self, texture: int) -> tuple[int, int]:
        """(width, height) by the image's header. Raises `Unreadable`."""
        _, header = self._header(self.image(texture))
        return header.width, header.height

    def pixels(self, texture: int) -> Pixels:
        """(height, width, 3), or 4 where alpha is not all opaque; uint8, colours as stored. Raises `Unreadable`."""
        index = self.image(texture)
        pixels = self._read.pop(index, None)
        if pixels is None:
            data, header = self._header(index)
            try:
                pixels = decode_image(data, header)
            except ImageError as error:
                raise Unreadable(f"image {index}: {error}") from error
        self._read[index] = pixels  # the last used is the last of the dictionary
        if len(self._read) > _KEPT:
            del self._read[next(iter(self._read))]
        return pixels

    def _header(self, index: int) -> tuple[memoryview, ImageHeader]:
        image = self.document.items("images")[index]
        if "bufferView" not in image:
            raise Unreadable(f"image {index} does not lie in this file")
        data = self.document.view(image["bufferView"])
        try:
            header = checked_header(data, self.max_pixels)
        except ImageError as error:
            raise Unreadable(f"image {index}: {error}") from error
        if header.mime not in READABLE:
            raise Unreadable(f"image {index} is {header.mime}, whose pixels are not decoded here")
        return data, header

    def make(self, key: object, like: int, what: str, pixels: Callable[[], Pixels]) -> int:
        """The texture that shows these new pixels, once for each `key`: sampler and extras are those of `like`.

        The image is called as that of `like`, and `what` behind it. Without `what` it is the heir of that image, with
        its extras too.
        """
        if key not in self._made:
            self._made[key] = self._add(like, what, pixels())
        return self._made[key]

    def _add(self, like: int, what: str, pixels: Pixels) -> int:
        document, old = self.document, self.document.items("textures")[like]
        mime = f"image/{self.format}"
        view = document.add_view(encode_lossless(pixels, self.format))
        image: Json = {"bufferView": view, "mimeType": mime}
        source = document.items("images")[self.image(like)]
        if not what:
            image |= {key: source[key] for key in ("name", "extras") if key in source}
        elif source.get("name"):
            image["name"] = f"{source['name']}-{what}"
        document.items("images").append(image)
        index = len(document.items("images")) - 1
        texture: Json = {key: old[key] for key in ("name", "sampler", "extras") if key in old}
        if self.format == "webp":
            texture["extensions"] = {WEBP: {"source": index}}
            document.declare(WEBP, required=True)
        else:
            texture["source"] = index
        document.items("textures").append(texture)
        return len(document.items("textures")) - 1


def encode_lossless(pixels: Pixels, format: ImageFormat) -> bytes:
    """(height, width, 3 or 4), or (height, width) for grey, as PNG or lossless WebP. Colours under alpha 0 stay."""
    out = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if format == "webp":
        image.save(out, "WEBP", lossless=True, exact=True, method=4)
    else:
        image.save(out, "PNG", compress_level=6)  # 9 takes five times as long for 3 % less
    return out.getvalue()


def same_size(
    first: Pixels, second: Pixels, *, slots: tuple[Literal["color", "data"], Literal["color", "data"]]
) -> tuple[Pixels, Pixels]:
    """Both at the size of the larger one, the smaller one scaled up."""
    height, width = (max(first.shape[i], second.shape[i]) for i in (0, 1))
    a, b = (
        p if p.shape[:2] == (height, width) else scale(p, width, height, slot)
        for p, slot in zip((first, second), slots, strict=True)
    )
    return a, b


def placement(info: Json) -> Json:
    """How a texture info lies on a surface: what two of them must have in common to share a texture."""
    extensions = info.get("extensions") or {}
    return {"texCoord": info.get("texCoord", 0), "extensions": extensions}
