"""UASTC blocks of many pictures in one launch: how a GPU is kept busy with textures and their mipmaps.

A launch of its own for each mipmap leaves a GPU idle most of the time: ten of the twelve levels of a 2048² texture have
fewer blocks than an H200 has lanes. Here the pictures of many assets lie one after the other in one array, every thread
finds its picture by its number, and calls the same `uastc.h` as the CPU's kernel.

This module is compiled by Warp when it is first launched on a device (NVRTC for CUDA, kept in Warp's own cache): a GPU
actor is no sandboxed job, and may.
"""

from __future__ import annotations

import warp as wp

from cloudbaker.compute.textures.uastc import kernels

COLUMNS = 5
"""Of a row of the table of pictures: texel offset, width, height, blocks across, first block."""


@wp.func_native(  # type: ignore[untyped-decorator]
    "uastc::encode(texels.data + offset, width, height, across, number, bytes.data, words.data, effort.data, "
    "out.data + 2 * size_t(first));"
)
def _encode_at(
    texels: wp.array(dtype=wp.uint32),  # type: ignore[valid-type]
    offset: wp.int32,
    width: wp.int32,
    height: wp.int32,
    across: wp.int32,
    number: wp.int32,
    bytes: wp.array(dtype=wp.uint8),  # type: ignore[valid-type]
    words: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    effort: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    first: wp.int32,
    out: wp.array(dtype=wp.uint64),  # type: ignore[valid-type]
) -> None: ...


@wp.kernel(enable_backward=False)  # type: ignore[untyped-decorator]
def encode_many(
    texels: wp.array(dtype=wp.uint32),  # type: ignore[valid-type]
    pictures: wp.array2d(dtype=wp.int32),  # type: ignore[valid-type]
    count: wp.int32,
    bytes: wp.array(dtype=wp.uint8),  # type: ignore[valid-type]
    words: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    effort: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    out: wp.array(dtype=wp.uint64),  # type: ignore[valid-type]
) -> None:
    """One block a thread. `pictures`: `count` rows of `COLUMNS`, by their first block; `out`: two words a block."""
    block = wp.tid()
    low = wp.int32(0)
    high = count - 1
    while low < high:  # the last picture whose first block is not behind this one
        middle = (low + high + 1) / 2
        if pictures[middle, 4] <= block:
            low = middle
        else:
            high = middle - 1
    first = pictures[low, 4]
    _encode_at(
        texels,
        pictures[low, 0],
        pictures[low, 1],
        pictures[low, 2],
        pictures[low, 3],
        block - first,
        bytes,
        words,
        effort,
        first,
        out,
    )


wp.set_module_options({name: value for name, value in kernels.MODULE_OPTIONS.items() if name != "block_dim"})
