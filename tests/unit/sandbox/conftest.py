from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudbaker.compute.sandbox import Sandbox

JOBS = ("sandbox_attacks", "sandbox_v8", "sandbox_broken")


@pytest.fixture(scope="package")
def sandbox() -> Iterator[Sandbox]:
    """One sandbox for all tests of this folder, that may also run the jobs beside this file."""
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        with Sandbox(parallel=4, allow=JOBS) as sandbox:
            yield sandbox
    finally:
        sys.path.remove(str(Path(__file__).parent))
