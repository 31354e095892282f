from __future__ import annotations

import io
import struct
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cloudbaker.errors import UsageError
from cloudbaker.media import SNIFF_BYTES, TABLE, extension, kind, media_type, sniff


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", "image/png"),
        ("a.jpg", "image/jpeg"),
        ("a.JPEG", "image/jpeg"),
        ("a.webp", "image/webp"),
        ("a.ktx2", "image/ktx2"),
        ("a.mp4", "video/mp4"),
        ("a.webm", "video/webm"),
        ("a.mp3", "audio/mpeg"),
        ("a.wav", "audio/wav"),
        ("a.ogg", "audio/ogg"),
        ("a.zip", "application/zip"),
        ("a.html", "text/html; charset=utf-8"),
        ("a.glb", "model/gltf-binary"),
        ("a.gltf", "model/gltf+json"),
        ("a.hdr", "image/vnd.radiance"),
        ("a.exr", "image/x-exr"),
        ("a.txt", "text/plain; charset=utf-8"),
        ("b/c.d/model.v2.glb", "model/gltf-binary"),
        ("provenance.dsse.json", "application/vnd.in-toto.provenance+dsse"),
        ("manifest.json", "application/json"),
    ],
)
def test_content_types(name: str, expected: str) -> None:
    assert media_type(name) == expected


def test_only_what_is_not_compressed_inside_is_compressed() -> None:
    assert {ext for ext, found in TABLE.items() if found.compress} == {
        "gltf", "json", "dsse.json", "glsl", "txt", "html",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["a", "a.exe", ".glb/a", "", "a.", "a.svg"])
def test_an_unknown_extension_names_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match="glb, glsl, gltf"):
        kind(name)


def test_extensions() -> None:
    assert [extension(name) for name in ("A.GLB", "x.dsse.json", "x.tar.gz", "x", ".hidden", "a.b/c")] == [
        "glb", "dsse.json", "gz", "", "hidden", "",
    ]  # fmt: skip


def encoded(form: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, form)
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", "b")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (encoded("PNG"), "png"),
        (encoded("JPEG"), "jpg"),
        (encoded("WEBP"), "webp"),
        (zipped(), "zip"),
        (b"PK\x05\x06" + bytes(18), "zip"),
        (struct.pack("<4sII", b"glTF", 2, 12), "glb"),
        (b"\xabKTX 20\xbb\r\n\x1a\n", "ktx2"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "wav"),
        (b"OggS\0\x02", "ogg"),
        (b"ID3\x04", "mp3"),
        (b"\xff\xfb\x90\x00", "mp3"),
        (b"\0\0\0\x20ftypisom", "mp4"),
        (b"\0\0\0\x20ftypavif", "avif"),
        (b"\x1a\x45\xdf\xa3", "webm"),
        (b"#?RADIANCE\n", "hdr"),
        (b"\x76\x2f\x31\x01", "exr"),
        (b"GDPC\x02\0\0\0", "pck"),
        (b'{"asset":{"version":"2.0"}}', None),
        (b"<html>", None),
        (b"\n\0\0\0RIFF....WEBP", None),
        (b"", None),
        (b"\x89PN", None),
    ],
)
def test_types_are_told_by_the_bytes(head: bytes, expected: str | None) -> None:
    assert sniff(head) == expected
    assert sniff(memoryview(head)) == expected


@given(st.binary(max_size=SNIFF_BYTES * 2))
def test_any_bytes_give_a_known_type_or_none(head: bytes) -> None:
    found = sniff(head)
    assert found is None or found in TABLE
    assert found == sniff(head[:SNIFF_BYTES])
