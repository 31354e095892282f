"""Envelope encryption's keys: one keyset per tenant, wrapped by a master key that lies elsewhere.

    home/keys/store-master.json        the master keyset, mode 600; or a key in the cloud (``aws-kms://arn…``)
    objects/.keys/<tenant>.json        a tenant's keyset, encrypted under the master: of no use without it

All cryptography, and the format of keysets, is Google Tink's. A keyset holds every key that its tenant ever had: new
objects are sealed with its primary, old ones are read with the one that sealed them.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import tink
from tink import aead, json_proto_keyset_format, secret_key_access, streaming_aead

from cloudbaker.errors import StoreError, StoreKeyError, UsageError

MASTER = "store-master.json"
SHARED = "shared_"
"""Whose keys seal what belongs to no tenant: no tenant can be called that."""

aead.register()
streaming_aead.register()

_Stamp: TypeAlias = tuple[int, int, int]


class Keyring:
    """The tenants' keysets of one store. Threads and processes may share it."""

    def __init__(self, folder: Path, master: aead.Aead) -> None:
        """`folder` holds the wrapped keysets; made on first use."""
        self.folder = folder
        self._master = master
        self._loaded: dict[str, tuple[_Stamp, streaming_aead.StreamingAead]] = {}

    def sealing(self, tenant: str) -> streaming_aead.StreamingAead:
        """What encrypts for a tenant, its keyset made if need be. Raises `StoreKeyError`, `StoreError`."""
        if not self._path(tenant).exists():
            handle = tink.new_keyset_handle(streaming_aead.streaming_aead_key_templates.AES256_GCM_HKDF_1MB)
            self._write(tenant, handle, replace=False)
        return self.opening(tenant)

    def opening(self, tenant: str) -> streaming_aead.StreamingAead:
        """What decrypts a tenant's objects, whichever of its keys sealed them. Raises `StoreKeyError`."""
        path = self._path(tenant)
        try:
            info = path.stat()
        except FileNotFoundError as error:
            raise StoreKeyError(
                f"the keys of tenant {tenant!r} are gone: put {path.name} back into the store's folder .keys",
                tenant=tenant,
            ) from error
        # Looked at each time, a stat: another process may have rotated them since.
        stamp = info.st_mtime_ns, info.st_size, info.st_ino
        if (known := self._loaded.get(tenant)) is None or known[0] != stamp:
            known = self._loaded[tenant] = stamp, self._read(tenant).primitive(streaming_aead.StreamingAead)
        return known[1]

    def rotate(self, tenant: str) -> None:
        """Give a tenant a new primary key. What was sealed under older ones stays readable."""
        with self._locked():
            handle = _with_new_primary(
                self._read(tenant), streaming_aead.streaming_aead_key_templates.AES256_GCM_HKDF_1MB
            )
            self._write(tenant, handle, replace=True)

    def rewrap(self, master: aead.Aead) -> int:
        """Wrap all keysets anew, under another master key; how many. Objects need not be touched."""
        with self._locked():
            handles = {tenant: self._read(tenant) for tenant in self.tenants()}
            self._master = master
            for tenant, handle in handles.items():
                self._write(tenant, handle, replace=True)
        return len(handles)

    def tenants(self) -> list[str]:
        """Who has a keyset here."""
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def _path(self, tenant: str) -> Path:
        return self.folder / f"{tenant or SHARED}.json"

    def _read(self, tenant: str) -> tink.KeysetHandle:
        try:
            text = self._path(tenant).read_text("ascii")
            return json_proto_keyset_format.parse_encrypted(text, self._master, (tenant or SHARED).encode())
        except (OSError, tink.TinkError, ValueError) as error:
            raise StoreKeyError(
                f"the keys of tenant {tenant!r} don't open with this master key: it belongs to another store, can't be "
                f"reached, or {self._path(tenant).name} is damaged; put the right one back",
                detail=str(error),
                tenant=tenant,
            ) from error

    def _write(self, tenant: str, handle: tink.KeysetHandle, *, replace: bool) -> None:
        try:
            name = (tenant or SHARED).encode()
            wrapped = json_proto_keyset_format.serialize_encrypted(handle, self._master, name)
        except tink.TinkError as error:
            raise StoreKeyError(
                "the master key can't wrap a tenant's keys: may this machine use CLOUDBAKER_STORE_KEY_URI?",
                detail=str(error),
            ) from error
        _write(self._path(tenant), wrapped, replace=replace)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def master_key(uri: str, keys: Path, *, create: bool) -> aead.Aead:
    """The master key: what `uri` names, or the file in the folder `keys`, made on first use if it may be.

    Raises `StoreKeyError`, `UsageError` for a URI of a kind that is not known.
    """
    if uri.startswith("aws-kms://"):
        return _aws(uri)
    if uri:
        raise UsageError(
            f"CLOUDBAKER_STORE_KEY_URI {uri!r} is not known: write aws-kms://arn:aws:kms:…, or leave it out"
        )
    path = keys / MASTER
    if not path.exists():
        if not create:
            raise StoreKeyError(
                f"the store is encrypted and its master key is gone: put {path} back from its backup (mode 600)",
                path=str(path),
            )
        _write(path, _plain(tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM)), replace=False)
    return _master_of(path).primitive(aead.Aead)


def rotate_master(keyring: Keyring, keys: Path) -> int:
    """Give the master keyset of a folder a new primary key and wrap all tenants' keysets under it; how many.

    First the new master is on the disk, with the old key still in it, then the keysets: a crash between loses nothing.
    """
    path = keys / MASTER
    handle = _with_new_primary(_master_of(path), aead.aead_key_templates.AES256_GCM)
    _write(path, _plain(handle), replace=True)
    return keyring.rewrap(handle.primitive(aead.Aead))


def _master_of(path: Path) -> tink.KeysetHandle:
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise StoreKeyError(f"others may read the store's master key: chmod 600 {path}", path=str(path))
        return json_proto_keyset_format.parse(path.read_text("ascii"), secret_key_access.TOKEN)
    except StoreKeyError:
        raise
    except (OSError, tink.TinkError, ValueError) as error:
        raise StoreKeyError(
            f"the store's master key {path} can't be read: put it back from its backup",
            detail=str(error),
            path=str(path),
        ) from error


def _aws(uri: str) -> aead.Aead:
    import boto3
    from botocore.exceptions import BotoCoreError
    from tink.integration import awskms

    try:
        client = boto3.session.Session().client("kms", region_name=uri.split(":")[4])
        return _Remote(awskms.new_client(boto3_client=client, key_uri=uri).get_aead(uri), BotoCoreError)
    except (tink.TinkError, BotoCoreError, IndexError) as error:
        raise StoreKeyError(
            f"CLOUDBAKER_STORE_KEY_URI {uri!r} can't be used: name a key's whole ARN, and see that this machine has "
            "credentials",
            detail=str(error),
        ) from error


class _Remote(aead.Aead):  # type: ignore[misc]
    """A key in the cloud. Tink passes on what the service refuses, but not what the network does."""

    def __init__(self, key: aead.Aead, failure: type[Exception]) -> None:
        self._key, self._failure = key, failure

    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes:
        try:
            return bytes(self._key.encrypt(plaintext, associated_data))
        except self._failure as error:
            raise tink.TinkError(str(error)) from error

    def decrypt(self, ciphertext: bytes, associated_data: bytes) -> bytes:
        try:
            return bytes(self._key.decrypt(ciphertext, associated_data))
        except self._failure as error:
            raise tink.TinkError(str(error)) from error


def _plain(handle: tink.KeysetHandle) -> str:
    return str(json_proto_keyset_format.serialize(handle, secret_key_access.TOKEN))


def _with_new_primary(handle: tink.KeysetHandle, template: object) -> tink.KeysetHandle:
    """A keyset with one key more, which is the primary.

    Tink's Python has no manager of keysets; their JSON format is public.
    """
    old = json.loads(_plain(handle))
    while True:
        new = json.loads(_plain(tink.new_keyset_handle(template)))
        if new["primaryKeyId"] not in {key["keyId"] for key in old["key"]}:
            break
    merged = {"primaryKeyId": new["primaryKeyId"], "key": old["key"] + new["key"]}
    return json_proto_keyset_format.parse(json.dumps(merged), secret_key_access.TOKEN)


def _write(path: Path, text: str, *, replace: bool) -> None:
    """Whole, durable and mode 600; without `replace` only if there is none: the first of several rivals wins."""
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
        if replace:
            temporary.replace(path)
        else:
            with suppress(FileExistsError):
                os.link(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StoreError(
            f"can't write the store's keys into {path.parent}: {error.strerror}", detail=str(error), path=str(path)
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
