"""Material verbs in a bake: what a recipe asks for, before images are encoded, and losses counted from the source."""

from __future__ import annotations

from cloudbaker.compute.gltf import Document
from cloudbaker.compute.gltf.materials import materials_job
from cloudbaker.compute.gltf.optimize import assemble_job, unpack_job
from cloudbaker.recipe import Verbs, load_recipe
from cloudbaker.testing import models, wasteful
from cloudbaker.testing.wasteful import SPEC_GLOSS


def test_the_web_recipe_makes_glossy_materials_readable_for_three_js():
    verbs = load_recipe("web").verbs.model_dump(mode="json")
    source = memoryview(wasteful.glossy())
    done = materials_job({"model.glb": source}, {"verbs": verbs})
    assert done.value == {"changed": 1, "notes": []}
    model = memoryview(done.files["model.glb"])
    images = unpack_job({"model.glb": model}, {}).value["images"]
    assert [image["slots"] for image in images] == [
        ["baseColorTexture"],
        ["specularColorTexture"],
        ["metallicRoughnessTexture"],
    ]
    assembled = assemble_job({"model.glb": model, "source.glb": source}, {"verbs": verbs})
    lost = {(loss["kind"], loss["place"]) for loss in assembled.value["losses"]}
    assert ("extension", "/extensionsUsed") in lost
    output = Document.from_glb(assembled.files["model.glb"])
    assert output.json["materials"][0]["pbrMetallicRoughness"]["metallicFactor"] == 0
    assert SPEC_GLOSS not in output.json["extensionsUsed"]


def test_nothing_asked_for_gives_no_file():
    verbs = Verbs(metal_rough="keep").model_dump(mode="json")
    assert materials_job({"model.glb": memoryview(wasteful.glossy())}, {"verbs": verbs}).files == {}
    plain = memoryview(models.textured(16))
    assert materials_job({"model.glb": plain}, {"verbs": Verbs().model_dump(mode="json")}).files == {}


def test_every_switch_does_its_verb():
    for name, changed in (("unlit", 1), ("merge_textures", 0), ("split_textures", 0)):
        verbs = Verbs(**{name: True}).model_dump(mode="json")
        assert (
            materials_job({"model.glb": memoryview(models.textured(16))}, {"verbs": verbs}).value["changed"] == changed
        )
