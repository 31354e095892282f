"""What changed between two versions of an asset: sources, artifacts, figures, tools, recipe, losses, findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from typing import Any, Literal, TypeVar

from cloudbaker.catalog.pages import table_html
from cloudbaker.model import Artifact, AssetRef, Dependency, Finding, Loss, Source, Version, to_json

T = TypeVar("T", Source, Artifact)
How = Literal["added", "removed", "changed"]


@dataclass(frozen=True, slots=True)
class FileChange:
    """A source or an artifact that one of the versions has and the other has not, or has with other bytes."""

    name: str
    change: How
    role: str
    """Of an artifact: its role and variant, ``model_3d lod1``; ``source``."""
    before_bytes: int | None
    after_bytes: int | None
    before_sha256: str | None
    after_sha256: str | None
    metrics: dict[str, tuple[float | None, float | None]]
    """Measured figures that differ: before and after."""

    @property
    def percent(self) -> float | None:
        """How much larger (or, negative, smaller) it has become."""
        if not self.before_bytes or self.after_bytes is None:
            return None
        return 100 * (self.after_bytes - self.before_bytes) / self.before_bytes


@dataclass(frozen=True, slots=True)
class VersionDiff:
    """What changed from version `before` to version `after` of an asset. What is empty has not changed."""

    asset: AssetRef
    before: int
    after: int
    fields: dict[str, tuple[Any, Any]]
    """Recipe, recipe's hash, engine, bake key and size in bytes, where they differ."""
    tools: dict[str, tuple[str | None, str | None]]
    sources: tuple[FileChange, ...]
    artifacts: tuple[FileChange, ...]
    same_artifacts: int
    """Artifacts with the same bytes and figures."""
    metrics: dict[str, tuple[float | None, float | None]]
    dependencies_added: tuple[Dependency, ...]
    dependencies_removed: tuple[Dependency, ...]
    losses_added: tuple[Loss, ...]
    losses_removed: tuple[Loss, ...]
    findings_added: tuple[Finding, ...]
    findings_removed: tuple[Finding, ...]

    @property
    def same_bytes(self) -> bool:
        """Whether every artifact is, byte for byte, what it was."""
        return all(a.before_sha256 == a.after_sha256 for a in self.artifacts)

    def to_json(self) -> dict[str, Any]:
        """The ``--json`` contract (docs/versions.md)."""
        return {**to_json(self), "same_bytes": self.same_bytes}

    def rows(self) -> list[tuple[str, str, Any, Any]]:
        """What changed as a table: kind, what, before, after."""
        found: list[tuple[str, str, Any, Any]] = []
        for name, (before, after) in self.fields.items():
            digest = name in ("recipe_hash", "bake_key")
            found.append(("version", name, *((_short(before), _short(after)) if digest else (before, after))))
        found += [("tool", name, *pair) for name, pair in self.tools.items()]
        for kind, files in (("source", self.sources), ("artifact", self.artifacts)):
            for file in files:
                if file.before_sha256 != file.after_sha256:
                    old = _file(file.before_bytes, file.before_sha256)
                    found.append((kind, file.name, old, _file(file.after_bytes, file.after_sha256)))
                found += [("metric", f"{file.name}: {name}", *pair) for name, pair in file.metrics.items()]
        found += [("metric", name, *pair) for name, pair in self.metrics.items()]
        for kind, added, removed in (
            ("dependency", self.dependencies_added, self.dependencies_removed),
            ("loss", self.losses_added, self.losses_removed),
            ("finding", self.findings_added, self.findings_removed),
        ):
            found += [(kind, _words(item), "no", "yes") for item in added]
            found += [(kind, _words(item), "yes", "no") for item in removed]
        return found

    def _repr_html_(self) -> str:
        title = f"<b>{escape(str(self.asset))}: {self.before} → {self.after}</b>"
        if not (rows := self.rows()):
            return f"<div>{title}: no difference</div>"
        same = f"<p>{self.same_artifacts} artifact(s) the same</p>"
        return f"<div>{title}{table_html(('kind', 'what', 'before', 'after'), rows)}{same}</div>"


def diff(before: Version, after: Version) -> VersionDiff:
    """See `cloudbaker.catalog.core.Catalog.diff`."""
    fields = ("recipe", "recipe_hash", "engine", "bake_key", "size_bytes")
    artifacts = _files(before.artifacts, after.artifacts, lambda a: f"{a.role.value} {a.variant}")
    return VersionDiff(
        asset=after.asset,
        before=before.number,
        after=after.number,
        fields={f: (getattr(before, f), getattr(after, f)) for f in fields if getattr(before, f) != getattr(after, f)},
        tools=_pairs(before.tools, after.tools),
        sources=_files(before.sources, after.sources, lambda _: "source"),
        artifacts=artifacts,
        same_artifacts=len(after.artifacts) - sum(1 for change in artifacts if change.change != "removed"),
        metrics=_pairs(before.metrics, after.metrics),
        dependencies_added=_more(after.dependencies, before.dependencies),
        dependencies_removed=_more(before.dependencies, after.dependencies),
        losses_added=_more(after.losses, before.losses),
        losses_removed=_more(before.losses, after.losses),
        findings_added=_more(after.findings, before.findings),
        findings_removed=_more(before.findings, after.findings),
    )


def _files(before: Iterable[T], after: Iterable[T], role: Callable[[T], str]) -> tuple[FileChange, ...]:
    old, new = {x.name: x for x in before}, {x.name: x for x in after}
    changes = []
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name), new.get(name)
        metrics = _pairs(getattr(a, "metrics", {}), getattr(b, "metrics", {})) if a and b else {}
        if a and b and a.blob.sha256 == b.blob.sha256 and not metrics:
            continue
        changes.append(
            FileChange(
                name=name,
                change="changed" if a and b else "removed" if a else "added",
                role=role(b or a),  # type: ignore[arg-type]
                before_bytes=a.blob.size if a else None,
                after_bytes=b.blob.size if b else None,
                before_sha256=a.blob.sha256 if a else None,
                after_sha256=b.blob.sha256 if b else None,
                metrics=metrics,
            )
        )
    return tuple(changes)


def _pairs(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = sorted(before.keys() | after.keys())
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def _more(these: tuple[Any, ...], those: tuple[Any, ...]) -> tuple[Any, ...]:
    """Those of `these` that `those` lacks; what is there twice is counted."""
    left, more = Counter(those), []
    for item in these:
        if left[item]:
            left[item] -= 1
        else:
            more.append(item)
    return tuple(more)


def _file(size: int | None, sha256: str | None) -> str | None:
    return None if size is None or sha256 is None else f"{size:,} bytes, {_short(sha256)}"


def _short(digest: str) -> str:
    return digest[:12] + "…"


def _words(item: Dependency | Loss | Finding) -> str:
    if isinstance(item, Loss):
        return f"{item.kind} {item.place}: {item.detail}"
    if isinstance(item, Finding):
        return f"{item.severity.value} {item.code} {item.place}: {item.message}"
    return f"{item.kind} {item}"
