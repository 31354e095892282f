"""The deployments of a running service: the same ones as in ``prefect.yaml``, from the installed package."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.flows import Flow

from cloudbaker.flows import launch
from cloudbaker.flows.bake import bake
from cloudbaker.flows.rebake import rebake

WORK_POOL = "cloudbaker"


def create(engine_socket: Path) -> None:
    """Create work pool and deployments on the API of this environment; existing ones are brought up to date."""
    asyncio.run(_create(engine_socket))


async def _create(engine_socket: Path) -> None:
    from prefect.workers.process import ProcessWorker

    async with get_client() as client:
        template = ProcessWorker.get_default_base_job_template()
        with contextlib.suppress(ObjectAlreadyExists):
            await client.create_work_pool(WorkPoolCreate(name=WORK_POOL, type="process", base_job_template=template))
        flows: list[Flow[..., Any]] = [bake, rebake]
        for flow in flows:
            await client.create_deployment(
                flow_id=await client.create_flow(flow),
                name=flow.name,
                work_pool_name=WORK_POOL,
                entrypoint=f"cloudbaker.flows.{flow.name}.{flow.name}",
                parameter_openapi_schema=flow.parameters.model_dump_for_openapi(),
                description=flow.description,
                tags=["cloudbaker"],
                job_variables={"command": f"{sys.executable} -I -S {launch.__file__} {engine_socket}"},
                enforce_parameter_schema=True,
                concurrency_limit=1 if flow is rebake else None,  # a second one would redo its work
            )
