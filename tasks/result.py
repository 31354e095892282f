"""What a bake came to, read back from the catalog: the same object whichever way the bake was run."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cloudbaker.model import AssetRef, Finding, Loss, Role, RunState, Severity, Version, to_json

if TYPE_CHECKING:
    from cloudbaker.catalog.core import Catalog

_PREVIEWS = ("preview-before.png", "preview-after.png")


@dataclass(frozen=True, slots=True)
class BakeResult:
    """State, version, findings, losses and pictures of one bake. Shows itself as a report in a notebook."""

    run_id: str
    asset: AssetRef
    recipe: str
    mode: str
    state: RunState
    version: Version | None
    findings: tuple[Finding, ...]
    seconds: float
    error: dict[str, Any] | None = None
    pictures: dict[str, bytes] = field(default_factory=dict, repr=False)
    """PNG by name; empty where there is no Chromium."""

    @property
    def ok(self) -> bool:
        """Whether the asset is published as asked, now or before."""
        return self.state in {RunState.COMPLETED, RunState.UNCHANGED}

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What of the source is not in the package. Empty means that nothing was lost."""
        return self.version.losses if self.version else ()

    @property
    def source_bytes(self) -> int:
        """Size of all source files."""
        return sum(s.blob.size for s in self.version.sources) if self.version else 0

    def sizes(self) -> list[dict[str, Any]]:
        """Rows of the table of sizes: one per model file, with triangles, bytes, share of the source and errors."""
        if self.version is None:
            return []
        return [
            {
                "file": a.name,
                "variant": a.variant,
                "triangles": int(a.metrics.get("triangles", 0)),
                "bytes": a.blob.size,
                "of_source": a.blob.size / max(self.source_bytes, 1),
                "error_mean_percent": a.metrics.get("error_mean_percent", 0.0),
                "error_max_percent": a.metrics.get("error_max_percent", 0.0),
                "suggested_distance": a.metrics.get("suggested_distance", 0.0),
                "key": a.blob.storage_key,
            }
            for a in self.version.artifacts
            if a.role is Role.MODEL_3D or "pack_format" in a.metrics
        ]

    def to_json(self) -> dict[str, Any]:
        """The ``--json`` contract (docs/cli.md): everything but the pictures' bytes."""
        return {
            "run_id": self.run_id,
            "asset": str(self.asset),
            "recipe": self.recipe,
            "mode": self.mode,
            "state": self.state.value,
            "version": self.version.number if self.version else None,
            "bake_key": self.version.bake_key if self.version else None,
            "engine": self.version.engine if self.version else None,
            "channels": list(self.version.channels) if self.version else [],
            "seconds": round(self.seconds, 3),
            "source_bytes": self.source_bytes,
            "files": self.sizes(),
            "artifacts": [to_json(a) for a in self.version.artifacts] if self.version else [],
            "metrics": dict(self.version.metrics) if self.version else {},
            "findings": [to_json(f) for f in self.findings],
            "losses": [to_json(loss) for loss in self.losses],
            "error": self.error,
        }

    def _repr_html_(self) -> str:
        from cloudbaker.tasks.report import html

        return html(self)

    def picture_uri(self, name: str) -> str:
        """A preview as a ``data:`` URI."""
        return "data:image/png;base64," + base64.b64encode(self.pictures[name]).decode()


def result_of(catalog: Catalog, run_id: str, *, pictures: bool = True) -> BakeResult:
    """Read a finished (or failed) run back. Raises `NotFound` for an unknown run."""
    record = catalog.get_run(run_id)
    version = catalog.get_version(record.run.asset, record.version) if record.version is not None else None
    images = {}
    if pictures and version is not None:
        images = {a.name: catalog.read_blob(a.blob) for a in version.artifacts if a.name in _PREVIEWS}
    finished = record.finished_at or record.run.started_at
    return BakeResult(
        run_id=run_id,
        asset=record.run.asset,
        recipe=record.run.recipe,
        mode=record.run.mode,
        state=record.state,
        version=version,
        findings=version.findings if version else tuple(record.findings),
        seconds=(finished - record.run.started_at).total_seconds(),
        error=record.error,
        pictures=images,
    )


def worst_first(findings: tuple[Finding, ...]) -> list[Finding]:
    """Findings in the order a reader wants them."""
    order = [Severity.ERROR, Severity.WARNING, Severity.INFO]
    return sorted(findings, key=lambda f: (order.index(f.severity), f.code, f.place))
