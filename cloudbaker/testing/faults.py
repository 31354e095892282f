"""A re-bake with planted faults: the real stages in the real sandbox, but some assets do what hostile content does.

The fault is in the name of the asset's main source: ``hang.glb`` hangs in validation, ``segfault.glb`` dies there,
``balloon.glb`` takes 3 GB, ``die.glb`` kills the worker itself. Everything else is baked as ever.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cloudbaker.compute.faults import FAULT_JOB
from cloudbaker.compute.job import Job, Outcome, Workbench
from cloudbaker.flows.item import bake_item

ITEM_FUNCTION = "cloudbaker.testing.faults:faulty_bake_item"
FAULTS = ("hang", "segfault", "balloon", "die")


def faulty_bake_item(workbench: Workbench, item: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    """`bake_item`, with the fault that the item's source is named for."""
    fault = item["sources"][0]["name"].removesuffix(".glb")
    if fault == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return bake_item(_Faulty(workbench, fault) if fault in FAULTS else workbench, item, context)


class _Faulty:
    """A workbench whose validation job does what the fault says."""

    name = "faulty"

    def __init__(self, workbench: Workbench, fault: str) -> None:
        self._workbench = workbench
        self._fault = fault

    def run(self, job: Job) -> Outcome:
        if job.function.endswith(":validate_job"):
            job = replace(job, function=FAULT_JOB, params={"fault": self._fault})
        return self._workbench.run(job)

    def run_all(self, jobs: Sequence[Job]) -> list[Outcome]:
        return [self.run(job) for job in jobs]
