"""PyMeshLab within a bake, where the recipe asks for it: static surfaces are repaired, and levels of detail decimated.

A sandboxed job takes the surfaces out of the model, PyMeshLab's program works on arrays in a process of its own, and
another job puts them back. What it can't do, or would bend too far, stays as it is and is remarked on.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cloudbaker.compute.gltf.findings import Findings
from cloudbaker.compute.job import Limits, Outcome, Status
from cloudbaker.compute.meshlab import DecimateOptions, RepairOptions, decimate, repair
from cloudbaker.compute.meshlab.process import LIMITS, MeshlabError
from cloudbaker.compute.sandbox.tools import ISOLATION
from cloudbaker.errors import SandboxCrash, SandboxJobError, SandboxLimit
from cloudbaker.logs import get_logger
from cloudbaker.recipe import Recipe
from cloudbaker.tasks.context import BakeContext, job_limits

log = get_logger(__name__)

MAX_ERROR_PERCENT = 0.5
"""Mean error up to which a repair is one. What moves the surface farther has removed or invented something."""
_FAILED = (MeshlabError, SandboxCrash, SandboxJobError, SandboxLimit)


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
    for row in out.value["surfaces"]:
        positions, indices = _arrays(out, row["key"])
        try:
            done = repair(positions, indices, RepairOptions(), limits=_limits(context))
        except _FAILED as error:
            findings.add("mesh.not-repaired", row["place"], _why(error))
            continue
        _noted(context, done.seconds)
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
    for row in out.value["surfaces"]:
        positions, indices = _arrays(out, row["key"])
        for level in row["levels"]:
            try:
                done = decimate(positions, indices, level["triangles"], DecimateOptions(), limits=_limits(context))
            except _FAILED as error:
                log.warning("a surface was not decimated", place=row["place"], reason=_why(error))
                continue
            _noted(context, done.seconds)
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


def _limits(context: BakeContext) -> Limits:
    """The recipe's time, and PyMeshLab's own memory: Qt and its libraries take 0.5 GB of address space alone."""
    asked = job_limits(context.recipe)
    return Limits(
        max(asked.memory_bytes, LIMITS.memory_bytes), asked.cpu_seconds, asked.wall_seconds, LIMITS.file_bytes
    )


def _noted(context: BakeContext, seconds: float) -> None:
    """How it was isolated belongs in the provenance like that of any job."""
    context.outcomes.append(Outcome(Status.OK, wall_seconds=seconds, isolation=ISOLATION))


def _why(error: Exception) -> str:
    return getattr(error, "message", "") or str(error)
