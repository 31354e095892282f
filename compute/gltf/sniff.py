"""What a file is, by its bytes. Names are what strangers write on things."""

from __future__ import annotations

from cloudbaker.compute.gltf.glb import MAGIC, Buffer
from cloudbaker.compute.textures.headers import image_mime

HEAD = 64
"""Bytes that `sniff` looks at."""
_MAGICS = (
    (MAGIC, "glb"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"PK\x07\x08", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"%PDF-", "pdf"),
    (b"Kaydara FBX Binary", "fbx"),
    (b"BLENDER", "blend"),
    (b"PXR-USDC", "usdc"),
    (b"#usda", "usda"),
    (b"ply\n", "ply"),
    (b"ply\r", "ply"),
    (b"OggS", "ogg"),
    (b"GDPC", "pck"),
    (b"\x7fELF", "program"),
    (b"MZ", "program"),
    (b"#!", "script"),
    (b"<", "markup"),
)
CALLED = {
    "zip": "a ZIP archive",
    "gzip": "a gzip archive",
    "7z": "a 7-Zip archive",
    "rar": "a RAR archive",
    "xz": "an xz archive",
    "bzip2": "a bzip2 archive",
    "zstd": "a Zstandard archive",
    "fbx": "an FBX model",
    "blend": "a Blender file",
    "usdc": "a USD model",
    "usda": "a USD model",
    "ply": "a PLY model",
    "pck": "a Godot package",
    "program": "a program",
    "script": "a script",
    "markup": "an HTML or XML text",
    "unknown": "of an unknown type",
}
ARCHIVES = frozenset({"zip", "gzip", "7z", "rar", "xz", "bzip2", "zstd"})
"""Kinds that hold other files."""


def sniff(head: Buffer) -> str:
    """What a file is, by its first `HEAD` bytes: ``glb``, ``gltf`` (JSON: whether glTF, parsing tells), ``zip``,
    ``empty``, the name of something else (``png``, ``fbx``, ``gzip`` …) or ``unknown``.
    """
    start = bytes(memoryview(head)[:HEAD])
    if not start:
        return "empty"
    for magic, kind in _MAGICS:
        if start.startswith(magic):
            return kind
    mime = image_mime(start)
    if mime is not None:
        return mime.removeprefix("image/")
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        return "gltf"
    return "unknown"
