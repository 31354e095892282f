"""What this machine offers to isolate untrusted work. For ``cloudbaker doctor``, and for the refusal in `Sandbox`."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass

from cloudbaker.compute.sandbox import landlock, seccomp
from cloudbaker.errors import IsolationUnavailable


@dataclass(frozen=True, slots=True)
class Isolation:
    """What was found."""

    landlock_abi: int
    """Version of Landlock; 0 where the kernel has none."""
    seccomp: bool
    """Whether system calls can be filtered, and this machine's calls are known to us."""
    bubblewrap: str = ""
    """Version of bubblewrap; empty where it is not installed."""
    user_namespaces: bool = False
    """Whether bubblewrap can make its namespaces here (as root it needs none for users)."""
    root: bool = False
    """Whether we are root: jobs then run as nobody."""

    @property
    def sufficient(self) -> bool:
        """Whether Python jobs on untrusted bytes are isolated."""
        return self.landlock_abi >= 1 and self.seccomp

    @property
    def tools(self) -> bool:
        """Whether external tools can be isolated."""
        return bool(self.bubblewrap) and self.user_namespaces and self.seccomp

    @property
    def layers(self) -> str:
        """The layers that a job gets, ``landlock+seccomp``; empty where there are none."""
        return "+".join(["landlock"] * (self.landlock_abi >= 1) + ["seccomp"] * self.seccomp)

    @property
    def verdict(self) -> str:
        """One sentence for people, with the remedy where something is missing."""
        if not self.sufficient:
            return self._missing()
        text = f"untrusted files are isolated by Landlock (ABI {self.landlock_abi}) and seccomp"
        text += ", as the user nobody" if self.root else ""
        if not self.bubblewrap:
            return f"{text}; previews and engines need bubblewrap: install the package bubblewrap"
        if not self.user_namespaces:
            return (
                f"{text}; bubblewrap can't make namespaces here, so there are no previews and no engines: allow user "
                "namespaces (Docker: --security-opt seccomp=unconfined; Ubuntu: an AppArmor profile for bwrap)"
            )
        return f"{text}; external tools by bubblewrap {self.bubblewrap}"

    def _missing(self) -> str:
        missing = [
            *(["Landlock (Linux 5.13 or newer, with landlock in the kernel's lsm= list)"] * (self.landlock_abi < 1)),
            *(["seccomp filters (Linux 4.14 or newer, on x86_64 or aarch64)"] * (not self.seccomp)),
        ]
        return (
            f"this machine can't isolate untrusted files: it lacks {' and '.join(missing)}. Use a newer kernel; or, "
            "inside gVisor or a container you trust for this, name it in CLOUDBAKER_OUTER_SANDBOX; or pass --trusted "
            "for files of your own"
        )

    def require(self, *, trusted: bool, outer: str) -> str:
        """What will hold a job, for the provenance: ``landlock+seccomp``, ``outer:NAME`` or ``trusted``.

        Where only one layer exists it is used and named too (``outer:gvisor+seccomp``). Raises
        `IsolationUnavailable` where the kernel's own layers don't suffice and nobody vouches for something else.
        """
        if self.sufficient:
            return self.layers
        if not outer and not trusted:
            raise IsolationUnavailable(self._missing(), landlock_abi=self.landlock_abi, seccomp=self.seccomp)
        return "+".join(filter(None, [f"outer:{outer}" if outer else "trusted", self.layers]))


def kernel() -> Isolation:
    """The part that decides about Python jobs, in microseconds: Landlock and seccomp only."""
    return Isolation(
        landlock_abi=landlock.abi(),
        seccomp=seccomp.available(platform.machine()),
        root=os.geteuid() == 0,
    )


def probe() -> Isolation:
    """Everything, including a trial run of bubblewrap (about 20 ms)."""
    found = kernel()
    version, works = _bubblewrap()
    return Isolation(found.landlock_abi, found.seccomp, version, works, found.root)


def _bubblewrap() -> tuple[str, bool]:
    path = shutil.which("bwrap")
    if path is None:
        return "", False
    try:
        version = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
        user = [] if os.geteuid() == 0 else ["--unshare-user"]
        trial = [path, *user, "--unshare-pid", "--unshare-net", "--ro-bind", "/", "/", "--proc", "/proc", "true"]
        done = subprocess.run(trial, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return "", False
    return version.split()[-1] if version.split() else "unknown", done.returncode == 0
