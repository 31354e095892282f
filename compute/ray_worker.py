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

from cloudbaker import logs
from cloudbaker.compute.job import Job, Outcome
from cloudbaker.errors import CloudBakerError

if TYPE_CHECKING:
    from cloudbaker.compute.sandbox import Sandbox

WORK_PREFIX = "cloudbaker."
INLINE_BYTES = 64 << 10
"""Below this, bytes travel inside the call. Above, as numpy arrays in the object store: Ray copies ``bytes`` on every
read, but maps arrays in without a copy (100 MB: 0.4 ms)."""
_CLUSTER_SECRETS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


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
    ) -> tuple[Outcome, dict[str, np.ndarray[Any, Any]]] | CloudBakerError:
        """Run `job`, whose inputs come as small bytes and paths (`inline`) and as uint8 arrays for `names`.

        Large result files are taken out of the outcome and returned as uint8 arrays.
        """
        assert self._sandbox is not None, "start() comes first"
        large = {name: array.data.cast("B") for name, array in zip(names, arrays, strict=True)}
        with logs.bound(**log_context):
            try:
                outcome = self._sandbox.run(replace(job, inputs={**inline, **large}))
            except CloudBakerError as error:
                return error
        files = {
            name: np.frombuffer(data, np.uint8) for name, data in outcome.files.items() if len(data) > INLINE_BYTES
        }
        return replace(outcome, files={k: bytes(v) for k, v in outcome.files.items() if k not in files}), files

    def run_item(
        self, function: str, item_id: str, data: Any, context: Mapping[str, Any], log_context: Mapping[str, Any]
    ) -> Row:
        """Call a work function with this worker's sandbox; see `cloudbaker.compute.cluster.Cluster.map`."""
        assert self._sandbox is not None, "start() comes first"
        try:
            call = resolve(function)
        except CloudBakerError as error:
            return Row(fatal=error)
        with logs.bound(**{**log_context, "item": item_id}):
            try:
                value = call(self._sandbox, data, context)
                json.dumps(value)  # a row that is no JSON is an error of the function here, not a lost worker later
                return Row(value)
            except CloudBakerError as error:
                detail = "".join(filter(None, [error.detail, "\n", traceback.format_exc(limit=-20)]))
                return Row(error={**error.to_json(), "type": type(error).__name__, "detail": detail})
            except Exception as error:
                return Row(error=unexpected(error))

    def stop(self) -> None:
        """Close the sandbox: the orderly end before the actor is killed."""
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None


def resolve(function: str) -> Callable[..., Any]:
    """The callable behind ``package.module:name``, under ``cloudbaker.`` only.

    Raises `ComputeUnavailable` where this process can't import it: a worker with other code than the driver's, which
    must stop the whole run. (prefect-ray ended such a flow Completed with nothing done.)
    """
    from cloudbaker.errors import ComputeUnavailable

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
