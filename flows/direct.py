"""Direct: the list of stages in this very process, with a sandbox and neither Prefect nor Ray. One file, one second."""

from __future__ import annotations

from typing import Any

from cloudbaker.flows.stages import bake_run
from cloudbaker.model import RunState
from cloudbaker.tasks.context import BakeContext
from cloudbaker.tasks.stage import Stage, retryable


def run_directly(context: BakeContext) -> RunState:
    """Run the stages one after the other; failures that may pass by themselves are tried again at once."""
    done = 0.0

    def run(stage: Stage[Any, Any], *args: Any) -> Any:
        nonlocal done
        context.progress(stage.name, done)
        for attempt in range(1, stage.retries + 2):
            try:
                result = stage.execute(context, attempt, *args)
            except Exception as error:
                if attempt > stage.retries or not retryable(error):
                    raise
            else:
                done += stage.share
                return result
        raise AssertionError("unreachable")

    return bake_run(context, run)
