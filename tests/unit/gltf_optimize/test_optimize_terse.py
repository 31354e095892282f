"""Fewer characters, the same document."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.losses import compare
from cloudbaker.compute.gltf.terse import same_number, shortest, terse
from cloudbaker.testing import models


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float32_is_the_same_float32_in_fewer_digits(value):
    short = shortest(value)
    assert np.float32(short) == np.float32(value)
    assert len(json.dumps(short)) <= len(json.dumps(value))
    assert same_number(value, short)
    assert shortest(short) == short


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_on_purpose_stays(value):
    with np.errstate(over="ignore"):
        single = float(np.float32(value)) == value
    if not single:
        assert shortest(value) == value


@pytest.mark.parametrize(
    ("value", "short"),
    [(0.800000011920929, 0.8), (1.0, 1), (-0.0, 0), (16777216.0, 16777216.0), (0.1234567890123, 0.1234567890123)],
)
def test_numbers(value, short):
    assert json.dumps(shortest(value)) == json.dumps(short)


def test_a_changed_number_is_still_a_loss():
    assert not same_number(0.8, 0.8000001)
    assert not same_number(0.1234567890123, 0.12345679)
    assert same_number(0.5, 0.5)


@pytest.mark.parametrize("name", sorted(models.VALID))
def test_nothing_is_lost_and_nothing_grows(name, khronos):
    source = Document.from_glb(models.VALID[name]())
    document = source.clone()
    terse(document)
    data = document.to_glb()
    assert len(data) <= len(source.to_glb())
    assert compare(source, Document.from_glb(data)) == []
    assert khronos([data]) == []
    assert terse(document) == 0


def test_extras_and_unknown_extensions_are_verbatim():
    document = Document.from_glb(models.box())
    node = document.json["nodes"][0]
    node["translation"] = [0.800000011920929, 1.0, 0.1234567890123]
    node["extras"] = {"weight": 0.800000011920929, "extensions": {}}
    node["extensions"] = {"ACME_x": {"a": 0.800000011920929, "b": [1.0], "extensions": {}}}
    kept = json.dumps([node["extras"], node["extensions"]])
    document.json["scenes"][0]["extensions"] = {}
    assert terse(document) >= 3
    assert json.dumps(node["translation"]) == "[0.8, 1, 0.1234567890123]"
    assert json.dumps([node["extras"], node["extensions"]]) == kept
    assert "extensions" not in document.json["scenes"][0]
