"""What a bake is asked to do, and what its stages work with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cloudbaker.compute.godot.adapter import Engines, LocalEngines
from cloudbaker.compute.job import Job, Limits, Outcome, Workbench
from cloudbaker.compute.textures import programs
from cloudbaker.model import AssetRef, Dependency, Run, Source
from cloudbaker.settings import settings

if TYPE_CHECKING:
    from cloudbaker.catalog.core import Catalog
    from cloudbaker.compute.previews.previewer import Comparison
    from cloudbaker.compute.signing.keys import Keys
    from cloudbaker.recipe import Recipe


class Comparer(Protocol):
    """Renders a model before and after: a `Previewer` of this process, or one on Ray."""

    def compare(self, before: bytes, after: bytes, *, size: int = 512) -> Comparison:
        """Both pictures from the same camera, and how far they differ."""
        ...


@dataclass(frozen=True, slots=True)
class BakeRequest:
    """One asset to bake: a file from outside, or the stored sources of an earlier version."""

    asset: AssetRef
    recipe: str = "web"
    path: str | None = None
    """A ``.glb``, ``.gltf`` or ``.zip`` file, or a folder with one model in it. None: bake `sources` again."""
    sources: tuple[Source, ...] = ()
    channel: str | None = "live"
    replaces: int | None = None
    """The version that is baked again, see `Publication.replaces`."""
    previews: bool = True
    trusted: bool = False
    """The owner vouches for the content: it may be baked where the kernel can't isolate. Goes into the provenance."""
    created_by: str = "unknown"
    change_note: str = ""
    dependencies: tuple[Dependency, ...] | None = None
    """What it needs of other assets; None: what the newest version needs."""


def job_limits(recipe: Recipe) -> Limits:
    """What one sandboxed job may use: what the recipe says, else the settings."""
    asked, config = recipe.limits, settings()
    wall = asked.wall_seconds or config.wall_seconds
    return Limits(
        memory_bytes=asked.memory_bytes or config.memory_bytes, cpu_seconds=math.ceil(wall), wall_seconds=wall
    )


@dataclass(slots=True)
class BakeContext:
    """The services a stage may use. One per run."""

    request: BakeRequest
    run: Run
    recipe: Recipe
    catalog: Catalog
    workbench: Workbench
    keys: Keys
    previewer: Comparer | None = None
    previewer_absent: str = ""
    """Why there is no previewer, with the remedy."""
    progress: Callable[[str, float], None] = lambda _stage, _fraction: None
    """Told the stage's name and how much of the whole run is done, 0 to 1."""
    engines: Engines = field(default_factory=LocalEngines)
    """Where engines run, for targets that have one."""
    outcomes: list[Outcome] = field(default_factory=list)
    """Of all jobs so far: their isolation goes into the provenance, their times into the steps."""

    def job(
        self,
        function: str,
        inputs: dict[str, Path | bytes | memoryview],
        *,
        gpu: bool = False,
        memory_bytes: int = 0,
        **params: object,
    ) -> Job:
        """A job under the recipe's limits. `function` is relative to ``cloudbaker.compute.``; `memory_bytes` is what it
        will take, as far as its input's header says."""
        return Job(f"cloudbaker.compute.{function}", inputs, params, job_limits(self.recipe), gpu, memory_bytes)

    def do(self, job: Job) -> Outcome:
        """Run one job; raises for everything but success (see `Outcome.unwrap`)."""
        return self.do_all([job])[0]

    def do_all(self, jobs: list[Job]) -> list[Outcome]:
        """Run several jobs at once, as far as the workbench has room."""
        outcomes = programs.run_all(self.workbench, jobs)
        self.outcomes += outcomes
        return [o.unwrap() for o in outcomes]

    @property
    def isolation(self) -> str:
        """What held the jobs of this run, for the provenance."""
        return "+".join(sorted({o.isolation for o in self.outcomes if o.isolation})) or "none"
