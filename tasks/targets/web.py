"""The web: one model as one GLB, its images encoded each on its own, levels of detail, a bundle with a manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cloudbaker.compute.gltf.facts import memory_of
from cloudbaker.compute.gltf.findings import Findings
from cloudbaker.compute.gltf.references import SPEC_GLOSS
from cloudbaker.compute.meshlab import version as meshlab_version
from cloudbaker.compute.npm import validator_js
from cloudbaker.compute.package import MANIFEST, build_manifest
from cloudbaker.compute.toolchain import versions
from cloudbaker.errors import SandboxJobError
from cloudbaker.model import Loss, Verdict, VerdictKind
from cloudbaker.recipe import Recipe
from cloudbaker.tasks.context import BakeContext
from cloudbaker.tasks.gather import findings_of, gather
from cloudbaker.tasks.ingest import Ingested, blob_input
from cloudbaker.tasks.optimize import Optimized
from cloudbaker.tasks.package import Packaged, signed
from cloudbaker.tasks.surfaces import decimated, repaired, wants_meshlab
from cloudbaker.tasks.targets import Identity, web_textures
from cloudbaker.tasks.validate import Validated

__all__ = ["gather", "identity", "optimize", "package", "validate"]


def identity(recipe: Recipe, _tenant: str) -> Identity:
    """The tools of a bake; the web has no engine. Raises `ToolMissing` where the recipe asks for an extra that is not
    installed."""
    extra = {"pymeshlab": meshlab_version()} if wants_meshlab(recipe) else {}
    return Identity(None, {**versions(), **extra, **web_textures.tools(recipe)})


def validate(context: BakeContext, ingested: Ingested) -> Validated:
    """Bring the sources into one GLB, check it with our own eyes and then with the official validator's."""
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


def optimize(context: BakeContext, validated: Validated) -> Optimized:
    """One job takes the model apart, one per image encodes it (on a GPU where there is one), one assembles."""
    recipe = context.recipe
    mended = Findings()
    model = repaired(context, _materials(context, validated), mended)
    unpacked = context.do(context.job("gltf.optimize:unpack_job", {"model.glb": model}))
    images = unpacked.value["images"] if web_textures.wanted(recipe) else []
    encoded, findings = web_textures.encode(context, images, unpacked.files)
    findings += [*mended] + [
        replace(finding, place=f"/images/{image['index']}")
        for image, outcome in zip(images, encoded, strict=True)
        for finding in findings_of(outcome.value["findings"])
    ]
    if Verdict.of(tuple(findings)).kind is VerdictKind.REJECT:
        return Optimized({}, [], [], (), tuple(findings))
    inputs: dict[str, Path | bytes | memoryview] = {"model.glb": model}
    if model is not validated.model:
        inputs["source.glb"] = validated.model
    replaced, heavier = [], []
    for image, outcome in zip(images, encoded, strict=True):
        inputs |= {f"{image['file']}.{name}": content for name, content in outcome.files.items()}
        row, offer = web_textures.forms(image, outcome)
        replaced += [row] if row else []
        heavier += [offer] if offer else []
    surfaces, replacements = decimated(context, model)
    assembled = context.do(
        context.job(
            "gltf.optimize:assemble_job",
            {**inputs, **surfaces},
            memory_bytes=memory_of(validated.facts),
            images=replaced,
            heavier=heavier,
            budget=recipe.textures.budget,
            meshes=recipe.meshes.model_dump(mode="json"),
            verbs=recipe.verbs.model_dump(mode="json"),
            lods=[lod.model_dump(mode="json") for lod in recipe.lods],
            replacements=replacements,
        )
    )
    variants = assembled.value["variants"]
    taken = set(assembled.value["heavier"])
    textures = [
        web_textures.told(image, outcome, len(unpacked.files[image["file"]]), heavy=image["index"] in taken)
        for image, outcome in zip(images, encoded, strict=True)
    ]
    return Optimized(
        assembled.files,
        variants,
        textures,
        tuple(Loss(**loss) for loss in assembled.value["losses"]),
        tuple(findings),
        {
            **{f"{v['variant']}_bytes": float(v["bytes"]) for v in variants},
            "texture_gpu_bytes": float(sum(row["gpu_bytes"] for row in textures)),
            "source_texture_gpu_bytes": float(sum(row["gpu_bytes_before"] for row in textures)),
            **web_textures.gpu_seconds(textures),
        },
    )


def _materials(context: BakeContext, validated: Validated) -> bytes:
    """The model with its materials as the recipe wants them; itself where there is nothing to do."""
    verbs = context.recipe.verbs
    glossy = verbs.metal_rough != "keep" and SPEC_GLOSS in validated.facts.get("extensions_used", ())
    if not (glossy or verbs.merge_textures or verbs.split_textures or verbs.unlit):
        return validated.model
    wanted = verbs.model_dump(mode="json")
    done = context.do(context.job("gltf.materials:materials_job", {"model.glb": validated.model}, verbs=wanted))
    return done.files.get("model.glb", validated.model)


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
    return Packaged(
        files,
        signed(context, ingested, files),
        {
            "package_bytes": float(sum(map(len, files.values()))),
            "validator_errors": float(sum(r["errors"] + r["decompressed_errors"] for r in checked.values())),
        },
    )
