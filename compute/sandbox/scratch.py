"""Folders for tools to write into, which are gone afterwards whatever was done in them, and to us.

One folder per process, held by a lock that the kernel drops with the process: whoever comes next removes what a killed
process left. (A lock and not a process id: two containers may share a temporary folder, but not their process ids.)
"""

from __future__ import annotations

import fcntl
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

_PREFIX = "cloudbaker-sandbox-"


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the lock of `folder`, or None where somebody else holds it or it is gone."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_nlink and os.fstat(fd).st_uid == os.geteuid():
            return fd
    except OSError:
        pass
    os.close(fd)
    return None


class ScratchRoot:
    """This process's folder of scratch folders. `close` removes it; so does the next process that finds it abandoned."""

    def __init__(self, base: Path | None = None) -> None:
        base = base or Path(tempfile.gettempdir())
        sweep(base)
        fd = None
        while fd is None:  # a sweeper may take the folder between its making and its locking
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
            fd = _lock(self.path)
        self._lock = fd
        self._count = 0
        # Jobs run as nobody where we are root: they may pass through, and see nothing.
        self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)

    def folder(self, *, owner: int | None = None) -> Path:
        """A new empty folder for one job, mode 700, given to user `owner`."""
        path = Path(tempfile.mkdtemp(dir=self.path))
        if owner is not None and os.geteuid() == 0:
            os.chown(path, owner, owner)
        return path

    def close(self) -> None:
        """Remove everything. May be called again."""
        if self._lock >= 0:
            remove_tree(self.path)
            os.close(self._lock)
            self._lock = -1


def sweep(base: Path) -> list[Path]:
    """Remove the folders under `base` whose processes are dead; returns them."""
    swept = []
    for folder in base.glob(f"{_PREFIX}*"):
        fd = _lock(folder)
        if fd is not None:
            remove_tree(folder)
            os.close(fd)
            swept.append(folder)
    return swept


def remove_tree(path: Path) -> None:
    """Remove the folder `path` with all in it; nothing happens where it is gone.

    Hostile content is the normal case: `shutil.rmtree` ends in RecursionError on folders nested a thousand deep. Here
    folders are moved up to the top and opened one at a time. Links are never followed. Raises OSError where a
    disk fails.
    """
    while True:
        try:
            entries = list(os.scandir(path))
        except FileNotFoundError:
            return
        folders = []
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            else:
                os.unlink(entry.path)
        if not folders:
            path.rmdir()
            return
        for folder in folders:
            with suppress(PermissionError):
                os.chmod(folder, 0o700)
            for inner in list(os.scandir(folder)):
                if inner.is_dir(follow_symlinks=False):
                    os.rename(inner.path, path / secrets.token_hex(16))
                else:
                    os.unlink(inner.path)
            os.rmdir(folder)
