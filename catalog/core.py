"""The catalog's front: one class that tasks and people call. What it does is done in the modules beside it.

Importing this costs SQLAlchemy (0.1 s on a quiet machine) and no more: Alembic, DuckDB, Arrow and Delta come when they
are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from cloudbaker.catalog import attempts as _attempts
from cloudbaker.catalog import channels as _channels
from cloudbaker.catalog import holds as _holds
from cloudbaker.catalog import quotas as _quotas
from cloudbaker.catalog import retention as _retention
from cloudbaker.catalog import runs as _runs
from cloudbaker.catalog import usage as _usage
from cloudbaker.catalog import versions as _versions
from cloudbaker.catalog.blobs import explained, open_verified
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.pages import Page
from cloudbaker.catalog.publish import publish as _publish
from cloudbaker.catalog.records import (
    AssetInfo,
    Cost,
    ExportReport,
    GcReport,
    Hold,
    LatestVersion,
    MaintenanceReport,
    Metered,
    PointerMove,
    ProjectInfo,
    Published,
    QuarantineEntry,
    Quota,
    RepairReport,
    Retention,
    RunInfo,
    TableStatus,
    UploadKey,
    UsageRow,
)
from cloudbaker.catalog.stores import CHUNK, ObjectStore, open_store
from cloudbaker.catalog.times import Clock, utc_now
from cloudbaker.catalog.uploads import Upload, Zone
from cloudbaker.catalog.usage import By, Direction
from cloudbaker.errors import SourceUnreadable
from cloudbaker.model import AssetRef, Blob, Finding, Publication, Run, RunState, Step, Version
from cloudbaker.settings import Settings

if TYPE_CHECKING:
    import duckdb

    from cloudbaker.catalog.audit import AuditReport, AuditRow, Head
    from cloudbaker.catalog.delivery import Publisher
    from cloudbaker.catalog.dependencies import Need
    from cloudbaker.catalog.diff import VersionDiff
    from cloudbaker.catalog.events import Event
    from cloudbaker.catalog.pricing import Prices
    from cloudbaker.catalog.published import Tables
    from cloudbaker.catalog.search import Sort
    from cloudbaker.catalog.show import AssetView
    from cloudbaker.catalog.sinks import Delivery, Retries, Sink, SinkStatus
    from cloudbaker.catalog.versions import VersionSort

__all__ = ["GRACE", "LEASE", "Catalog", "UploadKey"]

LEASE = timedelta(hours=24)
"""How long an upload that no version refers to is safe from clean-up; an inbox blob lives this long."""
GRACE = timedelta(hours=24)
"""Age at which clean-up takes files that nothing explains, and calls a silent run abandoned."""
RETENTION = timedelta(hours=24)
"""How long files of published tables stay that compaction has replaced."""


class Catalog:
    """Versions, hashes, runs and usage of one home. Threads and processes may use it at the same time.

    Every method that writes is one transaction: it happens whole or not at all, and has happened when it returns.
    """

    def __init__(
        self,
        core: Core,
        store: ObjectStore,
        published: str | Path,
        *,
        endpoint: str = "",
        pricing: Path | None = None,
        lease: timedelta = LEASE,
        clock: Clock = utc_now,
    ) -> None:
        """Use `open`."""
        self.core = core
        self.store = store
        self._published = published
        self._endpoint = endpoint
        self._pricing = pricing
        self._lease = lease
        self._clock = clock

    @classmethod
    def open(cls, settings: Settings, *, lease: timedelta = LEASE, clock: Clock = utc_now) -> Catalog:
        """The catalog of an installation, created (folders mode 700) or migrated if need be.

        Raises `CatalogTooNew` if a newer release has written it, `CatalogError` or `StoreError` if it can't be opened.
        """
        with suppress(OSError):  # what comes of it is told by the parts themselves, with the remedy
            settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        core = Core(settings.database_url)
        core.open()
        store = open_store(settings)
        return cls(
            core,
            store,
            settings.published,
            endpoint=settings.s3_endpoint,
            pricing=settings.pricing,
            lease=lease,
            clock=clock,
        )

    def close(self) -> None:
        """Close its database connections."""
        self.core.close()

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- blobs

    def upload(self, tenant: str, zone: Zone, *, key_hint: UploadKey | None = None) -> Upload:
        """A context manager with ``write(bytes)``; after a successful end its ``blob`` is stored.

        Bytes that this tenant already has in this zone are not stored twice: the blob that is there comes back, under
        its old key. Zone ``public`` needs a `key_hint`, from which the key ``public/{tenant}/{run}/{role}/
        {stem}.{hash12}{suffix}`` is made; in ``vault`` and ``inbox`` each upload has a key of its own. Clean-up leaves
        the blob alone for the lease, even if no version ever refers to it.
        """
        return Upload(self.core, self.store, self._clock, self._lease, tenant, zone, key_hint)

    def put_bytes(
        self, data: bytes | bytearray | memoryview, tenant: str, zone: Zone, *, key_hint: UploadKey | None = None
    ) -> Blob:
        """`upload` of bytes in memory."""
        with self.upload(tenant, zone, key_hint=key_hint) as upload:
            upload.write(data)
        return upload.blob

    def put_file(self, path: Path, tenant: str, zone: Zone, *, key_hint: UploadKey | None = None) -> Blob:
        """`upload` of a file, 1 MB at a time. Raises `SourceUnreadable`."""
        try:
            file = path.open("rb")
        except OSError as error:
            raise SourceUnreadable(f"can't read {path.name}: {error.strerror}", detail=str(error)) from error
        with file, self.upload(tenant, zone, key_hint=key_hint) as upload:
            while data := _read(file, path):
                upload.write(data)
        return upload.blob

    def open_blob(self, blob: Blob) -> BinaryIO:
        """The blob's bytes as a file, not verified. Raises `NotFound`, `StoreError`."""
        with explained(self.core, blob):
            return self.store.open(blob.storage_key)

    def blob_path(self, blob: Blob) -> Path | None:
        """The file that the blob is, for tools that want a path; read only. None where the store has no files."""
        return self.store.path(blob.storage_key)

    def read_blob(self, blob: Blob, *, verify: bool = True) -> bytes:
        """All of the blob's bytes, its hash checked. Raises `NotFound`, `StoreError` for damage."""
        with explained(self.core, blob):
            return open_verified(self.store, blob, verify=verify)

    def rotate_store_keys(self, tenants: Sequence[str] = (), *, master: bool = False, by: str = "") -> list[str]:
        """New keys for an encrypted store, of these tenants or all; or, with `master`, the key that wraps those.

        What was stored stays as it is, and readable. Whose keys were touched comes back. Raises `UsageError` for a
        store that is not encrypted, `NotFound` for a tenant without keys, `StoreKeyError`.
        """
        from cloudbaker.catalog.rotate import rotate_store_keys

        return rotate_store_keys(self.core, self.store, self._clock(), tenants, master=master, by=by)

    # ---- runs

    def start_run(self, run: Run) -> None:
        """Write down that a run begins. Saying it again is harmless; a run that had ended is running again."""
        _runs.start_run(self.core, run, self._clock())

    def record_step(self, step: Step) -> None:
        """Write down a step that ended, its figures, and the seconds it used. Raises `NotFound` for an unknown run."""
        _runs.record_step(self.core, step, self._clock())

    def finish_run(
        self,
        run_id: str,
        state: RunState,
        *,
        version: int | None = None,
        error: dict[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        findings: Sequence[Finding] = (),
    ) -> None:
        """Write down how a run ended. Saying it again is harmless.

        `findings` are those of a run that published nothing: `publish` has written down the others, and they are not
        written twice. Raises `NotFound` for an unknown run.
        """
        now = self._clock()
        _runs.finish_run(
            self.core, run_id, state, now, version=version, error=error, metrics=metrics or {}, findings=findings
        )

    def get_run(self, run_id: str) -> RunInfo:
        """A run with its steps. Raises `NotFound`."""
        return _runs.get_run(self.core, run_id)

    # ---- versions and channels

    def publish(self, publication: Publication) -> Published:
        """Make a version visible, in one transaction with all that belongs to it.

        Blob references are counted and checked, the version numbered, artifacts, findings, losses, figures, usage and
        provenance written down, the channel moved, audit log and outbox filled.

        If the asset's newest version has this bake key already, no version is made and ``created`` is false; the
        channel points at that version afterwards. A run publishes once: the same run again (a retry after a crash)
        changes nothing and gets the answer that it got the first time.

        Raises `Conflict` if a blob is gone (upload again), `IdempotencyMismatch` if the run has published something
        else, `QuotaExceeded`.
        """
        number, created = _publish(self.core, publication, self._clock())
        return Published(self.get_version(publication.asset, number), created)

    def find_version(self, asset: AssetRef, bake_key: str) -> Version | None:
        """The newest version of the asset that was baked under this key."""
        return _versions.find_version(self.core, asset, bake_key)

    def get_version(self, asset: AssetRef, which: int | str = "live") -> Version:
        """A version by number or by channel. Raises `NotFound`."""
        return _versions.get_version(self.core, asset, which)

    def versions(
        self,
        asset: AssetRef,
        *,
        sort: VersionSort = "newest",
        limit: int = 100,
        cursor: str | None = None,
        deleted: bool = True,
    ) -> Page[Version]:
        """A page of the asset's versions; `cursor` is the ``next`` of the page before.

        Deleted versions have a ``deleted_at``, and are left out if `deleted` is false. Raises `UsageError` for a cursor
        of another question.
        """
        return _versions.versions(self.core, asset, sort=sort, limit=limit, cursor=cursor, deleted=deleted)

    def assets(
        self,
        tenant: str | None = None,
        *,
        project: str | None = None,
        sort: Sort = "name",
        limit: int = 1000,
        cursor: str | None = None,
    ) -> Page[AssetInfo]:
        """A page of assets, of one tenant or all; `cursor` is the ``next`` of the page before. See `search`."""
        from cloudbaker.catalog.search import search

        return search(self.core, tenant=tenant, project=project, deleted=True, sort=sort, limit=limit, cursor=cursor)

    def search(
        self,
        text: str = "",
        *,
        tags: Sequence[str] = (),
        tenant: str | None = None,
        project: str | None = None,
        recipe: str | None = None,
        created_by: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        deleted: bool = False,
        sort: Sort = "name",
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[AssetInfo]:
        """A page of the assets for which everything holds that is asked.

        `text`: words, each of which is somewhere in the name (case, accents and width do not matter). `tags`: it has
        all of them. `recipe`, `created_by`, `since`, `until`: of its newest version. Assets whose versions are all
        deleted are left out, unless `deleted`. `sort`: ``name``, ``-name``, ``newest`` or ``oldest`` version first.
        Raises `UsageError`, and `NameRefused` for a tag that can be none.
        """
        from cloudbaker.catalog.search import search

        return search(
            self.core,
            text,
            tags=tags,
            tenant=tenant,
            project=project,
            recipe=recipe,
            created_by=created_by,
            since=since,
            until=until,
            deleted=deleted,
            sort=sort,
            limit=limit,
            cursor=cursor,
        )

    def projects(self, tenant: str | None = None) -> Page[ProjectInfo]:
        """The projects of a tenant, or of all, with the number of their assets."""
        return _versions.projects(self.core, tenant)

    def show(self, asset: AssetRef, *, versions: int = 10, dependents: int = 100) -> AssetView:
        """An asset with channels, tags, holds, its newest versions and dependencies both ways. Raises `NotFound`."""
        from cloudbaker.catalog.show import show

        return show(self.core, asset, self._clock(), versions=versions, dependents=dependents)

    def diff(self, asset: AssetRef, before: int | str, after: int | str = "live") -> VersionDiff:
        """What changed between two versions, each given by number or channel. Raises `NotFound`."""
        from cloudbaker.catalog.diff import diff

        return diff(self.get_version(asset, before), self.get_version(asset, after))

    def tags(self, asset: AssetRef) -> tuple[str, ...]:
        """The asset's tags."""
        from cloudbaker.catalog.tags import tags

        return tags(self.core, asset)

    def tag(self, asset: AssetRef, tags: Iterable[str], by: str, why: str = "") -> tuple[str, ...]:
        """Put tags on an asset; those it has then. Raises `NotFound`, `NameRefused`, `UsageError` beyond 64."""
        from cloudbaker.catalog.tags import tag

        return tag(self.core, asset, tags, self._clock(), add=True, by=by, why=why)

    def untag(self, asset: AssetRef, tags: Iterable[str], by: str, why: str = "") -> tuple[str, ...]:
        """Take tags off an asset; those it has then. Raises `NotFound`."""
        from cloudbaker.catalog.tags import tag

        return tag(self.core, asset, tags, self._clock(), add=False, by=by, why=why)

    def depends_on(self, asset: AssetRef, which: int | str = "live", *, transitive: bool = False) -> Page[Need]:
        """What a version needs of other assets; with `transitive` also what those need. Raises `NotFound`."""
        from cloudbaker.catalog.dependencies import depends_on

        return depends_on(self.core, asset, self.get_version(asset, which).number, transitive=transitive)

    def dependents(
        self, asset: AssetRef, number: int | None = None, *, transitive: bool = False, old: bool = False
    ) -> Page[Need]:
        """What needs an asset, or the version `number` of it; with `transitive` also what needs that, and so on.

        Only newest versions and those that a channel points at, unless `old`; never deleted ones.
        """
        from cloudbaker.catalog.dependencies import dependents

        return dependents(self.core, asset, number, transitive=transitive, old=old)

    def latest_versions(self, where: str | None = None) -> list[LatestVersion]:
        """The newest version of each asset, for which the SQL condition `where` holds.

        The condition is over the view ``latest_versions`` (`docs/catalog.md`); it can read and write nothing else.
        Raises `UsageError` with DuckDB's message.
        """
        only = None
        if where is not None:
            from cloudbaker.catalog.views import matching_assets

            only = matching_assets(self.core, self.published, where)
        return _versions.latest_versions(self.core, only)

    def channels(self, asset: AssetRef) -> dict[str, int]:
        """The asset's channels and the number that each points at."""
        return _channels.channels(self.core, asset)

    def channel_moves(self, asset: AssetRef) -> list[PointerMove]:
        """Every move of the asset's channels, newest first."""
        return _channels.moves(self.core, asset)

    def move_channel(
        self, asset: AssetRef, channel: str, number: int, by: str, why: str, *, expected: int | None = None
    ) -> None:
        """Point a channel at a version: rollback, or its opposite. Nothing is lost, and the move is on record.

        With `expected` it only moves if it points at that number now, else `Conflict`. Raises `NotFound`.
        """
        _channels.move_channel(self.core, asset, channel, number, self._clock(), by=by, why=why, expected=expected)

    # ---- audit and events

    def audit(
        self,
        *,
        tenant: str | None = None,
        who: str | None = None,
        action: str | None = None,
        subject: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[AuditRow]:
        """A page of the audit log, newest first. A `subject` that is an asset also means its versions and channels."""
        from cloudbaker.catalog.audit import audit_rows

        return audit_rows(
            self.core,
            tenant=tenant,
            who=who,
            action=action,
            subject=subject,
            since=since,
            until=until,
            limit=limit,
            cursor=cursor,
        )

    def audit_heads(self) -> Page[Head]:
        """The end of each chain of the audit log; kept elsewhere, they let `verify_audit` tell if it was cut off."""
        from cloudbaker.catalog.audit import heads

        return heads(self.core)

    def verify_audit(
        self,
        *,
        anchors: Iterable[Head] = (),
        published: bool = True,
        progress: Callable[[int], None] | None = None,
    ) -> AuditReport:
        """Hash the audit log again, and compare it with its published table and with heads that were kept elsewhere.

        Finds rows that were changed, inserted or removed; a log whose end was cut off only by published rows or
        `anchors`. `progress` is told of the rows so far.
        """
        from cloudbaker.catalog.audit import published_rows, verify

        printed = published_rows(self.published) if published else None
        return verify(self.core, printed, anchors=anchors, progress=progress)

    def announce(self, asset: AssetRef, kind: str, payload: dict[str, Any], *, run_id: str | None = None) -> None:
        """Put an event into the outbox that no other change brings with it. Raises `UsageError` for an unknown kind."""
        from cloudbaker.catalog.events import announce

        announce(self.core, asset, kind, payload, self._clock(), run_id=run_id)

    def events(
        self,
        *,
        asset: AssetRef | None = None,
        kind: str | None = None,
        run_id: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Event]:
        """A page of what happened, newest first."""
        from cloudbaker.catalog.events import events

        return events(self.core, asset=asset, kind=kind, run_id=run_id, since=since, limit=limit, cursor=cursor)

    def publisher(self, sinks: Sequence[Sink], *, retries: Retries | None = None) -> Publisher:
        """What tells sinks of events: ``.drain()`` once, ``.run(stop)`` until stopped. See docs/events.md."""
        from cloudbaker.catalog.delivery import Publisher

        return Publisher(self.core, sinks, self._clock, retries=retries)

    def sinks(self) -> Page[SinkStatus]:
        """Who is told of events, and how far each has come."""
        from cloudbaker.catalog.sinks import sinks

        return sinks(self.core)

    def deliveries(
        self, *, sink: str | None = None, state: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[Delivery]:
        """A page of events that could not be told yet (``waiting``) or not at all (``dead``)."""
        from cloudbaker.catalog.sinks import deliveries

        return deliveries(self.core, sink=sink, state=state, limit=limit, cursor=cursor)

    def replay(
        self,
        sink: str,
        *,
        by: str,
        why: str = "",
        asset: AssetRef | None = None,
        seqs: Sequence[int] | None = None,
        since: datetime | None = None,
    ) -> int:
        """Have events told again; how many. All dead letters of the sink, or those of an `asset`.

        With `seqs` or `since` also events that it was told before. Raises `NotFound` for an unknown sink.
        """
        from cloudbaker.catalog.sinks import replay

        return replay(self.core, sink, self._clock(), asset=asset, seqs=seqs, since=since, by=by, why=why)

    # ---- attempts and quarantine

    def record_attempt(
        self, asset: AssetRef, bake_key: str, *, run_id: str | None, status: str, error: dict[str, Any]
    ) -> int:
        """Count a failed attempt to bake an asset to a bake key; the count so far, this one included."""
        now = self._clock()
        return _attempts.record_attempt(self.core, asset, bake_key, now, run_id=run_id, status=status, error=error)

    def attempts(self, asset: AssetRef, bake_key: str) -> int:
        """Failed attempts so far."""
        return _attempts.attempts(self.core, asset, bake_key)

    def clear_attempts(self, asset: AssetRef, bake_key: str | None = None) -> int:
        """Forget the attempts at an asset, under one bake key or all; how many entries that were."""
        return _attempts.clear_attempts(self.core, asset, bake_key)

    def quarantine(
        self,
        asset: AssetRef,
        bake_key: str,
        *,
        run_id: str | None,
        attempts: int,
        error: dict[str, Any],
        status: str = "error",
    ) -> None:
        """Put an asset aside under a bake key, with its evidence, after its last attempt. Once more is harmless."""
        now = self._clock()
        _attempts.quarantine(
            self.core, asset, bake_key, now, run_id=run_id, attempts=attempts, status=status, error=error
        )

    def quarantined(self, asset: AssetRef | None = None) -> list[QuarantineEntry]:
        """What is in quarantine, oldest first."""
        return _attempts.quarantined(self.core, asset)

    def release(self, asset: AssetRef, bake_key: str | None = None, *, by: str = "", why: str = "") -> int:
        """Let an asset out of quarantine with its attempts forgotten, so that it is tried again; how many entries."""
        return _attempts.release(self.core, asset, bake_key, self._clock(), by=by, why=why)

    # ---- questions, publishing and clean-up

    def sql(self, query: str, params: Sequence[Any] | Mapping[str, Any] | None = None) -> duckdb.DuckDBPyRelation:
        """A query over the views of `docs/catalog.md`, as a DuckDB relation (which shows itself well in a notebook).

        Raises `UsageError` with DuckDB's message.
        """
        from cloudbaker.catalog.views import query as _query

        return _query(self.connect(), query, params)

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A DuckDB connection whose views are the whole catalog at this moment: published Parquet and what is not yet.

        The files of the machine are out of its reach, and the catalog can't be changed through it. Publishes first if
        much is unpublished.
        """
        from cloudbaker.catalog.views import connect

        return connect(self.core, self.published)

    @property
    def published(self) -> Tables:
        """Where the published tables are."""
        from cloudbaker.catalog.published import Tables

        return Tables.at(self._published, endpoint=self._endpoint)

    def export(self, *, progress: Callable[[str, int], None] | None = None) -> ExportReport:
        """Publish new facts to the Delta tables, exactly once each, whoever else exports or dies.

        `progress(table, rows)` is told of each commit. Raises `CatalogReplaced` if the tables are another core's.
        """
        from cloudbaker.catalog.export import export

        return export(self.core, self.published, progress=progress)

    def tables(self) -> list[TableStatus]:
        """The published tables: how far they go, how large they are, and what is wrong with them."""
        from cloudbaker.catalog.tables import status

        return status(self.core, self.published)

    def maintain_tables(
        self,
        *,
        plan: bool = True,
        compact: bool = True,
        retention: timedelta = RETENTION,
        progress: Callable[[str, int], None] | None = None,
    ) -> MaintenanceReport:
        """Publish what is new, compact the tables (a sorted file per month), write the snapshots, remove what is old.

        Files that were replaced stay for `retention`: connections that are open read them. Without `compact` only such
        files are removed; with `plan` it only says what it would do.
        """
        from cloudbaker.catalog.tables import maintain

        return maintain(self.core, self.published, plan=plan, compact=compact, retention=retention, progress=progress)

    def tables_due(self, every: timedelta) -> bool:
        """Whether `maintain_tables` was not done for this long."""
        from cloudbaker.catalog.tables import due

        return due(self.published, self._clock() - every)

    def repair_tables(self, names: Sequence[str] = ()) -> RepairReport:
        """Put published tables aside (all, if none is named) and publish them anew from the core, which has every row.

        Raises `NotFound` for a name that is no table's.
        """
        from cloudbaker.catalog.tables import repair

        return repair(self.core, self.published, names)

    def usage(self, tenant: str | None = None) -> list[UsageRow]:
        """What each tenant (or one) uses."""
        return _usage.usage(self.core, tenant)

    # ---- usage over time, and what it costs

    def record_transfer(
        self, tenant: str, asset: AssetRef | None, bytes: int, direction: Direction, *, run_id: str | None = None
    ) -> None:
        """Write down bytes that left for (``out``) or came from (``in``) somewhere that is paid for."""
        _usage.record_transfer(self.core, tenant, asset, bytes, direction, run_id, self._clock())

    def metered(
        self,
        tenant: str | None = None,
        *,
        by: Sequence[By] = ("tenant", "subject"),
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Metered]:
        """What was used from `since` (else: ever) to `until` (at most: now), by kind and by what `by` names.

        Storage is integrated exactly: so many bytes for so many microseconds. Raises `UsageError` for a time without
        zone.
        """
        with self.connect() as duck:
            return _usage.metered(duck, tenant=tenant, by=by, since=since, until=until, now=self._clock())

    def cost(
        self,
        tenant: str | None = None,
        *,
        by: Sequence[By] = ("tenant",),
        since: datetime | None = None,
        until: datetime | None = None,
        prices: Prices | None = None,
    ) -> Cost:
        """What that cost, line by line; `prices` are those of the installation (`docs/quotas-and-billing.md`)."""
        from cloudbaker.catalog.pricing import cost, load_prices

        by = [*by, "subject"] if "subject" not in by else by  # a price depends on it
        prices = prices or load_prices(self._pricing)
        return cost(self.metered(tenant, by=by, since=since, until=until), prices)

    # ---- quotas, retention, holds and clean-up

    def set_quota(
        self,
        tenant: str,
        *,
        bytes: int | _quotas.Keep | None = _quotas.KEEP,
        runs_in_flight: int | _quotas.Keep | None = _quotas.KEEP,
        runs_per_day: int | _quotas.Keep | None = _quotas.KEEP,
        by: str,
        why: str,
    ) -> None:
        """Limit what a tenant stores and runs; None takes a limit away. What is left out stays as it is.

        A limit below what is used already takes nothing away: nothing more goes in. Raises `UsageError`, `NameRefused`.
        """
        limits = {"bytes": bytes, "runs_in_flight": runs_in_flight, "runs_per_day": runs_per_day}
        _quotas.set_quota(self.core, tenant, self._clock(), by=by, why=why, **limits)

    def quota(self, tenant: str) -> Quota:
        """A tenant's limits, and what is used of them. Raises `NotFound`."""
        return _quotas.quota(self.core, tenant, self._clock())

    def quotas(self) -> list[Quota]:
        """The limits of all tenants, by name."""
        return _quotas.quotas(self.core, self._clock())

    def set_retention(self, tenant: str, policy: Retention | None, *, by: str, why: str) -> None:
        """How long a tenant's versions and inbox are kept; None: everything is (`docs/retention.md`).

        Clean-up acts on it; an inbox time holds for uploads from now on. Raises `NameRefused`.
        """
        _retention.set_retention(self.core, tenant, policy, self._clock(), by=by, why=why)

    def retention(self, tenant: str) -> Retention | None:
        """A tenant's policy. Raises `NotFound`."""
        return _retention.retention(self.core, tenant)

    def delete_version(self, asset: AssetRef, number: int, *, by: str, why: str) -> bool:
        """Delete a version for good; False if it was deleted before.

        The catalog keeps all it knows of it, with a tombstone. Its bytes go with the next clean-up, except those that
        other versions share. Raises `NotFound`, and `InUse` while a channel points at it, a hold covers it, or a
        version that is not deleted is pinned to it.
        """
        return _retention.delete_version(self.core, asset, number, self._clock(), by=by, why=why)

    def place_hold(
        self, asset: AssetRef, number: int | None = None, *, until: datetime | None = None, by: str, why: str
    ) -> None:
        """Keep a version, or all of an asset (those to come too), from being deleted. In place of an earlier hold.

        Raises `NotFound`, and `UsageError` for an end that is over.
        """
        _holds.place_hold(self.core, asset, number, self._clock(), until=until, by=by, why=why)

    def release_hold(self, asset: AssetRef, number: int | None = None, *, by: str, why: str) -> bool:
        """Take a hold away; False if there was none. Raises `NotFound` for an unknown asset."""
        return _holds.release_hold(self.core, asset, number, self._clock(), by=by, why=why)

    def holds(self, asset: AssetRef | None = None, *, tenant: str | None = None) -> list[Hold]:
        """The holds in force, by asset and number."""
        return _holds.holds(self.core, asset, tenant, self._clock())

    def gc(
        self, *, plan: bool = True, grace: timedelta = GRACE, progress: Callable[[str, int], None] | None = None
    ) -> GcReport:
        """Clean-up: what retention lets go, what no version refers to, and what nothing explains.

        With `plan` it only reports, and exactly what it would do. `progress` is told what is looked at, and how many.
        A store that fails does not raise: the report's `failed` has it, and the next clean-up goes on.
        """
        from cloudbaker.catalog.gc import gc

        return gc(self.core, self.store, self._clock(), plan=plan, grace=grace, progress=progress)


def _read(file: BinaryIO, path: Path) -> bytes:
    try:
        return file.read(CHUNK)
    except OSError as error:
        raise SourceUnreadable(f"can't read {path.name}: {error.strerror}", detail=str(error)) from error
