"""ASTC blocks of pixels, and pixels of ASTC blocks (Khronos Data Format 1.3, chapter 23).

Blocks come from Arm's astcenc through ``astc-encoder-py`` and are decoded, to be measured, by another implementation:
Basis Universal's transcoder, through ``opengl_basisu``. astcenc gives the same bytes with AVX2, SSE4.1, SSE2 and no
SIMD at all (a test compares them), so that a bake does not depend on the machine it runs on.

======  ==============  =============================================================
block   bits per texel  for
======  ==============  =============================================================
4 × 4   8               normals, data, all that must be close
6 × 6   3.56            colours: the same memory as ETC1 and BC1 need, at more quality
8 × 8   2               backdrops, light maps, whatever is looked at from afar
======  ==============  =============================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from cloudbaker.compute.textures.ktx2 import HEADER_BYTES, write_ktx2
from cloudbaker.compute.textures.measure import Pixels
from cloudbaker.compute.textures.prepare import SlotClass

Block = Literal[4, 6, 8]
"""Texels on each side of a block."""
Halves = npt.NDArray[np.float16]
"""(height, width, channels), linear light."""

BLOCKS: tuple[Block, ...] = (4, 6, 8)
BLOCK_BYTES = 16
QUALITY = {"fast": 10.0, "default": 60.0, "max": 98.0}
"""Level → astcenc's scale: fast, medium, thorough."""


def astc_bytes(width: int, height: int, block: int) -> int:
    """What an image takes in blocks of `block` × `block` texels."""
    return -(-width // block) * -(-height // block) * BLOCK_BYTES


def encode_astc(
    levels: Sequence[Pixels],
    *,
    slot_class: SlotClass,
    block: Block = 4,
    quality: float = QUALITY["default"],
    srgb: bool | None = None,
    z_counts: bool = True,
) -> list[bytes]:
    """ASTC blocks, row by row, of each of some (h, w, 3 or 4) 8-bit images: a texture and its mipmaps.

    ``color`` is encoded for sRGB decoding unless `srgb` says otherwise, which is worth 1 dB. Without `z_counts` the
    third channel of a normal map is left to chance, for engines that compute z from x and y.
    """
    import astc_encoder as astc

    decoded_as_srgb = slot_class == "color" if srgb is None else srgb
    profile = astc.ASTCProfile.LDR_SRGB if decoded_as_srgb else astc.ASTCProfile.LDR
    config = astc.ASTCConfig(profile, block, block, 1, quality)
    if slot_class == "normal" and not z_counts:
        config.cw_b_weight = 0
    return _compress(config, [_four(pixels, 255) for pixels in levels], astc.ASTCType.U8)


def encode_astc_hdr(levels: Sequence[Halves], *, block: Block = 4, quality: float = QUALITY["default"]) -> list[bytes]:
    """ASTC HDR blocks of (h, w, 3) half floats: linear light, finite and not negative. The alpha they decode to is 1.

    Raises ValueError where there is something else among them: what astcenc makes of a NaN is anybody's guess.
    """
    import astc_encoder as astc

    for pixels in levels:
        if not np.isfinite(pixels).all() or (pixels < 0).any():
            raise ValueError("ASTC HDR holds finite light that is not negative")
    config = astc.ASTCConfig(astc.ASTCProfile.HDR_RGB_LDR_A, block, block, 1, quality)
    return _compress(config, [_four(pixels.astype(np.float16), 1) for pixels in levels], astc.ASTCType.F16)


def decode_astc(blocks: bytes, width: int, height: int, *, block: Block = 4, srgb: bool = False) -> Pixels:
    """(h, w, 4) pixels of ASTC LDR blocks, by Basis Universal. Raises ValueError for blocks that are none."""
    return _transcode(blocks, width, height, block, hdr=False, srgb=srgb).reshape(height, width, 4)


def decode_astc_hdr(blocks: bytes, width: int, height: int, *, block: Block = 4) -> Halves:
    """(h, w, 3) half floats of ASTC HDR blocks: 4 × 4 and 6 × 6 by Basis Universal, which has no 8 × 8 HDR, so those
    by astcenc. Raises ValueError for blocks that are none."""
    if block == 8:
        return _decompress(blocks, width, height, block)
    halves = _transcode(blocks, width, height, block, hdr=True, srgb=False).view(np.float16)
    return np.ascontiguousarray(halves.reshape(height, width, 4)[..., :3])


def _four(pixels: Any, opaque: float) -> Any:
    height, width, channels = pixels.shape
    if channels == 3:
        pixels = np.concatenate([pixels, np.full((height, width, 1), opaque, pixels.dtype)], axis=-1)
    return np.ascontiguousarray(pixels)


def _compress(config: Any, images: Sequence[Any], kind: Any) -> list[bytes]:
    import astc_encoder as astc

    context, as_is = astc.ASTCContext(config), astc.ASTCSwizzle.from_str("RGBA")
    return [
        bytes(context.compress(astc.ASTCImage(kind, image.shape[1], image.shape[0], 1, image.tobytes()), as_is))
        for image in images
    ]


def _decompress(blocks: bytes, width: int, height: int, block: int) -> Halves:
    import astc_encoder as astc

    image = astc.ASTCImage(astc.ASTCType.F16, width, height, 1)
    config = astc.ASTCConfig(astc.ASTCProfile.HDR_RGB_LDR_A, block, block, 1, 0)
    try:
        astc.ASTCContext(config).decompress(blocks, image, astc.ASTCSwizzle.from_str("RGBA"))
    except astc.ASTCError as error:
        raise ValueError(f"no ASTC blocks of {width} × {height} texels: {error}") from error
    assert image.data is not None
    return np.ascontiguousarray(np.frombuffer(image.data, np.float16).reshape(height, width, 4)[..., :3])


_RGBA32, _RGBA_HALF = 13, 25
"""Basis Universal's ``transcoder_texture_format``. The package names no HDR targets yet, its module has them."""
_MODEL_AT, _UASTC_HDR = HEADER_BYTES + 24 + 12, 167
"""Where a KTX2 of one level says its colour model, and the one under which Basis Universal takes 4 × 4 HDR blocks: it
decodes all of ASTC, but calls them by the name of the subset that its own encoder writes."""


def _transcode(blocks: bytes, width: int, height: int, block: Block, *, hdr: bool, srgb: bool) -> npt.NDArray[np.uint8]:
    from opengl_basisu import _transcoder

    if len(blocks) != astc_bytes(width, height, block):
        raise ValueError(f"{width} × {height} texels take {astc_bytes(width, height, block)} bytes, not {len(blocks)}")
    target, texel = (_RGBA_HALF, 8) if hdr else (_RGBA32, 4)
    codec = f"astc-{block}x{block}" + ("-hdr" if hdr else "")
    data = bytearray(write_ktx2([blocks], width, height, codec=codec, srgb=srgb, zstd_level=None))
    if hdr and block == 4:
        data[_MODEL_AT] = _UASTC_HDR
    file = _transcoder.KTX2File(bytes(data))
    out = np.zeros(width * height * texel, np.uint8)
    if not file.start() or not file.transcode(0, 0, 0, target, out, width * height, width, height):
        raise ValueError(f"these are no ASTC blocks of {width} × {height} texels")
    return cast(npt.NDArray[np.uint8], out)
