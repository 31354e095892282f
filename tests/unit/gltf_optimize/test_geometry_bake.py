"""The verbs in a bake: lossless ones by default, the others on request and with what they cost in the loss report."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cloudbaker.compute import gltf
from cloudbaker.compute.gltf.decompress import decode, dequantize
from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.optimize import assemble_job
from cloudbaker.compute.gltf.simplify import SimplifyOptions, simplify
from cloudbaker.compute.meshes.meshopt import MeshoptError
from cloudbaker.errors import RecipeError
from cloudbaker.recipe import Verbs, load_recipe, parse_recipe
from cloudbaker.testing import models, shapes
from cloudbaker.testing.worlds import world_difference
from cloudbaker.testing.writer import Writer

VALID = sorted(models.VALID)
STRUCTURE = {"flatten": True, "instance": True, "join": True, "keep_named": False, "tangents": "drop"}


def baked(data: bytes, compression: str = "none", **verbs: Any) -> tuple[Document, list[dict[str, Any]], int]:
    """The model, the losses, the bytes."""
    wanted = Verbs(**verbs).model_dump(mode="json") if verbs else {}
    made = assemble_job({"model.glb": memoryview(data)}, {"meshes": {"compression": compression}, "verbs": wanted})
    document = Document.from_glb(made.files["model.glb"])
    decode(document)
    dequantize(document)
    return document, made.value["losses"], len(made.files["model.glb"])


def plain(data: bytes) -> Document:
    document = Document.from_glb(data)
    decode(document)
    dequantize(document)
    return document


@pytest.mark.parametrize("name", VALID)
def test_lossless_verbs_never_make_a_plain_model_larger_nor_lose_anything(name):
    data = models.VALID[name]()
    _, _, without = baked(data)
    document, losses, size = baked(data, weld=True)
    assert size <= without
    assert losses == []
    assert world_difference(plain(data), document) < 1e-6


def test_loose_triangles_and_small_movements_shrink():
    sphere = shapes.sphere(0.5, 32)
    corner = sphere.indices.ravel()
    loose = shapes.Surface(
        sphere.positions[corner],
        sphere.normals[corner],
        sphere.uvs[corner],
        np.arange(len(corner), dtype=np.uint32).reshape(-1, 3),
    )
    w = Writer()
    primitive = w.primitive(loose)
    moves = np.zeros_like(loose.positions)
    moves[:30, 1] = 0.2
    primitive["targets"] = [{"POSITION": w.attribute(moves, bounds=True)}]
    w.scene(w.node(mesh=w.add("meshes", {"primitives": [primitive]})))
    sizes = [
        baked(w.glb(), weld=weld, reorder=False, sparsify=sparsify)[2]
        for weld, sparsify in ((False, False), (True, False), (True, True))
    ]
    assert sizes[1] < 0.4 * sizes[0]
    assert sizes[2] < 0.85 * sizes[1]


@pytest.mark.parametrize("compression", ["auto", "none"])
def test_what_was_asked_for_is_in_the_file_and_its_price_in_the_report(compression, khronos):
    data = models.many_nodes(40)
    document, losses, size = baked(data, compression, **STRUCTURE)
    assert size <= len(data)
    assert "EXT_mesh_gpu_instancing" in document.json["extensionsRequired"]
    assert sum("mesh" in node for node in document.items("nodes")) == 1
    assert world_difference(plain(data), document) < 1e-5
    assert {node["name"] for node in document.items("nodes")} == {f"cube {i}" for i in range(40)}
    assert {loss["place"].split("/")[1] for loss in losses} >= {"nodes"}
    assert khronos([document.to_glb()]) == []


@pytest.mark.parametrize("name", VALID)
def test_models_look_the_same_with_all_verbs(name):
    data = models.VALID[name]()
    document, _, size = baked(data, **STRUCTURE)
    assert size <= len(data)
    assert world_difference(plain(data), document) < 1e-5


def test_levels_of_detail_are_made_of_what_the_verbs_have_left():
    data = models.many_nodes(40)
    big = models.grid(40)
    for source in (data, big):
        made = assemble_job(
            {"model.glb": memoryview(source)},
            {
                "meshes": {"compression": "auto"},
                "verbs": Verbs(**STRUCTURE).model_dump(mode="json"),
                "lods": [{"variant": "lod1", "ratio": 0.5, "max_error_percent": 1.0}],
            },
        )
        full, level = (Document.from_glb(made.files[name]) for name in ("model.glb", "lod1.glb"))
        assert len(level.items("nodes")) == len(full.items("nodes"))
        assert level.json.get("extensionsRequired") == full.json.get("extensionsRequired")


def test_recipes_say_which():
    assert load_recipe("web").verbs == Verbs()
    base = 'name = "x"\ntarget = "web"\n'
    other = parse_recipe(base + "[verbs]\njoin = true\n")
    assert other.verbs.join
    assert other.hash != parse_recipe(base).hash
    with pytest.raises(RecipeError, match="verbs.melt"):
        parse_recipe(base + "[verbs]\nmelt = true\n")
    godot = 'name = "x"\ntarget = "godot"\n'
    assert parse_recipe(godot + "[verbs]\njoin = true\n").hash == parse_recipe(godot).hash, "not for Godot"


# -- simplify, and the names to import ---------------------------------------------------------------------------------


def test_simplify_halves_what_can_be_halved_and_says_where_it_could_not():
    document = Document.from_glb(models.sphere(48))
    done = simplify(document, SimplifyOptions(ratio=0.5))
    assert done.after == pytest.approx(done.before / 2, rel=0.1)
    assert done.note == ""
    box = Document.from_glb(models.box())
    kept = simplify(box, SimplifyOptions(ratio=0.1))
    assert (kept.before, kept.after) == (12, 12)
    assert "can't be simplified further" in kept.note
    with pytest.raises(MeshoptError, match="ratio"):
        simplify(document, SimplifyOptions(ratio=0))


@pytest.mark.parametrize("name", ["flatten", "instance", "join", "reorder", "simplify", "sparsify", "tangents", "weld"])
def test_each_can_be_imported_and_works_on_packed_models(name):
    verb = getattr(gltf, name)
    for make in (models.draco, models.meshopt, models.quantized):
        data = make()
        document = Document.from_glb(data)
        verb(document)
        after = plain(Document.from_glb(document.to_glb()).to_glb())
        if name != "simplify":
            assert world_difference(plain(data), after) < 1e-5
        assert len(after.items("nodes")) == len(Document.from_glb(data).items("nodes"))
