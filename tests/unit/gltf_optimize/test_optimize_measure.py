"""Measured geometry: what a node's scale does to an error, and when a file is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cloudbaker.compute.gltf.document import ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER, Document
from cloudbaker.compute.gltf.measure import Geometry, count, local_matrix, measure, node_scales
from cloudbaker.compute.gltf.simplify import SimplifyOptions, simplify
from cloudbaker.testing import models, shapes
from cloudbaker.testing.writer import Writer


def moved(by: float, *, scale: float = 1.0) -> tuple[Document, Document]:
    """A flat sheet of one unit, and the same lifted by `by`, both shown at a scale."""
    documents = []
    for height in (0.0, by):
        d = Document.from_glb(models.box())
        primitive = d.json["meshes"][0]["primitives"][0]
        corners = np.array([[0, height, 0], [1, height, 0], [1, height, 1], [0, height, 1]], np.float32)
        primitive["attributes"] = {"POSITION": d.add_accessor(corners, bounds=True, target=ARRAY_BUFFER)}
        faces = np.array([[0], [1], [2], [0], [2], [3], [1], [1], [3]], np.uint16)
        primitive["indices"] = d.add_accessor(faces, target=ELEMENT_ARRAY_BUFFER)
        d.json["nodes"][0]["scale"] = [scale, 1.0, 1.0]
        documents.append(d)
    return documents[0], documents[1]


def test_a_known_distance_is_measured():
    found = measure(*moved(0.01))
    percent = 100 * 0.01 / math.sqrt(2)
    assert found.error_mean_percent == pytest.approx(percent, rel=1e-4)
    assert found.error_max_percent == pytest.approx(percent, rel=1e-4)
    assert found.error_units == pytest.approx(0.04, rel=1e-4)
    assert measure(*moved(0.01, scale=10.0)).error_units == pytest.approx(0.4, rel=1e-4)


def test_nothing_moved_is_exactly_nothing():
    assert measure(*moved(0.0)) == Geometry(3, 4)


def test_a_pixel_is_a_pixel():
    """At the suggested distance the error spans 1/1080 of a 50° view."""
    distance = Geometry(0, 0, error_units=0.1).suggested_distance
    assert 0.1 / (2 * distance * math.tan(math.radians(25))) == pytest.approx(1 / 1080, rel=1e-3)


def test_a_primitive_that_lost_everything_is_refused():
    source, output = moved(0.01)
    primitive = output.json["meshes"][0]["primitives"][0]
    primitive["indices"] = output.add_accessor(np.array([[0], [0], [1]], np.uint16))
    with pytest.raises(ValueError, match="lost all its triangles"):
        measure(source, output)


def test_triangles_without_area_do_not_count():
    """A codec may drop the third one of the sheet, whose corners are two points: nobody sees it."""
    source, output = moved(0.0)
    primitive = output.json["meshes"][0]["primitives"][0]
    primitive["indices"] = output.add_accessor(np.array([[0], [2], [3], [0], [1], [2]], np.uint16))
    assert measure(source, output).error_max_percent < 1e-9


def test_scales_add_up_along_the_tree_and_instances():
    d = Document.from_glb(models.box())
    d.json["nodes"] = [
        {"scale": [2.0, 1.0, 1.0], "children": [1]},
        {"rotation": [0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5)], "children": [2]},
        {"matrix": np.diag([3.0, 1, 1, 1]).ravel().tolist(), "mesh": 0},
        {"mesh": 0, "extensions": {"EXT_mesh_gpu_instancing": {"attributes": {"SCALE": 0}}}},
    ]
    d.set_accessor(0, np.array([[1, 1, 1], [1, 5, 1]], np.float32))
    assert node_scales(d) == pytest.approx({2: 3.0, 3: 5.0})


def test_a_skinned_mesh_goes_where_its_joints_are():
    d = Document.from_glb(models.skinned())
    bar = next(number for number, node in enumerate(d.json["nodes"]) if "skin" in node)
    d.json["nodes"][bar]["scale"] = [100.0, 100.0, 100.0]
    assert node_scales(d) == pytest.approx({bar: 1.0})


def test_rotations_are_turned_the_right_way():
    turned = local_matrix({"rotation": [0, 0, math.sqrt(0.5), math.sqrt(0.5)], "translation": [1, 2, 3]})
    np.testing.assert_allclose(turned @ [1, 0, 0, 1], [1, 3, 3, 1], atol=1e-12)


def test_counts_are_those_of_the_report():
    assert count(Document.from_glb(models.box())) == Geometry(12, 24)


def test_a_texture_that_is_shown_elsewhere_is_measured_and_can_be_a_gate():
    """The hills' texture coordinates bend where their surface hardly does."""
    w = Writer()
    grid = shapes.heightfield(np.zeros((33, 33), np.float32))
    bent = grid.uvs + np.float32(0.05) * np.sin(grid.uvs[:, ::-1] * 9)
    surface = shapes.Surface(grid.positions, grid.normals, bent.astype(np.float32), grid.indices)
    w.scene(w.node(mesh=w.mesh(surface)))
    document = Document.from_glb(w.glb())
    free, held = document.clone(), document.clone()
    simplify(free, SimplifyOptions(ratio=0.03, max_error_percent=1.0))
    simplify(held, SimplifyOptions(ratio=0.03, max_error_percent=1.0, max_texcoord_pixels=1.0))
    loose, tight = measure(document, free), measure(document, held)
    assert loose.error_mean_percent < 0.01
    assert loose.texcoord_pixels > 2
    assert tight.texcoord_pixels <= 1.1
    assert loose.triangles < tight.triangles < 2048
    assert measure(document, document.clone()).texcoord_pixels == 0
