"""Running a flow in this process: against Prefect's temporary API, or the one that is configured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cloudbaker.flows.environment import prepare
from cloudbaker.settings import settings


def run_flow_here(name: str, **parameters: Any) -> Any:
    """Run the flow ``bake`` or ``rebake`` with these parameters and return its data. Raises what the flow raised."""
    prepare(settings())
    with no_heartbeat():
        return _flow(name)(**parameters, return_state=True).result(raise_on_failure=True)


def _flow(name: str) -> Callable[..., Any]:
    if name == "bake":
        from cloudbaker.flows.bake import bake

        return bake
    from cloudbaker.flows.rebake import rebake

    return rebake


@contextmanager
def no_heartbeat() -> Iterator[None]:
    """Without Prefect's heartbeat: joining its thread costs a second at the end of every flow run (measured 1.07 s)."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield
