"""Real attacks on a real sandbox: what a job that has turned hostile can do, which is to compute."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudbaker.compute.job import Job, Status
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.compute.sandbox.proc import children
from cloudbaker.compute.sandbox.reach import python_folders

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the attacks use x86_64 call numbers")


def attack(sandbox: Sandbox, name: str, **params: Any) -> Any:
    outcome = sandbox.run(Job(f"sandbox_attacks:{name}", params=params))
    assert outcome.status is Status.OK, outcome
    assert outcome.isolation == "landlock+seccomp"
    return outcome.value


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that file permissions leave open to everybody, so that only the sandbox can be what refuses."""
    folder = Path(tempfile.mkdtemp(prefix="cloudbaker-test-attacks-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def test_no_network(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        said = attack(sandbox, "network", port=server.getsockname()[1])
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert said.pop("own pair") == "done: (5, b'hello')"
    assert said.pop("lookup") in ("gaierror", "PermissionError")
    assert set(said.values()) == {"PermissionError"}


def test_no_processes_but_threads(sandbox: Sandbox) -> None:
    said = attack(sandbox, "processes")
    assert said.pop("threads") == "done: 'hello'"
    assert said.pop("system") in ("-1", "32512")
    assert set(said.values()) == {"PermissionError"}


def test_no_rare_kernel_calls(sandbox: Sandbox) -> None:
    said = attack(sandbox, "kernel")
    assert said.pop("clone3") == said.pop("from the future") == "Function not implemented"
    assert said.pop("raise the limits") in ("ValueError", "PermissionError")
    assert set(said.values()) == {"Operation not permitted"}


def test_no_files_outside(sandbox: Sandbox, open_folder: Path) -> None:
    victim, secret = open_folder / "victim", open_folder / "secret"
    victim.write_text("precious")
    secret.write_text("secret")
    victim.chmod(0o666)
    secret.chmod(0o644)
    said = attack(sandbox, "files", victim=str(victim), secret=str(secret), home=str(Path.home()))
    assert said.pop("/dev/null") == "done: 5"
    assert said.pop("urandom") == "done: 8"
    assert said.pop("a disk") in ("PermissionError", "FileNotFoundError")
    assert said.pop("a terminal") in ("PermissionError", "OSError")
    assert set(said.values()) <= {"PermissionError", "OSError"}, said
    assert victim.read_text() == "precious"
    assert {path.name for path in open_folder.iterdir()} == {"secret", "victim"}
    assert not Path("/dev/shm/cloudbaker-test").exists()


def test_no_signals_to_others(sandbox: Sandbox) -> None:
    server = sandbox.server_pid
    said = attack(sandbox, "signals", caller=os.getpid())
    assert said.pop("tgkill itself") == "done: 0"
    assert set(said.values()) <= {"PermissionError", "Operation not permitted"}
    assert sandbox.server_pid == server


def test_nothing_of_our_surroundings(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    with Sandbox(parallel=1, allow=["sandbox_attacks"]) as fresh:
        said = attack(fresh, "surroundings")
    assert set(said["environment"]) <= {
        *("PATH", "HOME", "LANG", "LC_CTYPE", "PYTHONPATH", "PYTHONHASHSEED", "LD_LIBRARY_PATH"),
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES"),
        *("CLOUDBAKER_NPM_PREFIX", "CLOUDBAKER_KERNELS_PREFIX"),
    }
    assert "hunter2" not in str(said)
    assert said["folder"] == "/"
    assert said["session"] is True
    plain = [fd for fd, _, flags in said["descriptors"] if flags != os.O_PATH]
    assert plain[:3] == [0, 1, 2]
    assert len(plain) == 4, "and the result"
    folders = {path for _, path, flags in said["descriptors"] if flags == os.O_PATH}
    assert folders <= set(python_folders())
    if os.geteuid() == 0:
        assert said["uid"] == said["gid"] == [65534] * 3
        assert said["groups"] == []


def test_the_kernel_says_that_it_is_locked_down(sandbox: Sandbox) -> None:
    with Sandbox(parallel=1, allow=["sandbox_attacks"]) as fresh:
        fresh.wait_ready()
        ticket = fresh._start(Job("sandbox_attacks:sleep", params={"seconds": 600}))
        fresh._slots.acquire()
        deadline = time.monotonic() + 30
        status: dict[str, str] = {}
        while time.monotonic() < deadline and status.get("Seccomp") != "2":
            for pid in children(fresh.server_pid):
                text = Path(f"/proc/{pid}/status").read_text()
                status = {k: v.strip() for k, _, v in (line.partition(":") for line in text.splitlines())}
            time.sleep(0.01)
        ticket.server.cancel(ticket.id)
        assert fresh._finish(ticket).status is Status.CRASH
    assert status["Seccomp"] == "2"
    assert status["NoNewPrivs"] == "1"
    assert {status[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Amb")} == {"0" * 16}
    if os.geteuid() == 0:
        assert status["Uid"].split() == ["65534"] * 4


def test_inputs_can_not_be_changed(sandbox: Sandbox, tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b"precious" * 1000)
    blob.chmod(0o666)
    for data in (blob, blob.read_bytes()):
        said = sandbox.run(Job("sandbox_attacks:scribble", {"file": data})).unwrap().value
        assert said["through the view"] == "TypeError"
        assert said["writable"] is False
        assert said["sees"] == "!!!!"  # it may scribble on its own copy of the page
    assert blob.read_bytes() == b"precious" * 1000
