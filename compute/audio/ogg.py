"""Ogg Vorbis streams: another serial number and further comments, without touching the sound.

Encoders draw a serial number at random, so that two streams of one sound differ; and libsndfile writes some comments,
but not those by which engines loop.

Source: RFC 3533 (pages), Vorbis I specification, section 5 (comment header).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

_HEADER = struct.Struct("<4sBBqIIIB")
_CONTINUED, _NOTHING_ENDS = 1, -1
_REVERSED = bytes(int(f"{n:08b}"[::-1], 2) for n in range(256))


@dataclass(slots=True)
class _Page:
    flags: int
    granule: int
    lacing: bytes
    body: bytes

    def packed(self, serial: int, number: int) -> bytes:
        """The page with its checksum."""
        head = _HEADER.pack(b"OggS", 0, self.flags, self.granule, serial, number, 0, len(self.lacing)) + self.lacing
        sum_ = struct.pack("<I", _checksum(head + self.body))
        return head[:22] + sum_ + head[26:] + self.body


def rewrite(source: BinaryIO, target: BinaryIO, *, serial: int, comments: Mapping[str, str]) -> None:
    """Copy a Vorbis stream with this serial number, and these comments added; page by page, in constant memory.

    Raises ValueError if `source` is no single Vorbis stream.
    """
    pages = _pages(source)
    first = next(pages, None)
    if first is None or not first.body.startswith(b"\x01vorbis"):
        raise ValueError("it is no Ogg Vorbis stream")
    number = 0

    def put(page: _Page) -> None:
        nonlocal number
        target.write(page.packed(serial, number))
        number += 1

    put(first)
    packets = _headers(pages)
    for page in _paged([_commented(packets[0], comments), *packets[1:]]):
        put(page)
    for page in pages:
        put(page)


def _pages(source: BinaryIO) -> Iterator[_Page]:
    while head := source.read(_HEADER.size):
        if len(head) < _HEADER.size:
            raise ValueError("the Ogg stream is cut off")
        magic, version, flags, granule, _, _, _, segments = _HEADER.unpack(head)
        lacing = source.read(segments)
        body = source.read(sum(lacing))
        if magic != b"OggS" or version or len(lacing) < segments or len(body) < sum(lacing):
            raise ValueError("the Ogg stream is damaged")
        yield _Page(flags, granule, lacing, body)


def _headers(pages: Iterator[_Page]) -> list[bytes]:
    """The comment and setup packets; sound begins on a page of its own (Vorbis I, A.2)."""
    packets = [b""]
    for page in pages:
        at = 0
        for size in page.lacing:
            packets[-1] += page.body[at : at + size]
            at += size
            if size < 255:
                packets.append(b"")
        if len(packets) > 2:
            break
    if len(packets) != 3 or packets.pop() or not packets[0].startswith(b"\x03vorbis"):
        raise ValueError("the headers of the Vorbis stream are not as they must be")
    return packets


def _commented(packet: bytes, comments: Mapping[str, str]) -> bytes:
    (vendor,) = struct.unpack_from("<I", packet, 7)
    (count,) = struct.unpack_from("<I", packet, 11 + vendor)
    end = 15 + vendor
    for _ in range(count):
        end += 4 + struct.unpack_from("<I", packet, end)[0]
    lines = [f"{key}={value}".encode() for key, value in comments.items()]
    added = b"".join(struct.pack("<I", len(line)) + line for line in lines)
    return (
        packet[: 11 + vendor] + struct.pack("<I", count + len(lines)) + packet[15 + vendor : end] + added + packet[end:]
    )


def _paged(packets: list[bytes]) -> Iterator[_Page]:
    """Header packets on pages of their own."""
    lacing = b"".join(b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255]) for packet in packets)
    body, at, flags = b"".join(packets), 0, 0
    for first in range(0, len(lacing), 255):
        some = lacing[first : first + 255]
        ends = any(size < 255 for size in some)
        yield _Page(flags, 0 if ends else _NOTHING_ENDS, some, body[at : at + sum(some)])
        at += sum(some)
        flags = _CONTINUED if some[-1] == 255 else 0


def _checksum(data: bytes) -> int:
    """CRC-32 of polynomial 0x04c11db7, most significant bit first, nothing inverted: zlib's, with all bits reversed."""
    crc = ~zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) & 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)
