"""Each limit ends a job, is told apart from the others, and costs the neighbours nothing."""

from __future__ import annotations

from typing import Any

import pytest

from cloudbaker.compute.job import Job, Limits, Outcome, Status
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.errors import SandboxCrash, SandboxLimit

DEFAULT = Limits()
MB = 1 << 20


def run(sandbox: Sandbox, name: str, limits: Limits = DEFAULT, **params: Any) -> Outcome:
    return sandbox.run(Job(f"sandbox_attacks:{name}", params=params, limits=limits))


def test_memory_of_one_large_array(sandbox: Sandbox) -> None:
    outcome = run(sandbox, "array", bytes=10 << 30)
    assert outcome.status is Status.MEMORY
    assert outcome.error == "more than 2048 MiB of memory"
    with pytest.raises(SandboxLimit) as caught:
        outcome.unwrap()
    assert caught.value.facts == {"limit": "memory"}


def test_memory_limit_is_what_a_job_can_take(sandbox: Sandbox) -> None:
    limits = Limits(memory_bytes=128 * MB)
    assert run(sandbox, "array", limits, bytes=100 * MB).status is Status.OK
    assert run(sandbox, "array", limits, bytes=130 * MB).status is Status.MEMORY
    assert 64 <= run(sandbox, "hoard", limits).unwrap().value <= 128


def test_memory_that_the_kernel_limit_does_not_count(sandbox: Sandbox) -> None:
    outcome = run(sandbox, "share", Limits(memory_bytes=128 * MB), megabytes=320)
    assert outcome.status is Status.MEMORY


def test_memory_of_native_code(sandbox: Sandbox) -> None:
    outcome = run(sandbox, "end", how="bad_alloc")
    assert outcome.status is Status.MEMORY


@pytest.mark.parametrize("stubborn", [False, True])
def test_cpu(sandbox: Sandbox, stubborn: bool) -> None:
    outcome = run(sandbox, "spin", Limits(cpu_seconds=1), stubborn=stubborn)
    assert outcome.status is Status.CPU
    assert outcome.error == "more than 1 s of CPU time"
    assert outcome.cpu_seconds > 0.5


@pytest.mark.parametrize("how", ["plain", "stubborn", "stopped"])
def test_wall_clock(sandbox: Sandbox, how: str) -> None:
    outcome = run(sandbox, "sleep", Limits(wall_seconds=0.5), **{how: True})
    assert outcome.status is Status.WALL
    assert outcome.error == "killed after 0.5 s"
    assert outcome.wall_seconds >= 0.5


@pytest.mark.parametrize("name", ["flood", "write"])
def test_file_size(sandbox: Sandbox, name: str) -> None:
    outcome = run(sandbox, name, Limits(file_bytes=MB), bytes=2 * MB)
    assert outcome.status is Status.FILE_SIZE
    assert outcome.error == "more than 1 MiB of results"
    assert outcome.files == {}


def test_threads(sandbox: Sandbox) -> None:
    outcome = run(sandbox, "threads")
    assert outcome.status is Status.CRASH
    assert "threads" in outcome.error


def test_descriptors(sandbox: Sandbox) -> None:
    assert run(sandbox, "descriptors").value == "OSError"


@pytest.mark.parametrize("fail", [False, True])
def test_much_talk_is_cut_and_blocks_nobody(sandbox: Sandbox, fail: bool) -> None:
    outcome = run(sandbox, "chatter", megabytes=100, fail=fail)
    assert outcome.status is (Status.ERROR if fail else Status.OK)
    assert len(outcome.error) < 20_000
    if fail:
        assert outcome.error.startswith("ValueError: after much talk\n")
        assert "--- printed by the job ---\nxxx" in outcome.error


@pytest.mark.parametrize(
    ("how", "signal"), [("segfault", "SIGSEGV"), ("abort", "SIGABRT"), ("bad system call", "SIGSYS")]
)
def test_death_by_signal(sandbox: Sandbox, how: str, signal: str) -> None:
    outcome = run(sandbox, "end", how=how)
    assert outcome.status is Status.CRASH
    assert f"died by {signal}" in outcome.error
    with pytest.raises(SandboxCrash):
        outcome.unwrap()


def test_a_segfault_says_where(sandbox: Sandbox) -> None:
    assert "sandbox_attacks.py" in run(sandbox, "end", how="segfault").error


@pytest.mark.parametrize("code", [0, 13])
def test_exit_without_a_result(sandbox: Sandbox, code: int) -> None:
    outcome = run(sandbox, "end", how=f"exit {code}")
    assert outcome.status is Status.CRASH
    assert f"exit status {code} without a valid result" in outcome.error


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("sys.exit", "SystemExit: 3"),
        ("interrupt", "KeyboardInterrupt"),
        ("deep", "RecursionError: maximum recursion depth exceeded"),
        ("value", "ValueError: a remedy in two lines"),
    ],
)
def test_exceptions(sandbox: Sandbox, how: str, error: str) -> None:
    outcome = run(sandbox, "end", how=how)
    assert outcome.status is Status.ERROR
    assert outcome.error.splitlines()[0].startswith(error)


def test_an_error_tells_stack_and_output_below(sandbox: Sandbox) -> None:
    first, *rest = run(sandbox, "end", how="value").error.splitlines()
    assert first == "ValueError: a remedy in two lines"
    assert any("sandbox_attacks.py" in line for line in rest)
    assert rest[-1] == "on the way"
