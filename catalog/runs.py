"""Runs and their steps: written down as they happen, never changed afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.engine import Core
from cloudbaker.catalog.journal import many, measured, tell
from cloudbaker.catalog.quotas import midnight
from cloudbaker.catalog.records import RunInfo
from cloudbaker.catalog.statements import Statement
from cloudbaker.catalog.uploads import ensure_tenant
from cloudbaker.errors import IdempotencyMismatch, NotFound, QuotaExceeded
from cloudbaker.model import AssetRef, Finding, Run, RunState, Severity, Step, StepState, to_json


def start_run(core: Core, run: Run, now: datetime) -> None:
    """See `cloudbaker.catalog.core.Catalog.start_run`."""

    def start(connection: Connection) -> None:
        tenant = run.asset.tenant
        ensure_tenant(connection, tenant, now)
        # Runs of one tenant begin one after the other: what is counted here stays so until we end.
        in_flight, per_day = _LOCK_TENANT.run(connection, tenant=tenant).one()
        known = _KNOWN.run(connection, run_id=run.run_id).one_or_none()
        if known is not None and known != (str(run.asset), tenant, run.flow):
            raise IdempotencyMismatch(
                f"run {run.run_id} is one of {known[2]} over {known[0]}: give each run an id of its own",
                run_id=run.run_id,
            )
        state = None if known is None else _state(connection, run.run_id)
        if state is not None and state.state == RunState.RUNNING:
            return  # said before
        if in_flight is not None:
            _check_in_flight(connection, tenant, in_flight)
        if known is None:
            if per_day is not None:
                _check_per_day(connection, tenant, per_day, run.started_at)
            row = {
                "created_at": run.started_at,
                "run_id": run.run_id,
                "flow": run.flow,
                "asset": str(run.asset),
                "tenant": tenant,
                "recipe": run.recipe,
                "mode": run.mode,
                "created_by": run.created_by,
                "parent_run_id": run.parent_run_id,
            }
            many(connection, s.runs, [row])
        # A run that Prefect retries is running again.
        many(connection, s.run_states, [{"created_at": now, "run_id": run.run_id, "state": RunState.RUNNING.value}])
        many(connection, s.open_runs, [{"run_id": run.run_id, "tenant": tenant, "since": now}])

    core.transact(start)


_LOCK_TENANT = Statement(
    sa.select(s.tenants.c.quota_runs_in_flight, s.tenants.c.quota_runs_per_day)
    .where(s.tenants.c.tenant == sa.bindparam("tenant"))
    .with_for_update(key_share=True)
)
_KNOWN = Statement(
    sa.select(s.runs.c.asset, s.runs.c.tenant, s.runs.c.flow)
    .where(s.runs.c.run_id == sa.bindparam("run_id"))
    .with_for_update(key_share=True)
)
_CLOSE = Statement(sa.delete(s.open_runs).where(s.open_runs.c.run_id == sa.bindparam("run_id")))


def _check_in_flight(connection: Connection, tenant: str, quota: int) -> None:
    o = s.open_runs.c
    found = connection.execute(sa.select(sa.func.count()).where(o.tenant == tenant)).scalar_one()
    if found >= quota:
        raise QuotaExceeded(
            f"tenant {tenant} has {found} runs under way and may have {quota}: wait for one to end (clean-up ends "
            "those that were killed), or ask the operator for more",
            tenant=tenant,
            runs_in_flight=found,
            quota_runs_in_flight=quota,
        )


def _check_per_day(connection: Connection, tenant: str, quota: int, started_at: datetime) -> None:
    r = s.runs.c
    begun = midnight(started_at)
    # Up to the next midnight only: a clock that was ahead left runs in days to come.
    of_day = (r.tenant == tenant, r.created_at >= begun, r.created_at < begun + timedelta(days=1))
    found = connection.execute(sa.select(sa.func.count()).where(*of_day)).scalar_one()
    if found >= quota:
        raise QuotaExceeded(
            f"tenant {tenant} has begun {found} runs today and may begin {quota}: go on after midnight UTC, or ask the "
            "operator for more",
            tenant=tenant,
            runs_today=found,
            quota_runs_per_day=quota,
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

    def finish(connection: Connection) -> None:
        asset, _, _ = _known(connection, run_id)
        latest = _state(connection, run_id)
        if latest is not None and (latest.state, latest.number) == (state.value, version):
            return  # said before: the caller was killed before it knew
        of_run = {"created_at": now, "run_id": run_id}
        of_asset = {**of_run, "asset": asset, "number": version}
        many(connection, s.run_states, [{**of_run, "state": state.value, "number": version, "error": error}])
        if state is not RunState.RUNNING:
            _CLOSE.run(connection, run_id=run_id)
        many(connection, s.metrics, [{**of_asset, **row} for row in measured("run", "", metrics)])
        f = s.findings.c
        said = sa.select(f.seq).where(f.asset == asset, f.run_id == run_id)
        if findings and connection.execute(said).first() is None:
            many(connection, s.findings, [{**of_asset, **to_json(finding)} for finding in findings])

    core.transact(finish)


def _known(connection: Connection, run_id: str) -> tuple[str, str, str]:
    """Asset, tenant and flow of a run, which nobody else starts or finishes until we end. Raises `NotFound`."""
    found = _KNOWN.run(connection, run_id=run_id).one_or_none()
    if found is None:
        raise NotFound(f"no run {run_id} in the catalog: start_run comes first", run_id=run_id)
    asset, tenant, flow = found
    return asset, tenant, flow


def record_step(core: Core, step: Step, now: datetime) -> None:
    """See `cloudbaker.catalog.core.Catalog.record_step`."""

    def record(connection: Connection) -> None:
        asset, tenant, _ = _known(connection, step.run_id)
        row = {
            "created_at": now,
            "run_id": step.run_id,
            "stage": step.stage,
            "attempt": step.attempt,
            "state": step.state.value,
            "started_at": step.started_at,
            "finished_at": step.finished_at,
            "device": step.device,
            "error": step.error,
        }
        many(connection, s.steps, [row])
        common = {"created_at": now, "run_id": step.run_id, "asset": asset}
        rows = measured("step", f"{step.stage}#{step.attempt}", step.metrics)
        many(connection, s.metrics, [{**common, "number": None, **row} for row in rows])
        milliseconds = round((step.finished_at - step.started_at).total_seconds() * 1000)
        if milliseconds > 0:
            used = {"tenant": tenant, "kind": "compute_ms", "subject": step.device, "amount": milliseconds}
            many(connection, s.usage_events, [{**common, **used}])
        if step.state is not StepState.RUNNING:
            kind = "step.failed" if step.state is StepState.FAILED else "step.completed"
            payload = {"stage": step.stage, "attempt": step.attempt, "state": step.state.value}
            tell(connection, now, AssetRef.parse(asset), kind, payload, run_id=step.run_id)

    core.transact(record)


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
