"""Load a finished pack in the engine, as a game would, and everything in it: the only proof that a bake went well."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloudbaker.compute.godot import godot3, godot4
from cloudbaker.compute.godot.adapter import (
    PROJECT,
    EngineJob,
    Engines,
    config_text,
    parse_log,
    template,
)
from cloudbaker.compute.godot.engines import Engine
from cloudbaker.compute.godot.scan_resource import is_game_path
from cloudbaker.compute.job import Limits, Outcome
from cloudbaker.compute.sandbox.tools import SCRATCH
from cloudbaker.errors import EngineFailed
from cloudbaker.model import Finding, Severity

_REPORT = "report.json"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of loading a pack."""

    classes: dict[str, str]
    """Path → class of the resource; empty where it did not load."""
    findings: tuple[Finding, ...] = field(default=())
    outcome: Outcome | None = None


def load_job(engine: Engine, pack: bytes | memoryview | Path, paths: Sequence[str], limits: Limits) -> EngineJob:
    """A run of `engine` that mounts `pack` and loads `paths` (``res://…``) in an empty project."""
    adapter = godot3 if engine.major == 3 else godot4
    order = {"pack": f"{SCRATCH}/mod.pck", "report": f"{SCRATCH}/home/{_REPORT}", "paths": list(paths)}
    project = {"": {"config_version": str(engine.major + 1)}, "application": {"config/name": '"probe"'}}
    return EngineJob(
        engine,
        {
            "mod.pck": pack,
            f"{PROJECT}/project.godot": config_text(project).encode(),
            f"{PROJECT}/probe.json": json.dumps(order).encode(),
            f"{PROJECT}/probe.gd": template(f"probe{engine.major}.gd").encode(),
        },
        adapter.script_arguments("res://probe.gd"),
        (f"home/{_REPORT}",),
        limits,
    )


def verify_load(
    engines: Engines,
    engine: Engine,
    pack: bytes | memoryview | Path,
    paths: Sequence[str],
    limits: Limits,
    *,
    game_paths: tuple[str, ...] = (),
) -> Loaded:
    """Load `paths` of a pack in `engine`; what does not load is a finding.

    A file that needs one of the game's own (`game_paths`, which the policy declares) can't be loaded without the game:
    that is a warning. Raises `EngineFailed` where the engine wrote no report, and what `Outcome.unwrap` raises.
    """
    outcome = engines.run(load_job(engine, pack, paths, limits)).unwrap()
    report = _report(outcome, engine)
    if not report.get("mounted"):
        raise EngineFailed(
            f"Godot {engine.short} does not take the pack that was made for it; nothing was published",
            detail=outcome.value["stderr"][-4000:],
        )
    classes = {path: str(report.get("loaded", {}).get(path) or "") for path in paths}
    messages = parse_log(outcome.value["stderr"] + "\n" + outcome.value["stdout"])
    named = {path.rstrip(".") for message in messages for path in message.paths}
    foreign = sorted(path for path in named if is_game_path(path, game_paths))
    findings = []
    for path, found in classes.items():
        if found:
            continue
        said = next((m.text for m in messages if path in m.paths), "")
        findings.append(
            Finding(
                "engine.game-resource" if foreign else "engine.not-loadable",
                Severity.WARNING if foreign else Severity.ERROR,
                path,
                f"Godot {engine.short} can't load it alone: it needs {', '.join(foreign[:3])} of the game"
                if foreign
                else f"Godot {engine.short} can't load it" + (f": {said}" if said else ""),
                "test it in the game" if foreign else "open the mod in this version of the engine and repair it",
            )
        )
    return Loaded(classes, tuple(findings), outcome)


def _report(outcome: Outcome, engine: Engine) -> dict[str, Any]:
    try:
        report = json.loads(outcome.files[f"home/{_REPORT}"])
        if isinstance(report, dict):
            return report
    except (KeyError, ValueError):
        pass
    raise EngineFailed(
        f"Godot {engine.short} ended before it had loaded the pack; nothing was published",
        detail=(outcome.value["stderr"] + outcome.value["stdout"])[-4000:],
    )
