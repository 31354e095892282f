"""The deployments of a running service: the same ones as in ``prefect.yaml``, from the installed package."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.flows import Flow

from cloudbaker.flows import launch
from cloudbaker.flows.bake import bake
from cloudbaker.flows.clean_up import clean_up
from cloudbaker.flows.publish_tables import publish_tables
from cloudbaker.flows.rebake import rebake

WORK_POOL = "cloudbaker"


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a deployment runs by itself. UTC."""

    slug: str
    cron: str
    active: bool


@dataclass(frozen=True, slots=True)
class Deployment:
    """A flow, and how it is deployed. Its name is the flow's."""

    flow: Flow[..., Any]
    concurrency_limit: int | None = None
    schedule: Schedule | None = None

    @property
    def module(self) -> str:
        """Name of the flow's module and of its function: the flow's name, spelt as Python does."""
        return self.flow.name.replace("-", "_")


DEPLOYMENTS = (
    Deployment(bake),
    # One at a time: a second one would redo the work of the first. A re-bake of everything is for people to switch on.
    Deployment(rebake, concurrency_limit=1, schedule=Schedule("weekly", "0 3 * * 0", active=False)),
    # On by itself: a policy of retention that nobody carries out would be a promise that is not kept.
    Deployment(clean_up, concurrency_limit=1, schedule=Schedule("nightly", "30 2 * * *", active=True)),
    # On by itself: what is not published is read from the core by each question, and is in no table if that is lost.
    Deployment(publish_tables, concurrency_limit=1, schedule=Schedule("often", "*/10 * * * *", active=True)),
)
"""What a service serves."""


def create(engine_socket: Path) -> None:
    """Create work pool and deployments on the API of this environment; existing ones are brought up to date."""
    asyncio.run(_create(engine_socket))


async def _create(engine_socket: Path) -> None:
    from prefect.workers.process import ProcessWorker

    async with get_client() as client:
        template = ProcessWorker.get_default_base_job_template()
        with contextlib.suppress(ObjectAlreadyExists):
            await client.create_work_pool(WorkPoolCreate(name=WORK_POOL, type="process", base_job_template=template))
        for deployment in DEPLOYMENTS:
            flow, module = deployment.flow, deployment.module
            await client.create_deployment(
                flow_id=await client.create_flow(flow),
                name=flow.name,
                work_pool_name=WORK_POOL,
                entrypoint=f"cloudbaker.flows.{module}.{module}",
                parameter_openapi_schema=flow.parameters.model_dump_for_openapi(),
                description=flow.description,
                tags=["cloudbaker"],
                job_variables={"command": f"{sys.executable} -I -S {launch.__file__} {engine_socket}"},
                enforce_parameter_schema=True,
                concurrency_limit=deployment.concurrency_limit,
                schedules=await _schedules(client, deployment),
            )


async def _schedules(client: PrefectClient, deployment: Deployment) -> list[DeploymentScheduleCreate]:
    """Those that are there, as people have set them since, and ours if it is not among them.

    To create a deployment again removes all its schedules: one that was switched off, or added in the UI, would be
    undone by the next start of the service.
    """
    name = deployment.flow.name
    try:
        there = (await client.read_deployment_by_name(f"{name}/{name}")).schedules
    except ObjectNotFound:
        there = []
    kept = [
        DeploymentScheduleCreate(schedule=s.schedule, active=s.active, slug=s.slug, parameters=s.parameters)
        for s in there
    ]
    ours = deployment.schedule
    if ours is not None and ours.slug not in [s.slug for s in there]:
        cron = CronSchedule(cron=ours.cron, timezone="UTC")
        kept.append(DeploymentScheduleCreate(schedule=cron, active=ours.active, slug=ours.slug))
    return kept
