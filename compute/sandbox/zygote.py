"""The fork server: a process that has Python and the codecs loaded, and forks a locked-down child for each job.

It reads no byte from outside. Its parent (`Sandbox`) sends one small message per job with two descriptors: the request
(function, parameters and inline inputs, sealed memory) and an unnamed file for the result, which is the only thing the
child can write to. So nothing a job does leaves a name behind, and nothing has to be cleaned up after it.

    parent ──socket──▶ zygote ──fork──▶ child: open inputs, import │ confine │ run, write the result
           ◀──exit, use── (wait4, wall clock, memory) ◀──exit──┘

It ends with its parent, however that ends (closed socket, or the parent's pidfd), and its children end with it
(PR_SET_PDEATHSIG), however it ends.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import gc
import importlib
import io
import json
import mmap
import os
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NoReturn

from cloudbaker.compute.job import JobResult, Limits
from cloudbaker.compute.sandbox import proc
from cloudbaker.compute.sandbox.confine import confine, die_with
from cloudbaker.compute.sandbox.libc import LIBC
from cloudbaker.compute.sandbox.reach import SYSTEM, hold_open, python_folders, readable_names

WARM = (
    *("numpy", "numpy.ma", "PIL.Image", "PIL.PngImagePlugin", "PIL.JpegImagePlugin", "PIL.WebPImagePlugin"),
    *("DracoPy", "meshoptimizer", "asyncio", "zipfile"),
)
"""Modules loaded at the start; one that is missing is left out. Job modules are loaded when first asked for."""
TICK = 0.1
"""Seconds between two looks at the memory and threads of the children."""
MAX_THREADS = 128
MAX_LOG = 16 << 10
"""Bytes of a job's stdout and stderr that are reported: the last of the 64 KB that its pipe held. As JSON they can be
six times as many, and a message on the socket has room for about 200 KB."""
MAX_MESSAGE = 128 << 10
MAX_VALUE = 16 << 20

EXIT_ERROR, EXIT_MEMORY, EXIT_FILE_SIZE, EXIT_UNCONFINED, EXIT_NO_SPACE = 10, 11, 12, 13, 14
"""Exit statuses of a child that ended in good order without a result."""

CONFINED = b"\0confined\n"
"""What a child prints first once it is locked down. No job can take it back, and so pass for one that never was."""

_PR_SET_CHILD_SUBREAPER = 36


class _Log(io.TextIOBase):
    """stdout and stderr of a job: what no longer fits into the pipe is dropped, so that nobody has to empty it."""

    encoding = "utf-8"

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            os.write(2, text.encode("utf-8", "backslashreplace"))
        return len(text)


_MAPS: list[mmap.mmap] = []
"""Keeps the maps of a child's inputs to its end: each holds a copy of its descriptor (Python 3.13 can do without),
which is closed behind its back, and which it would close once more when it is freed."""

# --- the child ---------------------------------------------------------------------------------------------------


def _map(fd: int) -> memoryview:
    """The bytes of an open file, read-only; a private mapping, because a sealed memfd refuses a shared one."""
    size = os.fstat(fd).st_size
    if size == 0:
        return memoryview(b"")
    mapped = mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
    _MAPS.append(mapped)
    return memoryview(mapped)


def _inputs(listed: list[list[Any]], request: memoryview) -> dict[str, memoryview]:
    inputs = {}
    for name, path, start, size in listed:
        if path is None:
            inputs[name] = request[start : start + size]
        else:
            # Only for reading: the child can't change a blob of the vault through this even where it has the same
            # user. Not blocking: a FIFO in place of the file would hang us.
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            inputs[name] = _map(fd)
            os.close(fd)
    return inputs


def write_result(fd: int, head: dict[str, Any], files: Mapping[str, bytes | bytearray | memoryview]) -> None:
    """Layout of a result: 8 bytes little-endian length, that much JSON, then the files in the order of its list."""
    parts = [(name, memoryview(data).cast("B")) for name, data in files.items()]
    text = json.dumps({**head, "files": [[name, len(part)] for name, part in parts]}, ensure_ascii=False).encode()
    if len(text) > MAX_VALUE:
        raise ValueError(f"the value of a job may have {MAX_VALUE} bytes as JSON, not {len(text)}: return it as a file")
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)
    with os.fdopen(fd, "wb", buffering=0, closefd=False) as out:
        for part in (memoryview(struct.pack("<Q", len(text)) + text), *(part for _, part in parts)):
            done = 0
            while done < len(part):  # Linux writes at most 2 GB at a time
                done += out.write(part[done:])


def _describe(error: BaseException) -> str:
    """``ValueError: …`` in the first line, for people; the stack below it, for the log."""
    with contextlib.suppress(Exception):
        first = " ".join("".join(traceback.format_exception_only(error)).split())
        stack = readable_names("".join(traceback.format_tb(error.__traceback__, -20)))
        return f"{first[:2000]}\n{stack}".strip()
    return type(error).__name__


def _fail(fd: int, code: int, error: str) -> NoReturn:
    with contextlib.suppress(BaseException):
        write_result(fd, {"error": error}, {})
    os._exit(code)


def _code(error: BaseException) -> int:
    if isinstance(error, MemoryError):
        return EXIT_MEMORY
    if isinstance(error, OSError):
        # Python ignores SIGXFSZ, so the limit shows as an error of the write.
        codes = {errno.ENOMEM: EXIT_MEMORY, errno.EFBIG: EXIT_FILE_SIZE, errno.ENOSPC: EXIT_NO_SPACE}
        return codes.get(error.errno or 0, EXIT_ERROR)
    return EXIT_ERROR


def _close_all_but(*kept: int) -> None:
    for after, before in pairwise(sorted({2, *kept, 1 << 20})):
        os.closerange(after + 1, before)


def _child(zygote: int, message: dict[str, Any], request: int, result: int, log: int, held: list[int]) -> NoReturn:
    try:
        die_with(zygote)
        os.setsid()
        os.dup2(log, 1)
        log = os.dup2(log, 2)
        sys.stdout = sys.stderr = _Log()
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
            score.write("1000")  # when memory runs out, the kernel takes this process and not the database
        whole = _map(request)
        (length,) = struct.unpack_from("<Q", whole)
        call = json.loads(bytes(whole[8 : 8 + length]))
        inputs = _inputs(call["inputs"], whole[8 + length :])
        _close_all_but(result, *held)
        module, _, name = str(call["function"]).partition(":")
        function: Callable[..., JobResult] = getattr(importlib.import_module(module), name)
    except BaseException as error:
        _fail(result, _code(error), _describe(error))
    try:
        confine(
            limits=Limits(**message["limits"]),
            parent=zygote,
            read=message["read"],
            use_landlock=message["landlock"],
            use_seccomp=message["seccomp"],
        )
        os.write(log, CONFINED)
    except BaseException as error:
        _fail(result, EXIT_UNCONFINED, _describe(error))
    code = 0
    try:
        done = function(inputs, call["params"])
        if not isinstance(done, JobResult):
            raise TypeError(f"{call['function']} must return a JobResult, not {type(done).__name__}")
        write_result(result, {"value": done.value}, done.files)
    except BaseException as error:
        code, text = _code(error), _describe(error)
    if code:
        _fail(result, code, text)
    os._exit(0)


# --- the server --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Running:
    id: int
    pid: int
    pidfd: int
    log: int
    started: float
    deadline: float
    memory: int
    """What it may hold beside what it holds at the fork."""
    oom: int
    killed: str = ""
    peak: int = field(default=0)


class _Zygote:
    def __init__(self, sock: socket.socket, parent: int) -> None:
        self.sock = sock
        self.parent = os.pidfd_open(parent)
        if os.getppid() != parent:
            raise SystemExit("the parent is gone")
        self.running: dict[int, _Running] = {}
        # As any other user we stay that user, who can walk to Python.
        folders = python_folders()
        self.held = hold_open(folders) if os.geteuid() == 0 else []
        self.read = [*(f"/proc/self/fd/{fd}" for fd in self.held), *(() if self.held else folders), *SYSTEM]

    def serve(self) -> None:
        """Serve until the parent is gone."""
        self.send({"ready": os.getpid()})
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        poll.register(self.parent, select.POLLIN)
        looked = 0.0
        try:
            while True:
                ready = {fd for fd, _ in poll.poll(self.patience())}
                if self.parent in ready:
                    return
                for job in list(self.running.values()):
                    if job.pidfd in ready:
                        poll.unregister(job.pidfd)
                        self.finish(job)
                if self.sock.fileno() in ready and not self.receive(poll):
                    return
                if self.running and time.monotonic() - looked >= min(TICK, (self.patience() or 0.0) / 1000):
                    self.watch()
                    looked = time.monotonic()
        finally:
            for job in self.running.values():
                self.kill(job, "closed")
            proc.reap_strays(set())

    def patience(self) -> float | None:
        """Milliseconds until something has to be looked at though nothing happened."""
        if not self.running:
            return None
        nearest = min(job.deadline for job in self.running.values()) - time.monotonic()
        return 1000 * max(0.001, min(TICK, nearest))

    def send(self, message: dict[str, Any]) -> None:
        self.sock.send(json.dumps(message).encode())

    def receive(self, poll: select.poll) -> bool:
        """Take one message, a job or a cancellation; False when there will be no more."""
        data, fds, _, _ = socket.recv_fds(self.sock, MAX_MESSAGE, 2)
        if not data:
            return False
        message = json.loads(data)
        if "cancel" in message:
            if job := self.running.get(message["cancel"]):
                self.kill(job, "cancelled")
            return True
        try:
            if len(fds) != 2:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            job = self.start(message, *fds)
        except OSError as error:  # no process, no descriptors: this job's misfortune, not its neighbours'
            self.send({"id": message["id"], "lost": f"the sandbox could not start a process: {error}"})
            return True
        finally:
            for fd in fds:
                os.close(fd)
        self.running[job.id] = job
        poll.register(job.pidfd, select.POLLIN)
        return True

    def start(self, message: dict[str, Any], request: int, result: int) -> _Running:
        # Loaded once, here, and not again in each child. What is wrong with it shows in the child, as the job's error.
        # Its `warm`, where it has one, loads what a child could not: a compiled kernel.
        if message["module"] not in sys.modules:
            with contextlib.suppress(Exception):
                module = importlib.import_module(message["module"])
                getattr(module, "warm", lambda: None)()
            gc.freeze()
        message["read"] = self.read
        log, log_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(log_end, False)
        me, oom, started = os.getpid(), proc.oom_kills(), time.monotonic()
        try:
            pid = os.fork()
            if pid == 0:
                try:
                    _child(me, message, request, result, log_end, self.held)
                finally:
                    os._exit(1)  # whatever happens, there must not be a second server
        except OSError:
            os.close(log)
            raise
        finally:
            os.close(log_end)
        limits = Limits(**message["limits"])
        return _Running(
            id=message["id"],
            pid=pid,
            pidfd=os.pidfd_open(pid),
            log=log,
            started=started,
            deadline=started + limits.wall_seconds,
            memory=limits.memory_bytes + message["inline"] + proc.use(me).memory,
            oom=oom,
        )

    def kill(self, job: _Running, why: str) -> None:
        """SIGKILL to the job and its whole session; its end is then reported as `why`."""
        job.killed = job.killed or why
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(job.pidfd, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(job.pid, signal.SIGKILL)

    def watch(self) -> None:
        """The wall clock; and memory and threads, where the kernel's own limits have gaps (shared memory, root)."""
        now = time.monotonic()
        for job in self.running.values():
            if job.killed:
                continue
            if now > job.deadline:
                self.kill(job, "wall")
                continue
            use = proc.use(job.pid)
            if use.memory > job.memory:
                self.kill(job, "memory")
            elif use.threads > MAX_THREADS:
                self.kill(job, "threads")

    def finish(self, job: _Running) -> None:
        """Reap a dead job, and what it left behind, and report."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(job.pid, signal.SIGKILL)  # before its id is free for somebody else
        _, status, usage = os.wait4(job.pid, 0)
        wall = time.monotonic() - job.started
        del self.running[job.id]
        proc.reap_strays({other.pid for other in self.running.values()})
        os.set_blocking(job.log, False)
        log = b""
        with contextlib.suppress(BlockingIOError):
            log = os.read(job.log, 64 << 10)
        os.close(job.log)
        os.close(job.pidfd)
        code = os.waitstatus_to_exitcode(status)
        self.send(
            {
                "id": job.id,
                "code": code,
                "killed": job.killed,
                "confined": log.startswith(CONFINED),
                "oom": proc.oom_kills() > job.oom,
                "wall": wall,
                "cpu": usage.ru_utime + usage.ru_stime,
                "peak": usage.ru_maxrss << 10,
                "log": log.removeprefix(CONFINED)[-MAX_LOG:].decode("utf-8", "replace"),
            }
        )


def warm() -> None:
    """Load `WARM`. No job may start before: what a child finds loaded must not depend on when it was forked."""
    for name in WARM:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if image := sys.modules.get("PIL.Image"):
        image.preinit()
    gc.collect()
    gc.freeze()  # a collection in a child would otherwise write to, and so copy, every page of this process


def main() -> None:
    """Entry point: ``python -c 'from … import main; main()' SOCKET_FD PARENT_PID``."""
    fd, parent = int(sys.argv[1]), int(sys.argv[2])
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # a thread of the parent may have blocked SIGXCPU, say
    LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    faulthandler.enable(file=2)
    zygote = _Zygote(sock, parent)
    warm()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        zygote.serve()
