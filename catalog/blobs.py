"""Reading blobs back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.stores import ObjectStore
from cloudbaker.errors import NotFound, StoreDamaged, StoreError
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


@contextmanager
def explained(core: Core, blob: Blob) -> Iterator[None]:
    """Where bytes are not there because they were given up, the `NotFound` says so, and what to do."""
    try:
        yield
    except NotFound as error:
        d = s.deletions.c
        with core.read() as connection:
            found = connection.execute(sa.select(d.created_at).where(d.storage_key == blob.storage_key)).scalar()
        if found is None:
            raise
        raise NotFound(
            f"the bytes of {blob.storage_key} were given up on {found:%Y-%m-%d}, when no version that is not deleted "
            "referred to them: choose another version, or bake the asset again from a copy of your own",
            key=blob.storage_key,
            deleted_at=found.isoformat(),
        ) from error
