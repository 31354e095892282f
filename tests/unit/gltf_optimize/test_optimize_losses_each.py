"""Of each kind of thing that a tool may lose, one that is lost on purpose, alone: the report names it and nothing else.

The list is that of the promises: names, extras, copyright, extensions, attributes, animations, KHR_animation_pointer,
variants, cameras, lights. Peers that drop one of these say nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.losses import compare
from cloudbaker.compute.gltf.optimize import assemble_job
from cloudbaker.recipe import load_recipe
from cloudbaker.testing import models

Json = dict[str, Any]
POINTER = "KHR_animation_pointer"
LIGHTS = "KHR_lights_punctual"
VARIANTS = "KHR_materials_variants"


def pointed() -> bytes:
    """An animation whose two first channels move by KHR_animation_pointer."""
    document = Document.from_glb(models.animated())
    document.json["extensionsUsed"] = [*document.json.get("extensionsUsed", []), POINTER]
    for animation in document.json["animations"]:
        for channel in animation["channels"]:
            target = channel["target"]
            if target["path"] in ("translation", "rotation", "scale"):
                pointer = f"/nodes/{target['node']}/{target['path']}"
                channel["target"] = {"path": "pointer", "extensions": {POINTER: {"pointer": pointer}}}
    return document.to_glb()


def first_pointer(json: Json) -> Json:
    target: Json = json["animations"][0]["channels"][0]["target"]
    assert target["path"] == "pointer"
    return target


def light_node(json: Json) -> Json:
    node: Json = next(node for node in json["nodes"] if LIGHTS in node.get("extensions", {}))
    return node


def camera_node(json: Json) -> Json:
    node: Json = next(node for node in json["nodes"] if "camera" in node)
    return node


def pop_extension(holder: Json, name: str) -> None:
    del holder["extensions"][name]


def primitive(json: Json) -> Json:
    found: Json = json["meshes"][0]["primitives"][0]
    return found


Lose = Callable[[Json], object]
CASES: dict[str, tuple[Callable[[], bytes], Lose, set[str]]] = {
    # what is lost: model, how, kinds in the report
    "a node's name": (models.with_extras_and_names, lambda j: j["nodes"][0].pop("name"), {"name"}),
    "an animation's name": (models.animated, lambda j: j["animations"][0].pop("name"), {"name"}),
    "a node's extras": (models.with_extras_and_names, lambda j: j["nodes"][1].pop("extras"), {"extras"}),
    "the copyright": (models.with_extras_and_names, lambda j: j["asset"].pop("copyright"), {"copyright"}),
    "a changed copyright": (
        models.with_extras_and_names,
        lambda j: j["asset"].update(copyright="mine"),
        {"copyright"},
    ),
    "an unknown extension of a node": (
        models.unknown_extension,
        lambda j: pop_extension(j["nodes"][0], next(iter(j["nodes"][0]["extensions"]))),
        {"extension"},
    ),
    "a value inside an extension": (
        models.lights,
        lambda j: j["extensions"][LIGHTS]["lights"][0].update(intensity=0.25),
        {"extension"},
    ),
    "a vertex attribute": (models.sphere, lambda j: primitive(j)["attributes"].pop("NORMAL"), {"attribute"}),
    "an attribute of a morph target": (
        models.morphed,
        lambda j: primitive(j)["targets"][0].pop(next(iter(primitive(j)["targets"][0]))),
        {"attribute"},
    ),
    "an animation": (models.animated, lambda j: j["animations"].pop(), {"animation"}),
    "all animations": (models.animated, lambda j: j.pop("animations"), {"animation"}),
    "a channel": (models.animated, lambda j: j["animations"][-1]["channels"].pop(), {"animation"}),
    "a channel's node": (
        models.animated,
        lambda j: j["animations"][0]["channels"][0]["target"].pop("node"),
        {"animation"},
    ),
    "all channels by pointer": (
        pointed,
        lambda j: [
            a.update(channels=[c for c in a["channels"] if c["target"]["path"] != "pointer"]) for a in j["animations"]
        ],
        {"animation"},
    ),
    "a pointer": (pointed, lambda j: first_pointer(j).pop("extensions"), {"extension"}),
    "where a pointer leads": (
        pointed,
        lambda j: first_pointer(j)["extensions"][POINTER].update(pointer="/nodes/0/scale"),
        {"extension"},
    ),
    "the declaration of pointers": (pointed, lambda j: j["extensionsUsed"].remove(POINTER), {"extension"}),
    "the variants": (models.variants, lambda j: j["extensions"].pop(VARIANTS), {"extension"}),
    "a variant's name": (
        models.variants,
        lambda j: j["extensions"][VARIANTS]["variants"][0].pop("name"),
        {"name"},
    ),
    "a variant of a primitive": (
        models.variants,
        lambda j: primitive(j)["extensions"][VARIANTS]["mappings"].pop(),
        {"extension"},
    ),
    "a camera": (models.lights, lambda j: j.pop("cameras"), {"camera"}),
    "a camera's lens": (models.lights, lambda j: j["cameras"][0]["perspective"].update(yfov=1.25), {"camera"}),
    "a node's camera": (models.lights, lambda j: camera_node(j).pop("camera"), {"camera"}),
    "all lights": (models.lights, lambda j: j["extensions"].pop(LIGHTS), {"extension"}),
    "a light": (models.lights, lambda j: j["extensions"][LIGHTS]["lights"].pop(), {"extension"}),
    "a node's light": (models.lights, lambda j: pop_extension(light_node(j), LIGHTS), {"extension"}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_lost_on_purpose_is_reported_and_nothing_else(case: str) -> None:
    make, lose, kinds = CASES[case]
    source, output = Document.from_glb(make()), Document.from_glb(make())
    lose(output.json)
    losses = compare(source, output)
    assert losses
    assert {loss.kind for loss in losses} <= kinds, losses
    assert len(losses) <= 4, losses
    assert all(loss.place.startswith("/") and loss.detail for loss in losses)


@pytest.mark.parametrize("make", sorted({make for make, _, _ in CASES.values()}, key=lambda make: make.__name__))
def test_a_bake_of_the_same_models_loses_none_of_it(make: Callable[[], bytes]) -> None:
    data = make()
    recipe = load_recipe("web").model_dump(mode="json")
    done = assemble_job({"model.glb": memoryview(data)}, {"meshes": recipe["meshes"], "lods": recipe["lods"]})
    assert done.value["losses"] == []
