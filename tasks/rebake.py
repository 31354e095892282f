"""A batch of a re-bake: a bounded window of assets over the Ray workers, attempts counted here, the third failure
quarantined, its neighbours untouched. One Prefect task covers a batch of hundreds (measured: Prefect loses task runs
of flows with thousands of them; the truth about each asset is in the catalog)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloudbaker.catalog.core import Catalog
from cloudbaker.compute.cluster import Attempt, AttemptStatus, Cluster, WorkItem
from cloudbaker.model import RunState
from cloudbaker.tasks.plan import PlanItem, item_json

MAX_ATTEMPTS = 3
ITEM_FUNCTION = "cloudbaker.flows.item:bake_item"


@dataclass(slots=True)
class BatchResult:
    """What became of a batch; every item is counted exactly once."""

    published: int = 0
    unchanged: int = 0
    quarantined: int = 0
    attempts: Counter[str] = field(default_factory=Counter)
    """How attempts ended: ok, error, lost, timeout."""

    def __add__(self, other: BatchResult) -> BatchResult:
        return BatchResult(
            self.published + other.published,
            self.unchanged + other.unchanged,
            self.quarantined + other.quarantined,
            self.attempts + other.attempts,
        )

    @property
    def done(self) -> int:
        """Items that reached their end."""
        return self.published + self.unchanged + self.quarantined

    def to_json(self) -> dict[str, Any]:
        """JSON form, part of the ``--json`` contract of ``rebake``."""
        return {
            "published": self.published,
            "unchanged": self.unchanged,
            "quarantined": self.quarantined,
            "attempts": dict(self.attempts),
        }


def rebake_batch(
    catalog: Catalog,
    cluster: Cluster,
    items: Sequence[PlanItem],
    *,
    context: dict[str, Any],
    wall_seconds: float,
    window: int | None = None,
    item_function: str = ITEM_FUNCTION,
    on_done: Callable[[int], None] = lambda _count: None,
) -> BatchResult:
    """Bake every item to its end: published, unchanged or quarantined. Calls `on_done` with the count so far.

    Failed items are tried again after the others of the batch, so one that hangs holds nobody up. Attempts are in the
    catalog: a batch that is killed goes on counting where it was.
    """
    result = BatchResult()
    by_id = {str(item.asset): item for item in items}
    work = (WorkItem(item_id, item_json(item), _memory_of(item)) for item_id, item in by_id.items())
    with cluster.map(item_function, work, window=window, wall_seconds=wall_seconds, context=context) as attempts:
        for attempt in attempts:
            result.attempts[attempt.status.value] += 1
            if _settle(catalog, by_id[attempt.item_id], attempt, context["run_id"], result):
                on_done(result.done)
            else:
                attempts.submit(attempt.item)
    return result


def _memory_of(item: PlanItem) -> int:
    """What baking it will take: plain geometry 25 times its file (a scan of 27 MB: 0.7 GB), images 3 times."""
    return (64 << 20) + 12 * sum(source.blob.size for source in item.sources)


def _settle(catalog: Catalog, item: PlanItem, attempt: Attempt, run_id: str, result: BatchResult) -> bool:
    """Write down what became of an attempt. True if the item is at its end."""
    state = attempt.value["state"] if attempt.status is AttemptStatus.OK else ""
    if state == RunState.COMPLETED:
        result.published += 1
    elif state == RunState.UNCHANGED:
        result.unchanged += 1
    else:
        rejected = state == RunState.REJECTED
        error = {"code": "CB2001", "findings": attempt.value["findings"]} if rejected else dict(attempt.error or {})
        count = catalog.record_attempt(
            item.asset, item.bake_key, run_id=run_id, status=attempt.status.value, error=error
        )
        if not rejected and count < MAX_ATTEMPTS:
            return False
        # A verdict is final: the same bytes will not pass the same checks the next time.
        catalog.quarantine(item.asset, item.bake_key, run_id=run_id, attempts=count, error=error)
        result.quarantined += 1
    return True
