"""Every everyday mod of the harmless suite through the stages and the real engine: one project, taken apart, loaded."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from cloudbaker.compute.godot.adapter import BakeOptions, LocalEngines
from cloudbaker.compute.godot.bake import bake, prepare
from cloudbaker.compute.godot.engines import find_engine
from cloudbaker.compute.godot.policy import load_policy
from cloudbaker.compute.godot.verify_load import verify_load
from cloudbaker.compute.job import Job, Limits
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.errors import CloudBakerError
from cloudbaker.model import AssetRef, Run, Verdict
from cloudbaker.recipe import load_recipe
from cloudbaker.settings import settings
from cloudbaker.tasks.context import BakeContext, BakeRequest
from cloudbaker.tasks.targets.godot import GodotOptimized, loadable, optimize, packed_names
from cloudbaker.tasks.validate import Validated
from cloudbaker.testing.godot_harmless import HARMLESS, Harmless

LIMITS = Limits(memory_bytes=3 << 30, cpu_seconds=300, wall_seconds=280.0)
UNKNOWN_TO = {"godot-3": {"b.woff", "c.woff2"}}
"""Fonts that Godot 3.2 can't read: they are left out, and a finding says so."""


def renamed(harmless: Harmless, mod: str) -> dict[str, bytes]:
    """The mod under another id: all of the suite have the same."""
    files = {}
    for path, data in harmless.files().items():
        if path.endswith((".tres", ".tscn")):
            data = data.replace(b"mods/oak/", f"mods/{mod}/".encode()).replace(b'"oak"', f'"{mod}"'.encode())  # noqa: PLW2901
        files[path] = data
    return files


def optimized(sandbox: Sandbox, recipe: str, engine: str, files: dict[str, bytes]) -> GodotOptimized:
    """What the stages before the engine make of a mod."""
    policy = load_policy().model_dump(mode="json")
    scanned = sandbox.run(
        Job("cloudbaker.compute.godot.scan:scan_job", files, {"policy": policy, "engine": engine})
    ).unwrap()
    assert scanned.value["verdict"] == "pass", scanned.value["findings"]
    params = {"id": scanned.value["id"], "limits": policy["limits"]}
    unpacked = sandbox.run(Job("cloudbaker.compute.godot.unpack:unpack_job", files, params)).unwrap()
    rows = unpacked.value["files"]
    run = Run("run", "bake", AssetRef("t", "p", "a"), recipe, "direct", datetime.now(UTC), "test")
    context = BakeContext(BakeRequest(run.asset, recipe), run, load_recipe(recipe), None, sandbox, None)  # type: ignore[arg-type]
    made = optimize(
        context,
        Validated(
            Verdict.of(()),
            facts={"id": scanned.value["id"], "kinds": {row["path"]: row["kind"] for row in rows}},
            files={row["path"]: unpacked.files[row["file"]] for row in rows},
        ),
    )
    assert isinstance(made, GodotOptimized), made.findings
    return made


@pytest.mark.parametrize("recipe", ["godot-3", pytest.param("godot-4", marks=pytest.mark.slow)])
def test_everyday_mods_bake_and_load(recipe: str, sandbox: Sandbox, tell: Callable[[str], None]) -> None:
    try:
        engine = find_engine(recipe, settings())
    except CloudBakerError as error:
        pytest.skip(error.message)
    suite = [each for each in HARMLESS if each.engine == engine.major]
    mods = {
        f"oak{n}": optimized(sandbox, recipe, engine.short, renamed(each, f"oak{n}")) for n, each in enumerate(suite)
    }
    engines = LocalEngines()
    together = {mod: each.files for mod, each in mods.items()}
    imports = {mod: each.imports for mod, each in mods.items()}
    baked = bake(engines, prepare(engine, together, imports, BakeOptions(), LIMITS))
    assert [f for f in baked.findings if f.severity == "error"] == []
    resources = 0
    for (mod, each), source in zip(mods.items(), suite, strict=True):
        params = {"mod": mod, "others": list(mods), "renames": dict(each.renames), "sources": packed_names(each)}
        params |= {"format": engine.pack_format, "engine": list(engine.number)}
        job = Job("cloudbaker.compute.godot.repack:repack_job", {"pack": baked.pack}, params)
        moved = sandbox.run(job).unwrap()
        left_out = {f["place"].rsplit("/", 1)[-1] for f in moved.value["findings"]}
        assert left_out <= UNKNOWN_TO.get(recipe, set()), (source.name, moved.value["findings"])
        paths = [path for path in loadable(each) if path.rsplit("/", 1)[-1] not in left_out]
        loaded = verify_load(engines, engine, moved.files["mod.pck"], paths, LIMITS)
        assert not loaded.findings, (source.name, loaded.findings)
        resources += len(loaded.classes)
    tell(f"Godot {engine.short}: {len(mods)} mods in one project, {resources} resources loaded again")
