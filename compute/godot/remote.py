"""Engines on the nodes of a Ray cluster: one task per run of an engine, with the memory that an engine needs."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cloudbaker.compute.godot.adapter import EngineJob, run_engine
from cloudbaker.compute.godot.engines import probe
from cloudbaker.compute.job import Outcome
from cloudbaker.errors import CloudBakerError, ComputeUnavailable, EngineMissing

CPUS = 0.5
"""Logical CPUs of a run, as of a worker: the other half of the cluster is the workers'."""
MEMORY_BYTES = 1 << 30
"""Logical memory of a run: Godot 4.6 takes 0.7 GB for the smallest mod."""
_START_SECONDS = 120.0
"""For Ray to find room and start a process."""
_POLL_SECONDS = 0.5


class RayEngines:
    """Engines of the cluster. The connection to Ray must be open."""

    def run(self, job: EngineJob) -> Outcome:
        """Run an engine on a node that has room. Raises what `run_engine` raises, `EngineMissing` where the node has
        another version than the one in the bake key, and `ComputeUnavailable` where the node is lost."""
        import ray

        remote: Any = ray.remote(_run)
        names = list(job.files)
        arrays = [ray.put(np.frombuffer(_bytes(content), np.uint8)) for content in job.files.values()]
        task = remote.options(num_cpus=CPUS, memory=MEMORY_BYTES, max_retries=0).remote(
            replace(job, files={}), names, *arrays
        )
        deadline = time.monotonic() + job.limits.wall_seconds + _START_SECONDS
        try:
            # In small steps: an exception that another thread injects (Prefect's timeouts) is delivered between them.
            while not ray.wait([task], timeout=_POLL_SECONDS)[0]:
                if time.monotonic() > deadline:
                    raise ComputeUnavailable("the cluster had no room for an engine, or lost it")
            answer = ray.get(task)
        except ray.exceptions.RayError as error:
            raise ComputeUnavailable("the node that ran the engine was lost", detail=str(error)) from error
        except BaseException:
            ray.cancel(task, force=True)
            raise
        if isinstance(answer, CloudBakerError):
            raise answer
        assert isinstance(answer, Outcome)
        return answer


def _run(job: EngineJob, names: list[str], *arrays: np.ndarray[Any, Any]) -> Outcome | CloudBakerError:
    """On the node. Errors come back as values, because Ray would wrap them."""
    try:
        here = probe(job.engine.command, job.engine.folders)
        if here != job.engine.version:
            return EngineMissing(
                f"the engine {job.engine.name} is {here} on a node, and {job.engine.version} where the bake began: "
                "install the same on all nodes"
            )
        return run_engine(replace(job, files={n: a.data.cast("B") for n, a in zip(names, arrays, strict=True)}))
    except CloudBakerError as error:
        return error


def _bytes(content: bytes | memoryview | Path) -> bytes | memoryview:
    return content.read_bytes() if isinstance(content, Path) else content
