"""kill -9 at random points of single bakes: every rerun completes, nothing is half-visible or left unexplained."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

import cloudbaker as cb
from cloudbaker.model import AssetRef
from cloudbaker.testing import models

BAKE = "import sys, cloudbaker as cb; cb.bake(sys.argv[1], asset=sys.argv[2], mode='direct', previews=False)"


def _kills(tell: Callable[[str], None], home: Path, tmp_path: Path, count: int, seed: int) -> None:
    random_ = random.Random(seed)
    whole = _seconds(tmp_path)
    killed = 0
    for n in range(count):
        model = tmp_path / f"asset-{n}.glb"
        model.write_bytes(models.small_asset(n))
        process = subprocess.Popen([sys.executable, "-c", BAKE, str(model), f"asset-{n}"], start_new_session=True)
        time.sleep(random_.uniform(0.1, 0.7) * whole)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        _check_visible()
        again = subprocess.run([sys.executable, "-c", BAKE, str(model), f"asset-{n}"], timeout=120, check=False)
        assert again.returncode == 0
    tell(f"kill -9: {killed} of {count} bakes died in the middle, all completed when run again")
    assert killed
    with cb.catalog() as catalog:
        for n in range(count):
            assert [v.number for v in catalog.versions(AssetRef.parse(f"asset-{n}"))] == [1]
        catalog.gc(plan=False, grace=timedelta(0))
        left = catalog.gc(plan=True, grace=timedelta(0)).items
        assert [i for i in left if i.kind in ("orphan", "unfinished", "missing", "abandoned-run")] == []
    _check_visible()
    assert _processes(str(tmp_path)) == []


def _check_visible() -> None:
    """Every visible version is whole: all blobs there with the right hash, signature good, channel pointing at it."""
    with cb.catalog() as catalog:
        for asset in catalog.assets():
            for version in catalog.versions(asset.asset):
                for artifact in version.artifacts:
                    catalog.read_blob(artifact.blob)
                assert version.channels == ("live",)
                assert cb.verify(str(version)).ok


def _seconds(tmp_path: Path) -> float:
    model = tmp_path / "first.glb"
    model.write_bytes(models.small_asset(10_000))
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", BAKE, str(model), "first"], timeout=120, check=True)
    return time.monotonic() - started


def _processes(marker: str) -> list[str]:
    time.sleep(0.5)
    found = subprocess.run(["pgrep", "-af", marker], capture_output=True, text=True).stdout.splitlines()
    return [line for line in found if str(os.getpid()) not in line.split()[:1]]


@pytest.mark.timeout(600)
def test_kill_at_random_points(home: Path, tmp_path: Path, tell: Callable[[str], None]) -> None:
    _kills(tell, home, tmp_path, 6, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_kill_at_random_points_of_fifty_bakes(home: Path, tmp_path: Path, tell: Callable[[str], None]) -> None:
    _kills(tell, home, tmp_path, 50, seed=2)


def test_ctrl_c_in_mid_run_publishes_nothing_half(home: Path, tmp_path: Path) -> None:
    model = tmp_path / "scan.glb"
    model.write_bytes(models.grid(300))
    process = subprocess.Popen(
        [sys.executable, "-c", "from cloudbaker.cli import main; main()", "bake", str(model), "--no-previews"],
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with cb.catalog() as catalog:
                if catalog.sql("select count(*) from steps where stage = 'validate'").fetchall() != [(0,)]:
                    break
        except Exception:
            pass
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130, error
    with cb.catalog() as catalog:
        assert catalog.sql("select count(*) from versions").fetchall() == [(0,)]
        assert catalog.sql("select state from runs").fetchall() == [("cancelled",)]
    assert _processes(str(tmp_path)) == []


def test_a_full_disk_ends_in_an_error_that_names_the_remedy(home: Path, tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for the full disk: writes of the store fail half way."""
    model = tmp_path / "big.glb"
    model.write_bytes(models.grid(200))
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))\n"
        "from cloudbaker.cli import main; import sys; main(['bake', sys.argv[1], '--no-previews', '--mode', 'direct'])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(model)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "CB6301" in done.stderr
    with cb.catalog() as catalog:
        assert catalog.sql("select count(*) from versions").fetchall() == [(0,)]
    assert subprocess.run([sys.executable, "-c", BAKE, str(model), "big"], timeout=120, check=False).returncode == 0
