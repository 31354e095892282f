"""package: bring what was baked into the form that is delivered, check it once more, describe it and sign it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cloudbaker.canonical import canonical_json
from cloudbaker.compute.signing import dsse
from cloudbaker.compute.signing.statement import PAYLOAD_TYPE, build_statement
from cloudbaker.model import Finding, Role
from cloudbaker.tasks.context import BakeContext
from cloudbaker.tasks.ingest import Ingested
from cloudbaker.tasks.optimize import Optimized
from cloudbaker.tasks.stage import stage
from cloudbaker.tasks.targets import target_of


@dataclass(frozen=True, slots=True)
class Packaged:
    """A package: its files with the manifest, and the signed statement about them."""

    files: Mapping[str, bytes]
    """Empty where only the engine found what is wrong with the content: `findings` say what, and it is rejected."""
    envelope: str
    """DSSE envelope, JSON text."""
    metrics: dict[str, float] = field(default_factory=dict)
    variants: list[dict[str, Any]] = field(default_factory=list)
    """Rows about files that were made here, as `Optimized.variants`."""
    roles: Mapping[str, Role] = field(default_factory=dict)
    """Of files whose role does not follow from their rows."""
    findings: tuple[Finding, ...] = ()


@stage("package", share=0.08)
def package(context: BakeContext, ingested: Ingested, optimized: Optimized) -> Packaged:
    """What is delivered. What does not pass its last check is not packaged."""
    return target_of(context.recipe).package(context, ingested, optimized)


def signed(context: BakeContext, ingested: Ingested, files: Mapping[str, bytes]) -> str:
    """The envelope about the files of a package: a statement of how they came to be, signed with all keys."""
    statement = build_statement(
        files=files,
        asset=context.request.asset,
        recipe=context.recipe.name,
        recipe_hash=context.recipe.hash,
        bake_key=ingested.bake_key,
        sources=ingested.sources,
        tools=ingested.tools,
        isolation=context.isolation,
        run_id=context.run.run_id,
        started_at=context.run.started_at,
        finished_at=datetime.now(UTC),
        engine=ingested.engine,
    )
    return dsse.dumps(dsse.sign(canonical_json(statement), PAYLOAD_TYPE, context.keys))
