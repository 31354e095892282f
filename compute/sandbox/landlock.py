"""Landlock: which files a process may touch, from now on and for good.

Source: Linux, Documentation/userspace-api/landlock.rst. ABI 1 is Linux 5.13; 2 adds moving between folders, 3 truncate,
4 TCP, 5 device ioctls, 6 signals and abstract sockets.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

from cloudbaker.compute.sandbox.libc import LIBC, check

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every architecture

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_REFER, _TRUNCATE = 1 << 13, 1 << 14

_READ = _READ_FILE | _READ_DIR
_WRITE = _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
_OF_A_FILE = _WRITE_FILE | _READ_FILE | _TRUNCATE
"""Rights that the kernel accepts for something that is not a folder."""


def abi() -> int:
    """Version of Landlock in this kernel; 0 where there is none."""
    return max(0, int(LIBC.syscall(_CREATE, None, ctypes.c_size_t(0), 1)))


def _handled(version: int) -> int:
    """Every right that this version can take away; what is not handled stays allowed."""
    bits = 13 + (version >= 2) + (version >= 3) + (version >= 5)
    return (1 << bits) - 1


def restrict(*, read: Iterable[str], write: Iterable[str]) -> None:
    """Allow reading below `read`, reading and writing below `write`, and nothing else: no device, FIFO, socket or link.

    Paths that do not exist or can't be reached are left out: they can't be used either. Where the kernel knows how,
    TCP, and signals and abstract sockets to processes outside, are taken away too. Binds only the calling thread and
    what it starts later. Raises OSError where Landlock is absent.
    """
    version = abi()
    handled = _handled(version)
    attributes = struct.pack("<QQQ", handled, 3, 3)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    rules = check(LIBC.syscall(_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0), "landlock_create_ruleset")
    try:
        for paths, rights in ((read, _READ), (write, _WRITE)):
            for path in paths:
                _add(rules, path, rights & handled)
        check(LIBC.prctl(38, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
        check(LIBC.syscall(_RESTRICT, rules, 0), "landlock_restrict_self")
    finally:
        os.close(rules)


def _add(rules: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError, NotADirectoryError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_A_FILE
        check(LIBC.syscall(_ADD, rules, 1, struct.pack("<Qi", rights, fd), 0), f"landlock_add_rule {path}")
    finally:
        os.close(fd)
