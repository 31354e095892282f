"""Spend what a model has been made smaller by on textures that save the GPU's memory.

A KTX2 is larger than the JPEG or WebP of the same picture, and takes a quarter of its memory: 2048² with mipmaps are
5.6 MB instead of 22.4. Downloads are counted in bytes as well, so a file gets only as many as it has room for; those
that save the most memory for each byte come first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cloudbaker.compute.gltf.document import Bytes, Document
from cloudbaker.compute.gltf.textures import replace_images


@dataclass(frozen=True, slots=True)
class Heavier:
    """Another form of an image that is in the file: more bytes of download, fewer in the GPU."""

    index: int
    """The image's number in the source."""
    light: Bytes
    """What is in the file."""
    heavy: Bytes
    mime: str
    """Of the heavy form."""
    saves: int
    """Bytes of the GPU's memory."""
    fallback: tuple[Bytes, str] | None = None
    """A PNG or JPEG that is to stand beside it, with its media type."""

    @property
    def costs(self) -> int:
        """Bytes of the file."""
        return len(self.heavy) - len(self.light) + (len(self.fallback[0]) if self.fallback else 0)


def affordable(offers: Sequence[Heavier], room: int) -> list[Heavier]:
    """Which of them fit into so many more bytes: those that save the most for each byte first.

    Images that are the same bytes are one image in a file. Where they are to become different things (colours in one
    slot, numbers in another), they stay as they are.
    """
    by_content: dict[bytes, Heavier] = {}
    torn: set[bytes] = set()
    for offer in offers:
        key = bytes(offer.light)
        first = by_content.setdefault(key, offer)
        if bytes(first.heavy) != bytes(offer.heavy):
            torn.add(key)
    chosen: list[Heavier] = []
    fit = [offer for key, offer in by_content.items() if key not in torn]
    for offer in sorted(fit, key=lambda o: (-o.saves / max(o.costs, 1), o.index)):
        if offer.saves > 0 and offer.costs <= room:
            chosen.append(offer)
            room -= offer.costs
    return chosen


def with_heavier(data: Bytes, chosen: Sequence[Heavier]) -> bytes:
    """A GLB with the heavy forms in the place of the light ones, found by their bytes."""
    document = Document.from_glb(data)
    offers: Mapping[bytes, Heavier] = {bytes(offer.light): offer for offer in chosen}
    found: dict[int, Heavier] = {}
    for number, image in enumerate(document.items("images")):
        offer = offers.get(bytes(document.view(image["bufferView"]))) if "bufferView" in image else None
        if offer is not None:
            found[number] = offer
    replace_images(
        document,
        {number: (offer.heavy, offer.mime) for number, offer in found.items()},
        {number: offer.fallback for number, offer in found.items() if offer.fallback},
    )
    return document.to_glb()
