"""Folders for tools to write into, which are gone afterwards whatever was done in them, and to us.

One folder per process, held by a lock that the kernel drops with the process: whoever comes next removes what a killed
process left. (A lock and not a process id: two containers may share a temporary folder, but not their process ids.)
"""

from __future__ import annotations

import atexit
import fcntl
import os
import secrets
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    """A folder of scratch folders. `close` removes it; so does the next process that finds it abandoned."""

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
            entries = list(path.iterdir())
        except FileNotFoundError:
            return
        if not entries:
            path.rmdir()
            return
        for entry in entries:
            if not _is_folder(entry):
                entry.unlink()
                continue
            with suppress(PermissionError):
                entry.chmod(0o700)
            for inner in list(entry.iterdir()):
                if _is_folder(inner):
                    inner.rename(path / secrets.token_hex(16))
                else:
                    inner.unlink()
            entry.rmdir()


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)


def tree_size(path: Path, *, most_entries: int = 20_000) -> int:
    """Bytes on disk below `path`; counts as a whole exabyte what can't be counted (too many, too deep, unreadable).

    A file that is open but has no name any more is not seen: this is for tools that misbehave, and RLIMIT_FSIZE is
    for those that attack.
    """
    used = entries = 0
    queue = [str(path)]
    while queue:
        try:
            for entry in os.scandir(queue.pop()):
                with suppress(FileNotFoundError):
                    used += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        queue.append(entry.path)
                entries += 1
        except FileNotFoundError:
            continue
        except OSError:
            return 1 << 60
        if entries > most_entries:
            return 1 << 60
    return used


_private: dict[int, ScratchRoot] = {}
_private_lock = threading.Lock()


def private_root() -> ScratchRoot:
    """The root that parts of one process share; made on first use, removed at its end."""
    with _private_lock:
        if os.getpid() not in _private:
            root = _private[os.getpid()] = ScratchRoot()
            atexit.register(root.close)
        return _private[os.getpid()]


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder for one tool; gone afterwards.

    with scratch_folder() as folder:
        run_tool(["godot", "--headless", …], scratch=folder)
    """
    path = private_root().folder()
    try:
        yield path
    finally:
        remove_tree(path)
