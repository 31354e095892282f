"""Mutated models: whatever is wrong, the checks end in findings, and what they pass is baked or refused, never worse.

The mutants are of `cloudbaker.testing.gltf_mutate`; `gltf_hostile_worker` takes them through intake, pre-check, payload
check (DracoPy, meshoptimizer), the official validator and the optimizer, in processes of their own, so that a
segmentation fault is a failed test and no end of all tests.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloudbaker.compute.job import Job, Status
from cloudbaker.compute.npm import validator_js
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.testing.gltf_mutate import CANARY, CONTENT, SOURCES, STRUCTURE, mutant

WORKER = Path(__file__).with_name("gltf_hostile_worker.py")
SECRET = b"a secret beside the model"
PROCESSES = 2

Line = dict[str, Any]


def take(first: int, count: int, folder: Path, *flags: str) -> list[Line]:
    """The worker's lines for `count` mutants, in two processes; fails where one of them dies."""
    (folder / CANARY).write_bytes(SECRET)
    # The salt of Python's hashes differs between runs: no verdict may hang on the order of a set.
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "7" if flags else "0"}
    share = -(-count // PROCESSES)
    parts = [(at, min(share, first + count - at)) for at in range(first, first + count, share)]
    running = []
    for at, size in parts:
        command = [sys.executable, str(WORKER), str(at), str(size), *flags]
        out, err = (folder / f"{at}.{kind}" for kind in ("out", "err"))
        with out.open("wb") as stdout, err.open("wb") as stderr:
            running.append((subprocess.Popen(command, cwd=folder, env=env, stdout=stdout, stderr=stderr), out, err))
    try:
        for process, _, err in running:
            code = process.wait()
            how = signal.Signals(-code).name if code < 0 else f"exit {code}"
            assert code == 0, f"{how}:\n{err.read_text()[-3000:]}"
    finally:
        for process, _, _ in running:
            process.kill()
            process.wait()
    return [json.loads(line) for _, out, _ in running for line in out.read_text().splitlines()]


def survive(first: int, count: int, folder: Path, tell: Callable[[str], None]) -> None:
    lines = take(first, count, folder)
    assert [line["seed"] for line in lines] == list(range(first, first + count))
    again = {line["seed"]: line["verdict"] for line in take(first, count, folder, "--verdicts")}
    changed = [line["seed"] for line in lines if again[line["seed"]] != line["verdict"]]
    assert not changed, f"another verdict in another process: seeds {changed[:10]}"
    assert {path.name for path in folder.iterdir() if path.suffix not in (".out", ".err")} == {CANARY}
    outcomes = Counter(line["outcome"] for line in lines)
    tell(f"{count} mutants: " + ", ".join(f"{number} {name}" for name, number in sorted(outcomes.items())))
    tell(
        f"{sum(line.get('files', 0) for line in lines)} files were baked from what passed; every verdict twice the same"
    )
    # Each way has to be walked, and each part of the format to be broken, or the mutations test nothing.
    assert len(outcomes) == 5
    assert min(outcomes.values()) > count / 100
    assert outcomes["passed"] > count / 8
    done = Counter(operator for line in lines for operator in line["operators"])
    assert {operator.__name__ for operator in STRUCTURE + CONTENT} <= set(done)
    assert {line["source"] for line in lines} == set(SOURCES)


def test_a_thousand_mutants_end_in_findings_or_files(tmp_path: Path, tell: Callable[[str], None]) -> None:
    survive(0, 1_000, tmp_path, tell)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_thousand_mutants_end_in_findings_or_files(tmp_path: Path, tell: Callable[[str], None]) -> None:
    survive(10_000, 20_000, tmp_path, tell)


def test_a_mutant_is_the_same_in_any_process(tmp_path: Path) -> None:
    code = "import hashlib; from cloudbaker.testing.gltf_mutate import mutant; h = hashlib.sha256()"
    code += "; [h.update(repr(mutant(s)).encode()) for s in range(1000)]; print(h.hexdigest())"
    seen = set()
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True, timeout=120)
        seen.add(done.stdout)
    assert len(seen) == 1


@pytest.mark.parametrize("count", [24, pytest.param(1_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_mutants_in_the_sandbox_end_in_findings(sandbox: Sandbox, tell: Callable[[str], None], count: int) -> None:
    """The jobs of the pipeline as they are run: none hits a limit, none takes its worker down."""
    cases = [mutant(seed) for seed in range(5_000, 5_000 + count)]
    taken = sandbox.run_all(
        [
            Job("cloudbaker.compute.gltf.intake:to_glb_job", {case.name: case.data}, {"main": case.name})
            for case in cases
        ]
    )
    glbs = []
    for case, outcome in zip(cases, taken, strict=True):
        assert outcome.status is Status.OK, (case.seed, outcome.error)
        glbs += [outcome.files["model.glb"]] if "model.glb" in outcome.files else []
    function = "cloudbaker.compute.gltf.validate:validate_job"
    for outcome in sandbox.run_all([Job(function, {"model.glb": g, "validator.js": validator_js()}) for g in glbs]):
        assert outcome.status is Status.OK, outcome.error
        if not outcome.value["facts"]:
            assert any(finding["severity"] == "error" for finding in outcome.value["findings"])
    tell(f"{count} mutants through the sandbox, {len(glbs)} to the validator: no crash, no limit")
