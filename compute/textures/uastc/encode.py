"""Pixels to UASTC LDR 4×4 blocks, on the CPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from cloudbaker.compute.textures.uastc.kernels import Level

BLOCK = 4
BLOCK_BYTES = 16


def prepare() -> None:
    """Load the kernel, and compile it first where nobody has yet (some seconds, once per installation).

    Raises `KernelsMissing` where it is neither there nor can be written.
    """
    from cloudbaker.compute.textures.uastc import kernels

    kernels.COMPILED.load()
    kernels.device_tables("cpu")


def encode_uastc(
    pixels: npt.NDArray[np.uint8], *, level: Level = "default", srgb: bool = False, threads: int = 1
) -> bytes:
    """UASTC LDR 4×4 blocks of (h, w, 4) RGBA pixels: 16 bytes each, row by row; a partial block repeats the edge.

    `level`: how many of the format's modes and patterns are tried. `srgb` changes nothing in the blocks: as in
    basisu, squared error is counted in the values as stored, and the container says what they mean. `threads` changes
    nothing either but the time: a job of the sandbox has one, since jobs run side by side.

    Raises ValueError for another shape or an unknown level, `KernelsMissing` as `prepare`.
    """
    from cloudbaker.compute.textures.uastc import kernels

    if pixels.ndim != 3 or pixels.shape[2] != 4 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise ValueError(f"pixels must be (h, w, 4) of 8 bits, not {pixels.shape} of {pixels.dtype}")
    if level not in kernels.EFFORTS:
        raise ValueError(f"level must be one of {', '.join(kernels.EFFORTS)}, not {level!r}")
    prepare()
    return _launch(pixels, kernels.EFFORTS[level], threads)


def _launch(pixels: npt.NDArray[np.uint8], effort: tuple[int, ...], threads: int) -> bytes:
    import warp as wp

    from cloudbaker.compute.textures.uastc import kernels

    height, width = pixels.shape[:2]
    across, down = -(-width // BLOCK), -(-height // BLOCK)
    flat = np.ascontiguousarray(pixels).view(np.uint32).reshape(-1)
    picture: Any = wp.array(flat, dtype=wp.uint32, device="cpu", copy=False)
    blocks = np.empty(across * down * 2, np.uint64)
    out: Any = wp.array(blocks, dtype=wp.uint64, device="cpu", copy=False)
    tables = kernels.device_tables("cpu")
    effort_array = kernels.effort(effort, "cpu")

    def strip(first: int, last: int) -> None:
        wp.launch(
            kernels.encode_blocks,
            dim=last - first,
            inputs=[picture, width, height, across, first, *tables, effort_array, out],
            device="cpu",
        )

    strips = min(threads, down)
    if strips <= 1:
        strip(0, across * down)
    else:
        # Four strips a thread: blocks differ in how long they take.
        edges = [down * i // min(down, 4 * strips) * across for i in range(min(down, 4 * strips) + 1)]
        with ThreadPoolExecutor(strips) as pool:
            list(pool.map(strip, edges[:-1], edges[1:]))
    return blocks.tobytes()
