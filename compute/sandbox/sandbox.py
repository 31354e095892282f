"""The parent's side of the sandbox: `Sandbox` runs jobs in locked-down children of a fork server (see `zygote`)."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from cloudbaker.compute.job import Job, Outcome, Status
from cloudbaker.compute.sandbox.probe import Isolation, kernel
from cloudbaker.compute.sandbox.zygote import (
    EXIT_ERROR,
    EXIT_FILE_SIZE,
    EXIT_MEMORY,
    EXIT_NO_SPACE,
    EXIT_UNCONFINED,
    MAX_MESSAGE,
    MAX_THREADS,
    MAX_VALUE,
)
from cloudbaker.errors import IsolationUnavailable, SandboxCrash, SourceUnreadable, StoreError, UsageError

_PREFIX = "cloudbaker.compute."
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", re.ASCII)
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_MAX_FILES = 10_000
_START_SECONDS = 60.0
_GRACE_SECONDS = 20.0
"""How much longer than a job's wall clock its end may take to arrive before the fork server itself is given up."""
_PASSED = ("HOME", "LD_LIBRARY_PATH", "CLOUDBAKER_NPM_PREFIX", "CLOUDBAKER_KERNELS_PREFIX")
"""Variables that Python needs to find itself and the user's packages, and jobs theirs; none holds a secret."""
_LOST: dict[str, Any] = {"lost": "the sandbox's fork server ended while the job was running"}
"""In place of a report, where the fork server died."""
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class _Server:
    """One fork server process, and the thread that reads what it reports."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock = ours
        self.pending: dict[int, Future[dict[str, Any]]] = {}
        self.lock = threading.Lock()
        self.alive = True
        self.ready: Future[None] = Future()
        self.stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        with theirs:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-c", "from cloudbaker.compute.sandbox.zygote import main; main()"),
                    *(str(theirs.fileno()), str(os.getpid())),
                ],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=self.stderr,
                stderr=self.stderr,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C at the terminal is the parent's business
                cwd="/",
            )
        self.thread = threading.Thread(target=self._read, name="cloudbaker-sandbox", daemon=True)
        self.thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := self.sock.recv(1 << 20):
                message = json.loads(data)
                if "ready" in message:
                    self.ready.set_result(None)
                    continue
                with self.lock:
                    future = self.pending.pop(message["id"], None)
                if future is not None:
                    future.set_result(message)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_GRACE_SECONDS)
        with self.lock:
            self.alive = False
            lost, self.pending = self.pending, {}
        if not self.ready.done() and (self.process.returncode or 0) < 0:
            self.ready.set_result(None)  # killed while it started: that is like any other death
        if not self.ready.done():
            self.ready.set_exception(SandboxCrash("the sandbox's fork server did not start", detail=self.tail()))
        for future in lost.values():
            future.set_result(_LOST)

    def tail(self) -> str:
        """The end of what the server printed."""
        with contextlib.suppress(OSError, ValueError):
            self.stderr.seek(0)
            return self.stderr.read()[-4000:].decode("utf-8", "replace")
        return ""

    def send(self, id_: int, message: dict[str, Any], fds: list[int]) -> Future[dict[str, Any]]:
        """Start a job; the future gives the server's report, or `_LOST` where the server dies over it.

        Raises OSError where the server is dead already and knows nothing of the job.
        """
        future: Future[dict[str, Any]] = Future()
        data = json.dumps({"id": id_, **message}).encode()
        if len(data) > MAX_MESSAGE:
            raise UsageError("the name of the job function is too long")
        with self.lock:
            self.pending[id_] = future
        try:
            socket.send_fds(self.sock, [data], fds)
        except OSError:
            with self.lock:
                self.pending.pop(id_, None)
            raise
        return future

    def cancel(self, id_: int) -> None:
        """Kill a job; its report still comes."""
        with contextlib.suppress(OSError):
            self.sock.send(json.dumps({"cancel": id_}).encode())

    def stop(self) -> None:
        """End the server and its children; waits until they are gone."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        try:
            self.process.wait(_GRACE_SECONDS / 4)
        except subprocess.TimeoutExpired:
            self.kill()
        if self.thread is not threading.current_thread():
            self.thread.join(_GRACE_SECONDS)
        self.sock.close()
        self.stderr.close()

    def kill(self) -> None:
        """End it the hard way; its children die with it."""
        with contextlib.suppress(OSError):
            self.process.send_signal(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_GRACE_SECONDS)
        if self.thread is not threading.current_thread():
            self.thread.join(_GRACE_SECONDS)  # it says that we are no longer alive


def _environment() -> dict[str, str]:
    """What the fork server, and so every job, sees of the environment: nothing of ours, above all no credentials.

    A fixed hash seed and one thread per BLAS call make the same bytes come out everywhere; parallelism is per job. No
    GPU: CUDA does not survive a fork, and its driver is no place for bytes from outside.
    """
    return {
        "PATH": "/usr/bin:/bin",
        **{name: os.environ[name] for name in _PASSED if name in os.environ},
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p.startswith("/")),
        "PYTHONHASHSEED": "0",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }


@dataclass(slots=True)
class _Ticket:
    """A job under way."""

    id: int
    job: Job
    server: _Server
    future: Future[dict[str, Any]]
    result: IO[bytes]
    deadline: float
    """When to give the fork server up, by `time.monotonic`."""


class _Servers:
    """The current fork server, held apart from `Sandbox` so that a forgotten sandbox can still be finalised."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.current: _Server | None = None
        self.closed = False
        self.pid = os.getpid()

    def get(self) -> _Server:
        """The running server; a new one where there is none or the last has died."""
        with self.lock:
            if self.closed:
                raise UsageError("this sandbox is closed: make a new one")
            if self.pid != os.getpid():
                raise UsageError("a sandbox can't be used after a fork: make one in the new process")
            if self.current is not None and not self.current.alive:
                self.current.stop()
                self.current = None
            if self.current is None:
                self.current = _Server()
            return self.current

    def stop(self) -> None:
        with self.lock:
            self.closed = True
            server, self.current = self.current, None
        if server is not None and self.pid == os.getpid():
            server.stop()


class Sandbox:
    """Runs jobs on untrusted bytes, each in a process of its own that can do nothing but compute (a `Workbench`).

        with Sandbox() as sandbox:
            outcome = sandbox.run(Job("cloudbaker.compute.gltf.validate:validate_job", {"model.glb": path}))

    `parallel`: jobs at a time; default: one per CPU we may use. `trusted`: run even where the kernel can't isolate,
    because the content is the owner's own. `outer`: name of a sandbox around this whole machine that an operator
    vouches for. Neither weakens anything where the kernel can. Thread-safe.

    Raises `IsolationUnavailable` at once where untrusted work can't be isolated. The fork server starts in the
    background (0.3 s); `close` (or the end of the ``with``, or of this process) leaves nothing behind.
    """

    name = "local"

    def __init__(
        self,
        *,
        parallel: int | None = None,
        trusted: bool = False,
        outer: str = "",
        isolation: Isolation | None = None,
        allow: Sequence[str] = (),
    ) -> None:
        found = isolation or kernel()
        self.isolation = found.require(trusted=trusted, outer=outer)
        """What holds a job, as it goes into `Outcome.isolation`."""
        self._found = found
        self._allow = (_PREFIX, *allow)
        self.parallel = parallel or len(os.sched_getaffinity(0))
        self._slots = threading.BoundedSemaphore(self.parallel)
        self._ids = itertools.count(1)
        self._servers = _Servers()
        weakref.finalize(self, self._servers.stop)
        self._servers.get()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill what still runs (those calls end with `Status.CRASH`), end the fork server. May be called again."""
        self._servers.stop()

    @property
    def server_pid(self) -> int:
        """Process id of the fork server."""
        return self._servers.get().process.pid

    def wait_ready(self, timeout: float = _START_SECONDS) -> None:
        """Wait until the fork server has loaded everything. `run` does not need this; benchmarks do."""
        self._servers.get().ready.result(timeout)

    def run(self, job: Job) -> Outcome:
        """Run one job to its end, waiting for a free slot first.

        What the content does ends in the outcome, never in an exception. Raises `UsageError` (a function that is no
        job), `SourceUnreadable` (an input path), `IsolationUnavailable`, `SandboxCrash` (the fork server does not
        start), `StoreError` (no space for the result). On KeyboardInterrupt the job is killed before that is passed on.
        """
        self._slots.acquire()
        try:
            ticket = self._start(job)
        except BaseException:
            self._slots.release()
            raise
        return self._finish(ticket)

    def run_all(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run several, `parallel` at a time; outcomes in the order of the jobs. Raises as `run`, the rest killed."""
        outcomes: dict[int, Outcome] = {}
        flying: dict[Future[dict[str, Any]], tuple[int, _Ticket]] = {}

        def land() -> None:
            done, _ = wait(flying, timeout=1.0, return_when=FIRST_COMPLETED)
            overdue = [future for future, (_, ticket) in flying.items() if time.monotonic() > ticket.deadline]
            for future in {*done, *overdue}:
                index, ticket = flying.pop(future)
                outcomes[index] = self._finish(ticket)

        try:
            for index, job in enumerate(jobs):
                while not self._slots.acquire(blocking=not flying):
                    land()
                try:
                    ticket = self._start(job)
                except BaseException:
                    self._slots.release()
                    raise
                flying[ticket.future] = (index, ticket)
            while flying:
                land()
        except BaseException:
            for _, ticket in flying.values():
                ticket.server.cancel(ticket.id)
            for _, ticket in flying.values():
                with contextlib.suppress(Exception):  # the first is what is told
                    self._finish(ticket)
            raise
        return [outcomes[index] for index in range(len(jobs))]

    def _start(self, job: Job) -> _Ticket:
        self._check(job)
        with contextlib.ExitStack() as stack:
            result = stack.enter_context(tempfile.TemporaryFile())
            request, inline = _request(job)
            stack.callback(os.close, request)
            id_ = next(self._ids)
            message = {
                "module": job.function.partition(":")[0],
                "limits": asdict(job.limits),
                "inline": inline,
                "landlock": self._found.landlock_abi >= 1,
                "seccomp": self._found.seccomp,
            }
            for _ in range(3):
                server = self._servers.get()
                try:
                    future = server.send(id_, message, [request, result.fileno()])
                    break
                except OSError:  # it died since the last job
                    server.kill()
            else:
                raise SandboxCrash("the sandbox's fork server dies at once, again and again")
            os.close(request)
            stack.pop_all()
        patience = job.limits.wall_seconds + _GRACE_SECONDS + (0.0 if server.ready.done() else _START_SECONDS)
        return _Ticket(id_, job, server, future, result, time.monotonic() + patience)

    def _check(self, job: Job) -> None:
        if not _FUNCTION.fullmatch(job.function) or not job.function.startswith(self._allow):
            raise UsageError(
                f"{job.function!r} is not a job function: it must be named module:function, in {_PREFIX}*",
                function=job.function,
            )
        for name, value in asdict(job.limits).items():
            if not value > 0:  # to the kernel, -1 is no limit at all
                raise UsageError(f"{name} of a job must be positive, not {value}", **{name: value})

    def _finish(self, ticket: _Ticket) -> Outcome:
        """Wait for the end of a job and read its result; the slot is free afterwards in any case."""
        try:
            return self._wait(ticket)
        except BaseException:
            ticket.server.cancel(ticket.id)
            with contextlib.suppress(TimeoutError):
                ticket.future.result(_GRACE_SECONDS)
            raise
        finally:
            ticket.result.close()
            self._slots.release()

    def _wait(self, ticket: _Ticket) -> Outcome:
        ticket.server.ready.result(_START_SECONDS)
        try:
            report = ticket.future.result(max(0.0, ticket.deadline - time.monotonic()))
        except TimeoutError:
            ticket.server.kill()
            report = _LOST
        if report.get("code") == EXIT_UNCONFINED and not report["confined"]:
            _, _, detail = _read_result(ticket.result, ticket.job.limits.file_bytes)
            raise IsolationUnavailable(
                "the kernel refused to isolate a job; `cloudbaker doctor` says what it offers", detail=detail
            )
        if report.get("code") == EXIT_NO_SPACE and not report["killed"]:
            raise StoreError(
                f"no space is left in {tempfile.gettempdir()} for the results of a job: free some, or set TMPDIR to a "
                "folder with more room"
            )
        return _outcome(ticket.job, report, ticket.result, self.isolation)


def _request(job: Job) -> tuple[int, int]:
    """The request as a sealed memfd, and the bytes of inline inputs in it. Raises `SourceUnreadable`, `UsageError`.

    Layout: 8 bytes little-endian length, that much JSON, then the inline inputs one after another.
    """
    listed: list[tuple[str, str | None, int, int]] = []
    blobs: list[memoryview] = []
    start = 0
    for name, data in job.inputs.items():
        if isinstance(data, Path):
            _check_readable(data)
            listed.append((name, str(data.absolute()), 0, 0))
        else:
            blob = memoryview(data).cast("B")
            listed.append((name, None, start, len(blob)))
            blobs.append(blob)
            start += len(blob)
    try:
        text = json.dumps({"function": job.function, "params": job.params, "inputs": listed}).encode()
    except (TypeError, ValueError) as error:
        raise UsageError(f"the parameters of {job.function} are not JSON: {error}") from error
    fd = os.memfd_create("cloudbaker-request", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(fd, "wb", buffering=0, closefd=False) as out:
            for part in (memoryview(struct.pack("<Q", len(text)) + text), *blobs):
                done = 0
                while done < len(part):  # Linux writes at most 2 GB at a time
                    done += out.write(part[done:])
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd, start


def _check_readable(path: Path) -> None:
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        raise SourceUnreadable(f"{path} can't be read: {error.strerror}", path=str(path)) from error
    if not regular:
        raise SourceUnreadable(f"{path} is not a regular file", path=str(path))
    if not os.access(path, os.R_OK):
        raise SourceUnreadable(f"{path} can't be read: check its permissions", path=str(path))


def _read_result(file: IO[bytes], limit: int) -> tuple[Any, dict[str, bytes], str]:
    """Value, files and error text from a result that may be forged. Raises ValueError on anything unexpected.

    The child is dead, and the file has no name: nothing can change while we read.
    """
    size = os.fstat(file.fileno()).st_size
    if size > limit:
        raise ValueError(f"it has {size} bytes, more than the limit of {limit}")
    file.seek(0)
    head = file.read(8)
    length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
    if not 0 < length <= min(MAX_VALUE, size - 8):
        raise ValueError("it is incomplete")
    document = json.loads(file.read(length))
    if not isinstance(document, dict) or not isinstance(document.get("files"), list):
        raise ValueError("it has no list of files")
    listed = document["files"]
    if len(listed) > _MAX_FILES:
        raise ValueError(f"it has {len(listed)} files")
    total = 8 + length
    for entry in listed:
        match entry:
            case [str(name), int(count)] if _FILE_NAME.fullmatch(name) and not isinstance(count, bool) and count >= 0:
                total += count
            case _:
                raise ValueError("it has a file with a name or size that is not allowed")
    if total != size:
        raise ValueError("its sizes do not add up")
    files = {name: file.read(count) for name, count in listed}
    return document.get("value"), files, str(document.get("error", ""))


def _outcome(job: Job, report: dict[str, Any], file: IO[bytes], isolation: str) -> Outcome:
    """Which limit it was, or the result."""
    limits = job.limits

    def outcome(status: Status, error: str = "", value: Any = None, files: dict[str, bytes] | None = None) -> Outcome:
        return Outcome(
            status,
            value,
            files or {},
            error,
            wall_seconds=round(report.get("wall", 0.0), 6),
            cpu_seconds=round(report.get("cpu", 0.0), 6),
            peak_bytes=report.get("peak", 0),
            isolation=isolation,
        )

    if "lost" in report:
        return outcome(Status.CRASH, report["lost"])
    code, log = report["code"], report["log"]
    printed = f"\n--- printed by the job ---\n{log}" if log else ""
    memory = f"more than {limits.memory_bytes / (1 << 20):.0f} MiB of memory"
    file_size = f"more than {limits.file_bytes / (1 << 20):.0f} MiB of results"
    match report["killed"]:
        case "wall":
            return outcome(Status.WALL, f"killed after {limits.wall_seconds:g} s")
        case "memory":
            return outcome(Status.MEMORY, memory)
        case "threads":
            return outcome(Status.CRASH, f"killed: more than {MAX_THREADS} threads{printed}")
        case "cancelled":
            return outcome(Status.CRASH, "killed: the job was cancelled")
    # The kernel counts by its own clock: SIGXCPU may come at 0.9 of what wait4 then tells.
    if code == -signal.SIGXCPU or (code == -signal.SIGKILL and report["cpu"] >= limits.cpu_seconds):
        return outcome(Status.CPU, f"more than {limits.cpu_seconds} s of CPU time")
    if code in (-signal.SIGXFSZ, EXIT_FILE_SIZE):
        return outcome(Status.FILE_SIZE, file_size)
    if code == EXIT_MEMORY or (code == -signal.SIGKILL and report["oom"]) or (code < 0 and _starved(log)):
        return outcome(Status.MEMORY, memory)
    if code < 0:
        return outcome(Status.CRASH, f"died by {_signal_name(-code)}{printed}")
    try:
        value, files, error = _read_result(file, limits.file_bytes)
    except (ValueError, RecursionError) as bad:
        return outcome(Status.CRASH, f"exit status {code} without a valid result: {bad}{printed}")
    if code == 0:
        return outcome(Status.OK, "", value, files)
    if code == EXIT_ERROR and error:
        return outcome(Status.ERROR, error + printed)
    return outcome(Status.CRASH, f"exit status {code}{printed}")


def _starved(log: str) -> bool:
    """Whether a native library says that it died for want of memory, which it does by abort() or a trap."""
    return any(
        text in log for text in ("std::bad_alloc", "JavaScript heap out of memory", "Fatal process out of memory")
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
