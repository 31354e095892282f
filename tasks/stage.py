"""A stage of a bake: a plain function with a name and a policy. How it is run (directly, as a Prefect task) is not its
business, so the same list of stages serves every way to run it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from cloudbaker import logs
from cloudbaker.errors import CloudBakerError
from cloudbaker.model import Step, StepState
from cloudbaker.tasks.context import BakeContext

log = logs.get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Stage(Generic[P, R]):
    """One step of the way of the data."""

    name: str
    function: Callable[Concatenate[BakeContext, P], R]
    retries: int
    """Of failures that may pass by themselves (`CloudBakerError.retryable`); content is never tried again."""
    share: float
    """How much of a run it is expected to take, 0 to 1: only for progress."""

    def execute(self, context: BakeContext, attempt: int, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it once and write the step, with times, device and metrics, into the catalog."""
        context.catalog.announce(
            context.request.asset,
            "step.started",
            {"stage": self.name, "attempt": attempt},
            run_id=context.run.run_id,
        )
        started, first_job = datetime.now(UTC), len(context.outcomes)
        state, error, result = StepState.FAILED, None, None
        try:
            result = self.function(context, *args, **kwargs)
            state = StepState.SKIPPED if getattr(result, "skipped", False) else StepState.DONE
        except BaseException as problem:
            error = problem.to_json() if isinstance(problem, CloudBakerError) else {"message": type(problem).__name__}
            raise
        else:
            return result
        finally:
            finished, jobs = datetime.now(UTC), context.outcomes[first_job:]
            seconds = (finished - started).total_seconds()
            log.info(
                "stage ended", stage=self.name, state=state, attempt=attempt, seconds=round(seconds, 3), error=error
            )
            context.catalog.record_step(
                Step(
                    context.run.run_id,
                    self.name,
                    attempt,
                    state,
                    started,
                    finished,
                    device="cuda" if any(o.device.startswith("cuda") for o in jobs) else "cpu",
                    metrics={
                        "seconds": seconds,
                        "job_seconds": sum(o.wall_seconds for o in jobs),
                        "cpu_seconds": sum(o.cpu_seconds for o in jobs),
                        "peak_bytes": float(max((o.peak_bytes for o in jobs), default=0)),
                        "jobs": float(len(jobs)),
                        **getattr(result, "metrics", {}),
                    },
                    error=error,
                )
            )


def stage(
    name: str, *, share: float, retries: int = 2
) -> Callable[[Callable[Concatenate[BakeContext, P], R]], Stage[P, R]]:
    """Make a stage of a function."""

    def decorate(function: Callable[Concatenate[BakeContext, P], R]) -> Stage[P, R]:
        return Stage(name, function, retries, share)

    return decorate


def retryable(error: BaseException | None) -> bool:
    """Whether trying again can help. Bad content, limits and refusals never get better by themselves."""
    return isinstance(error, CloudBakerError) and error.retryable


StageRunner = Callable[..., Any]
"""``run(stage, *args)`` → the stage's result. The three ways to run differ in this alone."""
