"""What the catalog is asked with and what it answers, beside the words of `cloudbaker.model`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cloudbaker.model import AssetRef, Finding, Role, Run, RunState, Source, Step, Version


@dataclass(frozen=True, slots=True)
class UploadKey:
    """What a public object's key is made of, besides its hash: ``{tenant}/{run}/{role}/{stem}.{hash12}{suffix}``."""

    run_id: str
    role: Role
    name: str
    """File name, ``lod1.glb``."""


@dataclass(frozen=True, slots=True)
class Published:
    """Outcome of `Catalog.publish`."""

    version: Version
    created: bool
    """False: the newest version already has this bake key, and nothing was published."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run with all that is known of it."""

    run: Run
    state: RunState
    finished_at: datetime | None
    version: int | None
    """Number of the version that it published, or that it found to be unchanged."""
    error: dict[str, Any] | None
    steps: tuple[Step, ...]
    metrics: dict[str, float]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class AssetInfo:
    """An asset in a list."""

    asset: AssetRef
    latest: int
    created_at: datetime
    channels: dict[str, int]


@dataclass(frozen=True, slots=True)
class LatestVersion:
    """The newest version of an asset, with what decides whether it is stale."""

    asset: AssetRef
    number: int
    recipe: str
    recipe_hash: str
    bake_key: str
    engine: str | None
    sources: tuple[Source, ...]
    tools: dict[str, str]
    channels: tuple[str, ...]
    """Those that point at it."""


@dataclass(frozen=True, slots=True)
class PointerMove:
    """One move of a channel."""

    at: datetime
    channel: str
    number: int
    previous: int | None
    moved_by: str
    why: str
    run_id: str | None


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one tenant uses."""

    tenant: str
    assets: int
    versions: int
    runs: int
    bytes_by_zone: dict[str, int]
    """Bytes of the blobs that some version refers to, each counted once."""
    saved_bytes: int
    """What deduplication saved: bytes as referred to, less bytes stored."""
    compute_seconds: dict[str, float]
    """By device class."""
    quota_bytes: int | None

    @property
    def bytes(self) -> int:
        """All zones together; what a quota limits."""
        return sum(self.bytes_by_zone.values())


@dataclass(frozen=True, slots=True)
class QuarantineEntry:
    """A dead letter: an asset that failed too often under one bake key, with the evidence of its last attempt."""

    asset: AssetRef
    bake_key: str
    attempts: int
    status: str
    """How the last attempt ended."""
    error: dict[str, Any]
    run_id: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class GcItem:
    """One thing that clean-up found."""

    kind: str
    """``unreferenced`` blob (no version refers to it, lease over), ``expired-upload`` (its process died between claim
    and registration), ``pending-deletion`` (clean-up itself died), ``orphan`` object (no row), ``unfinished`` file,
    ``abandoned-run`` (running, without a sign of life). Two are for a person to look at: a ``missing`` object (a live
    blob's bytes are gone), and a ``foreign`` file, which Cloud Baker can't have put there and leaves alone."""
    key: str
    size: int = 0
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class GcReport:
    """What clean-up found, and with `plan` false removed."""

    plan: bool
    items: tuple[GcItem, ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes that are, or would be, freed."""
        return sum(item.size for item in self.items if item.kind not in ("missing", "foreign", "abandoned-run"))

    @property
    def missing(self) -> tuple[GcItem, ...]:
        """Damage, which clean-up can't mend: bake those assets again, or put back a backup."""
        return tuple(item for item in self.items if item.kind == "missing")


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What one export published."""

    rows: dict[str, int] = field(default_factory=dict)
    """New rows by table; tables without are left out."""
    busy: bool = False
    """Another exporter was at work, and this one left it to that."""
