"""Finding the files of a model on this machine: the main file, and what a ``.gltf`` names. Only opened here; it is the
sandbox that reads the names out of the document."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudbaker.compute.gltf.sniff import sniff
from cloudbaker.compute.job import Job, Outcome
from cloudbaker.errors import SourceUnreadable
from cloudbaker.media import TABLE
from cloudbaker.model import AssetRef, Dependency, Finding, Severity, suggest_name
from cloudbaker.recipe import Recipe
from cloudbaker.tasks.context import job_limits


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that belongs to a model."""

    name: str
    """Relative to the main file's folder, as the document writes it."""
    path: Path
    root: Path
    """The folder that the path must not leave, whatever links are on its way."""
    kind: str
    """What its first bytes say it is; never what its name says."""

    @property
    def media_type(self) -> str:
        """Content-Type of `kind`."""
        return TABLE[self.kind].content_type if self.kind in TABLE else "application/octet-stream"


def gather(path: Path, do: Callable[[Job], Outcome], recipe: Recipe) -> tuple[tuple[SourceFile, ...], list[Finding]]:
    """All files of the model at `path`, the main one first. `do` runs a job, under the recipe's limits."""
    main = find_model(path).resolve()  # a link to the model is the user's own choice; links inside it are not
    files = [source_file(main.name, main, main.parent)]
    if files[0].kind != "gltf":
        return tuple(files), []
    outcome = do(
        Job(
            "cloudbaker.compute.gltf.intake:references_job",
            {"main": main},
            {"name": main.name, "limits": recipe.limits.model_dump(mode="json", exclude_none=True)},
            job_limits(recipe),
        )
    )
    findings = findings_of(outcome.value["findings"])
    if not any(f.severity is Severity.ERROR for f in findings):
        for name in sorted(set(outcome.value["references"])):
            try:
                files.append(source_file(name, main.parent / name, main.parent))
            except SourceUnreadable as error:
                remedy = "put the file beside the .gltf, under the name that it uses"
                findings.append(Finding("intake.file-missing", Severity.ERROR, name, error.message, remedy))
    return tuple(files), findings


def find_model(path: Path) -> Path:
    """The model that a path means: the file itself, or the only model in a folder. Raises `SourceUnreadable`."""
    try:
        if not path.is_dir():
            path.stat()
            return path
        models = sorted(p for p in path.iterdir() if p.suffix.lower() in {".glb", ".gltf"} and p.is_file())
    except FileNotFoundError:
        raise SourceUnreadable(f"there is no file {path}: check the path", path=str(path)) from None
    except PermissionError:
        raise _no_permission(path) from None
    except OSError as error:
        raise SourceUnreadable(f"can't read {path}: {error.strerror}", path=str(path)) from error
    if len(models) != 1:
        found = ", ".join(p.name for p in models[:5]) or "none"
        raise SourceUnreadable(
            f"{path} is a folder and should hold one .glb or .gltf, but holds {len(models)} ({found}): "
            "name the file, or several files, instead",
            path=str(path),
        )
    return models[0]


def open_source(path: Path, root: Path) -> int:
    """A read-only descriptor of a regular file below `root`. Raises `SourceUnreadable` that names the remedy."""
    try:
        if not path.resolve(strict=True).is_relative_to(root.resolve()):
            raise SourceUnreadable(f"{path.name} leads out of the model's folder: copy the file into it")
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError:
        raise _no_permission(path) from None
    except FileNotFoundError:
        raise SourceUnreadable(f"there is no file {path}: check the path", path=str(path)) from None
    except SourceUnreadable:
        raise
    except OSError as error:
        raise SourceUnreadable(f"can't read {path}: {error.strerror}", path=str(path)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SourceUnreadable(f"{path} is not a regular file", path=str(path))
    return descriptor


def findings_of(values: list[dict[str, Any]]) -> list[Finding]:
    """Findings from a job's JSON."""
    return [Finding(**{**v, "severity": Severity(v["severity"])}) for v in values]


def dependencies_of(asset: AssetRef, depends_on: Sequence[str] | None) -> tuple[Dependency, ...] | None:
    """What an asset is said to need, short names being of its own tenant and project. Raises `NameRefused`."""
    if depends_on is None:
        return None
    return tuple(Dependency.parse(each, tenant=asset.tenant, project=asset.project) for each in depends_on)


def asset_of(path: str, asset: str | None, *, tenant: str = "local") -> AssetRef:
    """The asset that a bake of `path` makes a version of: as named, or named after the file."""
    return AssetRef.parse(asset or suggest_name(Path(path).resolve().stem), tenant=tenant)


def source_file(name: str, path: Path, root: Path) -> SourceFile:
    """A file that belongs to a model, its kind read from its first bytes. Raises `SourceUnreadable`."""
    with open(open_source(path, root), "rb") as file:
        return SourceFile(name, path, root, sniff(file.read(64)))


def _no_permission(path: Path) -> SourceUnreadable:
    return SourceUnreadable(f"no permission to read {path}: make it readable for the user who bakes", path=str(path))
