"""Reading blobs back."""

from __future__ import annotations

import hashlib

from cloudbaker.catalog.stores import ObjectStore
from cloudbaker.errors import StoreDamaged, StoreError
from cloudbaker.model import Blob


def open_verified(store: ObjectStore, blob: Blob, *, verify: bool) -> bytes:
    """A blob's bytes, its hash checked. Raises `NotFound`, and `StoreError` where the bytes are not what was stored."""
    with store.open(blob.storage_key) as file:
        try:
            data = file.read()
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(f"can't read blob {blob.storage_key}: look after that disk", detail=str(error)) from error
    if verify and (len(data) != blob.size or hashlib.sha256(data).hexdigest() != blob.sha256):
        raise StoreDamaged(
            f"blob {blob.storage_key} is damaged: put it back from a backup, or bake the asset again",
            key=blob.storage_key,
        )
    return data
