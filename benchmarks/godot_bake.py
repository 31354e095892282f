"""What a bake for Godot costs: the engine's part, ours, memory, and what several mods in one project save.

    python benchmarks/godot_bake.py [--mods 20] > benchmarks/results/godot_bake.md

Every engine of this machine (`cloudbaker engines list`) bakes the demo mod: two models, a picture, two sounds, a scene.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from cloudbaker.compute.godot.adapter import BakeOptions, EngineJob, Import, LocalEngines
from cloudbaker.compute.godot.bake import Baked, bake, prepare
from cloudbaker.compute.godot.engines import Engine, list_engines
from cloudbaker.compute.godot.policy import load_policy
from cloudbaker.compute.godot.verify_load import verify_load
from cloudbaker.compute.job import Job, Limits, Outcome
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.settings import settings
from cloudbaker.testing.godot_demo import demo_mod

LIMITS = Limits(memory_bytes=2 << 30, cpu_seconds=600, wall_seconds=600.0)
ENGINES = LocalEngines()


@dataclass(frozen=True, slots=True)
class Ready:
    """A mod as the engine gets it, and what our jobs took to bring it there."""

    files: dict[str, bytes]
    imports: tuple[Import, ...]
    ours: float
    """CPU seconds of scan and optimization."""


def ready(sandbox: Sandbox, engine: Engine, mod: str, seed: int) -> Ready:
    """The stages before the engine, job by job as the flow runs them."""
    inputs: dict[str, Path | bytes | memoryview] = dict(demo_mod(mod, seed=seed))
    policy = load_policy().model_dump(mode="json")
    done: list[Outcome] = []

    def do(function: str, given: Mapping[str, Path | bytes | memoryview], **params: object) -> Outcome:
        done.append(sandbox.run(Job(f"cloudbaker.compute.{function}", given, params)).unwrap())
        return done[-1]

    scanned = do("godot.scan:scan_job", inputs, policy=policy, engine=engine.short).value
    unpacked = do("godot.unpack:unpack_job", inputs, id=scanned["id"], limits=policy["limits"])
    files = {row["path"]: unpacked.files[row["file"]] for row in unpacked.value["files"]}
    imports = []
    for row in unpacked.value["files"]:
        path, kind = row["path"], row["kind"]
        if kind == "model":
            model = do("godot.model:model_job", {"model.glb": files[path]}, name=path, lods=[])
            files[path] = model.files["model.glb"]
            for texture in model.value["textures"]:
                name = path[: path.rfind("/") + 1] + texture["name"]
                files[name] = model.files[texture["file"]]
                imports.append(Import(name, texture["slot_class"]))
        elif kind in ("wav", "audio"):
            sound = do("audio.transcode:transcode_job", {"audio": files[path]})
            if "audio" in sound.files:
                files[path], kind = sound.files["audio"], "audio"
        if kind != "other":
            imports.append(Import(path, kind))
    return Ready(files, tuple(imports), sum(o.cpu_seconds for o in done))


def job_of(engine: Engine, mods: Mapping[str, Ready]) -> EngineJob:
    """One project of these mods."""
    return prepare(
        engine,
        {mod: each.files for mod, each in mods.items()},
        {mod: each.imports for mod, each in mods.items()},
        BakeOptions(),
        LIMITS,
    )


def packs_of(
    sandbox: Sandbox, engine: Engine, baked: Baked, mods: Mapping[str, Ready]
) -> tuple[dict[str, bytes], float]:
    """The packs of an export, and the CPU seconds of taking it apart."""
    packs, cpu = {}, 0.0
    for mod, each in mods.items():
        params = {"mod": mod, "sources": sorted(each.files), "others": list(mods)}
        params |= {"format": engine.pack_format, "engine": list(engine.number)}
        outcome = sandbox.run(Job("cloudbaker.compute.godot.repack:repack_job", {"pack": baked.pack}, params)).unwrap()
        if outcome.value["findings"]:
            raise SystemExit(f"{mod}: {outcome.value['findings'][0]}")
        packs[mod], cpu = outcome.files["mod.pck"], cpu + outcome.cpu_seconds
    return packs, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mods", type=int, default=20)
    parser.add_argument("--times", type=int, default=3)
    asked = parser.parse_args()
    engines = [engine for engine in list_engines(settings()).values() if isinstance(engine, Engine)]
    if not engines:
        sys.exit("no engine: `cloudbaker engines install godot-4.6` fetches one")
    machine = f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores"
    print("# Baking for Godot\n")
    print(f"`python benchmarks/godot_bake.py --mods {asked.mods}`, {machine},")
    print(f"Python {platform.python_version()}. CPU seconds, so that neighbours on the machine do not count.\n")
    one, many = [], []
    with Sandbox() as sandbox:
        for engine in engines:
            mods = {f"mod{n}": ready(sandbox, engine, f"mod{n}", n) for n in range(asked.mods)}
            first = {"mod0": mods["mod0"]}
            runs = []
            for _ in range(asked.times):
                baked = bake(ENGINES, job_of(engine, first))
                packs, repacked = packs_of(sandbox, engine, baked, first)
                paths = [f"res://mods/mod0/{path}" for path in demo_mod()]
                loaded = verify_load(ENGINES, engine, packs["mod0"], paths, LIMITS)
                assert not loaded.findings
                assert loaded.outcome is not None
                runs.append((baked, repacked, loaded.outcome, len(packs["mod0"])))
            one.append(
                (
                    engine.short,
                    statistics.median(b.outcome.cpu_seconds for b, *_ in runs),
                    statistics.median(load.cpu_seconds for *_, load, _ in runs),
                    first["mod0"].ours + statistics.median(r for _, r, *_ in runs),
                    max(b.outcome.peak_bytes for b, *_ in runs) / 1e6,
                    runs[0][3] / 1e3,
                )
            )
            alone = sum(bake(ENGINES, job_of(engine, {m: r})).outcome.cpu_seconds for m, r in mods.items())
            together = bake(ENGINES, job_of(engine, mods))
            packs_of(sandbox, engine, together, mods)
            many.append((engine.short, alone, together.outcome.cpu_seconds, together.outcome.peak_bytes / 1e6))
    print("## One small mod\n")
    print("| engine | bake, engine | load again, engine | ours: scan, optimize, repack | peak of the engine | pack |")
    print("|---|---|---|---|---|---|")
    for name, *f in one:
        print(f"| {name} | {f[0]:.2f} s | {f[1]:.2f} s | {f[2]:.2f} s | {f[3]:.0f} MB | {f[4]:.0f} kB |")
    print(f"\n## {asked.mods} mods\n")
    print("| engine | each in its own project (the default) | all in one | saved | peak of all in one |")
    print("|---|---|---|---|---|")
    for name, alone, together_, peak in many:
        print(f"| {name} | {alone:.1f} s | {together_:.1f} s | {alone / together_:.1f} × | {peak:.0f} MB |")


if __name__ == "__main__":
    main()
