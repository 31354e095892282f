"""The sandbox when things die around it: its fork server, its owner, its caller's patience. Nothing may be left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cloudbaker.compute.job import Job, Limits, Outcome, Status
from cloudbaker.compute.sandbox import Isolation, Sandbox
from cloudbaker.compute.sandbox.proc import children

JOBS = Path(__file__).parents[1] / "unit" / "sandbox"
SLEEP = Job("sandbox_attacks:sleep")
NOOP = Job("sandbox_attacks:noop")

OWNER = f"""
import sys
sys.path.insert(0, {str(JOBS)!r})
from cloudbaker.compute.job import Job
from cloudbaker.compute.sandbox import Sandbox
sandbox = Sandbox(parallel=4, allow=["sandbox_attacks"])
sandbox.wait_ready()
print(sandbox.server_pid, flush=True)
sleep = Job("sandbox_attacks:sleep")
try:
    sandbox.run_all([sleep] * 4) if "all" in sys.argv else sandbox.run(sleep)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    print(sandbox.run(Job("sandbox_attacks:noop")).value, flush=True)
"""


@pytest.fixture(autouse=True)
def jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(JOBS))


@pytest.fixture
def sandbox(jobs: None) -> Iterator[Sandbox]:
    with Sandbox(parallel=4, allow=["sandbox_attacks"]) as sandbox:
        sandbox.wait_ready()
        yield sandbox


def until(condition: Callable[[], object]) -> None:
    """Wait for what must come; the limit is only there so that a failure is one."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie whose new parent has not looked yet has)."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def in_background(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    said: list[object] = []
    thread = threading.Thread(target=lambda: said.append(work()))
    thread.start()
    return thread, said


def owner(temporary: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-c", OWNER, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(temporary)})


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_the_fork_server_is_killed(sandbox: Sandbox) -> None:
    server = sandbox.server_pid
    thread, said = in_background(lambda: sandbox.run_all([SLEEP] * 3))
    until(lambda: len(children(server)) == 3)
    at_work = children(server)
    os.kill(server, signal.SIGKILL)
    thread.join(60)
    (outcomes,) = said
    assert isinstance(outcomes, list)
    assert [outcome.status for outcome in outcomes] == [Status.CRASH] * 3
    assert "fork server ended" in outcomes[0].error
    until(lambda: all(gone(pid) for pid in at_work))
    assert sandbox.run(NOOP).value == "ok"
    assert sandbox.server_pid != server


def test_the_fork_server_is_killed_again_and_again(sandbox: Sandbox) -> None:
    outcomes: list[Outcome] = []
    thread, _ = in_background(lambda: outcomes.extend(sandbox.run(NOOP) for _ in range(60)))
    killed = 0
    while thread.is_alive() and killed < 5:
        time.sleep(0.1)
        os.kill(sandbox.server_pid, signal.SIGKILL)
        killed += 1
    thread.join(120)
    assert len(outcomes) == 60
    assert {outcome.status for outcome in outcomes} <= {Status.OK, Status.CRASH}
    assert sum(outcome.status is Status.CRASH for outcome in outcomes) <= killed
    assert sandbox.run(NOOP).value == "ok"


def test_a_stopped_fork_server_is_given_up(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloudbaker.compute.sandbox.sandbox._GRACE_SECONDS", 0.5)
    server = sandbox.server_pid
    os.kill(server, signal.SIGSTOP)
    outcome = sandbox.run(Job("sandbox_attacks:noop", limits=Limits(wall_seconds=0.5)))
    assert outcome.status is Status.CRASH
    assert gone(server)
    assert sandbox.run(NOOP).value == "ok"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_owner_is_killed(how: signal.Signals, tmp_path: Path) -> None:
    with owner(tmp_path, "all") as process:
        server = int(first_line(process))
        until(lambda: len(children(server)) == 4)
        tree = [server, *children(server)]
        process.send_signal(how)
        process.wait(60)
        until(lambda: all(gone(pid) for pid in tree))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["all"]])
def test_ctrl_c_in_mid_run(arguments: list[str], tmp_path: Path) -> None:
    with owner(tmp_path, *arguments) as process:
        server = int(first_line(process))
        until(lambda: len(children(server)) == (4 if arguments else 1))
        at_work = children(server)
        process.send_signal(signal.SIGINT)
        assert first_line(process) == "interrupted"
        assert all(gone(pid) for pid in at_work), "killed before the interrupt is passed on"
        assert first_line(process) == "ok", "and the sandbox still works"
        assert process.wait(60) == 0
        until(lambda: gone(server))
    assert list(tmp_path.iterdir()) == []


def test_a_fork_server_without_descriptors_loses_one_job_only(sandbox: Sandbox) -> None:
    server = psutil.Process(sandbox.server_pid)
    soft, hard = server.rlimit(psutil.RLIMIT_NOFILE)
    outcomes = []
    for limit in range(3, 32):  # some too few for what is sent to it, some for the job's output, some for the job
        server.rlimit(psutil.RLIMIT_NOFILE, (limit, hard))
        outcomes.append(sandbox.run(NOOP))
    server.rlimit(psutil.RLIMIT_NOFILE, (soft, hard))
    assert {outcome.status for outcome in outcomes} <= {Status.OK, Status.ERROR, Status.CRASH}
    assert any("could not start a process" in outcome.error for outcome in outcomes)
    assert sandbox.run(NOOP).value == "ok"
    assert sandbox.server_pid == server.pid


def test_a_full_disk(tmp_path: Path) -> None:
    script = f"""
import sys
sys.path.insert(0, {str(JOBS)!r})
from cloudbaker.compute.job import Job
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.errors import StoreError
with Sandbox(allow=["sandbox_attacks"]) as sandbox:
    try:
        sandbox.run(Job("sandbox_attacks:flood", params={{"bytes": 4 << 20}}))
    except StoreError as error:
        print(error.message)
    print(sandbox.run(Job("sandbox_attacks:noop")).value)
"""
    mount = f'mount -t tmpfs -o size=1m tmpfs {tmp_path} && exec env TMPDIR={tmp_path} "$@"'
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    namespace = ["unshare", *user, "--mount", "--propagation", "private"]
    if subprocess.run([*namespace, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], check=False).returncode:
        pytest.skip("no mount of our own here")
    done = subprocess.run(
        [*namespace, "sh", "-c", mount, "sh", sys.executable, "-P", "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    message, value = done.stdout.splitlines()
    assert message.startswith(f"no space is left in {tmp_path}")
    assert "TMPDIR" in message
    assert value == "ok"


def test_closing_ends_what_runs(sandbox: Sandbox) -> None:
    server = sandbox.server_pid
    thread, said = in_background(lambda: sandbox.run(SLEEP))
    until(lambda: children(server))
    at_work = children(server)
    sandbox.close()
    thread.join(60)
    assert isinstance(said[0], Outcome)
    assert said[0].status is Status.CRASH
    assert all(gone(pid) for pid in [server, *at_work])


def test_a_forgotten_sandbox_ends(jobs: None) -> None:
    sandbox = Sandbox(parallel=1)
    sandbox.wait_ready()
    server = sandbox.server_pid
    del sandbox
    until(lambda: gone(server))


def test_two_hundred_jobs_leave_nothing(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def state() -> tuple[int, int, list[int]]:
        server = sandbox.server_pid
        return psutil.Process().num_fds(), len(list(Path(f"/proc/{server}/fd").iterdir())), children(server)

    kinds = [
        NOOP,
        Job("sandbox_attacks:echo", {"x": bytes(100_000)}),
        Job("sandbox_attacks:end", params={"how": "segfault"}),
        Job("sandbox_attacks:end", params={"how": "value"}),
        Job("sandbox_attacks:array", params={"bytes": 10 << 30}),
    ]
    expected = [Status.OK, Status.OK, Status.CRASH, Status.ERROR, Status.MEMORY]
    sandbox.run_all(kinds)
    before = state()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    outcomes = sandbox.run_all(kinds * 40)
    assert [outcome.status for outcome in outcomes] == expected * 40
    assert state() == before
    assert list(tmp_path.iterdir()) == []


def test_what_a_job_leaves_behind_is_killed_even_without_seccomp(jobs: None) -> None:
    """In an outer sandbox a job can fork: the fork server inherits its orphans, in whatever session they hide."""
    nothing = Isolation(landlock_abi=0, seccomp=False)
    with Sandbox(parallel=2, trusted=True, isolation=nothing, allow=["sandbox_attacks"]) as sandbox:
        sandbox.wait_ready()
        server = sandbox.server_pid
        thread, _ = in_background(lambda: sandbox.run(SLEEP))
        until(lambda: len(children(server)) == 1)
        assert sandbox.run(Job("sandbox_attacks:stray")).status is Status.OK
        assert len(children(server)) == 1, "the neighbour lives, the orphan does not"
        sandbox.close()
        thread.join(60)
        until(lambda: gone(server))
