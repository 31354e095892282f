"""No seam opens in a level of detail, and surfaces find their way out of a document and back."""

from __future__ import annotations

import numpy as np
import pytest

from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.optimize import assemble_job
from cloudbaker.compute.gltf.primitives import Geometry, read, shapes
from cloudbaker.compute.gltf.simplify import SimplifyOptions, simplify, simplify_or_replace
from cloudbaker.compute.gltf.surfaces import (
    key_of,
    replace_surfaces_job,
    static_surfaces,
    surface,
    surfaces_job,
)
from cloudbaker.compute.meshes.meshopt import MeshoptError
from cloudbaker.compute.meshes.topology import open_edges, topology
from cloudbaker.testing import models
from cloudbaker.testing import shapes as made
from cloudbaker.testing.shapes import Surface, f32
from cloudbaker.testing.writer import Writer


def hills(n: int = 33) -> Surface:
    return made.heightfield(f32(made.noise(64, seed=2)[:n, :n] * 0.3))


def cut(sheet: Surface) -> tuple[Surface, Surface]:
    """Left and right half of a sheet, each with vertices of its own."""
    left = sheet.positions[sheet.indices].mean(axis=1)[:, 0] < 0
    halves = []
    for side in (left, ~left):
        used, number = np.unique(sheet.indices[side], return_inverse=True)
        indices = number.reshape(-1, 3).astype(np.uint32)
        halves.append(Surface(sheet.positions[used], sheet.normals[used], sheet.uvs[used], indices))
    return halves[0], halves[1]


def in_pieces(how: str) -> tuple[Document, tuple[float, float, float]]:
    """The halves as two primitives of a mesh, two nodes, or two meshes of a skin; where the second one stands."""
    left, right = cut(hills())
    w = Writer()
    offset = (0.0, 0.0, 0.0)
    if how == "primitives":
        mesh = {"name": "sheet", "primitives": [w.primitive(left), w.primitive(right)]}
        w.scene(w.node(name="sheet", mesh=w.add("meshes", mesh)))
    elif how == "nodes":
        offset = (0.1, 2.3, -0.7)
        moved = right.moved(tuple(-x for x in offset))
        nodes = [w.node(mesh=w.mesh(left)), w.node(mesh=w.mesh(moved), translation=list(offset))]
        w.scene(w.node(children=nodes, scale=[3.0, 3.0, 3.0], rotation=[0.0, 0.6, 0.0, 0.8]))
    else:
        joint = w.node(name="joint")
        w.add("skins", {"joints": [joint]})
        bodies = []
        for half in (left, right):
            count = len(half.positions)
            primitive = w.primitive(half)
            primitive["attributes"] |= {
                "JOINTS_0": w.attribute(np.zeros((count, 4), np.uint8)),
                "WEIGHTS_0": w.attribute(np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1))),
            }
            bodies.append(w.node(mesh=w.add("meshes", {"primitives": [primitive]}), skin=0))
        w.scene(*bodies, joint)
    return Document.from_glb(w.glb()), offset


def whole(document: Document, offset: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Both halves in one space; what is in one place but for the last digits is put there exactly."""
    parts = [read(document, shape.first) for shape in shapes(document)]
    left, right = parts[0].attributes["POSITION"], parts[1].attributes["POSITION"] + np.float32(offset)
    apart = np.linalg.norm(right[:, None] - left[None], axis=2)
    right = np.where((apart.min(axis=1) < 1e-5)[:, None], left[apart.argmin(axis=1)], right)
    second = parts[1].indices.astype(np.int64) + len(left)
    return np.concatenate([left, right]), np.concatenate([parts[0].indices, second])


@pytest.mark.parametrize("how", ["primitives", "nodes", "skin"])
def test_what_is_cut_in_two_does_not_come_apart(how: str) -> None:
    document, offset = in_pieces(how)
    border = topology(*whole(document, offset))
    assert border.open_edges == 128
    assert border.components == 1
    level = document.clone()
    done = simplify(level, SimplifyOptions(ratio=0.2, max_error_percent=2.0))
    assert done.after < 0.5 * done.before
    found = topology(*whole(level, offset))
    assert found.components == 1
    # A crack would show as edges along the cut that have one triangle only: the outer border alone may be left.
    positions, indices = whole(level, offset)
    corners = np.sort(np.stack([indices, np.roll(indices, -1, axis=1)], axis=2).reshape(-1, 2), axis=1)
    places = np.unique(positions, axis=0, return_inverse=True)[1].reshape(-1)
    edges, times = np.unique(np.sort(places[corners], axis=1), axis=0, return_counts=True)
    middle = np.zeros(places.max() + 1, bool)
    middle[places] = np.abs(positions[:, 0]) < 1e-3
    assert not middle[edges[times == 1]].all(axis=1).any()


def test_a_mesh_that_two_nodes_show_has_no_neighbours() -> None:
    document = Document.from_glb(models.many_nodes(4))
    simplify(document, SimplifyOptions(ratio=0.5))
    assert len(list(shapes(document))) == 1


@pytest.mark.parametrize("ratio", [0.6, 0.3, 0.1])
@pytest.mark.parametrize("name", ["sphere", "morphed", "vertex_colored", "variants"])
def test_what_is_closed_stays_closed(name: str, ratio: float) -> None:
    document = Document.from_glb(models.VALID[name]())
    simplify(document, SimplifyOptions(ratio=ratio, max_error_percent=3.0))
    for shape in shapes(document):
        arrays = read(document, shape.first)
        assert open_edges(arrays.attributes["POSITION"], arrays.indices) == 0


def test_open_edges_are_counted_alike() -> None:
    for made_surface in (made.box(), made.sphere(1, 12), hills()):
        faces = made_surface.indices[3:]
        expected = topology(made_surface.positions, faces).open_edges
        assert open_edges(made_surface.positions, faces) == expected


# -- out and back ------------------------------------------------------------------------------------------------------


def scan(normals: bool = False) -> bytes:
    ball = made.sphere(1, 32)
    w = Writer()
    attributes = {"POSITION": w.attribute(ball.positions, bounds=True)}
    if normals:
        attributes["NORMAL"] = w.attribute(ball.normals)
    primitive = {"attributes": attributes, "indices": w.indices(ball.indices)}
    mesh = w.add("meshes", {"name": "scan", "primitives": [primitive]})
    w.scene(w.node(mesh=mesh, name="scan"), w.node(mesh=w.mesh(made.sphere(1, 32), name="textured")))
    return w.glb()


def test_only_static_surfaces_without_texture_coordinates_leave() -> None:
    assert [shape.place for shape, _ in static_surfaces(Document.from_glb(scan()))] == ["/meshes/0/primitives/0"]
    for name in ("skinned", "morphed", "vertex_colored", "textured", "points_and_lines"):
        assert not list(static_surfaces(Document.from_glb(models.VALID[name]()))), name
    document, _ = in_pieces("primitives")
    assert not list(static_surfaces(document))


def test_a_surface_is_known_by_its_places_alone() -> None:
    ball = made.sphere(1, 12)
    one = Geometry({"POSITION": ball.positions}, ball.indices)
    order = np.random.default_rng(1).permutation(len(ball.indices))
    turned = np.roll(ball.indices[order], 1, axis=1)
    soup = Geometry({"POSITION": ball.positions[turned.ravel()]}, np.arange(turned.size).reshape(-1, 3))
    assert key_of(one) == key_of(soup)
    assert key_of(one) != key_of(Geometry({"POSITION": ball.positions}, ball.indices[1:]))


def test_the_job_hands_out_what_is_asked_for() -> None:
    lods = [{"variant": "lod1", "ratio": 0.5, "max_error_percent": 2.0}]
    inputs = {"model.glb": memoryview(scan())}
    out = surfaces_job(inputs, {"lods": lods, "every": True})
    (row,) = out.value["surfaces"]
    assert row["levels"] == [{"variant": "lod1", "triangles": row["triangles"] // 2}]
    positions, indices = surface({k: memoryview(v) for k, v in out.files.items()}, row["key"])
    assert topology(positions, indices).closed
    # meshoptimizer has no trouble with a ball: there is nothing to rescue.
    assert surfaces_job(inputs, {"lods": lods}).value == {"surfaces": []}
    assert len(surfaces_job(inputs, {}).value["surfaces"]) == 1


@pytest.mark.parametrize("normals", [False, True])
def test_a_surface_comes_back(normals: bool) -> None:
    source = scan(normals)
    out = surfaces_job({"model.glb": memoryview(source)}, {})
    (row,) = out.value["surfaces"]
    finer = made.sphere(1.01, 48)
    back = {
        "model.glb": memoryview(source),
        f"{row['key']}.positions": memoryview(finer.positions.tobytes()),
        f"{row['key']}.indices": memoryview(finer.indices.astype("<u4").tobytes()),
    }
    done = replace_surfaces_job(back, {"keys": [row["key"]]})
    assert done.value == {"replaced": 1}
    document = Document.from_glb(done.files["model.glb"])
    first, second = shapes(document)
    arrays = read(document, first.first)
    assert len(arrays.indices) == len(finer.indices)
    assert set(arrays.attributes) == ({"POSITION", "NORMAL"} if normals else {"POSITION"})
    assert len(read(document, second.first).indices) == len(made.sphere(1, 32).indices)
    assert document.items("nodes")[0]["name"] == "scan"
    damaged = {**back, f"{row['key']}.indices": memoryview(np.array([[0, 1, 1 << 30]], "<u4").tobytes())}
    with pytest.raises(MeshoptError):
        replace_surfaces_job(damaged, {"keys": [row["key"]]})


def test_the_better_of_two_simplifications_is_taken() -> None:
    document = Document.from_glb(scan(normals=True))
    _, arrays = next(static_surfaces(document))
    wanted = SimplifyOptions(ratio=0.25, max_error_percent=3.0)
    coarse, torn = made.sphere(1, 14), made.sphere(1, 16)
    key = key_of(arrays)

    def taken(positions: np.ndarray, indices: np.ndarray) -> int:
        level = document.clone()
        simplify_or_replace(level, wanted, {key: (positions, indices)})
        return len(read(level, next(iter(shapes(level))).first).indices)

    assert taken(coarse.positions, coarse.indices) == len(coarse.indices)
    without = taken(made.sphere(2, 14).positions, coarse.indices)  # twice as large: far off
    assert without != len(coarse.indices)
    assert taken(torn.positions, torn.indices[1:]) == without  # a hole, whatever its error
    level = document.clone()
    simplify(level, wanted)
    assert len(read(level, next(iter(shapes(level))).first).indices) == without


def test_a_bake_takes_a_level_made_elsewhere() -> None:
    source = scan()
    out = surfaces_job({"model.glb": memoryview(source)}, {})
    (row,) = out.value["surfaces"]
    coarse = made.sphere(1, 14)
    inputs = {
        "model.glb": memoryview(source),
        "x.positions": memoryview(coarse.positions.tobytes()),
        "x.indices": memoryview(coarse.indices.astype("<u4").tobytes()),
    }
    lods = [{"variant": "lod1", "ratio": 0.25, "max_error_percent": 3.0}]
    params = {"meshes": {"compression": "none"}, "lods": lods}
    plain = assemble_job(inputs, params).value["variants"][1]
    replaced = assemble_job(inputs, {**params, "replacements": [{"key": row["key"], "variant": "lod1", "file": "x"}]})
    assert replaced.value["variants"][1]["triangles"] < plain["triangles"]
