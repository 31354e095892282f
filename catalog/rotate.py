"""New keys for an encrypted object store, and a line in the audit log for each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.engine import Connection

from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.journal import audit
from cloudbaker.catalog.stores import ObjectStore
from cloudbaker.errors import NotFound, UsageError


def rotate_store_keys(
    core: Core, store: ObjectStore, now: datetime, tenants: Sequence[str], *, master: bool, by: str
) -> list[str]:
    """See `cloudbaker.catalog.core.Catalog.rotate_store_keys`."""
    from cloudbaker.catalog.stores.encrypted import EncryptedStore

    if not isinstance(store, EncryptedStore):
        raise UsageError(f"the objects in {store.url} are not encrypted by Cloud Baker: there is no key to rotate")
    known = store.keyring.tenants()
    if unknown := sorted(set(tenants) - set(known)):
        raise NotFound(f"tenant {unknown[0]!r} has no keys: it has stored nothing", tenant=unknown[0])
    chosen = list(tenants) or known
    store.rotate(chosen, master=master)
    for subject in [None] if master else chosen:

        def write_down(connection: Connection, subject: str | None = subject) -> None:
            what = subject or "store master key"
            audit(connection, now, tenant=subject, who=by, action="rotate-keys", subject=what)

        core.transact(write_down)
    return chosen
