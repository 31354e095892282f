"""validate: bring the sources into one GLB, check it with our own eyes and then with the official validator's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cloudbaker.compute.npm import validator_js
from cloudbaker.model import Verdict, VerdictKind
from cloudbaker.tasks.context import BakeContext
from cloudbaker.tasks.gather import findings_of
from cloudbaker.tasks.ingest import Ingested, blob_input
from cloudbaker.tasks.stage import stage


@dataclass(frozen=True, slots=True)
class Validated:
    """The model as one GLB, and what is thought of it."""

    verdict: Verdict
    model: bytes = b""
    """Empty if rejected."""
    facts: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


@stage("validate", share=0.15)
def validate(context: BakeContext, ingested: Ingested) -> Validated:
    """The verdict on the ingested sources. Bad content is a verdict, not an exception."""
    limits = context.recipe.limits.model_dump(mode="json", exclude_none=True)
    findings = list(ingested.findings)
    if Verdict.of(tuple(findings)).kind is VerdictKind.REJECT:
        return Validated(Verdict.of(tuple(findings)))
    main = ingested.sources[0].name
    whole = context.do(
        context.job(
            "gltf.intake:to_glb_job",
            {s.name: blob_input(context, s.blob) for s in ingested.sources},
            main=main,
            limits=limits,
        )
    )
    findings += findings_of(whole.value["findings"])
    model = whole.files.get("model.glb")
    if model is None:
        return Validated(Verdict.of(tuple(findings)))
    checked = context.do(
        context.job("gltf.validate:validate_job", {"model.glb": model, "validator.js": validator_js()}, limits=limits)
    )
    findings += findings_of(checked.value["findings"])
    verdict = Verdict.of(tuple(findings))
    facts = checked.value["facts"]
    return Validated(
        verdict,
        model if verdict.kind is not VerdictKind.REJECT else b"",
        facts,
        {f"source_{k}": float(facts[k]) for k in ("triangles", "vertices", "images", "animations") if k in facts},
    )
