"""The folder store with its objects encrypted on the disk, each under its tenant's keys.

A file is a header of 72 bytes (what it is and whose) and Tink's streaming AEAD, AES256-GCM-HKDF in segments of 1 MB,
with the header as associated data: whole files are never in memory, a changed, swapped, shortened or lengthened segment
does not decrypt, and no two segments can change places. Hash and size that the catalog knows are the plaintext's.

Why not file system encryption alone: it protects a stolen disk, not a backup or a file copied from a running machine,
and has no key per tenant. Measured on one core: 1.3 GB/s in, 4 GB/s out.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import tink

from cloudbaker.catalog.stores.base import CHUNK, ObjectInfo, is_key
from cloudbaker.catalog.stores.folder import KEYS, UNFINISHED, FolderStore, FolderWriter
from cloudbaker.catalog.stores.keyring import Keyring, master_key, rotate_master
from cloudbaker.errors import StoreDamaged, StoreError, StoreKeyError, UsageError

_MAGIC = b"CBSEAL1\n"
_HEADER = len(_MAGIC) + 64  # the longest name of a tenant
# AES256_GCM_HKDF_1MB: the first segment begins with a length, 32 bytes of salt and 7 of nonce; each ends in a tag.
_SEGMENT, _SALT, _TAG = 1 << 20, 40, 16


def plain_size(size: int) -> int:
    """Bytes of the object in a file of `size` bytes; 0 for what is too short to be one."""
    sealed = size - _HEADER
    return max(0, sealed - _SALT - _TAG * max(1, -(-sealed // _SEGMENT)))


class EncryptedStore(FolderStore):
    """A `FolderStore` whose files are sealed. Its objects have no path: nobody can use them without the keys."""

    def __init__(self, root: Path, keyring: Keyring, keys: Path | None = None) -> None:
        """Use `open_encrypted`. `keys` is the folder of the master key; None where that is in the cloud."""
        super().__init__(root)
        self.keyring = keyring
        self._keys = keys

    def rotate(self, tenants: Iterable[str], *, master: bool = False) -> None:
        """New primary keys for these tenants; or a new master key, under which all tenants' keys are wrapped anew.

        Objects stay as they are, and readable. Raises `StoreKeyError`, `UsageError` for a master key in the cloud.
        """
        if not master:
            for tenant in tenants:
                self.keyring.rotate(tenant)
        elif self._keys is None:
            raise UsageError("the master key is in the cloud: have it rotated there, which needs nothing here")
        else:
            rotate_master(self.keyring, self._keys)

    def writer(self, *, tenant: str = "") -> FolderWriter:
        """Begin a new object under a tenant's primary key. Raises `StoreKeyError`, `StoreError`."""
        return _SealedWriter(self, self._new_path(), tenant)

    def open(self, key: str, *, offset: int = 0) -> BinaryIO:
        """Read from `offset` on.

        Tink's streams begin at the beginning: what lies before is decrypted and dropped, at 4 GB/s.
        """
        reader = _Unsealed(self, key)
        if offset:
            reader.seek(offset)
        return cast(BinaryIO, io.BufferedReader(reader, CHUNK))

    def stat(self, key: str) -> ObjectInfo | None:
        """Size of the plaintext, and time."""
        info = super().stat(key)
        return None if info is None else _plain(info)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects under a prefix, with the size of their plaintext."""
        return map(_plain, super().list(prefix))

    def path(self, key: str) -> None:
        """None: the file is not the object's bytes."""
        super().path(key)

    def open_file(self, key: str) -> BinaryIO:
        """The sealed file."""
        return super().open(key)


def _plain(info: ObjectInfo) -> ObjectInfo:
    return replace(info, size=plain_size(info.size))


class _SealedWriter(FolderWriter):
    """Encrypts on the way to the unfinished file."""

    def __init__(self, store: EncryptedStore, path: Path, tenant: str) -> None:
        aead = store.keyring.sealing(tenant)
        super().__init__(store, path)
        header = _MAGIC + tenant.encode().ljust(_HEADER - len(_MAGIC), b"\0")
        self._end = _Destination(self)
        try:
            self._append(memoryview(header))
            self._stream: Any = aead.new_encrypting_stream(cast(BinaryIO, self._end), header)
        except BaseException:
            self.close()
            raise

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), CHUNK):  # Tink copies what it is given
            piece = view[start : start + CHUNK]
            self._sealing(lambda piece=piece: self._stream.write(piece))
        self._hash.update(view)
        self.size += len(view)
        return len(view)

    def commit(self, key: str) -> bool:
        """Seal the last segment and link it to its place."""
        self._sealing(self._stream.close)
        return super().commit(key)

    def close(self) -> None:
        """Close and unlink the unfinished file."""
        self._end.dead = True  # a stream that is collected later writes its last segment
        super().close()

    def _sealing(self, work: Any) -> None:
        try:
            work()
        except tink.TinkError as error:
            # What befell our destination comes back through C++ as a mere status.
            raise self._end.error or StoreError(
                "can't encrypt an object: the log holds the details", detail=str(error)
            ) from error


class _Destination(io.RawIOBase):
    """Where Tink writes to: the writer's file. It is the writer who closes that."""

    def __init__(self, writer: _SealedWriter) -> None:
        self._writer = writer
        self.error: StoreError | None = None
        self.dead = False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if not self.dead:
            try:
                self._writer._append(memoryview(data))
            except StoreError as error:
                self.error = error
                raise
        return len(data)


class _Unsealed(io.RawIOBase):
    """The plaintext of a sealed file. A seek backwards begins anew."""

    def __init__(self, store: EncryptedStore, key: str) -> None:
        self._store, self._key = store, key
        self._position = 0
        self._stream: Any = None
        self._open()

    def _open(self) -> None:
        file = self._store.open_file(self._key)
        try:
            header = file.read(_HEADER)
            tenant = header[len(_MAGIC) :].rstrip(b"\0").decode("ascii", "replace")
            # Whoever can write files here may have written a path for a name.
            named = tenant == "" or (is_key(tenant) and "/" not in tenant)
            if len(header) < _HEADER or not header.startswith(_MAGIC) or not named:
                raise StoreDamaged(
                    f"object {self._key} is not an encrypted one: it was put there by hand, or is damaged; put it back "
                    "from a backup",
                    key=self._key,
                )
            self._stream = self._store.keyring.opening(tenant).new_decrypting_stream(file, header)
        except BaseException:
            file.close()
            raise
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_CUR:
            offset += self._position
        elif whence == io.SEEK_END:
            info = self._store.stat(self._key)
            offset += info.size if info is not None else 0
        if offset < 0:
            raise ValueError(f"negative position {offset}")
        if offset < self._position:
            self._stream.close()
            self._open()
        while self._position < offset and self._read(min(CHUNK, offset - self._position)):
            pass
        # Past the end there is nothing to read, wherever it is.
        self._position = offset
        return offset

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(CHUNK) or b"", b""))  # the inherited one takes 8 KB at a time

    def readinto(self, buffer: Any) -> int:
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _read(self, size: int) -> bytes:
        try:
            data: bytes = self._stream.read(size)
        except tink.TinkError as error:
            raise StoreDamaged(
                f"object {self._key} does not decrypt: it is damaged, or sealed with keys that this store has not; put "
                "it back from a backup",
                detail=str(error),
                key=self._key,
            ) from error
        self._position += len(data)
        return data

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        super().close()


def open_encrypted(root: Path, key_uri: str, keys: Path) -> EncryptedStore:
    """The encrypted store in a folder, made on first use.

    `key_uri` and `keys` name the master key, see `master_key`. Raises `StoreKeyError`, also for plain objects there.
    """
    folder = root / KEYS
    first = not is_encrypted(root)
    if first and root.is_dir() and any(entry.name not in (UNFINISHED, KEYS) for entry in os.scandir(root)):
        raise StoreKeyError(
            f"the objects in {root} are not encrypted: leave CLOUDBAKER_STORE_ENCRYPTION empty, or begin with an empty "
            "folder and bake anew",
            store=str(root),
        )
    master = master_key(key_uri, keys, create=first)
    return EncryptedStore(root, Keyring(folder, master), None if key_uri else keys)


def is_encrypted(root: Path) -> bool:
    """Whether a folder belongs to an encrypted store."""
    return (root / KEYS).is_dir()
