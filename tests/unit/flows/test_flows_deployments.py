"""The two lists of deployments, one for a server of one's own and one for any other, are one."""

from __future__ import annotations

from pathlib import Path

import yaml

from cloudbaker.flows.deployments import DEPLOYMENTS, WORK_POOL

ROOT = Path(__file__).parents[3]


def test_prefect_yaml_and_the_service_deploy_the_same():
    written = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))["deployments"]
    assert [entry["name"] for entry in written] == [deployment.flow.name for deployment in DEPLOYMENTS]
    for entry, deployment in zip(written, DEPLOYMENTS, strict=True):
        module, function = entry["entrypoint"].split(":")
        assert (ROOT / module).is_file()
        assert (module, function) == (f"flows/{deployment.module}.py", deployment.module)
        assert deployment.flow.fn.__module__ == f"cloudbaker.flows.{deployment.module}"
        assert entry["work_pool"]["name"] == WORK_POOL
        assert entry["enforce_parameter_schema"] is True
        assert entry.get("concurrency_limit") == deployment.concurrency_limit
        ours = deployment.schedule
        wanted = ours and [{"cron": ours.cron, "timezone": "UTC", "slug": ours.slug, "active": ours.active}]
        assert entry.get("schedules") == wanted
        assert "description" not in entry, "Prefect takes it from the flow, as the service does"
