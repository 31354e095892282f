"""ASTC for devices that have it and loaders that don't transcode: KTX2 with mipmaps, and the plain ``.astc``.

glTF knows no ASTC: KHR_texture_basisu asks for UASTC or ETC1S, which become ASTC in the browser. These files are for
native applications, and for three.js' KTX2Loader used by hand.
"""

from __future__ import annotations

from cloudbaker.compute.textures.astc_blocks import QUALITY, Block, decode_astc, encode_astc
from cloudbaker.compute.textures.astc_file import write_astc
from cloudbaker.compute.textures.ktx2 import write_ktx2
from cloudbaker.compute.textures.measure import Pixels
from cloudbaker.compute.textures.mips import mip_chain
from cloudbaker.compute.textures.options import Candidate, EncodeOptions, Encoder, Source, judged


def _ktx2(block: Block) -> Encoder:
    def encode(pixels: Pixels, options: EncodeOptions, source: Source) -> Candidate:
        """KTX2 of ASTC blocks, Zstandard on top."""
        levels = [pixels]
        if options.mips:
            levels = mip_chain(pixels, slot_class=options.slot_class, alpha_coverage=options.alpha_coverage)
        blocks = _blocks(levels, block, options)
        height, width, _ = pixels.shape
        data = write_ktx2(blocks, width, height, codec=f"astc-{block}x{block}", srgb=options.is_srgb)
        return _candidate(pixels, data, "image/ktx2", blocks, block, options)

    return encode


def _plain(block: Block) -> Encoder:
    def encode(pixels: Pixels, options: EncodeOptions, source: Source) -> Candidate:
        """An ``.astc`` file: one level, as it is."""
        blocks = _blocks([pixels], block, options)
        data = write_astc(blocks[0], pixels.shape[1], pixels.shape[0], block=block)
        return _candidate(pixels, data, "image/x-astc", blocks, block, options)

    return encode


def _blocks(levels: list[Pixels], block: Block, options: EncodeOptions) -> list[bytes]:
    quality = QUALITY[options.level]
    return encode_astc(levels, slot_class=options.slot_class, block=block, quality=quality, srgb=options.is_srgb)


def _candidate(
    pixels: Pixels, data: bytes, mime: str, blocks: list[bytes], block: Block, options: EncodeOptions
) -> Candidate:
    height, width, channels = pixels.shape
    decoded = decode_astc(blocks[0], width, height, block=block, srgb=options.is_srgb)
    quality, normal = judged(pixels, decoded[..., :channels], options.slot_class)
    how = f"ASTC {block} × {block}, {options.level}"
    return Candidate(data, mime, quality, how, normal, gpu_bytes=sum(map(len, blocks)), levels=len(blocks))


encode_ktx2_4x4, encode_ktx2_6x6, encode_ktx2_8x8 = _ktx2(4), _ktx2(6), _ktx2(8)
encode_astc_4x4, encode_astc_6x6, encode_astc_8x8 = _plain(4), _plain(6), _plain(8)
