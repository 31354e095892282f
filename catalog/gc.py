"""Clean-up: what a version does not refer to, no upload is about to register, and nothing explains.

Safe at any moment beside uploads, publishes and other clean-ups. What goes is first given up in a transaction, which
checks once more that nobody refers to it and leaves a tombstone for its storage key; only then are the bytes removed,
and since the key is never used again they may be removed late, twice, or by another process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.journal import audit
from cloudbaker.catalog.records import GcItem, GcReport
from cloudbaker.catalog.store import ObjectInfo, ObjectStore, is_key
from cloudbaker.model import RunState

_BATCH = 500
"""Rows or keys of one transaction: the writers behind it wait some milliseconds."""

ABANDONED = {
    "code": "CB0001",
    "message": "the run ended without saying how: its process was killed; start it again",
    "retryable": True,
}
"""The error of a run that clean-up found running with no sign of life."""


def gc(core: Core, store: ObjectStore, now: datetime, *, plan: bool, grace: timedelta) -> GcReport:
    """See `cloudbaker.catalog.core.Catalog.gc`."""
    before = now - grace
    items = _pending(core)
    items += _expired(core, now, plan=plan)
    items += _orphans(core, store, before, plan=plan, now=now)
    if not plan:
        _remove(core, store)
    items += _unfinished(store, before, plan=plan)
    items += _abandoned(core, before, now, plan=plan)
    items += _missing(core, store)
    if items and not plan:
        counts = Counter(item.kind for item in items)
        with core.write() as connection:
            audit(connection, now, who="cloudbaker", action="gc", subject="store", detail=dict(counts))
    return GcReport(plan, tuple(items))


def _pending(core: Core) -> list[GcItem]:
    """Given up by an earlier clean-up that died before it had removed them."""
    d = s.deletions.c
    with core.read() as connection:
        rows = connection.execute(sa.select(d.storage_key, d.created_at).where(~d.done).order_by(d.storage_key))
        return [GcItem("pending-deletion", row.storage_key, 0, row.created_at) for row in rows]


def _expired(core: Core, now: datetime, *, plan: bool) -> list[GcItem]:
    """Blobs that no version refers to, their lease over. With `plan` false they are given up."""
    b = s.blobs.c
    columns = (b.storage_key, b.size_bytes, b.state, b.lease_until)
    query = sa.select(*columns).where(b.refcount == 0, b.lease_until < now).order_by(b.lease_until)
    items: list[GcItem] = []
    if plan:
        with core.read() as connection:
            return [_blob_item(*row) for row in connection.execute(query)]
    while True:
        with core.write() as connection:
            rows = connection.execute(query.limit(_BATCH)).all()
            if not rows:
                return items
            some = [_blob_item(*row) for row in rows]
            keys = [item.key for item in some]
            connection.execute(
                sa.insert(s.deletions),
                [{"created_at": now, "storage_key": item.key, "why": item.kind} for item in some],
            )
            connection.execute(sa.delete(s.blobs).where(b.storage_key.in_(keys)))
            items += some


def _blob_item(key: str, size: int, state: str, lease_until: datetime) -> GcItem:
    if state == "live":
        return GcItem("unreferenced", key, size, lease_until)
    return GcItem("expired-upload", key, 0, lease_until)  # whether its bytes are there, nobody knows


def _orphans(core: Core, store: ObjectStore, before: datetime, *, plan: bool, now: datetime) -> list[GcItem]:
    """Objects that no blob has, old enough. A claim has its row before its object, so an upload is never among them."""
    items: list[GcItem] = []
    for objects in _batches(store.list()):
        foreign = [info for info in objects if not is_key(info.key)]
        items += [GcItem("foreign", info.key, info.size, info.modified) for info in foreign]
        old = {info.key: info for info in objects if info.modified <= before and is_key(info.key)}
        with core.read() as connection:
            for table, condition in ((s.blobs, sa.true()), (s.deletions, ~s.deletions.c.done)):
                known = sa.select(table.c.storage_key).where(table.c.storage_key.in_(list(old)), condition)
                for key in connection.execute(known).scalars():
                    old.pop(key, None)
        if old and not plan:
            with core.write() as connection:
                b = s.blobs.c.storage_key
                for key in connection.execute(sa.select(b).where(b.in_(list(old)))).scalars():
                    old.pop(key)
                # A tombstone may be there: an upload that slept through its lease put its object after we removed it.
                row = insert(s.deletions).on_conflict_do_update(index_elements=["storage_key"], set_={"done": False})
                if old:
                    connection.execute(row, [{"created_at": now, "storage_key": key, "why": "orphan"} for key in old])
        items += [GcItem("orphan", info.key, info.size, info.modified) for info in old.values()]
    return items


def _remove(core: Core, store: ObjectStore) -> None:
    """Remove the bytes of everything that was given up."""
    d = s.deletions.c
    while True:
        with core.read() as connection:
            keys = connection.execute(sa.select(d.storage_key).where(~d.done).limit(_BATCH)).scalars().all()
        if not keys:
            return
        for key in keys:
            store.delete(key)
        with core.write() as connection:
            connection.execute(sa.update(s.deletions).where(d.storage_key.in_(keys)).values(done=True))


def _unfinished(store: ObjectStore, before: datetime, *, plan: bool) -> list[GcItem]:
    """Files of uploads whose process died; one that is still written to is young."""
    items = []
    for info in store.unfinished():
        if info.modified <= before and (plan or store.drop_unfinished(info.key)):
            items.append(GcItem("unfinished", info.key, info.size, info.modified))
    return items


def _abandoned(core: Core, before: datetime, now: datetime, *, plan: bool) -> list[GcItem]:
    """Runs that say they are running and have done nothing since. With `plan` false they are called failed."""
    rs, later, st = s.run_states.c, s.run_states.alias("later"), s.steps.c
    query = sa.select(rs.run_id, rs.created_at).where(
        rs.state == RunState.RUNNING.value,
        rs.created_at <= before,
        ~sa.exists().where(later.c.run_id == rs.run_id, later.c.seq > rs.seq),
        ~sa.exists().where(st.run_id == rs.run_id, st.created_at > before),
    )
    with core.read() if plan else core.write() as connection:
        rows = connection.execute(query.order_by(rs.seq)).all()
        if rows and not plan:
            failed = {"created_at": now, "state": RunState.FAILED.value, "error": ABANDONED}
            connection.execute(sa.insert(s.run_states), [{**failed, "run_id": row.run_id} for row in rows])
    return [GcItem("abandoned-run", row.run_id, 0, row.created_at) for row in rows]


def _missing(core: Core, store: ObjectStore) -> list[GcItem]:
    """Live blobs whose bytes are gone. Looked at twice: another clean-up may have given one up meanwhile."""
    b = s.blobs.c
    query = sa.select(b.storage_key, b.size_bytes, b.lease_until).where(b.state == "live").order_by(b.storage_key)
    items: list[GcItem] = []
    last = ""
    while True:
        with core.read() as connection:
            rows = connection.execute(query.where(b.storage_key > last).limit(_BATCH)).all()
        if not rows:
            break
        last = rows[-1].storage_key
        items += [GcItem("missing", *row[:2], None) for row in rows if store.stat(row.storage_key) is None]
    with core.read() as connection:
        still = set(connection.execute(query.where(b.storage_key.in_([item.key for item in items]))).scalars())
    return [item for item in items if item.key in still]


def _batches(objects: Iterator[ObjectInfo]) -> Iterator[list[ObjectInfo]]:
    while batch := list(islice(objects, _BATCH)):
        yield batch
