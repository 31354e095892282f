"""The kernel: compiled once by Warp into the installation, loaded from there by every process that encodes.

Warp brings clang, and NVRTC for CUDA, in one wheel: `uastc.h` is compiled where Cloud Baker is installed, for the CPU
that it finds, with no compiler on the machine. A sandboxed job can neither write nor start a program, so it never
compiles: `cloudbaker setup` does, or else the fork server before its first job of this kind (`prepare`).

Contraction (a multiplication and an addition in one rounding) is off, for clang and for NVRTC: with it the same source
gives other bytes on a CPU without FMA. A compiled kernel is chosen by the instruction set (x86-64-v2, v3, v4), not by
``-march=native``: an installation may be a container image that was built on another machine.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import warp as wp

from cloudbaker.compute.textures.uastc.compiled import Compiled
from cloudbaker.compute.textures.uastc.tables import ETC1_BIASES, LEVELS, MERGED, PAIRS, TRIPLES, partition, unquantized

Level = Literal["fast", "default", "max"]

EFFORTS: dict[Level, tuple[int, ...]] = {
    "fast": (1, 6000, 20000, 1, 0, 0, 0, 6, 0, 0, 4, 1),
    "default": (2, 300, 2000, 2, 0, 0, 0, 20, 1, 6, 6, 2),
    "max": (4, 0, 0, 6, 3, 4, 1, 48, 3, 25, 16, 12),
}
"""For each level the values of `Effort` in uastc.h:

1. rounds of least squares
2. cost of a block, in 128ths of a squared step, from which a second plane of weights is tried
3. and from which subsets are
4. patterns tried of modes 2, 4, 9 and 16; 5. of mode 7; 6. of mode 3
7. whether ETC1's biases are tried in all four ways to halve a block, or in the best; 8. how many tables, in each
9. rounds of single steps of the ends; 10. for what is within so many per cent of the best
11. how bad a pattern may look, in quarters of the best block's error
12. starts of a line (1 to 16)
"""

_SOURCE = resources.files(__package__).joinpath("uastc.h").read_text("utf-8")
_LANES, _MERGED_LANE, _TRIPLE_LANES = 64, 32, 16

wp.config.log_level = wp.LOG_WARNING if hasattr(wp, "LOG_WARNING") else 30


@wp.func_native(  # type: ignore[untyped-decorator]
    "uastc::encode(picture.data, width, height, across, block, bytes.data, words.data, effort.data, out.data);"
)
def _encode(
    picture: wp.array(dtype=wp.uint32),  # type: ignore[valid-type]
    width: wp.int32,
    height: wp.int32,
    across: wp.int32,
    block: wp.int32,
    bytes: wp.array(dtype=wp.uint8),  # type: ignore[valid-type]
    words: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    effort: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    out: wp.array(dtype=wp.uint64),  # type: ignore[valid-type]
) -> None: ...


@wp.kernel(enable_backward=False)  # type: ignore[untyped-decorator]
def encode_blocks(
    picture: wp.array(dtype=wp.uint32),  # type: ignore[valid-type]
    width: wp.int32,
    height: wp.int32,
    across: wp.int32,
    first: wp.int32,
    bytes: wp.array(dtype=wp.uint8),  # type: ignore[valid-type]
    words: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    effort: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    out: wp.array(dtype=wp.uint64),  # type: ignore[valid-type]
) -> None:
    """Blocks `first` … of a picture, `across` blocks wide, into `out`; one thread of the launch per block."""
    _encode(picture, width, height, across, first + wp.tid(), bytes, words, effort, out)


def _flags() -> str:
    """clang's flags for this CPU. Every choice gives the same bytes.

    Loops of 16 texels must stay loops until they are vectorised, and calls must be gone by then: together 1.3 times as
    fast as with clang's own limits.
    """
    common = "-ffp-contract=off -mllvm=-inline-threshold=5000 -mllvm=-unroll-full-max-count=12"
    if os.uname().machine != "x86_64":
        return common
    found = set()
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("flags"):
            found = set(line.partition(":")[2].split())
            break
    if not {"avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"} <= found:
        return f"-target-cpu x86-64-v2 {common}"
    if not {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} <= found:
        return f"-target-cpu x86-64-v3 {common}"
    return f"-target-cpu x86-64-v4 -mprefer-vector-width=512 {common}"


_FLAGS = _flags()
MODULE_OPTIONS = {
    "enable_backward": False,
    "fuse_fp": False,
    "block_dim": 1,  # what a launch on the CPU asks for; with another, it would not find the loaded kernel
    "cpu_compiler_flags": _FLAGS,
    "extra_build_options": wp.ModuleBuildOptions(extra_cpu_preamble=_SOURCE, extra_cuda_preamble=_SOURCE),
}
"""Of any module whose kernels call `uastc.h`."""
wp.set_module_options(MODULE_OPTIONS)


COMPILED = Compiled(__name__, "uastc", lambda: [_SOURCE, os.uname().machine, _FLAGS])


def byte_table() -> npt.NDArray[np.uint8]:
    """For each range of endpoints and each value: the next of the range below and above, and how it is stored."""
    table = np.zeros((3, len(LEVELS), 256), np.uint8)
    for row, levels in enumerate(LEVELS):
        values = unquantized(levels)
        for value in range(256):
            table[0, row, value] = values[values <= value].max()
            table[1, row, value] = values[values >= value].min()
            table[2, row, value] = np.argmin(np.abs(values - value))
    return table.ravel()


def word_table() -> npt.NDArray[np.int32]:
    """Masks of subsets: [16][64] of two (the common patterns from 0, mode 7's from 32), [2][16][16] of three; and the
    32 biases of ETC1."""
    pairs = np.zeros((16, _LANES), np.int32)
    for lane, seed in enumerate(PAIRS):
        pairs[:, lane] = -partition(seed, 2)
    for lane, seed in enumerate(MERGED, _MERGED_LANE):
        pairs[:, lane] = -partition(seed, 2)
    triples = np.zeros((2, 16, _TRIPLE_LANES), np.int32)
    for lane, seed in enumerate(TRIPLES):
        subset = partition(seed, 3)
        triples[0, :, lane] = -(subset == 1).astype(np.int32)
        triples[1, :, lane] = -(subset == 2).astype(np.int32)
    biases = [
        sum((delta + 2) << (6 * half + 2 * channel) for half in range(2) for channel, delta in enumerate(row[half]))
        for row in ETC1_BIASES
    ]
    return np.concatenate([pairs.ravel(), triples.ravel(), np.asarray(biases, np.int32)])


@lru_cache(maxsize=8)
def device_tables(device: str) -> tuple[Any, Any]:
    """The two tables as arrays of a device."""
    return (
        wp.array(byte_table(), dtype=wp.uint8, device=device),
        wp.array(word_table(), dtype=wp.int32, device=device),
    )


@lru_cache(maxsize=32)
def effort(values: tuple[int, ...], device: str) -> Any:
    """An entry of `EFFORTS` as an array of a device."""
    return wp.array(np.asarray(values, np.int32), dtype=wp.int32, device=device)
