"""Fixtures of all tests: a home of one's own, a sandbox that is started once, and honest skips."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudbaker.compute.previews import available
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.settings import settings

_STATE = ("HOME", "CATALOG_URL", "STORE_URL", "RAY_ADDRESS", "PREFECT_API_URL", "RECIPES", "OUTER_SANDBOX")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """CLOUDBAKER_HOME of the test, a folder that does not exist yet. For every test: none touches the developer's."""
    for name in _STATE:
        monkeypatch.delenv(f"CLOUDBAKER_{name}", raising=False)
    path = tmp_path / "home"
    monkeypatch.setenv("CLOUDBAKER_HOME", str(path))
    settings.cache_clear()
    yield path
    settings.cache_clear()


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A real sandbox, shared: starting one costs more than most jobs."""
    with Sandbox() as shared:
        yield shared


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a browser where there is none, and say what to install."""
    if any("chromium" in item.keywords for item in items) and (reason := available()):
        for item in items:
            if "chromium" in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))
