"""The ``publish-tables`` flow: what is new goes to the published tables, every few minutes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed

from cloudbaker.catalog.core import RETENTION, Catalog
from cloudbaker.model import to_json
from cloudbaker.settings import settings

EVERY = timedelta(hours=30)
"""Age of the snapshots at which the tables are compacted and they are written anew: `clean-up` did not run."""


@flow(name="publish-tables", persist_result=False)
def publish_tables(compact: bool | None = None, keep_hours: int = RETENTION // timedelta(hours=1)) -> State[Any]:
    """Publish what is new in the catalog to its Delta tables, and tend them if nobody did for more than a day.

    Args:
        compact: Sort each month into one file, write the snapshots and remove what was replaced; left out, if that was
            not done for most of a day.
        keep_hours: How long files stay that were replaced.
    """
    logger = get_run_logger()
    with Catalog.open(settings()) as catalog:
        exported = catalog.export(progress=lambda table, rows: logger.info("%s: %d rows", table, rows))
        due = catalog.tables_due(EVERY) if compact is None else compact
        if exported.busy or not due:
            count = sum(exported.rows.values())
            message = "somebody else is publishing" if exported.busy else f"{count} new rows published"
            return Completed(message=message, data=to_json(exported))
        report = catalog.maintain_tables(plan=False, retention=timedelta(hours=keep_hours))
    rows: list[dict[str, Any]] = [
        {"table": work.table, "months": len(work.compacted), "files": work.files_after, "removed": work.removed}
        for work in report.tables
    ]
    if rows:
        create_table_artifact(rows, key="published-tables", description="What was compacted and removed")
    return Completed(message=f"{len(report.tables)} tables compacted or tidied", data=to_json(report))
