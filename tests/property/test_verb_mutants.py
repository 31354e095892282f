"""Verbs on mutated models: what the checks pass, every verb works on or refuses, and what it writes passes them again.

In a process of its own: native code is behind most verbs, and a segmentation fault is to be a failed test.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from cloudbaker.compute.gltf import VERBS

WORKER = Path(__file__).with_name("verb_mutants_worker.py")


def survive(first: int, count: int, per: int, tell: Callable[[str], None], *, seconds: float) -> None:
    command = [sys.executable, str(WORKER), str(first), str(count), str(per)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["seed"] for line in lines] == list(range(first, first + count))
    passed = [line for line in lines if line["outcome"] == "passed"]
    wrong = [
        f"seed {line['seed']} ({line['source']}, {line['ops']}): {verb}: {outcome}"
        for line in passed
        for verb, outcome in line["verbs"].items()
        if outcome not in ("done", "refused")
    ]
    assert not wrong, "\n".join(wrong[:10])
    outcomes = Counter(outcome for line in passed for outcome in line["verbs"].values())
    tell(f"{count} mutants, {len(passed)} of them given to verbs: {dict(outcomes)}")
    assert {verb for line in passed for verb in line["verbs"]} == set(VERBS)
    assert len(passed) > count / 8


def test_verbs_on_what_the_checks_pass(tell: Callable[[str], None]) -> None:
    survive(0, 200, 5, tell, seconds=250)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_every_verb_on_ten_thousand_mutants(tell: Callable[[str], None]) -> None:
    survive(1000, 10_000, 99, tell, seconds=2900)
