"""Clean-up: what retention lets go, what no version refers to, no upload is about to register, and nothing explains.

Safe at any moment beside uploads, publishes and other clean-ups. What goes is first given up in a transaction, which
checks once more that nobody refers to it and leaves a tombstone for its storage key; only then are the bytes removed,
and since the key is never used again they may be removed late, twice, or by another process. So a store that fails, at
whichever call, costs nothing but time: what is given up stays on the list, and the next clean-up finishes it.

The plan is not a guess: it is made of the same queries in one snapshot, and lists what clean-up then does.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.journal import audit
from cloudbaker.catalog.records import GcFailure, GcItem, GcReport
from cloudbaker.catalog.retention import chunks, delete_expired, expired, given_up
from cloudbaker.catalog.stores import ObjectInfo, ObjectStore, is_key
from cloudbaker.catalog.upsert import insert
from cloudbaker.errors import CloudBakerError
from cloudbaker.model import RunState

_BATCH = 500
"""Rows or keys of one transaction: the writers behind it wait some milliseconds."""
_THREADS = 8
"""Objects removed at once: a removal from S3 is a round trip, and 3,500 a second are allowed per prefix."""

ABANDONED = {
    "code": "CB0001",
    "message": "the run ended without saying how: its process was killed; start it again",
    "retryable": True,
}
"""The error of a run that clean-up found running with no sign of life."""

Progress = Callable[[str, int], None]
"""Is told what clean-up is at, and how many things of that it has seen."""


def gc(
    core: Core, store: ObjectStore, now: datetime, *, plan: bool, grace: timedelta, progress: Progress | None = None
) -> GcReport:
    """See `cloudbaker.catalog.core.Catalog.gc`."""
    return _Collector(core, store, now, now - grace, plan, progress or (lambda _what, _count: None)).collect()


class _Collector:
    """One clean-up, or with `plan` the list of what it would do."""

    def __init__(
        self, core: Core, store: ObjectStore, now: datetime, before: datetime, plan: bool, progress: Progress
    ) -> None:
        self.core, self.store, self.now, self.before, self.plan, self.progress = (
            core,
            store,
            now,
            before,
            plan,
            progress,
        )
        self.failed: list[GcFailure] = []
        self.seen: array[int] | None = array("Q")
        """A hash of each object's key, 8 bytes instead of 150: the list of ten million objects fits into 80 MB. None
        where the list could not be read to its end."""

    def collect(self) -> GcReport:
        items = self._pending()
        if self.plan:
            items += self._planned()
        else:
            items += self._expired_versions()
            items += self._unreferenced()
        items += self._orphans()
        if not self.plan:
            self._remove()
        items += self._unfinished()
        items += self._abandoned()
        items += self._missing()
        return GcReport(self.plan, tuple(items), tuple(self.failed))

    # ---- what the catalog knows

    def _pending(self) -> list[GcItem]:
        """Given up by an earlier clean-up that died, or whose store failed, before it had removed them."""
        d = s.deletions.c
        with self.core.read() as connection:
            rows = connection.execute(sa.select(d.storage_key, d.created_at).where(~d.done).order_by(d.storage_key))
            return [GcItem("pending-deletion", row.storage_key, 0, row.created_at) for row in rows]

    def _planned(self) -> list[GcItem]:
        """What the two steps below would do, the second after the first."""
        b = s.blobs.c
        columns = (b.storage_key, b.size_bytes, b.state, b.lease_until)
        with self.core.read() as connection:
            versions = expired(connection, self.now)
            items = [GcItem("expired-version", f"{v.asset}@{v.number}", 0, v.created_at) for v in versions]
            items += [_blob_item(*row) for row in connection.execute(self._unclaimed(*columns))]
            counts = given_up(connection, versions)
            for some in chunks(sorted(counts)):
                chosen = sa.select(*columns, b.refcount).where(b.storage_key.in_(some), b.lease_until < self.now)
                for *row, refcount in connection.execute(chosen.order_by(b.storage_key)):
                    if refcount == counts[row[0]]:
                        items.append(_blob_item(*row))
        return items

    def _expired_versions(self) -> list[GcItem]:
        """Versions whose tenant's retention lets them go."""
        with self.core.read() as connection:
            versions = expired(connection, self.now)
        items = []
        for version in delete_expired(self.core, versions, self.now):
            items.append(GcItem("expired-version", f"{version.asset}@{version.number}", 0, version.created_at))
            self.progress("versions deleted", len(items))
        return items

    def _unclaimed(self, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        """Blobs that no version refers to, their lease over."""
        b = s.blobs.c
        return sa.select(*columns).where(b.refcount == 0, b.lease_until < self.now).order_by(b.storage_key)

    def _unreferenced(self) -> list[GcItem]:
        with self.core.read() as connection:
            b = s.blobs.c
            due = sa.select(b.tenant).where(b.refcount == 0, b.lease_until < self.now)
            tenants = connection.execute(due.distinct()).scalars().all()
        items: list[GcItem] = []
        for tenant in sorted(tenants):
            while some := self.core.transact(partial(self._give_up, tenant=tenant)):
                items += some
                self.progress("blobs given up", len(items))
        return items

    def _give_up(self, connection: Connection, tenant: str) -> list[GcItem]:
        """Some of a tenant's blobs: from here on nobody can refer to them any more."""
        b, t = s.blobs.c, s.tenants.c
        query = self._unclaimed(b.storage_key, b.size_bytes, b.state, b.lease_until).where(b.tenant == tenant)
        # Locked, unless somebody is just claiming one or referring to it: then it is not for us.
        rows = connection.execute(query.limit(_BATCH).with_for_update(skip_locked=True)).all()
        if not rows:
            return []
        items = [_blob_item(*row) for row in rows]
        connection.execute(
            sa.insert(s.deletions),
            [{"created_at": self.now, "storage_key": item.key, "why": item.kind} for item in items],
        )
        connection.execute(sa.delete(s.blobs).where(b.storage_key.in_([item.key for item in items])))
        size = sum(row.size_bytes for row in rows)
        connection.execute(
            sa.update(s.tenants).where(t.tenant == tenant).values(reserved_bytes=t.reserved_bytes - size)
        )
        self._audit(connection, {tenant: items})
        return items

    def _abandoned(self) -> list[GcItem]:
        """Runs that say they are running and have done nothing since: they are called failed."""
        o, st = s.open_runs.c, s.steps.c
        query = sa.select(o.run_id, o.tenant, o.since).where(
            o.since <= self.before, ~sa.exists().where(st.run_id == o.run_id, st.created_at > self.before)
        )
        with self.core.read() as connection:
            rows = connection.execute(query.order_by(o.tenant, o.since, o.run_id)).all()
        found: dict[str, list[GcItem]] = defaultdict(list)
        for row in rows:
            found[row.tenant].append(GcItem("abandoned-run", row.run_id, 0, row.since))
        items: list[GcItem] = []
        for tenant, of_tenant in found.items():
            for some in chunks(of_tenant, _BATCH):
                items += some if self.plan else self.core.transact(self._end_runs(tenant, some))
        return items

    def _end_runs(self, tenant: str, items: list[GcItem]) -> Callable[[Connection], list[GcItem]]:
        def work(connection: Connection) -> list[GcItem]:
            o = s.open_runs.c
            gone = sa.delete(s.open_runs).where(o.run_id.in_([item.key for item in items])).returning(o.run_id)
            still = set(connection.execute(gone).scalars())  # without those that ended by themselves meanwhile
            ended = [item for item in items if item.key in still]
            if ended:
                failed = {"created_at": self.now, "state": RunState.FAILED.value, "error": ABANDONED}
                connection.execute(sa.insert(s.run_states), [{**failed, "run_id": item.key} for item in ended])
                self._audit(connection, {tenant: ended})
            return ended

        return work

    # ---- what the store holds

    def _orphans(self) -> list[GcItem]:
        """Objects that no blob has, old enough. A claim has its row before its object: no upload is ever among them."""
        items: list[GcItem] = []
        listed = 0
        for objects in self._listed():
            listed += len(objects)
            self.progress("objects looked at", listed)
            foreign = [info for info in objects if not is_key(info.key)]
            items += [GcItem("foreign", info.key, info.size, info.modified) for info in foreign]
            old = {info.key: info for info in objects if info.modified <= self.before and is_key(info.key)}
            with self.core.read() as connection:
                for table, condition in ((s.blobs, sa.true()), (s.deletions, ~s.deletions.c.done)):
                    known = sa.select(table.c.storage_key).where(table.c.storage_key.in_(list(old)), condition)
                    for key in connection.execute(known).scalars():
                        old.pop(key, None)
            orphans = [GcItem("orphan", info.key, info.size, info.modified) for info in old.values()]
            items += orphans if self.plan or not orphans else self.core.transact(self._bury(orphans))
        return items

    def _listed(self) -> Iterator[list[ObjectInfo]]:
        """The store's objects, some at a time; as far as it can be read."""
        listing = self.store.list()
        while True:
            batch: list[ObjectInfo] = []
            with self._failing("list", ""):
                batch.extend(islice(listing, _BATCH))
            if self.failed:
                self.seen = None
            if self.seen is not None:
                self.seen.extend(_hash(info.key) for info in batch)
            if not batch:
                return
            yield batch

    def _bury(self, orphans: list[GcItem]) -> Callable[[Connection], list[GcItem]]:
        def work(connection: Connection) -> list[GcItem]:
            b, t = s.blobs.c.storage_key, s.tenants.c.tenant
            # Who claims a key holds its tenant's row, as we do from here on: the same key is never taken and buried.
            owners = {owner for item in orphans if (owner := _owner(item.key))}
            known = set(connection.execute(sa.select(t).where(t.in_(owners)).order_by(t).with_for_update()).scalars())
            claimed = set(connection.execute(sa.select(b).where(b.in_([item.key for item in orphans]))).scalars())
            found = sorted((item for item in orphans if item.key not in claimed), key=lambda item: item.key)
            if found:
                # A tombstone may be there: an upload that slept through its lease put its object after we removed it.
                row = insert(connection, s.deletions).on_conflict_do_update(
                    index_elements=["storage_key"], set_={"done": False}
                )
                rows = [{"created_at": self.now, "storage_key": item.key, "why": "orphan"} for item in found]
                connection.execute(row, rows)
                by_owner: dict[str | None, list[GcItem]] = defaultdict(list)
                for item in found:
                    owner = _owner(item.key)
                    by_owner[owner if owner in known else None].append(item)
                self._audit(connection, by_owner)
            return found

        return work

    def _remove(self) -> None:
        """Remove the bytes of everything that was given up; what can't be removed is left to the next clean-up."""
        d = s.deletions.c
        last, removed = "", 0
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="gc") as pool:
            while True:
                due = sa.select(d.storage_key).where(~d.done, d.storage_key > last).order_by(d.storage_key)
                with self.core.read() as connection:
                    keys = connection.execute(due.limit(_BATCH)).scalars().all()
                if not keys:
                    return
                last = keys[-1]
                gone = [key for key, ok in zip(keys, pool.map(self._removed, keys), strict=True) if ok]
                if not gone:  # this is no matter of a single object
                    return
                with self.core.write() as connection:
                    connection.execute(sa.update(s.deletions).where(d.storage_key.in_(gone)).values(done=True))
                removed += len(gone)
                self.progress("objects removed", removed)

    def _removed(self, key: str) -> bool:
        gone = False
        with self._failing("delete", key):
            self.store.delete(key)
            gone = True
        return gone

    def _unfinished(self) -> list[GcItem]:
        """Files of uploads whose process died; one that is still written to is young."""
        items: list[GcItem] = []
        with self._failing("list unfinished uploads of", ""):
            for info in self.store.unfinished():
                if info.modified > self.before:
                    continue
                with self._failing("drop", info.key):
                    if self.plan or self.store.drop_unfinished(info.key):
                        items.append(GcItem("unfinished", info.key, info.size, info.modified))
        if items and not self.plan:
            with self.core.write() as connection:
                self._audit(connection, {None: items})
        return items

    def _missing(self) -> list[GcItem]:
        """Live blobs whose bytes are gone. Looked at twice: another clean-up may have given one up meanwhile."""
        if self.seen is None:
            return []
        import numpy as np

        listed = np.sort(np.frombuffer(self.seen, dtype=np.uint64))
        b = s.blobs.c
        query = sa.select(b.storage_key, b.size_bytes).where(b.state == "live").order_by(b.storage_key)
        items: list[GcItem] = []
        last = ""
        while True:
            with self.core.read() as connection:
                rows = connection.execute(query.where(b.storage_key > last).limit(_BATCH)).all()
            if not rows:
                break
            last = rows[-1].storage_key
            hashes = np.array([_hash(row.storage_key) for row in rows], dtype=np.uint64)
            for row, there in zip(rows, np.isin(hashes, listed, kind=None), strict=True):
                if there:
                    continue
                with self._failing("look for", row.storage_key):
                    if self.store.stat(row.storage_key) is None:
                        items.append(GcItem("missing", row.storage_key, row.size_bytes, None))
        still: set[str] = set()
        for some in chunks([item.key for item in items]):
            with self.core.read() as connection:
                still.update(connection.execute(query.where(b.storage_key.in_(some))).scalars())
        return [item for item in items if item.key in still]

    # ---- for all

    def _audit(self, connection: Connection, items: Mapping[str | None, list[GcItem]]) -> None:
        """One row per tenant and transaction, that says what this one took; tombstones name each key."""
        for tenant, of_tenant in sorted(items.items(), key=lambda pair: pair[0] or ""):
            detail: dict[str, int] = dict(sorted(Counter(item.kind for item in of_tenant).items()))
            detail["bytes"] = sum(item.size for item in of_tenant)
            audit(
                connection,
                self.now,
                tenant=tenant,
                who="cloudbaker",
                action="gc",
                subject=tenant or "store",
                why="clean-up",
                detail=detail,
            )

    @contextmanager
    def _failing(self, verb: str, key: str) -> Iterator[None]:
        """A store that fails here is told in the report and does not end the clean-up."""
        try:
            yield
        except CloudBakerError as error:
            self.failed.append(GcFailure(verb, key, str(error)))


def _blob_item(key: str, size: int, state: str, lease_until: datetime) -> GcItem:
    if state == "live":
        return GcItem("unreferenced", key, size, lease_until)
    return GcItem("expired-upload", key, 0, lease_until)  # whether its bytes are there, nobody knows


def _owner(key: str) -> str | None:
    """The tenant that a key is made for: ``{zone}/{tenant}/…``."""
    parts = key.split("/")
    return parts[1] if len(parts) > 2 else None


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")
