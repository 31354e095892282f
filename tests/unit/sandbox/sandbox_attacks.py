"""Jobs that attack their sandbox or run into its limits. Each tells what it could do; the tests say what it may."""

# ruff: noqa: PTH101, PTH102, PTH104, PTH108, PTH109, PTH115, PTH208, PTH211

from __future__ import annotations

import ctypes
import fcntl
import importlib
import json
import mmap
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cloudbaker.compute.job import Inputs, JobResult, Params

LIBC = ctypes.CDLL(None, use_errno=True)


def tried(attempt: Callable[[], Any]) -> str:
    """Name of the error that an attempt ended in, or what it gave."""
    try:
        return f"done: {attempt()!r:.80}"
    except BaseException as error:
        return type(error).__name__


def called(number: int, *arguments: Any) -> str:
    """A raw system call: its error's name, or its result."""
    result = LIBC.syscall(ctypes.c_long(number), *arguments)
    return os.strerror(ctypes.get_errno()) if result == -1 else f"done: {result}"


def noop(inputs: Inputs, params: Params) -> JobResult:
    return JobResult("ok")


def echo(inputs: Inputs, params: Params) -> JobResult:
    return JobResult(dict(params), {name: bytes(data) for name, data in inputs.items()})


def late(inputs: Inputs, params: Params) -> JobResult:
    """Import what nothing has imported yet: of the standard library, a package, ours; and a codec."""
    names = ["colorsys", "numpy.f2py.symbolic", "cloudbaker.compute.gltf.glb"]
    already = [name for name in names if name in sys.modules]
    for name in names:
        importlib.import_module(name)
    return JobResult({"already": already, "codec": "å".encode("cp500").hex()})


def clock(inputs: Inputs, params: Params) -> JobResult:
    started = time.monotonic()
    time.sleep(params["seconds"])
    return JobResult([started, time.monotonic(), os.getpid()])


# --- what it may not do ------------------------------------------------------------------------------------------


def network(inputs: Inputs, params: Params) -> JobResult:
    ours, theirs = socket.socketpair()
    return JobResult(
        {
            "tcp": tried(lambda: socket.create_connection(("127.0.0.1", params["port"]), 2)),
            "udp": tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
            "tcp6": tried(lambda: socket.socket(socket.AF_INET6)),
            "unix": tried(lambda: socket.socket(socket.AF_UNIX)),
            "netlink": tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
            "vsock": tried(lambda: socket.socket(40)),
            "lookup": tried(lambda: socket.getaddrinfo("localhost", 80)),
            "to an address": tried(lambda: ours.sendto(b"x", "\0abstract")),
            "descriptors": tried(lambda: socket.send_fds(ours, [b"x"], [0])),
            "own pair": tried(lambda: (ours.send(b"hello"), theirs.recv(5))),
        }
    )


def processes(inputs: Inputs, params: Params) -> JobResult:
    return JobResult(
        {
            "fork": tried(os.fork),
            "exec": tried(lambda: os.execv("/bin/true", ["true"])),
            "spawn": tried(lambda: os.posix_spawn("/bin/true", ["true"], {})),
            "subprocess": tried(lambda: subprocess.run(["/bin/true"], check=True)),
            "system": str(os.system("exit 0")),
            "forkpty": tried(os.forkpty),
            "setsid": tried(os.setsid),
            "setpgid": tried(lambda: os.setpgid(0, 0)),
            "threads": tried(_thread),
        }
    )


def _thread() -> str:
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append("hello"))
    thread.start()
    thread.join()
    return said[0]


def kernel(inputs: Inputs, params: Params) -> JobResult:
    numbers = {
        "ptrace": 101, "mount": 165, "unshare": 272, "bpf": 321, "userfaultfd": 323, "perf_event_open": 298,
        "keyctl": 250, "io_uring_setup": 425, "process_vm_readv": 310, "memfd_create": 319, "setuid": 105,
        "chmod": 90, "truncate": 76, "openat2": 437, "pidfd_open": 434, "name_to_handle_at": 303, "mknod": 133,
        "symlink": 88, "link": 86, "shmget": 29, "mq_open": 240, "inotify_init": 253, "setxattr": 188,
        "sched_setscheduler": 144, "landlock_restrict_self": 446, "seccomp": 317, "capset": 126, "chroot": 161,
    }  # fmt: skip
    return JobResult(
        {
            **{name: called(number, None, None, None, None) for name, number in numbers.items()},
            "clone3": called(435, None, 0),
            "from the future": called(1000),
            "raise the limits": tried(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))),
        }
    )


def files(inputs: Inputs, params: Params) -> JobResult:
    victim = params["victim"]
    secret = Path(params["secret"])

    def write(path: str, flags: int = os.O_WRONLY) -> Callable[[], int]:
        return lambda: os.write(os.open(path, flags, 0o666), b"owned")

    return JobResult(
        {
            "read shadow": tried(lambda: Path("/etc/shadow").read_text()),
            "read passwd": tried(lambda: Path("/etc/passwd").read_text()),
            "list home": tried(lambda: list(Path(params["home"]).iterdir())),
            "list root": tried(lambda: list(Path("/").iterdir())),
            "list tmp": tried(lambda: os.listdir(secret.parent)),
            "read a world-readable file": tried(secret.read_text),
            "write a world-writable file": tried(write(victim)),
            "truncate by reading": tried(lambda: os.open(victim, os.O_RDONLY | os.O_TRUNC)),
            "truncate": tried(lambda: os.truncate(victim, 0)),
            "create": tried(write(f"{secret.parent}/new", os.O_WRONLY | os.O_CREAT)),
            "create unnamed": tried(write(str(secret.parent), os.O_RDWR | os.O_TMPFILE)),
            "make a folder": tried(lambda: os.mkdir(f"{secret.parent}/folder")),
            "link": tried(lambda: os.symlink("/etc/shadow", f"{secret.parent}/link")),
            "remove": tried(lambda: os.unlink(victim)),
            "rename": tried(lambda: os.rename(victim, f"{victim}.old")),
            "chmod": tried(lambda: os.chmod(victim, 0)),
            "chown": tried(lambda: os.chown(victim, os.getuid(), os.getgid())),
            "touch": tried(lambda: os.utime(victim)),
            "shared memory": tried(write("/dev/shm/cloudbaker-test", os.O_RDWR | os.O_CREAT)),
            "parent's environment": tried(lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes()),
            "own memory": tried(lambda: open("/proc/self/mem", "rb+")),
            "a disk": tried(lambda: os.open("/dev/vda", os.O_RDONLY)),
            "a terminal": tried(lambda: os.open("/dev/tty", os.O_RDWR)),
            "/dev/null": tried(write("/dev/null")),
            "urandom": tried(lambda: len(os.urandom(8))),
        }
    )


def signals(inputs: Inputs, params: Params) -> JobResult:
    parent = os.getppid()
    return JobResult(
        {
            "kill the fork server": tried(lambda: os.kill(parent, signal.SIGKILL)),
            "probe the caller": tried(lambda: os.kill(params["caller"], 0)),
            "kill all": tried(lambda: os.kill(-1, signal.SIGKILL)),
            "kill the group": tried(lambda: os.kill(0, signal.SIGTERM)),
            "tgkill": called(234, parent, parent, 9),
            "tkill": called(200, parent, 9),
            "rt_sigqueueinfo": called(129, parent, 9, None),
            "tgkill itself": called(234, os.getpid(), threading.get_native_id(), 0),
        }
    )


def surroundings(inputs: Inputs, params: Params) -> JobResult:
    return JobResult(
        {
            "environment": dict(os.environ),
            "uid": os.getresuid(),
            "gid": os.getresgid(),
            "groups": os.getgroups(),
            "folder": os.getcwd(),
            "descriptors": [
                [fd, os.readlink(f"/proc/self/fd/{fd}"), fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_PATH)]
                for fd in range(64)
                if tried(lambda fd=fd: os.fstat(fd)).startswith("done")
            ],
            "session": os.getsid(0) == os.getpid(),
        }
    )


# --- its inputs and results --------------------------------------------------------------------------------------


def scribble(inputs: Inputs, params: Params) -> JobResult:
    data = inputs["file"]
    said = {"through the view": tried(lambda: data.__setitem__(0, 0)), "writable": not data.readonly}
    address = np.frombuffer(data, np.uint8).ctypes.data
    page = address & ~4095
    said["mprotect"] = called(10, ctypes.c_void_p(page), ctypes.c_size_t(4096), 3)
    ctypes.memset(address, ord("!"), 4)  # into its own copy of the page
    said["sees"] = bytes(data[:4]).decode()
    return JobResult(said)


def forge(inputs: Inputs, params: Params) -> JobResult:
    """Write a result by hand, as code that has taken the process over could."""
    fd = next(fd for fd in range(3, 64) if tried(lambda fd=fd: os.pwrite(fd, b"", 0)).startswith("done"))
    text = params["text"].encode() if "text" in params else json.dumps(params["head"]).encode()
    length = params.get("length", len(text))
    os.ftruncate(fd, 0)
    os.pwrite(fd, struct.pack("<Q", length) + text + b"x" * params.get("body", 0), 0)
    os._exit(params.get("code", 0))


def returns(inputs: Inputs, params: Params) -> Any:
    return {
        "nothing": None,
        "a set": JobResult({1, 2}),
        "much": JobResult("x" * (17 << 20)),
        "a bad name": JobResult(1, {"../../etc/passwd": b"x"}),
        "a hidden name": JobResult(1, {".profile": b"x"}),
        "arrays": JobResult(1, {"a": np.arange(4, dtype="<u4").data, "b": bytearray(b"b"), "c": b""}),
    }[params["what"]]


# --- limits ------------------------------------------------------------------------------------------------------


def array(inputs: Inputs, params: Params) -> JobResult:
    return JobResult(float(np.ones(params["bytes"] // 8).sum()))


def hoard(inputs: Inputs, params: Params) -> JobResult:
    """Swallow every MemoryError, as hostile code would."""
    kept = []
    for _ in range(400):
        try:
            kept.append(bytearray(8 << 20))
        except MemoryError:
            break
    return JobResult(len(kept) * 8)


def share(inputs: Inputs, params: Params) -> JobResult:
    """Shared memory, which RLIMIT_DATA does not count."""
    kept = []
    for _ in range(params["megabytes"] // 16):
        block = mmap.mmap(-1, 16 << 20)
        for page in range(0, 16 << 20, 4096):
            block[page] = 1
        kept.append(block)
    time.sleep(60)
    return JobResult(len(kept))


def spin(inputs: Inputs, params: Params) -> JobResult:
    if params.get("stubborn"):
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
    while True:
        pass


def sleep(inputs: Inputs, params: Params) -> JobResult:
    if params.get("stubborn"):
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    if params.get("stopped"):
        LIBC.raise_(signal.SIGSTOP) if hasattr(LIBC, "raise_") else LIBC["raise"](signal.SIGSTOP)
    print("sleeping", flush=True)
    time.sleep(params.get("seconds", 600))
    return JobResult("woke up")


def flood(inputs: Inputs, params: Params) -> JobResult:
    size = params["bytes"]
    return JobResult(1, {"big": b"\0" * size})


def write(inputs: Inputs, params: Params) -> JobResult:
    """Write to the result file by hand, with SIGXFSZ as the kernel meant it."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    fd = next(fd for fd in range(3, 64) if tried(lambda fd=fd: os.pwrite(fd, b"", 0)).startswith("done"))
    block = b"\0" * (1 << 20)
    while True:
        os.write(fd, block)


def chatter(inputs: Inputs, params: Params) -> JobResult:
    for _ in range(params["megabytes"]):
        print("x" * (1 << 20))
        os.write(2, b"") if params.get("raw") else None
    print("the last words", file=sys.stderr)
    if params.get("fail"):
        raise ValueError("after much talk")
    return JobResult("said it all")


def threads(inputs: Inputs, params: Params) -> JobResult:
    threading.stack_size(64 << 10)  # small, or the limit on memory comes first
    started = 0
    while started < 5000 and tried(threading.Thread(target=time.sleep, args=(600,), daemon=True).start) == "done: None":
        started += 1
    time.sleep(600)
    return JobResult(started)


def descriptors(inputs: Inputs, params: Params) -> JobResult:
    return JobResult(tried(lambda: [os.pipe() for _ in range(100)]))


# --- ends --------------------------------------------------------------------------------------------------------


def end(inputs: Inputs, params: Params) -> JobResult:
    match params["how"]:
        case "segfault":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "bad_alloc":
            os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
            os.abort()
        case "exit 0":
            os._exit(0)
        case "exit 13":
            os._exit(13)
        case "sys.exit":
            sys.exit(3)
        case "interrupt":
            raise KeyboardInterrupt
        case "deep":
            return end(inputs, params)
        case "value":
            print("on the way")
            raise ValueError("a remedy\nin two lines")
        case "bad system call":
            LIBC.syscall(0x40000000 | 39)  # getpid by the x32 table
    return JobResult("survived")


def stray(inputs: Inputs, params: Params) -> JobResult:
    """Leave a process behind, in a session of its own. Possible only where there is no seccomp."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    os.waitpid(pid, 0)
    return JobResult(params)
