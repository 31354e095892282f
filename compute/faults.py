"""Planted faults: what hostile content does to a process, on purpose. For chaos tests, benchmarks and a trial of a
cluster; nothing here is reachable from content.

`fault_job` has the form of a job and fails inside the sandbox. `work` has the form of a bulk function
(`cloudbaker.compute.cluster.Cluster.map`) and fails there or in the worker itself.
"""

from __future__ import annotations

import collections
import ctypes
import hashlib
import itertools
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cloudbaker import logs
from cloudbaker.compute.job import Inputs, Job, JobResult, Limits, Params, Workbench

FAULT_JOB = "cloudbaker.compute.faults:fault_job"
WORK = "cloudbaker.compute.faults:work"


def fault_job(inputs: Inputs, params: Params) -> JobResult:
    """Do what ``params["fault"]`` says.

    ``""``: nothing, and report pid, size and SHA-256 of each input. ``sleep``: for ``seconds``. ``hang``: a loop in C
    that no Python signal handler interrupts. ``segfault``. ``balloon``: take memory up to ``bytes``. ``error``: raise
    ValueError. ``files``: return files of the sizes in ``sizes``.
    """
    match params.get("fault", ""):
        case "sleep":
            time.sleep(params["seconds"])
        case "hang":
            _hang()
        case "segfault":
            ctypes.string_at(0)
        case "balloon":
            _balloon(int(params.get("bytes", 3 << 30)))
        case "error":
            raise ValueError("a planted error")
        case "files":
            return JobResult(files={name: bytes(size) for name, size in params["sizes"].items()})
    facts = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in inputs.items()}
    return JobResult({"pid": os.getpid(), "inputs": facts})


def work(workbench: Workbench, item: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """A bulk function: run `fault_job` with the item's ``job`` parameters, if any, and say how it ended.

    ``item["worker"]`` does something to the worker itself: ``die`` (SIGKILL), ``hang`` (a loop in C), ``sleep`` for
    ``seconds``, ``error``, ``no-json`` (returns what is no JSON). ``item["trace"]`` is a file to append a line to, for
    counting calls.
    """
    if trace := item.get("trace"):
        with Path(trace).open("a") as lines:
            lines.write(f"{item.get('n')} {os.getpid()}\n")
    match item.get("worker", ""):
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            _hang()
        case "sleep":
            time.sleep(item["seconds"])
        case "error":
            raise ValueError("a planted error")
        case "no-json":
            return {"value": object()}
    row = {"n": item.get("n"), "pid": os.getpid(), "log": logs.context()}
    if "job" in item:
        limits = Limits(
            **{"wall_seconds": 5.0, "cpu_seconds": 5, "memory_bytes": 512 << 20, **context.get("limits", {})}
        )
        outcome = workbench.run(Job(FAULT_JOB, params=item["job"], limits=limits))
        row |= {"status": outcome.status.value, "error": outcome.error}
    return row


def _hang() -> None:
    collections.deque(itertools.repeat(0), maxlen=0)


def _balloon(size: int) -> None:
    held = []
    for _ in range(0, size, 64 << 20):
        held.append(b"\1" * (64 << 20))
