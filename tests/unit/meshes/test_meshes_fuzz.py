"""Damaged payloads end in the codec's own error: no crash, no other exception, no memory beyond the limit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("meshes_fuzz_worker.py")


def fuzz(codec: str, count: int, seed: int) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, str(WORKER), codec, str(count), str(seed)],
        capture_output=True,
        text=True,
        timeout=1400,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # each thread reserves address space
    )
    assert done.returncode == 0, f"{codec}, seed {seed}: exit {done.returncode}\n{done.stderr[-3000:]}"
    decoded, refused = map(int, done.stdout.split())
    return decoded, refused


@pytest.mark.parametrize("codec", ["draco", "meshopt"])
def test_damaged_payloads_are_refused_or_decoded(codec):
    decoded, refused = fuzz(codec, 2000, 2)
    assert decoded + refused == 2000
    assert refused > 500
    assert decoded > 10


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("codec", ["draco", "meshopt"])
@pytest.mark.parametrize("seed", range(10, 14))
def test_damaged_payloads_at_length(codec, seed):
    decoded, refused = fuzz(codec, 5_000, seed)
    assert decoded + refused == 5_000
