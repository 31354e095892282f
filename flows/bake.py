"""The ``bake`` flow: one asset, every stage a task of the run, seen in the Prefect UI."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from cloudbaker.flows.stages import bake_run
from cloudbaker.tasks.boundary import STATE_NAMES, prefect_tasks, publish_artifacts
from cloudbaker.tasks.context import BakeRequest
from cloudbaker.tasks.gather import asset_of, dependencies_of
from cloudbaker.tasks.report import headline
from cloudbaker.tasks.result import result_of
from cloudbaker.tasks.services import ray_services


def _run_name() -> str:
    asked = flow_run.parameters
    return f"bake-{asked.get('asset') or Path(str(asked['path'])).name}"


@flow(name="bake", flow_run_name=_run_name, persist_result=False)
def bake(
    path: str,
    asset: str | None = None,
    tenant: str = "local",
    recipe: str = "web",
    channel: str | None = "live",
    previews: bool = True,
    trusted: bool = False,
    change_note: str = "",
    depends_on: list[str] | None = None,
    created_by: str = "prefect",
) -> State[dict[str, Any]]:
    """Bake a 3D model into a small, safe, signed, versioned package.

    Args:
        path: A .glb, .gltf or .zip file, or a folder with one model in it, on the machine that bakes. With a Godot
            recipe the .pck, .zip or folder of a mod.
        asset: Name of the asset, as name, project/name or tenant/project/name. Left out: from the file's name.
        tenant: Owner of the asset, where the asset's name does not say it.
        recipe: What the package is for: the name of a recipe.
        channel: Channel that moves to the new version; empty moves none.
        previews: Whether to render a picture before and after.
        trusted: The content is your own: bake it even where the kernel can't isolate the work.
        change_note: Why this version was made.
        depends_on: Assets that it needs, each as ASSET or ASSET@NUMBER. Left out: those that its newest version needs.
        created_by: Who asked for it.
    """
    ref = asset_of(path, asset, tenant=tenant)
    request = BakeRequest(
        asset=ref,
        recipe=recipe,
        path=path,
        channel=channel or None,
        previews=previews,
        trusted=trusted,
        created_by=created_by,
        change_note=change_note,
        dependencies=dependencies_of(ref, depends_on),
    )
    with ray_services(trusted=trusted) as services:
        run_id = str(flow_run.id or uuid.uuid4())
        context = services.context(request, flow="bake", run_id=run_id)
        try:
            state = bake_run(context, prefect_tasks(context))
        finally:
            result = result_of(services.catalog, run_id)
            publish_artifacts(result)
    return Completed(name=STATE_NAMES[state], message=headline(result), data=result.to_json())
