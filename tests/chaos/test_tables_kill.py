"""kill -9 of exporters and compactors that know of no lock, on either database: each row once, at any moment."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

VICTIMS = Path(__file__).with_name("tables_victims.py")


def run(kills: int, seed: int) -> dict[str, Any]:
    command = [sys.executable, str(VICTIMS), str(kills), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280 + 3 * kills, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert report["versions"] > 0
    assert report["commits"] > kills
    return report


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_tables_survive_kills(
    database: str,
    home: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tell: Callable[[str], None],
) -> None:
    if database == "postgres":
        monkeypatch.setenv("CLOUDBAKER_CATALOG_URL", request.getfixturevalue("postgres"))
    report = run(15, 1)
    tell(f"15 kills, {report['versions']} versions, {report['commits']} commits to the tables: each row once")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_tables_survive_many_kills(
    database: str, seed: int, home: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database == "postgres":
        monkeypatch.setenv("CLOUDBAKER_CATALOG_URL", request.getfixturevalue("postgres"))
    assert run(100, seed)["versions"] > 0
