"""The publisher is killed while writers write, again and again: nothing is lost, every asset's events are in order."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

VICTIMS = Path(__file__).with_name("events_victims.py")


def kill_publishers(folder: Path, tell: Callable[[str], None], *, seconds: float, writers: int) -> None:
    command = [sys.executable, str(VICTIMS), str(folder), str(seconds), str(writers)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["kills"] >= 3
    assert counts["events"] > 50
    tell(
        f"{counts['events']} events, {counts['kills']} kills of the publisher: 0 lost, 0 out of order, "
        f"{counts['twice']} told twice"
    )


@pytest.mark.timeout(180)
def test_nothing_is_lost_by_kills(tmp_path, tell):
    kill_publishers(tmp_path, tell, seconds=4, writers=2)


@pytest.mark.timeout(180)
def test_nothing_is_lost_by_kills_on_postgres(tmp_path, tell, postgres, monkeypatch):
    monkeypatch.setenv("CLOUDBAKER_CATALOG_URL", postgres)
    kill_publishers(tmp_path, tell, seconds=4, writers=3)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_lost_by_many_kills(tmp_path, tell):
    kill_publishers(tmp_path, tell, seconds=120, writers=4)
