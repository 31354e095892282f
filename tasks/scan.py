"""Scanning a mod without keeping it: what ``cloudbaker scan`` does. Everything happens in the sandbox."""

from __future__ import annotations

from pathlib import Path

from cloudbaker.compute.godot.archive import folder_inputs
from cloudbaker.compute.godot.policy import Policy
from cloudbaker.compute.job import Job, Limits, Workbench
from cloudbaker.model import Verdict
from cloudbaker.settings import settings
from cloudbaker.tasks.gather import findings_of
from cloudbaker.tasks.look import Look


def scan_mod(workbench: Workbench, path: Path, policy: Policy, engine: str = "") -> Look:
    """The verdict on a mod: a ``.pck``, a ``.zip`` or a folder.

    `engine` is the version whose classes count (``4.6.3``); empty: what the mod was made for, by its own form. The
    facts are the mod's id, form, manifest, files, and the class list that held. Raises `EngineMissing` for an engine
    that the policy was not reviewed for, `SourceUnreadable`, and what `Outcome.unwrap` raises.
    """
    if engine:
        policy.for_engine(engine)  # says here, not in the sandbox, what is wrong with it
    inputs, special = folder_inputs(path, policy.limits)
    config = settings()
    outcome = workbench.run(
        Job(
            "cloudbaker.compute.godot.scan:scan_job",
            inputs,
            {"policy": policy.model_dump(mode="json"), "engine": engine, "special": list(special)},
            Limits(memory_bytes=config.memory_bytes, wall_seconds=config.wall_seconds),
        )
    ).unwrap()
    facts = dict(outcome.value)
    findings = findings_of(facts.pop("findings"))
    del facts["verdict"]
    return Look(str(path), Verdict.of(tuple(findings)), {**facts, "policy": policy.name, "policy_hash": policy.hash})
