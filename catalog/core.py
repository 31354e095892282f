"""The catalog's front: one class that tasks and people call. What it does is done in the modules beside it.

Importing this costs SQLAlchemy (0.1 s on a quiet machine) and no more: Alembic, DuckDB, Arrow and Delta come when they
are needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from cloudbaker.catalog import attempts as _attempts
from cloudbaker.catalog import channels as _channels
from cloudbaker.catalog import runs as _runs
from cloudbaker.catalog import versions as _versions
from cloudbaker.catalog.blobs import open_verified
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.publish import publish as _publish
from cloudbaker.catalog.records import (
    AssetInfo,
    ExportReport,
    GcReport,
    LatestVersion,
    PointerMove,
    Published,
    QuarantineEntry,
    RunInfo,
    UploadKey,
    UsageRow,
)
from cloudbaker.catalog.stores import CHUNK, ObjectStore, open_store
from cloudbaker.catalog.times import Clock, utc_now
from cloudbaker.catalog.uploads import Upload, Zone
from cloudbaker.errors import SourceUnreadable
from cloudbaker.model import AssetRef, Blob, Finding, Publication, Run, RunState, Step, Version
from cloudbaker.settings import Settings

if TYPE_CHECKING:
    import duckdb

__all__ = ["GRACE", "LEASE", "Catalog", "UploadKey"]

LEASE = timedelta(hours=24)
"""How long an upload that no version refers to is safe from clean-up; an inbox blob lives this long."""
GRACE = timedelta(hours=24)
"""Age at which clean-up takes files that nothing explains, and calls a silent run abandoned."""


class Catalog:
    """Versions, hashes, runs and usage of one home. Threads and processes may use it at the same time.

    Every method that writes is one transaction: it happens whole or not at all, and has happened when it returns.
    """

    def __init__(
        self, core: Core, store: ObjectStore, published: Path, *, lease: timedelta = LEASE, clock: Clock = utc_now
    ) -> None:
        """Use `open`."""
        self.core = core
        self.store = store
        self.published = published
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
        return cls(core, open_store(settings), settings.published, lease=lease, clock=clock)

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
        return self.store.open(blob.storage_key)

    def blob_path(self, blob: Blob) -> Path | None:
        """The file that the blob is, for tools that want a path; read only. None where the store has no files."""
        return self.store.path(blob.storage_key)

    def read_blob(self, blob: Blob, *, verify: bool = True) -> bytes:
        """All of the blob's bytes, its hash checked. Raises `NotFound`, `StoreError` for damage."""
        return open_verified(self.store, blob, verify=verify)

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

    def versions(self, asset: AssetRef, *, limit: int = 100, offset: int = 0) -> list[Version]:
        """The asset's versions, newest first."""
        return _versions.versions(self.core, asset, limit=limit, offset=offset)

    def assets(self, tenant: str | None = None, *, limit: int = 1000, offset: int = 0) -> list[AssetInfo]:
        """Assets by name, of one tenant or all."""
        return _versions.assets(self.core, tenant, limit=limit, offset=offset)

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

    def export(self) -> ExportReport:
        """Publish new facts to the Delta tables, exactly once each, whoever else exports or dies."""
        from cloudbaker.catalog.export import export

        return export(self.core, self.published)

    def usage(self, tenant: str | None = None) -> list[UsageRow]:
        """What each tenant (or one) uses."""
        from cloudbaker.catalog.usage import usage

        return usage(self.core, tenant)

    def gc(self, *, plan: bool = True, grace: timedelta = GRACE) -> GcReport:
        """Clean-up: what no version refers to and no upload is about to. With `plan` it only reports."""
        from cloudbaker.catalog.gc import gc

        return gc(self.core, self.store, self._clock(), plan=plan, grace=grace)


def _read(file: BinaryIO, path: Path) -> bytes:
    try:
        return file.read(CHUNK)
    except OSError as error:
        raise SourceUnreadable(f"can't read {path.name}: {error.strerror}", detail=str(error)) from error
