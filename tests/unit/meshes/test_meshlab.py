"""PyMeshLab by its program: what goes in, what comes out, measured; and what hostile arrays do to it (nothing)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cloudbaker.compute.job import Limits
from cloudbaker.compute.meshes.error import mesh_error
from cloudbaker.compute.meshes.topology import topology
from cloudbaker.compute.meshlab import RepairOptions, decimate, hausdorff, missing, process, repair, version
from cloudbaker.compute.meshlab.process import LIMITS, MeshlabError
from cloudbaker.errors import SandboxCrash, SandboxJobError, SandboxLimit, ToolMissing
from cloudbaker.testing import shapes
from cloudbaker.testing.shapes import Surface

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "installed")

ANGRY = (MeshlabError, SandboxCrash, SandboxJobError, SandboxLimit)


def dirty(surface: Surface) -> tuple[np.ndarray, np.ndarray]:
    """A soup of its triangles: no shared vertices, one in seven turned, four missing, nine twice."""
    faces = surface.indices.copy()
    faces[::7] = faces[::7, ::-1]
    faces = np.delete(faces, [40, 41, 100, 300], axis=0)
    corners = np.concatenate([surface.positions[faces].reshape(-1, 3), surface.positions[faces[:9]].reshape(-1, 3)])
    return corners, np.arange(len(corners)).reshape(-1, 3)


def test_soup_becomes_a_closed_surface() -> None:
    ball = shapes.sphere(1, 24)
    positions, indices = dirty(ball)
    done = repair(positions, indices)
    assert done.before.repeated_triangles == 9
    assert done.before.open_edges > 0
    assert done.before.flipped_edges > 100
    assert done.after.closed
    assert done.after.components == 1
    assert (done.after.flipped_edges, done.after.flat_triangles, done.after.repeated_triangles) == (0, 0, 0)
    # It is the ball again, outside out.
    assert done.new_triangles >= 4
    assert done.turned_triangles > 50
    whole = mesh_error(ball.positions, ball.indices, done.positions, done.indices)
    assert whole.max_percent < 1
    assert done.error.mean_percent < 0.1
    a, b, c = (done.positions[done.indices[:, k]].astype(float) for k in range(3))
    assert np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6 == pytest.approx(4.1, rel=0.03)


def test_what_is_sound_stays() -> None:
    box = shapes.box()
    done = repair(box.positions, box.indices)
    assert len(done.indices) == 12
    assert done.error.max_percent == pytest.approx(0, abs=1e-5)
    assert (done.new_triangles, done.turned_triangles) == (0, 0)


def test_a_room_seen_from_inside_stays_inside_out() -> None:
    box = shapes.box()
    inward = box.indices[:, ::-1].copy()
    done = repair(box.positions, inward)
    assert done.turned_triangles == 0


def test_large_holes_and_none_are_left_open_on_request() -> None:
    half = shapes.sphere(1, 24)
    indices = half.indices[half.positions[half.indices, 1].mean(axis=1) < 0]
    assert repair(half.positions, indices, RepairOptions(largest_hole=10)).after.open_edges == 24
    closed = repair(half.positions, indices, RepairOptions(largest_hole=30))
    assert closed.after.closed
    assert closed.error.max_percent > 10  # and the lid is an error that is not kept secret
    positions, faces = dirty(half)
    assert repair(positions, faces, RepairOptions(largest_hole=0)).after.open_edges > 0


def test_boxes_that_touch_along_an_edge_both_stay() -> None:
    pair = shapes.joined([shapes.box(), shapes.box().moved((1, 1, 0))])
    done = repair(pair.positions, pair.indices)
    assert done.before.branching_edges == 1
    assert len(done.indices) == 24
    assert done.error.max_percent == pytest.approx(0, abs=1e-5)


def test_decimation_is_exact_where_it_can_be(tell: Callable[[str], None]) -> None:
    ball = shapes.sphere(1, 64)
    done = decimate(ball.positions, ball.indices, len(ball.indices) // 4)
    assert len(done.indices) == pytest.approx(len(ball.indices) // 4, abs=4)
    assert done.error.mean_percent < 0.1
    assert topology(done.positions, done.indices).closed
    assert not set(map(tuple, done.positions)) <= set(map(tuple, ball.positions))  # vertices are placed freely
    tell(f"{len(ball.indices)} to {len(done.indices)} triangles, mean error {done.error.mean_percent:.3f} %")


def test_two_measurements_agree() -> None:
    """Ours by libigl and PyMeshLab's: other code, other samples, the same distance."""
    ball = shapes.sphere(1, 48)
    done = decimate(ball.positions, ball.indices, 600)
    theirs = hausdorff((ball.positions, ball.indices), (done.positions, done.indices))
    assert theirs.mean_percent == pytest.approx(done.error.mean_percent, rel=0.15)
    assert theirs.max_percent == pytest.approx(done.error.max_percent, rel=0.15)
    assert theirs.samples > 10_000
    apart = ball.moved((0.5, 0, 0))
    ours = mesh_error(ball.positions, ball.indices, apart.positions, apart.indices)
    theirs = hausdorff((ball.positions, ball.indices), (apart.positions, apart.indices))
    assert theirs.mean_percent == pytest.approx(ours.mean_percent, rel=0.1)  # its samples favour edges


def strange(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Finite positions and indices in range: what the checks let through, and no mesh that one would model."""
    chance = np.random.default_rng(seed)
    count = int(chance.integers(1, 60))
    positions = chance.normal(size=(count, 3))
    if chance.random() < 0.4:
        positions[chance.random(positions.shape) < 0.4] = 0
    if chance.random() < 0.3:
        positions[: count // 2] = positions[0]
    positions *= chance.choice([1, 1, 1e-30, 1e30, 1e-3])
    if chance.random() < 0.2:
        positions[0] = chance.choice([1e30, 3e38, -1e20, 1e-40])
    faces = chance.integers(0, count, (int(chance.integers(1, 200)), 3))
    if chance.random() < 0.3:
        faces[: len(faces) // 2] = faces[0]
    return positions.astype(np.float32), faces


def survives(seeds: range) -> tuple[int, int]:
    """(repaired or decimated, ended in an error that is meant)."""
    done = refused = 0
    limits = replace(LIMITS, cpu_seconds=10, wall_seconds=20.0)
    for seed in seeds:
        positions, faces = strange(seed)
        try:
            if seed % 2:
                result = repair(positions, faces, RepairOptions(merge_percent=(0, 0.001, 1)[seed % 3]), limits=limits)
                assert result.after.triangles == len(result.indices)
                assert np.isfinite(result.positions).all()
            else:
                assert len(decimate(positions, faces, max(1, len(faces) // 3), limits=limits).indices)
            done += 1
        except ANGRY:
            refused += 1
    return done, refused


def test_strange_meshes_end_in_a_mesh_or_an_error(tell: Callable[[str], None]) -> None:
    done, refused = survives(range(6))
    assert done + refused == 6
    tell(f"{done} strange meshes repaired or decimated, {refused} refused")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_strange_meshes_end_in_a_mesh_or_an_error(tell: Callable[[str], None]) -> None:
    # One in twelve keeps it busy for ever: the limit ends that.
    done, refused = survives(range(1_000, 1_200))
    assert done > 150
    tell(f"{done} strange meshes repaired or decimated, {refused} refused")


@pytest.mark.parametrize(
    ("positions", "indices", "message"),
    [
        ([[0, 0, np.nan], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]], "finite"),
        ([[0, 0, np.inf], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]], "finite"),
        ([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 3]], "out of range"),
        ([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, -1]], "out of range"),
        ([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0.0, 1.0, 2.0]], "integers"),
        ([[0, 0], [1, 0], [0, 1]], [[0, 1, 2]], "shape"),
        (np.zeros((3, 3)), np.zeros((0, 3), int), "no triangles"),
    ],
)
def test_arrays_that_would_kill_it_never_reach_it(positions, indices, message) -> None:
    with pytest.raises(MeshlabError, match=message):
        process.call("repair", {}, [(np.asarray(positions), np.asarray(indices))])


def test_a_point_is_refused() -> None:
    with pytest.raises(MeshlabError, match="no area"):
        repair(np.zeros((3, 3)), np.array([[0, 1, 2]]))


def test_limits_hold() -> None:
    ball = shapes.sphere(1, 300)
    with pytest.raises(SandboxLimit):
        decimate(ball.positions, ball.indices, 100, limits=Limits(memory_bytes=1 << 30, wall_seconds=0.4))


def test_what_it_leaves_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process taken over by what it was given could write anything."""
    box = shapes.box()
    real = process.read_output

    def damaged(scratch, name, *, limit):
        data = bytearray(real(scratch, name, limit=limit))
        if name == damaged.name:
            data[:4] = b"\xff\xff\xff\x7f"
        return bytes(data)

    monkeypatch.setattr(process, "read_output", damaged)
    for damaged.name, message in (("result.faces", "out of range"), ("result.json", "no mesh")):
        with pytest.raises(MeshlabError, match=message):
            repair(box.positions, box.indices)


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process.importlib.util, "find_spec", lambda name: None)
    assert "cloudbaker[pymeshlab]" in missing()
    with pytest.raises(ToolMissing, match="pymeshlab"):
        version()


def test_nothing_of_it_is_loaded_here() -> None:
    import sys

    box = shapes.box()
    decimate(box.positions, box.indices, 8)
    assert "pymeshlab" not in sys.modules
    assert version()
