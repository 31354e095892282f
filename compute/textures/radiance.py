"""Radiance ``.hdr`` pictures: strict reader, and a writer (Radiance, ``src/common/color.c`` and ``resolu.h``).

::

    #?RADIANCE                       or #?RGBE
    FORMAT=32-bit_rle_rgbe           further lines NAME=value, and comments with #
                                     (an empty line)
    -Y 512 +X 1024                   rows from the top, columns from the left
    scanlines                        a pixel is three mantissas and their common exponent

Values are read as every viewer reads them: mantissa · 2^(exponent - 136), without the half step that Radiance itself
adds, and without EXPOSURE, which viewers and three.js ignore, too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Light = npt.NDArray[np.float32]
"""(height, width, 3), linear."""

MAGICS = (b"#?RADIANCE", b"#?RGBE")
_HEADER_BYTES = 64 << 10
_RESOLUTION = re.compile(rb"([-+])([XY]) {1,8}(\d{1,9}) {1,8}([-+])([XY]) {1,8}(\d{1,9})[ \r]*")
_ADAPTIVE_WIDTHS = range(8, 0x8000)
"""Widths whose scanlines may be run-length encoded channel by channel."""
_BIAS = 136
"""128, and 8 bits of mantissa."""


@dataclass(frozen=True, slots=True)
class RadianceHeader:
    """What stands before the pixels."""

    width: int
    height: int
    flip_rows: bool
    """The lowest row comes first."""
    flip_columns: bool
    exposure: float
    """Product of all EXPOSURE lines: what the values have been multiplied with already."""
    start: int
    """Where the pixels begin."""


def radiance_header(data: bytes | bytearray | memoryview) -> RadianceHeader:
    """Read the header. Raises ValueError that says what is wrong with it."""
    head = bytes(memoryview(data)[:_HEADER_BYTES])
    if not head.startswith(MAGICS):
        raise ValueError("not a Radiance picture")
    end = head.find(b"\n\n")
    if end < 0:  # some exporters end lines as Windows does
        end = head.find(b"\n\r\n")
    if end < 0:
        raise ValueError("the header of the .hdr does not end within 64 KB")
    at = head.index(b"\n", end + 1) + 1
    line, found, _ = head[at : at + 80].partition(b"\n")
    size = _RESOLUTION.fullmatch(line)
    if not found or size is None:
        raise ValueError("the .hdr does not say its size after the header")
    if size[2] != b"Y" or size[5] != b"X":
        raise ValueError("the .hdr is stored column by column: save it again, row by row")
    height, width = int(size[3]), int(size[6])
    if not width or not height:
        raise ValueError(f"the .hdr says {width} × {height} pixels")
    exposure = 1.0
    for entry in head[:end].splitlines()[1:]:
        name, _, value = entry.partition(b"=")
        if name == b"FORMAT" and value.strip() != b"32-bit_rle_rgbe":
            raise ValueError(f"the .hdr holds {value[:40].decode('latin-1').strip()!r}, not RGBE colours")
        if name == b"EXPOSURE":
            exposure *= _number(value)
    return RadianceHeader(width, height, size[1] == b"+", size[4] == b"-", exposure, at + len(line) + 1)


def read_radiance(data: bytes | bytearray | memoryview) -> Light:
    """The pixels, the upper left first. Check the size with `radiance_header` before. Raises ValueError where the data
    is damaged, ends too early, or goes on after the last pixel by more than a line of text."""
    header = radiance_header(data)
    raw = memoryview(data).cast("B")[header.start :]
    width, height = header.width, header.height
    if len(raw) < 4 * height:  # the least that any row takes
        raise ValueError(f"the .hdr ends too early for {width} × {height} pixels")
    rgbe = np.empty((height, width, 4), np.uint8)
    at = 0
    try:
        for y in range(height):
            at = _row(raw, at, rgbe[y])
    except (IndexError, ValueError) as error:
        raise ValueError(f"the .hdr is damaged in row {y}: {error}") from error
    if len(raw) - at > 80:
        raise ValueError(f"the .hdr goes on for {len(raw) - at} bytes after its last pixel")
    if header.flip_rows:
        rgbe = rgbe[::-1]
    if header.flip_columns:
        rgbe = rgbe[:, ::-1]
    return from_rgbe(rgbe)


def write_radiance(pixels: Light) -> bytes:
    """A ``.hdr`` of (h, w, 3) finite values that are not negative, run-length encoded. Raises ValueError for others.

    The larger the value of a pixel's brightest channel, the coarser its steps: 0.4 % of it at most.
    """
    height, width, _ = pixels.shape
    rgbe = to_rgbe(pixels)
    head = f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {height} +X {width}\n".encode()
    if width not in _ADAPTIVE_WIDTHS:
        return head + rgbe.tobytes()
    parts = [head]
    for row in rgbe:
        parts.append(bytes((2, 2, width >> 8, width & 255)))
        parts += [_runs(row[:, channel]) for channel in range(4)]
    return b"".join(parts)


def to_rgbe(pixels: Light) -> npt.NDArray[np.uint8]:
    """(…, 4) bytes, rounded to nearest. Raises ValueError for what is not finite, negative, or beyond 1e38."""
    brightest = pixels.max(axis=-1)
    if not np.isfinite(pixels).all() or (pixels < 0).any() or (brightest > 1e38).any():
        raise ValueError("RGBE holds finite light that is not negative")
    exponent = np.frexp(brightest)[1].astype(np.int32)
    # Rounding can carry into the ninth bit: 255.7 of 256 parts of a power of two is that power.
    exponent += np.rint(np.ldexp(brightest, 8 - exponent)) > 255
    out = np.empty((*pixels.shape[:-1], 4), np.uint8)
    out[..., :3] = np.rint(np.ldexp(pixels, (8 - exponent)[..., None]))
    out[..., 3] = exponent + 128
    out[brightest < 1e-32] = 0
    return out


def from_rgbe(rgbe: npt.NDArray[np.uint8]) -> Light:
    """(…, 3) values of (…, 4) bytes; exponent 0 is black."""
    scale = np.ldexp(np.float32(1), rgbe[..., 3].astype(np.int32) - _BIAS)
    scale[rgbe[..., 3] == 0] = 0
    pixels = rgbe[..., :3].astype(np.float32)
    pixels *= scale[..., None]
    return pixels


def _row(raw: memoryview, at: int, out: npt.NDArray[np.uint8]) -> int:
    """Decode the scanline at `at` into (width, 4) `out`; where the next one begins. Raises ValueError, IndexError."""
    width = len(out)
    if width in _ADAPTIVE_WIDTHS and bytes(raw[at : at + 2]) == b"\x02\x02" and raw[at + 2] < 128:
        if raw[at + 2] << 8 | raw[at + 3] != width:
            raise ValueError("the row says another width than the header")
        at += 4
        line = bytearray(4 * width)
        x = 0
        for end in (width, 2 * width, 3 * width, 4 * width):
            while x < end:
                count = raw[at]
                if count > 128:
                    count -= 128
                    line[x : x + count] = bytes((raw[at + 1],)) * count
                    at += 2
                else:
                    part = raw[at + 1 : at + 1 + count]
                    if not count or len(part) < count:
                        raise ValueError("the data ends too early" if count else "a run of no pixels")
                    line[x : x + count] = part
                    at += 1 + count
                x += count
            if x != end:
                raise ValueError("a run leaves its row")
        out[:] = np.frombuffer(line, np.uint8).reshape(4, width).T
        return at
    return _old_row(raw, at, out)


def _old_row(raw: memoryview, at: int, out: npt.NDArray[np.uint8]) -> int:
    """Pixels one after the other, where 1, 1, 1, n repeats the one before n times (n · 256^k where k stood before)."""
    width = len(out)
    flat = np.frombuffer(raw[at : at + 4 * width], np.uint8)
    if len(flat) == 4 * width and not (flat.reshape(-1, 4)[:, :3] == 1).all(axis=-1).any():
        out[:] = flat.reshape(-1, 4)
        return at + 4 * width
    x = shift = 0
    while x < width:
        pixel = bytes(raw[at : at + 4])
        if len(pixel) < 4:
            raise ValueError("the data ends too early")
        at += 4
        if pixel[:3] != b"\1\1\1":
            out[x] = np.frombuffer(pixel, np.uint8)
            x, shift = x + 1, 0
            continue
        count = pixel[3] << shift
        if not x or shift > 16 or x + count > width:
            raise ValueError("a run leaves its row")
        out[x : x + count] = out[x - 1]
        x, shift = x + count, shift + 8
    return at


def _runs(values: npt.NDArray[np.uint8]) -> bytes:
    """One channel of a scanline: runs of 4 equal values and more, the rest as it is."""
    data = values.tobytes()
    edges = np.flatnonzero(np.diff(values)) + 1
    starts = np.concatenate([[0], edges])
    lengths = np.diff(np.concatenate([starts, [len(data)]]))
    long = lengths >= 4
    out = bytearray()
    at = 0
    for start, length in zip(starts[long].tolist(), lengths[long].tolist(), strict=True):
        _literal(out, data[at:start])
        at = start + length
        for begin in range(0, length, 127):
            out += bytes((128 + min(127, length - begin), data[start]))
    _literal(out, data[at:])
    return bytes(out)


def _literal(out: bytearray, data: bytes) -> None:
    for at in range(0, len(data), 128):
        part = data[at : at + 128]
        out.append(len(part))
        out += part


def _number(value: bytes) -> float:
    try:
        number = float(value)
    except ValueError as error:
        raise ValueError("the .hdr has an EXPOSURE that is no number") from error
    if not 0 < number < float("inf"):
        raise ValueError("the .hdr has an EXPOSURE that is no exposure")
    return number
