"""Ray: connect to a cluster or start one here, run jobs on it, map a function over many assets.

    with connect() as cluster:
        outcome = cluster.workbench().run(Job("cloudbaker.compute.gltf.inspect:inspect_job", {"model.glb": path}))

Importing this module costs nothing: Ray (0.7 s) is imported when it is first needed.

What Ray does here is little on purpose (docs/decisions/006-ray.md): it places long-lived actors, each with a sandbox,
and carries bytes. Attempts, deadlines and the window are ours, in `cloudbaker.compute.crew`.
"""

from __future__ import annotations

import atexit
import fcntl
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cloudbaker import logs
from cloudbaker.compute.job import Job, Outcome, Status
from cloudbaker.errors import ComputeUnavailable, SandboxLimit, SourceUnreadable, UsageError

if TYPE_CHECKING:
    from cloudbaker.compute.crew import Call, Crew, CrewOptions, Done, Hand

WORK_PREFIX = "cloudbaker."
OBJECT_STORE_BYTES = 1 << 30
"""Object store of a local Ray. Memory is taken as it is used; what does not fit goes to the session's folder."""
_SESSION_PREFIX = "cb-ray-"
_LONGEST_SESSION_ROOT = 20
"""A Unix socket's path has at most 107 bytes, and Ray's part of it below the root takes up to 85."""

log = logs.get_logger(__name__)

_guard = threading.RLock()
_current: Cluster | None = None


class AttemptStatus(StrEnum):
    """How one attempt at an item ended."""

    OK = "ok"
    ERROR = "error"
    """The function raised."""
    LOST = "lost"
    """The worker died under it: killed, out of memory, gone with its node."""
    TIMEOUT = "timeout"
    """Killed by the driver after `wall_seconds`."""


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One thing of a bulk run: `id` for the report, JSON `data` for the function."""

    id: str
    data: Any = None
    memory_bytes: int = 0
    """What it will take, as far as is known: several huge ones are not done at once, and let others pass."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of one attempt at one item."""

    item: WorkItem
    status: AttemptStatus
    value: Any
    """The row that the function returned; None unless ok."""
    error: dict[str, Any] | None
    """As `CloudBakerError.to_json`, with ``type`` and, for logs only, ``detail``; None if ok."""
    seconds: float
    worker: str

    @property
    def item_id(self) -> str:
        """The item's id."""
        return self.item.id


def connect(
    address: str = "",
    *,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    log_to_driver: bool = False,
    options: CrewOptions | None = None,
) -> Cluster:
    """The cluster of this process: the one at `address`, else a local Ray that lives as long as the connection.

    `address` is ``host:port`` of a cluster's head (GCS), from a machine that is itself a node of it. Connecting again
    gives the same `Cluster`, to be closed as often as it was connected. `num_cpus` and `num_gpus` size a local Ray
    (default: what the machine has) and `options` its workers. SIGTERM keeps the caller's handler: Ray replaces it, and
    a cancelled Prefect run then ends Crashed.

    Raises `ComputeUnavailable` where Ray can't be reached or started, `UsageError` for an address that would not do.
    """
    global _current  # noqa: PLW0603  one connection per process: Ray has no more
    with _guard:
        if _current is not None and not _current.alive():
            _current._shutdown()  # somebody called ray.shutdown()
        if _current is not None:
            if address and address != _current.address:
                raise UsageError(
                    f"this process is connected to Ray at {_current.address} and can't be to {address} at the same "
                    "time: close that connection first",
                    address=address,
                )
            if num_cpus is not None or num_gpus is not None:
                raise UsageError(
                    "this process is connected to Ray already: close that connection before you ask for another size"
                )
            _current.users += 1
            return _current
        ray = _import_ray()
        if ray.is_initialized():
            _current = Cluster(ray.get_runtime_context().gcs_address, owner=False, options=options)
        elif address:
            _current = _join(address, num_cpus, num_gpus, log_to_driver, options)
        else:
            _current = _start(num_cpus, num_gpus, log_to_driver, options)
        return _current


class Cluster:
    """A connection to Ray with this driver's workers. A context manager; `close` ends what `connect` started."""

    def __init__(
        self, address: str, *, owner: bool = True, session: _Session | None = None, options: CrewOptions | None = None
    ) -> None:
        from cloudbaker.compute.crew import Crew

        self.address = address
        """``host:port`` under which other processes of this machine can join."""
        self.users = 1
        """How often it was connected and not yet closed."""
        self.crew: Crew = Crew(options)
        self._owner = owner
        self._session = session
        self._pid = os.getpid()
        atexit.register(self._shutdown)

    @property
    def closed(self) -> bool:
        """Whether it is of no more use."""
        return self.crew.closed

    def alive(self) -> bool:
        """Whether it is open, and Ray with it."""
        import ray

        return not self.closed and ray.is_initialized()

    @property
    def local(self) -> bool:
        """Whether this is a Ray that `connect` started on this machine."""
        return self._session is not None

    def resources(self) -> dict[str, float]:
        """What the cluster has in all, in Ray's words: ``CPU``, ``GPU``, ``memory`` (bytes), ``nodes``."""
        import ray

        found = ray.cluster_resources()  # type: ignore[no-untyped-call]
        nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        return {"nodes": float(len(nodes)), **{name: float(found.get(name, 0)) for name in ("CPU", "GPU", "memory")}}

    def workbench(self, *, parallel: int | None = None, trusted: bool = False, outer: str = "") -> RayWorkbench:
        """Where jobs run: on this cluster's workers, at most `parallel` of one `run_all` at once.

        `trusted` and `outer` are those of `Sandbox`. What is bound to the caller's logs (`cloudbaker.logs.bound`), the
        run's id above all, is bound to the workers' logs too.
        """
        if parallel is not None and parallel < 1:
            raise UsageError(f"parallel must be at least 1, not {parallel}")
        return RayWorkbench(self.crew, parallel, trusted, outer)

    def map(
        self,
        function: str,
        items: Iterable[WorkItem],
        *,
        wall_seconds: float,
        window: int | None = None,
        context: Mapping[str, Any] | None = None,
        trusted: bool = False,
        outer: str = "",
    ) -> WorkMap:
        """Call a function on workers for each item and yield each `Attempt` as it ends, in no order, exactly once.

        `function` is an import name under ``cloudbaker.``, called as ``function(workbench, item.data, context)`` with
        the worker's own sandbox as workbench; what it returns must be JSON and small. `items` is pulled only as fast
        as the `window` (default and most: one item per worker this driver may have) has room. After `wall_seconds` the
        driver kills the worker. What is bound to the caller's logs is bound to the workers' too.

        Whether to try again is the caller's to decide, who counts: `WorkMap.submit` puts an item in again, after all
        others. Use it as a context manager, then an exception in the loop's body stops the work at once.

        Raises `UsageError` for a function elsewhere; on the way `ComputeUnavailable` where workers can't import it or
        don't start, `IsolationUnavailable` where they can't isolate, `Cancelled` when the cluster is closed.
        """
        if not function.startswith(WORK_PREFIX) or ":" not in function:
            raise UsageError(f"{function!r} can't run on workers: name it as {WORK_PREFIX}module:function")
        if window is not None and window < 1:
            raise UsageError(f"window must be at least 1, not {window}")
        return WorkMap(self.crew, function, items, wall_seconds, window, dict(context or {}), trusted, outer)

    def close(self) -> None:
        """Close one use of the connection; the last one kills the workers and, if it was started here, Ray."""
        with _guard:
            self.users -= 1
            if self.users <= 0:
                self._shutdown()

    def kill(self) -> None:
        """Stop all work now, from any thread: whoever waits for some gets `Cancelled`. The cluster is then closed."""
        self.crew.close()
        with _guard:
            self._shutdown()

    def _shutdown(self) -> None:
        global _current  # noqa: PLW0603  one connection per process: Ray has no more
        if os.getpid() != self._pid:  # a fork of the driver ends; the cluster is not its own
            return
        atexit.unregister(self._shutdown)
        if _current is self:
            _current = None
        try:
            self.crew.close()
            if self._owner:
                import ray

                with _sigterm_kept():
                    ray.shutdown()
        finally:
            if self._session is not None:
                self._session.remove()
                self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class RayWorkbench:
    """Runs jobs in the sandboxes of Ray workers; a `Workbench`, thread-safe."""

    name = "ray"

    def __init__(self, crew: Crew, parallel: int | None, trusted: bool, outer: str) -> None:
        self._crew = crew
        self._parallel = parallel
        self._trusted = trusted
        self._outer = outer

    def run(self, job: Job) -> Outcome:
        """Run one job to its end."""
        return self.run_all([job])[0]

    def run_all(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run jobs at once as far as there are workers, the largest first; outcomes in the order of the jobs.

        A lost worker is a ``CRASH``, one that the driver had to kill a ``WALL``. `Outcome.device` is what the job says
        in its value's ``device``, else what its worker had.
        """
        from cloudbaker.compute.crew import drive

        # What takes longest comes first, or all others are done and one worker is still at it.
        order = sorted(range(len(jobs)), key=lambda index: -jobs[index].memory_bytes)
        calls = deque(self._call(index, jobs[index]) for index in order)
        window = self._parallel or self._crew.size("cpu") + self._crew.size("cuda")
        outcomes: dict[int, Outcome] = {}
        for done in drive(self._crew, lambda: calls.popleft() if calls else None, window):
            outcomes[done.call.key] = _outcome(done)
        return [outcomes[index] for index in range(len(jobs))]

    def _call(self, index: int, job: Job) -> Call:
        from cloudbaker.compute.crew import Call
        from cloudbaker.compute.textures.handover import takes

        # Its sandboxed parts need a CPU; the actor that owns the GPU is called from beside them.
        handed = takes(job)

        def submit(hand: Hand) -> Any:
            inline, large = _pack(job.inputs, hand)
            bare = replace(job, inputs={}, params=dict(job.params))
            encoder = self._crew.encoder() if handed else None
            return hand.actor.run_job.remote(
                bare, inline, list(large), logs.context(), *large.values(), encoder=encoder
            )

        wall_seconds = job.limits.wall_seconds + self._crew.options.grace_seconds
        return Call(index, job.gpu and not handed, self._trusted, self._outer, wall_seconds, submit, job.memory_bytes)


class WorkMap(Iterator[Attempt]):
    """The attempts of a `Cluster.map`, as they end. One thread at a time."""

    def __init__(
        self,
        crew: Crew,
        function: str,
        items: Iterable[WorkItem],
        wall_seconds: float,
        window: int | None,
        context: dict[str, Any],
        trusted: bool,
        outer: str,
    ) -> None:
        from cloudbaker.compute.crew import Call, drive

        self._again: deque[WorkItem] = deque()
        source = iter(items)
        log_context = logs.context()

        def submit(item: WorkItem) -> Callable[[Hand], Any]:
            return lambda hand: hand.actor.run_item.remote(
                function, item.id, item.data, context, log_context, crew.encoder()
            )

        def following() -> Call | None:
            item = next(source, None)
            if item is None:
                if not self._again:
                    return None
                item = self._again.popleft()
            return Call(item, False, trusted, outer, wall_seconds, submit(item), item.memory_bytes)

        most = crew.size()
        self._attempts = drive(crew, following, min(window or most, most))

    def submit(self, item: WorkItem) -> None:
        """Put an item in (again), to be done after those of the iterable; before the iteration has ended."""
        self._again.append(item)

    def close(self) -> None:
        """Stop: the workers of items in flight are killed, nothing more is reported."""
        self._attempts.close()  # type: ignore[attr-defined]

    def __next__(self) -> Attempt:
        done = next(self._attempts)
        if not done.fault and done.reply.fatal is not None:
            self.close()
            raise done.reply.fatal
        return _attempt(done)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _pack(
    inputs: Mapping[str, Path | bytes | memoryview], hand: Hand
) -> tuple[dict[str, bytes | Path], dict[str, Any]]:
    """A job's inputs as they travel: small ones and paths that the worker can open itself, and object references."""
    import numpy as np
    import ray

    from cloudbaker.compute.ray_worker import INLINE_BYTES

    facts = hand.facts
    here = facts is not None and (facts.node, facts.uid) == (ray.get_runtime_context().get_node_id(), os.getuid())
    inline: dict[str, bytes | Path] = {}
    large: dict[str, Any] = {}
    for name, data in inputs.items():
        if isinstance(data, Path):
            if here:
                inline[name] = data.absolute()
            elif len(content := _read(data)) <= INLINE_BYTES:
                inline[name] = content
            else:
                large[name] = ray.put(np.frombuffer(content, np.uint8))
        elif len(view := memoryview(data).cast("B")) <= INLINE_BYTES:
            inline[name] = bytes(view)
        else:
            large[name] = ray.put(np.frombuffer(view, np.uint8))
    return inline, large


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceUnreadable(f"{path} can't be read: {error.strerror}", path=str(path)) from error


def _outcome(done: Done) -> Outcome:
    if done.fault:
        status = Status.WALL if done.fault == "timeout" else Status.CRASH
        error = done.detail if done.fault == "timeout" else f"its worker was lost: {done.detail}"
        return Outcome(status, error=error, wall_seconds=done.seconds, device=done.device, isolation=done.isolation)
    outcome: Outcome = done.reply[0]
    files = {**outcome.files, **{name: array.tobytes() for name, array in done.reply[1].items()}}
    said = outcome.value.get("device") if isinstance(outcome.value, Mapping) else None
    return replace(outcome, files=files, device=said if isinstance(said, str) else done.device)


def _attempt(done: Done) -> Attempt:
    item: WorkItem = done.call.key
    if not done.fault:
        row = done.reply
        status = AttemptStatus.OK if row.error is None else AttemptStatus.ERROR
        return Attempt(item, status, row.value, row.error, done.seconds, done.worker)
    if done.fault == "timeout":
        limit = SandboxLimit(
            f"not done after {done.call.wall_seconds:.0f} s: make the asset smaller, or raise the wall clock limit",
            limit="wall",
        )
        error = {**limit.to_json(), "type": "Timeout", "detail": done.detail}
        return Attempt(item, AttemptStatus.TIMEOUT, None, error, done.seconds, done.worker)
    lost = ComputeUnavailable("the worker was lost with this item: try it again, another takes its place")
    error = {**lost.to_json(), "type": "WorkerLost", "detail": done.detail}
    return Attempt(item, AttemptStatus.LOST, None, error, done.seconds, done.worker)


def _import_ray() -> Any:
    """Ray, told what it reads at import: no usage statistics, no runtime environment invented under ``uv run``."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    # Workers without the GPU tag shall not see the GPU. (Ray's old way; without a word from us it warns on each actor.)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    import ray

    return ray


def _join(
    address: str, num_cpus: int | None, num_gpus: int | None, log_to_driver: bool, options: CrewOptions | None
) -> Cluster:
    if num_cpus is not None or num_gpus is not None:
        raise UsageError("num_cpus and num_gpus size a local Ray: leave them out when you give an address")
    if "://" in address:
        raise UsageError(
            f"{address} is not an address of a Ray head: give host:port and run on a node of the cluster. Ray Client "
            "(ray://) would carry every byte of every asset through one proxy",
            address=address,
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"{address!r} is not an address of a Ray head: write host:port", address=address)
    try:  # ray.init would try for a minute and then end the process
        socket.create_connection((host.strip("[]"), int(port)), timeout=5.0).close()
        _init(address=address, log_to_driver=log_to_driver)
    except (OSError, RuntimeError, ValueError) as error:
        raise ComputeUnavailable(
            f"no Ray cluster answers at {address}: start it, correct CLOUDBAKER_RAY_ADDRESS, or leave that empty for a "
            "Ray of this machine",
            detail=f"{type(error).__name__}: {error}",
            address=address,
        ) from error
    return Cluster(address, options=options)


def _start(num_cpus: int | None, num_gpus: int | None, log_to_driver: bool, options: CrewOptions | None) -> Cluster:
    # Ray asks for a token by default. One per process, and none left in the home folder, where Ray would write one that
    # others can read. (The mode is Ray's to set: it has read RAY_AUTH_MODE at import.)
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # The sandbox holds each job's memory; Ray's monitor would kill a worker for what a neighbour on the machine takes.
    os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
    try:
        return _start_once(num_cpus, num_gpus, log_to_driver, options)
    except Exception as error:
        # On a machine under load one of Ray's own timeouts (20 to 30 s) may pass while it starts. Once more, then.
        log.warning("Ray did not start, trying once more", said=f"{type(error).__name__}: {error}"[:500])
    try:
        return _start_once(num_cpus, num_gpus, log_to_driver, options)
    except Exception as error:
        raise ComputeUnavailable(
            "Ray did not start on this machine: see that there is memory and room in the temporary folder, or bake "
            "single files without Ray",
            detail=f"{type(error).__name__}: {error}",
        ) from error


def _start_once(
    num_cpus: int | None, num_gpus: int | None, log_to_driver: bool, options: CrewOptions | None
) -> Cluster:
    session = _Session()
    try:
        context = _init(
            address="local",  # a bare ray.init() attaches to any cluster it finds on the machine
            _temp_dir=str(session.folder),
            include_dashboard=False,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=log_to_driver,
        )
    except BaseException:
        import ray

        with _sigterm_kept():
            ray.shutdown()
        session.remove()
        raise
    return Cluster(context.address_info["gcs_address"], session=session, options=options)


def _init(*, log_to_driver: bool, **arguments: Any) -> Any:
    import ray
    from ray._private import worker

    if not log_to_driver and hasattr(worker, "print_to_stdstream"):
        # The raylet's remarks ("A worker died …") are printed to stdout even so, into the JSON of `--json`. Whoever
        # waits for the worker is told by us.
        worker.print_to_stdstream = lambda data, **_: log.debug("ray", said=data.get("lines"))
    with _sigterm_kept():
        return ray.init(logging_level=logging.ERROR, log_to_driver=log_to_driver, **arguments)


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Put the SIGTERM handler back that Ray replaces in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


class _Session:
    """The folder of a local Ray's sockets and logs, locked while this process lives."""

    def __init__(self) -> None:
        root = Path(tempfile.gettempdir())
        if len(str(root)) > _LONGEST_SESSION_ROOT:
            root = Path("/tmp")
        self._sweep(root)
        self.folder = Path(tempfile.mkdtemp(prefix=_SESSION_PREFIX, dir=root))
        self._lock = os.open(self.folder / "lock", os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Delete the folder, with the logs in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    @staticmethod
    def _sweep(root: Path) -> None:
        """Remove folders whose process was killed: the kernel has dropped their locks."""
        for old in root.glob(f"{_SESSION_PREFIX}*"):
            with suppress(OSError):
                if old.lstat().st_uid != os.getuid():
                    continue
                with (old / "lock").open() as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(old, ignore_errors=True)
