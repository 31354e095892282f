"""Keyframes left out and rounded: within the bound at every old key, exact where nothing is known, never longer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudbaker.compute.gltf.curves import BOUNDS, Curve, between, deviations, distance, extent, moved, read_curve
from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.losses import compare
from cloudbaker.compute.gltf.optimize import assemble_job
from cloudbaker.compute.gltf.quantize_animations import quantize_animations
from cloudbaker.compute.gltf.resample import resample
from cloudbaker.testing import models, shapes
from cloudbaker.testing.writer import Writer


def f32(values):
    return np.asarray(values, np.float32)


def moving(path, times, values, *, interpolation="LINEAR") -> Document:
    """A cube with one animated node."""
    w = Writer()
    node = w.node(name="n", mesh=w.mesh(shapes.box(1.0), name="cube"))
    w.animation("a", [(node, path, f32(times), f32(values))])
    if interpolation != "LINEAR":
        w.json["animations"][0]["samplers"][0]["interpolation"] = interpolation
    w.scene(node)
    return Document.from_glb(w.glb())


def curve(document: Document, path: str) -> Curve:
    return read_curve(document, document.json["animations"][0]["samplers"][0], path)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_straight_line_needs_its_ends():
    times = np.linspace(0, 2, 61)
    document = moving("translation", times, np.outer(times, [1, 2, 3]))
    assert resample(document) == (61, 2)
    kept = curve(document, "translation")
    assert kept.times.tolist() == [0, 2]
    np.testing.assert_array_equal(kept.values, [[0, 0, 0], [2, 4, 6]])


def test_an_even_turn_needs_its_ends_and_lerp_would_not_do():
    times = np.linspace(0, 1, 31)
    angle = times * 1.2
    document = moving("rotation", times, np.stack([0 * angle, np.sin(angle / 2), 0 * angle, np.cos(angle / 2)], 1))
    assert resample(document) == (31, 2)


def test_keys_that_are_kept_keep_their_bytes():
    rng = np.random.default_rng(1)
    times, values = np.arange(40) / 30, rng.normal(size=(40, 3))
    values[5:36] = values[5]
    document = moving("translation", times, values)
    before = curve(document, "translation")
    resample(document)
    after = curve(document, "translation")
    rows = np.searchsorted(before.times, after.times)
    assert len(rows) == 11
    np.testing.assert_array_equal(before.times[rows], after.times)
    np.testing.assert_array_equal(before.values[rows], after.values)


def test_steps_lose_only_what_repeats():
    values = np.repeat(np.repeat([[1.0], [2.0], [1.0]], 20, 0), 3, 1)
    document = moving("scale", range(60), values, interpolation="STEP")
    assert resample(document) == (60, 4)
    assert curve(document, "scale").times.tolist() == [0, 20, 40, 59]


def test_splines_and_unknown_pointers_stay():
    document = moving("translation", [0, 1, 2], np.zeros((9, 3)), interpolation="CUBICSPLINE")
    before = document.json["animations"][0]["samplers"][0].copy()
    assert resample(document) == (0, 0)
    assert quantize_animations(document) == 0
    assert document.json["animations"][0]["samplers"][0] == before


def pointing(pointer: str, times, values) -> Document:
    """The same moved by a pointer."""
    document = moving("translation", times, values)
    target = document.json["animations"][0]["channels"][0]["target"]
    target["path"] = "pointer"
    target["extensions"] = {"KHR_animation_pointer": {"pointer": pointer}}
    return document


def test_what_a_pointer_moves_is_exact_where_no_bound_is_known():
    times = np.linspace(0, 1, 30)
    values = np.outer(times, [1, 1, 1]) + np.where(np.arange(30)[:, None] == 7, 1e-6, 0)
    document = pointing("/extensions/ACME_wind/strength", times, values)
    old = curve(document, "pointer")
    resample(document)
    assert deviations([(old, curve(document, "pointer"))]) == [0.0]
    assert quantize_animations(document) == 0


@pytest.mark.parametrize(
    ("pointer", "path"), [("/nodes/0/translation", "translation"), ("/materials/0/emissiveFactor", "factor")]
)
def test_what_a_pointer_moves_keeps_to_the_bound_of_what_it_leads_to(pointer, path):
    times = np.linspace(0, 1, 60)
    document = pointing(pointer, times, np.outer(times, [1, 1, 1]) + 1e-6 * np.sin(np.arange(180)).reshape(60, 3))
    document.json.setdefault("materials", [{"name": "lamp"}])
    source = document.clone()
    old = curve(document, path)
    assert resample(document) == (60, 2)
    assert quantize_animations(document) == 1
    [off] = deviations([(old, curve(document, path))])
    assert 0 < off <= BOUNDS.of(path, extent(document))
    assert compare(source, document) == []
    # What is known of a pointer's rotation is that of a node; it stays float.
    assert moved({"path": "pointer", "extensions": {"KHR_animation_pointer": {"pointer": "/x/rotation"}}}) == "pointer"


def test_a_rotation_by_pointer_stays_float():
    angle = np.linspace(0, 1, 40)
    turn = unit(np.stack([np.sin(angle * angle), 0 * angle, np.sin(angle), np.cos(angle)], 1))
    document = moving("rotation", angle, turn)
    target = document.json["animations"][0]["channels"][0]["target"]
    target |= {"path": "pointer", "extensions": {"KHR_animation_pointer": {"pointer": "/nodes/0/rotation"}}}
    old = curve(document, "rotation")
    assert quantize_animations(document) == 1
    sampler = document.json["animations"][0]["samplers"][0]
    assert document.items("accessors")[sampler["output"]]["componentType"] == 5126
    [off] = deviations([(old, curve(document, "rotation"))])
    assert 0 < off <= 0.4 * BOUNDS.rotation_degrees


def test_morph_weights_are_taken_key_by_key():
    document = Document.from_glb(models.morphed())
    sampler = document.json["animations"][0]["samplers"][0]
    document.set_accessor(sampler["input"], f32(np.linspace(0, 2, 41))[:, None], bounds=True)
    ramp = np.stack([np.linspace(0, 1, 41), np.full(41, 0.5)], 1)
    document.set_accessor(sampler["output"], f32(ramp.reshape(-1, 1)))
    assert resample(document) == (41, 2)
    assert document.accessor(sampler["output"])[:, 0].tolist() == [0, 0.5, 1, 0.5]


def test_curves_that_keep_the_same_keys_share_their_times():
    w = Writer()
    nodes = [w.node(name=f"n{i}", mesh=w.mesh(shapes.box(1.0), name=f"m{i}")) for i in range(5)]
    times = f32(np.linspace(0, 1, 50))
    w.animation("a", [(n, "translation", times, f32(np.outer(times, [i, 1, 0]))) for i, n in enumerate(nodes)])
    w.scene(*nodes)
    document = Document.from_glb(w.glb())
    assert resample(document) == (250, 10)
    assert len({s["input"] for s in document.json["animations"][0]["samplers"]}) == 1


def test_the_default_interpolation_is_not_written():
    document = moving("scale", [0, 1], [[1, 1, 1], [2, 2, 2]])
    document.json["animations"][0]["samplers"][0]["interpolation"] = "LINEAR"
    quantize_animations(document)
    assert "interpolation" not in document.json["animations"][0]["samplers"][0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["translation", "rotation", "scale"]), st.integers(3, 90))
def test_every_old_key_stays_within_the_bound(seed, path, count):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.01, 0.1, count))
    walk = np.cumsum(rng.normal(size=(count, 3)) * rng.choice([0, 1e-5, 1e-3, 0.1], size=(count, 1)), axis=0)
    values = unit(np.concatenate([walk, np.ones((count, 1))], 1)) if path == "rotation" else walk
    document = moving(path, times, values)
    old = curve(document, path)
    before, after = resample(document)
    quantize_animations(document)
    new = curve(document, path)
    assert (before, after) == (count, len(new.times))
    assert (new.times[0], new.times[-1]) == (old.times[0], old.times[-1])
    [off] = deviations([(old, new)])
    assert off <= BOUNDS.of(path, extent(document)) * 1.001
    # Also between the keys, which nothing above looked at.
    middle = (old.times[1:] + old.times[:-1]) / 2
    halfway = between(old.values[:-1], old.values[1:], np.full(count - 1, 0.5), rotation=path == "rotation")
    [off] = deviations(
        [
            (
                Curve(
                    np.concatenate([old.times[:1], middle, old.times[-1:]]),
                    np.concatenate([old.values[:1], halfway, old.values[-1:]]),
                    path == "rotation",
                    "LINEAR",
                ),
                new,
            )
        ]
    )
    assert off <= BOUNDS.of(path, extent(document)) * 1.05


def test_deviations_find_one_wrong_key_among_many_curves():
    rng = np.random.default_rng(3)
    pairs = []
    for n in range(50):
        times = np.cumsum(rng.uniform(0.1, 1, 10)) + n
        values = unit(rng.normal(size=(10, 4)))
        wrong = values.copy()
        if n == 31:
            wrong[4] = -wrong[4] * 0.5 + unit(rng.normal(size=(1, 4)))[0]
            wrong = unit(wrong)
        pairs.append((Curve(times, values, True, "LINEAR"), Curve(times, wrong, True, "LINEAR")))
    off = deviations(pairs)
    assert [n for n, far in enumerate(off) if far > 1e-6] == [31]
    assert off[31] == pytest.approx(distance(pairs[31][0].values, pairs[31][1].values, rotation=True).max())


def test_a_curve_beyond_the_bound_is_a_loss():
    times = np.linspace(0, 1, 9)
    source = moving("translation", times, np.outer(times, [1, 1, 1]))
    bent = np.outer(times, [1, 1, 1])
    bent[4, 1] += 0.01
    losses = compare(source, moving("translation", times, bent))
    assert [(loss.kind, loss.place) for loss in losses] == [("animation", "/animations/0/channels/0")]
    shorter = moving("translation", times[:-1], np.outer(times[:-1], [1, 1, 1]))
    assert [loss.kind for loss in compare(source, shorter)] == ["animation"]


def test_a_curve_that_takes_a_split_for_every_key_is_left_alone_and_soon():
    count = 20_000
    values = np.zeros((count, 3))
    values[:, 0] = 2.0 ** -(np.arange(count) % 40) * np.arange(count)  # each split leaves one key on one side
    document = moving("translation", np.arange(count) / 1000, values)
    before, after = resample(document)
    assert before == count
    assert after > count / 2


def test_a_bake_reports_no_loss_and_the_validator_no_error(khronos):
    w = Writer()
    node = w.node(name="spinner", mesh=w.mesh(shapes.box(0.5), name="cube"))
    times = f32(np.linspace(0, 4, 241))
    turn = f32(np.stack([0 * times, np.sin(times / 2), 0 * times, np.cos(times / 2)], 1))
    still = f32(np.ones((241, 3)))
    w.animation("spin", [(node, "rotation", times, turn), (node, "scale", times, still)])
    w.scene(node)
    data = w.glb()
    done = assemble_job({"model.glb": memoryview(data)}, {"images": [], "meshes": {}, "lods": []})
    assert done.value["losses"] == []
    assert len(done.files["model.glb"]) < len(data) / 3
    assert khronos([done.files["model.glb"]]) == []
    details = {step["name"]: step["detail"] for step in done.value["steps"]}
    # Slerp takes the shorter way, so a turn of 4 radians needs a key in its middle.
    assert details["keyframes"] == "482 → 5 keyframes, 2 accessors rounded"
