"""Reading /proc: memory and threads of a process, its children, and how often the kernel ran out of memory."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Use:
    """What a process holds now."""

    memory: int = 0
    """Bytes of anonymous and shared memory. Mapped files are not counted: the kernel can drop those."""
    resident: int = 0
    """Resident set, bytes."""
    threads: int = 0
    data: int = 0
    """Memory that it could write to, touched or not: what RLIMIT_DATA counts."""


def use(pid: int) -> Use:
    """What process `pid` holds; all zero when it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return Use()
    values = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def kilobytes(name: str) -> int:
        return int(values.get(name, "0").split()[0]) << 10

    return Use(
        kilobytes("RssAnon") + kilobytes("RssShmem"),
        kilobytes("VmRSS"),
        int(values.get("Threads", "0")),
        kilobytes("VmData"),
    )


def children(pid: int) -> list[int]:
    """Direct children of process `pid`, started by any of its threads."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, nearest first."""
    found = children(pid)
    for child in found:  # grows while we walk
        found += [p for p in children(child) if p not in found]
    return found


def reap_strays(known: set[int]) -> None:
    """Kill and reap every child of this process that is not in `known`.

    This process must be a subreaper: what a dead job left behind, in whatever session, has become its child. Killing
    those hands up the next generation, until there is none.
    """
    while strays := [pid for pid in children(os.getpid()) if pid not in known]:
        for pid in strays:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started; 0 where it doesn't say.

    A kill by a memory cgroup is a bare SIGKILL, and this count (which includes those) is the only trace of it.
    """
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return 0
