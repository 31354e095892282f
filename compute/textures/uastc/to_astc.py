"""UASTC blocks as ASTC 4 × 4 blocks where they are: on a GPU that has just encoded them, or here.

`uastc_astc.uastc_to_astc` does the same by Basis Universal, one core at a time; a GPU that gives two gigapixels a
second would wait for it. The same source runs on the CPU, compiled by Warp when it is first used: not in a sandboxed
job, which may not compile.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
import warp as wp

from cloudbaker.compute.textures.uastc import kernels
from cloudbaker.compute.textures.uastc.compiled import init
from cloudbaker.compute.textures.uastc.tables import MODES, SOLID, Mode, digits, partition, unquantized

BLOCK_BYTES = 16

_SOURCE = resources.files(__package__).joinpath("to_astc.h").read_text("utf-8")
_FIELDS = 15


@wp.func_native(  # type: ignore[untyped-decorator]
    "to_astc::convert(blocks.data, block, table.data, trits.data, quints.data, out.data);"
)
def _convert(
    blocks: wp.array(dtype=wp.uint64),  # type: ignore[valid-type]
    block: wp.int32,
    table: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    trits: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    quints: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    out: wp.array(dtype=wp.uint64),  # type: ignore[valid-type]
) -> None: ...


@wp.kernel(enable_backward=False)  # type: ignore[untyped-decorator]
def convert_blocks(
    blocks: wp.array(dtype=wp.uint64),  # type: ignore[valid-type]
    table: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    trits: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    quints: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    out: wp.array(dtype=wp.uint64),  # type: ignore[valid-type]
) -> None:
    """One block a thread, two words each."""
    _convert(blocks, wp.tid(), table, trits, quints, out)


wp.set_module_options(
    {
        **{name: value for name, value in kernels.MODULE_OPTIONS.items() if name != "block_dim"},
        "extra_build_options": wp.ModuleBuildOptions(extra_cpu_preamble=_SOURCE, extra_cuda_preamble=_SOURCE),
    }
)


def to_astc(blocks: bytes | memoryview, *, device: str = "cpu") -> bytes:
    """As many ASTC blocks. What is no UASTC block becomes transparent black. Raises ValueError for half a block."""
    words = np.frombuffer(blocks, "<u8")
    if words.size % 2:
        raise ValueError(f"{len(blocks)} bytes are no whole number of blocks")
    init()
    source: Any = wp.array(words, dtype=wp.uint64, device=device)
    return np.asarray(on_device(source, device).numpy(), "<u8").tobytes()


def on_device(blocks: Any, device: str) -> Any:
    """The same for a Warp array of two uint64 a block that is on the device already; the result stays there."""
    out = wp.empty_like(blocks)
    if blocks.size:
        wp.launch(convert_blocks, blocks.size // 2, [blocks, *_device_tables(device), out], device=device)
    return out


@lru_cache(maxsize=8)
def _device_tables(device: str) -> tuple[Any, ...]:
    tables = (mode_table(), _numbers(3, 5, _trits, 8), _numbers(5, 3, _quints, 7))
    return tuple(wp.array(table, dtype=wp.int32, device=device) for table in tables)


def mode_table() -> npt.NDArray[np.int32]:
    """Rows of `_FIELDS` for each mode, and behind them what they point at."""
    rows: list[list[int]] = []
    behind: list[int] = []
    start = len(MODES) * _FIELDS
    for number, mode in enumerate(MODES):
        base, low_bits = digits(mode.levels)
        hints = 0 if number == SOLID else mode.bc1_hints + 8 + 5 * mode.etc1_bias + 8 * mode.alpha
        patterns = start + len(behind)
        for seed in mode.patterns:
            subset = partition(seed, mode.subsets)
            packed = sum(int(s) << 2 * texel for texel, s in enumerate(subset))
            behind += [seed, packed - (1 << 32) if packed >= 1 << 31 else packed]
        values = start + len(behind)
        behind += unquantized(mode.levels).tolist()
        rows.append(
            [
                *(mode.code, mode.code_bits, hints, mode.pattern_bits, patterns, len(mode.patterns)),
                *(int(mode.component_selector), mode.components, mode.subsets, mode.planes, base, low_bits, values),
                *(mode.weight_bits, block_mode(mode)),
            ]
        )
    return np.asarray([*itertools.chain(*rows), *behind], np.int32)


def block_mode(mode: Mode) -> int:
    """The 11 bits that say: weights for 4 × 4 texels, of so many bits, in one plane or two. *ASTC*, "Block mode"."""
    high, r = {0: (0, 0), 1: (0, 2), 2: (0, 4), 3: (0, 7), 4: (1, 4), 5: (1, 7)}[mode.weight_bits]
    # D H BB AA R0 0 0 R2 R1, with a width of B + 4 and a height of A + 2
    return (mode.planes - 1) << 10 | high << 9 | 0 << 7 | 2 << 5 | (r & 1) << 4 | r >> 1


def _numbers(base: int, size: int, decode: Any, bits: int) -> npt.NDArray[np.int32]:
    """For each group of digits, the first the least, ASTC's number for it. Where the upper digits are 0, so are the
    upper bits, and can be left out. Some groups have several numbers: those that Basis Universal takes are the smallest
    of trits and the largest of quints."""
    table = np.zeros(base**size, np.int32)
    for number in reversed(range(1 << bits)) if base == 3 else range(1 << bits):
        table[sum(digit * base**i for i, digit in enumerate(decode(number)))] = number
    return table


def _trits(t: int) -> tuple[int, ...]:
    """*ASTC*, "Integer sequence encoding": five trits of 8 bits."""
    if t >> 2 & 7 == 7:
        c, t4, t3 = (t >> 5) << 2 | t & 3, 2, 2
    elif t >> 5 & 3 == 3:
        c, t4, t3 = t & 31, 2, t >> 7
    else:
        c, t4, t3 = t & 31, t >> 7, t >> 5 & 3
    if c & 3 == 3:
        return (c >> 3 & 1) << 1 | (c >> 2 & ~(c >> 3) & 1), c >> 4, 2, t3, t4
    if c >> 2 & 3 == 3:
        return c & 3, 2, 2, t3, t4
    return (c >> 1 & 1) << 1 | (c & ~(c >> 1) & 1), c >> 2 & 3, c >> 4, t3, t4


def _quints(q: int) -> tuple[int, ...]:
    """The same: three quints of 7 bits."""
    if q >> 1 & 3 == 3 and q >> 5 == 0:
        low = q & 1
        return 4, 4, low << 2 | (q >> 4 & ~low & 1) << 1 | (q >> 3 & ~low & 1)
    if q >> 1 & 3 == 3:
        c, q2 = (q >> 3 & 3) << 3 | (~(q >> 5) & 3) << 1 | q & 1, 4
    else:
        c, q2 = q & 31, q >> 5
    if c & 7 == 5:
        return c >> 3, 4, q2
    return c & 7, c >> 3, q2
