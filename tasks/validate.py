"""validate: the verdict on what came in, by the rules of the target. Bad content is a verdict, not an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cloudbaker.model import Verdict
from cloudbaker.tasks.context import BakeContext
from cloudbaker.tasks.ingest import Ingested
from cloudbaker.tasks.stage import stage
from cloudbaker.tasks.targets import target_of


@dataclass(frozen=True, slots=True)
class Validated:
    """The content as the next stage takes it, and what is thought of it."""

    verdict: Verdict
    model: bytes = b""
    """Web: the model as one GLB. Empty if rejected."""
    facts: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Godot: the files of the mod, by path below its folder. Empty if rejected."""


@stage("validate", share=0.15)
def validate(context: BakeContext, ingested: Ingested) -> Validated:
    """The verdict on the ingested sources."""
    return target_of(context.recipe).validate(context, ingested)
