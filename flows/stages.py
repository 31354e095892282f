"""The way of the data: the literal list of stages that every way to bake runs."""

from __future__ import annotations

from cloudbaker import logs
from cloudbaker.errors import Cancelled, CloudBakerError
from cloudbaker.model import RunState, VerdictKind
from cloudbaker.tasks.context import BakeContext
from cloudbaker.tasks.ingest import ingest
from cloudbaker.tasks.optimize import optimize
from cloudbaker.tasks.package import package
from cloudbaker.tasks.preview import preview
from cloudbaker.tasks.publish import publish
from cloudbaker.tasks.stage import StageRunner
from cloudbaker.tasks.validate import validate

STAGES = (ingest, validate, optimize, preview, package, publish)


def bake_stages(context: BakeContext, run: StageRunner) -> RunState:
    """Bake one asset. All that is worth knowing afterwards is in the catalog, under the run's id."""
    ingested = run(ingest)
    if ingested.unchanged is not None:
        return _finish(context, RunState.UNCHANGED, version=ingested.unchanged.number)
    validated = run(validate, ingested)
    if validated.verdict.kind is VerdictKind.REJECT:
        return _finish(context, RunState.REJECTED, findings=validated.verdict.findings)
    optimized = run(optimize, validated)
    if not optimized.files:
        return _finish(context, RunState.REJECTED, findings=validated.verdict.findings + optimized.findings)
    previewed = run(preview, validated, optimized)
    packaged = run(package, ingested, optimized)
    if not packaged.files:
        findings = validated.verdict.findings + optimized.findings + packaged.findings
        return _finish(context, RunState.REJECTED, findings=findings)
    published = run(publish, ingested, validated, optimized, previewed, packaged)
    return _finish(context, RunState.COMPLETED, version=published.version.number)


def bake_run(context: BakeContext, run: StageRunner) -> RunState:
    """`bake_stages` between the run's first and last row: however it ends, the catalog says how."""
    context.catalog.start_run(context.run)
    try:
        with logs.bound(run_id=context.run.run_id, asset=str(context.request.asset)):
            return bake_stages(context, run)
    except (Exception, Cancelled) as error:
        failure = (
            error
            if isinstance(error, CloudBakerError)
            else CloudBakerError(
                f"an unexpected {type(error).__name__} stopped the run; the logs have its detail", detail=repr(error)
            )
        )
        state = RunState.CANCELLED if isinstance(error, Cancelled) else RunState.FAILED
        context.catalog.finish_run(context.run.run_id, state, error=failure.to_json())
        raise
    except BaseException:
        # Ctrl-C, or the signal by which Prefect cancels: not an error of the run.
        context.catalog.finish_run(context.run.run_id, RunState.CANCELLED)
        raise


def _finish(context: BakeContext, state: RunState, **facts: object) -> RunState:
    context.catalog.finish_run(context.run.run_id, state, **facts)  # type: ignore[arg-type]
    context.progress("done", 1.0)
    return state
