"""Read and write the GLB container (glTF 2.0 specification, section 4 "GLB File Format Specification").

The reader is strict and looks at twelve bytes plus eight per chunk: nothing is parsed, nothing is copied. What it
refuses has a code of the table in ``findings.py``, so that a job can hand it on as a finding.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MAGIC = b"glTF"
JSON_CHUNK = 0x4E4F534A
BIN_CHUNK = 0x004E4942
MAX_CHUNKS = 1024
"""More than the two that the specification names are legal and ignored; a file of nothing but chunk headers is not."""

Buffer = bytes | bytearray | memoryview


class GlbError(ValueError):
    """The container is damaged. `code` is a finding's code; `message` and `remedy` are for people."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(f"{message} ({remedy})")
        self.code = code
        self.message = message
        self.remedy = remedy

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.message, self.remedy)


_REEXPORT = "export the model again as binary glTF (.glb)"
_COMPLETE = "the file is not complete: upload it again"


@dataclass(frozen=True, slots=True)
class Container:
    """A GLB taken apart: the parsed JSON, its text, and the binary chunk without a copy."""

    document: dict[str, Any]
    json_bytes: memoryview
    bin: memoryview | None


def split_glb(data: Buffer) -> tuple[memoryview, memoryview | None]:
    """The JSON chunk and the BIN chunk (None where there is none) of a GLB, as views into `data`.

    Raises `GlbError` on an empty file, a wrong magic or version, a length that does not match, a chunk that leaves the
    file, is unaligned, missing, doubled or out of order. Chunks of unknown type after the first two are ignored, as the
    specification asks.
    """
    view = memoryview(data).cast("B")
    if not view:
        raise GlbError("glb.empty", "the file is empty", "upload it again")
    if bytes(view[:4]) != MAGIC:
        raise GlbError("glb.bad-magic", f"the file begins with {bytes(view[:4])!r}, not with b'glTF'", _REEXPORT)
    if len(view) < 20:
        raise GlbError("glb.truncated", f"the file ends after {len(view)} bytes, inside its header", _COMPLETE)
    version, length = struct.unpack_from("<II", view, 4)
    if version != 2:
        raise GlbError("glb.bad-version", f"container version is {version}, only 2 is known", _REEXPORT)
    if length > len(view):
        raise GlbError("glb.truncated", f"the header says {length} bytes, the file has {len(view)}", _COMPLETE)
    if length < len(view):
        raise GlbError(
            "glb.length-mismatch",
            f"the header says {length} bytes, {len(view) - length} more follow",
            "remove what was appended, or export the model again",
        )
    return _chunks(view)


def _chunks(view: memoryview) -> tuple[memoryview, memoryview | None]:
    json_chunk: memoryview | None = None
    bin_chunk: memoryview | None = None
    at = 12
    for number in range(MAX_CHUNKS):
        if at == len(view):
            break
        if at + 8 > len(view):
            raise GlbError("glb.truncated", f"the file ends inside the header of chunk {number}", _COMPLETE)
        size, kind = struct.unpack_from("<II", view, at)
        if size % 4:
            raise GlbError("glb.chunk-unaligned", f"chunk {number} has {size} bytes, not a multiple of 4", _REEXPORT)
        if at + 8 + size > len(view):
            raise GlbError("glb.truncated", f"chunk {number} has {size} bytes and leaves the file", _COMPLETE)
        body = view[at + 8 : at + 8 + size]
        if (number == 0) != (kind == JSON_CHUNK):
            raise GlbError("glb.bad-chunk", "the JSON chunk has to be the first and the only one", _REEXPORT)
        if kind == JSON_CHUNK:
            json_chunk = body
        elif kind == BIN_CHUNK:
            if number != 1:
                raise GlbError("glb.bad-chunk", "the BIN chunk has to be the second and the only one", _REEXPORT)
            bin_chunk = body
        at += 8 + size
    else:
        raise GlbError("glb.bad-chunk", f"there are more than {MAX_CHUNKS} chunks", _REEXPORT)
    if not json_chunk:
        raise GlbError("glb.bad-chunk", "the JSON chunk is empty", _REEXPORT)
    return json_chunk, bin_chunk


def read_glb(data: Buffer) -> Container:
    """Split a GLB that has passed the pre-check and parse its JSON. Raises `GlbError`, also on JSON that is none."""
    json_bytes, bin_ = split_glb(data)
    try:
        document = json.loads(bytes(json_bytes))
    except (ValueError, RecursionError) as error:
        raise GlbError("gltf.json-invalid", f"the JSON chunk is no JSON: {error}", _REEXPORT) from error
    if not isinstance(document, dict):
        raise GlbError("gltf.json-invalid", "the JSON chunk is no object", _REEXPORT)
    return Container(document, json_bytes, bin_)


def json_chunk_bytes(document: dict[str, Any]) -> bytes:
    """A document as compact UTF-8 JSON with its keys in their order. Raises ValueError on NaN and infinities."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def join_glb(document: dict[str, Any], bin: Buffer | Sequence[Buffer] | None) -> bytes:
    """A GLB of a document and its binary chunk (None or empty: without one): the same input gives the same bytes.

    The chunk may come in pieces, which are joined without a copy of their own. JSON is padded with spaces, BIN with
    zeros, both to 4 bytes. The caller keeps ``buffers[0].byteLength`` true; it may be up to 3 bytes smaller than the
    padded chunk. Raises ValueError where the result passes the 4 GB of the format.
    """
    text = json_chunk_bytes(document)
    text += b" " * (-len(text) % 4)
    pieces = [bin] if isinstance(bin, (bytes, bytearray, memoryview)) else list(bin or ())
    size = sum(memoryview(piece).nbytes for piece in pieces)
    chunks: list[Buffer] = [struct.pack("<II", len(text), JSON_CHUNK), text]
    if size:
        chunks += [struct.pack("<II", size + -size % 4, BIN_CHUNK), *pieces, b"\0" * (-size % 4)]
    total = 12 + sum(memoryview(chunk).nbytes for chunk in chunks)
    if total >= 1 << 32:
        raise ValueError(f"a GLB can't hold {total} bytes: the format ends at 4 GB")
    return b"".join([MAGIC, struct.pack("<II", 2, total), *chunks])
