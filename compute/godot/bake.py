"""Bake a mod with a Godot engine: a project of its files, imported and exported in one call.

prepare → bake → (repack → verify_load)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cloudbaker.compute.godot import godot3, godot4
from cloudbaker.compute.godot.adapter import (
    PROJECT,
    BakeOptions,
    EngineJob,
    Engines,
    Import,
    log_findings,
    parse_log,
)
from cloudbaker.compute.godot.engines import Engine
from cloudbaker.compute.job import Limits, Outcome
from cloudbaker.compute.sandbox.tools import SCRATCH
from cloudbaker.errors import EngineFailed
from cloudbaker.model import Finding

PACK = "mod.pck"
PLAIN = frozenset({"txt", "md", "json", "xml", "ini", "yaml", "toml", "html"})
"""Extensions of files that are no resources of Godot: they are packed as they are."""


@dataclass(frozen=True, slots=True)
class Baked:
    """What an engine made of a project."""

    pack: bytes
    """As exported: to be repacked."""
    findings: tuple[Finding, ...]
    outcome: Outcome


def prepare(
    engine: Engine,
    mods: Mapping[str, Mapping[str, bytes | memoryview | Path]],
    imports: Mapping[str, Iterable[Import]],
    options: BakeOptions,
    limits: Limits,
) -> EngineJob:
    """The run that bakes these mods. `mods`: mod id → files by path below its folder; `imports` likewise.

    One mod to a project is the rule. Several validated ones in one project save most of the engine's start (13× on
    4.6.3), and give up the isolation of those mods from each other while they are baked.

    The mods' files are copies in the engine's own scratch folder: importers write beside their sources. They come from
    a scan that lets no project file, no ``.import`` and no path out of the mod's folder through.
    """
    adapter = godot3 if engine.major == 3 else godot4
    extensions = {path.rsplit(".", 1)[-1] for contents in mods.values() for path in contents}
    include = ",".join(f"*.{each}" for each in sorted(extensions & PLAIN))
    files: dict[str, bytes | memoryview | Path] = {
        f"{PROJECT}/{name}": data for name, data in adapter.project_settings("mod", options, include).items()
    }
    for mod, contents in mods.items():
        home = f"{PROJECT}/mods/{mod}"
        files |= {f"{home}/{path}": data for path, data in contents.items()}
        files |= {f"{home}/{each.path}.import": adapter.import_file(each, options) for each in imports.get(mod, ())}
    return EngineJob(engine, files, adapter.export_arguments(f"{SCRATCH}/{PACK}"), (PACK,), limits)


def bake(engines: Engines, job: EngineJob) -> Baked:
    """Run the engine and read what it says. What it did not import, `repack` finds.

    Raises `EngineFailed` where there is no pack, and what `Outcome.unwrap` raises.
    """
    outcome = engines.run(job).unwrap()
    if PACK not in outcome.files:
        raise EngineFailed(
            f"Godot {job.engine.short} wrote no pack; nothing was published",
            detail=(outcome.value["stderr"] + outcome.value["stdout"])[-4000:],
        )
    messages = parse_log(outcome.value["stderr"] + "\n" + outcome.value["stdout"])
    return Baked(outcome.files[PACK], tuple(log_findings(messages, "res://mods/")), outcome)
