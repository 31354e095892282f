"""Open a ZIP archive from strangers: the model in it and its files, in memory, nothing written anywhere.

Everything is judged by the central directory first (PKWARE APPNOTE 6.3): no entry can unpack to more than is stated
there, and the sum of it is within the limits. Then only what the model refers to is unpacked. Paths are keys of a
dictionary, so a hostile one has nowhere to slip to; it is refused all the same: whoever packed it meant harm.
"""

from __future__ import annotations

import io
import stat
import struct
import unicodedata
import zipfile
import zlib

from cloudbaker.compute.gltf.embed import file_references
from cloudbaker.compute.gltf.findings import Findings, quote
from cloudbaker.compute.gltf.jsontext import parse_json
from cloudbaker.compute.gltf.limits import ContentLimits
from cloudbaker.compute.gltf.schema import check_schema
from cloudbaker.compute.gltf.sniff import ARCHIVES, HEAD, sniff
from cloudbaker.compute.gltf.uris import UriRefused, safe_path

Model = tuple[str, dict[str, memoryview]]
"""Name of the main file, and all files by their path relative to its folder."""

BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError)
"""What `zipfile` raises on damaged archives; RuntimeError is also NotImplementedError (versions it does not know)."""
DIRECTORY_BYTES = 16 << 20
_SMALL = 16 << 20
_JUNK = ("__MACOSX/",)
_JUNK_NAMES = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})


def open_archive(data: memoryview, limits: ContentLimits, findings: Findings) -> Model | None:
    """The one model of an archive, or None and the findings that say why not."""
    if directory_bytes(data) > DIRECTORY_BYTES:
        findings.add("intake.zip-entries", "", f"its directory takes more than {DIRECTORY_BYTES >> 20} MB")
        return None
    try:
        with zipfile.ZipFile(View(data)) as file:
            entries = checked_entries(file, len(data), limits, findings)
            heads = {} if findings.failed else {name: _head(file, entry) for name, entry in entries.items()}
            kinds = {name: sniff(head) for name, head in heads.items()}
            for name, kind in kinds.items():
                if kind in ARCHIVES:
                    findings.add("intake.zip-nested", quote(name), f"{quote(name)} is an archive ({kind})")
            if findings.failed:
                return None
            main = _main(kinds, findings)
            return None if main is None else _unpack(file, main, kinds[main], entries, limits, findings)
    except BROKEN as error:
        findings.add("intake.zip-invalid", "", f"it can't be read: {quote(str(error) or type(error).__name__)}")
        return None


class View(io.RawIOBase):
    """A file over bytes that are already there: `io.BytesIO` would copy them."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As `io.RawIOBase` has it."""
        self._at = max(0, offset + (0, self._at, len(self._data))[whence])
        return self._at

    def tell(self) -> int:
        """As `io.RawIOBase` has it."""
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """A copy of that much."""
        end = len(self._data) if size is None or size < 0 else min(self._at + size, len(self._data))
        taken = bytes(self._data[self._at : end])
        self._at += len(taken)
        return taken


def directory_bytes(data: memoryview) -> int:
    """Size of the central directory by the end record: `zipfile` reads all of it before one can count."""
    tail = bytes(data[-(22 + 0xFFFF) :])
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + 22 > len(tail):
        return 0
    (size,) = struct.unpack_from("<I", tail, at + 12)
    return int(size)  # with ZIP64 it is 0xFFFFFFFF, and so refused: no model needs that


def checked_entries(
    file: zipfile.ZipFile, size: int, limits: ContentLimits, findings: Findings
) -> dict[str, zipfile.ZipInfo]:
    """All files of the archive by their cleaned path."""
    infos = file.infolist()
    if len(infos) > limits.archive_entries:
        findings.add("intake.zip-entries", "", f"it has {len(infos):,} entries, more than {limits.archive_entries:,}")
        return {}
    entries: dict[str, zipfile.ZipInfo] = {}
    folded: dict[str, str] = {}
    for info in infos:
        path = _checked_path(info, findings)
        if path is None or info.is_dir():
            continue
        same = unicodedata.normalize("NFC", path).casefold()
        if same in folded:
            findings.add("intake.zip-duplicate", quote(path), f"{quote(path)} and {quote(folded[same])} are one name")
        folded[same] = path
        if path.startswith(_JUNK) or path.rpartition("/")[2] in _JUNK_NAMES:
            continue
        if info.flag_bits & 0x41:
            findings.add("intake.zip-encrypted", quote(path), f"{quote(path)} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            findings.add("intake.zip-method", quote(path), f"{quote(path)} is packed by method {info.compress_type}")
        entries[path] = info
    total = sum(info.file_size for info in entries.values())
    if total > limits.source_bytes or (total > _SMALL and total > limits.archive_ratio * size):
        findings.add(
            "intake.zip-bomb",
            "",
            f"{size:,} bytes unpack to {total:,}: over {limits.source_bytes:,}, or {limits.archive_ratio} times that",
        )
    return entries


def _checked_path(info: zipfile.ZipInfo, findings: Findings) -> str | None:
    name = info.orig_filename
    mode = info.external_attr >> 16
    if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_IFMT(mode) == 0):
        what = "a symbolic link" if stat.S_ISLNK(mode) else "no ordinary file"
        findings.add("intake.zip-special", quote(name), f"{quote(name)} is {what}")
        return None
    try:
        if name.startswith("/") or name[1:2] == ":":
            raise UriRefused("gltf.uri-traversal", f"the path {quote(name)} is absolute")
        return safe_path(unicodedata.normalize("NFC", name), "path")
    except UriRefused as error:
        findings.add("intake.zip-path", quote(name), error.message)
        return None


def _head(file: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    with file.open(entry) as opened:
        return opened.read(HEAD)


def _main(kinds: dict[str, str], findings: Findings) -> str | None:
    """The model: a GLB by its bytes, or JSON that is called ``.gltf`` (an archive may hold other JSON, too)."""
    models = [n for n, kind in kinds.items() if kind == "glb" or (kind == "gltf" and n.lower().endswith(".gltf"))]
    if not models:
        findings.add("intake.zip-no-model", "", f"none of its {len(kinds):,} files is a .glb or .gltf")
    elif len(models) > 1:
        shown = ", ".join(map(quote, models[:5]))
        findings.add("intake.zip-several-models", "", f"it holds {len(models)} models: {shown}")
    return models[0] if len(models) == 1 else None


def _unpack(
    file: zipfile.ZipFile,
    main: str,
    kind: str,
    entries: dict[str, zipfile.ZipInfo],
    limits: ContentLimits,
    findings: Findings,
) -> Model | None:
    folder, slash, name = main.rpartition("/")
    model = _read(file, entries[main])
    files = {name: memoryview(model)}
    used = {main}
    if kind == "gltf":
        document = parse_json(model, limits, findings)
        if document is not None and not findings.failed:
            check_schema(document, limits, findings)
        if document is None or findings.failed:
            return None
        for reference in file_references(document, findings):
            path = f"{folder}{slash}{reference}"
            if path in entries and reference != name:
                files[reference] = memoryview(_read(file, entries[path]))
                used.add(path)
    ignored = sorted(set(entries) - used)
    if ignored:
        shown = ", ".join(map(quote, ignored[:5]))
        findings.add("intake.zip-ignored", "", f"{len(ignored)} other files are left out: {shown}")
    return None if findings.failed else (name, files)


def _read(file: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Unpack one entry. `zipfile` stops at the size that the directory states, and checks the CRC."""
    return file.read(entry)
