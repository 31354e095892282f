"""Skinned and morphed geometry is measured as it stands in animations, not only at rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.measure import measure
from cloudbaker.compute.gltf.poses import deform, deforms, poses, stands, viewers
from cloudbaker.compute.gltf.primitives import read, shapes, write
from cloudbaker.compute.gltf.simplify import SimplifyOptions, simplify
from cloudbaker.compute.meshes.lods import simplify_primitive
from cloudbaker.compute.meshes.meshopt import MeshoptError
from cloudbaker.testing import models


def only(document: Document):
    (shape,) = shapes(document)
    return shape, read(document, shape.first)


def test_what_does_not_deform_has_no_poses() -> None:
    document = Document.from_glb(models.animated())
    assert not deforms(document)
    assert poses(document) == []


def test_an_arm_bends_at_its_elbow() -> None:
    document = Document.from_glb(models.skinned())
    shape, arrays = only(document)
    found = poses(document)
    assert [pose.name for pose in found] == ["at rest", "bend at 0.67 s", "bend at 1.33 s"]
    node = document.items("nodes").index(next(n for n in document.items("nodes") if "mesh" in n))
    rest = deform(document, found[0], node, arrays)
    assert rest == pytest.approx(arrays.attributes["POSITION"], abs=1e-6)
    # Two thirds of the way to 90°: what hangs on the elbow alone turns by 60° about (0, 1, 0).
    bent = deform(document, found[1], node, arrays)
    angle = np.radians(60)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    fore = arrays.attributes["WEIGHTS_0"][:, 1] == 1
    at_rest = arrays.attributes["POSITION"].astype(float)
    assert bent[fore] == pytest.approx((at_rest[fore] - (0, 1, 0)) @ turn.T + (0, 1, 0), abs=1e-5)
    assert bent[~fore & (arrays.attributes["WEIGHTS_0"][:, 1] == 0)] == pytest.approx(
        at_rest[arrays.attributes["WEIGHTS_0"][:, 1] == 0], abs=1e-6
    )
    assert [pose.name for pose, _ in stands(document, found, viewers(document)[id(shape.first)], arrays)] == [
        p.name for p in found[1:]
    ]


def test_targets_are_looked_at_alone_and_in_animations() -> None:
    document = Document.from_glb(models.morphed())
    _, arrays = only(document)
    found = poses(document)
    assert len(found) == 4
    base = arrays.attributes["POSITION"].astype(float)
    tall, wide = (target["POSITION"].astype(float) for target in arrays.targets)
    alone = [deform(document, pose, 0, arrays) for pose in found[2:]]
    assert alone[0] == pytest.approx(base + tall, abs=1e-6)
    assert alone[1] == pytest.approx(base + wide, abs=1e-6)
    # Keys at 0, 1 and 2 s: at two thirds of a second two thirds of (1, 0.5).
    assert deform(document, found[0], 0, arrays) == pytest.approx(base + tall * 2 / 3 + wide / 3, abs=1e-5)


def test_a_straight_arm_needs_its_rings_for_bending() -> None:
    """At rest most of a cylinder's rings lie on straight lines: collapsing them costs nothing until the arm bends."""
    document = Document.from_glb(models.skinned(segments=24, rings=48))
    shape, arrays = only(document)
    moved = [
        deform(document, *at, arrays)
        for at in stands(document, poses(document), viewers(document)[id(shape.first)], arrays)
    ]
    asked = {"ratio": 0.05, "max_error_percent": 0.5}
    blind = simplify_primitive(arrays.attributes, arrays.indices, **asked)
    seeing = simplify_primitive(arrays.attributes, arrays.indices, poses=moved, **asked)
    assert blind.error_mean_percent <= 0.5
    assert seeing.error_mean_percent <= 0.5
    assert seeing.triangles > 1.3 * blind.triangles

    def written(result):
        other = document.clone()
        (target,) = shapes(other)
        write(other, target, replace(arrays, attributes=result.attributes, indices=result.indices))
        return measure(document, other)

    assert written(blind).error_mean_percent > 0.5
    assert written(blind).rest_max_percent < written(blind).error_max_percent
    assert written(seeing).error_mean_percent <= 0.55  # fewer samples while searching


def test_the_verb_measures_poses() -> None:
    document = Document.from_glb(models.skinned(segments=24, rings=48))
    level = document.clone()
    done = simplify(level, SimplifyOptions(ratio=0.05, max_error_percent=0.5))
    assert done.after < done.before
    assert measure(document, level).error_mean_percent <= 0.55


def test_weights_that_hang_on_the_wrong_joint_are_an_error_although_nothing_moved_at_rest() -> None:
    document = Document.from_glb(models.skinned())
    wrong = document.clone()
    shape, arrays = only(wrong)
    joints = arrays.attributes["JOINTS_0"].copy()
    joints[::2] = joints[::2, ::-1]
    write(wrong, shape, replace(arrays, attributes={**arrays.attributes, "JOINTS_0": joints}))
    found = measure(document, wrong)
    assert found.rest_max_percent == 0
    assert found.error_max_percent > 5


def test_a_lost_target_shows() -> None:
    document = Document.from_glb(models.morphed())
    wrong = document.clone()
    shape, arrays = only(wrong)
    still = [{name: np.zeros_like(data) for name, data in target.items()} for target in arrays.targets]
    write(wrong, shape, replace(arrays, targets=still))
    assert measure(document, wrong).error_mean_percent > 1


def test_poses_have_the_vertices_of_the_mesh() -> None:
    _, arrays = only(Document.from_glb(models.skinned()))
    with pytest.raises(MeshoptError, match="vertices each"):
        simplify_primitive(
            arrays.attributes, arrays.indices, ratio=0.5, max_error_percent=1, poses=[np.zeros((3, 3), np.float32)]
        )
