"""The words of Cloud Baker as types. Plain frozen dataclasses: they cross processes, and importing them costs nothing.

tenant › project › asset › version; a *channel* points at a version; a *blob* is bytes with a SHA-256; an *artifact* is
a baked blob with a role; a *run* has *steps*; validation ends in a *verdict* with *findings*.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from cloudbaker.errors import NameRefused

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


def check_name(kind: str, name: str) -> str:
    """Return `name` if it may name a tenant, project, asset or channel, else raise `NameRefused`.

    Lower-case ASCII letters, digits, ``.``, ``_`` and ``-``, 1 to 64 of them, beginning and ending with a letter or
    digit, no ``..``: safe as a path component and an object key, and never ambiguous by case or Unicode form.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise NameRefused(
            f"{kind} name {name!r} is not allowed: use 1 to 64 lower-case letters, digits, '.', '_' or '-', "
            f"beginning and ending with a letter or digit (try {suggest_name(name)!r})",
            kind=kind,
            name=name,
        )
    return name


def suggest_name(text: str) -> str:
    """The nearest allowed name to any text, such as a file's stem: ``"Flight Helmet (2)"`` → ``"flight-helmet-2"``."""
    ascii_ = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"\.{2,}", ".", re.sub(r"[^a-z0-9._-]+", "-", ascii_))[:64].strip("._-") or "asset"


@dataclass(frozen=True, slots=True, order=True)
class AssetRef:
    """A named thing that evolves through versions: ``tenant/project/name``."""

    tenant: str
    project: str
    name: str

    def __post_init__(self) -> None:
        check_name("tenant", self.tenant)
        check_name("project", self.project)
        check_name("asset", self.name)

    @classmethod
    def parse(cls, text: str, *, tenant: str = "local", project: str = "default") -> AssetRef:
        """Read ``name``, ``project/name`` or ``tenant/project/name``; what is left out comes from the defaults."""
        parts = text.split("/")
        if len(parts) > 3:
            raise NameRefused(f"asset {text!r} has too many parts: write tenant/project/name", name=text)
        return cls(*([tenant, project][: 3 - len(parts)] + parts))

    def __str__(self) -> str:
        return f"{self.tenant}/{self.project}/{self.name}"


class Severity(StrEnum):
    """How bad a finding is."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class VerdictKind(StrEnum):
    """Outcome of validation."""

    PASS = "pass"
    REVIEW = "review"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason for a verdict."""

    code: str
    """Stable identifier, such as ``gltf.index-out-of-range`` or ``khronos.ACCESSOR_MIN_MISMATCH``."""
    severity: Severity
    place: str
    """JSON pointer into the document (``/meshes/0/primitives/1``), a file's name, or empty for the whole."""
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Outcome of validation with all its reasons. Any error rejects; a warning never does by itself."""

    kind: VerdictKind
    findings: tuple[Finding, ...] = ()

    @classmethod
    def of(cls, findings: tuple[Finding, ...]) -> Verdict:
        """The verdict that these findings amount to."""
        rejected = any(f.severity is Severity.ERROR for f in findings)
        return cls(VerdictKind.REJECT if rejected else VerdictKind.PASS, findings)


@dataclass(frozen=True, slots=True)
class Loss:
    """Something of the source that is not in the baked asset. A report without losses means nothing was lost."""

    kind: str
    """``name``, ``extras``, ``copyright``, ``extension``, ``attribute``, ``animation``, ``texture`` …"""
    place: str
    detail: str


class Role(StrEnum):
    """What an artifact is; also the third part of its public key (the eight artifact types)."""

    MODEL_3D = "model_3d"
    TEXTURE = "texture"
    IMAGE = "image"
    ENVIRONMENT_MAP = "environment_map"
    AUDIO = "audio"
    VIDEO = "video"
    BUNDLE = "bundle"
    SHADER = "shader"


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that are stored: hex SHA-256, size in bytes, and the key they lie under in the object store."""

    sha256: str
    size: int
    storage_key: str


@dataclass(frozen=True, slots=True)
class Source:
    """One file of what was handed in. `name` is relative to the main file (``helmet.gltf``, ``textures/a.png``)."""

    name: str
    media_type: str
    blob: Blob


@dataclass(frozen=True, slots=True)
class Artifact:
    """A baked blob with a role and a variant (``default``, ``lod1`` …)."""

    role: Role
    variant: str
    name: str
    media_type: str
    blob: Blob
    device: str = "cpu"
    """The device class that made it, ``cpu`` or ``cuda``."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Measured figures: triangles, bytes, psnr_db, error_percent …"""


@dataclass(frozen=True, slots=True)
class Dependency:
    """What a version needs of another asset."""

    on_asset: AssetRef
    on_number: int | None = None
    """A version of it, which is kept for as long as this one lives; None: whatever its channel points at."""
    kind: str = "uses"

    @classmethod
    def parse(cls, text: str, *, tenant: str = "local", project: str = "default", kind: str = "uses") -> Dependency:
        """Read ``ASSET`` or ``ASSET@NUMBER``; what the asset's name leaves out comes from the defaults."""
        name, at, number = text.partition("@")
        if at and not (number.isascii() and number.isdigit() and 0 < int(number) < 1 << 31):
            raise NameRefused(f"dependency {text!r}: write ASSET, or ASSET@NUMBER for one of its versions", name=text)
        return cls(AssetRef.parse(name, tenant=tenant, project=project), int(number) if at else None, kind)

    def __str__(self) -> str:
        return str(self.on_asset) if self.on_number is None else f"{self.on_asset}@{self.on_number}"


class RunState(StrEnum):
    """Status of a run."""

    RUNNING = "running"
    COMPLETED = "completed"
    UNCHANGED = "unchanged"
    REJECTED = "rejected"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepState(StrEnum):
    """Status of a step."""

    RUNNING = "running"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a flow over one asset. `run_id` is the correlation id (the Prefect flow run's, if any)."""

    run_id: str
    flow: str
    asset: AssetRef
    recipe: str
    mode: str
    """``service``, ``ephemeral`` or ``direct``; ``rebake`` for an asset of a bulk run."""
    started_at: datetime
    created_by: str
    parent_run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of a run, finished: status, attempt (from 1), times (UTC), device, metrics."""

    run_id: str
    stage: str
    attempt: int
    state: StepState
    started_at: datetime
    finished_at: datetime
    device: str = "cpu"
    metrics: dict[str, float] = field(default_factory=dict)
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Publication:
    """All that one catalog transaction makes visible as a version."""

    asset: AssetRef
    run_id: str
    bake_key: str
    recipe: str
    recipe_hash: str
    engine: str | None
    tools: dict[str, str]
    sources: tuple[Source, ...]
    artifacts: tuple[Artifact, ...]
    findings: tuple[Finding, ...]
    losses: tuple[Loss, ...]
    metrics: dict[str, float]
    provenance: str
    """The signed DSSE envelope, JSON text."""
    created_by: str
    change_note: str = ""
    channel: str | None = "live"
    """The channel that moves to the new version in the same transaction; None moves none."""
    replaces: int | None = None
    """The version that this one is a re-bake of. It must still be the newest, and the channel moves only if it points
    there: a re-bake never takes the place of what somebody published, or rolled back to, in the meantime."""
    dependencies: tuple[Dependency, ...] = ()
    """What it needs of other assets, each named once."""


@dataclass(frozen=True, slots=True)
class Version:
    """An immutable snapshot of an asset, as the catalog knows it."""

    asset: AssetRef
    number: int
    bake_key: str
    recipe: str
    recipe_hash: str
    run_id: str
    created_at: datetime
    created_by: str
    change_note: str
    size_bytes: int
    sources: tuple[Source, ...]
    artifacts: tuple[Artifact, ...]
    findings: tuple[Finding, ...]
    losses: tuple[Loss, ...]
    metrics: dict[str, float]
    tools: dict[str, str]
    provenance: str
    channels: tuple[str, ...] = ()
    engine: str | None = None
    dependencies: tuple[Dependency, ...] = ()
    deleted_at: datetime | None = None
    """When it was deleted: its rows stay, its bytes may be gone."""

    def __str__(self) -> str:
        return f"{self.asset}@{self.number}"


def to_json(value: Any) -> Any:
    """A dataclass of this module (or a container of them) as JSON-ready values: ISO 8601 times, enums by value."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if isinstance(value, AssetRef):
            return str(value)
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, StrEnum):
        return value.value
    return value
