"""The ``clean-up`` flow: what retention lets go, what interrupted bakes left behind, and the published tables."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.records import GcReport
from cloudbaker.settings import settings
from cloudbaker.tasks.report import human_bytes

_SHOWN = 200


@flow(name="clean-up", persist_result=False)
def clean_up(plan: bool = False, grace_hours: float = 24, tables: bool = True) -> State[dict[str, Any]]:
    """Delete versions as retention says, remove what interrupted bakes left behind, tend the published tables.

    Args:
        plan: Only say what would be done.
        grace_hours: Age at which files that nothing explains go, and silent runs are called failed.
        tables: Publish, compact and vacuum the tables too.
    """
    logger = get_run_logger()
    with Catalog.open(settings()) as catalog:

        @task(name="gc", cache_policy=NO_CACHE, persist_result=False)
        def collect() -> GcReport:
            return catalog.gc(plan=plan, grace=timedelta(hours=grace_hours))

        @task(name="tables", cache_policy=NO_CACHE, persist_result=False)
        def tend() -> None:
            if not plan:
                catalog.export()
            catalog.maintain_tables(plan=plan)

        report = collect()
        create_markdown_artifact(_markdown(report), key="clean-up-report")
        for failure in report.failed[:_SHOWN]:
            logger.error("could not %s %s: %s", failure.verb, failure.key or "the store", failure.error)
        if tables:
            tend()
    counts = dict(Counter(item.kind for item in report.items))
    data = {"plan": plan, "found": counts, "bytes": report.bytes, "failed": len(report.failed)}
    message = f"{len(report.items)} found, {human_bytes(report.bytes)} {'would be' if plan else 'are'} free"
    if report.failed:
        return Failed(message=f"{message}; the store failed {len(report.failed)} time(s): run it again", data=data)
    return Completed(message=message, data=data)


def _markdown(report: GcReport) -> str:
    done = "would be cleaned up" if report.plan else "cleaned up"
    lines = [
        f"# {len(report.items)} things {done}, {human_bytes(report.bytes)}",
        "",
        "| what | how many |",
        "|---|---|",
    ]
    lines += [f"| {kind} | {count} |" for kind, count in sorted(Counter(i.kind for i in report.items).items())]
    lines += ["", *(f"- {item.kind}: `{item.key}`" for item in report.items[:_SHOWN])]
    if len(report.items) > _SHOWN:
        lines.append(f"- and {len(report.items) - _SHOWN} more: `cloudbaker catalog gc --plan` shows what is left")
    return "\n".join(lines)
