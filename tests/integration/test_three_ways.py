"""Direct, ephemeral and service: three ways to run one list of stages, with the same bytes and the same rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cloudbaker as cb
from cloudbaker.flows import service
from cloudbaker.model import AssetRef, RunState, to_json
from cloudbaker.service import ServiceRecord
from cloudbaker.settings import settings
from cloudbaker.tasks.result import BakeResult
from cloudbaker.testing import models

ROOT = Path(__file__).parents[2]


def bake(home: Path, path: Path, mode: str) -> dict[str, Any]:
    """A bake in a process of its own: Prefect and Ray read their environment at import."""
    code = (
        "import sys, json, cloudbaker as cb\n"
        f"r = cb.bake(sys.argv[1], mode={mode!r}, previews=False, asset='thing')\n"
        "print('RESULT', json.dumps(r.to_json()))"
    )
    environment = os.environ | {"CLOUDBAKER_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout.split("RESULT ")[1]))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, ServiceRecord]]:
    """A real service in a home of its own."""
    folder = tmp_path_factory.mktemp("service")
    before = os.environ.get("CLOUDBAKER_HOME")
    os.environ["CLOUDBAKER_HOME"] = str(folder)
    settings.cache_clear()
    config = settings()
    try:
        record, new = service.up(config, port=service.free_port(0))
        assert new
        yield folder, record
    finally:
        service.down(config)
        settings.cache_clear()
        if before is None:
            del os.environ["CLOUDBAKER_HOME"]
        else:
            os.environ["CLOUDBAKER_HOME"] = before
    left = subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, text=True).stdout.split()
    assert left == [], "processes of the service outlive it"


@pytest.mark.timeout(600)
def test_the_same_bytes_and_the_same_rows(
    running: tuple[Path, ServiceRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "thing.glb"
    model.write_bytes(models.textured(128))
    homes = {"direct": tmp_path / "direct", "ephemeral": tmp_path / "ephemeral", "service": running[0]}
    results = {mode: bake(home, model, mode) for mode, home in homes.items()}
    assert {r["mode"] for r in results.values()} == set(homes)
    assert len({r["bake_key"] for r in results.values()}) == 1

    facts = {}
    for mode, home in homes.items():
        monkeypatch.setenv("CLOUDBAKER_HOME", str(home))
        settings.cache_clear()
        with cb.catalog() as catalog:
            version = catalog.get_version(AssetRef.parse("thing"), "live")
            run = catalog.get_run(version.run_id)
            assert run.state is RunState.COMPLETED
            facts[mode] = {
                "artifacts": [
                    (a.role, a.variant, a.name, a.blob.sha256, a.device, a.metrics) for a in version.artifacts
                ],
                "sources": [(s.name, s.blob.sha256) for s in version.sources],
                "findings": to_json(version.findings),
                "losses": to_json(version.losses),
                "metrics": version.metrics,
                "tools": version.tools,
                "channels": version.channels,
                "steps": [(s.stage, s.attempt, s.state, s.device) for s in run.steps],
                "usage": [(row.versions, row.bytes_by_zone) for row in catalog.usage("local")],
                "tables": {
                    t: catalog.sql(f"select count(*) from {t}").fetchall()[0]
                    for t in ("versions", "artifacts", "steps", "findings", "losses", "metrics")
                },
            }
    assert facts["ephemeral"] == facts["direct"]
    assert facts["service"] == facts["direct"]


def test_a_run_of_the_deployment_leaves_report_table_and_progress(
    running: tuple[Path, ServiceRecord], tmp_path: Path
) -> None:
    from cloudbaker.flows.remote import run_deployment

    record = running[1]
    model = tmp_path / "rocket.glb"
    model.write_bytes(models.animated())
    run = run_deployment(record.prefect_api_url, "bake/bake", {"path": str(model), "previews": False})
    assert (run["state_type"], run["state_name"]) == ("COMPLETED", "Completed")
    again = run_deployment(record.prefect_api_url, "bake/bake", {"path": str(model), "previews": False})
    assert again["state_name"] == "Unchanged"

    artifacts = {a["key"]: a for a in _filter(record, "artifacts", run["id"])}
    assert set(artifacts) == {"bake-report", "bake-sizes", "bake-progress"}
    assert "baked and published" in artifacts["bake-report"]["data"]
    assert json.loads(artifacts["bake-sizes"]["data"])[1]["file"] == "model.glb"
    assert artifacts["bake-progress"]["data"] == 100.0
    logs = [line["message"] for line in _filter(record, "logs", run["id"], field="logs")]
    assert "local/default/rocket: optimize" in logs
    assert any("baked and published" in line for line in logs)
    tasks = {t["name"].rsplit("-", 1)[0]: t["state_name"] for t in _filter(record, "task_runs", run["id"])}
    assert tasks == dict.fromkeys(["ingest", "validate", "optimize", "preview", "package", "publish"], "Completed")


@pytest.mark.chromium
def test_the_report_in_the_ui_has_pictures_before_and_after(
    running: tuple[Path, ServiceRecord], tmp_path: Path
) -> None:
    from cloudbaker.flows.remote import run_deployment

    model = tmp_path / "pictured.glb"
    model.write_bytes(models.sphere())
    run = run_deployment(running[1].prefect_api_url, "bake/bake", {"path": str(model)})
    assert run["state_name"] == "Completed"
    report = next(a for a in _filter(running[1], "artifacts", run["id"]) if a["key"] == "bake-report")["data"]
    assert report.count("](data:image/png;base64,") == 2
    assert "mean picture difference" in report


def test_clean_up_runs_every_night_and_says_what_it_did(running: tuple[Path, ServiceRecord]) -> None:
    from cloudbaker.flows.remote import _call, run_deployment

    home, record = running
    [nightly] = _call(record.prefect_api_url, "/deployments/name/clean-up/clean-up")["schedules"]
    assert (nightly["slug"], nightly["active"], nightly["schedule"]["cron"]) == ("nightly", True, "30 2 * * *")
    stray = home / "objects" / "public" / "stray.glb"
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"stray")
    for plan, name in ((True, "would be free"), (False, "are free")):
        parameters = {"plan": plan, "grace_hours": 0}
        run = run_deployment(record.prefect_api_url, "clean-up/clean-up", parameters)
        assert run["state_type"] == "COMPLETED"
        assert name in run["state"]["message"]
        [report] = [a["data"] for a in _filter(record, "artifacts", run["id"]) if a["key"] == "clean-up-report"]
        assert "| orphan | 1 |" in report
        assert "`public/stray.glb`" in report
        assert stray.exists() is plan
        tasks = {t["name"].rsplit("-", 1)[0]: t["state_name"] for t in _filter(record, "task_runs", run["id"])}
        assert tasks == {"gc": "Completed", "tables": "Completed"}


def test_rejected_content_is_a_verdict_not_a_failed_run(running: tuple[Path, ServiceRecord], tmp_path: Path) -> None:
    from cloudbaker.flows.remote import run_deployment

    bad = tmp_path / "bad.glb"
    bad.write_bytes(models.hostile("nan_positions"))
    run = run_deployment(running[1].prefect_api_url, "bake/bake", {"path": str(bad), "previews": False})
    assert (run["state_type"], run["state_name"]) == ("COMPLETED", "Rejected")
    report = next(a for a in _filter(running[1], "artifacts", run["id"]) if a["key"] == "bake-report")
    assert "finite" in report["data"] or "nan" in report["data"].lower()


def test_a_cancelled_run_ends_cancelled_and_stops_its_work(running: tuple[Path, ServiceRecord], tmp_path: Path) -> None:
    """A big scan keeps Ray busy; the cancel comes in the middle of it."""
    import time

    from cloudbaker.flows.remote import _call

    home, record = running
    model = tmp_path / "scan.glb"
    model.write_bytes(models.grid(600))
    api = record.prefect_api_url
    deployment = _call(api, "/deployments/name/bake/bake")
    run = _call(
        api,
        f"/deployments/{deployment['id']}/create_flow_run",
        {"parameters": {"path": str(model), "previews": False}},
    )
    deadline = time.monotonic() + 60
    while not any(t["name"].startswith("optimize") for t in _filter(record, "task_runs", run["id"])):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    _call(api, f"/flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING"}, "force": False})
    while (state := _call(api, f"/flow_runs/{run['id']}")["state_type"]) in ("RUNNING", "CANCELLING"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert state == "CANCELLED"
    settings.cache_clear()
    os.environ["CLOUDBAKER_HOME"] = str(home)
    with cb.catalog() as catalog:
        assert catalog.get_run(run["id"]).state is RunState.CANCELLED
        assert catalog.sql("select count(*) from versions where asset like '%scan'").fetchall() == [(0,)]


def test_events_of_a_run_reach_prefect_with_its_id(running: tuple[Path, ServiceRecord], tmp_path: Path) -> None:
    import time

    from cloudbaker.flows.remote import _call, run_deployment

    home, record = running
    model = tmp_path / "told.glb"
    model.write_bytes(models.box())
    run = run_deployment(record.prefect_api_url, "bake/bake", {"path": str(model), "previews": False})
    wanted = {"filter": {"resource": {"id": ["cloudbaker.asset.local/default/told"]}}, "limit": 50}
    deadline = time.monotonic() + 60
    while len(told := _call(record.prefect_api_url, "/events/filter", wanted)["events"]) < 15:
        assert time.monotonic() < deadline, (told, (home / "logs" / "publisher.log").read_text())
        time.sleep(0.5)
    kinds = Counter(event["event"] for event in told)
    assert kinds == {
        "asset.uploaded": 1,
        "step.started": 6,
        "step.completed": 6,
        "asset.indexed": 1,
        "channel.moved": 1,
    }
    flow_run = {"prefect.resource.id": f"prefect.flow-run.{run['id']}", "prefect.resource.role": "flow-run"}
    assert all(flow_run in event["related"] for event in told)
    assert {event["payload"]["correlation_id"] for event in told} == {run["id"]}


def test_prefect_deploy_all_works_against_the_local_server(running: tuple[Path, ServiceRecord]) -> None:
    environment = os.environ | {"PREFECT_API_URL": running[1].prefect_api_url, "CLOUDBAKER_HOME": str(running[0])}
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("bake/bake", "rebake/rebake", "clean-up/clean-up"):
        with urllib.request.urlopen(f"{running[1].prefect_api_url}/deployments/name/{name}", timeout=30) as answer:
            assert json.load(answer)["enforce_parameter_schema"] is True


def _filter(record: ServiceRecord, what: str, run_id: str, *, field: str = "flow_runs") -> list[dict[str, Any]]:
    from cloudbaker.flows.remote import _call

    wanted: dict[str, Any] = {field: {"flow_run_id" if field == "logs" else "id": {"any_": [run_id]}}}
    return list(_call(record.prefect_api_url, f"/{what}/filter", wanted))


def test_result_shows_itself(tmp_path: Path, home: Path) -> None:
    model = tmp_path / "thing.glb"
    model.write_bytes(models.box())
    result: BakeResult = cb.bake(model, mode="direct", previews=False)
    assert "<table>" in result._repr_html_()
