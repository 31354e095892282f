"""The kernel of `rdo`, compiled and loaded as `kernels` does its own, and apart from it.

Who wants no smaller blocks neither waits for it nor gets another kernel for it.
"""

from __future__ import annotations

from importlib import resources

import numpy as np
import numpy.typing as npt
import warp as wp

from cloudbaker.compute.textures.uastc import kernels
from cloudbaker.compute.textures.uastc.compiled import Compiled
from cloudbaker.compute.textures.uastc.tables import LEVELS, unquantized

_SOURCE = "".join(resources.files(__package__).joinpath(name).read_text("utf-8") for name in ("uastc.h", "rdo.h"))
CAPACITY = 2048
"""Weights, and whole blocks, that are remembered; the oldest are forgotten."""
MEMORY = CAPACITY * (312 + 152)
"""Bytes for them: `Weights` and `Whole` of rdo.h, where that is asserted."""


@wp.func_native(  # type: ignore[untyped-decorator]
    "uastc_rdo::optimize(picture.data, width, height, across, first, last, bytes.data, words.data, effort.data, "
    "values.data, literal, error_per_bit, memory.data, out.data);"
)
def _optimize(
    picture: wp.array(dtype=wp.uint32),  # type: ignore[valid-type]
    width: wp.int32,
    height: wp.int32,
    across: wp.int32,
    first: wp.int32,
    last: wp.int32,
    bytes: wp.array(dtype=wp.uint8),  # type: ignore[valid-type]
    words: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    effort: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    values: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    literal: wp.int32,
    error_per_bit: wp.float32,
    memory: wp.array(dtype=wp.uint8),  # type: ignore[valid-type]
    out: wp.array(dtype=wp.uint64),  # type: ignore[valid-type]
) -> None: ...


@wp.kernel(enable_backward=False)  # type: ignore[untyped-decorator]
def optimize_blocks(
    picture: wp.array(dtype=wp.uint32),  # type: ignore[valid-type]
    width: wp.int32,
    height: wp.int32,
    across: wp.int32,
    first: wp.int32,
    last: wp.int32,
    bytes: wp.array(dtype=wp.uint8),  # type: ignore[valid-type]
    words: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    effort: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    values: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    literal: wp.int32,
    error_per_bit: wp.float32,
    memory: wp.array(dtype=wp.uint8),  # type: ignore[valid-type]
    out: wp.array(dtype=wp.uint64),  # type: ignore[valid-type]
) -> None:
    """Blocks `first` to `last` in place, one after the other: a launch has one thread."""
    _optimize(
        picture, width, height, across, first, last, bytes, words, effort, values, literal, error_per_bit, memory, out
    )


wp.set_module_options(
    {
        **kernels.MODULE_OPTIONS,
        "extra_build_options": wp.ModuleBuildOptions(extra_cpu_preamble=_SOURCE, extra_cuda_preamble=_SOURCE),
    }
)


COMPILED = Compiled(__name__, "uastc-rdo", lambda: [_SOURCE, kernels.COMPILED.folder.name])


def value_table() -> npt.NDArray[np.int32]:
    """For each range of endpoints, what a stored one means."""
    table = np.zeros((len(LEVELS), 256), np.int32)
    for row, levels in enumerate(LEVELS):
        table[row, :levels] = unquantized(levels)
    return table.ravel()
