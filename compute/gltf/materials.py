"""What a recipe asks for of materials and their textures, before any image is encoded."""

from __future__ import annotations

from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.merge_textures import merge_textures
from cloudbaker.compute.gltf.metal_rough import MetalRoughOptions, metal_rough
from cloudbaker.compute.gltf.prune import drop_orphans, prune, reserve, unused
from cloudbaker.compute.gltf.references import SPEC_GLOSS
from cloudbaker.compute.gltf.split_textures import split_textures
from cloudbaker.compute.gltf.unlit import unlit
from cloudbaker.compute.job import Inputs, JobResult, Params

MODEL = "model.glb"


def materials_job(inputs: Inputs, params: Params) -> JobResult:
    """Apply the material verbs of a recipe, ``params["verbs"]``: metal_rough, unlit, merge_textures, split_textures.

    Input ``model.glb``. Value: ``{"changed": materials, "notes": [what stays as it was, and why]}``; the file
    ``model.glb`` only if a material has changed. New images are lossless PNG, for the encoder to do what the recipe
    wants of them. Raises `GlbError` or `DocumentError` on damage.
    """
    document, verbs = Document.from_glb(inputs[MODEL]), params["verbs"]
    reserved, before = reserve(document), unused(document)
    changed, notes = 0, list[str]()
    method = verbs.get("metal_rough", "keep")
    if method != "keep" and SPEC_GLOSS in document.json.get("extensionsUsed", ()):
        converted = metal_rough(document, MetalRoughOptions(method))
        changed, notes = changed + converted.materials, [*notes, *converted.notes]
    if verbs.get("unlit"):
        changed += unlit(document)
    if verbs.get("merge_textures"):
        merged = merge_textures(document)
        changed, notes = changed + merged.materials, [*notes, *merged.notes]
    if verbs.get("split_textures"):
        split = split_textures(document)
        changed, notes = changed + split.materials, [*notes, *split.notes]
    if not changed:
        return JobResult({"changed": 0, "notes": notes})
    if reserved.pinned:
        prune(document, reserved)
    else:
        drop_orphans(document, before)
    return JobResult({"changed": changed, "notes": notes}, {MODEL: document.to_glb()})
