"""Bring everything that a document refers to into one binary chunk: relative files and ``data:`` URIs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloudbaker.compute.gltf.findings import Findings, quote
from cloudbaker.compute.gltf.glb import Buffer, join_glb
from cloudbaker.compute.gltf.layout import is_fallback, meshopt_extension
from cloudbaker.compute.gltf.limits import ContentLimits
from cloudbaker.compute.gltf.uris import UriRefused, decode_data, is_data, relative_path
from cloudbaker.compute.textures.headers import image_mime

Document = dict[str, Any]
Files = Mapping[str, memoryview]


def file_references(document: Document, findings: Findings) -> list[str]:
    """Relative paths of the files that a document of the right shape needs, each once, in order of appearance."""
    found: dict[str, None] = {}
    for name in ("buffers", "images"):
        for at, item in enumerate(document.get(name, ())):
            if "uri" not in item or is_data(item["uri"]):
                continue
            try:
                found[relative_path(item["uri"])] = None
            except UriRefused as error:
                findings.add(error.code, f"/{name}/{at}/uri", error.message)
    return list(found)


def embed(
    document: Document, bin: memoryview | None, files: Files | None, limits: ContentLimits, findings: Findings
) -> bytes | None:
    """A GLB of a document of the right shape, which is changed in place.

    `bin` is the binary chunk it came with, if any; `files` what was handed in beside it (None: it may not refer to
    files). Returns None where a finding is an error.
    """
    chunk = _Chunk(limits, findings)
    starts = _buffers(document, bin, files, chunk, findings)
    views = _images(document, files, chunk, findings)
    if findings.failed:
        return None
    _renumber(document, starts, chunk.size, findings)
    if views:
        document.setdefault("bufferViews", []).extend(views)
    return join_glb(document, chunk.pieces)


class _Chunk:
    """A binary chunk that grows; nothing is copied before the end."""

    def __init__(self, limits: ContentLimits, findings: Findings) -> None:
        self.pieces: list[Buffer] = []
        self.size = 0
        self._limit = limits.source_bytes
        self._findings = findings

    def add(self, data: Buffer) -> int:
        """Append, aligned to 8 bytes (the most that any extension asks for); where it starts."""
        self.pieces += [b"\0" * (-self.size % 8), data]
        start = self.size + -self.size % 8
        self.size = start + len(data)
        if self.size > self._limit:
            self._findings.add("intake.too-large", "", f"the model passes the limit of {self._limit:,} bytes")
        return start


def _load(uri: str, place: str, files: Files | None, findings: Findings) -> Buffer | None:
    try:
        if is_data(uri):
            return decode_data(uri)
        path = relative_path(uri)
    except UriRefused as error:
        findings.add(error.code, place, error.message)
        return None
    if files is None:
        findings.add("gltf.uri-in-glb", place, f"the GLB refers to the file {quote(path)}")
    elif path not in files:
        findings.add("intake.missing-file", place, f"the file {quote(path)} was not handed in")
    elif not files[path]:
        findings.add("intake.empty", place, f"the file {quote(path)} is empty")
    else:
        return files[path]
    return None


def _buffers(
    document: Document, bin: memoryview | None, files: Files | None, chunk: _Chunk, findings: Findings
) -> dict[int, int]:
    """Put all buffers into the chunk; where each begins. Fallback buffers have no data and are not among them."""
    starts: dict[int, int] = {}
    for at, buffer in enumerate(document.get("buffers", ())):
        if is_fallback(buffer):
            continue
        place = f"/buffers/{at}"
        data: Buffer | None = bin if at == 0 else None
        if "uri" in buffer:
            data = _load(buffer["uri"], f"{place}/uri", files, findings)
            if data is None:
                continue
        if data is None or len(data) < buffer["byteLength"]:
            has = 0 if data is None else len(data)
            findings.add(
                "gltf.buffer-too-short", place, f"the buffer says {buffer['byteLength']:,} bytes, there are {has:,}"
            )
            continue
        starts[at] = chunk.add(memoryview(data)[: buffer["byteLength"]])
    return starts


def _images(document: Document, files: Files | None, chunk: _Chunk, findings: Findings) -> list[Document]:
    """Put all images that have a URI into the chunk; the buffer views of them that are to be added."""
    first = len(document.get("bufferViews", ()))
    views: list[Document] = []
    loaded: dict[str, tuple[int, str | None]] = {}
    for at, image in enumerate(document.get("images", ())):
        if "uri" not in image:
            continue
        uri = image.pop("uri")
        if uri not in loaded:
            data = _load(uri, f"/images/{at}/uri", files, findings)
            if data is None:
                continue
            loaded[uri] = first + len(views), image_mime(data)
            views.append({"buffer": 0, "byteOffset": chunk.add(data), "byteLength": len(data)})
        image["bufferView"], mime = loaded[uri]
        if mime is None:
            findings.add("image.invalid", f"/images/{at}", "it is neither PNG, JPEG, WebP, KTX2 nor AVIF")
        else:
            image.setdefault("mimeType", mime)  # a declared one stays: the pre-check compares it with the bytes
    return views


def _renumber(document: Document, starts: dict[int, int], size: int, findings: Findings) -> None:
    """One buffer for the chunk, then the fallback buffers as they were."""
    old: list[Document] = document.get("buffers", [])
    kept = [at for at in range(len(old)) if at not in starts]
    number = dict.fromkeys(starts, 0) | {at: new for new, at in enumerate(kept, 1 if size else 0)}
    if size:
        own = {key: value for key, value in old[next(iter(starts))].items() if key != "uri"} if starts else {}
        document["buffers"] = [{**own, "byteLength": size}, *(old[at] for at in kept)]
    for at in list(starts)[1:]:
        lost = sorted({"name", "extras", "extensions"} & set(old[at]))
        if lost:
            findings.add("intake.buffers-merged", f"/buffers/{at}", f"its {' and '.join(lost)} can't be kept")
    for view in document.get("bufferViews", ()):
        for part in (view, meshopt_extension(view)):
            if part is not None:
                start = starts.get(part["buffer"], 0)
                if start:
                    part["byteOffset"] = part.get("byteOffset", 0) + start
                part["buffer"] = number[part["buffer"]]
