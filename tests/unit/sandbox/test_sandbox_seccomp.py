"""The filters as programs: a small interpreter of classic BPF runs them on made-up calls, for both machines."""

from __future__ import annotations

import errno
import struct

import pytest

from cloudbaker.compute.sandbox import seccomp

ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
PID = 4242
MACHINES = ["x86_64", "aarch64"]


def run(program: bytes, number: int, arguments: tuple[int, ...] = (), arch: int = ARCH["x86_64"]) -> int:
    """What the kernel would do about a call. Raises on an instruction that ours don't use, or a jump out of it."""
    padded = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number, arch, 0, *(a & (1 << 64) - 1 for a in padded))
    code = list(struct.iter_unpack("<HBBI", program))
    accumulator = counter = 0
    while True:
        op, yes, no, k = code[counter]
        counter += 1
        match op:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, k)
            case 0x54:
                accumulator &= k
            case 0x15:
                counter += yes if accumulator == k else no
            case 0x25:
                counter += yes if accumulator > k else no
            case 0x45:
                counter += yes if accumulator & k else no
            case 0x06:
                return k
            case _:
                raise AssertionError(f"unknown instruction {op:#x}")


@pytest.mark.parametrize("machine", MACHINES)
class TestJobProgram:
    def call(self, machine: str, name: str, *arguments: int) -> int:
        number = {**seccomp.conditional(machine), **seccomp.allowed(machine), **seccomp.denied(machine)}[name]
        return run(seccomp.job_program(PID, machine), number, arguments, ARCH[machine])

    def test_allows_what_is_listed_and_nothing_else(self, machine: str) -> None:
        program = seccomp.job_program(PID, machine)
        listed = set(seccomp.allowed(machine).values())
        special = set(seccomp.conditional(machine).values())
        for number in range(600):
            if number not in special:
                expected = ALLOW if number in listed else ENOSYS if number > 450 else EPERM
                assert run(program, number, arch=ARCH[machine]) == expected, number

    def test_allows_nothing_that_is_denied_to_tools(self, machine: str) -> None:
        assert not set(seccomp.allowed(machine)) & set(seccomp.denied(machine))
        assert not set(seccomp.conditional(machine)) & set(seccomp.denied(machine))

    def test_kills_another_architecture(self, machine: str) -> None:
        other = ARCH[MACHINES[1 - MACHINES.index(machine)]]
        for arch in (other, 0x40000003, 0):
            assert run(seccomp.job_program(PID, machine), 0, arch=arch) == KILL

    def test_kills_x32(self, machine: str) -> None:
        expected = KILL if machine == "x86_64" else ENOSYS
        assert run(seccomp.job_program(PID, machine), 0x40000000 | 39, arch=ARCH[machine]) == expected

    def test_threads_but_no_processes_and_no_namespaces(self, machine: str) -> None:
        thread = 0x3D0F00
        assert self.call(machine, "clone", thread) == ALLOW
        assert self.call(machine, "clone", 17) == EPERM
        assert self.call(machine, "clone", 0x10000000 | 17) == EPERM
        assert self.call(machine, "clone", thread | 0x40000000) == EPERM
        assert self.call(machine, "clone3") == ENOSYS

    def test_signals_only_to_itself(self, machine: str) -> None:
        assert self.call(machine, "tgkill", PID, PID, 6) == ALLOW
        assert self.call(machine, "tgkill", PID + 1, PID, 6) == EPERM
        assert (
            run(seccomp.job_program(7, machine), seccomp.conditional(machine)["tgkill"], (7,), ARCH[machine]) == ALLOW
        )

    def test_no_truncation_by_opening_to_read(self, machine: str) -> None:
        for flags, expected in {0: ALLOW, 0o1000: EPERM, 0o1001: ALLOW, 0o1002: ALLOW, 0o100: ALLOW}.items():
            assert self.call(machine, "openat", -100, 0, flags) == expected
            if machine == "x86_64":
                assert self.call(machine, "open", 0, flags) == expected

    def test_a_pair_of_sockets_but_no_address(self, machine: str) -> None:
        assert self.call(machine, "socketpair", 1) == ALLOW
        assert self.call(machine, "socketpair", 2) == EPERM
        assert self.call(machine, "sendto", 3, 0, 0, 0, 0) == ALLOW
        assert self.call(machine, "sendto", 3, 0, 0, 0, 0x7F0000001000) == EPERM
        assert self.call(machine, "sendto", 3, 0, 0, 0, 0x7F00_0000_0000) == EPERM

    def test_harmless_controls_only(self, machine: str) -> None:
        assert self.call(machine, "ioctl", 1, 0x5401) == ALLOW
        assert self.call(machine, "ioctl", 1, 0x5412) == EPERM, "TIOCSTI types into a terminal"
        assert self.call(machine, "prctl", 15) == ALLOW
        assert self.call(machine, "prctl", 4) == EPERM
        assert self.call(machine, "prlimit64", 0) == ALLOW
        assert self.call(machine, "prlimit64", 1) == EPERM

    def test_fits_the_kernel(self, machine: str) -> None:
        program = seccomp.job_program(2**22, machine)
        assert len(program) % 8 == 0
        assert len(program) // 8 <= 4096


@pytest.mark.parametrize("machine", MACHINES)
class TestToolProgram:
    def test_denies_what_is_listed(self, machine: str) -> None:
        program = seccomp.tool_program(machine)
        for name, number in seccomp.denied(machine).items():
            assert run(program, number, arch=ARCH[machine]) == EPERM, name

    def test_allows_processes_but_no_namespaces(self, machine: str) -> None:
        program = seccomp.tool_program(machine)
        clone = seccomp.conditional(machine)["clone"]
        assert run(program, clone, (17,), ARCH[machine]) == ALLOW
        for flag in (0x20000, 0x02000000, 0x10000000, 0x20000000, 0x40000000):
            assert run(program, clone, (17 | flag,), ARCH[machine]) == EPERM
        assert run(program, 435, arch=ARCH[machine]) == ENOSYS
        assert run(program, {"x86_64": 59, "aarch64": 221}[machine], arch=ARCH[machine]) == ALLOW  # execve

    def test_sockets_of_the_network_namespace_only(self, machine: str) -> None:
        program, number = seccomp.tool_program(machine), {"x86_64": 41, "aarch64": 198}[machine]
        allowed = [family for family in range(50) if run(program, number, (family,), ARCH[machine]) == ALLOW]
        assert allowed == [1, 2, 10, 16]

    def test_kills_another_architecture(self, machine: str) -> None:
        assert run(seccomp.tool_program(machine), 0, arch=0x40000003) == KILL


def test_an_unknown_machine_is_not_available() -> None:
    assert seccomp.available("riscv64") is False
    assert seccomp.supported("x86_64")
