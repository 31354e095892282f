"""Mutated models: whatever is changed, the checks end in findings, and what they pass does not break what follows."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from cloudbaker.compute.gltf.decompress import decompress
from cloudbaker.compute.gltf.document import Document, DocumentError
from cloudbaker.compute.gltf.facts import facts
from cloudbaker.compute.gltf.findings import RULES
from cloudbaker.compute.gltf.glb import join_glb, read_glb
from cloudbaker.compute.gltf.inspect import inspect
from cloudbaker.compute.gltf.intake import to_glb_job
from cloudbaker.compute.gltf.precheck import precheck
from cloudbaker.compute.job import Job, Status
from cloudbaker.compute.npm import validator_js
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.testing import models

# Small ones: a mutation of a picture's pixels changes nothing that is checked here.
MODELS = [name for name in sorted(models.VALID) if not name.startswith("textured") and name != "grid"]
STRANGE: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 3, 255, 65_535, 1 << 31, (1 << 32) - 1, 1 << 53, 1 << 70, -(1 << 70)),
    *(
        0.5,
        -0.0,
        1e300,
        1e308,
        "",
        "x",
        "0",
        "\u0000",
        "../x",
        "POSITION",
        "SCALAR",
        "MAT4",
        [],
        [0],
        [[]],
        {},
        {"": 0},
    ),
    *({"extensions": {}}, {"index": 0}, [None], 5120, 5121, 5125, 5126),
]
NAMES = ["mesh", "children", "sparse", "extensions", "targets", "uri", "skin", "mode", "attributes"]


def mutate_json(random_: random.Random, value: Any) -> Any:
    """Change, remove, add, double or swap something somewhere."""
    holders: list[Any] = []
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, (dict, list)):
            holders.append(item)
            stack += item.values() if isinstance(item, dict) else item
    holder = random_.choice([h for h in holders if h] or holders)
    if isinstance(holder, dict):
        key = random_.choice(list(holder)) if holder else "x"
    else:
        key = random_.randrange(len(holder)) if holder else None
    action = random_.randrange(6)
    if key is None:
        holder.append(random_.choice(STRANGE))
    elif action == 0:
        del holder[key]
    elif action == 1 and isinstance(holder, list):
        holder.append(json.loads(json.dumps(holder[key])))
    elif action == 2 and type(holder[key]) in (int, float):
        holder[key] += random_.choice([-1, 1, 2, 4, 100])
    elif action == 3:
        other = random_.choice(holders)
        holder[key] = json.loads(json.dumps(other)) if len(json.dumps(other)) < 2000 else 0
    elif action == 4 and isinstance(holder, dict):
        holder[random_.choice(["mesh", "children", "sparse", "extensions", "targets", "uri", "skin", "mode"])] = holder[
            key
        ]
    else:
        holder[key] = random_.choice(STRANGE)
    return value


def mutant(seed: int) -> bytes:
    random_ = random.Random(seed)
    data = models.VALID[random_.choice(MODELS)]()
    container = read_glb(data)
    document, binary = container.document, bytearray(container.bin or b"")
    match random_.randrange(10):
        case 0 | 1 | 2 | 3:
            for _ in range(random_.randint(1, 2)):
                document = mutate_json(random_, document)
        case 4 | 5 | 6:
            for _ in range(random_.randint(1, 8)):
                binary[random_.randrange(len(binary))] = random_.randrange(256)
        case 7:
            return data[: random_.randrange(len(data))]
        case 8:
            changed = bytearray(data)
            changed[random_.randrange(20)] = random_.randrange(256)
            return bytes(changed)
        case _:
            changed = bytearray(data)
            for _ in range(random_.randint(1, 30)):
                changed[random_.randrange(len(changed))] = random_.randrange(256)
            return bytes(changed)
    return join_glb(document, binary)


def check(data: bytes) -> str:
    """Everything in-process that validation and the stages after it do with a file's structure."""
    checked = precheck(data)
    for finding in checked.findings:
        assert finding.code in RULES
        assert finding.message
        assert len(finding.message) < 400
        assert finding.remedy
    taken = to_glb_job({"m.glb": memoryview(data)}, {"main": "m.glb"})
    if "model.glb" not in taken.files:
        assert any(f["severity"] == "error" for f in taken.value["findings"])
    if checked.document is None:
        assert checked.findings.failed
        return "refused"
    assert checked.bin is None or len(checked.bin) % 4 == 0
    json.dumps(inspect(checked.document, checked.bin, len(data)), allow_nan=False)
    json.dumps(facts(checked.document, len(data)))
    document = Document.from_glb(data)
    try:
        for index in range(len(document.items("accessors"))):
            document.accessor(index)
        plain = decompress(data)
    except DocumentError:
        return "refused by payload"
    assert precheck(plain).document is not None or precheck(plain).findings.failed
    return "passed"


@pytest.mark.parametrize("block", range(15))
def test_mutated_files_end_in_findings(block: int) -> None:
    outcomes = []
    for seed in range(block * 100, block * 100 + 100):
        try:
            outcomes.append(check(mutant(seed)))
        except Exception as error:
            raise AssertionError(f"mutant({seed}) raised {type(error).__name__}: {error}") from error
    # Both ways have to be walked, or the mutations test nothing.
    assert outcomes.count("refused") > 20
    assert outcomes.count("passed") > 10


@pytest.mark.slow
def test_many_more_mutated_files_end_in_findings() -> None:
    for seed in range(10_000, 60_000):
        try:
            check(mutant(seed))
        except Exception as error:
            raise AssertionError(f"mutant({seed}) raised {type(error).__name__}: {error}") from error


def test_mutated_files_in_the_sandbox_end_in_findings_or_limits(sandbox: Sandbox) -> None:
    jobs = [
        Job(
            "cloudbaker.compute.gltf.validate:validate_job",
            {"model.glb": mutant(seed), "validator.js": validator_js()},
        )
        for seed in range(2_000, 2_040)
    ]
    for job, outcome in zip(jobs, sandbox.run_all(jobs), strict=True):
        assert outcome.status is Status.OK, (outcome.error, job)
        if not outcome.value["facts"]:
            assert any(f["severity"] == "error" for f in outcome.value["findings"])
