"""The Ray actor: one long-lived process that holds one `Sandbox` and does one piece of work at a time.

A plain class without Ray in it: `cloudbaker.compute.crew` makes an actor of it, tests may call it as it is. It never
lets an exception of the work out, because Ray would wrap it: what went wrong comes back as a value.
"""

from __future__ import annotations

import importlib
import json
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cloudbaker import logs
from cloudbaker.compute.job import Job, Outcome, Workbench
from cloudbaker.errors import CloudBakerError, ComputeUnavailable

if TYPE_CHECKING:
    from cloudbaker.compute.sandbox import Sandbox

WORK_PREFIX = "cloudbaker."
INLINE_BYTES = 64 << 10
"""Below this, bytes travel inside the call. Above, as numpy arrays in the object store: Ray copies ``bytes`` on every
read, but maps arrays in without a copy (100 MB: 0.4 ms)."""
ENCODER_SECONDS = 60.0
"""A GPU that has not answered by then never will: a launch takes less than one."""
_CLUSTER_SECRETS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What a worker says about itself when it is ready."""

    pid: int
    uid: int
    node: str
    """Ray's id of the node."""
    isolation: str
    """What holds its jobs, as in `Outcome.isolation`."""


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one call of a work function: a JSON row or an error in JSON form."""

    value: Any = None
    error: dict[str, Any] | None = None
    fatal: CloudBakerError | None = None
    """Not the item's fault and the same for every other: the function can't be imported, the kernel can't isolate."""


class Worker:
    """One sandbox behind one process. `trusted` and `outer` are those of `Sandbox`."""

    def __init__(self, trusted: bool = False, outer: str = "") -> None:
        self._trusted = trusted
        self._outer = outer
        self._sandbox: Sandbox | None = None
        logs.configure()  # stderr is a file of the Ray session
        for name in _CLUSTER_SECRETS:  # Ray's core has read it; nothing below this process may
            os.environ.pop(name, None)

    def start(self) -> WorkerFacts | CloudBakerError:
        """Make the sandbox, if there is none yet, and say who this is; an error where this machine can't isolate."""
        import ray

        from cloudbaker.compute.sandbox import Sandbox

        try:
            if self._sandbox is None:
                self._sandbox = Sandbox(parallel=1, trusted=self._trusted, outer=self._outer)
        except CloudBakerError as error:
            return error
        node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""
        return WorkerFacts(os.getpid(), os.getuid(), node, getattr(self._sandbox, "isolation", ""))

    def run_job(
        self,
        job: Job,
        inline: Mapping[str, bytes | Path],
        names: Sequence[str],
        log_context: Mapping[str, Any],
        *arrays: np.ndarray[Any, Any],
        encoder: Any = None,
    ) -> tuple[Outcome, dict[str, np.ndarray[Any, Any]]] | CloudBakerError:
        """Run `job`, whose inputs come as small bytes and paths (`inline`) and as uint8 arrays for `names`; `encoder`
        is the actor of a `GpuEncoder`, or None.

        Large result files are taken out of the outcome and returned as uint8 arrays.
        """
        assert self._sandbox is not None, "start() comes first"
        large = {name: array.data.cast("B") for name, array in zip(names, arrays, strict=True)}
        with logs.bound(**log_context):
            try:
                outcome = self._bench(encoder).run(replace(job, inputs={**inline, **large}))
            except CloudBakerError as error:
                return error
        files = {
            name: np.frombuffer(data, np.uint8) for name, data in outcome.files.items() if len(data) > INLINE_BYTES
        }
        return replace(outcome, files={k: bytes(v) for k, v in outcome.files.items() if k not in files}), files

    def run_item(
        self,
        function: str,
        item_id: str,
        data: Any,
        context: Mapping[str, Any],
        log_context: Mapping[str, Any],
        encoder: Any = None,
    ) -> Row:
        """Call a work function with this worker's sandbox; see `cloudbaker.compute.cluster.Cluster.map`."""
        assert self._sandbox is not None, "start() comes first"
        try:
            call = resolve(function)
        except CloudBakerError as error:
            return Row(fatal=error)
        with logs.bound(**{**log_context, "item": item_id}):
            try:
                value = call(self._bench(encoder), data, context)
                json.dumps(value)  # a row that is no JSON is an error of the function here, not a lost worker later
                return Row(value)
            except CloudBakerError as error:
                detail = "".join(filter(None, [error.detail, "\n", traceback.format_exc(limit=-20)]))
                return Row(error={**error.to_json(), "type": type(error).__name__, "detail": detail})
            except Exception as error:
                return Row(error=unexpected(error))

    def _bench(self, encoder: Any) -> Workbench:
        assert self._sandbox is not None, "start() comes first"
        return self._sandbox if encoder is None else GpuBench(self._sandbox, encoder)

    def stop(self) -> None:
        """Close the sandbox: the orderly end before the actor is killed."""
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None


class GpuBench:
    """A sandbox beside a GPU: jobs that can (`handover.takes`) have their blocks made by the actor `encoder`, others
    run as ever. Where the actor is lost or no use, those too: the bytes are the same."""

    name = "local"

    def __init__(self, sandbox: Workbench, encoder: Any) -> None:
        self._sandbox = sandbox
        self._encoder = encoder

    def run(self, job: Job) -> Outcome:
        """Run one job to its end."""
        from cloudbaker.compute.textures import handover

        if not handover.takes(job):
            return self._sandbox.run(job)
        try:
            return handover.run(self._sandbox, job, self._blocks)
        except ComputeUnavailable as error:
            log.warning("no blocks from the GPU, the CPU makes them", said=error.message, detail=error.detail)
            return self._sandbox.run(job)

    def run_all(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run several, one after the other: a worker's sandbox has no room for more."""
        return [self.run(job) for job in jobs]

    def _blocks(
        self, level: str, sizes: Sequence[tuple[int, int]], texels: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
        import ray

        try:
            reply = ray.get(self._encoder.encode.remote(level, sizes, texels), timeout=ENCODER_SECONDS)
        except ray.exceptions.RayError as error:  # dead, unreachable, or silent: GetTimeoutError is one of them
            raise ComputeUnavailable(
                "the GPU's actor was lost: the CPU does its work", detail=f"{type(error).__name__}: {error}"
            ) from error
        if isinstance(reply, CloudBakerError):
            raise reply
        blocks, facts = reply
        return blocks, facts


def resolve(function: str) -> Callable[..., Any]:
    """The callable behind ``package.module:name``, under ``cloudbaker.`` only.

    Raises `ComputeUnavailable` where this process can't import it: a worker with other code than the driver's, which
    must stop the whole run. (prefect-ray ended such a flow Completed with nothing done.)
    """
    module, _, name = function.partition(":")
    try:
        if not module.startswith(WORK_PREFIX) or not name:
            raise ImportError(f"{function!r} is not of the form {WORK_PREFIX}module:function")
        found = getattr(importlib.import_module(module), name)
        if not callable(found):
            raise ImportError(f"{function!r} is not callable")
    except (ImportError, AttributeError) as error:
        raise ComputeUnavailable(
            f"a worker can't import {function}: run the same release of cloudbaker on the driver and on every node",
            detail=traceback.format_exc(limit=-5),
            function=function,
        ) from error
    return found  # type: ignore[no-any-return]


def unexpected(error: BaseException) -> dict[str, Any]:
    """An exception that is none of ours, in the JSON form of errors (`CloudBakerError.to_json` plus type, detail)."""
    return {
        "code": CloudBakerError.code,
        "message": f"{type(error).__name__}: {error}"[:2000],
        "retryable": False,
        "page": f"docs/errors/{CloudBakerError.code}.md",
        "type": type(error).__name__,
        "detail": "".join(traceback.format_exception(error, limit=-20)),
    }
