"""What a candidate costs: its bytes as they are, or as a server compresses them on the way, or both.

A GLB is often sent with ``Content-Encoding: br`` and as often without. Draco's payloads are entropy coded and don't
shrink any more, meshopt's were made to: the scan of a million triangles is 834 kB in Draco and 3,406 in meshopt, with
brotli 822 and 585. Which one is smaller depends on the server, so the recipe says what counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import brotli

from cloudbaker.compute.gltf.document import Bytes, Document

Weigh = Literal["raw", "brotli", "both"]
BROTLI_QUALITY = 5
"""What servers take for answers that they compress on the way: some 40 MB/s, where 11 makes 0.5."""


@dataclass(frozen=True, slots=True)
class Weight:
    """What a file weighs, in bytes."""

    cost: float
    """What counts: raw, brotli's, or the geometric mean of both; with the images."""
    images: int
    raw: int
    brotli: int | None = None
    """Images as they are, everything else as brotli; None if it does not count."""

    @property
    def geometry(self) -> float:
        """What counts, without the images."""
        return self.cost - self.images

    def __str__(self) -> str:
        return str(self.raw) if self.brotli is None else f"{self.raw} ({self.brotli} brotli)"


def weigh(data: Bytes, how: Weigh = "raw") -> Weight:
    """Weigh a GLB.

    Images are not packed: they are compressed already, and the same in all candidates. What remains is some megabytes
    at most, a tenth of a second. The geometric mean lets neither side be forgotten: a tenth less of one weighs as much
    as a tenth less of the other.
    """
    document = Document.from_glb(data)
    pictures = {image["bufferView"] for image in document.items("images") if "bufferView" in image}
    images = sum(len(document.stored(view)) for view in pictures)
    if how == "raw":
        return Weight(len(data), images, len(data))
    head = memoryview(data)[: 20 + int.from_bytes(data[12:16], "little")]  # with the JSON chunk
    rest = (document.stored(view) for view in range(len(document.items("bufferViews"))) if view not in pictures)
    packed = brotli_bytes([head, *rest])
    cost = packed if how == "brotli" else math.sqrt((len(data) - images) * packed)
    return Weight(images + cost, images, len(data), images + packed)


def brotli_bytes(parts: Iterable[Bytes]) -> int:
    """Size of byte strings, one after the other, as one brotli stream."""
    packer = brotli.Compressor(quality=BROTLI_QUALITY)
    return sum(len(packer.process(bytes(part))) for part in parts) + len(packer.finish())
