"""Object stores: where the bytes lie. A protocol, and the store that is a folder.

Objects are immutable. An object appears under its key whole or not at all, only if nothing has that key yet, and is on
the disk (fsync of file and folder) before `ObjectWriter.commit` returns: the catalog's transaction comes after.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from cloudbaker.errors import NotFound, StoreError, UsageError

CHUNK = 1 << 20
"""Bytes moved at a time; nothing is ever in memory whole."""

_COMPONENT = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,253}[a-z0-9])?")
_KEY_MAX = 900  # S3 allows 1,024 bytes with the operator's prefix


def is_key(key: str) -> bool:
    """Whether an object may have this key; see `check_key`."""
    return len(key) <= _KEY_MAX and all(_COMPONENT.fullmatch(part) and ".." not in part for part in key.split("/"))


def check_key(key: str) -> str:
    """Return `key` if it may name an object, else raise `StoreError`.

    Components of lower-case ASCII letters, digits, ``.``, ``_``, ``-``, each beginning and ending with a letter or
    digit: no ``..``, no hidden or absolute paths, and nothing that some file system or CDN would fold together.
    """
    if not is_key(key):
        raise StoreError(
            f"object key {key!r} is refused: use lower-case letters, digits, '.', '_', '-' between slashes", key=key
        )
    return key


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store knows of an object without reading it."""

    key: str
    size: int
    modified: datetime
    """UTC."""


class ObjectWriter(Protocol):
    """Bytes on their way into a store; visible to nobody before `commit`."""

    size: int
    """Bytes written so far."""

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append. Raises `StoreError`."""
        ...

    def sha256(self) -> str:
        """Hex SHA-256 of what was written so far; hashed on the way, not by reading again."""
        ...

    def commit(self, key: str) -> bool:
        """Make it an object, durably. False if the key is taken: that object is left alone.

        May be called again with another key.
        """
        ...

    def close(self) -> None:
        """End writing and drop what is not an object by now. Always call it."""
        ...


class ObjectStore(Protocol):
    """A place for objects. Thread-safe; any number of processes."""

    url: str

    def writer(self) -> ObjectWriter:
        """Begin a new object whose key need not be known yet."""
        ...

    def open(self, key: str, *, offset: int = 0) -> BinaryIO:
        """Read from `offset` on; `read(n)` gives a range. Raises `NotFound`, `StoreError`."""
        ...

    def stat(self, key: str) -> ObjectInfo | None:
        """Size and time of an object; None if there is none."""
        ...

    def delete(self, key: str) -> bool:
        """Remove an object; False if there was none."""
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects whose key begins with `prefix`, in no particular order."""
        ...

    def path(self, key: str) -> Path | None:
        """Where the object lies as a file; None where the store has no files."""
        ...

    def unfinished(self) -> Iterator[ObjectInfo]:
        """Writers that were never closed (their process died), by an id in place of the key."""
        ...

    def drop_unfinished(self, name: str) -> bool:
        """Remove one of those; False if it is gone."""
        ...


def open_store(url: str) -> ObjectStore:
    """The store that a URL names. ``folder:/path`` is what this release has; else `UsageError`."""
    scheme, _, rest = url.partition(":")
    if scheme == "folder" and Path(rest).is_absolute():
        return FolderStore(Path(rest))
    raise UsageError(
        f"CLOUDBAKER_STORE_URL {url!r} names no store of this release: write folder:/absolute/path", url=url
    )


class FolderStore:
    """Objects as files of a folder, the key as the path below it.

    A writer is a file under ``.unfinished`` that is linked to its place when complete: `link` fails where the name is
    taken, which `rename` would overwrite.
    """

    def __init__(self, root: Path) -> None:
        """Creates the folder (mode 700). Raises `StoreError`."""
        self.root = root.absolute()
        self.url = f"folder:{self.root}"
        self._unfinished = self.root / ".unfinished"
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._unfinished.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _failed(error, self.root, "open") from error

    def writer(self) -> FolderWriter:
        """Begin a new object."""
        return FolderWriter(self, self._unfinished / uuid.uuid4().hex)

    def open(self, key: str, *, offset: int = 0) -> BinaryIO:
        """Read from `offset` on."""
        path = self.path(key)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            file = open(fd, "rb")  # noqa: SIM115 (the caller closes it)
            file.seek(offset)
        except FileNotFoundError as error:
            raise NotFound(f"no object {key} in the store", key=key) from error
        except OSError as error:
            raise _failed(error, self.root, "read from") from error
        return file

    def stat(self, key: str) -> ObjectInfo | None:
        """Size and time of an object."""
        return _info(key, self.path(key))

    def delete(self, key: str) -> bool:
        """Remove an object, and the folders that it leaves empty."""
        path = self.path(key)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _failed(error, self.root, "delete from") from error
        for parent in path.parents:
            if parent == self.root:
                break
            try:
                parent.rmdir()
            except OSError:  # not empty, or somebody else was first
                break
        return True

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects under a prefix."""
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(self.root / folder) as entries:
                    found = sorted(entries, key=lambda e: e.name)
            except FileNotFoundError:  # emptied meanwhile
                continue
            except OSError as error:
                raise _failed(error, self.root, "list") from error
            for entry in found:
                key = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    inside = f"{key}/"
                    if entry.name != ".unfinished" and (inside.startswith(prefix) or prefix.startswith(inside)):
                        folders.append(key)
                elif key.startswith(prefix) and (info := _info(key, Path(entry.path))):
                    yield info

    def path(self, key: str) -> Path:
        """The file of an object, there or not."""
        return self.root / check_key(key)

    def unfinished(self) -> Iterator[ObjectInfo]:
        """Writers whose process died, and those still at work: tell them apart by age."""
        for path in sorted(self._unfinished.iterdir()):
            if info := _info(path.name, path):
                yield info

    def drop_unfinished(self, name: str) -> bool:
        """Remove one."""
        try:
            (self._unfinished / Path(name).name).unlink()
        except FileNotFoundError:
            return False
        return True


class FolderWriter:
    """See `ObjectWriter`."""

    def __init__(self, store: FolderStore, path: Path) -> None:
        """Raises `StoreError` if the file can't be made."""
        self.size = 0
        self._hash = hashlib.sha256()
        self._store = store
        self._path = path
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
        except OSError as error:
            raise _failed(error, self._store.root, "write to") from error

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append."""
        view = memoryview(data).cast("B")
        done = 0
        try:
            while done < len(view):
                done += os.write(self._fd, view[done : done + (64 << 20)])
        except OSError as error:
            raise _failed(error, self._store.root, "write to") from error
        self._hash.update(view)
        self.size += done
        return done

    def sha256(self) -> str:
        """Hex SHA-256 so far."""
        return self._hash.hexdigest()

    def commit(self, key: str) -> bool:
        """Link it to its place."""
        path = self._store.path(key)
        try:
            os.fsync(self._fd)
            while True:
                try:
                    _make_folders(path.parent)
                    os.link(self._path, path)
                    break
                except FileExistsError:
                    return False
                except FileNotFoundError:
                    # `delete` removed the folder, empty until then, between the two calls. If it is the unfinished
                    # file that is gone, there is nothing to try again.
                    if os.fstat(self._fd).st_nlink == 0:
                        raise
            _fsync_folder(path.parent)
        except OSError as error:
            raise _failed(error, self._store.root, "write to") from error
        return True

    def close(self) -> None:
        """Close and unlink the unfinished file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            with suppress(FileNotFoundError):
                self._path.unlink()


def _make_folders(folder: Path) -> None:
    """Like ``mkdir -p``, but durable, and not disturbed by a clean-up that removes empty folders at the same time."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        _fsync_folder(path.parent)


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _info(key: str, path: Path) -> ObjectInfo | None:
    try:
        stat = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _failed(error, path.parent, "look into") from error
    return ObjectInfo(key, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))


_REMEDY = {
    errno.ENOSPC: "the disk is full: free some space there, or point CLOUDBAKER_STORE_URL at a larger disk",
    errno.EDQUOT: "the disk quota is used up: free some space there, or point CLOUDBAKER_STORE_URL elsewhere",
    errno.EFBIG: "the file is larger than the file size limit (ulimit -f) or the file system allows: raise it",
    errno.EACCES: "permission denied: make the folder writable for this user",
    errno.EPERM: "not permitted: make the folder writable for this user",
    errno.EROFS: "the file system is read-only: remount it, or point CLOUDBAKER_STORE_URL elsewhere",
    errno.ENOENT: "a file vanished while it was in use (was clean-up run with too short a grace?): run this again",
    errno.EXDEV: "the object folder spans two file systems: keep all of it on one",
}


def _failed(error: OSError, root: Path, verb: str) -> StoreError:
    remedy = _REMEDY.get(error.errno or 0, f"{error.strerror}: look after that disk, then run this again")
    return StoreError(
        f"can't {verb} the object store at {root}: {remedy}",
        detail=str(error),
        store=str(root),
        errno=errno.errorcode.get(error.errno or 0),
    )
