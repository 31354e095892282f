"""Compressed resources: each mode, and none that unpacks to more than it says."""

from __future__ import annotations

import random
import struct
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cloudbaker.compute.godot.resources.binary import BinaryLimits, parse_binary
from cloudbaker.compute.godot.resources.compression import unpack_fastlz, unpack_rscc
from cloudbaker.compute.godot.resources.tree import ResourceError
from cloudbaker.testing.godot_packs import COMPRESSIONS, fastlz, numbers, rscc, rsrc

PROPERTIES = [("a", "text " * 500), ("b", numbers("PackedByteArray", *([7] * 3000)))]
RESOURCE = rsrc("Resource", PROPERTIES, to_pack=True)


def refused(data: bytes, code: str, *, limit: int = 1 << 20) -> None:
    with pytest.raises(ResourceError) as caught:
        unpack_rscc(data, limit=limit)
    assert caught.value.code == code


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("block", [15, 64, 4096, len(RESOURCE) - 4, 1 << 20])
def test_what_was_packed_comes_back(compression: str, block: int) -> None:
    packed = rscc(RESOURCE, compression, block=block)
    assert unpack_rscc(packed, limit=1 << 20, magic=b"RSRC") == RESOURCE
    assert [(p.name, p.value) for p in parse_binary(packed).properties] == [
        (p.name, p.value) for p in parse_binary(rsrc("Resource", PROPERTIES)).properties
    ]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_total_that_is_a_multiple_of_the_block_has_an_empty_last_block(compression: str) -> None:
    data = b"RSRC" + bytes(range(256)) * 4
    assert unpack_rscc(rscc(data, compression, block=256), limit=1 << 20, magic=b"RSRC") == data


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_packed_file_that_ends_anywhere_is_refused(compression: str) -> None:
    packed = rscc(RESOURCE, compression)[:-4]
    for length in range(4, len(packed), 5):
        with pytest.raises(ResourceError):
            unpack_rscc(packed[:length], limit=1 << 20)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_the_limit_holds_before_anything_is_unpacked(compression: str) -> None:
    packed = rscc(RESOURCE, compression, total=(1 << 32) - 1)
    tracemalloc.start()
    try:
        refused(packed, "binary.too-large")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    with pytest.raises(ResourceError):
        parse_binary(rscc(RESOURCE, compression), limits=BinaryLimits(bytes=100))


@pytest.mark.parametrize(
    ("mode", "bomb"), [(1, zlib.compress(bytes(1 << 26), 9)), (2, zstandard.compress(bytes(1 << 26)))]
)
def test_a_block_that_unpacks_to_more_than_it_says_is_refused(mode: int, bomb: bytes) -> None:
    packed = b"RSCC" + struct.pack("<5I", mode, 4096, 100, len(bomb), 0)[:16] + bomb
    tracemalloc.start()
    try:
        refused(packed, "binary.compression")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("mode", "block", "total", "code"),
    [
        (4, 4096, 10, "binary.compression"),
        (0xFFFFFFFF, 4096, 10, "binary.compression"),
        (2, 0, 10, "binary.compression"),
        (2, 0xFFFFFFFF, 10, "binary.compression"),
        (2, 1, 500_000, "binary.truncated"),
        (2, 4096, 10, "binary.truncated"),
    ],
)
def test_headers_are_checked(mode: int, block: int, total: int, code: str) -> None:
    refused(b"RSCC" + struct.pack("<4I", mode, block, total, 1000) + b"x", code)
    refused(b"RSCC" + struct.pack("<2I", mode, block), "binary.truncated")


def test_nothing_follows_the_last_block() -> None:
    refused(rscc(RESOURCE) + b"x", "binary.structure")
    refused(rscc(RESOURCE)[:-4] + b"GDPC", "binary.structure")


# --- FastLZ


def test_much_fastlz_is_refused_before_it_costs_anything() -> None:
    refused(rscc(RESOURCE, "fastlz", total=40 << 20), "binary.too-large", limit=1 << 30)


@given(st.binary(max_size=600), st.integers(0, 400))
def test_fastlz_comes_back(data: bytes, repeat: int) -> None:
    data = data + data[-1:] * repeat
    assert unpack_fastlz(fastlz(data), len(data)) == data if data else True


@pytest.mark.parametrize(
    ("packed", "expected"),
    [
        (b"\x02abc", b"abc"),
        # a match of 3 at distance 1: runs repeat themselves
        (b"\x00a\x20\x00", b"aaaa"),
        # a long match of level 1: 7 in the length, one byte more
        (b"\x00a\xe0\x05\x00", b"a" * 15),
        # level 2: the length goes on while bytes are 255
        (b"\x20a\xe0\xff\x05\x00", b"a" * 270),
        # level 2: a far match, beyond 8191
        (b"\x20" + b"", None),
    ],
)
def test_fastlz_of_the_specification(packed: bytes, expected: bytes | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="leaves"):
            unpack_fastlz(packed, 100)
    else:
        assert unpack_fastlz(packed, len(expected)) == expected


def test_far_matches_of_level_2() -> None:
    noise = random.Random(5).randbytes(10_000)
    literals = b"".join(
        bytes([len(piece) - 1]) + piece for piece in (noise[at : at + 32] for at in range(0, 10_000, 32))
    )
    literals = bytes([literals[0] | 0x20]) + literals[1:]
    distance = 9_999 - 8191
    packed = literals + bytes([(1 << 5) | 31, 255, distance >> 8, distance & 255])
    assert unpack_fastlz(packed, 10_003) == noise + noise[:3]


@pytest.mark.parametrize(
    "packed",
    [b"", b"\x40abc", b"\xe0", b"\x1f", b"\x00a\x20", b"\x00a\x20\x05", b"\x00a\xe0\xff", b"\x20a\x3f\xff\x00"],
)
def test_damaged_fastlz_is_an_error(packed: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack_fastlz(packed, 1000)


def test_fastlz_never_makes_more_than_wanted() -> None:
    bomb = b"\x20a" + b"\xe0" + b"\xff" * 10_000 + b"\x05\x00"
    with pytest.raises(ValueError, match="more than it says"):
        unpack_fastlz(bomb, 4096)


@given(st.binary(max_size=300))
def test_any_bytes_are_fastlz_or_an_error(data: bytes) -> None:
    try:
        assert len(unpack_fastlz(data, 4096)) <= 4096
    except ValueError:
        pass
