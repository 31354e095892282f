"""Seeded mutations: whatever passes validation bakes, or ends in an error of ours; never in anything else.

The pre-check and the payload check stand before the optimizer in the pipeline, so only what they let through comes
here. A file that they accept and that then breaks the optimizer would be a hole in one of them.
"""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from cloudbaker.compute.gltf.document import Document, DocumentError
from cloudbaker.compute.gltf.glb import GlbError, join_glb, split_glb
from cloudbaker.compute.gltf.limits import ContentLimits
from cloudbaker.compute.gltf.optimize import assemble_job, unpack_job
from cloudbaker.compute.gltf.payloads import check_payloads
from cloudbaker.compute.gltf.precheck import precheck
from cloudbaker.model import Severity
from cloudbaker.testing import models

SOURCES = (
    "textured",
    "skinned",
    "morphed",
    "sparse",
    "interleaved",
    "draco",
    "meshopt",
    "variants",
    "points_and_lines",
)
VALUES: tuple[Any, ...] = (
    0,
    1,
    -1,
    2,
    3,
    5,
    255,
    65535,
    1 << 31,
    0.5,
    1e30,
    "",
    "x",
    True,
    None,
    [],
    {},
    [0],
    "SCALAR",
)
MESHES = {"compression": "auto", "position_bits": 14, "normal_bits": 10, "texcoord_bits": 12, "color_bits": 8}
LODS = [{"variant": "lod1", "ratio": 0.5, "max_error_percent": 1.0}]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One to three values of the JSON changed, dropped or doubled, or some bytes of the binary chunk."""
    text, body = split_glb(data)
    document, binary = json.loads(bytes(text)), bytearray(body or b"")
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.25 and binary:
            for _ in range(rng.randint(1, 8)):
                binary[rng.randrange(len(binary))] = rng.randrange(256)
            continue
        places: list[tuple[Any, Any]] = []
        stack: list[Any] = [document]
        while stack:
            at = stack.pop()
            for key, value in at.items() if isinstance(at, dict) else enumerate(at):
                places.append((at, key))
                if isinstance(value, (dict, list)):
                    stack.append(value)
        holder, key = rng.choice(places)
        match rng.randrange(3):
            case 0:
                holder[key] = rng.choice(VALUES)
            case 1:
                del holder[key]
            case _:
                holder[key] = holder[key] + 1 if type(holder[key]) is int else rng.choice(VALUES)
    return join_glb(document, bytes(binary))


def passes(data: bytes) -> bool:
    limits = ContentLimits()
    checked = precheck(data, limits)
    if checked.document is not None:
        check_payloads(data, checked.document, limits, checked.findings)
    return not any(finding.severity is Severity.ERROR for finding in checked.findings)


def survives(name: str, seeds: range) -> int:
    source = models.VALID[name]() if name != "textured" else models.textured(16)
    baked = 0
    for seed in seeds:
        data = mutated(source, random.Random(f"{name} {seed}"))
        if not passes(data):
            continue
        inputs = {"model.glb": memoryview(data)}
        try:
            unpack_job(inputs, {})
            result = assemble_job(inputs, {"images": [], "meshes": MESHES, "lods": LODS})
        except (DocumentError, GlbError):
            continue
        except Exception as error:
            raise AssertionError(f"seed {name} {seed}: {type(error).__name__}: {error}") from error
        baked += 1
        for content in result.files.values():
            assert len(content) <= len(data)
            assert passes(bytes(content)), f"seed {name} {seed}: the output does not pass our own checks"
            Document.from_glb(content)
    return baked


@pytest.mark.parametrize("name", SOURCES)
def test_what_passes_validation_can_be_baked(name):
    assert survives(name, range(25)) > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", SOURCES)
def test_what_passes_validation_can_be_baked_long(name):
    assert survives(name, range(25, 600)) > 0
