"""The ``.astc`` file: a header of 16 bytes, then the blocks of one image (astcenc, Docs/FileFormat.md).

======  ===================================================
0       magic 0x5CA1AB13, little-endian
4       texels of a block: x, y, z, one byte each
7       texels of the image: x, y, z, three bytes each
16      blocks of 16 bytes, row by row
======  ===================================================
"""

from __future__ import annotations

from dataclasses import dataclass

from cloudbaker.compute.textures.astc_blocks import BLOCKS, Block, astc_bytes

ASTC_MAGIC = b"\x13\xab\xa1\x5c"
HEADER_BYTES = 16


@dataclass(frozen=True, slots=True)
class AstcFile:
    """One image in blocks. Whether they hold sRGB, linear or HDR values, the file does not say."""

    width: int
    height: int
    block: Block
    blocks: bytes


def write_astc(blocks: bytes, width: int, height: int, *, block: Block = 4) -> bytes:
    """An ``.astc`` file. Raises ValueError where the blocks are not those of this size."""
    if block not in BLOCKS or not (0 < width < 1 << 24 and 0 < height < 1 << 24):
        raise ValueError(f"no .astc holds {width} × {height} texels in blocks of {block} × {block}")
    if len(blocks) != astc_bytes(width, height, block):
        raise ValueError(f"{width} × {height} texels take {astc_bytes(width, height, block)} bytes, not {len(blocks)}")
    sizes = b"".join(size.to_bytes(3, "little") for size in (width, height, 1))
    return ASTC_MAGIC + bytes((block, block, 1)) + sizes + blocks


def read_astc(data: bytes | bytearray | memoryview) -> AstcFile:
    """The image of an ``.astc`` file in 4 × 4, 6 × 6 or 8 × 8 blocks. Raises ValueError that says what is wrong."""
    view = memoryview(data).cast("B")
    if len(view) < HEADER_BYTES or bytes(view[:4]) != ASTC_MAGIC:
        raise ValueError("not an .astc file")
    x, y, z = view[4:7]
    width, height, depth = (int.from_bytes(view[at : at + 3], "little") for at in (7, 10, 13))
    if (y, z, depth) != (x, 1, 1) or x not in BLOCKS:
        raise ValueError(f"{x} × {y} × {z} blocks and a depth of {depth}: only 2D images of square blocks are read")
    if not width or not height:
        raise ValueError(f"the .astc says {width} × {height} texels")
    if len(view) - HEADER_BYTES != astc_bytes(width, height, x):
        raise ValueError(
            f"{width} × {height} texels take {astc_bytes(width, height, x)} bytes of blocks, the .astc has "
            f"{len(view) - HEADER_BYTES}"
        )
    return AstcFile(width, height, x, bytes(view[HEADER_BYTES:]))
