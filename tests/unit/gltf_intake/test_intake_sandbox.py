"""Bad input through the real sandbox and the real tools: a finding each, the sandbox lives, nothing is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudbaker.compute.gltf.glb import join_glb, read_glb
from cloudbaker.compute.job import Job, Limits, Outcome, Status
from cloudbaker.compute.npm import validator_js
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.testing import models

TO_GLB = "cloudbaker.compute.gltf.intake:to_glb_job"
VALIDATE = "cloudbaker.compute.gltf.validate:validate_job"
INSPECT = "cloudbaker.compute.gltf.inspect:inspect_job"
DEFAULT = Limits()


def run(sandbox: Sandbox, data: bytes, limits: Limits = DEFAULT) -> tuple[Outcome, Outcome | None]:
    """Intake, and validation of what it made."""
    taken = sandbox.run(Job(TO_GLB, {"upload.glb": data}, {"main": "upload.glb"}, limits))
    if "model.glb" not in taken.files:
        return taken, None
    inputs = {"model.glb": taken.files["model.glb"], "validator.js": validator_js()}
    return taken, sandbox.run(Job(VALIDATE, inputs, {}, limits))


# What the image decoder has to refuse, since a header can't show it.
PASSES = {"corrupt_png"}


@pytest.mark.parametrize("kind", [kind for kind in models.HOSTILE if kind not in PASSES])
def test_hostile_files_end_in_findings(sandbox: Sandbox, kind: str) -> None:
    taken, validated = run(sandbox, models.hostile(kind))
    assert taken.status is Status.OK, taken.error
    findings = taken.value["findings"]
    if validated is not None:
        assert validated.status is Status.OK, validated.error
        findings = findings + validated.value["findings"]
    errors = [f for f in findings if f["severity"] == "error"]
    assert errors
    assert all(f["remedy"] and f["message"] for f in errors)
    assert validated is None or "model.glb" in taken.files


@pytest.mark.parametrize("kind", sorted(PASSES))
def test_what_only_a_decoder_can_see_passes_here(sandbox: Sandbox, kind: str) -> None:
    _, validated = run(sandbox, models.hostile(kind))
    assert validated is not None
    assert validated.status is Status.OK


def test_sound_files_pass_with_the_real_validator(sandbox: Sandbox) -> None:
    for model in ("skinned", "draco", "meshopt"):
        data = models.VALID[model]()
        taken, validated = run(sandbox, data)
        assert bytes(taken.files["model.glb"]) == data
        assert validated is not None
        assert validated.status is Status.OK, validated.error
        assert [f for f in validated.value["findings"] if f["severity"] == "error"] == []
        assert validated.value["facts"]["triangles"] > 0
        tables = sandbox.run(Job(INSPECT, {"model.glb": data}))
        assert tables.value["totals"]["triangles"] == validated.value["facts"]["triangles"]


def test_a_file_by_path_works_like_its_bytes(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "model.glb"
    path.write_bytes(models.box())
    outcome = sandbox.run(Job(VALIDATE, {"model.glb": path, "validator.js": validator_js()}))
    assert outcome.status is Status.OK
    assert outcome.value["findings"] == []


def test_what_expands_is_refused_within_small_memory(sandbox: Sandbox) -> None:
    container = read_glb(models.box())
    container.document["accessors"] += [{"componentType": 5126, "type": "MAT4", "count": 4_000_000_000}] * 50
    taken, validated = run(sandbox, join_glb(container.document, container.bin), Limits(memory_bytes=512 << 20))
    assert validated is not None
    assert validated.status is Status.OK
    assert [f["code"] for f in validated.value["findings"]] == ["gltf.expands-too-far"]
    assert max(taken.peak_bytes, validated.peak_bytes) < 256 << 20
