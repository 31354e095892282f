"""A mod as people hand it in (a ``.pck``, a ``.zip``, a folder) as one mapping: path in the game → bytes.

Nothing is written anywhere, and names are keys of a dictionary, so a hostile one has nowhere to slip to; it is refused
all the same. Three layouts of a zip or folder are one: the mod's own folder (``manifest.tres`` at its top), that folder
within one more (what most tools pack), and a project with ``mods/<id>/`` in it.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cloudbaker.compute.gltf.archive import BROKEN, DIRECTORY_BYTES, View, checked_entries, directory_bytes
from cloudbaker.compute.gltf.findings import quote
from cloudbaker.compute.gltf.limits import ContentLimits
from cloudbaker.compute.gltf.sniff import sniff
from cloudbaker.compute.godot.paths import RES, pack_path_problem, path_key
from cloudbaker.compute.godot.pck import PckLimits, read_pck
from cloudbaker.compute.godot.policy import Limits
from cloudbaker.compute.godot.scan_rules import ScanFindings
from cloudbaker.errors import SourceUnreadable
from cloudbaker.model import Finding

MANIFEST = "manifest.tres"
MODS = "mods/"
ID = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])")
"""What may name a mod: safe as a folder, an object key and a GDScript string, and never ambiguous."""
INLINE_BYTES = 1 << 20
"""Smaller files of a folder go to the sandbox as bytes; it maps the larger ones, and each map costs a descriptor."""
MAX_MAPPED = 400

_ROOTED = re.compile(r"(?P<prefix>(?:[^/]+/)*)mods/(?P<id>[^/]+)/manifest\.tres")
_JUNK = re.compile(r"(^|/)(__MACOSX/|\.DS_Store$|Thumbs\.db$|desktop\.ini$|\.git(/|ignore$|attributes$))")


@dataclass(slots=True)
class Mod:
    """What was handed in, laid out as the game will see it."""

    form: str
    """``pck``, ``zip`` or ``folder``."""
    id: str
    """The folder's name under ``mods/``; empty where only the manifest says it."""
    files: dict[str, memoryview] = field(default_factory=dict)
    """By path in the game, ``res://mods/<id>/tree.png``. Where `id` is empty, under ``res://mods/./``, see `named`."""
    manifest: str = ""
    """Path of the manifest; empty where there is none."""

    @property
    def root(self) -> str:
        """``res://mods/<id>/``."""
        return f"{RES}{MODS}{self.id or '.'}/"

    def named(self, id: str) -> Mod:
        """The mod under the id that its manifest gives it."""
        old, new = self.root, f"{RES}{MODS}{id}/"
        files = {_moved(path, old, new): data for path, data in self.files.items()}
        return Mod(self.form, id, files, _moved(self.manifest, old, new))


def open_mod(
    inputs: Mapping[str, memoryview], limits: Limits, findings: ScanFindings, *, special: tuple[str, ...] = ()
) -> Mod | None:
    """The mod in `inputs`: one ``.pck`` or ``.zip`` by its bytes, or the files of a folder by their relative path.

    `special` names what a folder holds beside regular files, see `folder_inputs`. Returns None where nothing could be
    opened; the findings say why. A mod that is returned may have findings, too: all of its files are there, so that
    the scan can go on.
    """
    for name in special:
        findings.add("mod.link", name, f"{quote(name)} is a link or no ordinary file")
    if len(inputs) == 1:
        ((name, data),) = inputs.items()
        kind = sniff(data)
        if kind == "pck":
            return _layout("pck", _pck(data, limits, findings), findings)
        if kind == "zip":
            files = _zip(data, limits, findings)
            return None if files is None else _layout("zip", files, findings)
        if not name.endswith(MANIFEST):
            findings.add("mod.unknown-form", name, f"{quote(name)} is no pack, no archive and no folder")
            return None
    if not inputs:
        findings.add("mod.unknown-form", "", "the folder is empty")
        return None
    return _layout("folder", _folder(inputs, limits, findings), findings)


def folder_inputs(path: Path, limits: Limits) -> tuple[dict[str, Path | bytes], tuple[str, ...]]:
    """The files of a mod's folder as inputs of a job, and the names of its links, pipes and devices.

    No link is followed. A file itself is returned as the only input. Raises `SourceUnreadable`.
    """
    try:
        if not path.is_dir():
            path.stat()
            return {path.name: path}, ()
        found: dict[str, Path] = {}
        special: list[str] = []
        for folder, folders, names in os.walk(path, onerror=_raise):
            for name in (*names, *folders):
                item = Path(folder, name)
                mode = item.lstat().st_mode
                relative = item.relative_to(path).as_posix()
                if stat.S_ISREG(mode):
                    found[relative] = item
                elif not stat.S_ISDIR(mode):
                    special.append(relative)
            if len(found) > limits.files + 1:
                break  # enough to be refused
        by_size = sorted(found, key=lambda name: found[name].stat().st_size, reverse=True)
        large = {name for name in by_size[:MAX_MAPPED] if found[name].stat().st_size >= INLINE_BYTES}
        budget = limits.pack_bytes
        inputs: dict[str, Path | bytes] = {}
        for name in sorted(found):
            if name in large:
                inputs[name] = found[name]
            elif budget >= 0:
                inputs[name] = _read(found[name], budget + 1)
                budget -= len(inputs[name])  # type: ignore[arg-type]
    except FileNotFoundError:
        raise SourceUnreadable(f"there is no file {path}: check the path", path=str(path)) from None
    except OSError as error:
        raise SourceUnreadable(f"can't read {path}: {error.strerror}", path=str(path)) from error
    return inputs, tuple(sorted(special))


def _raise(error: OSError) -> None:
    raise error


def _read(path: Path, most: int) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        return file.read(most)


def _pck(data: memoryview, limits: Limits, findings: ScanFindings) -> dict[str, memoryview]:
    found: list[Finding] = []
    pck = read_pck(data, limits=PckLimits(limits.files, limits.pack_bytes), findings=found)
    findings.extend(found)
    return {entry.path.removeprefix(RES): pck.view(entry) for entry in pck.entries}


def _zip(data: memoryview, limits: Limits, findings: ScanFindings) -> dict[str, memoryview] | None:
    allowed = ContentLimits(
        source_bytes=limits.pack_bytes, archive_entries=limits.files, archive_ratio=limits.archive_ratio
    )
    if directory_bytes(data) > DIRECTORY_BYTES:
        findings.add("intake.zip-entries", "", f"its directory takes more than {DIRECTORY_BYTES >> 20} MB")
        return None
    try:
        with zipfile.ZipFile(View(data)) as file:
            entries = checked_entries(file, len(data), allowed, findings)
            if not entries or any(f.code in ("intake.zip-bomb", "intake.zip-encrypted") for f in findings):
                if not findings.failed:
                    findings.add("mod.unknown-form", "", "the archive is empty")
                return None
            return {path: memoryview(file.read(entry)) for path, entry in entries.items()}
    except BROKEN as error:
        findings.add("intake.zip-invalid", "", f"it can't be read: {quote(str(error) or type(error).__name__)}")
        return None


def _folder(inputs: Mapping[str, memoryview], limits: Limits, findings: ScanFindings) -> dict[str, memoryview]:
    if len(inputs) > limits.files:
        findings.add("mod.too-many-files", "", f"there are more than {limits.files:,} files")
    total = sum(map(len, inputs.values()))
    if total > limits.pack_bytes:
        findings.add("mod.too-large", "", f"the files have {total:,} bytes, the limit is {limits.pack_bytes:,}")
    files: dict[str, memoryview] = {}
    keys: dict[str, str] = {}
    for name, data in inputs.items():
        path = unicodedata.normalize("NFC", name)
        if (key := path_key(path)) in keys:
            findings.add("path.duplicate", path, f"{quote(path)} and {quote(keys[key])} are one name")
        keys[key] = path
        files[path] = data
    return files


def _layout(form: str, files: dict[str, memoryview], findings: ScanFindings) -> Mod:
    """Every file at its place in the game."""
    if form != "pck":
        files = {path: data for path, data in files.items() if not _JUNK.search(path)}
    for path in files:
        if form != "pck" and (problem := pack_path_problem(path)) is not None:
            findings.add("path.name", path, f"the name {quote(path)} can't be in a pack: {problem}")
    prefix, id, manifests = _find(form, files)
    if not manifests:
        findings.add("mod.no-manifest", "", f"there is no {MANIFEST} in mods/<id>/, or at the top of an archive")
    if len(manifests) > 1:
        findings.add("mod.several", "", f"there are {len(manifests)} manifests: {', '.join(map(quote, manifests[:5]))}")
    mod = Mod(form, id)
    for path, data in files.items():
        # What lies beside the mod keeps its place, so that the scan says what is wrong with it.
        inner = path.removeprefix(prefix) if path.startswith(prefix) else path
        beside = bool(prefix) and not path.startswith(prefix)
        mod.files[RES + inner if id or beside or form == "pck" else mod.root + inner] = data
    if manifests:
        mod.manifest = mod.root + MANIFEST
    return mod


def _find(form: str, files: Mapping[str, memoryview]) -> tuple[str, str, list[str]]:
    """What to take off every path, the mod's id as its folder says it, and all manifests that could be meant."""
    rooted = [m for path in sorted(files) if (m := _ROOTED.fullmatch(path)) and (form != "pck" or not m["prefix"])]
    if rooted:
        shallowest = min(rooted, key=lambda m: len(m["prefix"]))
        return shallowest["prefix"], shallowest["id"], [m[0] for m in rooted]
    if form == "pck":
        ids = sorted({path.split("/")[1] for path in files if path.startswith(MODS) and path.count("/") > 1})
        return "", ids[0] if ids else "", []
    plain = sorted((p for p in files if p == MANIFEST or p.endswith("/" + MANIFEST)), key=lambda p: (p.count("/"), p))
    if plain:
        return plain[0].removesuffix(MANIFEST), "", [p for p in plain if p.count("/") == plain[0].count("/")]
    tops = {path.split("/")[0] for path in files}
    return (f"{tops.pop()}/" if len(tops) == 1 and all("/" in p for p in files) else ""), "", []


def _moved(path: str, old: str, new: str) -> str:
    return new + path[len(old) :] if path.startswith(old) else path
