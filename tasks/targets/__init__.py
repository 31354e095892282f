"""What the stages do for each target: one module per target behind one seam, so that the stages know no target.

A target is a module with the functions of `Target`, named as the recipe's ``target``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from cloudbaker.recipe import Recipe

if TYPE_CHECKING:
    from cloudbaker.compute.job import Job, Outcome
    from cloudbaker.model import Finding
    from cloudbaker.tasks.context import BakeContext
    from cloudbaker.tasks.gather import SourceFile
    from cloudbaker.tasks.ingest import Ingested
    from cloudbaker.tasks.optimize import Optimized
    from cloudbaker.tasks.package import Packaged
    from cloudbaker.tasks.validate import Validated


@dataclass(frozen=True, slots=True)
class Identity:
    """What a bake's bytes depend on, beside sources and recipe."""

    engine: str | None
    """``godot 4.6.3.stable…``; None without an engine."""
    tools: Mapping[str, str]
    """Tool → version."""


class Target(Protocol):
    """What the stages ask of a target."""

    def identity(self, recipe: Recipe, tenant: str, /) -> Identity:
        """Engine and tools of a bake by this recipe for this tenant, here and now."""
        ...

    def gather(
        self, path: Path, do: Callable[[Job], Outcome], recipe: Recipe
    ) -> tuple[tuple[SourceFile, ...], list[Finding]]:
        """All files of what is at `path`, the main one first."""
        ...

    def validate(self, context: BakeContext, ingested: Ingested) -> Validated:
        """The verdict."""
        ...

    def optimize(self, context: BakeContext, validated: Validated) -> Optimized:
        """The content, smaller."""
        ...

    def package(self, context: BakeContext, ingested: Ingested, optimized: Optimized) -> Packaged:
        """What is delivered, signed."""
        ...


def target_of(recipe: Recipe) -> Target:
    """The target of a recipe. Loaded when it is asked for: a web bake needs nothing of an engine."""
    return cast("Target", importlib.import_module(f"{__name__}.{recipe.target}"))
