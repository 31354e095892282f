"""Object stores: where the bytes lie. The protocol, and the store that a home's settings name.

folder:/absolute/path     files of one machine (`folder`), sealed per tenant on wish (`encrypted`)
s3://bucket/prefix        an S3 bucket (`s3`)
"""

from __future__ import annotations

from pathlib import Path

from cloudbaker.catalog.stores.base import CHUNK, ObjectInfo, ObjectStore, ObjectWriter, check_key, is_key
from cloudbaker.catalog.stores.folder import KEYS, FolderStore
from cloudbaker.errors import StoreKeyError, UsageError
from cloudbaker.settings import Settings

__all__ = ["CHUNK", "FolderStore", "ObjectInfo", "ObjectStore", "ObjectWriter", "check_key", "is_key", "open_store"]


def open_store(settings: Settings) -> ObjectStore:
    """The store that the settings name. Raises `UsageError` for a URL that names none, `StoreError`."""
    url = settings.objects_url
    scheme, _, rest = url.partition(":")
    if scheme == "folder" and Path(rest).is_absolute():
        return _folder(Path(rest), settings)
    if url.startswith("s3://"):
        # boto3 costs 0.2 s of a command's start: only where it is used.
        from cloudbaker.catalog.stores.s3 import S3Options, S3Store

        return S3Store(url, S3Options(settings.s3_endpoint, settings.s3_encryption, settings.s3_kms_key))
    raise UsageError(
        f"CLOUDBAKER_STORE_URL {url!r} names no store: write folder:/absolute/path or s3://bucket/prefix", url=url
    )


def _folder(root: Path, settings: Settings) -> ObjectStore:
    if settings.store_encryption:
        from cloudbaker.catalog.stores.encrypted import open_encrypted

        return open_encrypted(root, settings.store_key_uri, settings.keys)
    if (root / KEYS).is_dir():
        raise StoreKeyError(
            f"the objects in {root} are encrypted: set CLOUDBAKER_STORE_ENCRYPTION=tink", store=str(root)
        )
    return FolderStore(root)
