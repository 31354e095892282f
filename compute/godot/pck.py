"""Read and write Godot's packs (``.pck``), formats 1 (Godot 3), 2 (4.0 to 4.4), 3 (4.5, 4.6) and 4 (4.7).

The engine trusts a pack: it takes paths as they come, never checks an MD5 on load, follows flags that delete or rewrite
files of the game even where it was asked not to replace any, and finds packs appended to pictures. The reader here
refuses all of that, and everything else that two readers could see differently. It touches the header and the directory
only, in constant memory; data are read when they are asked for, in pieces.

All numbers are little-endian. Layout (engine source, ``core/io/file_access_pack.cpp``):

======  ======================================================================================================
header  ``GDPC``, u32 format, u32 major, minor, patch; from format 2 u32 flags, u64 file base; from format 3 u64
        offset of the directory; 16 × u32 zero. Formats 1 and 2: the directory follows
entry   u32 length, path padded with NUL to 4, u64 offset (format 1: absolute), u64 size, MD5; from 2 u32 flags
======  ======================================================================================================
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from cloudbaker.compute.gltf.findings import quote
from cloudbaker.compute.godot.findings import BadContent, Reporter
from cloudbaker.compute.godot.paths import MAX_PATH_BYTES, RES, pack_path_problem, path_key
from cloudbaker.compute.job import Inputs, JobResult, Params
from cloudbaker.model import Finding, Severity, to_json

MAGIC = b"GDPC"
FORMATS = (1, 2, 3, 4)
CHUNK = 1 << 20
"""Bytes that are hashed or copied at once."""
SLACK = 64
"""Gaps of fewer bytes are padding, whatever they hold; so many NULs may follow the end. Engines align to 16 or 32."""

_PACK_ENCRYPTED, _PACK_RELATIVE, _PACK_SPARSE = 1, 2, 4
_FILE_ENCRYPTED, _FILE_REMOVAL, _FILE_DELTA = 1, 2, 4
_NO_MD5 = bytes(16)
_RESERVED = bytes(64)


class PckError(BadContent):
    """A pack is damaged, or says what no pack of ours may say."""


@dataclass(frozen=True, slots=True)
class PckLimits:
    """What a pack may hold before it is refused unread."""

    files: int = 20_000
    pack_bytes: int = 4 << 30

    @classmethod
    def of(cls, params: Params) -> PckLimits:
        """From a job's parameters: ``{"limits": {"files": …, "pack_bytes": …}}``, both optional."""
        given = params.get("limits") or {}
        return replace(cls(), **{name: int(given[name]) for name in ("files", "pack_bytes") if name in given})


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a pack."""

    path: str
    """With ``res://``, also where the pack leaves it out."""
    offset: int
    """Absolute, in bytes."""
    size: int
    md5: bytes
    flags: int = 0
    """Zero in everything that a strict reader lets pass."""


class _Source(Protocol):
    size: int

    def at(self, offset: int, count: int) -> bytes | memoryview: ...


class _Memory:
    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.size = len(view)

    def at(self, offset: int, count: int) -> memoryview:
        return self.view[offset : offset + count]


class _File:
    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = file.seek(0, os.SEEK_END)

    def at(self, offset: int, count: int) -> bytes:
        self.file.seek(offset)
        return self.file.read(count)


class Pck:
    """A pack that has been read. Close it (or use ``with``) if it was opened by its path."""

    def __init__(
        self,
        source: _Source,
        version: int,
        engine: tuple[int, int, int],
        entries: tuple[Entry, ...],
        owned: BinaryIO | None,
    ) -> None:
        self.version = version
        """The format, 1 to 4."""
        self.engine = engine
        """Major, minor and patch of the engine that the pack says it is from."""
        self.entries = entries
        """In the order of the directory."""
        self.size = source.size
        self._source = source
        self._owned = owned

    def __enter__(self) -> Pck:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, if reading opened one."""
        if self._owned is not None:
            self._owned.close()

    def chunks(self, entry: Entry) -> Iterator[bytes | memoryview]:
        """The data of an entry in pieces of at most `CHUNK` bytes. Raises `PckError` if the pack ends before."""
        at, end = entry.offset, entry.offset + entry.size
        while at < end:
            piece = self._source.at(at, min(CHUNK, end - at))
            if not piece:
                raise PckError("pck.truncated", "the pack became shorter while it was read", place=entry.path)
            yield piece
            at += len(piece)

    def read(self, entry: Entry) -> bytes:
        """All data of an entry."""
        return b"".join(self.chunks(entry))

    def view(self, entry: Entry) -> memoryview:
        """All data of an entry, without a copy where the pack is in memory."""
        if isinstance(self._source, _Memory):
            return self._source.at(entry.offset, entry.size)
        return memoryview(self.read(entry))

    def open(self, entry: Entry) -> BinaryIO:
        """The data of an entry as a seekable file."""
        return io.BufferedReader(_EntryFile(self._source, entry))

    def verify(self, findings: list[Finding] | None = None) -> None:
        """Check every entry's MD5 (600 MB/s). Raises `PckError`, or collects into `findings`."""
        report = Reporter(PckError, findings)
        for entry in self.entries:
            if entry.md5 == _NO_MD5:
                # Godot 3's PCKPacker writes none; an MD5 protects against accidents only, the signature does the rest.
                report("pck.md5-missing", "it has no MD5", entry.path)
                continue
            md5 = hashlib.md5(usedforsecurity=False)
            for piece in self.chunks(entry):
                md5.update(piece)
            if md5.digest() != entry.md5:
                report("pck.md5", f"its MD5 is {md5.hexdigest()}, the directory says {entry.md5.hex()}", entry.path)


class _EntryFile(io.RawIOBase):
    """A window onto an entry's data."""

    def __init__(self, source: _Source, entry: Entry) -> None:
        self._source, self._entry, self._at = source, entry, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = (0, self._at, self._entry.size)[whence]
        if start + offset < 0:
            raise ValueError(f"negative seek position {start + offset}")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._entry.size - self._at))
        piece = self._source.at(self._entry.offset + self._at, count)
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def read_pck(
    source: bytes | bytearray | memoryview | Path | BinaryIO,
    *,
    limits: PckLimits | None = None,
    verify: bool = True,
    findings: list[Finding] | None = None,
) -> Pck:
    """Read a pack: header, directory and (with `verify`) the MD5 of every file.

    Raises `PckError` on the first thing that is not as it must be. With a list for `findings` nothing is raised for
    what the content does: all that is wrong is appended to it, and the result holds the entries whose data are there.
    A path is opened, and closed with the result.
    """
    owned = source.open("rb") if isinstance(source, Path) else None
    try:
        if owned is not None:
            opened: _Source = _File(owned)
        elif isinstance(source, (bytes, bytearray, memoryview)):
            opened = _Memory(memoryview(source).cast("B"))
        else:
            assert not isinstance(source, Path)
            opened = _File(source)
        report = Reporter(PckError, findings)
        try:
            reader = _Reader(opened, limits or PckLimits(), report)
            reader.read()
        except PckError as error:
            if findings is None:
                raise
            report(error.code, error.message, error.place, remedy=error.remedy)
        pck = Pck(opened, reader.version, reader.engine, tuple(reader.entries), owned)
        if verify:
            pck.verify(findings)
        return pck
    except BaseException:
        if owned is not None:
            owned.close()
        raise


class _Reader:
    """One pass over header and directory. `PckError` where nothing more can be read, `report` for everything else."""

    def __init__(self, source: _Source, limits: PckLimits, report: Reporter) -> None:
        self.source, self.limits, self.report = source, limits, report
        self.version, self.engine, self.entries = 0, (0, 0, 0), list[Entry]()
        self._base = 0
        self._spans: list[tuple[int, int, str]] = []

    def read(self) -> None:
        start = self._header()
        if self.source.size > self.limits.pack_bytes:
            raise PckError(
                "pck.too-large", f"the pack has {self.source.size:,} bytes, the limit is {self.limits.pack_bytes:,}"
            )
        end = self._directory(start)
        self._spans.append((start, end, "the directory"))
        self._layout()

    def _take(self, offset: int, layout: str, what: str) -> tuple[Any, ...]:
        count = struct.calcsize(layout)
        data = self.source.at(offset, count) if offset + count <= self.source.size else b""
        if len(data) < count:
            raise PckError("pck.truncated", f"the pack ends inside {what}", place=f"offset {offset:#x}")
        return struct.unpack(layout, data)

    def _header(self) -> int:
        """Check the header; the offset of the directory."""
        size = self.source.size
        trailer = size >= 16 and bytes(self.source.at(size - 4, 4)) == MAGIC
        if bytes(self.source.at(0, 4)) != MAGIC:
            if trailer:
                raise PckError("pck.appended", "the file is something else with a pack appended to it")
            raise PckError("pck.bad-magic", f"the file begins with {quote(bytes(self.source.at(0, 4)))}")
        if trailer:
            self.report("pck.appended", "the file ends like an executable with a pack in it")
        self.version, *engine = self._take(4, "<4I", "its header")
        self.engine = (engine[0], engine[1], engine[2])
        if self.version not in FORMATS:
            raise PckError("pck.bad-version", f"the format is {self.version}, known are 1 to 4")
        if self.engine[0] > 99 or self.engine[1] > 999 or self.engine[2] > 9999:
            self.report("pck.bad-version", f"it says it is of Godot {'.'.join(map(str, self.engine))}")
        at, directory, flags = 20, None, 0
        if self.version >= 2:
            flags, self._base = self._take(at, "<IQ", "its header")
            at += 12
        if self.version >= 3:
            (directory,) = self._take(at, "<Q", "its header")
            at += 8
        if flags & _PACK_SPARSE:
            raise PckError("pck.sparse", "the pack is a sparse bundle: its files are not in it")
        if flags & _PACK_ENCRYPTED:
            raise PckError("pck.encrypted", "the directory is encrypted")
        if flags & ~_PACK_RELATIVE:
            self.report("pck.bad-flags", f"the pack has the flags {flags:#x}")
        if bytes(self.source.at(at, 64)) != _RESERVED:
            self._take(at, "<64s", "its header")
            self.report("pck.bad-flags", "reserved fields of the header are not zero", f"offset {at:#x}")
        at += 64
        self._spans.append((0, at, "the header"))
        if directory is None:
            return at
        if not at <= directory <= size - 4:
            raise PckError("pck.directory", f"the directory is at {directory:#x}, the pack has {size:,} bytes")
        return int(directory)

    def _directory(self, at: int) -> int:
        """Read all entries; the offset after the last one."""
        (count,) = self._take(at, "<I", "its directory")
        at += 4
        least = 4 + 32 + (4 if self.version >= 2 else 0)
        if count > self.limits.files:
            # Before anything is allocated: 2³² entries are four bytes to declare.
            raise PckError("pck.too-many-files", f"the pack says {count:,} files, the limit is {self.limits.files:,}")
        if count * least > self.source.size - at:
            raise PckError("pck.truncated", f"{count:,} entries do not fit into the rest of the pack")
        tail = "<QQ16sI" if self.version >= 2 else "<QQ16s"
        keys: dict[str, str] = {}
        for number in range(count):
            what = f"entry {number} of its directory"
            (length,) = self._take(at, "<I", what)
            if length > MAX_PATH_BYTES + len(RES) + 4:
                raise PckError("pck.path-too-long", f"the path of entry {number} has {length:,} bytes")
            (raw,) = self._take(at + 4, f"<{length}s", what)
            at += 4 + length
            offset, size, md5, *flags = self._take(at, tail, what)
            at += struct.calcsize(tail)
            self._entry(self._path(raw, number), offset + self._base, size, md5, flags[0] if flags else 0, keys)
        self._nested(keys)
        return at

    def _path(self, raw: bytes, number: int) -> str:
        stripped = raw.rstrip(b"\0")
        place = f"entry {number}"
        if b"\0" in stripped or len(raw) - len(stripped) > 3:
            # The engine's reader and a C string end in different places.
            self.report("pck.path-encoding", f"the path {quote(raw)} holds a NUL", place)
        try:
            text = stripped.decode("utf-8")
        except UnicodeDecodeError:
            self.report("pck.path-encoding", f"the path {quote(raw)} is not UTF-8", place)
            text = stripped.decode("utf-8", "replace")
        if problem := pack_path_problem(text):
            self.report("pck.path", f"the path {quote(text)} is not allowed: {problem}", place)
        return text if "://" in text else RES + text

    def _entry(self, path: str, offset: int, size: int, md5: bytes, flags: int, keys: dict[str, str]) -> None:
        if flags & _FILE_REMOVAL:
            self.report("pck.removal", "it deletes this file of the game", path)
        if flags & _FILE_DELTA:
            self.report("pck.delta", "it rewrites this file of the game", path)
        if flags & _FILE_ENCRYPTED:
            self.report("pck.encrypted", "the file is encrypted", path)
        if flags & ~(_FILE_ENCRYPTED | _FILE_REMOVAL | _FILE_DELTA):
            self.report("pck.file-flags", f"the file has the flags {flags:#x}", path)
        key = path_key(path)
        if key in keys:
            same = (
                "is in the pack twice" if keys[key] == path else f"differs from {quote(keys[key])} by case or form only"
            )
            self.report("pck.duplicate", f"the path {same}", path)
        keys.setdefault(key, path)
        if offset + size > self.source.size:
            self.report(
                "pck.out-of-bounds",
                f"{size:,} bytes at {offset:#x}, where the pack has {self.source.size:,} in all",
                path,
            )
            return
        self.entries.append(Entry(path, offset, size, md5, flags))
        if size:
            self._spans.append((offset, offset + size, path))

    def _nested(self, keys: dict[str, str]) -> None:
        folders = set[str]()
        for key in keys:
            end = key.rfind("/")
            while end > 0 and key[:end] not in folders:
                folders.add(key[:end])
                end = key.rfind("/", 0, end)
        for key in sorted(folders & keys.keys()):
            self.report("pck.path-conflict", "the path is a file and a folder", keys[key])

    def _layout(self) -> None:
        """No byte belongs to two things, and none to nothing."""
        reached, last = 0, ""
        for start, end, name in sorted(self._spans):
            if start < reached:
                self.report("pck.overlap", f"the data at {start:#x} overlap those of {quote(last)}", name)
            else:
                self._gap(reached, start, "pck.hidden-bytes")
            if end > reached:
                reached, last = end, name
        self._gap(reached, self.source.size, "pck.trailing-bytes")

    def _gap(self, start: int, end: int, code: str) -> None:
        trailing = code == "pck.trailing-bytes"
        if end - start < SLACK and not trailing:
            return
        at = start
        while at < end:  # NULs are alignment, to 4 KB pages on some platforms; anything else hides something
            piece = bytes(self.source.at(at, min(CHUNK, end - at)))
            if not piece:
                return
            if piece.count(0) != len(piece):
                break
            at += len(piece)
        if at < end or (trailing and end - start >= SLACK):
            self.report(code, f"{end - start:,} bytes belong to no file", f"offset {start:#x}")


def write_pck(
    files: Mapping[str, bytes | bytearray | memoryview | Path],
    target: Path | BinaryIO,
    *,
    format: int,
    engine: tuple[int, int, int],
) -> None:
    """Write a pack. The same files give the same bytes: sorted by path, aligned with NULs, no time, no name.

    `files` by path (``res://mods/a/x.png`` or ``mods/a/x.png``); a file on disk is read twice, in pieces, once for its
    MD5. A `target` path appears whole or not at all. Raises `PckError` on paths that a reader would refuse, and
    ValueError on an unknown format.
    """
    if format not in FORMATS:
        raise ValueError(f"pack format {format}: known are 1 to 4")
    if isinstance(target, Path):
        part = target.with_name(target.name + ".part")
        try:
            with part.open("wb") as file:
                write_pck(files, file, format=format, engine=engine)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return
    sources = _checked(files)
    align = 16 if format == 1 else 32
    head = 20 + 64 + (12 if format >= 2 else 0) + (8 if format >= 3 else 0)
    names = {path: _padded(path.removeprefix(RES) if format >= 3 else path) for path in sources}
    directory_size = 4 + sum(36 + len(name) + (4 if format >= 2 else 0) for name in names.values())
    base = at = _aligned(head if format >= 3 else head + directory_size, align)
    offsets, digests = dict[str, int](), dict[str, tuple[int, bytes]]()
    for path, source in sources.items():
        digests[path] = _measure(source)
        offsets[path] = at
        at = _aligned(at + digests[path][0], align)
    directory = struct.pack("<I", len(sources)) + b"".join(
        struct.pack("<I", len(names[path]))
        + names[path]
        + struct.pack("<QQ", offsets[path] - (base if format >= 2 else 0), digests[path][0])
        + digests[path][1]
        + (bytes(4) if format >= 2 else b"")
        for path in sources
    )
    header = MAGIC + struct.pack("<4I", format, *engine)
    if format >= 2:
        header += struct.pack("<IQ", _PACK_RELATIVE, base)
    if format >= 3:
        header += struct.pack("<Q", at)
    header += _RESERVED + (b"" if format >= 3 else directory)
    target.write(header + bytes(base - len(header)))
    for path, source in sources.items():
        size, digest = digests[path]
        if _copy(source, target) != (size, digest):
            raise OSError(f"{path} changed while the pack was written")
        target.write(bytes(-(offsets[path] + size) % align))
    if format >= 3:
        target.write(directory)


def _checked(files: Mapping[str, bytes | bytearray | memoryview | Path]) -> dict[str, bytes | memoryview | Path]:
    sources: dict[str, bytes | memoryview | Path] = {}
    keys = set[str]()
    for path in sorted(files, key=lambda name: name.removeprefix(RES).encode()):
        if problem := pack_path_problem(path):
            raise PckError("pck.path", f"the path {quote(path)} is not allowed: {problem}")
        if (key := path_key(path)) in keys:
            raise PckError("pck.duplicate", f"the path {quote(path)} is there twice, perhaps in another case or form")
        keys.add(key)
        source = files[path]
        sources[RES + path.removeprefix(RES)] = source if isinstance(source, Path) else memoryview(source).cast("B")
    return sources


def _padded(path: str) -> bytes:
    name = path.encode()
    return name + bytes(-len(name) % 4)


def _aligned(offset: int, align: int) -> int:
    return offset + -offset % align


def _measure(source: bytes | memoryview | Path) -> tuple[int, bytes]:
    return _copy(source, None)


def _copy(source: bytes | memoryview | Path, target: BinaryIO | None) -> tuple[int, bytes]:
    """Copy to `target`, if there is one; size and MD5 of what was copied."""
    md5, size = hashlib.md5(usedforsecurity=False), 0
    with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
        while piece := file.read(CHUNK):
            md5.update(piece)
            size += len(piece)
            if target is not None:
                target.write(piece)
    return size, md5.digest()


# --- jobs


def list_job(inputs: Inputs, params: Params) -> JobResult:
    """What a pack holds. Input ``pack``; params ``{"limits": {…}}``, optional.

    Value: ``{"version", "engine": [major, minor, patch], "entries": [{"path", "offset", "size", "md5"}], "findings"}``.
    """
    return _job(inputs, params, verify=False)


def verify_job(inputs: Inputs, params: Params) -> JobResult:
    """As `list_job`, with every MD5 checked."""
    return _job(inputs, params, verify=True)


def extract_job(inputs: Inputs, params: Params) -> JobResult:
    """As `verify_job`, and the data as files, named by their number in ``entries``: names of a stranger's choice are
    never names of files. Nothing is handed out of a pack with an error."""
    findings: list[Finding] = []
    pck = read_pck(inputs["pack"], limits=PckLimits.of(params), findings=findings)
    result = _result(pck, findings)
    if any(f.severity is Severity.ERROR for f in findings):
        return result
    return replace(result, files={str(number): pck.view(entry) for number, entry in enumerate(pck.entries)})


def _job(inputs: Inputs, params: Params, *, verify: bool) -> JobResult:
    findings: list[Finding] = []
    pck = read_pck(inputs["pack"], limits=PckLimits.of(params), verify=verify, findings=findings)
    return _result(pck, findings)


def _result(pck: Pck, findings: list[Finding]) -> JobResult:
    return JobResult(
        {
            "version": pck.version,
            "engine": list(pck.engine),
            "entries": [{"path": e.path, "offset": e.offset, "size": e.size, "md5": e.md5.hex()} for e in pck.entries],
            "findings": [to_json(f) for f in findings],
        }
    )
