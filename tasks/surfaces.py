"""PyMeshLab within a bake, where the recipe asks for it: static surfaces are repaired, and levels of detail decimated.

A sandboxed job takes the surfaces out of the model, PyMeshLab's program works on arrays in a process of its own, and
another job puts them back. What it can't do, or would bend too far, stays as it is and is remarked on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from cloudbaker.compute.gltf.findings import Findings
from cloudbaker.compute.job import Limits, Outcome, Status
from cloudbaker.compute.meshlab import DecimateOptions, Repaired, RepairOptions, decimate, repair
from cloudbaker.compute.meshlab.process import LIMITS, MeshlabError
from cloudbaker.compute.sandbox.tools import ISOLATION
from cloudbaker.errors import SandboxCrash, SandboxJobError, SandboxLimit
from cloudbaker.logs import get_logger
from cloudbaker.recipe import Recipe
from cloudbaker.tasks.context import BakeContext, job_limits

log = get_logger(__name__)

MAX_ERROR_PERCENT = 0.5
"""Mean error up to which a repair is one. What moves the surface farther has removed or invented something."""
LARGEST_HOLE = RepairOptions().largest_hole
_FAILED = (MeshlabError, SandboxCrash, SandboxJobError, SandboxLimit)
SECONDS, SECONDS_PER_TRIANGLE = 20.0, 2e-4
"""How long one surface may take. A million triangles take 35 s; soup that crosses itself can keep PyMeshLab busy for
ever, one in twelve of the strange meshes of its test does."""


class _Clock:
    """What is left of the time of one job, which all surfaces of a model share: no model holds a worker for hours."""

    def __init__(self, context: BakeContext) -> None:
        self._context = context
        self._asked = job_limits(context.recipe)
        self._left = self._asked.wall_seconds

    def limits(self, triangles: int) -> Limits:
        """For one surface: its time, and PyMeshLab's own memory (Qt's libraries take 0.5 GB of addresses alone).

        Raises `MeshlabError` where no time is left.
        """
        if self._left <= 0:
            raise MeshlabError("the time for this model is spent on surfaces before it")
        seconds = min(self._left, SECONDS + SECONDS_PER_TRIANGLE * triangles)
        memory = max(self._asked.memory_bytes, LIMITS.memory_bytes)
        return Limits(memory, math.ceil(seconds), seconds, LIMITS.file_bytes)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Takes the time, and notes for the provenance how it was isolated."""
        started = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - started
            self._left -= seconds
            self._context.outcomes.append(Outcome(Status.OK, wall_seconds=seconds, isolation=ISOLATION))


def wants_meshlab(recipe: Recipe) -> bool:
    """Whether a bake by this recipe may call PyMeshLab, whose version is part of the bake key then."""
    return recipe.meshes.repair or (recipe.meshes.decimate != "meshoptimizer" and bool(recipe.lods))


def repaired(context: BakeContext, model: bytes, findings: Findings) -> bytes:
    """The model with its static surfaces mended; itself where the recipe does not ask, or nothing was wrong."""
    if not context.recipe.meshes.repair:
        return model
    out = context.do(context.job("gltf.surfaces:surfaces_job", {"model.glb": model}))
    files: dict[str, Any] = {}
    keys = []
    clock = _Clock(context)
    for row in out.value["surfaces"]:
        positions, indices = _arrays(out, row["key"])
        try:
            done = _repair(clock, positions, indices)
        except _FAILED as error:
            findings.add("mesh.not-repaired", row["place"], _why(error))
            continue
        before, after = done.before, done.after
        if not before.flaws or after.flaws >= before.flaws:
            continue
        if done.error.mean_percent > MAX_ERROR_PERCENT:
            findings.add(
                "mesh.not-repaired", row["place"], f"it would move by {done.error.mean_percent:.2f} % on average"
            )
            continue
        findings.add(
            "mesh.repaired",
            row["place"],
            f"open edges {before.open_edges} → {after.open_edges}, branching {before.branching_edges} → "
            f"{after.branching_edges}, turned about {before.flipped_edges} → {after.flipped_edges}, triangles "
            f"{before.triangles} → {after.triangles} ({done.new_triangles} close holes), mean error "
            f"{done.error.mean_percent:.4f} %, largest {done.error.max_percent:.2f} %",
        )
        keys.append(row["key"])
        files |= _files(row["key"], done.positions, done.indices)
    if not keys:
        return model
    whole = context.do(context.job("gltf.surfaces:replace_surfaces_job", {"model.glb": model, **files}, keys=keys))
    return bytes(whole.files["model.glb"])


def decimated(context: BakeContext, model: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Files and rows for ``assemble_job``: levels of static surfaces by PyMeshLab, where the recipe asks for them.

    What PyMeshLab can't do is left to meshoptimizer, and logged.
    """
    recipe = context.recipe
    if recipe.meshes.decimate == "meshoptimizer" or not recipe.lods:
        return {}, []
    out = context.do(
        context.job(
            "gltf.surfaces:surfaces_job",
            {"model.glb": model},
            lods=[lod.model_dump(mode="json") for lod in recipe.lods],
            every=recipe.meshes.decimate == "pymeshlab",
        )
    )
    files: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    clock = _Clock(context)
    for row in out.value["surfaces"]:
        positions, indices = _arrays(out, row["key"])
        for level in row["levels"]:
            try:
                limits = clock.limits(len(indices))
                with clock.running():
                    done = decimate(positions, indices, level["triangles"], DecimateOptions(), limits=limits)
            except _FAILED as error:
                log.warning("a surface was not decimated", place=row["place"], reason=_why(error))
                continue
            name = f"{row['key']}-{level['variant']}"
            files |= _files(name, done.positions, done.indices)
            rows.append({"key": row["key"], "variant": level["variant"], "file": name})
    return files, rows


def _arrays(out: Outcome, key: str) -> tuple[Any, Any]:
    return (
        np.frombuffer(out.files[f"{key}.positions"], "<f4").reshape(-1, 3),
        np.frombuffer(out.files[f"{key}.indices"], "<u4").reshape(-1, 3),
    )


def _files(name: str, positions: Any, indices: Any) -> dict[str, bytes]:
    return {
        f"{name}.positions": np.ascontiguousarray(positions, "<f4").tobytes(),
        f"{name}.indices": np.ascontiguousarray(indices, "<u4").tobytes(),
    }


def _repair(clock: _Clock, positions: Any, indices: Any) -> Repaired:
    """Repaired; where closing holes comes to no end, with its holes."""
    for holes in (LARGEST_HOLE, 0):
        limits = clock.limits(len(indices))
        with clock.running():
            try:
                return repair(positions, indices, RepairOptions(largest_hole=holes), limits=limits)
            except SandboxLimit:
                if not holes:
                    raise
    raise AssertionError("unreachable")


def _why(error: Exception) -> str:
    return getattr(error, "message", "") or str(error)
