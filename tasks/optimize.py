"""optimize: make what was let in smaller, measure what that cost, and say what was lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cloudbaker.model import Finding, Loss
from cloudbaker.tasks.context import BakeContext
from cloudbaker.tasks.stage import stage
from cloudbaker.tasks.targets import target_of
from cloudbaker.tasks.validate import Validated


@dataclass(frozen=True)
class Optimized:
    """The baked files and all that was measured about them."""

    files: Mapping[str, bytes]
    """``model.glb``, ``lod1.glb`` …"""
    variants: list[dict[str, Any]]
    """One per file: name, variant, triangles, bytes, compression, error_mean_percent … (see the manifest's docs)."""
    textures: list[dict[str, Any]]
    """One per image: index, slots, sizes, bytes before and after, psnr_db or angle_degrees."""
    losses: tuple[Loss, ...]
    findings: tuple[Finding, ...] = ()
    """What only a full decode shows: an image that is damaged inside. An error rejects, and there are no files."""
    metrics: dict[str, float] = field(default_factory=dict)


@stage("optimize", share=0.45)
def optimize(context: BakeContext, validated: Validated) -> Optimized:
    """The content as the target wants it."""
    return target_of(context.recipe).optimize(context, validated)
