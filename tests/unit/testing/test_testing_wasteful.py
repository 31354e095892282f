"""Models that waste something: valid, the same each time, and each has what its verb removes."""

from __future__ import annotations

import pytest

from cloudbaker.compute.gltf.khronos import validate_all
from cloudbaker.compute.npm import validator_js
from cloudbaker.errors import ToolMissing
from cloudbaker.testing.wasteful import WASTEFUL, crates


def test_all_are_valid_and_the_same_each_time():
    try:
        script = validator_js().read_text("utf-8")
    except ToolMissing as error:
        pytest.skip(str(error))
    glbs = [make() for make in WASTEFUL.values()] + [crates(copies=True)]
    for glb, report in zip(glbs, validate_all(glbs, validator_js=script), strict=True):
        assert (report.errors, report.warnings) == (0, 0), report.findings
        assert len(glb) < 100_000
    assert glbs[:-1] == [make() for make in WASTEFUL.values()]
