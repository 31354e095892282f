from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cloudbaker.compute.meshes import meshopt
from cloudbaker.compute.meshes.meshopt import ExponentMode, MeshoptError

few = settings(max_examples=60, deadline=None)


def triangles(indices: np.ndarray) -> list[tuple[int, ...]]:
    """Triangles by their smallest rotation: what is left of order when a codec may rotate them."""
    return [min((a, b, c), (b, c, a), (c, a, b)) for a, b, c in np.asarray(indices).reshape(-1, 3).tolist()]


# ------------------------------------------------------------------------------------------------------------- welding


def test_weld_joins_equal_vertices_drops_unused_ones_and_keeps_every_corner(sphere):
    attributes, indices = sphere
    doubled = {k: np.concatenate([v, v, v[:1] + 9]) for k, v in attributes.items()}
    faces = np.concatenate([indices, indices + len(attributes["POSITION"])])
    welded = meshopt.weld(doubled, faces)
    used = np.concatenate(list(attributes.values()), axis=1)[np.unique(indices)]
    assert len(welded.source) == len(np.unique(used, axis=0))
    for name, values in doubled.items():
        np.testing.assert_array_equal(welded.streams[name][welded.indices], values[faces])
        np.testing.assert_array_equal(welded.streams[name], values[welded.source])


@few
@given(st.data())
def test_weld_keeps_corners_whatever_the_streams(data):
    count = data.draw(st.integers(1, 40))
    kinds = data.draw(st.lists(st.sampled_from(["u1", "u2", "f4", "i1"]), min_size=1, max_size=4))
    streams = {
        f"s{i}": data.draw(hnp.arrays(kind, (count, data.draw(st.integers(1, 5))), elements=st.integers(0, 2)))
        for i, kind in enumerate(kinds)
    }
    faces = data.draw(hnp.arrays(np.uint32, (data.draw(st.integers(0, 30)), 3), elements=st.integers(0, count - 1)))
    welded = meshopt.weld(streams, faces)
    joined = np.concatenate([s.astype(int) for s in welded.streams.values()], axis=1)
    rows = [tuple(row) for row in joined.tolist()]
    assert len(set(rows)) == len(rows)
    assert set(welded.indices.ravel()) == set(range(len(rows)))
    for name, values in streams.items():
        np.testing.assert_array_equal(welded.streams[name][welded.indices], values[faces])


def test_weld_of_vertices_wider_than_one_call_allows():
    rng = np.random.default_rng(5)
    wide = {f"morph{i}": rng.integers(0, 2, (60, 3)).astype(np.float32) for i in range(500)}  # 6000 bytes a vertex
    wide = {k: np.concatenate([v, v]) for k, v in wide.items()}
    faces = np.arange(120, dtype=np.uint32).reshape(-1, 3)
    welded = meshopt.weld(wide, faces)
    assert len(welded.source) == 60
    np.testing.assert_array_equal(welded.streams["morph499"][welded.indices], wide["morph499"][faces])


def test_weld_of_no_triangles_leaves_no_vertices(sphere):
    welded = meshopt.weld(sphere[0], np.empty((0, 3), np.uint32))
    assert welded.indices.shape == (0, 3)
    assert all(len(v) == 0 for v in welded.streams.values())


# ------------------------------------------------------------------------------------------------------------- ordering


def test_reordering_keeps_triangles_and_drops_unused_vertices(sphere):
    positions, faces = sphere[0]["POSITION"], sphere[1][::2]
    ordered = meshopt.optimize_overdraw(meshopt.optimize_vertex_cache(faces, len(positions)), positions)
    assert sorted(triangles(ordered)) == sorted(triangles(faces))
    renumbered, source = meshopt.optimize_vertex_fetch(ordered, len(positions))
    np.testing.assert_array_equal(source[renumbered], ordered)
    assert len(source) == len(np.unique(faces))
    first_use = np.unique(renumbered.ravel(), return_index=True)[1]
    assert (np.diff(first_use) > 0).all()


# ------------------------------------------------------------------------------------------------------------ the codec


@few
@given(st.data())
def test_vertex_buffers_come_back_exactly(data):
    count = data.draw(st.integers(1, 600))
    words = data.draw(st.sampled_from([1, 2, 3, 5, 16, 64]))
    seed = data.draw(st.integers(0, 2**32 - 1))
    top = data.draw(st.sampled_from([1, 200, 2**32]))
    values = np.random.default_rng(seed).integers(0, top, (count, words), dtype=np.uint64).astype(np.uint32)
    encoded = meshopt.encode_vertex_buffer(values)
    assert encoded[0] == 0xA0  # version 0: EXT_meshopt_compression
    assert meshopt.decode_buffer(encoded, count=count, stride=words * 4, mode="ATTRIBUTES") == values.tobytes()


@few
@given(hnp.arrays(np.uint32, st.tuples(st.integers(1, 200), st.just(3)), elements=st.integers(0, 999)))
def test_index_buffers_come_back(faces):
    encoded = meshopt.encode_index_buffer(faces, 1000)
    assert encoded[0] == 0xE1
    for stride, kind in ((2, np.uint16), (4, np.uint32)):
        back = np.frombuffer(meshopt.decode_buffer(encoded, count=faces.size, stride=stride, mode="TRIANGLES"), kind)
        assert triangles(back) == triangles(faces)
    encoded = meshopt.encode_index_sequence(faces, 1000)
    assert encoded[0] == 0xD1
    back = np.frombuffer(meshopt.decode_buffer(encoded, count=faces.size, stride=4, mode="INDICES"), np.uint32)
    np.testing.assert_array_equal(back, faces.ravel())


def test_zeros_at_the_best_ratio_there_is_are_not_refused_as_a_bomb():
    zeros = np.zeros((100_000, 64), np.uint32)
    encoded = meshopt.encode_vertex_buffer(zeros)
    assert meshopt.decode_buffer(encoded, count=100_000, stride=256, mode="ATTRIBUTES") == zeros.tobytes()


@few
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 50), st.integers(1, 4)), elements=st.floats(-1, 1, width=32)),
    st.sampled_from([1e-6, 0.02, 1.0, 3e4]),
    st.integers(2, 24),
    st.sampled_from(list(ExponentMode)),
)
def test_the_exponential_filter_keeps_to_its_bound(values, size, bits, mode):
    values = (values * np.float32(size)).astype(np.float32)
    packed = meshopt.encode_filter_exp(values, bits=bits, mode=mode)
    encoded = meshopt.encode_vertex_buffer(packed)
    stride = values.shape[1] * 4
    raw = meshopt.decode_buffer(encoded, count=len(values), stride=stride, mode="ATTRIBUTES", filter="EXPONENTIAL")
    back = np.frombuffer(raw, np.float32).reshape(values.shape)
    counted = np.where(values == 0, 0.99, np.abs(values)).astype(np.float64)  # a zero makes all as coarse as a one does
    sharing = {ExponentMode.SEPARATE: None, ExponentMode.SHARED_VECTOR: 1, ExponentMode.SHARED_COMPONENT: 0}[mode]
    largest = counted if sharing is None else counted.max(axis=sharing, keepdims=True)
    bound = np.ldexp(1.0, np.frexp(largest)[1] - bits)
    # Twice that at the very top, where the mantissa saturates.
    off = np.abs(back.astype(np.float64) - values)
    assert (off <= bound * 2 + 1e-29).all()
    assert (off <= bound * 1.0001 + 1e-29).mean() > 0.5


def test_a_zero_makes_small_values_coarse_unless_they_are_scaled_first():
    values = np.random.default_rng(0).random((100, 3)).astype(np.float32) * np.float32(0.02)
    values[7] = 0

    def error(packed: np.ndarray, shift: int) -> float:
        words = packed.view(np.int32)
        return float(np.abs(np.ldexp(((words << 8) >> 8).astype(float), (words >> 24) - shift) - values).max())

    assert error(meshopt.encode_filter_exp(values, bits=12), 0) > 1e-4
    assert error(meshopt.encode_filter_exp(np.ldexp(values, 6), bits=12), 6) <= 2 * 2**-12 / 64


@pytest.mark.parametrize(("bits", "kind", "degrees"), [(8, np.int8, 1.5), (12, np.int16, 0.1), (16, np.int16, 0.01)])
def test_the_octahedral_filter_keeps_directions(bits, kind, degrees):
    vectors = np.random.default_rng(2).normal(size=(2000, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    packed = meshopt.encode_filter_oct(vectors, bits=bits)
    assert packed.dtype == kind
    stride = packed.dtype.itemsize * 4
    raw = meshopt.decode_buffer(
        meshopt.encode_vertex_buffer(packed), count=2000, stride=stride, mode="ATTRIBUTES", filter="OCTAHEDRAL"
    )
    back = np.frombuffer(raw, kind).reshape(-1, 4)[:, :3].astype(np.float64)
    back /= np.linalg.norm(back, axis=1, keepdims=True)
    angle = np.degrees(np.arccos(np.clip(np.einsum("ij,ij->i", back, vectors), -1, 1)))
    assert angle.max() < degrees


def test_the_octahedral_filter_keeps_a_tangents_sign():
    tangents = np.array([[1, 0, 0, 1], [0, 1, 0, -1]], np.float32)
    raw = meshopt.decode_buffer(
        meshopt.encode_vertex_buffer(meshopt.encode_filter_oct(tangents)),
        count=2,
        stride=4,
        mode="ATTRIBUTES",
        filter="OCTAHEDRAL",
    )
    assert np.frombuffer(raw, np.int8).reshape(2, 4)[:, 3].tolist() == [127, -127]


def test_the_quaternion_filter_keeps_rotations():
    turns = np.random.default_rng(3).normal(size=(500, 4))
    turns /= np.linalg.norm(turns, axis=1, keepdims=True)
    raw = meshopt.decode_buffer(
        meshopt.encode_vertex_buffer(meshopt.encode_filter_quat(turns)),
        count=500,
        stride=8,
        mode="ATTRIBUTES",
        filter="QUATERNION",
    )
    back = np.frombuffer(raw, np.int16).reshape(-1, 4) / 32767
    assert np.abs(np.einsum("ij,ij->i", back, turns)).min() > 0.9999  # 1.6 degrees at most


def test_threads_do_not_disturb_each_other(sphere):
    """Encoding state is global in the library: it is set once, never per call."""
    rows = sphere[0]["POSITION"]
    expected = meshopt.encode_vertex_buffer(rows)
    wrong: list[bytes] = []

    def work() -> None:
        for _ in range(50):
            encoded = meshopt.encode_vertex_buffer(rows)
            if encoded != expected:
                wrong.append(encoded)

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert wrong == []


# -------------------------------------------------------------------------- what would be a SIGSEGV without the checks

POINTS = np.zeros((4, 3), np.float32)
FACES = np.array([[0, 1, 2], [1, 2, 3]], np.uint32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: meshopt.optimize_vertex_cache(FACES + 2, 4), "out of range"),
        (lambda: meshopt.optimize_vertex_cache(FACES.astype(np.int32) - 1, 4), "out of range"),
        (lambda: meshopt.optimize_vertex_cache(FACES.astype(np.float32), 4), "must be integers"),
        (lambda: meshopt.optimize_vertex_cache(FACES.ravel()[:4], 4), "multiple of 3"),
        (lambda: meshopt.optimize_overdraw(FACES, POINTS[:, :2]), "shape"),
        (lambda: meshopt.optimize_overdraw(FACES, POINTS * np.nan), "finite"),
        (lambda: meshopt.optimize_vertex_fetch(FACES + 2, 4), "out of range"),
        (lambda: meshopt.weld({}, FACES), "no vertex stream"),
        (lambda: meshopt.weld({"a": POINTS, "b": POINTS[:3]}, FACES), "different lengths"),
        (lambda: meshopt.weld({"a": POINTS}, FACES + 2), "out of range"),
        (lambda: meshopt.encode_index_buffer(FACES, 3), "out of range"),
        (lambda: meshopt.encode_index_buffer(FACES[:0], 3), "no triangles"),
        (lambda: meshopt.encode_index_sequence(FACES, 3), "out of range"),
        (lambda: meshopt.encode_index_sequence(FACES[:0], 3), "no indices"),
        (lambda: meshopt.encode_vertex_buffer(np.zeros((4, 3), np.uint8)), "multiple of 4"),
        (lambda: meshopt.encode_vertex_buffer(np.zeros((4, 65), np.uint32)), "multiple of 4"),
        (lambda: meshopt.encode_vertex_buffer(POINTS[:0]), "no vertices"),
        (lambda: meshopt.encode_vertex_buffer(np.zeros((2, 2, 2))), "shape"),
        (lambda: meshopt.encode_filter_oct(POINTS, bits=17), "bits"),
        (lambda: meshopt.encode_filter_oct(POINTS[:, :2]), "shape"),
        (lambda: meshopt.encode_filter_quat(POINTS), "shape"),
        (lambda: meshopt.encode_filter_quat(np.zeros((1, 4)), bits=3), "bits"),
        (lambda: meshopt.encode_filter_exp(POINTS, bits=25), "bits"),
        (lambda: meshopt.encode_filter_exp(np.zeros((2, 65))), "at most 64"),
        (lambda: meshopt.encode_filter_exp(np.full((1, 1), 1e300)), "32-bit float"),
    ],
)
def test_bad_arguments_are_refused_before_native_code(call, message):
    with pytest.raises(MeshoptError, match=message):
        call()


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"mode": "VERTICES"}, "unknown"),
        ({"filter": "GAMMA"}, "unknown"),
        ({"count": 0}, "positive"),
        ({"count": True}, "integers"),
        ({"count": 4.0}, "integers"),
        ({"count": 1 << 40}, "can't hold"),
        ({"count": 1 << 70}, "can't hold"),
        ({"count": 500}, "damaged"),
        ({"stride": 6}, "byteStride 6"),
        ({"stride": 260}, "byteStride 260"),
        ({"stride": 12, "filter": "OCTAHEDRAL"}, "OCTAHEDRAL filter needs"),
        ({"stride": 12, "filter": "QUATERNION"}, "QUATERNION filter needs"),
        ({"mode": "TRIANGLES", "count": 4, "stride": 4}, "multiple of 3"),
        ({"mode": "TRIANGLES", "count": 3, "stride": 8}, "2 or 4"),
        ({"mode": "TRIANGLES", "count": 300, "stride": 4}, "can't hold"),
        ({"mode": "INDICES", "count": 300, "stride": 4}, "can't hold"),
        ({"mode": "INDICES", "count": 3, "stride": 4, "filter": "EXPONENTIAL"}, "not allowed"),
        ({"mode": "INDICES", "count": 3, "stride": 4}, "damaged"),
    ],
)
def test_a_buffer_view_that_lies_is_refused(form, message):
    encoded = meshopt.encode_vertex_buffer(np.arange(12, dtype=np.uint32).reshape(4, 3))
    with pytest.raises(MeshoptError, match=message):
        meshopt.decode_buffer(encoded, **{"count": 4, "stride": 12, "mode": "ATTRIBUTES", **form})


def test_an_empty_payload_is_refused():
    with pytest.raises(MeshoptError, match="damaged"):
        meshopt.decode_buffer(b"", count=4, stride=4, mode="ATTRIBUTES")
