"""External tools in bubblewrap: real ones, and what a tool that has turned hostile can do."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudbaker.compute.job import Limits, Status
from cloudbaker.compute.sandbox import ToolOutcome, probe, read_output, run_tool, scratch_folder, tool_command, tools
from cloudbaker.compute.sandbox.confine import NOBODY
from cloudbaker.errors import IsolationUnavailable, ToolMissing

MB = 1 << 20
bubblewrap = pytest.mark.skipif(not probe().tools, reason="bubblewrap is not installed or can't make namespaces here")


@pytest.fixture
def scratch() -> Iterator[Path]:
    with scratch_folder() as folder:
        yield folder


def sh(scratch: Path, script: str, limits: Limits = tools._DEFAULT) -> ToolOutcome:
    return run_tool(["/bin/sh", "-c", script], scratch=scratch, limits=limits)


@bubblewrap
class TestWhatAToolSees:
    def test_result_and_exit_status(self, scratch: Path) -> None:
        outcome = sh(scratch, "echo out; echo err >&2; echo file > here; exit 3")
        assert (outcome.status, outcome.code) == (Status.ERROR, 3)
        assert (outcome.stdout, outcome.stderr) == (b"out\n", b"err\n")
        assert read_output(scratch, "here", limit=100) == b"file\n"
        assert sh(scratch, "true").status is Status.OK
        assert outcome.isolation == "bubblewrap+seccomp"

    def test_a_user_without_power(self, scratch: Path) -> None:
        status = sh(scratch, "id -u; cat /proc/self/status").stdout.decode()
        lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        assert int(status.splitlines()[0]) != 0
        assert {int(lines[f"Cap{name}"], 16) for name in ("Prm", "Eff", "Amb", "Inh")} == {0}
        assert lines["NoNewPrivs"].strip() == "1"
        assert lines["Seccomp"].strip() == "2"

    def test_nothing_of_ours(self, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
        outcome = sh(scratch, "env; hostname; ls /proc; ls /; ls /home; cat /etc/shadow /etc/passwd; pwd")
        text = outcome.stdout.decode()
        assert "hunter2" not in text
        assert "cloudbaker" in text.splitlines()
        assert text.splitlines()[-1] == "/scratch"
        assert "No such file" in outcome.stderr.decode()
        assert "root:" not in text

    def test_nothing_can_be_written(self, scratch: Path) -> None:
        outcome = sh(scratch, "for d in / /usr /etc /usr/bin /proc /sys /dev; do touch $d/x && echo $d; done; exit 0")
        assert outcome.stdout == b""
        assert sh(scratch, "touch /tmp/x /dev/shm/x /scratch/x").status is Status.OK
        assert [path.name for path in scratch.iterdir()] == ["x"]

    def test_no_network_and_no_namespaces(self, scratch: Path) -> None:
        script = "cat /proc/net/dev | tail -n +3 | cut -d: -f1; unshare -U true || unshare -n true || echo none"
        assert sh(scratch, script).stdout.split() == [b"lo", b"none"]

    def test_paths_of_a_closed_home(self, scratch: Path) -> None:
        home = Path.home() / f".cloudbaker-test-{os.getpid()}"
        inner = home / "deep" / "folder"
        inner.mkdir(parents=True)
        try:
            (inner / "data").write_text("readable\n")
            (home / "other").write_text("not given\n")
            outcome = run_tool(
                ["/bin/sh", "-c", f"cat {inner}/data; ls {home}; echo x > {inner}/data"], scratch=scratch, ro=[inner]
            )
        finally:
            shutil.rmtree(home)
        assert outcome.stdout == b"readable\ndeep\n"
        assert b"Read-only" in outcome.stderr or b"denied" in outcome.stderr

    def test_our_python(self, scratch: Path) -> None:
        outcome = run_tool(
            [str(Path(sys.executable).resolve()), "-c", "import json, sys; print(sys.version_info[:2])"],
            scratch=scratch,
            ro=[Path(sys.base_prefix)],
            env={"PYTHONHOME": sys.base_prefix},
        )
        assert outcome.stdout.decode().strip() == str(sys.version_info[:2]), outcome.stderr


@bubblewrap
class TestLimits:
    def test_wall(self, scratch: Path) -> None:
        for script in ("sleep 600", "trap '' TERM INT; while :; do sleep 1; done", "kill -STOP $$"):
            assert sh(scratch, script, Limits(wall_seconds=0.3)).status is Status.WALL

    def test_cpu(self, scratch: Path) -> None:
        assert sh(scratch, "while :; do :; done", Limits(cpu_seconds=1)).status is Status.CPU

    def test_one_large_file(self, scratch: Path) -> None:
        outcome = sh(scratch, "exec head -c 3000000 /dev/zero > big", Limits(file_bytes=MB))
        assert outcome.status is Status.FILE_SIZE

    def test_many_files(self, scratch: Path) -> None:
        script = "i=0; while :; do i=$((i+1)); head -c 500000 /dev/zero > f$i; done"
        assert sh(scratch, script, Limits(file_bytes=4 * MB)).status is Status.FILE_SIZE

    def test_memory_of_many_processes(self, scratch: Path) -> None:
        # 40 MB each, far under what any one may have
        outcome = run_tool(
            ["/usr/bin/perl", "-e", "for (1..6) { if (!fork) { $x = 'x' x 40e6; sleep 600 } } sleep 600"],
            scratch=scratch,
            limits=Limits(memory_bytes=150 * MB),
        )
        assert outcome.status is Status.MEMORY
        assert outcome.peak_bytes > 150 * MB

    def test_a_fork_bomb(self, scratch: Path) -> None:
        outcome = sh(scratch, "f() { f | f & }; f; sleep 600", Limits(wall_seconds=2))
        assert outcome.status in (Status.WALL, Status.ERROR)
        assert sh(scratch, "echo fine").stdout == b"fine\n"

    def test_much_talk(self, scratch: Path) -> None:
        outcome = sh(scratch, "head -c 50000000 /dev/zero; echo the end; echo the end >&2")
        assert outcome.status is Status.OK
        assert len(outcome.stdout) == MB
        assert outcome.stdout.endswith(b"the end\n")
        assert outcome.stderr == b"the end\n"

    def test_a_crash(self, scratch: Path) -> None:
        outcome = sh(scratch, "kill -SEGV $$")
        assert (outcome.status, outcome.code) == (Status.CRASH, 139)

    def test_nothing_survives(self, scratch: Path) -> None:
        marker = f"600.{os.getpid()}"
        outcome = sh(scratch, f"setsid sleep {marker} </dev/null >/dev/null 2>&1 & echo started")
        assert outcome.stdout == b"started\n"
        assert marker not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


@bubblewrap
class TestToolCommand:
    def test_descriptors_and_more_arguments_pass_through(self, scratch: Path, tmp_path: Path) -> None:
        """The way Playwright starts its browser: a script in its place, and pipes on 3 and 4."""
        command = tool_command(
            ["/bin/sh", "-c", 'cat <&3 >&4; echo "$@" >&4', "name"],
            scratch=scratch,
            limits=Limits(wall_seconds=math.inf),
        )
        script = tmp_path / "browser"
        script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        script.chmod(0o700)
        reader, writer = os.pipe()
        back, answer = os.pipe()
        os.write(writer, b"ping ")
        os.close(writer)
        move = (
            f"import os; os.dup2({reader}, 3); os.dup2({answer}, 4); os.execv({str(script)!r}, ['x', 'more', 'args'])"
        )
        subprocess.run([sys.executable, "-c", move], pass_fds=[reader, answer, 3, 4], check=True, timeout=60)
        os.close(answer)
        os.close(reader)
        with os.fdopen(back, "rb") as file:
            assert file.read() == b"ping more args\n"

    def test_it_ends_with_who_started_it(self, scratch: Path) -> None:
        marker = f"601.{os.getpid()}"
        command = tool_command(["sleep", marker], scratch=scratch, limits=Limits(wall_seconds=math.inf))
        starter = subprocess.Popen(
            [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])", *command]
        )

        def running() -> bool:
            text = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
            return any(line == f"sleep {marker}" for line in text.splitlines())

        _until(running)
        starter.kill()
        starter.wait()
        _until(lambda: not running())

    @pytest.mark.skipif(os.geteuid() != 0, reason="as another user, every test here is this one")
    def test_as_a_plain_user(self, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
        command = tool_command(["/bin/sh", "-c", "id -u; echo x > /scratch/y; touch /z"], scratch=scratch)
        monkeypatch.undo()
        os.chown(scratch, NOBODY, NOBODY)
        drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
        done = subprocess.run([*drop, *command], capture_output=True, text=True, timeout=60, check=False)
        if "Permission denied" in done.stderr and "bwrap" in done.stderr:
            pytest.skip("no user namespaces for plain users here")
        assert done.stdout == f"{NOBODY}\n", done.stderr
        assert "Read-only" in done.stderr
        assert (scratch / "y").read_text() == "x\n"


def _until(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class TestReadOutput:
    def test_no_links_no_devices_no_way_out(self, tmp_path: Path) -> None:
        (tmp_path / "inner").mkdir()
        (tmp_path / "inner" / "file").write_bytes(b"data")
        (tmp_path / "link").symlink_to("/etc/passwd")
        (tmp_path / "folder-link").symlink_to("inner")
        os.mkfifo(tmp_path / "fifo")
        assert read_output(tmp_path, "inner/file", limit=4) == b"data"
        for name in ("link", "folder-link/file", "fifo", "inner", "missing"):
            with pytest.raises(OSError):  # noqa: PT011 - ELOOP, ENOTDIR, ENOENT or our own, by kind
                read_output(tmp_path, name, limit=100)
        for name in ("../x", "/etc/passwd", "", "inner/../../x"):
            with pytest.raises(ValueError, match="is not a relative path"):
                read_output(tmp_path, name, limit=100)
        with pytest.raises(ValueError, match="has 4 bytes, more than 3"):
            read_output(tmp_path, "inner/file", limit=3)


class TestWithoutIt:
    def test_what_is_missing_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tools._paths.cache_clear()
        tools.require.cache_clear()
        monkeypatch.setenv("PATH", str(tmp_path))
        try:
            with pytest.raises(ToolMissing, match="install bubblewrap coreutils util-linux"):
                run_tool(["true"], scratch=tmp_path)
        finally:
            tools._paths.cache_clear()
            tools.require.cache_clear()

    def test_bubblewrap_that_can_not_work(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As in a container without user namespaces: the program is there, and fails."""
        for name in ("bwrap", "setpriv", "prlimit", "timeout"):
            (tmp_path / name).write_text('#!/bin/sh\n[ "$1" = --version ] && echo bubblewrap 0.8.0 || exit 1\n')
            (tmp_path / name).chmod(0o700)
        tools._paths.cache_clear()
        tools.require.cache_clear()
        monkeypatch.setenv("PATH", str(tmp_path))
        try:
            with pytest.raises(IsolationUnavailable, match="can't make namespaces here"):
                run_tool(["true"], scratch=tmp_path)
        finally:
            tools._paths.cache_clear()
            tools.require.cache_clear()
