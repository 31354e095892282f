from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cloudbaker.compute.meshes.quantize import dequantize, quantize_weights, unorm


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_unsigned_values_come_back_from_floats(kind):
    values = np.arange(np.iinfo(kind).max + 1).astype(kind)
    np.testing.assert_array_equal(unorm(dequantize(values), bits=8 * values.itemsize), values)


def test_signed_values_reach_both_ends():
    assert dequantize(np.array([-128, -127, 0, 127], np.int8)).tolist() == [-1, -1, 0, 1]


def test_values_outside_the_range_are_clamped():
    assert unorm(np.array([-3.0, 0.5, 7.0])).tolist() == [0, 128, 255]


def test_fewer_bits_are_fewer_levels_over_the_whole_range():
    levels = unorm(np.linspace(0, 1, 1000), bits=3)
    assert sorted(set(levels.tolist())) == [0, 36, 73, 109, 146, 182, 219, 255]


weights = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 30), st.just(8)), elements=st.floats(0, 1, width=32, allow_subnormal=False)
)


@settings(max_examples=80, deadline=None)
@given(weights, st.sampled_from([8, 16]))
def test_weights_of_all_sets_sum_to_one_exactly(values, bits):
    top = (1 << bits) - 1
    parts = quantize_weights([values[:, :4], values[:, 4:]], bits=bits)
    whole = np.concatenate(parts, axis=1).astype(np.int64)
    some = values.sum(axis=1) > 0
    assert (whole.sum(axis=1) == np.where(some, top, 0)).all()
    exact = values[some] / values[some].sum(axis=1, keepdims=True, dtype=np.float64)
    # Rounding leaves at most half a step a weight over, and one weight takes it all.
    assert (np.abs(whole[some] / top - exact) <= 4.5 / top).all()


def test_quantized_weights_are_not_changed():
    once = quantize_weights([np.array([[0.5, 0.3, 0.2, 0.0]])])
    np.testing.assert_array_equal(quantize_weights(once)[0], once[0])
    assert once[0].tolist() == [[127, 77, 51, 0]] or once[0].sum() == 255


def test_bad_bits_are_refused():
    with pytest.raises(ValueError, match="8 or 16"):
        quantize_weights([np.ones((1, 4))], bits=12)
    with pytest.raises(ValueError, match="1 to 16"):
        unorm(np.ones(3), bits=17)
    assert quantize_weights([]) == []
