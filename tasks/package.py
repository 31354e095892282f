"""package: check what was baked once more, by the official validator, then describe it in a manifest and sign it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cloudbaker.canonical import canonical_json
from cloudbaker.compute.npm import validator_js
from cloudbaker.compute.package import MANIFEST, build_manifest
from cloudbaker.compute.signing import dsse
from cloudbaker.compute.signing.statement import PAYLOAD_TYPE, build_statement
from cloudbaker.compute.toolchain import versions
from cloudbaker.errors import SandboxJobError
from cloudbaker.tasks.context import BakeContext
from cloudbaker.tasks.ingest import Ingested
from cloudbaker.tasks.optimize import Optimized
from cloudbaker.tasks.stage import stage


@dataclass(frozen=True, slots=True)
class Packaged:
    """A web bundle: its files with the manifest, and the signed statement about them."""

    files: Mapping[str, bytes]
    envelope: str
    """DSSE envelope, JSON text."""
    metrics: dict[str, float] = field(default_factory=dict)


@stage("package", share=0.08)
def package(context: BakeContext, ingested: Ingested, optimized: Optimized) -> Packaged:
    """Nothing that the official validator finds fault with is packaged: the run fails instead."""
    checked = context.do(
        context.job("gltf.validate:check_outputs_job", {**optimized.files, "validator.js": validator_js()})
    ).value
    for name, result in checked.items():
        if result["errors"] or result["decompressed_errors"]:
            raise SandboxJobError(
                f"the baked {name} did not pass the official validator, so nothing was published; this is a defect of "
                "Cloud Baker: please report it with the source file",
                detail=str(result["findings"][:5]),
            )
    manifest = build_manifest(
        asset=context.request.asset,
        recipe=context.recipe.name,
        recipe_hash=context.recipe.hash,
        bake_key=ingested.bake_key,
        files=optimized.files,
        variants=optimized.variants,
        textures=optimized.textures,
        losses=optimized.losses,
    )
    files = {**optimized.files, MANIFEST: manifest}
    statement = build_statement(
        files=files,
        asset=context.request.asset,
        recipe=context.recipe.name,
        recipe_hash=context.recipe.hash,
        bake_key=ingested.bake_key,
        sources=ingested.sources,
        tools=versions(),
        isolation=context.isolation,
        run_id=context.run.run_id,
        started_at=context.run.started_at,
        finished_at=datetime.now(UTC),
    )
    envelope = dsse.sign(canonical_json(statement), PAYLOAD_TYPE, context.keys)
    return Packaged(
        files,
        dsse.dumps(envelope),
        {
            "package_bytes": float(sum(map(len, files.values()))),
            "validator_errors": float(sum(r["errors"] + r["decompressed_errors"] for r in checked.values())),
        },
    )
