"""optimize: take the model apart, encode its images each on its own, put it together smaller, and make its LODs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cloudbaker.model import Finding, Loss, Verdict, VerdictKind
from cloudbaker.tasks.context import BakeContext
from cloudbaker.tasks.gather import findings_of
from cloudbaker.tasks.stage import stage
from cloudbaker.tasks.validate import Validated


@dataclass(frozen=True, slots=True)
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
    """One job takes the model apart, one per image encodes it (on a GPU where there is one), one assembles."""
    recipe = context.recipe
    unpacked = context.do(context.job("gltf.optimize:unpack_job", {"model.glb": validated.model}))
    images = unpacked.value["images"] if recipe.textures.format != "keep" else []
    encoded = context.do_all(
        [
            context.job(
                "textures.encode:encode_job",
                {"image": unpacked.files[image["file"]]},
                gpu=True,
                slot_class=image["slot_class"],
                limits={"image_pixels": recipe.limits.image_pixels},
                **recipe.textures.model_dump(mode="json"),
            )
            for image in images
        ]
    )
    findings = [
        replace(finding, place=f"/images/{image['index']}")
        for image, outcome in zip(images, encoded, strict=True)
        for finding in findings_of(outcome.value["findings"])
    ]
    if Verdict.of(tuple(findings)).kind is VerdictKind.REJECT:
        return Optimized({}, [], [], (), tuple(findings))
    inputs: dict[str, Path | bytes | memoryview] = {"model.glb": validated.model}
    replaced, textures = [], []
    for image, outcome in zip(images, encoded, strict=True):
        before = len(unpacked.files[image["file"]])
        new = outcome.files.get("image")
        textures.append({**image, **outcome.value, "bytes_before": before, "bytes": len(new) if new else before})
        if new is not None:
            inputs[image["file"]] = new
            replaced.append({"index": image["index"], "file": image["file"], "mime": outcome.value["mime"]})
    assembled = context.do(
        context.job(
            "gltf.optimize:assemble_job",
            inputs,
            images=replaced,
            meshes=recipe.meshes.model_dump(mode="json"),
            lods=[lod.model_dump(mode="json") for lod in recipe.lods],
        )
    )
    variants = assembled.value["variants"]
    return Optimized(
        assembled.files,
        variants,
        textures,
        tuple(Loss(**loss) for loss in assembled.value["losses"]),
        tuple(findings),
        {f"{v['variant']}_bytes": float(v["bytes"]) for v in variants},
    )
