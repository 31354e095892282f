"""Verify a package: its signatures, the hash of every file, that none is missing or extra, and its manifest.

Whatever the files hold, the outcome is a `VerifyReport`; only a call without any public key, or on a path that can't be
read, raises. Order matters: nothing is parsed before its signature or hash is good, and of each file no more bytes are
read (or inflated from a ``.zip``) than the signed manifest says it has, so that a planted bomb is never unpacked.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from cloudbaker.compute.package import ENVELOPE, MANIFEST, SCHEMAS
from cloudbaker.compute.signing import dsse
from cloudbaker.compute.signing.keys import PublicKey
from cloudbaker.compute.signing.statement import Statement, parse_statement
from cloudbaker.errors import SignatureInvalid, SourceUnreadable
from cloudbaker.model import Finding, Severity, to_json

MAX_MANIFEST_BYTES = 16 << 20
MAX_FILE_BYTES = 2 << 30
"""Of a file whose size no manifest tells."""
MAX_ENTRIES = 100_000
"""Of a folder or ``.zip``."""
_CHUNK = 1 << 20

_Open: TypeAlias = Callable[[str], AbstractContextManager[BinaryIO]]


@dataclass(frozen=True, slots=True)
class VerifiedFile:
    """A signed file and how it was found."""

    name: str
    sha256: str
    """As signed."""
    ok: bool


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What came of a verification."""

    problems: tuple[Finding, ...]
    files: tuple[VerifiedFile, ...] = ()
    """Every signed file, sorted by name."""
    key_ids: tuple[str, ...] = ()
    """Trusted keys whose signatures are good."""
    statement: Statement | None = None
    """The signed statement; None where its signatures are not good: nothing of it is shown then."""

    @property
    def ok(self) -> bool:
        """Whether the package is exactly what was signed."""
        return not self.problems

    def __bool__(self) -> bool:
        """As `ok`: ``if verify(…):`` must not take a bad package for a good one."""
        return self.ok

    def unwrap(self) -> VerifyReport:
        """Itself if all is well, else raise `SignatureInvalid` with the first problem; all are in its facts."""
        if self.ok:
            return self
        first, more = self.problems[0], len(self.problems) - 1
        raise SignatureInvalid(
            f"{first.message}{f' (and {more} more problem(s))' if more else ''}. {first.remedy}",
            problems=to_json(self.problems),
        )

    def to_json(self) -> dict[str, Any]:
        """The documented ``--json`` form."""
        signed = self.statement
        return {
            "ok": self.ok,
            "problems": to_json(self.problems),
            "files": to_json(self.files),
            "key_ids": list(self.key_ids),
            "asset": signed.asset if signed else None,
            "recipe": signed.recipe if signed else None,
            "recipe_hash": signed.recipe_hash if signed else None,
            "bake_key": signed.bake_key if signed else None,
            "run_id": signed.run_id if signed else None,
            "finished_on": signed.finished_on if signed else None,
            "isolation": signed.isolation if signed else None,
        }


def verify_bundle(
    files: Mapping[str, bytes | memoryview | Path],
    envelope: Mapping[str, Any] | str | bytes,
    public_keys: Sequence[PublicKey],
    *,
    require: dsse.Require = "all",
) -> VerifyReport:
    """Verify files, given by their name in the package as bytes or as where they lie, against a signed envelope."""

    def open_(name: str) -> AbstractContextManager[BinaryIO]:
        source = files[name]
        return _open_regular(source) if isinstance(source, Path) else io.BytesIO(source)

    return _verify(files, open_, envelope, public_keys, require)


def verify_path(path: Path, public_keys: Sequence[PublicKey], *, require: dsse.Require = "all") -> VerifyReport:
    """Verify a folder, a ``.zip`` or the folder of an envelope, each holding ``provenance.dsse.json`` and the files.

    Raises `SourceUnreadable` where there is no such thing to read.
    """
    if path.name == ENVELOPE:
        path = path.parent
    try:
        if path.is_dir():
            return _verify_folder(path, public_keys, require)
        with _open_regular(path) as file, zipfile.ZipFile(file) as archive:
            return _verify_zip(archive, path, public_keys, require)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise SourceUnreadable(
            f"{path} is neither a package's folder nor a .zip of one: name a folder or .zip that holds {ENVELOPE}",
            detail=str(error),
            path=str(path),
        ) from error
    except OSError as error:
        if isinstance(error, SourceUnreadable):
            raise
        raise SourceUnreadable(
            f"can't read {path}: {error.strerror or error}; check the path and its permissions", path=str(path)
        ) from error


def _verify_folder(folder: Path, public_keys: Sequence[PublicKey], require: dsse.Require) -> VerifyReport:
    names = []
    for found, folders, files in os.walk(folder):  # links to folders are listed, not followed
        base = Path(found)
        links = [name for name in folders if (base / name).is_symlink()]
        names += [(base / name).relative_to(folder).as_posix() for name in (*files, *links)]
        if len(names) > MAX_ENTRIES:
            raise SourceUnreadable(f"{folder} holds too many files for a package: name the package's own folder")
    if ENVELOPE not in names:
        raise _no_envelope(folder)
    with _open_regular(folder / ENVELOPE) as file:
        envelope = file.read(dsse.MAX_ENVELOPE_BYTES + 1)
    names.remove(ENVELOPE)
    return _verify(names, lambda name: _open_regular(folder / name), envelope, public_keys, require)


def _verify_zip(
    archive: zipfile.ZipFile, path: Path, public_keys: Sequence[PublicKey], require: dsse.Require
) -> VerifyReport:
    names = archive.namelist()
    if len(names) > MAX_ENTRIES:
        raise SourceUnreadable(f"{path} holds too many files for a package", path=str(path))
    if ENVELOPE not in names:
        raise _no_envelope(path)
    if len(set(names)) != len(names):  # readers differ in which of the two they take
        return VerifyReport((_problem("package.duplicate-name", "", "two files in the .zip have the same name"),))

    def open_(name: str) -> AbstractContextManager[BinaryIO]:
        return archive.open(name)  # type: ignore[return-value]  # IO[bytes] of typeshed is a BinaryIO in all we use

    try:
        with open_(ENVELOPE) as file:
            envelope = file.read(dsse.MAX_ENVELOPE_BYTES + 1)
    except _UNREADABLE as error:
        return VerifyReport((_problem("package.unreadable", ENVELOPE, f"the envelope can't be read ({error})"),))
    return _verify([name for name in names if name != ENVELOPE], open_, envelope, public_keys, require)


_UNREADABLE = (OSError, EOFError, RuntimeError, NotImplementedError, ValueError, zipfile.BadZipFile, zlib.error)
"""What reading one file, or one entry of a damaged or encrypted ``.zip``, may raise."""


def _verify(
    names: Collection[str],
    open_: _Open,
    envelope: Mapping[str, Any] | str | bytes,
    public_keys: Sequence[PublicKey],
    require: dsse.Require,
) -> VerifyReport:
    try:
        verified = dsse.verify(envelope, public_keys, require=require)
        signed = parse_statement(verified.payload)
    except SignatureInvalid as error:
        return VerifyReport((Finding("signature.invalid", Severity.ERROR, ENVELOPE, error.message),))
    problems = [
        _problem("package.missing-file", name, f"{name!r} was signed, and is not there")
        for name in sorted(signed.subjects.keys() - set(names))
    ]
    problems += [
        _problem("package.extra-file", name, f"{name!r} is there, and was not signed")
        for name in sorted(set(names) - signed.subjects.keys())
    ]
    sizes, manifest_problems = _check_manifest(names, open_, signed)
    problems += manifest_problems
    files = []
    for name, digest in sorted(signed.subjects.items()):
        ok = False
        if name in names:
            reason = _check_file(open_, name, digest, sizes.get(name))
            ok = not reason
            if reason:
                problems.append(_problem("package.file-changed", name, reason))
        files.append(VerifiedFile(name, digest, ok))
    return VerifyReport(tuple(problems), tuple(files), verified.key_ids, signed)


def _check_file(open_: _Open, name: str, digest: str, size: int | None) -> str:
    """Why the file is not the signed one, or empty."""
    limit = MAX_FILE_BYTES if size is None else size
    hasher, left = hashlib.sha256(), limit + 1
    try:
        with open_(name) as file:
            while left and (chunk := file.read(min(_CHUNK, left))):
                hasher.update(chunk)
                left -= len(chunk)
    except _UNREADABLE as error:
        return f"{name!r} can't be read ({type(error).__name__})"
    if not left:
        return f"{name!r} is larger than the {limit} bytes it may have"
    return "" if hasher.hexdigest() == digest else f"{name!r} differs from what was signed"


def _check_manifest(names: Collection[str], open_: _Open, signed: Statement) -> tuple[dict[str, int], list[Finding]]:
    """Sizes by name from a manifest whose hash is good, and where it disagrees with the signed statement."""
    if MANIFEST not in signed.subjects:
        return {}, [_problem("manifest.missing", MANIFEST, "no manifest was signed")]
    sizes: dict[str, int] = {MANIFEST: MAX_MANIFEST_BYTES}
    if MANIFEST not in names:
        return sizes, []  # told already, as a missing file
    try:
        with open_(MANIFEST) as file:
            data = file.read(MAX_MANIFEST_BYTES + 1)
    except _UNREADABLE:
        return sizes, []  # told by the check of the file itself
    if hashlib.sha256(data).hexdigest() != signed.subjects[MANIFEST]:
        return sizes, []
    try:
        manifest = dsse.loads_strict(data)
        files = {row["name"]: row for row in manifest["files"]}
        sizes |= {name: int(row["bytes"]) for name, row in files.items()}
        digests = {name: row["sha256"] for name, row in files.items()}
        claims = (
            manifest["schema"],
            manifest["asset"],
            manifest["recipe"]["name"],
            manifest["recipe"]["sha256"],
            manifest["bake_key"],
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return sizes, [_problem("manifest.malformed", MANIFEST, "the manifest lacks a field or is no JSON")]
    problems = []
    spoken = (signed.asset, signed.recipe, signed.recipe_hash, signed.bake_key)
    if claims[0] not in SCHEMAS or claims[1:] != spoken:
        problems.append(
            _problem("manifest.inconsistent", MANIFEST, "manifest and statement speak of different bakes or schemas")
        )
    if digests != {name: digest for name, digest in signed.subjects.items() if name != MANIFEST}:
        problems.append(_problem("manifest.inconsistent", MANIFEST, "manifest and statement name different files"))
    return sizes, problems


def _open_regular(path: Path) -> BinaryIO:
    """Open a regular file; a link in a package could point anywhere, and a FIFO would hang us."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"{path.name} is not a regular file")
    return os.fdopen(fd, "rb")


def _no_envelope(path: Path) -> SourceUnreadable:
    return SourceUnreadable(
        f"{path} holds no {ENVELOPE}: name a package with its signed envelope beside the files", path=str(path)
    )


def _problem(code: str, place: str, message: str) -> Finding:
    return Finding(code, Severity.ERROR, place, message, "Don't use this package; fetch it again, or ask its publisher")
