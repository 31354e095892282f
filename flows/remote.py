"""Asking a running service for a flow run: plain REST, because importing Prefect takes longer than a bake."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

from cloudbaker.errors import CloudBakerError, ComputeUnavailable

_PATIENCE_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Waits between tries while the server says that it is busy (503: its SQLite is locked for the moment)."""
_FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def run_deployment(
    api_url: str, deployment: str, parameters: dict[str, Any], *, on_state: Callable[[str], None] = lambda _s: None
) -> dict[str, Any]:
    """Start a run of ``flow/deployment``, wait for its end and return Prefect's flow run.

    Interrupting the wait (Ctrl-C) cancels the run. Raises `ComputeUnavailable` if the API does not answer.
    """
    found = _call(api_url, f"/deployments/name/{deployment}")
    # With a key of its own, asking again after a lost answer does not make a second run.
    wanted = {"parameters": parameters, "idempotency_key": str(uuid.uuid4())}
    run = _call(api_url, f"/deployments/{found['id']}/create_flow_run", wanted)
    try:
        return _wait(api_url, run["id"], on_state)
    except KeyboardInterrupt:
        _call(api_url, f"/flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING"}, "force": False})
        raise


def table_artifact(api_url: str, run_id: str, key: str) -> list[dict[str, Any]]:
    """The rows of a table artifact that a flow run left."""
    wanted = {"artifacts": {"flow_run_id": {"any_": [run_id]}, "key": {"any_": [key]}}}
    found = _call(api_url, "/artifacts/filter", wanted)
    return list(json.loads(found[0]["data"]))


def _wait(api_url: str, run_id: str, on_state: Callable[[str], None]) -> dict[str, Any]:
    shown = ""
    while True:
        run: dict[str, Any] = _call(api_url, f"/flow_runs/{run_id}")
        if run["state_name"] != shown:
            shown = run["state_name"]
            on_state(shown)
        if run["state_type"] in _FINAL:
            return run
        time.sleep(0.1)


def _patiently(request: urllib.request.Request) -> Any:
    for seconds in (*_PATIENCE_SECONDS, None):
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            if error.code != 503 or seconds is None:
                raise
            time.sleep(seconds)
    raise AssertionError("unreachable")


def _call(api_url: str, path: str, body: dict[str, Any] | None = None) -> Any:
    request = urllib.request.Request(
        api_url + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        return _patiently(request)
    except urllib.error.HTTPError as error:
        detail = error.read(2000).decode("utf-8", "replace")
        if error.code == 404:
            raise ComputeUnavailable(
                f"the service at {api_url} does not know {path.rsplit('/', 1)[-1]!r}: run `prefect deploy --all` or "
                "`cloudbaker up`",
                detail=detail,
            ) from error
        raise CloudBakerError(f"the service refused the call ({error.code})", detail=detail) from error
    except OSError as error:
        raise ComputeUnavailable(
            f"no Prefect API answers at {api_url}: start it with `cloudbaker up`, or unset CLOUDBAKER_PREFECT_API_URL",
            detail=repr(error),
        ) from error
