"""The kernel that turns UASTC into ASTC, block by block beside Basis Universal's own."""

from __future__ import annotations

import astc_encoder
import numpy as np
import pytest

from cloudbaker.compute.textures.astc_blocks import decode_astc
from cloudbaker.compute.textures.measure import psnr
from cloudbaker.compute.textures.uastc import decode_uastc, encode_uastc
from cloudbaker.compute.textures.uastc.decode import block_modes
from cloudbaker.compute.textures.uastc.tables import MODES
from cloudbaker.compute.textures.uastc.to_astc import _numbers, _quints, _trits, block_mode, to_astc
from cloudbaker.compute.textures.uastc_astc import uastc_to_astc
from cloudbaker.testing import shapes


def random_blocks(mode: int, count: int) -> np.ndarray:
    """(count, 16) bytes: of that mode, and random behind its code."""
    blocks = np.random.default_rng(mode).integers(0, 256, (count, 16), np.uint8)
    bits = MODES[mode].code_bits
    blocks[:, 0] = blocks[:, 0] >> bits << bits | MODES[mode].code
    return blocks


@pytest.mark.parametrize("mode", range(19))
def test_blocks_are_those_of_basis_universal(mode: int) -> None:
    blocks = random_blocks(mode, 120)
    assert (block_modes(blocks) == mode).all()
    ours = np.frombuffer(to_astc(blocks.tobytes()), np.uint8).reshape(-1, 16)
    compared = 0
    for block, found in zip(blocks, ours, strict=True):
        try:
            wanted = uastc_to_astc(block.tobytes(), 4, 4)
        except ValueError:
            continue  # a pattern that there is not, or digits beyond their base
        assert found.tobytes() == wanted
        compared += 1
    assert compared > 50


def test_a_picture_stays_what_it_is() -> None:
    noise = shapes.noise(64, seed=2, octaves=5)[..., None]
    pixels = np.clip(noise * (255, 200, 120, 230), 0, 255).astype(np.uint8)
    uastc = encode_uastc(pixels, level="fast", srgb=False)
    astc = to_astc(uastc)
    image = astc_encoder.ASTCImage(astc_encoder.ASTCType.U8, 64, 64, 1)
    config = astc_encoder.ASTCConfig(astc_encoder.ASTCProfile.LDR, 4, 4, 1, 0)
    astc_encoder.ASTCContext(config).decompress(astc, image, astc_encoder.ASTCSwizzle.from_str("RGBA"))
    seen = np.frombuffer(image.data, np.uint8).reshape(64, 64, 4)
    np.testing.assert_array_equal(seen, decode_uastc(uastc, 64, 64))
    assert psnr(pixels, decode_astc(astc, 64, 64)) > 35


def test_what_is_no_block_is_nothing_to_see() -> None:
    assert (decode_astc(to_astc(b"\x45" + bytes(15)), 4, 4) == 0).all()
    assert to_astc(b"") == b""
    with pytest.raises(ValueError, match="no whole number"):
        to_astc(bytes(24))


def test_digits_that_are_left_out_leave_no_bits() -> None:
    trits, quints = _numbers(3, 5, _trits, 8), _numbers(5, 3, _quints, 7)
    assert len(set(trits)) == 243
    assert len(set(quints)) == 125
    assert all(trits[: 3**n].max() < 1 << width for n, width in ((1, 2), (2, 4), (3, 5), (4, 7)))
    assert all(quints[: 5**n].max() < 1 << width for n, width in ((1, 3), (2, 5)))


def test_block_modes_of_the_specification() -> None:
    # astcenc's most frequent ones: 4 × 4 weights of 2, 3 and 4 bits, and of 2 bits in two planes
    assert [block_mode(MODES[n]) for n in (1, 5, 10, 6)] == [0x42, 0x53, 0x242, 0x442]
