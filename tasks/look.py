"""Looking at files without keeping them: what ``inspect``, ``validate`` and ``diff`` do, all of it in the
sandbox."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cloudbaker.compute.job import Job, Outcome, Workbench
from cloudbaker.compute.npm import validator_js
from cloudbaker.errors import UsageError
from cloudbaker.model import Finding, Severity, Verdict, to_json
from cloudbaker.recipe import Recipe
from cloudbaker.tasks.context import job_limits
from cloudbaker.tasks.gather import findings_of, gather
from cloudbaker.tasks.result import worst_first


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen: the verdict with its findings, and facts or tables."""

    path: str
    verdict: Verdict
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The ``--json`` contract of ``validate`` and ``inspect`` (docs/cli.md)."""
        return {
            "path": self.path,
            "verdict": self.verdict.kind.value,
            "findings": [to_json(f) for f in worst_first(self.verdict.findings)],
            "facts": self.facts,
        }

    def _repr_html_(self) -> str:
        from html import escape

        items = "".join(
            f"<li><code>{escape(f.code)}</code> {escape(f.place)} {escape(f.message)}</li>"
            for f in worst_first(self.verdict.findings)[:50]
        )
        return f"<div><b>{escape(Path(self.path).name)}: {self.verdict.kind.value}</b><ul>{items}</ul></div>"


def validate_file(workbench: Workbench, path: Path, recipe: Recipe) -> Look:
    """The verdict on a file under a recipe's limits, as a bake would reach it."""
    return _look(workbench, path, recipe, "gltf.validate:validate_job", {"validator.js": validator_js()})


def inspect_file(workbench: Workbench, path: Path, recipe: Recipe) -> Look:
    """Tables of what a file holds: scenes, meshes, textures, materials, animations, extensions."""
    return _look(workbench, path, recipe, "gltf.inspect:inspect_job", {})


def diff_files(workbench: Workbench, before: Path, after: Path, recipe: Recipe) -> Look:
    """Tables of two files side by side; findings of the second have ``after:`` before their place."""
    inputs: dict[str, bytes] = {}
    findings: list[Finding] = []
    for path, side in ((before, "before"), (after, "after")):
        model, found = _whole(workbench, path, recipe)
        if model is not None:
            inputs[f"{side}.glb"] = model
        findings += [replace(f, place=f"{side}:{f.place}") for f in found]
    facts: dict[str, Any] = {}
    if len(inputs) == 2:
        limits = recipe.limits.model_dump(mode="json", exclude_none=True)
        job = Job("cloudbaker.compute.gltf.diff:diff_job", inputs, {"limits": limits}, job_limits(recipe))
        facts = workbench.run(job).unwrap().value
        for side, found in facts.pop("findings").items():
            findings += [replace(f, place=f"{side}:{f.place}") for f in findings_of(found)]
    return Look(f"{before} → {after}", Verdict.of(tuple(findings)), facts)


def _look(workbench: Workbench, path: Path, recipe: Recipe, function: str, more: dict[str, Path]) -> Look:
    model, findings = _whole(workbench, path, recipe)
    facts: dict[str, Any] = {}
    if model is not None:
        limits = recipe.limits.model_dump(mode="json", exclude_none=True)
        job = Job(
            f"cloudbaker.compute.{function}", {"model.glb": model, **more}, {"limits": limits}, job_limits(recipe)
        )
        seen = workbench.run(job).unwrap().value
        findings += findings_of(seen.pop("findings", []))
        facts = seen.get("facts", seen)
    return Look(str(path), Verdict.of(tuple(findings)), facts)


def _whole(workbench: Workbench, path: Path, recipe: Recipe) -> tuple[bytes | None, list[Finding]]:
    """The model at `path` as one GLB; None where the findings say why not."""
    if recipe.target != "web":
        raise UsageError(f"recipe {recipe.name} is for {recipe.target}: mods are looked at with `cloudbaker scan`")
    limits = recipe.limits.model_dump(mode="json", exclude_none=True)
    bounds = job_limits(recipe)

    def do(job: Job) -> Outcome:
        return workbench.run(job).unwrap()

    files, findings = gather(path, do, recipe)
    model = None
    if not _rejected(findings):
        inputs = {f.name: f.path for f in files}
        whole = do(
            Job("cloudbaker.compute.gltf.intake:to_glb_job", inputs, {"main": files[0].name, "limits": limits}, bounds)
        )
        findings += findings_of(whole.value["findings"])
        model = whole.files.get("model.glb")
    return model, findings


def _rejected(findings: list[Finding]) -> bool:
    return any(f.severity is Severity.ERROR for f in findings)
