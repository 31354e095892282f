"""A unit of work on bytes from outside, and what came of it. All work on untrusted bytes has this form.

A *job function* is pure: ``def job(inputs: Inputs, params: Params) -> JobResult``. It runs in a sandboxed child, knows
no paths, and is called by its import name, which must begin with ``cloudbaker.compute.``. Everything around it (fork,
limits, Ray) is the business of a `Workbench`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from cloudbaker.errors import SandboxCrash, SandboxJobError, SandboxLimit

Inputs = Mapping[str, memoryview]
"""Read-only bytes by name."""
Params = Mapping[str, Any]
"""JSON values."""


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a job function returns."""

    value: Any = None
    """JSON-serialisable; small (under 16 MB)."""
    files: Mapping[str, bytes | bytearray | memoryview] = field(default_factory=dict)
    """Larger results by name."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one job may use before it is killed."""

    memory_bytes: int = 2 << 30
    cpu_seconds: int = 300
    wall_seconds: float = 300.0
    file_bytes: int = 2 << 30
    """Size of any one file it writes, and of all its results together."""


class Status(StrEnum):
    """How a job ended."""

    OK = "ok"
    ERROR = "error"
    """It raised; `Outcome.error` holds type and message."""
    MEMORY = "memory"
    CPU = "cpu"
    WALL = "wall"
    FILE_SIZE = "file_size"
    CRASH = "crash"
    """Died by a signal that was no limit of ours (a segfault), or its worker was lost."""


@dataclass(frozen=True, slots=True)
class Job:
    """A call of a job function."""

    function: str
    """Import name, ``cloudbaker.compute.gltf.validate:validate_job``."""
    inputs: Mapping[str, Path | bytes | memoryview] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits = Limits()
    gpu: bool = False
    """Wants a GPU where the cluster has one; runs on the CPU at once where it has none."""
    memory_bytes: int = 0
    """What it will take by what its header says, for whoever places jobs (`limits` is what it may take); 0: unknown."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job. Never an exception for what the content did; see `unwrap`."""

    status: Status
    value: Any = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    error: str = ""
    """For people: ``ValueError: …``, ``killed after 300 s`` …"""
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    """Peak resident set of the job's process."""
    device: str = "cpu"
    isolation: str = ""
    """What held it: ``landlock+seccomp``, ``outer:gvisor`` or ``trusted``. Goes into the provenance."""

    def unwrap(self) -> Outcome:
        """Itself if it went well; else `SandboxLimit`, `SandboxCrash`, `SandboxJobError` or the deliberate error."""
        match self.status:
            case Status.OK:
                return self
            case Status.ERROR:
                raise SandboxJobError(
                    "processing failed inside the sandbox: the file may be damaged in a way that no check names; "
                    "please report it with the file",
                    detail=self.error,
                )
            case Status.CRASH:
                raise SandboxCrash(
                    "the process that worked on this file died: the file may be built to do that", detail=self.error
                )
            case limit:
                raise SandboxLimit(
                    f"the file needs more than the {limit.value.replace('_', ' ')} limit allows ({self.error}): "
                    "make it smaller, or raise the limit in the recipe",
                    limit=limit.value,
                )


class Workbench(Protocol):
    """Where jobs run: a local sandbox (direct mode) or Ray actors that hold one each."""

    name: str
    """``local`` or ``ray``."""

    def run(self, job: Job) -> Outcome:
        """Run one job to its end."""
        ...

    def run_all(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run several at once as far as there is room; outcomes in the order of the jobs."""
        ...


def nothing_job(_inputs: Inputs, _params: Params) -> JobResult:
    """Does nothing: to warm a worker up, or to measure what a job costs."""
    return JobResult()
