"""The container: strict reading, deterministic writing."""

from __future__ import annotations

import pickle
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudbaker.compute.gltf.glb import GlbError, join_glb, read_glb, split_glb
from cloudbaker.testing import models

JSON, BIN = 0x4E4F534A, 0x004E4942


def glb(*chunks: tuple[int, bytes], version: int = 2, length: int | None = None) -> bytes:
    body = b"".join(struct.pack("<II", len(data), kind) + data for kind, data in chunks)
    return b"glTF" + struct.pack("<II", version, 12 + len(body) if length is None else length) + body


GOOD = (JSON, b'{"asset":{"version":"2.0"}} ')

BAD = {
    "empty": (b"", "glb.empty"),
    "magic": (b"\x89PNG\r\n\x1a\n" + bytes(40), "glb.bad-magic"),
    "a json": (b'{"asset":{"version":"2.0"}}', "glb.bad-magic"),
    "header only": (b"glTF\x02\0\0\0", "glb.truncated"),
    "version": (glb(GOOD, version=1), "glb.bad-version"),
    "too short": (glb(GOOD)[:-4], "glb.truncated"),
    "too long": (glb(GOOD) + b"\0\0\0\0", "glb.length-mismatch"),
    "length overflow": (glb(GOOD, length=0xFFFFFFFF), "glb.truncated"),
    "chunk leaves": (glb((JSON, b"{}  "))[:12] + struct.pack("<II", 0xFFFFFFF0, JSON) + b"{}  ", "glb.truncated"),
    "half a chunk header": (glb(GOOD, (BIN, b""))[:-4] + b"", "glb.truncated"),
    "unaligned": (glb((JSON, b"{} ")) + b"", "glb.chunk-unaligned"),
    "no json": (glb((BIN, bytes(8))), "glb.bad-chunk"),
    "empty json": (glb((JSON, b""), (BIN, bytes(4))), "glb.bad-chunk"),
    "two jsons": (glb(GOOD, GOOD), "glb.bad-chunk"),
    "two bins": (glb(GOOD, (BIN, bytes(4)), (BIN, bytes(4))), "glb.bad-chunk"),
    "late bin": (glb(GOOD, (7, bytes(4)), (BIN, bytes(4))), "glb.bad-chunk"),
    "chunk bomb": (glb(GOOD, *[(7, b"")] * 5000), "glb.bad-chunk"),
}


@pytest.mark.parametrize(("data", "code"), BAD.values(), ids=BAD)
def test_a_damaged_container_is_refused_with_a_remedy(data: bytes, code: str) -> None:
    with pytest.raises(GlbError) as raised:
        split_glb(data)
    assert raised.value.code == code
    assert raised.value.message
    assert raised.value.remedy
    assert pickle.loads(pickle.dumps(raised.value)).code == code


def test_unknown_chunks_at_the_end_are_ignored() -> None:
    text, binary = split_glb(glb(GOOD, (BIN, b"1234"), (7, bytes(8))))
    assert bytes(text) == GOOD[1]
    assert binary is not None
    assert bytes(binary) == b"1234"


def test_nothing_is_copied() -> None:
    data = bytearray(glb(GOOD, (BIN, b"1234")))
    _, binary = split_glb(data)
    assert binary is not None
    data[-1] = 0x35
    assert bytes(binary) == b"1235"


@pytest.mark.parametrize("model", sorted(models.VALID))
def test_what_is_written_is_read_again(model: str) -> None:
    before = read_glb(models.VALID[model]())
    once = join_glb(before.document, before.bin)
    after = read_glb(once)
    assert after.document == before.document
    assert list(after.document) == list(before.document)
    assert after.bin == before.bin
    assert join_glb(after.document, after.bin) == once


@given(
    st.dictionaries(
        st.text(max_size=8),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=10,
        ),
        max_size=5,
    ),
    st.lists(st.binary(max_size=64), max_size=4),
)
def test_any_document_survives(document: dict[str, object], pieces: list[bytes]) -> None:
    data = join_glb(document, pieces)
    whole = b"".join(pieces)
    read = read_glb(data)
    assert read.document == document
    assert len(data) % 4 == 0
    assert data == join_glb(document, whole)
    assert bytes(read.bin or b"") == whole + b"\0" * (-len(whole) % 4)


def test_nan_is_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        join_glb({"x": float("nan")}, None)
