"""The table of references: every line of it is found and renumbered, and what it does not know is noticed."""

from __future__ import annotations

import pytest

from cloudbaker.compute.gltf import references as r


def _place(place: str, index: int) -> dict:
    """The smallest document that has an index at this place of the table."""
    value: object = index
    for part in reversed(place.split("/")):
        value = [value] if part == "*" else {part.replace("**Texture", "baseColorTexture"): value}
    assert isinstance(value, dict)
    return value


TABLE = [("materials/*/pbr/**Texture/index", kind) if "**" in place else (place, kind) for place, kind in r.TABLE]


@pytest.mark.parametrize(("place", "kind"), TABLE, ids=[place for place, _ in TABLE])
def test_each_place_is_found_and_renumbered(place, kind):
    document = _place(place, 3)
    assert [(holder[key], found) for holder, key, found in r.references(document)] == [(3, kind)]
    assert not [1 for _ in r.references(document, *(k for k in r.KINDS if k != kind))]
    r.renumber(document, kind, [9, 9, 9, 7])
    assert document == _place(place, 7)


def test_attribute_dictionaries_are_walked_by_value():
    document = {"meshes": [{"primitives": [{"attributes": {"POSITION": 1, "_CUSTOM": 2}}]}]}
    assert sorted(h[k] for h, k, _ in r.references(document)) == [1, 2]


def test_texture_infos_of_any_extension_are_found():
    material = {
        "normalTexture": {"index": 1, "scale": 2},
        "extensions": {"KHR_materials_new": {"sparkleTexture": {"index": 2}, "deep": {"otherTexture": {"index": 3}}}},
        "extras": {"notTexture": {"index": 4}},
    }
    assert sorted(h[k] for h, k, _ in r.references({"materials": [material]}, "textures")) == [1, 2, 3]


def test_animation_pointers_follow_renumbering():
    def animation(pointer: str) -> dict:
        extension = {"KHR_animation_pointer": {"pointer": pointer}}
        return {"animations": [{"channels": [{"target": {"path": "pointer", "extensions": extension}}]}]}

    document = animation("/materials/1/pbrMetallicRoughness/baseColorFactor")
    r.renumber(document, "materials", [0, 5])
    assert document == animation("/materials/5/pbrMetallicRoughness/baseColorFactor")
    for kept in ("/nodes/1/rotation", "/extensions/KHR_lights_punctual/lights/1/color", "/materials/12/x"):
        document = animation(kept)
        r.renumber(document, "materials", [0, 5])
        assert document == animation(kept)


def test_integers_of_unknown_extensions_are_noticed_and_those_of_known_ones_not():
    document = {
        "extensions": {"KHR_lights_punctual": {"lights": [{"intensity": 5}]}, "ACME_a": {"node": 4, "on": True}},
        "nodes": [{"extensions": {"ACME_b": {"list": [[7]], "name": "8"}}, "extras": {"extensions": {"ACME_c": 9}}}],
        "materials": [{"extensions": {"KHR_materials_ior": {"ior": 1}}}],
    }
    assert r.foreign_integers(document) == {4, 7}
    assert r.foreign_integers({"nodes": [{"extensions": {"ACME_b": {"text": "only", "weight": 0.5}}}]}) == set()
