"""The Prefect boundary: a stage becomes a Prefect task, and what came of a run becomes the artifacts of its page."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from prefect import task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_run_logger
from prefect.runtime import task_run
from prefect.tasks import exponential_backoff

from cloudbaker.model import RunState
from cloudbaker.tasks.context import BakeContext
from cloudbaker.tasks.report import SIZE_COLUMNS, headline, markdown, size_rows
from cloudbaker.tasks.result import BakeResult
from cloudbaker.tasks.stage import Stage, StageRunner, retryable


def prefect_tasks(context: BakeContext) -> StageRunner:
    """A runner that makes each stage a task run of the current flow run, and keeps the progress artifact moving."""
    logger = get_run_logger()
    progress = Progress("bake-progress", f"Bake of {context.request.asset}")
    done = 0.0

    def run(stage: Stage[Any, Any], *args: Any) -> Any:
        nonlocal done

        # No parameters: Prefect would walk through and hash every model that is passed.
        @task(
            name=stage.name,
            retries=stage.retries,
            retry_delay_seconds=exponential_backoff(backoff_factor=1),
            retry_jitter_factor=0.5,
            retry_condition_fn=_worth_retrying,
            cache_policy=NO_CACHE,
            persist_result=False,
        )
        def step() -> Any:
            return stage.execute(context, int(task_run.run_count or 1), *args)

        context.progress(stage.name, done)
        logger.info("%s: %s", context.request.asset, stage.name)
        result = step()
        done += stage.share
        progress.update(done)
        return result

    return run


def _worth_retrying(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    try:
        state.result()
    except BaseException as error:
        return retryable(error)
    return False


class Progress:
    """A progress artifact, written only when it has moved by a percent: each write is a call to the server."""

    def __init__(self, key: str, description: str) -> None:
        self._id: UUID = create_progress_artifact(0.0, key=key, description=description)  # type: ignore[assignment]
        self._shown = 0.0

    def update(self, fraction: float) -> None:
        """Show `fraction`, 0 to 1."""
        if fraction - self._shown >= 0.01 or fraction >= 1.0 > self._shown:
            self._shown = min(fraction, 1.0)
            update_progress_artifact(self._id, progress=100 * self._shown)


def publish_artifacts(result: BakeResult) -> None:
    """The report (with pictures) and the table of sizes, on the page of the flow run."""
    get_run_logger().info("%s in %.1f s", headline(result), result.seconds)
    create_markdown_artifact(markdown(result), key="bake-report", description=headline(result))
    rows = size_rows(result)
    if rows:
        create_table_artifact(
            [dict(zip(SIZE_COLUMNS, row, strict=True)) for row in rows],
            key="bake-sizes",
            description=f"Sizes of {result.asset}",
        )


STATE_NAMES = {RunState.COMPLETED: "Completed", RunState.UNCHANGED: "Unchanged", RunState.REJECTED: "Rejected"}
"""Names of Prefect's final states, all of type COMPLETED: bad content is a verdict, not a failure of the run."""
