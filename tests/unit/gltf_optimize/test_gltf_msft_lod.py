"""All levels of detail in one file, on request."""

from __future__ import annotations

import numpy as np
import pytest

from cloudbaker.compute.gltf.decompress import decode
from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.khronos import validate_all
from cloudbaker.compute.gltf.measure import Geometry
from cloudbaker.compute.gltf.msft_lod import Level, Levelled, msft_lod, screen_coverage
from cloudbaker.compute.gltf.optimize import assemble_job
from cloudbaker.compute.gltf.precheck import precheck
from cloudbaker.compute.gltf.simplify import SimplifyOptions, simplify
from cloudbaker.compute.npm import validator_js
from cloudbaker.testing import models

LODS = [
    {"variant": "lod1", "ratio": 0.5, "max_error_percent": 1.0},
    {"variant": "lod2", "ratio": 0.2, "max_error_percent": 3.0},
]


def levelled(data: bytes) -> tuple[Document, Levelled]:
    document = Document.from_glb(data)
    levels = []
    for number, ratio in enumerate((0.5, 0.2)):
        level = document.clone()
        simplify(level, SimplifyOptions(ratio=ratio, max_error_percent=3.0))
        levels.append(Level(level, 10.0 * (number + 1)))
    return document, msft_lod(document, levels)


@pytest.mark.parametrize("name", ["sphere", "vertex_colored", "variants", "quantized", "interleaved"])
def test_each_node_names_its_simpler_selves(name: str) -> None:
    data = models.VALID[name]()
    before = Document.from_glb(data)
    document, done = levelled(data)
    assert done == Levelled(1, 0)
    (node,) = [n for n in document.items("nodes") if "MSFT_lod" in n.get("extensions", {})]
    ids = node["extensions"]["MSFT_lod"]["ids"]
    assert ids == [len(before.items("nodes")), len(before.items("nodes")) + 1]
    covers = node["extras"]["MSFT_screencoverage"]
    assert len(covers) == len(ids) + 1
    assert covers == sorted(covers, reverse=True)
    assert covers[-1] == 0
    sizes = [
        sum(
            document.items("accessors")[p["indices"]]["count"]
            for p in document.items("meshes")[each["mesh"]]["primitives"]
        )
        for each in (node, *(document.items("nodes")[i] for i in ids))
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < sizes[1] < sizes[0]
    # In no scene, in the same place, with the same materials.
    shown = {n for scene in document.items("scenes") for n in scene["nodes"]}
    assert not shown & set(ids)
    for at in ids:
        level = document.items("nodes")[at]
        assert {k: level[k] for k in level if k not in ("mesh", "name")} == {
            k: node[k] for k in node if k in ("translation", "rotation", "scale", "matrix", "skin")
        }
        primitive = document.items("meshes")[level["mesh"]]["primitives"][0]
        full = document.items("meshes")[node["mesh"]]["primitives"][0]
        assert primitive.get("material") == full.get("material")
        assert primitive.get("extensions") == full.get("extensions")
    out = document.to_glb()
    assert precheck(out).document is not None
    (report,) = validate_all([out], validator_js=validator_js().read_text("utf-8"))
    assert report.errors == 0


def test_what_is_skinned_keeps_its_skin() -> None:
    document, done = levelled(models.skinned(segments=24, rings=48))
    assert done.nodes == 1
    (node,) = [n for n in document.items("nodes") if "MSFT_lod" in n.get("extensions", {})]
    for at in node["extensions"]["MSFT_lod"]["ids"]:
        assert document.items("nodes")[at]["skin"] == node["skin"]


def test_what_moves_or_has_children_stays_whole() -> None:
    """Its levels would stay behind, or hide the children."""
    assert levelled(models.morphed())[1] == Levelled(0, 1)
    document = Document.from_glb(models.sphere(24))
    document.json["nodes"].append({"name": "child"})
    document.json["nodes"][0]["children"] = [1]
    level = document.clone()
    simplify(level, SimplifyOptions(ratio=0.3, max_error_percent=3.0))
    assert msft_lod(document, [Level(level, 1.0)]) == Levelled(0, 1)
    assert "extensionsUsed" not in document.json


def test_levels_of_another_document_are_refused() -> None:
    with pytest.raises(ValueError, match="nodes"):
        msft_lod(Document.from_glb(models.sphere()), [Level(Document.from_glb(models.skinned()), 1.0)])


def test_coverage_is_a_part_of_the_view() -> None:
    assert screen_coverage(1.0, 0.5) == 1.0
    near, far = screen_coverage(1.0, 10.0), screen_coverage(1.0, 20.0)
    assert near == pytest.approx(4 * far, rel=0.01)
    # A ball as high as the view covers π/4 of a square, of 16:9.
    assert screen_coverage(np.tan(np.radians(25)), 1.0) == pytest.approx(np.pi / 4 * 9 / 16, rel=0.01)


def test_a_distance_is_an_error_in_pixels() -> None:
    geometry = Geometry(0, 0, error_units=0.01)
    assert geometry.distance(2.0) == pytest.approx(geometry.distance(1.0) / 2, rel=0.001)
    # At that distance 0.01 units are two pixels of 1080 over 50°.
    height = 2 * geometry.distance(2.0) * np.tan(np.radians(25))
    assert 0.01 / height * 1080 == pytest.approx(2.0, rel=0.001)


def test_a_bake_writes_one_file_with_all_levels_where_it_is_asked_to() -> None:
    data = models.grid(24)
    params = {"meshes": {"compression": "auto"}, "lods": LODS}
    inputs = {"model.glb": memoryview(data)}
    assert "model-lods.glb" not in assemble_job(inputs, params).files
    result = assemble_job(inputs, {**params, "meshes": {"compression": "auto", "msft_lod": True}})
    out = bytes(result.files["model-lods.glb"])
    assert len(out) <= len(data)
    assert result.value["losses"] == []
    row = next(v for v in result.value["variants"] if v["name"] == "model-lods.glb")
    assert row["variant"] == "lods"
    document = Document.from_glb(out)
    decode(document)
    levels = [v["triangles"] for v in result.value["variants"] if v["variant"] in ("default", "lod1", "lod2")]
    assert row["triangles"] == sum(levels)
    (report,) = validate_all([document.to_glb()], validator_js=validator_js().read_text("utf-8"))
    assert report.errors == 0


def test_a_later_switch_may_be_wanted() -> None:
    inputs = {"model.glb": memoryview(models.grid(24))}
    one, four = (
        assemble_job(inputs, {"meshes": {"switch_pixels": pixels}, "lods": LODS}).value["variants"]
        for pixels in (1.0, 4.0)
    )
    assert one[2]["suggested_distance"] == pytest.approx(4 * four[2]["suggested_distance"], rel=0.01)
