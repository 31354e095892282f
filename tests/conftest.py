"""Fixtures of all tests: a home of one's own, a sandbox that is started once, and honest skips."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cloudbaker.compute.previews import available
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.errors import ToolMissing
from cloudbaker.settings import adopt
from cloudbaker.testing.postgres import Server
from cloudbaker.testing.postgres import missing as postgres_missing

pytest.register_assert_rewrite("cloudbaker.testing.stores")

_STATE = (
    *("STORE_ENCRYPTION", "STORE_KEY_URI", "S3_ENDPOINT", "S3_ENCRYPTION", "S3_KMS_KEY"),
    *("HOME", "CATALOG_URL", "STORE_URL", "RAY_ADDRESS", "PREFECT_API_URL", "RECIPES", "OUTER_SANDBOX"),
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """CLOUDBAKER_HOME of the test, a folder that does not exist yet. For every test: none touches the developer's."""
    for name in _STATE:
        monkeypatch.delenv(f"CLOUDBAKER_{name}", raising=False)
    path = tmp_path / "home"
    monkeypatch.setenv("CLOUDBAKER_HOME", str(path))
    adopt(None)
    yield path
    adopt(None)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A real sandbox, shared: starting one costs more than most jobs."""
    with Sandbox() as shared:
        yield shared


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A real Postgres server, shared: starting one takes some seconds."""
    if reason := postgres_missing():
        pytest.skip(reason)
    with Server() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: Server) -> Iterator[str]:
    """URL of a fresh Postgres database with the catalog's schema, for CLOUDBAKER_CATALOG_URL."""
    url = postgres_server.database(migrated=True)
    yield url
    postgres_server.drop(url)


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """S3 as moto mocks it. Use it through `moto`, which sets the credentials too."""
    from cloudbaker.testing.s3 import moto_server

    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def ceph_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """S3 as Ceph's gateway does it, started once (some 15 s). Use it through `ceph`."""
    from cloudbaker.testing.s3 import ceph_missing, ceph_server

    if reason := ceph_missing():
        pytest.skip(reason)
    with ExitStack() as stack:
        try:
            endpoint = stack.enter_context(ceph_server(tmp_path_factory.mktemp("ceph") / "cluster"))
        except ToolMissing as error:
            pytest.skip(f"{error.message}: {error.detail}")
        yield endpoint


@pytest.fixture(scope="module")
def s3_credentials() -> Iterator[None]:
    """What both servers take, in place of whatever the developer's environment has."""
    from cloudbaker.testing.s3 import CREDENTIALS

    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def moto(moto_endpoint: str, s3_credentials: None) -> str:
    """Endpoint of moto's S3, the credentials in the environment."""
    return moto_endpoint


@pytest.fixture
def ceph(ceph_endpoint: str, s3_credentials: None) -> str:
    """Endpoint of a real S3 server, the credentials in the environment. Skipped with the reason where none starts."""
    return ceph_endpoint


_told = pytest.StashKey[list[str]]()


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Puts a line into the summary at the end: the figures that a chaos test came to."""
    lines = request.config.stash.setdefault(_told, [])
    return lambda text: lines.append(f"{request.node.name}: {text}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What tests had to tell."""
    for line in config.stash.get(_told, []):
        terminalreporter.write_line(line)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--slow`` runs the slow tiers whole (``make test-all``)."""
    parser.addoption("--slow", action="store_true", help="run the slow tiers too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the slow tiers unless asked for, and what needs a browser where there is none; say what to do."""
    if not config.getoption("--slow") and "slow" not in str(config.getoption("-m")):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow tier: `make test-all` (pytest --slow) runs it"))
    if any("chromium" in item.keywords for item in items) and (reason := available()):
        for item in items:
            if "chromium" in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))
