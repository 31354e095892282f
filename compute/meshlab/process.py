"""Where the extra is, and one run of its program: arrays in, arrays out, checked like anything from outside."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudbaker.compute.job import Limits, Status
from cloudbaker.compute.sandbox import ToolOutcome, read_output, run_tool, scratch_folder
from cloudbaker.errors import SandboxCrash, SandboxJobError, SandboxLimit, ToolMissing

Array = npt.NDArray[Any]

LIMITS = Limits(memory_bytes=4 << 30, cpu_seconds=300, wall_seconds=300.0, file_bytes=1 << 30)
"""A million triangles take 35 s and 1.2 GB to decimate."""
MAX_TRIANGLES = 20_000_000
_PACKAGE = "pymeshlab"
_ENVIRONMENT = {
    "QT_QPA_PLATFORM": "offscreen",
    "OMP_NUM_THREADS": "1",  # it died with four threads
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}


class MeshlabError(ValueError):
    """The arrays are none that a mesh can be made of, or what came back is not."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the program left."""

    positions: npt.NDArray[np.float64]
    """(n, 3); empty for what gives figures only."""
    indices: npt.NDArray[np.int32]
    """(t, 3)."""
    origin: npt.NDArray[np.int32]
    """For each triangle the one of the source that it was, -1 for new ones, (t,)."""
    figures: Mapping[str, Any]
    notes: tuple[str, ...]
    """Filters that refused the mesh, and why."""
    seconds: float
    peak_bytes: int


def missing() -> str:
    """Why it can't be run here, with the remedy; empty where it can. Imports nothing of it."""
    if importlib.util.find_spec(_PACKAGE) is None:
        return "PyMeshLab is not installed: pip install 'cloudbaker[pymeshlab]' (GPL-3), and libgl1 libopengl0"
    return ""


def require() -> None:
    """Raise `ToolMissing` where it can't be run."""
    if reason := missing():
        raise ToolMissing(reason)


def version() -> str:
    """Of the installed extra, for the bake key. Raises `ToolMissing`."""
    require()
    return metadata.version(_PACKAGE)


def call(
    operation: str,
    options: Mapping[str, Any],
    meshes: Sequence[tuple[Array, Array]],
    *,
    limits: Limits = LIMITS,
) -> Answer:
    """Run one operation of ``filters.program`` on meshes, (n, 3) finite positions and (t, 3) indices in range each.

    Raises `MeshlabError` on other arrays, going in or coming out; `ToolMissing` where the extra or bubblewrap is not
    installed; `SandboxLimit`, `SandboxCrash` or `SandboxJobError` for how the process ended.
    """
    require()
    ready = [_checked(positions, indices) for positions, indices in meshes]
    packages = _packages()
    with scratch_folder() as scratch:
        scratch.chmod(0o777)
        request = {"operation": operation, "options": dict(options), "meshes": [[len(v), len(f)] for v, f in ready]}
        files = {"request.json": json.dumps(request).encode()}
        for number, (vertices, faces) in enumerate(ready):
            files |= {f"{number}.vertices": vertices.tobytes(), f"{number}.faces": faces.tobytes()}
        program = resources.files(__package__) / "filters.program"
        files["filters.program"] = program.read_bytes()
        for name, content in files.items():
            (scratch / name).write_bytes(content)
            (scratch / name).chmod(0o644)
        ran = run_tool(
            [str(Path(sys.executable).resolve()), "-I", "-S", "filters.program", *map(str, packages)],
            scratch=scratch,
            ro=[Path(sys.base_prefix).resolve(), *_bound(packages)],
            env=_ENVIRONMENT,
            limits=limits,
        )
        _unwrap(operation, ran)
        return _read(scratch, ran, limits.file_bytes)


def _packages() -> list[Path]:
    """The folders that hold PyMeshLab and NumPy, one or two."""
    spec = importlib.util.find_spec(_PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    return list(dict.fromkeys([Path(spec.origin).parent.parent, Path(np.__file__).parent.parent]))


def _bound(packages: Sequence[Path]) -> list[Path]:
    """What of these it sees: PyMeshLab and NumPy with their libraries, nothing else of what is installed there."""
    names = (_PACKAGE, f"{_PACKAGE}.libs", "numpy", "numpy.libs")
    return [folder / name for folder in packages for name in names if (folder / name).exists()]


def _checked(positions: Array, indices: Array) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]:
    """Arrays that it survives: NaN in a quadric and an index out of range are segmentation faults there."""
    points, faces = np.asarray(positions), np.asarray(indices)
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind not in "fiu":
        raise MeshlabError(f"positions must have shape (n, 3), not {points.dtype} {points.shape}")
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
        raise MeshlabError(f"indices must be integers of shape (t, 3), not {faces.dtype} {faces.shape}")
    if not len(faces):
        raise MeshlabError("the mesh has no triangles")
    if len(faces) > MAX_TRIANGLES or len(points) > 3 * MAX_TRIANGLES:
        raise MeshlabError(f"{len(faces):,} triangles are more than the {MAX_TRIANGLES:,} that are taken")
    if int(faces.min()) < 0 or int(faces.max()) >= len(points):
        raise MeshlabError(f"index {int(faces.max())} is out of range: there are {len(points)} vertices")
    if not np.isfinite(points).all():
        raise MeshlabError("positions must be finite")
    return np.ascontiguousarray(points, "<f8"), np.ascontiguousarray(faces, "<i4")


def _unwrap(operation: str, ran: ToolOutcome) -> None:
    tail = ran.stderr[-2000:].decode("utf-8", "replace")
    match ran.status:
        case Status.OK:
            return
        case Status.ERROR if "ImportError" in tail:
            raise ToolMissing("PyMeshLab does not start: install libgl1 and libopengl0", detail=tail)
        case Status.ERROR:
            raise SandboxJobError(f"PyMeshLab could not {operation} the mesh: bake without it", detail=tail)
        case Status.CRASH:
            raise SandboxCrash(f"PyMeshLab died over the mesh it was to {operation}: bake without it", detail=tail)
        case limit:
            raise SandboxLimit(
                f"PyMeshLab needs more than the {limit.value} limit allows to {operation} the mesh: raise the limit in "
                "the recipe, or bake without it",
                limit=limit.value,
            )


def _read(scratch: Path, ran: ToolOutcome, limit: int) -> Answer:
    """What the program left, as untrusted as what it was given: sizes, indices and values are looked at again."""
    try:
        result = json.loads(read_output(scratch, "result.json", limit=1 << 20))
        notes = tuple(str(note)[:400] for note in result["notes"][:50])
        figures = result["figures"]
        if not result["meshes"]:
            empty = np.empty((0, 3))
            return Answer(
                empty, empty.astype(np.int32), np.empty(0, np.int32), figures, notes, ran.wall_seconds, ran.peak_bytes
            )
        vertices = np.frombuffer(read_output(scratch, "result.vertices", limit=limit), "<f8").reshape(-1, 3)
        faces = np.frombuffer(read_output(scratch, "result.faces", limit=limit), "<i4").reshape(-1, 3)
        origin = np.frombuffer(read_output(scratch, "result.origin", limit=limit), "<i4")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MeshlabError(f"PyMeshLab left no mesh: {error}") from error
    if [list(result["meshes"][0])] != [[len(vertices), len(faces)]] or len(origin) != len(faces):
        raise MeshlabError("PyMeshLab left arrays of other sizes than it said")
    if len(faces) and not (int(faces.min()) >= 0 and int(faces.max()) < len(vertices)):
        raise MeshlabError("PyMeshLab left an index that is out of range")
    if not np.isfinite(vertices).all():
        raise MeshlabError("PyMeshLab left a position that is not finite")
    return Answer(vertices, faces, origin, figures, notes, ran.wall_seconds, ran.peak_bytes)
