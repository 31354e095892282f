"""The store that is a folder: an object is a file, its key the path below."""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from cloudbaker.catalog.stores.base import ObjectInfo, check_key
from cloudbaker.errors import NotFound, StoreError

UNFINISHED = ".unfinished"
KEYS = ".keys"
"""Folders that are the store's own; no object's key can begin so."""


class FolderStore:
    """Objects as files of a folder, the key as the path below it.

    A writer is a file under ``.unfinished`` that is linked to its place when complete: `link` fails where the name is
    taken, which `rename` would overwrite.
    """

    def __init__(self, root: Path) -> None:
        """Creates the folder (mode 700). Raises `StoreError`."""
        self.root = root.absolute()
        self.url = f"folder:{self.root}"
        self._unfinished = self.root / UNFINISHED
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._unfinished.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _failed(error, self.root, "open") from error

    def writer(self, *, tenant: str = "") -> FolderWriter:
        """Begin a new object."""
        return FolderWriter(self, self._new_path())

    def open(self, key: str, *, offset: int = 0) -> BinaryIO:
        """Read from `offset` on."""
        path = self._file(key)
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
        return _info(key, self._file(key))

    def delete(self, key: str) -> bool:
        """Remove an object, and the folders that it leaves empty."""
        path = self._file(key)
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
                    ours = entry.name in (UNFINISHED, KEYS)
                    if not ours and (inside.startswith(prefix) or prefix.startswith(inside)):
                        folders.append(key)
                elif key.startswith(prefix) and (info := _info(key, Path(entry.path))):
                    yield info

    def path(self, key: str) -> Path | None:
        """The file of an object, there or not."""
        return self._file(key)

    def unfinished(self) -> Iterator[ObjectInfo]:
        """Writers whose process died, and those still at work: tell them apart by age."""
        try:
            paths = sorted(self._unfinished.iterdir())
        except OSError as error:
            raise _failed(error, self.root, "list") from error
        for path in paths:
            if info := _info(path.name, path):
                yield info

    def drop_unfinished(self, name: str) -> bool:
        """Remove one."""
        path = self._unfinished / name
        if path.parent != self._unfinished or not name.isalnum():
            return False
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _failed(error, self.root, "delete from") from error
        return True

    def _file(self, key: str) -> Path:
        return self.root / check_key(key)

    def _new_path(self) -> Path:
        return self._unfinished / uuid.uuid4().hex


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
        self._append(view)
        self._hash.update(view)
        self.size += len(view)
        return len(view)

    def _append(self, view: memoryview) -> None:
        done = 0
        try:
            while done < len(view):
                done += os.write(self._fd, view[done : done + (64 << 20)])
        except OSError as error:
            raise _failed(error, self._store.root, "write to") from error

    def sha256(self) -> str:
        """Hex SHA-256 so far."""
        return self._hash.hexdigest()

    def commit(self, key: str) -> bool:
        """Link it to its place."""
        path = self._store._file(key)
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
