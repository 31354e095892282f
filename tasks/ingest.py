"""ingest: read the source once, hash it while reading, keep it in the vault; see whether there is anything to do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cloudbaker.bakekey import bake_key
from cloudbaker.errors import LimitExceeded
from cloudbaker.model import Blob, Dependency, Finding, Source, Version
from cloudbaker.tasks.context import BakeContext
from cloudbaker.tasks.gather import SourceFile, open_source
from cloudbaker.tasks.stage import stage
from cloudbaker.tasks.targets import target_of

_CHUNK = 1 << 20
_TOLD = 100
"""Sources that an event names: receivers limit its size (Prefect: 1.5 MB), and a model may have thousands."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """What came in. The first source is the main file."""

    sources: tuple[Source, ...]
    bake_key: str
    unchanged: Version | None
    """The version that already holds this bake, if it is where the channel points."""
    findings: tuple[Finding, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    engine: str | None = None
    """The engine that will bake, in the key."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """All tools that touch the bytes, in the key."""
    dependencies: tuple[Dependency, ...] = ()


@stage("ingest", share=0.05)
def ingest(context: BakeContext) -> Ingested:
    """Store the sources of the request in the vault and compute the bake key. Nothing is parsed outside the sandbox."""
    request, sources, findings = context.request, context.request.sources, list[Finding]()
    target = target_of(context.recipe)
    identity = target.identity(context.recipe, request.asset.tenant)  # first: without its engine nothing need be read
    if request.path is not None:
        files, findings = target.gather(Path(request.path), context.do, context.recipe)
        sources = _store(context, files)
    key = bake_key(sources, context.recipe.hash, identity.tools, engine=identity.engine)
    size = sum(s.blob.size for s in sources)
    dependencies = _dependencies(context)
    return Ingested(
        sources,
        key,
        _already_there(context, key, dependencies),
        tuple(findings),
        {"source_bytes": float(size)},
        identity.engine,
        identity.tools,
        dependencies,
    )


def _store(context: BakeContext, files: tuple[SourceFile, ...]) -> tuple[Source, ...]:
    allowed, size, sources = context.recipe.limits.source_bytes, 0, []
    for each in files:
        with open(open_source(each.path, each.root), "rb") as file:
            size += os.fstat(file.fileno()).st_size
            if size > allowed:
                raise LimitExceeded(
                    f"the source is larger than the recipe allows ({size:,} of {allowed:,} bytes): make it smaller, "
                    "or raise limits.source_bytes in the recipe",
                    limit="source_bytes",
                    allowed=allowed,
                )
            with context.catalog.upload(context.request.asset.tenant, "vault") as upload:
                while chunk := file.read(_CHUNK):
                    upload.write(chunk)
        sources.append(Source(each.name, each.media_type, upload.blob))
    told = [{"name": s.name, "sha256": s.blob.sha256, "bytes": s.blob.size} for s in sources]
    payload = {"sources": told[:_TOLD], "files": len(told), "bytes": size}
    context.catalog.announce(context.request.asset, "asset.uploaded", payload, run_id=context.run.run_id)
    return tuple(sources)


def _dependencies(context: BakeContext) -> tuple[Dependency, ...]:
    """As asked for; if nothing was said, as they were. Raises `NotFound` now, and not after minutes of work."""
    if context.request.dependencies is not None:
        for needed in context.request.dependencies:
            if needed.on_number is not None:
                context.catalog.get_version(needed.on_asset, needed.on_number)
            else:
                context.catalog.show(needed.on_asset, versions=0, dependents=0)
        return context.request.dependencies
    newest = context.catalog.versions(context.request.asset, limit=1)
    return newest[0].dependencies if newest else ()


def blob_input(context: BakeContext, blob: Blob) -> Path | bytes:
    """A stored blob as a job input: its path where the store is a folder, else its bytes."""
    return context.catalog.blob_path(blob) or context.catalog.read_blob(blob)


def _already_there(context: BakeContext, key: str, dependencies: tuple[Dependency, ...]) -> Version | None:
    """The version with this bake key, if publishing it again would change nothing."""
    version = context.catalog.find_version(context.request.asset, key)
    if version is None or set(version.dependencies) != set(dependencies):
        return None
    channel = context.request.channel
    return version if channel is None or channel in version.channels else None
