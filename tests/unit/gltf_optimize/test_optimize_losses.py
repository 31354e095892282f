"""The comparison finds whatever is missing; each case takes one thing away."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.losses import compare
from cloudbaker.testing import models


@pytest.mark.parametrize("name", sorted(models.VALID))
def test_a_model_lacks_nothing_of_itself(name):
    data = models.VALID[name]()
    assert compare(Document.from_glb(data), Document.from_glb(data)) == []


Case = tuple[Callable[[], bytes], Callable[[dict], object], str, str]
CASES: dict[str, Case] = {
    "copyright": (models.with_extras_and_names, lambda j: j["asset"].pop("copyright"), "copyright", "/asset/copyright"),
    "asset extras": (models.with_extras_and_names, lambda j: j["asset"].pop("extras"), "extras", "/asset/extras"),
    "root extras": (models.with_extras_and_names, lambda j: j.pop("extras"), "extras", "/extras"),
    "changed extras": (
        models.with_extras_and_names,
        lambda j: j["nodes"][1]["extras"].update(id=8),
        "extras",
        "/nodes/1/extras",
    ),
    "node name": (models.with_extras_and_names, lambda j: j["nodes"][0].pop("name"), "name", "/nodes/0/name"),
    "mesh name": (models.box, lambda j: j["meshes"][0].update(name="x"), "name", "/meshes/0/name"),
    "material name": (models.box, lambda j: j["materials"][0].pop("name"), "name", "/materials/0/name"),
    "texture name": (models.with_extras_and_names, lambda j: j["textures"][0].pop("name"), "name", "/textures/0/name"),
    "image extras": (
        models.with_extras_and_names,
        lambda j: j["images"][0].pop("extras"),
        "extras",
        "/images/0/extras",
    ),
    "primitive extras": (
        models.with_extras_and_names,
        lambda j: j["meshes"][0]["primitives"][0].pop("extras"),
        "extras",
        "/meshes/0/primitives/0/extras",
    ),
    "target names": (models.morphed, lambda j: j["meshes"][0].pop("extras"), "extras", "/meshes/0/extras"),
    "scene": (models.with_extras_and_names, lambda j: j["scenes"][0].pop("name"), "name", "/scenes/0/name"),
    "node": (models.animated, lambda j: j["nodes"].pop(), "value", "/nodes"),
    "unknown extension": (
        models.unknown_extension,
        lambda j: j["nodes"][0].pop("extensions"),
        "extension",
        "/nodes/0/extensions",
    ),
    "document extension": (models.unknown_extension, lambda j: j.pop("extensions"), "extension", "/extensions"),
    "lights": (models.lights, lambda j: j.pop("extensions"), "extension", "/extensions"),
    "camera": (models.lights, lambda j: j["cameras"][0].pop("name"), "name", "/cameras/0/name"),
    "variant": (
        models.variants,
        lambda j: j["meshes"][0]["primitives"][0].pop("extensions"),
        "extension",
        "/meshes/0/primitives/0/extensions",
    ),
    "variant's material": (
        models.variants,
        lambda j: j["meshes"][0]["primitives"][0]["extensions"]["KHR_materials_variants"]["mappings"][1].update(
            material=0
        ),
        "name",
        "/materials/1/name",
    ),
    "attribute": (
        models.sphere,
        lambda j: j["meshes"][0]["primitives"][0]["attributes"].pop("NORMAL"),
        "attribute",
        "/meshes/0/primitives/0/attributes/NORMAL",
    ),
    "morph target": (
        models.morphed,
        lambda j: j["meshes"][0]["primitives"][0]["targets"].pop(),
        "attribute",
        "/meshes/0/primitives/0/targets",
    ),
    "primitive": (
        models.points_and_lines,
        lambda j: j["meshes"][0]["primitives"].pop(),
        "mesh",
        "/meshes/0/primitives",
    ),
    "animation": (models.animated, lambda j: j["animations"].pop(), "animation", "/animations/1"),
    "channel": (models.animated, lambda j: j["animations"][1]["channels"].pop(), "animation", "/animations/1"),
    "other curve": (
        models.animated,
        lambda j: j["animations"][1]["samplers"][0].update(output=j["animations"][1]["samplers"][1]["output"]),
        "animation",
        "/animations/1/channels/0",
    ),
    "interpolation": (
        models.animated,
        lambda j: j["animations"][0]["samplers"][0].update(interpolation="STEP"),
        "animation",
        "/animations/0/channels/0",
    ),
    "skin": (models.skinned, lambda j: j["skins"][0]["joints"].reverse(), "skin", "/skins/0/joints/0"),
    "texture": (
        models.textured,
        lambda j: j["materials"][0].pop("normalTexture"),
        "value",
        "/materials/0/normalTexture",
    ),
    "other image": (models.textured, lambda j: j["textures"][0].update(source=1), "name", "/images/0/name"),
    "no image": (models.textured, lambda j: j["textures"][0].pop("source"), "texture", "/textures/0"),
    "factor": (
        models.box,
        lambda j: j["materials"][0]["pbrMetallicRoughness"].update(baseColorFactor=[0, 0, 0, 1]),
        "value",
        "/materials/0/pbrMetallicRoughness/baseColorFactor/0",
    ),
    "added": (
        models.box,
        lambda j: j["materials"][0].update(alphaMode="BLEND"),
        "value",
        "/materials/0/alphaMode",
    ),
    "used extension": (models.lights, lambda j: j.pop("extensionsUsed"), "extension", "/extensionsUsed"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_was_taken_away_is_found(case):
    make, take, kind, place = CASES[case]
    source, output = Document.from_glb(make()), Document.from_glb(make())
    take(output.json)
    losses = compare(source, output)
    assert [(loss.kind, loss.place) for loss in losses if loss.place == place] == [(kind, place)], losses
    assert all(loss.detail for loss in losses)


def test_changed_keyframes_are_found():
    source, output = (Document.from_glb(models.animated()) for _ in range(2))
    index = output.json["animations"][0]["samplers"][0]["output"]
    keys = output.accessor(index).copy()
    keys[3] += np.float32(1e-2)
    output.set_accessor(index, keys)
    assert [loss.place for loss in compare(source, output)] == ["/animations/0/channels/0"]


def test_a_primitive_without_triangles_is_found():
    source, output = (Document.from_glb(models.box()) for _ in range(2))
    output.set_accessor(output.json["meshes"][0]["primitives"][0]["indices"], np.zeros((0, 1), np.uint16))
    assert [loss.kind for loss in compare(source, output)] == ["mesh"]


def test_names_of_buffer_views_share_a_line():
    source, output = (Document.from_glb(models.box()) for _ in range(2))
    for number, view in enumerate(source.items("bufferViews")):
        view["name"] = f"view {number}"
    losses = compare(source, output)
    assert [loss.place for loss in losses] == ["/bufferViews"]
    assert "view 0" in losses[0].detail
