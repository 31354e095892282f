"""What needs no Ray: the worker as a plain object, names, addresses, the session's folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from cloudbaker import logs
from cloudbaker.compute import cluster as module
from cloudbaker.compute.faults import FAULT_JOB, WORK
from cloudbaker.compute.job import Job, Status
from cloudbaker.compute.ray_worker import INLINE_BYTES, Worker, WorkerFacts, resolve
from cloudbaker.errors import ComputeUnavailable, SourceUnreadable, UsageError


@pytest.fixture
def worker():
    made = Worker()
    facts = made.start()
    assert isinstance(facts, WorkerFacts)
    assert made.start() == facts  # asked again when it has been idle: nothing new is made
    yield made
    made.stop()


def test_worker_runs_a_job_on_small_and_large_inputs(worker, tmp_path):
    large = np.arange(INLINE_BYTES * 2, dtype=np.uint8)
    path = tmp_path / "file"
    path.write_bytes(b"from a file")
    job = Job(FAULT_JOB)
    outcome, files = worker.run_job(job, {"small": b"abc", "path": path}, ["large"], {}, large)
    assert outcome.status is Status.OK
    assert files == {}
    found = {name: facts["sha256"] for name, facts in outcome.value["inputs"].items()}
    contents = {"small": b"abc", "path": b"from a file", "large": large.tobytes()}
    assert found == {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}


def test_worker_returns_large_files_as_arrays_and_small_ones_inline(worker):
    job = Job(FAULT_JOB, params={"fault": "files", "sizes": {"large": INLINE_BYTES + 1, "small": 3}})
    outcome, files = worker.run_job(job, {}, [], {})
    assert dict(outcome.files) == {"small": bytes(3)}
    assert {name: array.nbytes for name, array in files.items()} == {"large": INLINE_BYTES + 1}


def test_worker_hands_deliberate_errors_back_as_values(worker, tmp_path):
    assert isinstance(worker.run_job(Job(FAULT_JOB), {"a": tmp_path / "missing"}, [], {}), SourceUnreadable)
    assert isinstance(worker.run_job(Job("os:system"), {}, [], {}), UsageError)


def test_work_functions_end_in_a_row(worker):
    with logs.bound(run_id="of this process"):
        row = worker.run_item(WORK, "item-1", {"n": 7}, {}, {"run_id": "r1"})
    assert row.error is None
    assert row.value["n"] == 7
    assert row.value["log"] == {"run_id": "r1", "item": "item-1"}

    failed = worker.run_item(WORK, "item-2", {"worker": "error"}, {}, {})
    assert failed.value is None
    assert failed.error["type"] == "ValueError"
    assert failed.error["message"] == "ValueError: a planted error"
    assert "Traceback" in failed.error["detail"]

    unfit = worker.run_item(WORK, "item-3", {"worker": "no-json"}, {}, {})
    assert unfit.error["type"] == "TypeError"


@pytest.mark.parametrize(
    "function",
    ["os:system", "cloudbakerx.compute.job:Job", "cloudbaker.compute.nowhere:job", "cloudbaker.compute.job:nothing",
     "cloudbaker.compute.job", "cloudbaker.compute.cluster:WORK_PREFIX"],
)  # fmt: skip
def test_what_can_not_be_called_stops_the_run(worker, function):
    with pytest.raises(ComputeUnavailable, match="same release"):
        resolve(function)
    assert isinstance(worker.run_item(function, "i", {}, {}, {}).fatal, ComputeUnavailable)


def test_workers_do_not_pass_the_cluster_secret_on(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    Worker()
    assert "RAY_AUTH_TOKEN" not in os.environ


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:", ":6379", "auto"])
def test_addresses_that_would_not_do(address):
    with pytest.raises(UsageError, match="host:port"):
        module._join(address, None, None, False, None)


def test_size_is_for_a_local_ray():
    with pytest.raises(UsageError, match="leave them out"):
        module._join("127.0.0.1:6379", 2, None, False, None)


def test_nobody_answers():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(ComputeUnavailable, match="no Ray cluster answers") as caught:
        module._join(f"127.0.0.1:{port}", None, None, False, None)
    assert caught.value.retryable


def test_session_folders_of_dead_processes_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(module, "_LONGEST_SESSION_ROOT", 1000)
    dead, living, foreign = (tmp_path / f"{module._SESSION_PREFIX}{name}" for name in ("dead", "living", "foreign"))
    for folder in (dead, living, foreign):
        (folder / "logs").mkdir(parents=True)
    (dead / "lock").touch()
    with (living / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        session = module._Session()
    assert not dead.exists()
    assert living.exists()
    assert foreign.exists()  # no lock yet: somebody is just making it
    assert session.folder.stat().st_mode & 0o777 == 0o700
    another = module._Session()
    assert session.folder.exists()
    assert not living.exists()  # its lock is gone now
    session.remove()
    another.remove()
    assert list(tmp_path.iterdir()) == [foreign]


def test_importing_costs_nothing():
    code = "import sys, cloudbaker.compute.cluster; print({'ray', 'numpy', 'structlog'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.strip() == "set()"
