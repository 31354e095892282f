"""What the catalog is asked with and what it answers, beside the words of `cloudbaker.model`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from cloudbaker.errors import CatalogError, UsageError
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
    """An asset in a list, with its newest version."""

    asset: AssetRef
    latest: int
    """Number of the newest version."""
    created_at: datetime
    channels: dict[str, int]
    tags: tuple[str, ...] = ()
    recipe: str = ""
    size_bytes: int = 0
    changed_at: datetime | None = None
    """When the newest version was published."""
    created_by: str = ""
    """Who published it."""


@dataclass(frozen=True, slots=True)
class ProjectInfo:
    """A project in a list."""

    tenant: str
    project: str
    created_at: datetime
    assets: int


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
    """Without the deleted ones."""
    runs: int
    bytes_by_zone: dict[str, int]
    """Bytes of the blobs that some version refers to, each counted once."""
    reserved_bytes: int
    """Bytes of uploads under way, and of those that no version refers to (yet, or any more)."""
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
    """``expired-version`` (its tenant's retention lets it go), ``unreferenced`` blob (no version refers to it, lease
    over), ``expired-upload`` (its process died between claim and registration), ``pending-deletion`` (clean-up itself
    died, or its store failed), ``orphan`` object (no row), ``unfinished`` file, ``abandoned-run`` (running, without a
    sign of life). Two are for a person to look at: a ``missing`` object (a live blob's bytes are gone), and a
    ``foreign`` file, which Cloud Baker can't have put there and leaves alone."""
    key: str
    size: int = 0
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class GcFailure:
    """Something that clean-up asked of the store in vain; the next clean-up tries it again."""

    verb: str
    key: str
    error: str


@dataclass(frozen=True, slots=True)
class GcReport:
    """What clean-up found, and with `plan` false removed."""

    plan: bool
    items: tuple[GcItem, ...] = ()
    failed: tuple[GcFailure, ...] = ()
    """What the store did not do; empty for a store in order."""

    @property
    def bytes(self) -> int:
        """Bytes that are, or would be, freed."""
        return sum(item.size for item in self.items if item.kind not in ("missing", "foreign", "abandoned-run"))

    @property
    def missing(self) -> tuple[GcItem, ...]:
        """Damage, which clean-up can't mend: bake those assets again, or put back a backup."""
        return tuple(item for item in self.items if item.kind == "missing")


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a tenant's versions and inbox are kept. Without a policy, everything is kept."""

    delete_after_days: int | None = None
    """A version this old goes, unless something keeps it (docs/retention.md); None: none goes by age."""
    keep_last: int = 1
    """So many of an asset's newest versions stay, however old."""
    inbox_hours: int = 24
    """What lies in the inbox goes after this time."""

    def __post_init__(self) -> None:
        limits = (
            ("delete_after_days", 1, 36_500, self.delete_after_days),
            ("keep_last", 0, 1_000_000, self.keep_last),
            ("inbox_hours", 1, 24 * 365, self.inbox_hours),
        )
        for name, least, most, value in limits:
            if name == "delete_after_days" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise UsageError(f"{name} is {value!r}: give a whole number from {least} to {most:,}", name=name)

    @classmethod
    def parse(cls, value: Mapping[str, Any] | None) -> Retention | None:
        """The policy that is stored. Raises `CatalogError` where this release can't read it."""
        try:
            return None if value is None else cls(**value)
        except (TypeError, UsageError) as error:
            # A term that is not understood may be the one that keeps a version: take nothing.
            raise CatalogError(
                "a retention policy has terms that this release does not know: nothing was deleted; use the release "
                "that set it, or set it anew with `cloudbaker catalog retention`",
                detail=str(error),
            ) from error

    def __str__(self) -> str:
        keep = "kept" if self.delete_after_days is None else f"deleted after {self.delete_after_days} days"
        return f"versions {keep}, the newest {self.keep_last} of an asset always kept; inbox {self.inbox_hours} h"


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold that is in force."""

    asset: AssetRef
    number: int | None
    """None: all versions of the asset."""
    until: datetime | None
    """None: until it is released."""
    placed_by: str
    why: str
    placed_at: datetime


@dataclass(frozen=True, slots=True)
class Quota:
    """A tenant's limits (None: no limit), and what is used of them."""

    tenant: str
    bytes: int | None
    """Of used and reserved bytes together."""
    used_bytes: int
    """Bytes that versions refer to."""
    reserved_bytes: int
    """Bytes of uploads under way, and of those that no version refers to (yet, or any more)."""
    runs_in_flight: int | None
    runs_in_flight_now: int
    runs_per_day: int | None
    """A day begins at midnight UTC."""
    runs_today: int


_UNITS = {"storage": "GB-hours", "compute": "minutes", "transfer": "GB", "runs": "runs"}
_PER_UNIT = {"storage": 10**9 * 3600 * 10**6, "compute": 60_000, "transfer": 10**9, "runs": 1}


@dataclass(frozen=True, slots=True)
class Metered:
    """So much of one kind was used within a time. What it was not grouped by is None."""

    tenant: str | None
    project: str | None
    day: date | None
    """UTC."""
    kind: str
    """``storage``, ``compute``, ``transfer`` or ``runs``."""
    subject: str | None
    """A zone, a device, or a direction (``out``, ``in``)."""
    quantity: int
    """Exact: byte-microseconds, milliseconds, bytes, or runs."""
    stored_bytes: int | None
    """Of storage: what is stored at the end of that time."""

    @property
    def amount(self) -> Decimal:
        """The quantity in the unit that it is paid by."""
        return Decimal(self.quantity) / _PER_UNIT[self.kind]

    @property
    def unit(self) -> str:
        """GB-hours (a GB is 10^9 bytes), minutes, GB or runs."""
        return _UNITS[self.kind]

    def to_json(self) -> dict[str, Any]:
        """Its documented form; amounts as text, digit by digit."""
        return {
            **{name: getattr(self, name) for name in ("tenant", "project")},
            "day": None if self.day is None else self.day.isoformat(),
            **{name: getattr(self, name) for name in ("kind", "subject")},
            "amount": f"{self.amount:f}",
            "unit": self.unit,
            "stored_bytes": self.stored_bytes,
        }


@dataclass(frozen=True, slots=True)
class CostItem:
    """A line of a bill."""

    tenant: str | None
    project: str | None
    day: date | None
    kind: str
    subject: str | None
    amount: Decimal
    unit: str
    price: Decimal
    """Of a unit."""
    cost: Decimal
    """Rounded to a millionth."""

    def to_json(self) -> dict[str, Any]:
        """Its documented form; amounts as text, digit by digit."""
        return {
            **{name: getattr(self, name) for name in ("tenant", "project")},
            "day": None if self.day is None else self.day.isoformat(),
            **{name: getattr(self, name) for name in ("kind", "subject", "unit")},
            **{name: f"{getattr(self, name):f}" for name in ("amount", "price", "cost")},
        }


@dataclass(frozen=True, slots=True)
class Cost:
    """A bill: its lines add up to its total."""

    currency: str
    items: tuple[CostItem, ...]

    @property
    def total(self) -> Decimal:
        """The sum of the lines."""
        return sum((item.cost for item in self.items), Decimal(0))

    def to_json(self) -> dict[str, Any]:
        """Its documented form."""
        items = [item.to_json() for item in self.items]
        return {"currency": self.currency, "total": f"{self.total:f}", "items": items}


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What one export published."""

    rows: dict[str, int] = field(default_factory=dict)
    """New rows by table; tables without are left out."""
    busy: bool = False
    """Another exporter was at work, and this one left it to that."""


@dataclass(frozen=True, slots=True)
class TableStatus:
    """A published table."""

    table: str
    rows: int
    files: int
    bytes: int
    version: int
    """Of its Delta log."""
    watermark: int
    """Every row of the core at a position up to it is in."""
    behind: int
    """Rows of the core that are not published yet."""
    uncompacted: tuple[str, ...] = ()
    """Months that have more than one file."""
    problem: str = ""
    """What is wrong with it, and the remedy."""


@dataclass(frozen=True, slots=True)
class TableWork:
    """What maintenance did, or would do, to one published table."""

    table: str
    compacted: tuple[str, ...] = ()
    """Months."""
    files_before: int = 0
    files_after: int = 0
    removed: int = 0
    """Files that were replaced longer than the retention ago."""
    note: str = ""
    """Why something was left for the next time."""


@dataclass(frozen=True, slots=True)
class MaintenanceReport:
    """What maintenance of the published tables did, or with `plan` would do."""

    plan: bool
    tables: tuple[TableWork, ...] = ()
    snapshots: dict[str, int] = field(default_factory=dict)
    """Rows of each snapshot."""
    busy: bool = False
    """Somebody else wrote to the tables, and this was left to the next time."""


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What was published anew."""

    rows: dict[str, int]
    aside: dict[str, str]
    """Where the tables are that were there before."""


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """A core that was made from published tables."""

    plan: bool
    into: str
    rows: dict[str, int]
    """By table, facts and state."""
    broken_chains: tuple[str, ...] = ()
    """Audit chains that do not hold: the tables, or what they were published from, were tampered with."""
    seconds: float = 0.0
