"""kill -9 at every point and at any time: no version half-visible, no blob missing, nothing left unexplained.

What is acknowledged stays; what was not may or may not have happened, and doing it again is harmless.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

VICTIMS = Path(__file__).with_name("catalog_victims.py")


@pytest.fixture
def memory_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In memory where there is room: a kill is no power cut, and thousands of fsyncs would only cost time."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="cloudbaker-kill-", dir=shm if shm.is_dir() else tmp_path) as folder:
        monkeypatch.setenv("CLOUDBAKER_HOME", f"{folder}/home")
        yield Path(folder)


def run(*arguments: str, timeout: float) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(VICTIMS), *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(report)
    return report


def test_killed_at_every_point(memory_home):
    report = run("every-point", timeout=280)
    assert report["kills"] > 100
    assert report["found"] == ["abandoned-run", "expired-upload", "unfinished", "unreferenced"]


def test_killed_at_any_time(memory_home):
    report = run("any-time", "30", "1", timeout=280)
    assert report["versions"] >= report["acknowledged"] / 2 > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_any_time_for_long(memory_home, seed):
    assert run("any-time", "200", str(seed), timeout=600)["acknowledged"] > 0
