"""The ``rebake`` flow: bake again what is stale. One Prefect task per batch; Ray and the catalog below it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed

from cloudbaker import logs
from cloudbaker.catalog.core import Catalog
from cloudbaker.compute import cluster as ray_cluster
from cloudbaker.recipe import load_recipe
from cloudbaker.settings import settings
from cloudbaker.tasks.boundary import Progress
from cloudbaker.tasks.context import job_limits
from cloudbaker.tasks.plan import PlanItem, plan_rebake
from cloudbaker.tasks.rebake import ITEM_FUNCTION, BatchResult, rebake_batch
from cloudbaker.tasks.services import ray_address

JOBS_PER_ITEM = 6
"""Jobs one after the other in one item; the driver's backstop waits no longer than their wall clocks together."""


@flow(name="rebake", persist_result=False)
def rebake(
    where: str | None = None,
    recipe: str | None = None,
    plan: bool = False,
    batch_size: int = 500,
    window: int | None = None,
    created_by: str = "prefect",
    item_function: str = ITEM_FUNCTION,
) -> State[dict[str, Any]]:
    """Bake every stale asset again from its stored sources. Run it again to resume: what is done is not done twice.

    Args:
        where: SQL condition over the latest versions, such as "tenant = 'acme' and size_bytes > 1e6".
        recipe: Bake with this recipe instead of each version's own.
        plan: Only say what is stale and why.
        batch_size: Assets per Prefect task.
        window: Assets in flight at once; left out, one per worker.
        created_by: Who asked for it.
        item_function: Import name of what is done per asset.
    """
    logger = get_run_logger()
    config = settings()
    with Catalog.open(config) as catalog:
        stale = plan_rebake(catalog, where=where, recipe=recipe)
        logger.info("%d stale, %d unchanged, %d in quarantine", len(stale.items), stale.unchanged, stale.quarantined)
        if plan or not stale.items:
            return _completed(stale.to_json(), None)
        context = {
            "settings": config.model_dump_json(),
            "run_id": str(flow_run.id or uuid.uuid4()),
            "created_by": created_by,
        }
        recipes = {i.recipe: load_recipe(i.recipe) for i in stale.items}
        wall_seconds = max(job_limits(r).wall_seconds for r in recipes.values()) * JOBS_PER_ITEM
        progress, total = Progress("rebake-progress", f"Re-bake of {len(stale.items)} assets"), BatchResult()
        with ray_cluster.connect(ray_address(config)) as cluster:
            for batch in _batches(stale.items, batch_size):
                done_before = total.done

                @task(name="rebake-batch", cache_policy=NO_CACHE, persist_result=False)
                def one_batch(items: int) -> BatchResult:  # the count is for the run's page
                    return rebake_batch(
                        catalog,
                        cluster,
                        batch,  # noqa: B023
                        context=context,
                        wall_seconds=wall_seconds,
                        window=window,
                        item_function=item_function,
                        on_done=lambda count: progress.update((done_before + count) / len(stale.items)),  # noqa: B023
                    )

                with logs.bound(run_id=context["run_id"]):
                    total += one_batch(len(batch))
    return _completed(stale.to_json(), total)


def _completed(plan: dict[str, Any], result: BatchResult | None) -> State[dict[str, Any]]:
    """The final state, with the report and the numbers on the run's page."""
    create_markdown_artifact(_markdown(plan, result), key="rebake-report")
    if result is None:
        data, message = {"plan": plan, "result": None}, f"{plan['stale']} stale"
    else:
        data = {"plan": {**plan, "items": []}, "result": result.to_json()}
        message = f"{result.published} published, {result.unchanged} unchanged, {result.quarantined} quarantined"
    create_table_artifact([data], key="rebake-result")
    name = "CompletedWithQuarantine" if result and result.quarantined else "Completed"
    return Completed(name=name, message=message, data=data)


def _batches(items: Sequence[PlanItem], size: int) -> Iterator[Sequence[PlanItem]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _markdown(plan: dict[str, Any], result: BatchResult | None) -> str:
    lines = [
        f"# Re-bake: {plan['stale']} stale, {plan['unchanged']} unchanged, {plan['quarantined']} in quarantine",
        "",
    ]
    lines += ["| why | assets |", "|---|---|", *(f"| {why} | {count} |" for why, count in plan["reasons"].items()), ""]
    if result is None:
        lines += [f"- `{i['asset']}@{i['version']}`: {i['reason']}" for i in plan["items"][:200]]
    else:
        lines += [f"**{result.published}** published, **{result.unchanged}** unchanged by then, "]
        lines += [f"**{result.quarantined}** quarantined; attempts: {dict(result.attempts)}"]
    return "\n".join(lines)
