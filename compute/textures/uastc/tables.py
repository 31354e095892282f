"""UASTC LDR 4×4 in tables: what a block of each mode holds, and in which order.

UASTC is a subset of ASTC 4×4 of 19 modes, chosen so that each of them is also a BC7 block, in a plainer packing and
with hints for ETC1, ETC2 and BC1. Sources, cited at each table:

- *UASTC*: "UASTC LDR 4x4 Texture Specification", Binomial (the wiki of basis_universal).
- *ASTC*: Khronos Data Format Specification 1.3, chapter 23 "ASTC Compressed Texture Image Formats".
- *ETC*: the same, chapters 21 "ETC1" and 22 "ETC2".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SOLID = 8
"""The mode of a block of one colour: 8 bits a channel."""


@dataclass(frozen=True, slots=True)
class Mode:
    """One row of *UASTC*, "Modes"."""

    code: int
    """Of the variable-length mode code (*UASTC*, "Mode codes")."""
    code_bits: int
    levels: int
    """Values that an endpoint can take; see `unquantized`."""
    weight_bits: int
    components: int
    """3: RGB. 4: RGBA. 2: luminance and alpha."""
    subsets: int = 1
    planes: int = 1
    patterns: tuple[int, ...] = ()
    """ASTC partition seeds that the pattern's number chooses from."""
    component_selector: bool = False
    """Whether two bits say which component has the second plane of weights (else it is alpha)."""
    bc1_hints: int = 2
    etc1_bias: bool = True

    @property
    def alpha(self) -> bool:
        """Whether it holds alpha, and with it the 8 bits of hints for ETC2's alpha."""
        return self.components != 3

    @property
    def pattern_bits(self) -> int:
        """Width of the field that names the pattern."""
        return {1: 0, 2: 5, 3: 4}[self.subsets]


# UASTC, "Partition patterns": those that ASTC and BC7 have in common, as ASTC's seeds.
PAIRS = (
    *(28, 20, 16, 29, 91, 9, 107, 72, 149, 204, 50, 114, 496, 17, 78, 39, 252, 828, 43, 156, 116, 210, 476, 273),
    *(684, 359, 246, 195, 694, 524),
)
TRIPLES = (260, 74, 32, 156, 183, 15, 745, 0, 335, 902, 254)
MERGED = (36, 48, 61, 137, 161, 183, 226, 281, 302, 307, 479, 495, 593, 594, 605, 799, 812, 988, 993)
"""Two subsets in ASTC that are three in BC7, two of them with the same endpoints."""

# UASTC, "Modes" and "Mode codes".
MODES = (
    Mode(0x01, 4, 192, 4, 3),
    Mode(0x35, 6, 256, 2, 3),
    Mode(0x1D, 5, 16, 3, 3, subsets=2, patterns=PAIRS),
    Mode(0x03, 5, 12, 2, 3, subsets=3, patterns=TRIPLES),
    Mode(0x13, 5, 40, 2, 3, subsets=2, patterns=PAIRS),
    Mode(0x0B, 5, 256, 3, 3),
    Mode(0x1B, 5, 160, 2, 3, planes=2, component_selector=True),
    Mode(0x07, 5, 40, 2, 3, subsets=2, patterns=MERGED),
    Mode(0x17, 5, 256, 0, 4),
    Mode(0x0F, 5, 16, 2, 4, subsets=2, patterns=PAIRS),
    Mode(0x02, 3, 48, 4, 4, bc1_hints=1, etc1_bias=False),
    Mode(0x00, 2, 48, 2, 4, planes=2, component_selector=True, bc1_hints=1, etc1_bias=False),
    Mode(0x06, 3, 192, 3, 4, bc1_hints=1, etc1_bias=False),
    Mode(0x1F, 5, 256, 1, 4, planes=2, component_selector=True),
    Mode(0x0D, 5, 256, 2, 4),
    Mode(0x05, 7, 256, 4, 2),
    Mode(0x15, 6, 256, 2, 2, subsets=2, patterns=PAIRS),
    Mode(0x25, 6, 256, 2, 2, planes=2),
    Mode(0x09, 4, 32, 5, 3),
)

LEVELS = (12, 16, 32, 40, 48, 160, 192, 256)
"""Every count of endpoint values that a mode uses."""

# ASTC, "Endpoint unquantization": low bits, trits (3) or quints (5), C, and for each bit of B (from the highest, 8, to
# the lowest) which of the value's low bits it repeats; 0 stands for none.
_UNQUANTIZE = {
    12: (2, 3, 93, "b000b0bb0"),
    40: (3, 5, 26, "cb0000cbc"),
    48: (4, 3, 22, "dcb000dcb"),
    160: (5, 5, 6, "edcb0000e"),
    192: (6, 3, 5, "fedcb000f"),
}


def unquantized(levels: int) -> npt.NDArray[np.int32]:
    """Endpoint value (0–255) of each quantized one. Source: *ASTC*, "Endpoint unquantization"."""
    if levels not in _UNQUANTIZE:
        bits = levels.bit_length() - 1
        value = np.arange(levels) << 8 - bits
        return np.asarray(value | value >> bits, np.int32)
    bits, _, c, repeated = _UNQUANTIZE[levels]
    value = np.arange(levels)
    low, digit = value & (1 << bits) - 1, value >> bits
    b = np.zeros(levels, np.int64)
    for letter in repeated:
        b = b << 1 | ((low >> "abcdef".index(letter) & 1) if letter != "0" else 0)
    a = np.where(low & 1, 0x1FF, 0)
    t = (digit * c + b) ^ a
    return np.asarray(a & 0x80 | t >> 2, np.int32)


def digits(levels: int) -> tuple[int, int]:
    """How an endpoint is stored: base of its digit (1 for none, 3 trits, 5 quints), and its low bits."""
    if levels not in _UNQUANTIZE:
        return 1, levels.bit_length() - 1
    return _UNQUANTIZE[levels][1], _UNQUANTIZE[levels][0]


def weights(bits: int) -> npt.NDArray[np.int32]:
    """Weight (0–64) of each quantized one. Source: *ASTC*, "Weight unquantization" (bits only)."""
    q = np.arange(1 << bits)
    six = {0: q * 0, 1: q * 63, 2: q * 21, 3: q * 9, 4: q << 2 | q >> 2, 5: q << 1 | q >> 4}[bits]
    return np.asarray(six + (six > 32), np.int32)


def partition(seed: int, subsets: int) -> npt.NDArray[np.int32]:
    """Subset (0 …) of each of the 16 texels, row by row. Source: *ASTC*, "Partition pattern generation"."""
    mask = 0xFFFFFFFF
    number = seed + (subsets - 1) * 1024
    r = number
    r ^= r >> 15
    r = (r - (r << 17)) & mask
    r = (r + (r << 7)) & mask
    r = (r + (r << 4)) & mask
    r ^= r >> 5
    r = (r + (r << 16)) & mask
    r ^= r >> 7
    r ^= r >> 3
    r = (r ^ (r << 6)) & mask
    r ^= r >> 17
    seeds = [((r >> shift) & 15) ** 2 for shift in (0, 4, 8, 12, 16, 20)]
    if number & 1:
        first, second = (4 if number & 2 else 5), (6 if subsets == 3 else 5)
    else:
        first, second = (6 if subsets == 3 else 5), (4 if number & 2 else 5)
    seeds = [seed >> (first, second)[i & 1] for i, seed in enumerate(seeds)]
    texel = np.arange(16)
    x, y = (texel & 3) * 2, (texel >> 2) * 2  # blocks of fewer than 31 texels are stretched
    sums = [(seeds[2 * i] * x + seeds[2 * i + 1] * y + (r >> shift)) & 63 for i, shift in enumerate((14, 10, 6))]
    if subsets < 3:
        sums[2] = texel * 0
    a, b, c = sums
    return np.where((a >= b) & (a >= c), 0, np.where(b >= c, 1, 2)).astype(np.int32)


ETC1_MODIFIERS = ((2, 8), (5, 17), (9, 29), (13, 42), (18, 60), (24, 80), (33, 106), (47, 183))
"""*ETC*, "Intensity modifier sets": the two positive values of each; the others are their negatives."""

ETC2_ALPHA_MODIFIERS = (
    *((-3, -6, -9, -15, 2, 5, 8, 14), (-3, -7, -10, -13, 2, 6, 9, 12), (-2, -5, -8, -13, 1, 4, 7, 12)),
    *((-2, -4, -6, -13, 1, 3, 5, 12), (-3, -6, -8, -12, 2, 5, 7, 11), (-3, -7, -9, -11, 2, 6, 8, 10)),
    *((-4, -7, -8, -11, 3, 6, 7, 10), (-3, -5, -8, -11, 2, 4, 7, 10), (-2, -6, -8, -10, 1, 5, 7, 9)),
    *((-2, -5, -8, -10, 1, 4, 7, 9), (-2, -4, -8, -10, 1, 3, 7, 9), (-2, -5, -7, -10, 1, 4, 6, 9)),
    *((-3, -4, -7, -10, 2, 3, 6, 9), (-1, -2, -3, -10, 0, 1, 2, 9), (-4, -6, -8, -9, 3, 5, 7, 8)),
    (-3, -5, -7, -9, 2, 4, 6, 8),
)
"""*ETC*, "Intensity modifier sets for alpha component"."""


def _biases() -> tuple[tuple[tuple[int, int, int], tuple[int, int, int]], ...]:
    one = {2: (0, 0, -1), 5: (0, 1, -1), 6: (0, 2, -1), 7: (0, 0, 1), 11: (0, 1, 1), 15: (0, 2, 1)}
    one |= {18: (1, 0, -1), 19: (1, 1, -1), 20: (1, 2, -1), 21: (1, 0, 1), 24: (1, 1, 1), 8: (1, 2, 1)}
    both = {10: (-2, -2), 27: (-1, 0), 28: (1, -1), 29: (0, 1), 30: (0, -1), 31: (1, 0)}
    rows = []
    for bias in range(32):
        if bias in one:
            half, channel, delta = one[bias]
            steps = [[delta if (h, c) == (half, channel) else 0 for c in range(3)] for h in range(2)]
        elif bias in both:
            steps = [[both[bias][h]] * 3 for h in range(2)]
        else:
            steps = [[bias // 3**c % 3 - 1 for c in range(3)]] * 2
        rows.append(((steps[0][0], steps[0][1], steps[0][2]), (steps[1][0], steps[1][1], steps[1][2])))
    return tuple(rows)


ETC1_BIASES = _biases()
"""What each value of the hint adds to red, green and blue of the first and of the second half. *UASTC*, "ETC1 bias"."""
