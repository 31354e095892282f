"""Runs and their steps: written down as they happen, never changed afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.journal import many, measured, tell
from cloudbaker.catalog.records import RunInfo
from cloudbaker.catalog.uploads import ensure_tenant
from cloudbaker.errors import IdempotencyMismatch, NotFound
from cloudbaker.model import AssetRef, Finding, Run, RunState, Severity, Step, StepState, to_json


def start_run(core: Core, run: Run, now: datetime) -> None:
    """See `cloudbaker.catalog.core.Catalog.start_run`."""
    r = s.runs.c
    with core.write() as connection:
        known = connection.execute(sa.select(r.asset, r.flow).where(r.run_id == run.run_id)).one_or_none()
        if known is None:
            ensure_tenant(connection, run.asset.tenant, now)
            connection.execute(
                sa.insert(s.runs),
                {
                    "created_at": run.started_at,
                    "run_id": run.run_id,
                    "flow": run.flow,
                    "asset": str(run.asset),
                    "tenant": run.asset.tenant,
                    "recipe": run.recipe,
                    "mode": run.mode,
                    "created_by": run.created_by,
                    "parent_run_id": run.parent_run_id,
                },
            )
        elif (known.asset, known.flow) != (str(run.asset), run.flow):
            raise IdempotencyMismatch(
                f"run {run.run_id} is one of {known.flow} over {known.asset}: give each run an id of its own",
                run_id=run.run_id,
            )
        state = _state(connection, run.run_id)
        if state is None or state.state != RunState.RUNNING:  # a run that Prefect retries is running again
            connection.execute(
                sa.insert(s.run_states), {"created_at": now, "run_id": run.run_id, "state": RunState.RUNNING.value}
            )


def finish_run(
    core: Core,
    run_id: str,
    state: RunState,
    now: datetime,
    *,
    version: int | None,
    error: dict[str, Any] | None,
    metrics: Mapping[str, float],
    findings: Sequence[Finding],
) -> None:
    """See `cloudbaker.catalog.core.Catalog.finish_run`."""
    with core.write() as connection:
        asset = connection.execute(sa.select(s.runs.c.asset).where(s.runs.c.run_id == run_id)).scalar()
        if asset is None:
            raise NotFound(f"no run {run_id} in the catalog: start_run comes first", run_id=run_id)
        latest = _state(connection, run_id)
        if latest is not None and (latest.state, latest.number) == (state.value, version):
            return  # said before: the caller was killed before it knew
        of_run = {"created_at": now, "run_id": run_id}
        of_asset = {**of_run, "asset": asset, "number": version}
        connection.execute(sa.insert(s.run_states), {**of_run, "state": state.value, "number": version, "error": error})
        many(connection, s.metrics, [{**of_asset, **row} for row in measured("run", "", metrics)])
        f = s.findings.c
        if (
            findings
            and connection.execute(sa.select(f.seq).where(f.asset == asset, f.run_id == run_id)).first() is None
        ):
            many(connection, s.findings, [{**of_asset, **to_json(finding)} for finding in findings])


def record_step(core: Core, step: Step, now: datetime) -> None:
    """See `cloudbaker.catalog.core.Catalog.record_step`."""
    with core.write() as connection:
        r = s.runs.c
        run = connection.execute(sa.select(r.asset, r.tenant).where(r.run_id == step.run_id)).one_or_none()
        if run is None:
            raise NotFound(f"no run {step.run_id} in the catalog: start_run comes first", run_id=step.run_id)
        connection.execute(
            sa.insert(s.steps),
            {
                "created_at": now,
                "run_id": step.run_id,
                "stage": step.stage,
                "attempt": step.attempt,
                "state": step.state.value,
                "started_at": step.started_at,
                "finished_at": step.finished_at,
                "device": step.device,
                "error": step.error,
            },
        )
        common = {"created_at": now, "run_id": step.run_id, "asset": run.asset}
        rows = measured("step", f"{step.stage}#{step.attempt}", step.metrics)
        many(connection, s.metrics, [{**common, "number": None, **row} for row in rows])
        milliseconds = round((step.finished_at - step.started_at).total_seconds() * 1000)
        if milliseconds > 0:
            connection.execute(
                sa.insert(s.usage_events),
                {
                    **common,
                    "tenant": run.tenant,
                    "kind": "compute_ms",
                    "subject": step.device,
                    "amount": milliseconds,
                },
            )
        if step.state is not StepState.RUNNING:
            kind = "step.failed" if step.state is StepState.FAILED else "step.completed"
            payload = {"stage": step.stage, "attempt": step.attempt, "state": step.state.value}
            tell(connection, now, AssetRef.parse(run.asset), kind, payload, run_id=step.run_id)


def get_run(core: Core, run_id: str) -> RunInfo:
    """See `cloudbaker.catalog.core.Catalog.get_run`."""
    with core.read() as connection:
        row = connection.execute(sa.select(s.runs).where(s.runs.c.run_id == run_id)).one_or_none()
        if row is None:
            raise NotFound(f"no run {run_id} in the catalog", run_id=run_id)
        latest = _state(connection, run_id)
        m, st = s.metrics.c, s.steps.c
        of_steps: dict[str, dict[str, float]] = {}
        of_run: dict[str, float] = {}
        chosen = sa.select(m.scope, m.subject, m.name, m.value).where(m.run_id == run_id, m.scope.in_(["run", "step"]))
        for metric in connection.execute(chosen.order_by(m.seq)):
            target = of_run if metric.scope == "run" else of_steps.setdefault(metric.subject, {})
            target[metric.name] = metric.value
        steps = tuple(
            Step(
                run_id=run_id,
                stage=step.stage,
                attempt=step.attempt,
                state=StepState(step.state),
                started_at=step.started_at,
                finished_at=step.finished_at,
                device=step.device,
                metrics=of_steps.get(f"{step.stage}#{step.attempt}", {}),
                error=step.error,
            )
            for step in connection.execute(sa.select(s.steps).where(st.run_id == run_id).order_by(st.seq))
        )
        f = s.findings.c
        chosen = sa.select(f.code, f.severity, f.place, f.message, f.remedy)
        found = connection.execute(chosen.where(f.asset == row.asset, f.run_id == run_id).order_by(f.seq)).all()
    state = RunState(latest.state) if latest else RunState.RUNNING
    ended = latest is not None and state is not RunState.RUNNING
    return RunInfo(
        run=Run(
            run_id=run_id,
            flow=row.flow,
            asset=AssetRef.parse(row.asset),
            recipe=row.recipe,
            mode=row.mode,
            started_at=row.created_at,
            created_by=row.created_by,
            parent_run_id=row.parent_run_id,
        ),
        state=state,
        finished_at=latest.created_at if latest is not None and ended else None,
        version=latest.number if latest is not None else None,
        error=latest.error if latest is not None else None,
        steps=steps,
        metrics=of_run,
        findings=tuple(Finding(f.code, Severity(f.severity), f.place, f.message, f.remedy) for f in found),
    )


def _state(connection: Connection, run_id: str) -> Any:
    rs = s.run_states.c
    newest = (
        sa.select(rs.created_at, rs.state, rs.number, rs.error)
        .where(rs.run_id == run_id)
        .order_by(rs.seq.desc())
        .limit(1)
    )
    return connection.execute(newest).one_or_none()
