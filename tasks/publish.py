"""publish: objects first, then one catalog transaction that makes the version visible and moves the channel."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cloudbaker.catalog.core import UploadKey
from cloudbaker.compute.package import MANIFEST
from cloudbaker.media import media_type
from cloudbaker.model import Artifact, Publication, Role, Version
from cloudbaker.tasks.context import BakeContext
from cloudbaker.tasks.ingest import Ingested
from cloudbaker.tasks.optimize import Optimized
from cloudbaker.tasks.package import Packaged
from cloudbaker.tasks.preview import Previewed
from cloudbaker.tasks.stage import stage
from cloudbaker.tasks.validate import Validated


@dataclass(frozen=True, slots=True)
class Published:
    """The visible version."""

    version: Version
    created: bool
    """False if an earlier, interrupted or concurrent run had already made it visible."""
    metrics: dict[str, float] = field(default_factory=dict)


@stage("publish", share=0.02)
def publish(
    context: BakeContext,
    ingested: Ingested,
    validated: Validated,
    optimized: Optimized,
    previewed: Previewed,
    packaged: Packaged,
) -> Published:
    """A crash between any two steps leaves nothing half-visible: unreferenced objects are swept later."""
    by_name = {v["name"]: v for v in (*optimized.variants, *packaged.variants)}
    device = "cuda" if any(str(t.get("device", "")).startswith("cuda") for t in optimized.textures) else "cpu"
    artifacts = []
    for name, data in {**packaged.files, **previewed.pictures}.items():
        known = by_name.get(name, {})
        role = Role.MODEL_3D if name in by_name else Role.BUNDLE if name == MANIFEST else Role.IMAGE
        role = packaged.roles.get(name, role)
        with context.catalog.upload(
            context.request.asset.tenant, "public", key_hint=UploadKey(context.run.run_id, role, name)
        ) as upload:
            upload.write(data)
        artifacts.append(
            Artifact(
                role,
                known.get("variant") or Path(name).stem,
                name,
                media_type(name),
                upload.blob,
                device,
                {k: float(v) for k, v in known.items() if isinstance(v, (int, float)) and not isinstance(v, bool)},
            )
        )
    result = context.catalog.publish(
        Publication(
            asset=context.request.asset,
            run_id=context.run.run_id,
            bake_key=ingested.bake_key,
            recipe=context.recipe.name,
            recipe_hash=context.recipe.hash,
            engine=ingested.engine,
            tools=dict(ingested.tools),
            sources=ingested.sources,
            artifacts=tuple(artifacts),
            findings=(
                *validated.verdict.findings,
                *optimized.findings,
                *previewed.findings,
                *packaged.findings,
            ),
            losses=optimized.losses,
            metrics={
                **ingested.metrics,
                **validated.metrics,
                **optimized.metrics,
                **previewed.metrics,
                **packaged.metrics,
            },
            provenance=packaged.envelope,
            created_by=context.request.created_by,
            change_note=context.request.change_note,
            channel=context.request.channel,
            replaces=context.request.replaces,
            dependencies=ingested.dependencies,
        )
    )
    return Published(result.version, result.created)
