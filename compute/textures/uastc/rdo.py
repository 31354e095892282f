"""UASTC blocks that Zstandard stores smaller: rate-distortion optimisation, as a pass over finished blocks.

A block costs 16 bytes whatever is in it; what is downloaded is what Zstandard makes of many. It finds bytes that were
there before, so blocks are changed to repeat earlier ones where the error that brings is worth the bytes it saves.
rdo.h says how.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudbaker.compute.textures.options import STRONGEST_RDO
from cloudbaker.compute.textures.uastc.decode import BLOCK_BYTES, block_modes

BLOCK = 4
STRIP = 65536
"""Blocks that share what they repeat: a megapixel. Strips know nothing of each other, so threads change no byte."""
ERROR_PER_BIT = 4.0
"""Squared error, summed over a block's texels and channels, that a bit is worth at strength 1."""


def prepare() -> None:
    """Load the kernel, and compile it first where nobody has yet (some seconds, once per installation).

    Raises `KernelsMissing` where it is neither there nor can be written.
    """
    from cloudbaker.compute.textures.uastc import kernels, rdo_kernel

    kernels.COMPILED.load()
    rdo_kernel.COMPILED.load()


def rdo(blocks: bytes, pixels: npt.NDArray[np.uint8], *, strength: float, threads: int = 1) -> bytes:
    """As many UASTC blocks of the (h, w, 4) RGBA `pixels` that `blocks` were made of, changed to repeat each other.

    `strength`: 0 changes nothing, 1 is moderate; the error of a block that is not flat is weighed against bits with
    `ERROR_PER_BIT` times it. `threads` changes nothing but the time.

    Raises ValueError for another shape, blocks of other pixels or of no mode, or a strength that is not 0 to
    `STRONGEST_RDO`; `KernelsMissing` as `prepare`.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 4 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise ValueError(f"pixels must be (h, w, 4) of 8 bits, not {pixels.shape} of {pixels.dtype}")
    if not 0 <= strength <= STRONGEST_RDO:  # a NaN is not, either
        raise ValueError(f"strength must be 0 to {STRONGEST_RDO:g}, not {strength}")
    height, width = pixels.shape[:2]
    across, count = -(-width // BLOCK), -(-width // BLOCK) * -(-height // BLOCK)
    if len(blocks) != count * BLOCK_BYTES:
        raise ValueError(f"{width} × {height} pixels are {count * BLOCK_BYTES} bytes of UASTC, not {len(blocks)}")
    if strength == 0:
        return blocks
    data = np.frombuffer(blocks, np.uint8)
    if np.any(block_modes(data.reshape(-1, BLOCK_BYTES)) < 0):
        raise ValueError("a block is of no mode of UASTC")
    prepare()
    return _launch(data, pixels, across, ERROR_PER_BIT * strength, threads)


def _launch(
    data: npt.NDArray[np.uint8], pixels: npt.NDArray[np.uint8], across: int, error_per_bit: float, threads: int
) -> bytes:
    import warp as wp

    from cloudbaker.compute.textures.uastc import kernels, rdo_kernel

    flat = np.ascontiguousarray(pixels).view(np.uint32).reshape(-1)
    picture: Any = wp.array(flat, dtype=wp.uint32, device="cpu", copy=False)
    words = data.view("<u8").astype(np.uint64)
    out: Any = wp.array(words, dtype=wp.uint64, device="cpu", copy=False)
    tables = kernels.device_tables("cpu")
    values: Any = wp.array(rdo_kernel.value_table(), dtype=wp.int32, device="cpu")
    effort = kernels.effort(kernels.EFFORTS["default"], "cpu")
    size, count = pixels.shape[1::-1], len(words) // 2
    literal = byte_cost(data)

    def strip(first: int) -> None:
        last = min(first + STRIP, count)
        memory: Any = wp.empty(rdo_kernel.MEMORY, dtype=wp.uint8, device="cpu")
        wp.launch(
            rdo_kernel.optimize_blocks,
            dim=1,
            inputs=[picture, *size, across, first, last, *tables, effort, values, literal, error_per_bit, memory, out],
            device="cpu",
        )

    strips = range(0, count, STRIP)
    if threads <= 1 or len(strips) == 1:
        for first in strips:
            strip(first)
    else:
        with ThreadPoolExecutor(min(threads, len(strips))) as pool:
            list(pool.map(strip, strips))
    return words.astype("<u8").tobytes()


def byte_cost(data: npt.NDArray[np.uint8]) -> int:
    """16ths of a bit that a byte costs which repeats nothing: the entropy of all."""
    shares = [count / data.size for count in np.bincount(data, minlength=256).tolist() if count]
    return round(-16 * math.fsum(share * math.log2(share) for share in shares))
