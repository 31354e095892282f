"""The command of the process worker: hand this flow run to a warm engine and stand in for it until it ends.

Imports next to nothing, since this is the one process that is started per run. Usage: ``launch.py SOCKET``.
"""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import sys
from typing import NoReturn

ENGINE_SECONDS = 90.0
"""How long to wait for a warm engine before the run is done without one."""


def main(path: str) -> int:
    """Returns the engine's exit code; without an engine the run is done right here, by Prefect itself."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
    except OSError:
        _alone()
    request = json.dumps({"environment": dict(os.environ), "cwd": os.getcwd()}).encode() + b"\n"  # noqa: PTH109
    rights = array.array("i", [1, 2])
    sent = connection.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    connection.sendall(request[sent:])
    connection.settimeout(ENGINE_SECONDS)
    try:
        answer = json.loads(_line(connection))
    except (OSError, ValueError):
        _alone()
    engine = int(answer["pid"])
    connection.settimeout(None)

    def forward(number: int, _frame: object) -> None:
        os.kill(engine, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    end = _line(connection)
    # Without an answer the engine died: Prefect's worker then marks the run as crashed.
    return int(json.loads(end)["exit"]) if end else 1


def _alone() -> NoReturn:
    """No engine: do what Prefect would have done."""
    os.execv(sys.executable, [sys.executable, "-m", "prefect.engine"])


def _line(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        more = connection.recv(4096)
        if not more:
            return b""
        data += more
    return data


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
