"""weld, reorder and sparsify: the same model to the last bit, in fewer bytes or in a better order."""

from __future__ import annotations

import numpy as np
import pytest

from cloudbaker.compute import gltf
from cloudbaker.compute.gltf.decompress import decode
from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.losses import compare
from cloudbaker.compute.gltf.pack import pack
from cloudbaker.compute.gltf.primitives import triangle_list
from cloudbaker.compute.gltf.prune import prune, reserve
from cloudbaker.compute.gltf.reorder import ReorderOptions, reorder
from cloudbaker.compute.gltf.sparsify import sparsify
from cloudbaker.compute.gltf.weld import WeldOptions, weld
from cloudbaker.testing import models, shapes
from cloudbaker.testing.shapes import Surface, f32
from cloudbaker.testing.writer import Writer

VALID = sorted(models.VALID)


def plain(name: str) -> Document:
    document = Document.from_glb(models.VALID[name]())
    decode(document)
    return document


def written(document: Document) -> Document:
    """What a file of it holds."""
    twin = document.clone()
    reserved = reserve(document)
    pack(twin)
    prune(twin, reserved)
    return Document.from_glb(twin.to_glb())


def corners(document: Document) -> list[np.ndarray]:
    """For each primitive, every triangle corner with everything it has: (t, 3, bytes)."""
    found = []
    for mesh in document.items("meshes"):
        for primitive in mesh["primitives"]:
            if primitive.get("mode", 4) < 4:
                continue
            places = [*primitive["attributes"].items()]
            for target in primitive.get("targets", ()):
                places += target.items()
            faces = triangle_list(document, primitive)
            # + 0: a zero has two signs
            columns = [document.accessor(index) + document.accessor(index).dtype.type(0) for _, index in places]
            rows = [np.ascontiguousarray(c[faces]).view(np.uint8).reshape(len(faces), 3, -1) for c in columns]
            found.append(np.concatenate(rows, axis=2))
    return found


def sorted_triangles(rows: np.ndarray) -> list[bytes]:
    """Whatever their order and their first corner."""
    return sorted(min(bytes(np.roll(t, turn, axis=0)) for turn in range(3)) for t in rows)


def indexed(surface: Surface, **more: np.ndarray) -> Document:
    w = Writer()
    mesh = w.mesh(surface, material=w.add("materials", {"name": "plain"}))
    for name, data in more.items():
        w.json["meshes"][mesh]["primitives"][0]["attributes"][name] = w.attribute(data)
    w.scene(w.node(name="it", mesh=mesh))
    return Document.from_glb(w.glb())


def apart(surface: Surface) -> Surface:
    """Each triangle with corners of its own."""
    corner = surface.indices.ravel()
    return Surface(
        surface.positions[corner],
        surface.normals[corner],
        surface.uvs[corner],
        np.arange(len(corner), dtype=np.uint32).reshape(-1, 3),
    )


# -- weld --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VALID)
def test_welding_changes_no_corner_and_never_grows_a_file(name):
    document = plain(name)
    before, size = corners(document), len(written(document).to_glb())
    weld(document)
    after = written(document)
    for a, b in zip(before, corners(after), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(after.to_glb()) <= size
    assert compare(plain(name), after) == []


def test_loose_triangles_are_joined_and_joined_ones_stay():
    sphere = shapes.sphere(0.5, 24)
    document = indexed(apart(sphere))
    loose = len(written(document).to_glb())
    done = weld(document)
    assert done.before == 3 * len(sphere.indices)
    assert done.after <= len(sphere.positions)
    assert len(written(document).to_glb()) < loose / 3
    assert weld(document) == type(done)(done.after, done.after)


def test_where_nothing_is_equal_indices_would_only_cost():
    rng = np.random.default_rng(1)
    soup = Surface(f32(rng.random((30, 3))), f32(np.tile([0, 0, 1], (30, 1))), f32(rng.random((30, 2))), np.zeros(0))
    w = Writer()
    primitive = w.primitive(Surface(soup.positions, soup.normals, soup.uvs, np.arange(30, dtype=np.uint32)))
    del primitive["indices"]
    w.scene(w.node(mesh=w.add("meshes", {"primitives": [primitive]})))
    document = Document.from_glb(w.glb())
    assert weld(document, WeldOptions(always=True)).after == 30
    assert "indices" not in document.json["meshes"][0]["primitives"][0]


def test_zeros_are_equal_and_morph_targets_keep_vertices_apart():
    square = Surface(
        f32([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 0], [0, 1, 0]]),
        f32(np.tile([0, 0, 1], (6, 1))),
        f32(np.zeros((6, 2))),
        np.arange(6, dtype=np.uint32).reshape(2, 3),
    )
    square.positions[3] *= -1  # -0.0
    options = WeldOptions(always=True)
    assert weld(indexed(square), options).after == 4
    document = indexed(square)
    moves = np.zeros((6, 3), np.float32)
    moves[0, 2] = 1
    document.json["meshes"][0]["primitives"][0]["targets"] = [{"POSITION": document.add_accessor(moves, bounds=True)}]
    assert weld(document, options).after == 5


def test_primitives_that_share_vertices_go_on_sharing_them():
    sphere = apart(shapes.sphere(0.5, 16))
    document = indexed(sphere)
    mesh = document.json["meshes"][0]
    whole = mesh["primitives"][0]
    half = len(sphere.indices) // 2
    mesh["primitives"] = [
        {**whole, "indices": document.add_accessor(part.reshape(-1, 1).astype(np.uint16), target=34963)}
        for part in (sphere.indices[:half], sphere.indices[half:])
    ]
    before = corners(document)
    weld(document)
    first, second = document.json["meshes"][0]["primitives"]
    assert first["attributes"] == second["attributes"]
    assert first["indices"] != second["indices"]
    for a, b in zip(before, corners(document), strict=True):
        np.testing.assert_array_equal(a, b)


def test_integers_stay_integers():
    document = plain("quantized")
    kinds = {name: document.accessor(i).dtype for name, i in _attributes(document).items()}
    assert weld(document).after < weld(plain("quantized"), WeldOptions(always=True)).before
    assert {name: document.accessor(i).dtype for name, i in _attributes(document).items()} == kinds


def _attributes(document: Document) -> dict[str, int]:
    found: dict[str, int] = document.json["meshes"][0]["primitives"][0]["attributes"]
    return found


# -- reorder -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VALID)
@pytest.mark.parametrize("options", [ReorderOptions(), ReorderOptions(size=True)], ids=["speed", "size"])
def test_reordering_keeps_every_triangle(name, options):
    document = plain(name)
    before = corners(document)
    done = reorder(document, options)
    after = written(document)
    for a, b in zip(before, corners(after), strict=True):
        assert sorted_triangles(a) == sorted_triangles(b)
    assert options.size or done.after <= done.before
    assert compare(plain(name), after) == []


def test_a_shuffled_grid_comes_into_order():
    field = shapes.heightfield(np.zeros((33, 33), np.float32))
    field.indices[:] = np.random.default_rng(3).permutation(field.indices)
    document = indexed(field)
    done = reorder(document)
    assert done.before > 2.5
    assert done.after < 0.75
    used = document.accessor(document.json["meshes"][0]["primitives"][0]["indices"])[:, 0]
    first = np.unique(used, return_index=True)[1]
    assert (np.diff(first) > 0).all(), "vertices in the order of their first use"
    assert reorder(document).after <= done.after


@pytest.mark.parametrize("variant", [False, True])
def test_what_is_seen_through_keeps_its_order_of_triangles(variant):
    field = shapes.heightfield(np.zeros((9, 9), np.float32))
    field.indices[:] = np.random.default_rng(3).permutation(field.indices)
    document = indexed(field)
    document.json["materials"].append({"alphaMode": "BLEND"})
    primitive = document.json["meshes"][0]["primitives"][0]
    if variant:
        primitive["extensions"] = {"KHR_materials_variants": {"mappings": [{"material": 1, "variants": [0]}]}}
    else:
        primitive["material"] = 1
    before = corners(document)
    reorder(document)
    for a, b in zip(before, corners(document), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_primitive_without_a_triangle_stays_as_it_is():
    """Legal, if strange: an index accessor of one element. Rewritten it would be empty, which is not."""
    document = indexed(shapes.box())
    primitive = document.json["meshes"][0]["primitives"][0]
    few = document.add_accessor(np.array([[3]], np.uint16), target=34963)
    document.json["meshes"][0]["primitives"].append({**primitive, "indices": few})
    before = document.to_glb()
    for options in (ReorderOptions(), ReorderOptions(size=True)):
        reorder(document, options)
    weld(document, WeldOptions(always=True))
    assert document.to_glb() == before


# -- sparsify ----------------------------------------------------------------------------------------------------------


def test_a_target_that_moves_little_is_stored_as_that():
    sphere = shapes.sphere(0.5, 32)
    document = indexed(sphere)
    few, none = np.zeros_like(sphere.positions), np.zeros_like(sphere.positions)
    few[5:25] = 0.25
    primitive = document.json["meshes"][0]["primitives"][0]
    primitive["targets"] = [
        {"POSITION": document.add_accessor(data, bounds=True), "NORMAL": document.add_accessor(none)}
        for data in (few, sphere.positions)
    ]
    before = len(written(document).to_glb())
    done = sparsify(document)
    assert done.done == 3, "two without a movement, one with twenty; the fourth moves everything"
    after = written(document)
    first, second = (target["POSITION"] for target in after.json["meshes"][0]["primitives"][0]["targets"])
    np.testing.assert_array_equal(after.accessor(first), few)
    np.testing.assert_array_equal(after.accessor(second), sphere.positions)
    assert after.json["accessors"][first]["sparse"]["count"] == 20
    assert after.json["accessors"][first]["max"] == [0.25] * 3
    still = after.json["meshes"][0]["primitives"][0]["targets"][0]["NORMAL"]
    assert not {"bufferView", "sparse"} & after.json["accessors"][still].keys()
    assert done.saved_bytes > 19_000
    assert before - len(after.to_glb()) > 13_000, "zeros were there once already"
    assert sparsify(after).done == 0


@pytest.mark.parametrize("name", VALID)
def test_sparse_ones_read_as_before_and_no_file_grows(name):
    document = plain(name)
    size = len(written(document).to_glb())
    before = corners(document)
    sparsify(document)
    after = written(document)
    assert len(after.to_glb()) <= size
    for a, b in zip(before, corners(after), strict=True):
        np.testing.assert_array_equal(a, b)
    assert compare(plain(name), after) == []


def test_sparse_accessors_stay_sparse_through_weld_and_reorder():
    document = plain("morphed")
    sparsify(document)
    sparse = [bool("sparse" in a or "bufferView" not in a) for a in document.items("accessors")].count(True)
    assert sparse
    weld(document, WeldOptions(always=True))
    reorder(document)
    after = written(document)
    assert [bool("sparse" in a or "bufferView" not in a) for a in after.items("accessors")].count(True) == sparse
    for a, b in zip(corners(plain("morphed")), corners(after), strict=True):
        assert sorted_triangles(a) == sorted_triangles(b)


@pytest.mark.parametrize("verb", [gltf.weld, gltf.reorder, gltf.sparsify], ids=["weld", "reorder", "sparsify"])
def test_none_of_them_alone_makes_a_file_larger(verb):
    for name in VALID:
        document = plain(name)
        prune(document)
        size = len(document.to_glb())
        verb(document)
        assert len(document.to_glb()) <= size, name


def test_all_three_pass_the_official_validator(khronos):
    glbs = []
    for name in VALID:
        document = plain(name)
        weld(document, WeldOptions(always=True))
        reorder(document)
        sparsify(document)
        glbs.append(written(document).to_glb())
    assert khronos(glbs) == []
