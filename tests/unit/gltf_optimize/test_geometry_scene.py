"""flatten, join and instance: fewer nodes and draw calls, everything where it was, nobody robbed of what they name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudbaker.compute.gltf.decompress import decode
from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.flatten import FlattenOptions, flatten
from cloudbaker.compute.gltf.instance import InstanceOptions, instance
from cloudbaker.compute.gltf.join import Joined, JoinOptions, join
from cloudbaker.compute.gltf.limits import ContentLimits
from cloudbaker.compute.gltf.losses import compare
from cloudbaker.compute.gltf.pack import pack
from cloudbaker.compute.gltf.precheck import precheck
from cloudbaker.compute.gltf.prune import prune, reserve
from cloudbaker.compute.gltf.transforms import decomposed, determinant, inverse, product
from cloudbaker.testing import models, shapes
from cloudbaker.testing.shapes import f32
from cloudbaker.testing.worlds import node_matrix, world_difference
from cloudbaker.testing.writer import Writer

VALID = sorted(models.VALID)
HALF = float(np.sqrt(0.5))


def written(document: Document) -> Document:
    twin = document.clone()
    reserved = reserve(document)
    prune(twin, reserved)
    pack(twin)
    prune(twin, reserved)
    return Document.from_glb(twin.to_glb())


def unchanged(before: Document, after: Document, tolerance: float = 1e-5) -> bool:
    """Whether the same is drawn in the same places, by what the two files hold."""
    return world_difference(before, written(after)) <= tolerance


class Stage:
    """A scene in the making: `mesh` gives each node a box of its own."""

    def __init__(self) -> None:
        self.w = Writer()
        self.materials = [self.w.add("materials", {"name": name}) for name in ("red", "blue")]

    def mesh(self, size: float = 1.0, material: int = 0, **more: Any) -> int:
        index = self.w.mesh(shapes.box((size, 2 * size, 1)), material=material)
        self.w.json["meshes"][index] |= more
        return index

    def node(self, **properties: Any) -> int:
        return self.w.add("nodes", properties)

    def document(self, *roots: int) -> Document:
        self.w.scene(*roots)
        return Document.from_glb(self.w.glb())


# -- all three ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False], ids=["named", "all"])
def test_models_look_the_same_and_pass_the_official_validator(khronos, named):
    glbs = []
    for name in VALID:
        document = Document.from_glb(models.VALID[name]())
        decode(document)
        before = document.clone()
        flatten(document, FlattenOptions(named))
        instance(document, InstanceOptions(2, named))
        join(document, JoinOptions(keep_named=named))
        assert unchanged(before, document), name
        glbs.append(written(document).to_glb())
        if named and name not in ("many_nodes", "instanced"):
            assert [loss for loss in compare(before, written(document)) if loss.kind in ("name", "extras")] == []
    assert khronos(glbs) == []


def test_nothing_is_touched_where_an_unknown_extension_counts_nodes():
    stage = Stage()
    mesh = stage.mesh()
    group = stage.node(children=[stage.node(mesh=mesh, translation=[i, 0, 0]) for i in range(6)])
    document = stage.document(group)
    document.json["extensions"] = {"ACME_stage": {"star": 3}}
    document.declare("ACME_stage")
    before = document.to_glb()
    assert flatten(document) == 0
    assert instance(document).nodes == 0
    assert join(document) == Joined(6, 6)
    assert document.to_glb() == before


_TRANSFORM = st.fixed_dictionaries(
    {},
    optional={
        "translation": st.lists(st.integers(-4, 4).map(float), min_size=3, max_size=3),
        "rotation": st.sampled_from([[0, HALF, 0, HALF], [HALF, 0, 0, -HALF], [0, 0, 1, 0], [0.5, 0.5, 0.5, 0.5]]),
        "scale": st.sampled_from([[2, 2, 2], [1, 3, 1], [-1, 1, 1], [0.5, 0.25, 4]]),
    },
)
_NODE = st.tuples(_TRANSFORM, st.integers(-1, 2), st.integers(0, 5), st.integers(0, 9))
"""Transform, mesh (-1: none), parent counted back from the node itself, and what makes it special."""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_NODE, min_size=1, max_size=14), st.booleans())
def test_any_scene_looks_the_same(nodes, named):
    stage = Stage()
    for number in range(3):
        stage.mesh(1 + number, number % 2)
    roots = []
    for number, (transform, mesh, back, special) in enumerate(nodes):
        node = dict(transform)
        if mesh >= 0:
            node["mesh"] = mesh
        if special == 0:
            node["name"] = f"node {number}"
        elif special == 1:
            node["extras"] = {"note": number}
        stage.node(**node)
        parent = number - back
        if 0 <= parent < number:
            stage.w.json["nodes"][parent].setdefault("children", []).append(number)
        else:
            roots.append(number)
    moved = [number for number, (_, _, _, special) in enumerate(nodes) if special == 2]
    for number in moved:
        stage.w.animation("", [(number, "translation", f32([0, 1]), f32([[0, 0, 0], [1, 2, 3]]))])
    document = stage.document(*roots)
    before = document.clone()
    flatten(document, FlattenOptions(named))
    instance(document, InstanceOptions(2, named))
    join(document, JoinOptions(keep_named=named, copies=True))
    assert unchanged(before, document)
    assert not precheck(written(document).to_glb(), ContentLimits()).findings.failed
    for number, (old, new) in enumerate(zip(before.items("nodes"), document.items("nodes"), strict=True)):
        assert old.get("name") == new.get("name")
        assert old.get("extras") == new.get("extras")
        if number in moved:
            assert {k: v for k, v in old.items() if k != "children"} == {
                k: v for k, v in new.items() if k != "children"
            }


def test_thousands_of_siblings_take_no_time_for_each_other():
    """A group with a few thousand meshes: each change once walked through all of them."""
    stage = Stage()
    mesh = stage.mesh()
    numbers = [stage.node(mesh=mesh, translation=[float(i), 0, 0]) for i in range(4_000)]
    document = stage.document(stage.node(children=numbers))
    assert flatten(document) == 4_000
    assert len(document.json["scenes"][0]["nodes"]) == 4_000
    assert instance(document).nodes == 4_000
    assert document.json["scenes"][0]["nodes"] == [0]


# -- flatten -----------------------------------------------------------------------------------------------------------


def test_a_mesh_leaves_groups_that_serve_nothing():
    stage = Stage()
    inner = stage.node(mesh=stage.mesh(), translation=[1, 0, 0])
    middle = stage.node(children=[inner], rotation=[0, HALF, 0, HALF])
    outer = stage.node(children=[middle], scale=[2, 2, 2])
    document = stage.document(outer)
    before = document.clone()
    assert flatten(document) == 1
    assert document.json["scenes"][0]["nodes"] == [inner]
    assert document.json["nodes"][outer] == document.json["nodes"][middle] == {}
    assert document.json["nodes"][inner]["translation"] == pytest.approx([0, 0, -2])
    assert unchanged(before, document)
    assert flatten(document) == 0


@pytest.mark.parametrize("keep", ["name", "extras", "extensions", "animation", "pointer", "joint", "lod", "camera"])
def test_a_group_that_serves_something_keeps_its_mesh(keep):
    stage = Stage()
    inner = stage.node(mesh=stage.mesh(), translation=[1, 0, 0])
    group = stage.node(children=[inner], translation=[0, 1, 0])
    group_json = stage.w.json["nodes"][group]
    curve = f32([0, 1]), f32([[0, 0, 0], [1, 2, 3]])
    if keep == "name":
        group_json["name"] = "door"
    elif keep == "extras":
        group_json["extras"] = {"hinge": True}
    elif keep == "extensions":
        group_json["extensions"] = {"KHR_node_visibility": {"visible": False}}
        stage.w.use("KHR_node_visibility")
    elif keep == "animation":
        stage.w.animation("open", [(group, "translation", *curve)])
    elif keep == "pointer":
        stage.w.animation("open", [(group, "translation", *curve)])
        stage.w.json["animations"][0]["channels"][0]["target"] = {
            "path": "pointer",
            "extensions": {"KHR_animation_pointer": {"pointer": f"/nodes/{group}/translation"}},
        }
        stage.w.use("KHR_animation_pointer")
    elif keep == "joint":
        stage.w.add("skins", {"joints": [group]})
    elif keep == "lod":
        stage.node(extensions={"MSFT_lod": {"ids": [group]}})
        stage.w.use("MSFT_lod")
    else:
        group_json["camera"] = stage.w.add("cameras", {"type": "perspective", "perspective": {"yfov": 1, "znear": 1}})
    document = stage.document(group)
    before = document.to_glb()
    assert flatten(document) == 0
    assert document.to_glb() == before


def test_what_would_be_sheared_stays():
    stage = Stage()
    inner = stage.node(mesh=stage.mesh(), rotation=[0, 0, float(np.sin(0.3)), float(np.cos(0.3))])
    group = stage.node(children=[inner], scale=[1, 5, 1])
    assert flatten(stage.document(group)) == 0


def test_names_of_groups_may_be_given_up():
    stage = Stage()
    inner = stage.node(mesh=stage.mesh())
    group = stage.node(name="crate", children=[inner], translation=[0, 1, 0])
    document = stage.document(group)
    assert flatten(document, FlattenOptions(keep_named=False)) == 1
    assert document.json["nodes"][group] == {"name": "crate", "translation": [0, 1, 0]}, "it is where it was"
    assert document.json["scenes"][0]["nodes"] == [group, inner]


@pytest.mark.parametrize("seed", range(20))
def test_transforms_are_taken_apart_and_put_together(seed):
    rng = np.random.default_rng(seed)
    rotation = rng.normal(size=4)
    node = {
        "translation": rng.normal(size=3) * 100,
        "rotation": rotation / np.linalg.norm(rotation),
        "scale": rng.uniform(0.01, 10, 3) * rng.choice([-1, 1], 3),
    }
    parts = decomposed(node_matrix(node))
    assert parts is not None
    again = dict(zip(("translation", "rotation", "scale"), parts, strict=True))
    np.testing.assert_allclose(node_matrix(again), node_matrix(node), atol=1e-12)
    matrix = node_matrix(node)
    np.testing.assert_allclose(product(matrix, inverse(matrix)), np.eye(4), atol=1e-9)
    assert determinant(matrix) == pytest.approx(np.linalg.det(matrix[:3, :3]))
    sheared = node_matrix(node)
    sheared[:3, 0] += sheared[:3, 1] * 0.5
    assert decomposed(sheared) is None
    assert decomposed(np.zeros((4, 4))) is None


# -- instance ----------------------------------------------------------------------------------------------------------


def test_a_forest_is_one_node():
    stage = Stage()
    tree = stage.mesh(name="tree")
    rng = np.random.default_rng(2)
    numbers = []
    for _ in range(50):
        turn = rng.normal(size=4)
        numbers.append(
            stage.node(
                mesh=tree,
                translation=rng.normal(size=3).tolist(),
                rotation=(turn / np.linalg.norm(turn)).tolist(),
                scale=[float(rng.uniform(0.5, 2))] * 3,
            )
        )
    document = stage.document(*numbers)
    before = document.clone()
    done = instance(document)
    assert (done.nodes, done.batches) == (50, 1)
    assert document.json["scenes"][0]["nodes"] == [0]
    assert document.json["extensionsRequired"] == ["EXT_mesh_gpu_instancing"]
    assert document.json["meshes"][0]["name"] == "tree"
    assert unchanged(before, document)
    assert len(written(document).to_glb()) < len(written(before).to_glb()) / 2
    assert instance(document).nodes == 0


def test_mirrored_moved_named_and_few_nodes_stay():
    stage = Stage()
    mesh, other, morphed = stage.mesh(), stage.mesh(2), stage.mesh(3)
    primitive = stage.w.json["meshes"][morphed]["primitives"][0]
    primitive["targets"] = [{"POSITION": primitive["attributes"]["POSITION"]}]
    plain = [stage.node(mesh=mesh, translation=[i, 0, 0]) for i in range(3)]
    stays = [
        stage.node(mesh=mesh, scale=[-1, 1, 1]),
        stage.node(mesh=mesh, name="mine"),
        stage.node(mesh=mesh, extras={"id": 7}),
        stage.node(mesh=other),
        stage.node(mesh=mesh, children=[stage.node(mesh=other)]),
        *(stage.node(mesh=morphed, translation=[i, 0, 0]) for i in range(4)),
    ]
    moved = stage.node(mesh=mesh)
    stage.w.animation("go", [(moved, "translation", f32([0, 1]), f32([[0, 0, 0], [1, 2, 3]]))])
    document = stage.document(*plain, *stays, moved)
    before = document.clone()
    assert instance(document).nodes == 0, "three are too few"
    assert instance(document, InstanceOptions(least=2)).nodes == 3
    for number in [*stays, moved]:
        assert document.json["nodes"][number] == before.json["nodes"][number]
    assert unchanged(before, document)


def test_meshes_that_differ_in_their_names_are_one_if_names_may_go():
    stage = Stage()
    numbers = [stage.node(mesh=stage.mesh(name=f"bolt {i}"), name=f"bolt {i}") for i in range(6)]
    document = stage.document(*numbers)
    for mesh in document.json["meshes"]:  # the same data, as an exporter would share it
        mesh["primitives"] = document.json["meshes"][0]["primitives"]
    before = document.clone()
    assert instance(document).nodes == 0
    assert instance(document, InstanceOptions(keep_named=False)).nodes == 6
    assert unchanged(before, document)
    assert [node["name"] for node in document.json["nodes"]] == [f"bolt {i}" for i in range(6)]


# -- join --------------------------------------------------------------------------------------------------------------


def test_primitives_of_a_mesh_are_joined_by_material():
    stage = Stage()
    parts = [stage.w.primitive(shapes.box(1 + i), material=i % 2) for i in range(6)]
    node = stage.node(mesh=stage.w.add("meshes", {"name": "robot", "primitives": parts}), name="robot")
    document = stage.document(node)
    before = document.clone()
    assert join(document) == Joined(6, 2)
    assert [p["material"] for p in document.json["meshes"][0]["primitives"]] == [0, 1]
    assert document.json["meshes"][0]["name"] == "robot"
    assert unchanged(before, document, 0.0)
    assert join(document) == Joined(2, 2)


def test_nodes_are_joined_where_they_are_seen():
    """Turned, stretched and mirrored ones too: normals and tangents stay right angled and of length one."""
    stage = Stage()
    places = [{}, {"translation": [3, 0, 0]}, {"rotation": [0, 0, HALF, HALF]}, {"scale": [-1, 2, 3]}]
    tangent = np.tile(f32([[0, 0, 1, 1]]), (24, 1))
    tangent[8:] = (1, 0, 0, 1)
    numbers = []
    for place in places:
        mesh = stage.mesh()
        stage.w.json["meshes"][mesh]["primitives"][0]["attributes"]["TANGENT"] = stage.w.attribute(tangent)
        numbers.append(stage.node(mesh=mesh, **place))
    document = stage.document(*numbers)
    before = document.clone()
    assert join(document) == Joined(4, 1)
    assert unchanged(before, document)
    assert document.json["scenes"][0]["nodes"] == [0]
    primitive = document.json["meshes"][document.json["nodes"][0]["mesh"]]["primitives"][0]
    points, normals, tangents = (
        document.accessor(primitive["attributes"][name]) for name in ("POSITION", "NORMAL", "TANGENT")
    )
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(tangents[:, :3], axis=1), 1, atol=1e-6)
    assert set(tangents[:72, 3]) == {1.0}
    assert set(tangents[72:, 3]) == {-1.0}, "a mirror turns the bitangent around"
    faces = document.accessor(primitive["indices"])[:, 0].reshape(-1, 3)
    a, b, c = (points[faces[:, k]] for k in range(3))
    facing = np.cross(b - a, c - a)
    facing /= np.linalg.norm(facing, axis=1, keepdims=True)
    np.testing.assert_allclose((facing * normals[faces[:, 0]]).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("keep", ["name", "mesh name", "extras", "mesh extras", "animation", "shared", "material"])
def test_what_somebody_can_tell_apart_stays_apart(keep):
    stage = Stage()
    meshes = [stage.mesh(), stage.mesh(2, material=int(keep == "material"))]
    numbers = [stage.node(mesh=mesh, translation=[i, 0, 0]) for i, mesh in enumerate(meshes)]
    node, mesh = stage.w.json["nodes"][numbers[1]], stage.w.json["meshes"][meshes[1]]
    if keep == "name":
        node["name"] = "lever"
    elif keep == "mesh name":
        mesh["name"] = "lever"
    elif keep == "extras":
        node["extras"] = {"id": 1}
    elif keep == "mesh extras":
        mesh["extras"] = {"id": 1}
    elif keep == "animation":
        stage.w.animation("pull", [(numbers[1], "translation", f32([0, 1]), f32([[0, 0, 0], [1, 2, 3]]))])
    elif keep == "shared":
        numbers.append(stage.node(mesh=meshes[1], translation=[9, 0, 0], name="twin"))
    document = stage.document(*numbers)
    before = document.to_glb()
    assert join(document).after == len(numbers)
    assert document.to_glb() == before
    if keep in ("name", "mesh name"):
        done = join(document, JoinOptions(keep_named=False))
        assert (done.before, done.after) == (2, 1)
        assert keep == "mesh name" or document.json["nodes"][1] == {"name": "lever", "translation": [1, 0, 0]}


def test_data_that_meshes_share_is_copied_only_on_request():
    stage = Stage()
    numbers = [stage.node(mesh=stage.mesh(), translation=[2 * i, 0, 0]) for i in range(4)]
    document = stage.document(*numbers)
    for mesh in document.json["meshes"]:
        mesh["primitives"] = [dict(document.json["meshes"][0]["primitives"][0])]
    before = document.clone()
    assert join(document) == Joined(4, 4)
    assert join(document, JoinOptions(copies=True)) == Joined(4, 1)
    assert unchanged(before, document)
