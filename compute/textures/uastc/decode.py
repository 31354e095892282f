"""A decoder of UASTC, from the specification and in NumPy: what the encoder is held against, beside basisu's own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cloudbaker.compute.textures.uastc.tables import MODES, SOLID, Mode, digits, partition, unquantized, weights

BLOCK = 4
BLOCK_BYTES = 16

Bits = npt.NDArray[np.uint8]


def decode_uastc(blocks: bytes | memoryview, width: int, height: int) -> npt.NDArray[np.uint8]:
    """(h, w, 4) 8-bit pixels of UASTC LDR 4×4 blocks, row by row, of a picture of `width` × `height` pixels.

    Raises ValueError where the blocks are too few or too many, or one of them is of no mode or pattern.
    """
    across, down = -(-width // BLOCK), -(-height // BLOCK)
    data = np.frombuffer(blocks, np.uint8)
    if width < 1 or height < 1 or data.size != across * down * BLOCK_BYTES:
        raise ValueError(f"{width} × {height} pixels are {across * down * BLOCK_BYTES} bytes of UASTC, not {data.size}")
    texels = decode_blocks(data.reshape(-1, BLOCK_BYTES))
    rows = texels.reshape(down, across, BLOCK, BLOCK, 4).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(rows.reshape(down * BLOCK, across * BLOCK, 4)[:height, :width])


def block_modes(blocks: Bits) -> npt.NDArray[np.int32]:
    """Mode of each of (n, 16) bytes; -1 where it is none."""
    modes = np.full(len(blocks), -1, np.int32)
    for number, mode in enumerate(MODES):
        modes[(blocks[:, 0] & (1 << mode.code_bits) - 1) == mode.code] = number
    return modes


def decode_blocks(blocks: Bits) -> Bits:
    """(n, 16, 4) pixels of (n, 16) bytes. Raises ValueError as `decode_uastc`."""
    bits = np.unpackbits(blocks, axis=1, bitorder="little")
    modes = block_modes(blocks)
    out = np.empty((len(blocks), 16, 4), np.uint8)
    if np.any(modes < 0):
        raise ValueError(f"block {int(np.argmax(modes < 0))} is of no mode of UASTC")
    for number in np.unique(modes):
        chosen = np.flatnonzero(modes == number)
        out[chosen] = _decode(bits[chosen], MODES[number], solid=bool(number == SOLID))
    return out


class _Reader:
    """Reads fields of many blocks at once, from the lowest bit up."""

    def __init__(self, bits: Bits, at: int) -> None:
        self.bits, self.at = bits, at

    def __call__(self, width: int) -> npt.NDArray[np.int32]:
        field = self.bits[:, self.at : self.at + width].astype(np.int32)
        self.at += width
        return np.asarray(field @ (1 << np.arange(width, dtype=np.int32)), np.int32)


def _decode(bits: Bits, mode: Mode, *, solid: bool) -> Bits:
    """*UASTC*, "Block layout": code, hints, pattern, component selector, endpoints, weights."""
    read = _Reader(bits, mode.code_bits)
    if solid:
        return np.stack([read(8) for _ in range(4)], axis=-1).astype(np.uint8)[:, None, :].repeat(16, axis=1)
    read.at += mode.bc1_hints + 8 + 5 * mode.etc1_bias + 8 * mode.alpha
    pattern = read(mode.pattern_bits)
    if mode.patterns and pattern.max() >= len(mode.patterns):
        raise ValueError(f"a block names pattern {pattern.max()} of {len(mode.patterns)}")
    second = read(2) if mode.component_selector else np.full(len(bits), 3, np.int32)
    ends = _endpoints(read, mode)
    out = np.empty((len(bits), 16, 4), np.uint8)
    for number in np.unique(pattern):
        chosen = pattern == number
        subset = partition(mode.patterns[number], mode.subsets) if mode.patterns else np.zeros(16, np.int32)
        weight = _weights(_Reader(bits[chosen], read.at), mode, subset)
        low, high = (ends[chosen][..., end][:, subset] for end in (0, 1))
        plane = np.zeros((int(chosen.sum()), 16, 4), np.int32)
        if mode.planes == 2:
            plane[np.arange(4) == second[chosen][:, None, None].repeat(16, axis=1)] = 1
        w = np.take_along_axis(weight, plane, axis=2)
        # ASTC, "Weight application": endpoints of 16 bits, of whose mean the upper 8 count.
        out[chosen] = (low * 257 * (64 - w) + high * 257 * w + 32) >> 14
    return out


def _endpoints(read: _Reader, mode: Mode) -> npt.NDArray[np.int32]:
    """(n, subsets, 4, 2) endpoints of RGBA. All digits come first, five trits in 8 bits or three quints in 7."""
    count = mode.components * 2 * mode.subsets
    base, low_bits = digits(mode.levels)
    size, widths = {1: (1, [0]), 3: (5, [0, 2, 4, 5, 7, 8]), 5: (3, [0, 3, 5, 7])}[base]
    high: list[npt.NDArray[np.int32]] = []
    while base > 1 and len(high) < count:
        some = min(size, count - len(high))
        packed = read(widths[some])
        high += [packed // base**i % base for i in range(some)]
    table = unquantized(mode.levels)
    values = [read(low_bits) + ((high[i] << low_bits) if high else 0) for i in range(count)]
    ends = table[np.stack(values, axis=-1)].reshape(-1, mode.subsets, mode.components, 2)
    if mode.components == 2:
        return np.asarray(ends[:, :, [0, 0, 0, 1]], np.int32)
    if mode.components == 3:
        return np.concatenate([ends, np.full_like(ends[:, :, :1], 255)], axis=2)
    return np.asarray(ends, np.int32)


def _weights(read: _Reader, mode: Mode, subset: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """(n, 16, planes) weights; the first of each subset lacks its highest bit, which is 0 (*UASTC*, "Weights")."""
    anchors = {int(np.argmax(subset == s)) for s in range(mode.subsets)}
    table = weights(mode.weight_bits)
    texels = []
    for i in range(16):
        planes = [table[read(mode.weight_bits - (i in anchors))] for _ in range(mode.planes)]
        texels.append(np.stack(planes, axis=-1))
    return np.stack(texels, axis=1)
