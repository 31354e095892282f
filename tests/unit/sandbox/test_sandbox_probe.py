"""What the machine offers, in words that name the remedy."""

from __future__ import annotations

import os

import pytest

from cloudbaker.compute.sandbox import Isolation, probe, proc
from cloudbaker.compute.sandbox.libc import check
from cloudbaker.errors import IsolationUnavailable


def test_this_machine() -> None:
    found = probe()
    assert found.root == (os.geteuid() == 0)
    assert found.sufficient == (found.landlock_abi > 0 and found.seccomp)
    assert found.verdict


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Isolation(7, True, "0.8.0", True, True), "as the user nobody; external tools by bubblewrap 0.8.0"),
        (Isolation(3, True, "", False, False), "install the package bubblewrap"),
        (Isolation(3, True, "0.8.0", False, False), "allow user namespaces"),
        (Isolation(0, True), "lacks Landlock (Linux 5.13"),
        (Isolation(1, False), "lacks seccomp filters"),
        (Isolation(0, False), "Landlock (Linux 5.13 or newer, with landlock in the kernel's lsm= list) and seccomp"),
    ],
)
def test_the_verdict_names_the_remedy(found: Isolation, words: str) -> None:
    assert words in found.verdict


def test_tools_need_all_of_it() -> None:
    assert Isolation(0, True, "0.8.0", True).tools
    assert not Isolation(7, True, "0.8.0", False).tools
    assert not Isolation(7, True, "", True).tools
    assert not Isolation(7, False, "0.8.0", True).tools


def test_require() -> None:
    assert Isolation(7, True).require(trusted=False, outer="") == "landlock+seccomp"
    assert Isolation(7, True).require(trusted=True, outer="gvisor") == "landlock+seccomp"
    assert Isolation(0, True).require(trusted=True, outer="") == "trusted+seccomp"
    assert Isolation(0, False).require(trusted=True, outer="gvisor") == "outer:gvisor"
    with pytest.raises(IsolationUnavailable, match="--trusted"):
        Isolation(7, False).require(trusted=False, outer="")


def test_proc_of_ourselves_and_of_nobody() -> None:
    mine = proc.use(os.getpid())
    assert 0 < mine.memory <= mine.resident
    assert mine.data > 0
    assert mine.threads >= 1
    assert proc.use(2**22 + 1) == proc.Use()
    assert proc.children(2**22 + 1) == []
    assert os.getpid() in proc.descendants(os.getppid())
    assert proc.oom_kills() >= 0


def test_a_failed_call_says_which() -> None:
    assert check(3, "x") == 3
    with pytest.raises(OSError, match="some call"):
        check(-1, "some call")
