"""Jobs go in, outcomes come out: values, files, order, concurrency, and calls that are wrong."""

from __future__ import annotations

import json
import os
import re
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cloudbaker.compute.job import Job, Limits, Status, Workbench
from cloudbaker.compute.sandbox import Isolation, Sandbox
from cloudbaker.compute.sandbox.reach import python_folders
from cloudbaker.errors import IsolationUnavailable, SandboxJobError, SourceUnreadable, UsageError

NONE = Isolation(landlock_abi=0, seccomp=False, root=os.geteuid() == 0)


def test_inputs_params_value_and_files(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(b"of a file")
    path.chmod(0o600)
    (tmp_path / "empty").touch()
    inputs: dict[str, Any] = {
        "path": path,
        "bytes": b"inline",
        "view": memoryview(b"a view of it")[2:6],
        "none": b"",
        "empty": tmp_path / "empty",
        "large": bytes(range(256)) * 20_000,
    }
    outcome = sandbox.run(Job("sandbox_attacks:echo", inputs, {"text": "å\u2028", "numbers": [1, 2.5, None]})).unwrap()
    assert outcome.value == {"text": "å\u2028", "numbers": [1, 2.5, None]}
    assert outcome.files == {k: v.read_bytes() if isinstance(v, Path) else bytes(v) for k, v in inputs.items()}
    assert outcome.status is Status.OK
    assert outcome.error == ""
    assert outcome.device == "cpu"
    assert outcome.cpu_seconds > 0
    assert outcome.wall_seconds > 0
    assert outcome.peak_bytes > 10 << 20


def test_arrays_as_files(sandbox: Sandbox) -> None:
    outcome = sandbox.run(Job("sandbox_attacks:returns", params={"what": "arrays"})).unwrap()
    assert outcome.files == {"a": bytes([0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]), "b": b"b", "c": b""}


@pytest.mark.parametrize(
    ("what", "status", "text"),
    [
        ("nothing", Status.ERROR, "TypeError: sandbox_attacks:returns must return a JobResult, not NoneType"),
        ("a set", Status.ERROR, "TypeError: Object of type set is not JSON serializable"),
        ("much", Status.ERROR, "ValueError: the value of a job may have 16777216 bytes as JSON"),
        ("a bad name", Status.CRASH, "a file with a name or size that is not allowed"),
        ("a hidden name", Status.CRASH, "a file with a name or size that is not allowed"),
    ],
)
def test_results_that_are_none(sandbox: Sandbox, what: str, status: Status, text: str) -> None:
    outcome = sandbox.run(Job("sandbox_attacks:returns", params={"what": what}))
    assert outcome.status is status
    assert text in outcome.error
    if status is Status.ERROR:
        with pytest.raises(SandboxJobError) as caught:
            outcome.unwrap()
        assert text in str(caught.value.detail)


@pytest.mark.parametrize(
    "forged",
    [
        {"head": {"value": 1, "files": [["a", 10]]}, "body": 5},
        {"head": {"value": 1, "files": [["a", -1], ["b", 6]]}, "body": 5},
        {"head": {"value": 1, "files": [["a", True]]}, "body": 1},
        {"head": {"value": 1, "files": [["../a", 5]]}, "body": 5},
        {"head": {"value": 1, "files": [["a/b", 5]]}, "body": 5},
        {"head": {"value": 1, "files": [["a\n", 5]]}, "body": 5},
        {"head": {"value": 1, "files": [[1, 5]]}, "body": 5},
        {"head": {"value": 1, "files": [["a"]]}, "body": 5},
        {"head": {"value": 1, "files": [[f"f{i}", 0] for i in range(10_001)]}},
        {"head": {"value": 1, "files": "a"}},
        {"head": {"value": 1}},
        {"head": [1, 2]},
        {"text": "[" * 100_000},
        {"text": "1" * 10_000},
        {"text": "no json"},
        {"text": "\ud83d".encode("utf-8", "surrogatepass").decode("latin-1")},
        {"head": {"value": 1, "files": []}, "length": 1 << 62},
        {"head": {"value": 1, "files": []}, "length": 0},
        {"head": {"value": 1, "files": []}, "body": 1},
        {"head": {"error": "x", "files": []}, "code": 99},
    ],
    ids=lambda forged: re.sub(r"\W+", "-", json.dumps(forged))[:40],
)
def test_a_forged_result_is_a_crash(sandbox: Sandbox, forged: dict[str, Any]) -> None:
    outcome = sandbox.run(Job("sandbox_attacks:forge", params=forged))
    assert outcome.status is Status.CRASH, outcome
    assert outcome.value is None
    assert outcome.files == {}


def test_a_job_can_not_pretend_that_it_was_not_isolated(sandbox: Sandbox) -> None:
    forged = {"head": {"error": "landlock: no", "files": []}, "code": 13}
    assert sandbox.run(Job("sandbox_attacks:forge", params=forged)).status is Status.CRASH


@pytest.mark.parametrize(
    "name",
    ["os:system", "cloudbaker.computer:x", "cloudbaker.compute.job", "cloudbaker.compute.job:Job.run", "", "a:b"],
)
def test_only_job_functions_can_be_named(sandbox: Sandbox, name: str) -> None:
    with pytest.raises(UsageError, match="is not a job function"):
        sandbox.run(Job(name))


@pytest.mark.parametrize(
    ("function", "error"),
    [
        ("sandbox_attacks:missing", "AttributeError"),
        ("cloudbaker.compute.nowhere:job", "ModuleNotFoundError"),
        ("sandbox_broken:job", "RuntimeError: this module is broken"),
        ("cloudbaker.compute.job:MISSING", "AttributeError"),
    ],
)
def test_functions_that_are_not_there(sandbox: Sandbox, function: str, error: str) -> None:
    outcome = sandbox.run(Job(function))
    assert outcome.status is Status.ERROR
    assert outcome.error.startswith(error)


def test_inputs_that_can_not_be_read(sandbox: Sandbox, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "fifo"):
        with pytest.raises(SourceUnreadable):
            sandbox.run(Job("sandbox_attacks:noop", {"x": path}))
    with pytest.raises(UsageError, match="are not JSON"):
        sandbox.run(Job("sandbox_attacks:noop", params={"x": {1, 2}}))
    assert sandbox.run(Job("sandbox_attacks:noop")).value == "ok", "and no slot is lost"


@pytest.mark.parametrize("name", ["memory_bytes", "cpu_seconds", "wall_seconds", "file_bytes"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_limits_must_limit(sandbox: Sandbox, name: str, value: float) -> None:
    limits = Limits(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=f"{name} of a job must be positive"):
        sandbox.run(Job("sandbox_attacks:noop", limits=limits))


def test_late_imports(sandbox: Sandbox) -> None:
    """Also where Python lies in a home that the job's user may not enter, as it does for root with pyenv or uv."""
    assert sandbox.run(Job("sandbox_attacks:late")).unwrap().value == {"already": [], "codec": "47"}


def test_only_installed_folders_are_readable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not what a script brings along: its folder is on sys.path, and so is what else lies in it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend("/")
    folders = python_folders()
    for folder in (tmp_path, Path("/"), Path.home(), Path(__file__).parents[3]):
        assert str(folder) not in folders
    assert any(Path(json.__file__).is_relative_to(folder) for folder in folders)
    assert any(Path(pytest.__file__).resolve().is_relative_to(folder) for folder in folders)
    assert not any(a != b and Path(a).is_relative_to(b) for a in folders for b in folders)


def test_v8_works_inside(sandbox: Sandbox) -> None:
    outcome = sandbox.run(Job("sandbox_v8:script", {"bytes": b"hello"})).unwrap()
    assert outcome.value == ['{"sum":6,"day":"1970-01-01T00:00:00.000Z"}', 256 * 65536, 42, "hello"]


def test_v8_runs_out_of_memory(sandbox: Sandbox) -> None:
    outcome = sandbox.run(Job("sandbox_v8:balloon", limits=Limits(memory_bytes=256 << 20)))
    assert outcome.status is Status.MEMORY, outcome


def test_run_all_keeps_the_order(sandbox: Sandbox) -> None:
    jobs = [Job("sandbox_attacks:echo", params={"n": n}) for n in range(12)]
    jobs[5] = Job("sandbox_attacks:end", params={"how": "segfault"})
    outcomes = sandbox.run_all(jobs)
    assert [o.value and o.value["n"] for o in outcomes] == [0, 1, 2, 3, 4, None, 6, 7, 8, 9, 10, 11]
    assert outcomes[5].status is Status.CRASH
    assert sandbox.run_all([]) == []


def test_run_all_that_fails_frees_its_slots(sandbox: Sandbox) -> None:
    good = Job("sandbox_attacks:sleep")
    for _ in range(3):
        with pytest.raises(UsageError):
            sandbox.run_all([good, good, Job("os:system")])
    assert [o.value for o in sandbox.run_all([Job("sandbox_attacks:noop")] * 8)] == ["ok"] * 8


def test_as_many_at_once_as_there_is_room(sandbox: Sandbox) -> None:
    spans = [o.unwrap().value for o in sandbox.run_all([Job("sandbox_attacks:clock", params={"seconds": 1.0})] * 4)]
    assert max(start for start, _, _ in spans) < min(end for _, end, _ in spans)
    with Sandbox(parallel=1, allow=["sandbox_attacks"]) as one:
        spans = [o.unwrap().value for o in one.run_all([Job("sandbox_attacks:clock", params={"seconds": 0.05})] * 4)]
    spans.sort()
    assert all(end <= start for (_, end, _), (start, _, _) in pairwise(spans))


def test_many_threads_share_a_sandbox(sandbox: Sandbox) -> None:
    said: dict[int, Any] = {}

    def work(n: int) -> None:
        said[n] = [sandbox.run(Job("sandbox_attacks:echo", params={"n": n, "i": i})).value for i in range(5)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {n: [{"n": n, "i": i} for i in range(5)] for n in range(8)}


def test_it_is_a_workbench(sandbox: Sandbox) -> None:
    workbench: Workbench = sandbox
    assert workbench.name == "local"


def test_closed_is_closed() -> None:
    sandbox = Sandbox(parallel=1)
    sandbox.close()
    sandbox.close()
    with pytest.raises(UsageError, match="closed"):
        sandbox.run(Job("cloudbaker.compute.job:nothing"))


@pytest.mark.parametrize(
    "found", [NONE, Isolation(landlock_abi=0, seccomp=True), Isolation(landlock_abi=7, seccomp=False)]
)
def test_it_refuses_where_the_kernel_can_not_isolate(found: Isolation) -> None:
    with pytest.raises(IsolationUnavailable, match="CLOUDBAKER_OUTER_SANDBOX") as caught:
        Sandbox(isolation=found)
    assert caught.value.code == "CB5001"
    assert caught.value.facts == {"landlock_abi": found.landlock_abi, "seccomp": found.seccomp}


@pytest.mark.parametrize(
    ("found", "arguments", "isolation"),
    [
        (NONE, {"trusted": True}, "trusted"),
        (NONE, {"outer": "gvisor"}, "outer:gvisor"),
        (Isolation(landlock_abi=0, seccomp=True), {"outer": "container"}, "outer:container+seccomp"),
    ],
)
def test_unless_somebody_vouches(found: Isolation, arguments: dict[str, Any], isolation: str) -> None:
    with Sandbox(isolation=found, allow=["sandbox_attacks"], **arguments) as sandbox:
        outcome = sandbox.run(Job("sandbox_attacks:noop", limits=Limits(wall_seconds=60)))
    assert (outcome.status, outcome.isolation) == (Status.OK, isolation)


def test_vouching_weakens_nothing_where_the_kernel_can() -> None:
    with Sandbox(trusted=True, outer="container", allow=["sandbox_attacks"]) as sandbox:
        outcome = sandbox.run(Job("sandbox_attacks:processes"))
    assert outcome.isolation == "landlock+seccomp"
    assert outcome.unwrap().value["fork"] == "PermissionError"


def test_a_lockdown_that_fails_runs_nothing() -> None:
    # A limit that setrlimit can't take is the one way to make the lockdown itself fail from outside.
    with Sandbox(parallel=1, allow=["sandbox_attacks"]) as sandbox:
        with pytest.raises(IsolationUnavailable, match="refused to isolate"):
            sandbox.run(Job("sandbox_attacks:noop", limits=Limits(file_bytes=1 << 70)))
        assert sandbox.run(Job("sandbox_attacks:noop")).value == "ok"
