"""External tools (Chromium, engines) on untrusted content, by bubblewrap.

    sh (opens the filter) → setpriv --pdeathsig → timeout → prlimit → bwrap │ prlimit → setpriv nobody → the tool

The tool sees: /usr and a few files of /etc, the paths in `ro` where they lie outside, an empty /tmp of bounded size,
and its scratch folder as /scratch, the only thing it can write to that remains. The root and /dev are read-only, too:
bubblewrap's are writable tmpfs unless told otherwise. No network, no other process, no new namespace, no capability.

As root, bubblewrap sets the mounts up as root and the tool then becomes nobody inside. So what lies under a home of
mode 700 (Python of pyenv or uv, a checkout) can be given to it, which bubblewrap started as nobody could not
even find. As any other user, bubblewrap's own user namespace does.
"""

from __future__ import annotations

import math
import os
import selectors
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from cloudbaker.compute.job import Limits, Status
from cloudbaker.compute.sandbox import proc, seccomp
from cloudbaker.compute.sandbox.confine import NOBODY
from cloudbaker.compute.sandbox.probe import probe
from cloudbaker.compute.sandbox.scratch import private_root, tree_size
from cloudbaker.errors import IsolationUnavailable, ToolMissing

SCRATCH = "/scratch"
"""Where a tool sees its scratch folder, and its working folder. Always the same, so that no path of this machine
gets into what it writes."""
ISOLATION = "bubblewrap+seccomp"
PROCESSES = 512
"""Processes and threads of a tool. (Chromium with one page has about 120.)"""
OPEN_FILES = 1024
TEMPORARY_BYTES = 256 << 20
OUTPUT_BYTES = 1 << 20
"""How much of stdout and of stderr is kept: the last."""

_TICK = 0.1
_NEEDED = ("bwrap", "setpriv", "prlimit", "timeout")
_SYSTEM = (
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/fonts", "/etc/localtime"),
    "/sys/devices/system/cpu",
)
_FILTER_FD = "9"
_BECOME_NOBODY = ("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_DAC_READ_SEARCH")
"""For setpriv, and for bubblewrap's own step into scratch; a process that becomes nobody loses them."""
_DEFAULT = Limits()
_TIMEOUT_KILLED = 128 + signal.SIGKILL


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What came of a tool."""

    status: Status
    """OK where it exited with 0, ERROR with another status, CRASH by a signal, or the limit it hit."""
    code: int
    """Exit status as a shell would give it: 128 + n for signal n."""
    stdout: bytes
    stderr: bytes
    wall_seconds: float
    peak_bytes: int
    """Most memory seen of all its processes together, looked at every 0.1 s."""
    isolation: str = ISOLATION


@lru_cache(maxsize=1)
def _paths() -> dict[str, str]:
    found = {name: shutil.which(name) for name in _NEEDED}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        packages = {"bwrap": "bubblewrap", "timeout": "coreutils"}
        wanted = sorted({packages.get(name, "util-linux") for name in missing})
        raise ToolMissing(
            f"external tools can't be isolated without {', '.join(missing)}: install {' '.join(wanted)}",
            missing=missing,
        )
    return {name: path for name, path in found.items() if path is not None}


@lru_cache(maxsize=1)
def require() -> None:
    """Raise `ToolMissing` or `IsolationUnavailable` where bubblewrap is missing or can't work here. Looks once."""
    _paths()
    found = probe()
    if not found.tools:
        raise IsolationUnavailable(f"external tools can't be isolated: {found.verdict}")


def _filter() -> Path:
    path = private_root().path / "tool.bpf"
    if not path.exists():
        part = path.with_suffix(f".{os.getpid()}.{time.monotonic_ns()}")
        part.write_bytes(seccomp.tool_program())
        part.rename(path)
    return path


def _read_only(path: Path, how: str = "--ro-bind") -> list[str]:
    """Bind `path`, and make the folders above it with mode 755: bubblewrap makes them with 700, as its own user."""
    above = [parent for parent in reversed(path.parents) if parent != Path("/")]
    return [
        *(word for folder in above for word in ("--perms", "0755", "--dir", str(folder))),
        how,
        str(path),
        str(path),
    ]


def _system() -> list[str]:
    """/usr, and the links into it or folders beside it that programs are found by."""
    arguments = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/", name)
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            arguments += ["--ro-bind", str(path), str(path)]
    for file in _SYSTEM:
        arguments += _read_only(Path(file), "--ro-bind-try")
    return arguments


def tool_command(
    argv: Sequence[str],
    *,
    scratch: Path,
    ro: Sequence[Path] = (),
    env: Mapping[str, str] | None = None,
    limits: Limits = _DEFAULT,
) -> list[str]:
    """The command that runs `argv` isolated, for whoever starts it: `run_tool`, or Playwright through a script.

    `scratch` is made where it is missing, and given to nobody where we are root; the tool sees it as `SCRATCH`. `ro`
    are further files and folders to read, at their own paths. `env` is all it sees of the environment, beside PATH,
    HOME, TMPDIR and LANG. `limits`: memory is per process here (RLIMIT_DATA; the caller may watch the sum), a wall
    clock of ``math.inf`` is none. Descriptors 0 to 8 of whoever starts it are passed on (Playwright talks over 3 and
    4), and more arguments may be appended. It ends with the process that starts it.

    Raises `ToolMissing`, `IsolationUnavailable`.
    """
    require()
    root = os.geteuid() == 0
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    if root:
        os.chown(scratch, NOBODY, NOBODY)
    path = _paths()
    wall = "0" if math.isinf(limits.wall_seconds) else f"{limits.wall_seconds:.3f}"  # 0 is "no limit" to timeout
    variables = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8", **(env or {})}
    return [
        *("/bin/sh", "-c", f'exec {_FILTER_FD}<"$0"; exec "$@"', str(_filter())),
        *(path["setpriv"], "--pdeathsig", "KILL", "--"),
        *(path["timeout"], "--signal=KILL", wall),
        *(path["prlimit"], f"--data={limits.memory_bytes}", f"--cpu={limits.cpu_seconds}:{limits.cpu_seconds + 1}"),
        *(f"--fsize={limits.file_bytes}", f"--nofile={OPEN_FILES}", "--core=0", "--"),
        *(path["bwrap"], "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"),
        *(() if root else ("--unshare-user",)),
        *("--die-with-parent", "--new-session", "--hostname", "cloudbaker", "--cap-drop", "ALL"),
        *(_BECOME_NOBODY if root else ()),
        "--clearenv",
        *(word for name, value in variables.items() for word in ("--setenv", name, value)),
        *_system(),
        *("--proc", "/proc", "--dev", "/dev", "--size", str(TEMPORARY_BYTES), "--perms", "1777", "--tmpfs", "/dev/shm"),
        *("--size", str(TEMPORARY_BYTES), "--perms", "1777", "--tmpfs", "/tmp"),
        *(word for item in ro for word in _read_only(item)),
        *(
            "--bind",
            str(scratch),
            SCRATCH,
            "--chdir",
            SCRATCH,
            "--remount-ro",
            "/dev",
            "--remount-ro",
            "/",
            "--seccomp",
            _FILTER_FD,
            "--",
        ),
        *(path["prlimit"], f"--nproc={PROCESSES}", "--"),
        *(
            (path["setpriv"], f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all", "--")
            if root
            else ()
        ),
        *argv,
    ]


def run_tool(
    argv: Sequence[str],
    *,
    scratch: Path,
    ro: Sequence[Path] = (),
    env: Mapping[str, str] | None = None,
    limits: Limits = _DEFAULT,
) -> ToolOutcome:
    """Run a tool to its end, isolated as `tool_command` says.

    Memory (of all its processes together) and the size of all that lies in scratch are looked at every 0.1 s. What the
    tool left in scratch is as untrusted as its input: read it with `read_output`. Raises as `tool_command`.
    """
    command = tool_command(argv, scratch=scratch, ro=ro, env=env, limits=limits)
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin"},
        start_new_session=True,
    )
    hit, peak = "", 0
    kept = {process.stdout: b"", process.stderr: b""}
    try:
        with selectors.DefaultSelector() as selector:
            for stream in kept:
                assert stream is not None
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ)
            looked = 0.0
            while not hit and (selector.get_map() or process.poll() is None):
                for key, _ in selector.select(_TICK):
                    data = os.read(key.fd, 1 << 16)
                    if data:
                        kept[key.fileobj] = (kept[key.fileobj] + data)[-OUTPUT_BYTES:]  # type: ignore[index]
                    else:
                        selector.unregister(key.fileobj)
                if not selector.get_map():
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(_TICK)
                if time.monotonic() - looked >= _TICK:
                    looked = time.monotonic()
                    memory = sum(proc.use(pid).memory for pid in proc.descendants(process.pid))
                    peak = max(peak, memory)
                    hit = (
                        "wall"
                        if looked - started > limits.wall_seconds + 2 * _TICK  # for a `timeout` that was stopped
                        else "memory"
                        if memory > limits.memory_bytes
                        else "file_size"
                        if tree_size(scratch) > limits.file_bytes
                        else ""
                    )
    finally:
        _end(process)
    wall = time.monotonic() - started
    code = process.returncode if process.returncode >= 0 else 128 - process.returncode
    status = Status(hit) if hit else _status(code, wall, limits)
    return ToolOutcome(status, code, kept[process.stdout], kept[process.stderr], wall, peak)


def _status(code: int, wall: float, limits: Limits) -> Status:
    if code == _TIMEOUT_KILLED and wall >= limits.wall_seconds:
        return Status.WALL
    by_signal = {128 + signal.SIGXCPU: Status.CPU, 128 + signal.SIGXFSZ: Status.FILE_SIZE}
    if code in by_signal:
        return by_signal[code]
    return Status.OK if code == 0 else Status.CRASH if code > 128 else Status.ERROR


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill bubblewrap and so, by its namespace of process ids, everything in it."""
    for pid in [*proc.descendants(process.pid), process.pid] if process.poll() is None else []:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    process.wait()


def read_output(scratch: Path, name: str, *, limit: int) -> bytes:
    """A file that a tool left in `scratch`, of at most `limit` bytes. `name` may have folders in it.

    No link is followed at any step, and only a regular file is read: a tool can leave a link to /etc/shadow, or a
    FIFO. Raises OSError for those and ValueError for a name or size that is not allowed.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        raise ValueError(f"{name!r} is not a relative path")
    fd = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_NONBLOCK if last else os.O_DIRECTORY)
            inner = os.open(part, flags, dir_fd=fd)
            os.close(fd)
            fd = inner
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(f"{name!r} is not a regular file")
        if info.st_size > limit:
            raise ValueError(f"{name!r} has {info.st_size} bytes, more than {limit}")
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read(limit)
    finally:
        os.close(fd)
