"""Running a flow in this process: against Prefect's temporary API, or the one that is configured."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cloudbaker.flows.environment import prepare
from cloudbaker.settings import settings


def run_flow_here(name: str, **parameters: Any) -> Any:
    """Run the flow ``bake`` or ``rebake`` with these parameters and return its data. Raises what the flow raised."""
    if not prepare(settings()):
        _temporary_api()
    with no_heartbeat():
        return _flow(name)(**parameters, return_state=True).result(raise_on_failure=True)


def _flow(name: str) -> Callable[..., Any]:
    if name == "bake":
        from cloudbaker.flows.bake import bake

        return bake
    from cloudbaker.flows.rebake import rebake

    return rebake


def _temporary_api() -> None:
    """Start Prefect's temporary API, if no other is configured, and see to it that it ends with us.

    Prefect would start it by itself, and stops it at our exit; but where we are killed with -9 it ran on for ever.
    """
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_API_URL

    if PREFECT_API_URL.value():
        return
    server = SubprocessASGIServer()
    if server.running:
        return
    server.start()
    if server.server_process is not None:
        _end_with_us(server.server_process.pid)


_watches: list[subprocess.Popen[bytes]] = []
"""Of `_end_with_us`, for as long as we live."""


def _end_with_us(pid: int) -> None:
    """Have a process of ours terminated when this one is gone, however it went."""
    reading, _writing = os.pipe()  # the other end is ours alone and never closed: its reader sees us go
    watch = f"read -r _; grep -qs uvicorn /proc/{pid}/cmdline && kill {pid}"
    _watches.append(subprocess.Popen(["/bin/sh", "-c", watch], stdin=reading, start_new_session=True))
    os.close(reading)


@contextmanager
def no_heartbeat() -> Iterator[None]:
    """Without Prefect's heartbeat: joining its thread costs a second at the end of every flow run (measured 1.07 s)."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield
