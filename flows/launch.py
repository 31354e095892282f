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


def main(path: str) -> int:
    """Returns the engine's exit code; without a service socket the run is done right here, by Prefect itself."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
    except OSError:
        os.execv(sys.executable, [sys.executable, "-m", "prefect.engine"])
    request = json.dumps({"environment": dict(os.environ), "cwd": os.getcwd()}).encode() + b"\n"  # noqa: PTH109
    rights = array.array("i", [1, 2])
    sent = connection.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    connection.sendall(request[sent:])
    engine = 0

    def forward(number: int, _frame: object) -> None:
        if engine:
            os.kill(engine, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    with connection.makefile("r", encoding="utf-8") as answers:
        for line in answers:
            answer = json.loads(line)
            engine = answer.get("pid", engine)
            if "exit" in answer:
                return int(answer["exit"])
    return 1  # the engine died: Prefect's worker marks the run as crashed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
