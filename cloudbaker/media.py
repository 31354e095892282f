"""The one table of file types: extension, Content-Type, whether to pre-compress, and how the bytes begin.

What is served, sniffed or packed asks here, so that a type is never spelled in two places.

    >>> media_type("helmet.glb")
    'model/gltf-binary'
    >>> sniff(b"glTF\\x02\\x00\\x00\\x00")
    'glb'
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType

from cloudbaker.errors import UsageError

SNIFF_BYTES = 64
"""How many leading bytes `sniff` wants; fewer are fine, more are ignored."""


@dataclass(frozen=True, slots=True)
class MediaType:
    """How files of one extension are served and recognised."""

    content_type: str
    """The ``Content-Type`` header, IANA's name where there is one."""
    compress: bool = False
    """Store gzip/brotli variants beside it. False for what is compressed inside: a second pass costs CPU on every
    request and saves nothing (GLB with Draco or meshopt, KTX2, MP4, MP3, WebP …)."""
    magic: bytes | None = None
    """Pattern (bytes regex, DOTALL) the first bytes must match; None where the type has no signature (text)."""


TABLE: MappingProxyType[str, MediaType] = MappingProxyType(
    {
        # images
        "png": MediaType("image/png", magic=rb"\x89PNG\r\n\x1a\n"),
        "jpg": MediaType("image/jpeg", magic=rb"\xff\xd8\xff"),
        "jpeg": MediaType("image/jpeg", magic=rb"\xff\xd8\xff"),
        "webp": MediaType("image/webp", magic=rb"RIFF....WEBP"),
        "ktx2": MediaType("image/ktx2", magic=rb"\xabKTX 20\xbb\r\n\x1a\n"),
        "avif": MediaType("image/avif", magic=rb"....ftypavi[fs]"),
        "hdr": MediaType("image/vnd.radiance", magic=rb"#\?(?:RADIANCE|RGBE)"),
        "exr": MediaType("image/x-exr", magic=rb"\x76\x2f\x31\x01"),
        # models
        "glb": MediaType("model/gltf-binary", magic=rb"glTF"),
        "gltf": MediaType("model/gltf+json", compress=True),
        "bin": MediaType("application/gltf-buffer"),
        # sound and video
        "mp3": MediaType("audio/mpeg", magic=rb"ID3|\xff[\xe2-\xe7\xf2-\xff]"),
        "wav": MediaType("audio/wav", magic=rb"RIFF....WAVE"),
        "ogg": MediaType("audio/ogg", magic=rb"OggS"),
        "flac": MediaType("audio/flac", magic=rb"fLaC"),
        "mp4": MediaType("video/mp4", magic=rb"....ftyp(?!avi[fs])"),
        "webm": MediaType("video/webm", magic=rb"\x1a\x45\xdf\xa3"),
        # packages
        "zip": MediaType("application/zip", magic=rb"PK(?:\x03\x04|\x05\x06)"),
        "pck": MediaType("application/octet-stream", magic=rb"GDPC"),
        # text
        "json": MediaType("application/json", compress=True),
        # in-toto attestation spec v1, envelope layer: an envelope in a file of its own
        "dsse.json": MediaType("application/vnd.in-toto.provenance+dsse", compress=True),
        "glsl": MediaType("text/plain; charset=utf-8", compress=True),
        "txt": MediaType("text/plain; charset=utf-8", compress=True),
        "html": MediaType("text/html; charset=utf-8", compress=True),
    }
)


def extension(name: str) -> str:
    """The longest extension of `name` that the table knows, lower-case; else the last one; else empty.

    ``"a/Model.GLB"`` → ``"glb"``, ``"provenance.dsse.json"`` → ``"dsse.json"``, ``"README"`` → ``""``.
    """
    parts = PurePosixPath(name.lower()).name.split(".")[1:]
    for start in range(len(parts)):
        if (candidate := ".".join(parts[start:])) in TABLE:
            return candidate
    return parts[-1] if parts else ""


def kind(name: str) -> MediaType:
    """How to serve a file of this name. Raises `UsageError` for an extension that is not in the table."""
    try:
        return TABLE[extension(name)]
    except KeyError:
        raise UsageError(
            f"no media type is known for {name!r}: name it with one of the extensions {', '.join(sorted(TABLE))}",
            name=name,
        ) from None


def media_type(name: str) -> str:
    """The ``Content-Type`` of a file of this name; see `kind`."""
    return kind(name).content_type


def sniff(head: bytes | bytearray | memoryview) -> str | None:
    """The extension whose signature these first bytes carry, or None. A file's name is never asked.

    Text types have no signature and are never returned; ``jpg`` stands for both of its spellings.
    """
    start = bytes(head[:SNIFF_BYTES])
    for ext, found in TABLE.items():
        if found.magic is not None and re.match(found.magic, start, re.DOTALL):
            return ext
    return None
