"""The service of one machine: Prefect server and UI, Ray, warm engines, Prefect worker and the publisher of events.

All under one supervisor. ``cloudbaker up`` starts it, ``cloudbaker down`` ends it with everything it started. A part
that dies is started again; each part's output goes to its own file under ``logs/`` in the home folder.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cloudbaker.errors import CloudBakerError, UsageError
from cloudbaker.flows.engine import ready_file
from cloudbaker.flows.environment import prepare
from cloudbaker.flows.publisher import configured_sinks
from cloudbaker.flows.publisher import ready_file as publisher_ready
from cloudbaker.service import ServiceRecord, running_service
from cloudbaker.settings import Settings, settings

WORKER_POLL_SECONDS = 0.25
"""How often the worker asks for new runs. Prefect's default of 10 s would be most of the time a bake takes."""
READY_TIMEOUT = 180.0
ENGINES = 2
"""Runs that find a warm engine at the same time; more wait for the next ones."""


def up(config: Settings, *, port: int | None = None) -> tuple[ServiceRecord, bool]:
    """Start the service in the background and wait until it takes work. Returns its record, and whether it is new."""
    running = running_service(config)
    if running is not None:
        return running, False
    with configured_sinks(config):
        pass  # a webhook that can't be is told here, and not in a log
    logs = config.home / "logs"
    logs.mkdir(parents=True, exist_ok=True, mode=0o700)
    log_path = logs / "service.log"
    with log_path.open("ab") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "cloudbaker.flows.service", str(port or free_port(4200))],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | {"CLOUDBAKER_HOME": str(config.home)},
        )
    deadline = time.monotonic() + READY_TIMEOUT
    while time.monotonic() < deadline:
        record = running_service(config)
        if record is not None:
            return record, True
        if supervisor.poll() is not None:
            break
        time.sleep(0.1)
    supervisor.terminate()
    raise CloudBakerError(f"the service did not start: its logs are in {logs}", detail=_tail(log_path))


def down(config: Settings) -> bool:
    """End the service and everything it started. False if none was running."""
    record = running_service(config)
    if record is None:
        return False
    os.kill(record.pid, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(ChildProcessError):  # reap it if it is our own child (tests)
            os.waitpid(record.pid, os.WNOHANG)
        try:
            os.kill(record.pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    with suppress(ProcessLookupError):
        os.killpg(record.pid, signal.SIGKILL)
    return True


@dataclass(slots=True)
class _Part:
    """One process of the service."""

    name: str
    command: list[str]
    ready: Callable[[], bool]
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0


class Supervisor:
    """Starts the parts in order, each when the one before is ready, and keeps them alive."""

    def __init__(self, config: Settings, port: int) -> None:
        self._config = config
        self._logs = config.home / "logs"
        self._ray_file = config.home / f"ray-{os.getpid()}.address"
        self._socket = config.home / "engine.sock"
        self._api = f"http://127.0.0.1:{port}/api"
        python = sys.executable
        self._environment = os.environ | {
            "CLOUDBAKER_HOME": str(config.home),
            "PREFECT_API_URL": self._api,
            "PREFECT_SERVER_UI_API_URL": self._api,
            "PREFECT_SERVER_API_PORT": str(port),
            "PREFECT_LOGGING_LEVEL": "INFO",  # what a run logs belongs on its page; here it disturbs no terminal
            "PREFECT_WORKER_QUERY_SECONDS": str(WORKER_POLL_SECONDS),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{config.home}/prefect/prefect.db",
            "PYTHONUNBUFFERED": "1",
            # Ray asks every process that joins for the token, but reads the mode from its own environment at import.
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }
        self._parts = [
            _Part(
                "prefect-server",
                [python, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
                self._server_ready,
            ),
            _Part("ray", [python, "-m", "cloudbaker.compute.head", str(self._ray_file)], self._ray_file.exists),
            _Part(
                "engines",
                [python, "-m", "cloudbaker.flows.engine", str(self._socket), str(ENGINES)],
                ready_file(self._socket).exists,
            ),
            _Part(
                "worker",
                [
                    python,
                    "-m",
                    "prefect",
                    "worker",
                    "start",
                    "--pool",
                    "cloudbaker",
                    "--type",
                    "process",
                    "--name",
                    "local",
                ],
                lambda: True,
            ),
            _Part("publisher", [python, "-m", "cloudbaker.flows.publisher"], publisher_ready(config).exists),
        ]

    def run(self) -> None:
        """Start everything, write the record, and watch until SIGTERM."""
        stopping = False

        def stop(_signal: int, _frame: object) -> None:
            nonlocal stopping
            stopping = True

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        try:
            self._start_all(lambda: stopping)
            while not stopping:
                self._restart_dead()
                time.sleep(0.2)
        finally:
            ServiceRecord.path(self._config).unlink(missing_ok=True)
            self._stop_all()
            self._ray_file.unlink(missing_ok=True)

    def _start_all(self, stopping: Callable[[], bool]) -> None:
        server, ray, engines, worker, publisher = self._parts
        self._start(server)
        self._start(ray)
        self._wait(ray, stopping)
        record = ServiceRecord(
            os.getpid(),
            self._api,
            self._api.removesuffix("/api"),
            self._ray_file.read_text("utf-8").strip(),
            str(self._socket),
        )
        self._environment["CLOUDBAKER_RAY_ADDRESS"] = record.ray_address
        self._environment["CLOUDBAKER_PREFECT_API_URL"] = self._api
        self._wait(server, stopping)
        self._start(engines)
        publisher_ready(self._config).unlink(missing_ok=True)
        self._start(publisher)
        self._deploy()
        self._wait(engines, stopping)
        self._start(worker)
        self._wait(publisher, stopping)
        if not stopping():
            record.write(self._config)

    def _deploy(self) -> None:
        code = "import sys, pathlib; from cloudbaker.flows.deployments import create; create(pathlib.Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", code, str(self._socket)], env=self._environment, check=True, timeout=120)

    def _start(self, part: _Part) -> None:
        with (self._logs / f"{part.name}.log").open("ab") as log:
            part.process = subprocess.Popen(
                part.command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _wait(self, part: _Part, stopping: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_TIMEOUT
        while not part.ready():
            if stopping():
                raise SystemExit(0)
            if time.monotonic() > deadline or (part.process and part.process.poll() is not None):
                raise CloudBakerError(f"{part.name} did not start: see {self._logs / part.name}.log")
            time.sleep(0.1)

    def _server_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._api}/health", timeout=2) as answer:
                return bool(json.load(answer))
        except (OSError, ValueError):
            return False

    def _restart_dead(self) -> None:
        for part in self._parts:
            if part.process is not None and part.process.poll() is not None:
                part.restarts += 1
                print(f"{part.name} ended with {part.process.returncode}; starting it again", flush=True)
                time.sleep(min(part.restarts, 10))
                self._start(part)

    def _stop_all(self) -> None:
        for part in reversed(self._parts):
            if part.process is not None and part.process.poll() is None:
                part.process.terminate()
        deadline = time.monotonic() + 15
        for part in reversed(self._parts):
            if part.process is not None:
                with suppress(subprocess.TimeoutExpired):
                    part.process.wait(max(0.1, deadline - time.monotonic()))
                if part.process.poll() is None:
                    part.process.kill()
                    part.process.wait()


def free_port(preferred: int) -> int:
    """`preferred` if nobody listens there, else any free port of the loopback address."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise UsageError("no free port on 127.0.0.1")


def _tail(path: Path, size: int = 4000) -> str:
    with suppress(OSError):
        return path.read_text("utf-8", "replace")[-size:]
    return ""


def main() -> None:
    """The supervisor's process."""
    config = settings()
    prepare(config)
    Supervisor(config, int(sys.argv[1])).run()


if __name__ == "__main__":
    main()
