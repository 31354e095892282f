"""UASTC blocks with their mipmaps in a KTX2 file, as KHR_texture_basisu wants them."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

import numpy as np

from cloudbaker.compute.textures.ktx2 import write_ktx2
from cloudbaker.compute.textures.measure import Pixels
from cloudbaker.compute.textures.mips import mip_chain
from cloudbaker.compute.textures.options import Candidate, EncodeOptions, Source, judged


def encode_ktx2_uastc(pixels: Pixels, options: EncodeOptions, source: Source) -> Candidate:
    """A KTX2 of UASTC 4×4 with Zstandard. Measured on its largest level, as Binomial's transcoder decodes it."""
    height, width, channels = pixels.shape
    blocks = block_maker.get()(pixels, options)
    if options.rdo:
        blocks = repeated(blocks, pixels, options)
    data = write_ktx2(
        blocks,
        width,
        height,
        codec="uastc",
        srgb=options.is_srgb,
        normal=options.slot_class == "normal",
        alpha=channels == 4,
    )
    decoded = transcoded(data)[..., :channels]
    quality, normal = judged(pixels, decoded, options.slot_class)
    how = f"UASTC, level {options.level}" + (f", rdo {options.rdo:g}" if options.rdo else "")
    return Candidate(data, "image/ktx2", quality, how, normal, sum(map(len, blocks)), len(blocks))


def mip_levels(pixels: Pixels, options: EncodeOptions) -> list[Pixels]:
    """(h, w, 4) pixels of each level that the file shall have, the largest first."""
    levels = [pixels]
    if options.mips:
        levels = mip_chain(pixels, slot_class=options.slot_class, alpha_coverage=options.alpha_coverage)
    return [with_alpha(level) for level in levels]


def cpu_blocks(pixels: Pixels, options: EncodeOptions) -> list[bytes]:
    """UASTC blocks of each level, made here."""
    from cloudbaker.compute.textures.uastc import encode_uastc  # its kernels take time to load

    return [encode_uastc(level, level=options.level, srgb=options.is_srgb) for level in mip_levels(pixels, options)]


def repeated(blocks: list[bytes], pixels: Pixels, options: EncodeOptions) -> list[bytes]:
    """The blocks of each level, changed so that Zstandard finds more in them."""
    from cloudbaker.compute.textures.uastc.rdo import rdo

    levels = mip_levels(pixels, options)
    return [rdo(made, level, strength=options.rdo) for made, level in zip(blocks, levels, strict=True)]


block_maker: ContextVar[Callable[[Pixels, EncodeOptions], list[bytes]]] = ContextVar("block_maker", default=cpu_blocks)
"""Who makes the blocks; `handover` lets a GPU do it."""


def with_alpha(pixels: Pixels) -> Pixels:
    """(h, w, 4) of (h, w, 3 or 4)."""
    if pixels.shape[2] == 4:
        return pixels
    return np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])


def transcoded(data: bytes, level: int = 0) -> Pixels:
    """(h, w, 4) pixels of a level of a KTX2 with UASTC or ETC1S, by Binomial's transcoder: not ours, and the one that
    browsers run. Raises `opengl_basisu.BasisuError` for what is none."""
    import opengl_basisu

    image = opengl_basisu.open(data).transcode("rgba8", level)
    return np.ascontiguousarray(np.asarray(image.data, np.uint8).reshape(image.height, image.width, 4))
