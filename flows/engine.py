"""Warm engines: processes that have imported Prefect and the flows and are connected to Ray *before* a run arrives.

Prefect's process worker starts a fresh Python for each flow run, which costs some five seconds of imports and of
connecting. Here its command is a small launcher (`cloudbaker.flows.launch`) that hands the run to a waiting engine and
stands in for it: same environment, same output, same exit code, and signals go through. So polling, concurrency,
cancellation and crash detection stay Prefect's own.

An engine serves one run and ends, because Prefect's control channel is made for one run per process. The pool forks the
next one from a parent that has the imports but no thread and no connection, so a replacement costs little.
"""

from __future__ import annotations

import array
import atexit
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

_MAX_REQUEST = 1 << 20


def serve(socket_path: Path, *, size: int) -> None:
    """Keep `size` engines waiting on a Unix socket until SIGTERM. Must be called in a process without threads."""
    _import_everything()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    socket_path.unlink(missing_ok=True)
    ready_file(socket_path).unlink(missing_ok=True)
    listener.bind(str(socket_path))
    socket_path.chmod(0o600)
    listener.listen(128)
    engines: set[int] = set()

    def stop(_signal: int, _frame: Any) -> None:
        for pid in engines:
            _kill(pid, signal.SIGTERM)
        socket_path.unlink(missing_ok=True)
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        while len(engines) < size:
            pid = os.fork()
            if pid == 0:
                _engine(listener, ready_file(socket_path))
            engines.add(pid)
        pid, _status = os.wait()
        engines.discard(pid)
        time.sleep(0.05)  # an engine that can't start at all must not become a fork bomb


def _import_everything() -> None:
    import cloudbaker.flows.bake
    import cloudbaker.flows.clean_up
    import cloudbaker.flows.rebake  # noqa: F401


def ready_file(socket_path: Path) -> Path:
    """Exists once the first engine is warm."""
    return socket_path.with_suffix(".ready")


def _engine(listener: socket.socket, ready: Path) -> None:
    """One engine's life: connect to Ray, wait for a run, do it, end."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        parent = os.getppid()
        _die_with_parent(parent)
        _connect()
        ready.touch()
        connection, _ = _accept(listener, parent)
        listener.close()
        code = _serve_one(connection)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _connect() -> None:
    """Join Ray and start one worker, so that the first stage of the run finds it warm."""
    from cloudbaker.compute.cluster import connect
    from cloudbaker.compute.crew import CrewOptions
    from cloudbaker.compute.job import Job
    from cloudbaker.settings import settings
    from cloudbaker.tasks.services import ray_address

    config = settings()
    cluster = connect(ray_address(config), options=CrewOptions(idle_seconds=7 * 86400.0))
    cluster.workbench(outer=config.outer_sandbox).run(Job("cloudbaker.compute.job:nothing_job"))


def _accept(listener: socket.socket, parent: int) -> tuple[socket.socket, Any]:
    while True:
        readable, _, _ = select.select([listener], [], [], 5.0)
        if os.getppid() != parent:
            os._exit(0)
        if readable:
            listener.setblocking(False)
            try:
                connection, address = listener.accept()
            except BlockingIOError:  # another engine was quicker
                continue
            connection.setblocking(True)
            return connection, address


def _serve_one(connection: socket.socket) -> int:
    request, descriptors = _receive(connection)
    os.dup2(descriptors[0], 1)
    os.dup2(descriptors[1], 2)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    connection.sendall(json.dumps({"pid": os.getpid()}).encode() + b"\n")
    ended = threading.Event()
    threading.Thread(target=_end_with_launcher, args=(connection, ended), daemon=True).start()
    sys.argv = ["prefect.engine"]
    code = 0
    try:
        from cloudbaker.flows.ephemeral import no_heartbeat

        with no_heartbeat():
            runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    ended.set()
    connection.sendall(json.dumps({"exit": code}).encode() + b"\n")
    # What Prefect still has to send (logs, events) and the connection to Ray: nobody waits for it any more.
    atexit._run_exitfuncs()
    return code


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The launcher's request and its two descriptors (standard output and error)."""
    data, ancillary, _flags, _address = connection.recvmsg(65536, socket.CMSG_SPACE(2 * 4))
    descriptors = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
    while not data.endswith(b"\n") and len(data) < _MAX_REQUEST:
        more = connection.recv(65536)
        if not more:
            break
        data += more
    return json.loads(data), list(descriptors)


def _end_with_launcher(connection: socket.socket, ended: threading.Event) -> None:
    """If the launcher is killed, its run must not go on: nobody would know of it."""
    with suppress(OSError):
        while connection.recv(1):
            pass
    if ended.is_set():
        return
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)
    os._exit(1)


def _die_with_parent(parent: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def _kill(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), size=int(sys.argv[2]))
