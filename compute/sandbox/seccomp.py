"""Seccomp filters, assembled by hand: an allow list for Python jobs, a deny list for external tools.

Jobs run code we know (Python, numpy, codecs, V8), so they get only the calls those need: an unknown call fails with
EPERM, one newer than this table with ENOSYS, as runc does, so that a newer glibc falls back instead of giving up.
External tools are too various for that (Chromium alone uses some 200 calls); bubblewrap's namespaces hold them and
the filter takes away the parts of the kernel that no baking needs.

Source: Linux, Documentation/userspace-api/seccomp_filter.rst; call numbers from asm/unistd_64.h and
asm-generic/unistd.h (aarch64).
"""

from __future__ import annotations

import ctypes
import errno
import platform
import socket
import struct
from collections.abc import Sequence
from functools import lru_cache

from cloudbaker.compute.sandbox.libc import LIBC, check

_ARCHITECTURES = {"x86_64": 0, "aarch64": 1}
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_NEWEST = 450  # set_mempolicy_home_node, Linux 5.17: calls above it were unknown when the tables were written

# Each entry: name, number on x86_64, number on aarch64; "-" where the architecture has no such call.
_ALLOWED = """
read 0 63  write 1 64  readv 19 65  writev 20 66  pread64 17 67  pwrite64 18 68  preadv 295 69  pwritev 296 70
lseek 8 62  close 3 57  close_range 436 436  dup 32 23  dup2 33 -  dup3 292 24  fcntl 72 25  flock 73 32
fsync 74 82  fdatasync 75 83  ftruncate 77 46  fallocate 285 47  fadvise64 221 223  copy_file_range 326 285
sendfile 40 71  pipe 22 -  pipe2 293 59  eventfd2 290 19  poll 7 -  ppoll 271 73  select 23 -  pselect6 270 72
epoll_create 213 -  epoll_create1 291 20  epoll_ctl 233 21  epoll_wait 232 -  epoll_pwait 281 22
recvfrom 45 207  shutdown 48 210  getsockname 51 204
creat 85 -  stat 4 -  fstat 5 80  lstat 6 -  newfstatat 262 79  statx 332 291  access 21 -  faccessat 269 48
faccessat2 439 439  readlink 89 -  readlinkat 267 78  getcwd 79 17  chdir 80 49  fchdir 81 50  getdents64 217 61
statfs 137 43  fstatfs 138 44  umask 95 166  mkdir 83 -  mkdirat 258 34  unlink 87 -  unlinkat 263 35  rmdir 84 -
rename 82 -  renameat 264 38  renameat2 316 276
mmap 9 222  mprotect 10 226  munmap 11 215  mremap 25 216  madvise 28 233  brk 12 214  msync 26 227  mincore 27 232
membarrier 324 283  pkey_mprotect 329 288  pkey_alloc 330 289  pkey_free 331 290
futex 202 98  futex_waitv 449 449  set_robust_list 273 99  get_robust_list 274 100  rseq 334 293
set_tid_address 218 96  exit 60 93  exit_group 231 94  restart_syscall 219 128  arch_prctl 158 -
getpid 39 172  getppid 110 173  gettid 186 178  getuid 102 174  geteuid 107 175  getgid 104 176  getegid 108 177
getgroups 115 158  getresuid 118 148  getresgid 120 150  getpgrp 111 -  getpgid 121 155  getsid 124 156
getrlimit 97 163  getrusage 98 165  getpriority 140 141  sched_yield 24 124  sched_getaffinity 204 123
sched_getscheduler 145 120  sched_getparam 143 121  sched_get_priority_max 146 125  sched_get_priority_min 147 126
sysinfo 99 179  uname 63 160  getrandom 318 278  getcpu 309 168  times 100 153  time 201 -  gettimeofday 96 169
clock_gettime 228 113  clock_getres 229 114  clock_nanosleep 230 115  nanosleep 35 101
rt_sigaction 13 134  rt_sigprocmask 14 135  rt_sigreturn 15 139  rt_sigpending 127 136  rt_sigtimedwait 128 137
sigaltstack 131 132  setitimer 38 103  getitimer 36 102  alarm 37 -  pause 34 -
"""

# Allowed with certain arguments only; see `job_program`.
_CONDITIONAL = """
open 2 -  openat 257 56  clone 56 220  clone3 435 435  socketpair 53 199  sendto 44 206  ioctl 16 29  prctl 157 167
prlimit64 302 261  tgkill 234 131
"""

# No baking needs these, and most of the kernel's local exploits did.
_DENIED = """
ptrace 101 117  mount 165 40  umount2 166 39  chroot 161 51  pivot_root 155 41  reboot 169 142  swapon 167 224
swapoff 168 225  init_module 175 105  delete_module 176 106  finit_module 313 273  kexec_load 246 104
kexec_file_load 320 294  unshare 272 97  setns 308 268  bpf 321 280  userfaultfd 323 282  perf_event_open 298 241
process_vm_readv 310 270  process_vm_writev 311 271  process_madvise 440 440  pidfd_getfd 438 438  keyctl 250 219
add_key 248 217  request_key 249 218  io_uring_setup 425 425  io_uring_enter 426 426  io_uring_register 427 427
open_by_handle_at 304 265  name_to_handle_at 303 264  kcmp 312 272  settimeofday 164 170  clock_settime 227 112
adjtimex 159 171  clock_adjtime 305 266  mknod 133 -  mknodat 259 33  acct 163 89  quotactl 179 60
quotactl_fd 443 443  syslog 103 116  personality 135 92  move_mount 429 429  open_tree 428 428  fsopen 430 430
fsconfig 431 431  fsmount 432 432  fspick 433 433  mount_setattr 442 442  vhangup 153 58  lookup_dcookie 212 18
move_pages 279 239  migrate_pages 256 238  fanotify_init 300 262  nfsservctl 180 42  iopl 172 -  ioperm 173 -
modify_ldt 154 -
"""
_SOCKET = {"x86_64": 41, "aarch64": 198}

_LOAD, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_BITS, _AND, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x54, 0x06
_ALLOW = 0x7FFF0000
_KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000
_EPERM = _ERRNO | errno.EPERM
_ENOSYS = _ERRNO | errno.ENOSYS

_CLONE_THREAD = 0x00010000
_CLONE_NEW = 0x7E020000  # every CLONE_NEW* flag that clone(2) takes
_O_TRUNC = 0o1000
_O_ACCMODE = 3
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX
_PRCTLS = (15, 16, 0x53564D41)  # PR_SET_NAME PR_GET_NAME PR_SET_VMA (malloc names its arenas)

_Instruction = tuple[int, int, int, int]


def supported(machine: str = platform.machine()) -> bool:
    """Whether there is a call table for this machine."""
    return machine in _ARCHITECTURES


@lru_cache(maxsize=4)
def numbers(table: str, machine: str) -> dict[str, int]:
    """Call numbers of one of the tables above on `machine`."""
    words = table.split()
    column = words[1 + _ARCHITECTURES[machine] :: 3]
    return {name: int(n) for name, n in zip(words[::3], column, strict=True) if n != "-"}


def allowed(machine: str) -> dict[str, int]:
    """Calls that a job may make with any arguments, by name."""
    return numbers(_ALLOWED, machine)


def denied(machine: str) -> dict[str, int]:
    """Calls that an external tool may not make, by name."""
    return numbers(_DENIED, machine)


def conditional(machine: str) -> dict[str, int]:
    """Calls that a job may make with certain arguments, by name."""
    return numbers(_CONDITIONAL, machine)


def _argument(index: int, *, high: bool = False) -> _Instruction:
    return (_LOAD, 0, 0, 16 + 8 * index + (4 if high else 0))


def _return(action: int) -> _Instruction:
    return (_RETURN, 0, 0, action)


def _one_of(index: int, values: Sequence[int]) -> list[_Instruction]:
    tests = [(_JUMP_EQUAL, len(values) - i, 0, value) for i, value in enumerate(values)]
    return [_argument(index), *tests, _return(_EPERM), _return(_ALLOW)]


def _no_truncating_read(flags: int) -> list[_Instruction]:
    # Before Landlock ABI 3 (Linux 6.2) open(O_RDONLY | O_TRUNC) empties any file the user owns.
    return [
        _argument(flags),
        (_JUMP_BITS, 1, 0, _O_TRUNC),
        _return(_ALLOW),
        (_AND, 0, 0, _O_ACCMODE),
        (_JUMP_EQUAL, 0, 1, 0),
        _return(_EPERM),
        _return(_ALLOW),
    ]


def _prologue(machine: str) -> list[_Instruction]:
    start = [(_LOAD, 0, 0, 4), (_JUMP_EQUAL, 1, 0, _AUDIT_ARCH[machine]), _return(_KILL_PROCESS), (_LOAD, 0, 0, 0)]
    if machine == "x86_64":  # the x32 calls share the architecture word but have other numbers
        start += [(_JUMP_GREATER, 0, 1, 0x3FFFFFFF), _return(_KILL_PROCESS)]
    return start


def _rules(calls: dict[str, int], rules: dict[str, list[_Instruction]]) -> list[_Instruction]:
    """Each rule decides about one of `calls` and ends in a return; for others the call number stays loaded."""
    out: list[_Instruction] = []
    for name, rule in rules.items():
        if name in calls:
            out += [(_JUMP_EQUAL, 0, len(rule), calls[name]), *rule]
    return out


def _assemble(instructions: Sequence[_Instruction]) -> bytes:
    return b"".join(struct.pack("<HBBI", *i) for i in instructions)


@lru_cache(maxsize=2)
def _job_body(machine: str) -> bytes:
    body = _prologue(machine)
    for number in allowed(machine).values():
        body += [(_JUMP_EQUAL, 0, 1, number), _return(_ALLOW)]
    rules = {
        "openat": _no_truncating_read(2),
        "open": _no_truncating_read(1),
        # Threads yes (numpy, V8), processes no.
        "clone": [
            _argument(0),
            (_JUMP_BITS, 2, 0, _CLONE_NEW),
            (_JUMP_BITS, 0, 1, _CLONE_THREAD),
            _return(_ALLOW),
            _return(_EPERM),
        ],
        # clone3's flags lie behind a pointer that a filter can't follow: glibc falls back to clone.
        "clone3": [_return(_ENOSYS)],
        # asyncio's self-pipe, which mini-racer's event loop needs: a nameless pair, and no way to address anybody.
        "socketpair": _one_of(0, [socket.AF_UNIX]),
        "sendto": [
            _argument(4),
            (_JUMP_EQUAL, 0, 3, 0),
            _argument(4, high=True),
            (_JUMP_EQUAL, 0, 1, 0),
            _return(_ALLOW),
            _return(_EPERM),
        ],
        "ioctl": _one_of(1, _IOCTLS),
        "prctl": _one_of(0, _PRCTLS),
        "prlimit64": _one_of(0, [0]),
    }
    return _assemble([*body, *_rules(conditional(machine), rules)])


def job_program(pid: int, machine: str = platform.machine()) -> bytes:
    """BPF for a Python job with process id `pid`: no network, exec, fork, ptrace, mount, signals to others.

    8-byte instructions; at most 4096 of them. Raises KeyError on a machine without a table (see `supported`).
    """
    # raise() and abort() are tgkill to oneself. kill(2) itself is not allowed: without Landlock ABI 6 a job of the
    # same user could otherwise end any of that user's processes.
    end = _rules(conditional(machine), {"tgkill": _one_of(0, [pid])})
    return _job_body(machine) + _assemble([*end, (_JUMP_GREATER, 0, 1, _NEWEST), _return(_ENOSYS), _return(_EPERM)])


@lru_cache(maxsize=2)
def tool_program(machine: str = platform.machine()) -> bytes:
    """BPF for an external tool: fork and exec are allowed, new namespaces and rare parts of the kernel are not.

    Sockets only of the families that the empty network namespace holds back: AF_VSOCK would reach the host of a
    virtual machine past it, and AF_ALG and AF_PACKET are attack surface.
    """
    body = _prologue(machine)
    for number in denied(machine).values():
        body += [(_JUMP_EQUAL, 0, 1, number), _return(_EPERM)]
    calls = {**conditional(machine), "socket": _SOCKET[machine]}
    families = [socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, 16]  # 16 is AF_NETLINK
    rules = {
        "clone": [_argument(0), (_JUMP_BITS, 0, 1, _CLONE_NEW), _return(_EPERM), _return(_ALLOW)],
        "clone3": [_return(_ENOSYS)],
        "socket": _one_of(0, families),
    }
    return _assemble([*body, *_rules(calls, rules), _return(_ALLOW)])


def available(machine: str = platform.machine()) -> bool:
    """Whether this kernel takes filters that return an error, and there is a table for this machine."""
    if not supported(machine):
        return False
    action = ctypes.c_uint32(_ERRNO)
    return bool(LIBC.syscall(_SECCOMP[machine], 2, 0, ctypes.byref(action)) == 0)  # SECCOMP_GET_ACTION_AVAIL


_SECCOMP = {"x86_64": 317, "aarch64": 277}


def install(program: bytes) -> None:
    """Bind this process, all its threads and all its descendants to `program`, for good. Raises OSError."""
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    check(LIBC.prctl(38, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    result = LIBC.syscall(_SECCOMP[platform.machine()], 1, 1, ctypes.c_char_p(header))  # SET_MODE_FILTER, FLAG_TSYNC
    if result > 0:
        raise OSError(errno.EBUSY, f"seccomp: thread {result} could not be bound")
    check(result, "seccomp")
