"""Lock the calling process down before it sees a byte from outside.

Order matters: limits first (they survive everything), then the user (which clears the parent-death signal), then
Landlock, and seccomp last because it forbids the calls that the others are made of.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from cloudbaker.compute.job import Limits
from cloudbaker.compute.sandbox import landlock, proc, seccomp
from cloudbaker.compute.sandbox.libc import LIBC, check

NOBODY = 65534
"""User and group of jobs and tools where Cloud Baker itself runs as root."""
OPEN_FILES = 64
PROCESSES = 2048
"""Threads of all jobs together, where they run as nobody. For root the kernel does not count, and for any other user
it would count the user's own programs too; `zygote.MAX_THREADS` holds a single job."""


def set_limits(limits: Limits) -> None:
    """Kernel limits of this process. Memory is what it may take beside what it holds already (Python, the codecs).

    RLIMIT_DATA and not RLIMIT_AS: V8 and WebAssembly reserve gigabytes of address space that they never touch
    (RLIMIT_AS of 2 GB breaks them), while DATA counts what can be written to. The hard CPU limit is a second above
    the soft one, for code that ignores SIGXCPU.
    """
    cpu = max(1, int(limits.cpu_seconds))
    memory = limits.memory_bytes + proc.use(os.getpid()).data
    for what, soft, hard in (
        (resource.RLIMIT_DATA, memory, memory),
        (resource.RLIMIT_CPU, cpu, cpu + 1),
        (resource.RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes),
        (resource.RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        _, outer = resource.getrlimit(what)
        ceiling = hard if outer == resource.RLIM_INFINITY else min(hard, outer)
        resource.setrlimit(what, (min(soft, ceiling), ceiling))


def drop_privileges() -> None:
    """Become nobody where we are root, and hold no capability in any case.

    In a user namespace that maps only root there is no nobody to become; this root has no power outside then, and
    without capabilities none inside.
    """
    if os.geteuid() == 0:
        with suppress(OSError):
            resource.setrlimit(resource.RLIMIT_NPROC, (PROCESSES, PROCESSES))
        with suppress(OSError):
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
    header = struct.pack("@Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    check(LIBC.capset(ctypes.c_char_p(header), ctypes.c_char_p(bytes(24))), "capset")


def die_with(parent: int) -> None:
    """Be killed when the parent process `parent` dies. The kernel forgets this on a change of user: call it after."""
    check(LIBC.prctl(1, int(signal.SIGKILL), 0, 0, 0), "PR_SET_PDEATHSIG")
    if os.getppid() != parent:  # it died before the call
        os._exit(1)


def confine(*, limits: Limits, parent: int, read: Iterable[str], use_landlock: bool, use_seccomp: bool) -> None:
    """Bind this process for good: limits, user, files, system calls. It may write to what it has open, no more.

    `read` are folders that stay readable (Python's own). Raises OSError where a layer that was asked for can't be
    had, or RuntimeError where a second thread would escape it: nothing untrusted may run then.
    """
    os.chdir("/")
    os.umask(0o077)
    set_limits(limits)
    drop_privileges()
    die_with(parent)
    check(LIBC.prctl(4, 0, 0, 0, 0), "PR_SET_DUMPABLE")
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        raise RuntimeError("the process has more than one thread: Landlock binds only the one that asks for it")
    if use_landlock:
        landlock.restrict(read=read, write=["/dev/null"])
    if use_seccomp:
        seccomp.install(seccomp.job_program(os.getpid()))
