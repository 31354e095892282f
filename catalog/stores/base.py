"""What an object store is: the protocol, and the rule of keys that all stores share.

Objects are immutable. An object appears under its key whole or not at all, only if nothing has that key yet, and is
durable before `ObjectWriter.commit` returns: the catalog's transaction comes after.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from cloudbaker.errors import StoreError

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

    def writer(self, *, tenant: str = "") -> ObjectWriter:
        """Begin a new object whose key need not be known yet.

        `tenant` is whose bytes they are: a store that encrypts does it under that tenant's keys.
        """
        ...

    def open(self, key: str, *, offset: int = 0) -> BinaryIO:
        """Read from `offset` on; `read(n)` gives a range, `seek` moves. Raises `NotFound`, `StoreError`.

        Reading may raise `StoreError` later too; past the end there is nothing, as in any file.
        """
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
        """Writers that were never closed (their process died) or still write, by an id in place of the key."""
        ...

    def drop_unfinished(self, name: str) -> bool:
        """Remove one of those; False if it is gone."""
        ...
