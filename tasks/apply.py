"""One verb on one file, in the sandbox: what ``cloudbaker gltf`` does. Nothing is stored but the output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloudbaker.compute.job import Job, Outcome, Workbench
from cloudbaker.compute.npm import validator_js
from cloudbaker.errors import SandboxJobError, UsageError
from cloudbaker.model import Loss, Severity, Verdict
from cloudbaker.recipe import Recipe
from cloudbaker.tasks.context import job_limits
from cloudbaker.tasks.gather import findings_of, gather


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of a verb on a file."""

    verb: str
    path: str
    verdict: Verdict
    """On the input; if it is a rejection, the rest is empty."""
    data: bytes = b""
    """The GLB that was made."""
    result: Any = None
    """What the verb says of its work, as JSON."""
    before: Mapping[str, int] = field(default_factory=dict)
    """Bytes, triangles, vertices, accessors …"""
    after: Mapping[str, int] = field(default_factory=dict)
    losses: tuple[Loss, ...] = ()


def apply_verb(workbench: Workbench, path: Path, verb: str, options: Mapping[str, Any], recipe: Recipe) -> Applied:
    """Run a verb of ``compute/gltf`` on a ``.glb``, ``.gltf`` or ``.zip``, under a recipe's limits.

    Raises `SandboxJobError` where the output would not be valid: that is the verb's fault, and nothing comes of it.
    """
    if recipe.target != "web":
        raise UsageError(f"recipe {recipe.name} is for {recipe.target}: name one for the web, its limits hold")
    limits, bounds = recipe.limits.model_dump(mode="json", exclude_none=True), job_limits(recipe)

    def do(job: Job) -> Outcome:
        return workbench.run(job).unwrap()

    files, findings = gather(path, do, recipe)
    model = None
    if not any(f.severity is Severity.ERROR for f in findings):
        inputs = {f.name: f.path for f in files}
        whole = do(
            Job("cloudbaker.compute.gltf.intake:to_glb_job", inputs, {"main": files[0].name, "limits": limits}, bounds)
        )
        findings += findings_of(whole.value["findings"])
        model = whole.files.get("model.glb")
    if model is None:
        return Applied(verb, str(path), Verdict.of(tuple(findings)))
    done = do(
        Job(
            "cloudbaker.compute.gltf.apply:apply_job",
            {"model.glb": model, "validator.js": validator_js()},
            {"verb": verb, "options": dict(options), "limits": limits},
            bounds,
        )
    )
    value = done.value
    findings += findings_of(value["findings"])
    if "result" not in value:
        return Applied(verb, str(path), Verdict.of(tuple(findings)))
    if value["introduced"]:
        first = value["introduced"][0]
        raise SandboxJobError(
            f"{verb} would make a file with errors of this model ({first['code']} at {first['place']}), so nothing was "
            "written; please report it with the file",
            detail=str(value["introduced"][:20]),
        )
    return Applied(
        verb,
        str(path),
        Verdict.of(tuple(findings)),
        done.files["model.glb"],
        value["result"],
        value["before"],
        value["after"],
        tuple(Loss(**loss) for loss in value["losses"]),
    )
