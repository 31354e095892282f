"""A catalog per test, with a clock that the test moves."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloudbaker.catalog.core import Catalog
from cloudbaker.model import AssetRef
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import broken


class Clock:
    """Begins now, since files have the kernel's times; moves when told."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(microseconds=1)
        return self.now

    def later(self, **time: float) -> None:
        self.now += timedelta(**time)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def catalog(home: Path, clock: Clock) -> Iterator[Catalog]:
    with Catalog.open(Settings(home=home), clock=clock) as opened:
        yield opened
        assert broken(opened) == []


@pytest.fixture
def helmet() -> AssetRef:
    return AssetRef("acme", "robots", "helmet")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)
