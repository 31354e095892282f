"""Shared by the tests of intake and validation: models with one thing changed, and the validator's source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cloudbaker.compute.gltf.glb import join_glb, read_glb
from cloudbaker.compute.npm import validator_js
from cloudbaker.testing import models

Change = Callable[[dict[str, Any], bytearray], Any]


def _edit(model: str, change: Change) -> bytes:
    container = read_glb(models.VALID[model]())
    document, binary = container.document, bytearray(container.bin or b"")
    before, size = document["buffers"][0]["byteLength"], len(binary)
    change(document, binary)
    if len(binary) != size and document["buffers"][0]["byteLength"] == before:
        document["buffers"][0]["byteLength"] = len(binary)
    return join_glb(document, binary)


@pytest.fixture(scope="session")
def edit() -> Callable[[str, Change], bytes]:
    """A generated model after ``change(document, binary)``; the buffer's length follows what was appended."""
    return _edit


@pytest.fixture(scope="session")
def validator() -> bytes:
    """Source of the official validator, as the jobs want it."""
    return validator_js().read_bytes()
