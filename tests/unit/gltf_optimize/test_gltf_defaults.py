"""What goes without saying: merged, and no loss, whether written out or left out."""

from __future__ import annotations

import pytest

from cloudbaker.compute.gltf import Document, compare, dedup
from cloudbaker.compute.gltf.defaults import DEFAULTS, is_default, without_defaults
from cloudbaker.testing import models

SAID = {
    "alphaCutoff": 0.5,
    "alphaMode": "OPAQUE",
    "doubleSided": False,
    "emissiveFactor": [0.0, 0.0, 0.0],
    "pbrMetallicRoughness": {"baseColorFactor": [1, 1, 1, 1], "metallicFactor": 1.0, "roughnessFactor": 1},
    "normalTexture": {"index": 0, "texCoord": 0, "scale": 1.0},
}
MEANT = {"normalTexture": {"index": 0}}


def test_a_material_without_what_goes_without_saying():
    assert without_defaults("materials", SAID) == MEANT
    assert without_defaults("materials", {"extras": {"doubleSided": False}}) == {"extras": {"doubleSided": False}}


@pytest.mark.parametrize("place", sorted(DEFAULTS))
def test_only_the_very_value_is_a_default(place):
    at = "/" + place.replace("*", "0")
    assert is_default(at, DEFAULTS[place])
    other = {"MASK": 1} if isinstance(DEFAULTS[place], dict) else [DEFAULTS[place]]
    assert not is_default(at, other)
    assert not is_default("/nodes/0/extras", DEFAULTS[place])


def test_false_is_no_zero():
    assert not is_default("/materials/0/doubleSided", 0)
    assert not is_default("/materials/0/pbrMetallicRoughness/metallicFactor", True)
    assert is_default("/materials/0/extensions/KHR_materials_sheen/sheenColorTexture/texCoord", 0)
    assert not is_default("/materials/0/extras/texCoord", 0)


def test_materials_that_say_the_same_are_merged_and_nothing_is_lost():
    document = Document.from_glb(models.textured(16))
    [material] = document.json["materials"]
    document.json["materials"].append({**material, "doubleSided": False, "alphaMode": "OPAQUE"})
    primitives = document.json["meshes"][0]["primitives"]
    primitives.append({**primitives[0], "material": 1})
    source = document.clone()
    dedup(document)
    assert len(document.json["materials"]) == 1
    assert compare(source, document) == []


def test_writing_a_default_out_or_leaving_it_out_is_no_loss_and_another_value_is():
    plain, said = (Document.from_glb(models.textured(16)) for _ in range(2))
    said.json["materials"][0] |= {"doubleSided": False, "emissiveFactor": [0, 0, 0]}
    assert compare(plain, said) == compare(said, plain) == []
    said.json["materials"][0]["doubleSided"] = True
    assert [loss.place for loss in compare(plain, said)] == ["/materials/0/doubleSided"]
    assert [loss.place for loss in compare(said, plain)] == ["/materials/0/doubleSided"]
