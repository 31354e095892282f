"""Events in a real Prefect server: they arrive, once, with their resources, and start what waits for them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.sinks import register
from cloudbaker.errors import SinkUnavailable
from cloudbaker.flows.service import free_port
from cloudbaker.model import AssetRef
from cloudbaker.settings import Settings
from cloudbaker.tasks.prefect_sink import PrefectSink, prefect_event
from cloudbaker.testing.catalog import publish

HELMET = AssetRef("acme", "robots", "helmet")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect server of its own, without the rest of the service."""
    folder, port = tmp_path_factory.mktemp("prefect"), free_port(0)
    url = f"http://127.0.0.1:{port}/api"
    environment = os.environ | {
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{folder}/prefect.db",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                httpx.get(f"{url}/health").raise_for_status()
                break
            except httpx.HTTPError:
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        server.wait(30)


def stored(api: str, question: dict) -> list[dict]:
    answer = httpx.post(f"{api}/events/filter", json={"filter": question, "limit": 50})
    answer.raise_for_status()
    return answer.json()["events"]


def created(api: str, kind: str, body: dict) -> dict:
    """Make something on the server, which may answer 503 while its SQLite file is busy."""
    deadline = time.monotonic() + 60
    while True:
        answer = httpx.post(f"{api}/{kind}/", json=body, timeout=30)
        if answer.status_code < 500 or time.monotonic() > deadline:
            answer.raise_for_status()
            return answer.json()
        time.sleep(0.5)


@pytest.mark.timeout(240)
def test_events_arrive_once_and_start_what_waits_for_them(api: str, home: Path) -> None:
    flow = created(api, "flows", {"name": "waiting"})
    deployment = created(api, "deployments", {"name": "waiting", "flow_id": flow["id"]})
    automation = {
        "name": "when an asset of acme is indexed",
        "trigger": {
            "type": "event",
            "posture": "Reactive",
            "expect": ["asset.indexed"],
            "match": {"prefect.resource.id": "cloudbaker.asset.acme/*"},
            "threshold": 1,
            "within": 0,
        },
        "actions": [{"type": "run-deployment", "source": "selected", "deployment_id": deployment["id"]}],
    }
    created(api, "automations", automation)

    run_id = str(uuid.uuid4())
    with Catalog.open(Settings(home=home)) as catalog:
        sink = PrefectSink(api)
        register(catalog.core, sink.name, catalog._clock())
        time.sleep(3)  # the server's automations are loaded some time after they are made
        publish(catalog, HELMET, b"one", run_id=run_id)
        for n in range(60):
            catalog.announce(HELMET, "review.updated", {"n": n}, run_id=run_id)
        assert catalog.publisher([sink]).drain()["prefect"].told == 62
        events = catalog.events(limit=100)
        # Told again, as after a crash: the server keeps one of each.
        assert set(sink.deliver(events[::-1]).values()) == {None}
        sink.close()

    mine = {"resource": {"id": [f"cloudbaker.asset.{HELMET}"]}}
    found = stored(api, mine | {"event": {"name": ["asset.indexed", "channel.moved"]}})
    assert sorted(event["event"] for event in found) == ["asset.indexed", "channel.moved"]
    indexed = next(event for event in found if event["event"] == "asset.indexed")
    assert indexed["payload"]["version"] == 1
    assert indexed["payload"]["correlation_id"] == run_id
    assert {"prefect.resource.id": f"prefect.flow-run.{run_id}", "prefect.resource.role": "flow-run"} in indexed[
        "related"
    ]
    count = httpx.post(f"{api}/events/count-by/event", json={"filter": mine}).json()
    assert {row["value"]: row["count"] for row in count} == {
        "asset.indexed": 1,
        "channel.moved": 1,
        "review.updated": 60,
    }

    deadline = time.monotonic() + 60
    while not (runs := httpx.post(f"{api}/flow_runs/filter", json={}).json()):
        assert time.monotonic() < deadline, "the automation started nothing"
        time.sleep(0.5)
    assert runs[0]["deployment_id"] == deployment["id"]


def test_a_server_that_is_not_there_costs_nothing(home: Path) -> None:
    with Catalog.open(Settings(home=home)) as catalog:
        sink = PrefectSink(f"http://127.0.0.1:{free_port(0)}/api")
        register(catalog.core, sink.name, catalog._clock())
        catalog.announce(HELMET, "review.updated", {})
        with pytest.raises(SinkUnavailable, match="can't be reached"):
            sink.deliver(catalog.events())
        assert "can't be reached" in catalog.publisher([sink]).drain()["prefect"].unavailable
        assert catalog.deliveries() == []
        event = catalog.events()[0]
        assert "flow-run" not in str(prefect_event(event))  # it came of no run
        sink.close()
