"""Unpack compressed resources (RSCC): FastLZ, deflate, zstd and gzip in blocks, never beyond what they declare.

The layout is that of the engine's ``FileAccessCompressed``: ``RSCC``, u32 mode, u32 block size, u32 total size, then a
u32 size for each of ``total // block + 1`` blocks, the blocks, and ``RSCC`` again. Every block but the last unpacks to
exactly the block size.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import zstandard

from cloudbaker.compute.godot.resources.tree import ResourceError

MAGIC = b"RSCC"
MAX_BLOCK = 16 << 20
"""The engine writes blocks of 4 KB; this bounds what one block may ask for at once."""
_ZSTD_WINDOW = 1 << 27
MAX_FASTLZ = 32 << 20
"""Of a whole stream: no engine has written FastLZ since 3.0, and Python reads a hostile one at 3 MB/s."""
_FASTLZ_MAX_DISTANCE = 8191

Buffer = bytes | bytearray | memoryview


def unpack_rscc(data: Buffer, *, limit: int, magic: bytes = b"") -> bytearray:
    """`magic` and the unpacked stream of a compressed resource, of at most `limit` bytes. Raises `ResourceError`."""
    view = memoryview(data).cast("B")
    if len(view) < 16:
        raise ResourceError("binary.truncated", "the file ends inside its header")
    mode, block, total = struct.unpack_from("<3I", view, 4)
    if mode not in _MODES:
        raise ResourceError("binary.compression", f"the compression {mode} is unknown", place="offset 0x4")
    if not 0 < block <= MAX_BLOCK:
        raise ResourceError("binary.compression", f"a block has {block:,} bytes", place="offset 0x8")
    if total > limit:
        raise ResourceError("binary.too-large", f"it unpacks to {total:,} bytes, the limit is {limit:,}")
    if mode == 0 and total > MAX_FASTLZ:
        raise ResourceError("binary.too-large", f"it unpacks to {total:,} bytes of FastLZ, {MAX_FASTLZ:,} are read")
    count = total // block + 1
    if 16 + 4 * count > len(view):
        raise ResourceError("binary.truncated", f"the table of {count:,} blocks leaves the file")
    sizes = struct.unpack_from(f"<{count}I", view, 16)
    at = 16 + 4 * count
    out = bytearray(magic)
    for number, size in enumerate(sizes):
        wanted = min(block, total - number * block)
        packed = view[at : at + size]
        if len(packed) != size:
            raise ResourceError("binary.truncated", f"block {number} leaves the file", place=f"offset {at:#x}")
        at += size
        # The engine writes an empty last block where the total is a multiple of the block size, and never reads it.
        if wanted:
            out += _block(_MODES[mode], packed, wanted, number)
    if bytes(view[at:]) not in (b"", MAGIC):
        raise ResourceError("binary.structure", f"{len(view) - at:,} bytes follow after the last block")
    return out


def _block(unpack: Callable[[memoryview, int], bytes], packed: memoryview, wanted: int, number: int) -> bytes:
    try:
        data = unpack(packed, wanted)
    except (ValueError, zlib.error, zstandard.ZstdError, MemoryError) as error:
        raise ResourceError("binary.compression", f"block {number} is damaged: {error}") from error
    if len(data) != wanted:
        raise ResourceError("binary.compression", f"block {number} has {len(data):,} bytes, not {wanted:,}")
    return data


def _zlib(bits: int) -> Callable[[memoryview, int], bytes]:
    def unpack(packed: memoryview, wanted: int) -> bytes:
        # One byte more than wanted, so that a block that holds more is not taken for whole.
        return zlib.decompressobj(bits).decompress(packed, wanted + 1)

    return unpack


def _zstd(packed: memoryview, wanted: int) -> bytes:
    with zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).stream_reader(packed) as stream:
        return stream.read(wanted + 1)


def _fastlz(packed: memoryview, wanted: int) -> bytes:
    # FastLZ takes no less than 16 bytes, so the engine fills shorter blocks up before it packs them.
    data = unpack_fastlz(packed, max(wanted, 16))
    return data[:wanted] if wanted < 16 else data


def unpack_fastlz(packed: Buffer, wanted: int) -> bytes:
    """FastLZ, levels 1 and 2, of at most `wanted` bytes. Raises ValueError.

    The format is of the FastLZ block specification (ariya.github.io/FastLZ): the top three bits of the first byte are
    the level; then literal runs (top bits 000) and matches of a length and a distance.
    """
    source = memoryview(packed).cast("B")
    if not source:
        raise ValueError("empty")
    level = source[0] >> 5
    if level > 1:
        raise ValueError(f"level {level + 1}")
    out = bytearray()
    at, end = 0, len(source)
    first = True
    try:
        while at < end:
            control = source[at] & 31 if first else source[at]
            at += 1
            if control < 32:
                first = False
                length = control + 1
                if at + length > end:
                    raise ValueError("a run leaves the block")
                out += source[at : at + length]
                at += length
            else:
                length, distance = (control >> 5) + 2, (control & 31) << 8
                if length == 9:
                    more = 255
                    while more == 255:
                        more = source[at]
                        at += 1
                        length += more
                        if length > wanted:
                            raise ValueError("it holds more than it says")
                        if level == 0:
                            break
                low = source[at]
                at += 1
                if level == 1 and low == 255 and distance == 31 << 8:
                    distance = (source[at] << 8) + source[at + 1] + _FASTLZ_MAX_DISTANCE
                    at += 2
                else:
                    distance += low
                start = len(out) - distance - 1
                if start < 0:
                    raise ValueError("a match begins before the block")
                if len(out) + length > wanted:
                    raise ValueError("it holds more than it says")
                if distance >= length - 1:
                    out += out[start : start + length]
                else:  # it repeats itself
                    out += (out[start:] * (length // (distance + 1) + 1))[:length]
            if len(out) > wanted:
                raise ValueError("it holds more than it says")
    except IndexError:
        raise ValueError("a match leaves the block") from None
    return bytes(out)


_MODES: dict[int, Callable[[memoryview, int], bytes]] = {
    0: _fastlz,
    1: _zlib(15),
    2: _zstd,
    3: _zlib(31),
}
