"""Godot: a mod from strangers, scanned before any engine starts, baked by the real engine, moved under its own folder,
loaded again in the engine, signed."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cloudbaker.compute.godot.adapter import BakeOptions, Import
from cloudbaker.compute.godot.bake import PACK, bake, prepare
from cloudbaker.compute.godot.engines import Engine, find_engine
from cloudbaker.compute.godot.package import build_manifest
from cloudbaker.compute.godot.policy import Policy, load_policy, tenant_policy
from cloudbaker.compute.godot.verify_load import verify_load
from cloudbaker.compute.job import Job, Limits, Outcome
from cloudbaker.compute.package import MANIFEST
from cloudbaker.compute.toolchain import versions
from cloudbaker.errors import EngineFailed, LimitExceeded, RecipeError, SourceUnreadable
from cloudbaker.model import Finding, Loss, Role, Severity, Verdict, VerdictKind
from cloudbaker.recipe import Recipe
from cloudbaker.settings import settings
from cloudbaker.tasks.context import BakeContext, job_limits
from cloudbaker.tasks.gather import SourceFile, findings_of, source_file
from cloudbaker.tasks.ingest import Ingested, blob_input
from cloudbaker.tasks.optimize import Optimized
from cloudbaker.tasks.package import Packaged, signed
from cloudbaker.tasks.targets import Identity
from cloudbaker.tasks.validate import Validated

REVISION = "1"
"""Of our own part in a bake for Godot. Raised by hand whenever the same input gives other bytes."""
MOD_MANIFEST = "manifest.tres"
MAX_FILES = 10_000
MAX_ENGINE_FILES = 3500
"""That an engine gets at once: it makes up to four more of each, and the sandbox ends a tool at 20,000."""
INLINE_BYTES = 1 << 20
"""Smaller sources go to the sandbox as bytes: each that is mapped costs a descriptor."""
_LOADABLE = re.compile(r"\.(tres|tscn|png|jpe?g|webp|bmp|tga|svg|glb|gltf|wav|ogg|mp3|flac|ttf|otf|res|scn)$", re.I)
_NOT_PACKED = re.compile(r"\.bin$", re.I)
_SURFACES = {"color": "color", "data": "data", "normal": "normal"}


@dataclass(frozen=True)
class GodotOptimized(Optimized):
    """The files of a mod as the engine gets them."""

    mod: str = ""
    models: tuple[Mapping[str, Any], ...] = ()
    """One row for each model and level of detail, with what was measured."""
    sounds: tuple[Mapping[str, Any], ...] = ()
    """One row for each sound: loudness, loop, noise."""
    imports: tuple[Import, ...] = ()
    renames: Mapping[str, str] = field(default_factory=dict)
    """Name for the engine → name that the mod knows, of sounds whose extension the engine would not look at."""
    vram: Mapping[str, bytes] = field(default_factory=dict)
    """Textures of our own that take the engine's place, by source path: ``.ctex`` in ASTC."""


# -- what a bake depends on --------------------------------------------------------------------------------------------


def identity(recipe: Recipe, tenant: str) -> Identity:
    """The engine, the tools, and the policy: a mod that was let in by other rules is another bake."""
    engine = _engine(recipe)
    return Identity(engine.identity, {**_tools(), "policy": _policy(recipe, tenant).hash})


def _engine(recipe: Recipe) -> Engine:
    engine = find_engine(recipe.godot.engine, settings())
    if engine.major == 3 and recipe.godot.textures in ("bptc", "astc"):
        raise RecipeError(
            f"recipe {recipe.name}: Godot 3 has no {recipe.godot.textures} textures: ask for s3tc or etc2"
        )
    return engine


def _policy(recipe: Recipe, tenant: str) -> Policy:
    return load_policy(recipe.godot.policy) if recipe.godot.policy else tenant_policy(tenant)


@lru_cache(maxsize=1)
def _tools() -> Mapping[str, str]:
    import soundfile

    libraries = ("soundfile", "astc-encoder-py")
    return {
        **versions(),
        "cloudbaker-godot": REVISION,
        "libsndfile": soundfile.__libsndfile_version__,
        **{name: version(name) for name in libraries},
    }


# -- ingest ------------------------------------------------------------------------------------------------------------


def gather(path: Path, do: Callable[[Job], Outcome], recipe: Recipe) -> tuple[tuple[SourceFile, ...], list[Finding]]:
    """A ``.pck`` or ``.zip``, or all files of a mod's folder, its manifest first. Links are findings."""
    del do, recipe  # what the files hold, the scan will see
    if not path.is_dir():
        whole = path.resolve()
        return (source_file(whole.name, whole, whole.parent),), []
    files: list[SourceFile] = []
    findings: list[Finding] = []
    try:
        for folder, folders, names in os.walk(path, onerror=_raise):
            for name in sorted((*names, *folders)):
                item = Path(folder, name)
                mode = item.lstat().st_mode
                relative = item.relative_to(path).as_posix()
                if stat.S_ISREG(mode):
                    files.append(source_file(relative, item, path))
                elif not stat.S_ISDIR(mode):
                    findings.append(
                        Finding(
                            "mod.link",
                            Severity.ERROR,
                            relative,
                            "it is a link or no ordinary file",
                            "put the file itself there",
                        )
                    )
                if len(files) > MAX_FILES:
                    raise LimitExceeded(
                        f"the folder holds more than {MAX_FILES:,} files: hand in one mod at a time",
                        limit="files",
                        allowed=MAX_FILES,
                    )
    except SourceUnreadable:
        raise
    except OSError as error:
        raise SourceUnreadable(f"can't read {path}: {error.strerror}", path=str(path)) from error
    if not files:
        raise SourceUnreadable(f"{path} is an empty folder: name the folder of a mod", path=str(path))
    files.sort(key=lambda f: (f.name.rsplit("/", 1)[-1] != MOD_MANIFEST, f.name.count("/"), f.name))
    return tuple(files), findings


def _raise(error: OSError) -> None:
    raise error


# -- validate ----------------------------------------------------------------------------------------------------------


def validate(context: BakeContext, ingested: Ingested) -> Validated:
    """The scan, with the policy: the first script decides, before any engine starts. Then the mod is taken apart."""
    findings = list(ingested.findings)
    if Verdict.of(tuple(findings)).kind is VerdictKind.REJECT:
        return Validated(Verdict.of(tuple(findings)))
    policy = _policy(context.recipe, context.request.asset.tenant)
    inputs: dict[str, Path | bytes | memoryview] = {
        source.name: _input(context, source.blob) for source in ingested.sources
    }
    policy_json = policy.model_dump(mode="json")
    engine = _engine(context.recipe)
    scanned = context.do(context.job("godot.scan:scan_job", inputs, policy=policy_json, engine=engine.short)).value
    findings += findings_of(scanned["findings"])
    verdict = Verdict.of(tuple(findings))
    if verdict.kind is VerdictKind.REJECT:
        return Validated(verdict)
    facts = {name: scanned[name] for name in ("id", "form", "manifest", "class_list")}
    unpacked = context.do(context.job("godot.unpack:unpack_job", inputs, id=facts["id"], limits=policy_json["limits"]))
    findings += findings_of(unpacked.value["findings"])
    if len(unpacked.value["files"]) > MAX_ENGINE_FILES:
        findings.append(
            Finding(
                "godot.too-many-files",
                Severity.ERROR,
                "",
                f"it has {len(unpacked.value['files']):,} files, and an engine takes {MAX_ENGINE_FILES:,} at once",
                "split the mod, or put pictures into an atlas",
            )
        )
    verdict = Verdict.of(tuple(findings))
    if verdict.kind is VerdictKind.REJECT:
        return Validated(verdict)
    rows = unpacked.value["files"]
    return Validated(
        verdict,
        facts={**facts, "id": unpacked.value["id"], "kinds": {row["path"]: row["kind"] for row in rows}},
        metrics={"source_files": float(len(rows))},
        files={row["path"]: unpacked.files[row["file"]] for row in rows},
    )


def _input(context: BakeContext, blob: Any) -> Path | bytes:
    if blob.size < INLINE_BYTES:
        return context.catalog.read_blob(blob)
    return blob_input(context, blob)


# -- optimize ----------------------------------------------------------------------------------------------------------


def optimize(context: BakeContext, validated: Validated) -> Optimized:
    """Models as plain floats with their textures beside them, sound as Ogg Vorbis; one job for each file."""
    recipe, kinds = context.recipe, validated.facts["kinds"]
    engine = _engine(recipe)
    files = dict(validated.files)
    made = _Made(f"res://mods/{validated.facts['id']}/")
    lods = [lod.model_dump(mode="json") for lod in recipe.lods] if engine.major == 3 else []
    models = sorted(path for path, kind in kinds.items() if kind == "model")
    sounds = sorted(p for p, kind in kinds.items() if kind in ("wav", "audio"))
    outcomes = context.do_all(
        [
            *(context.job("godot.model:model_job", {"model.glb": files[p]}, name=p, lods=lods) for p in models),
            *(
                context.job(
                    "audio.transcode:transcode_job",
                    {"audio": files[path]},
                    quality=recipe.audio.quality,
                    shortest_seconds=recipe.audio.shortest_seconds,
                )
                for path in sounds
                if recipe.audio.format != "keep"
            ),
        ]
    )
    for path, outcome in zip(models, outcomes, strict=False):
        _model(path, outcome, files, made)
    for path, outcome in zip(sounds, outcomes[len(models) :], strict=False):
        _sound(path, kinds[path], outcome, files, made)
    for path in sounds if recipe.audio.format == "keep" else ():
        made.imports.append(Import(path, kinds[path]))
    made.imports += [Import(path, "image") for path, kind in kinds.items() if kind == "image"]
    made.imports += [Import(path, "model") for path, kind in kinds.items() if kind == "scene"]
    if recipe.godot.textures == "astc":
        _astc(context, files, made)
    if Verdict.of(tuple(made.findings)).kind is VerdictKind.REJECT:
        return Optimized({}, [], [], (), tuple(made.findings))
    return GodotOptimized(
        files,
        [],
        made.textures,
        tuple(made.losses),
        tuple(made.findings),
        {"audio_seconds": made.seconds, "models": float(len(models)), "sounds": float(len(sounds))},
        mod=validated.facts["id"],
        models=tuple(made.models),
        sounds=tuple(made.sounds),
        imports=tuple(sorted(made.imports, key=lambda each: each.path)),
        renames=made.renames,
        vram=made.vram,
    )


@dataclass(slots=True)
class _Made:
    home: str
    """The mod's folder in the game."""
    imports: list[Import] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)
    sounds: list[dict[str, Any]] = field(default_factory=list)
    textures: list[dict[str, Any]] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    vram: dict[str, bytes] = field(default_factory=dict)
    renames: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def _model(path: str, outcome: Outcome, files: dict[str, bytes], made: _Made) -> None:
    """Put a model, its levels of detail and its textures into the mod."""
    made.findings += [replace(finding, place=made.home + path) for finding in findings_of(outcome.value["findings"])]
    if "model.glb" not in outcome.files:
        return
    folder, stem = path[: path.rfind("/") + 1], path.rsplit(".", 1)[0]
    files[path] = outcome.files["model.glb"]
    made.imports.append(Import(path, "model"))
    before = files[path]
    for row in outcome.value["variants"]:
        level = outcome.files[row["name"]]
        name = f"{stem}.{row['variant']}.glb"
        if row["variant"] == "default":
            made.models.append({**row, "path": path})
        if row["variant"] == "default" or level == before or name in files:
            continue
        made.models.append({**row, "path": name})
        files[name] = before = level
        made.imports.append(Import(name, "model"))
    for row in outcome.value["textures"]:
        name = folder + row["name"]
        if name in files and files[name] != outcome.files[row["file"]]:
            made.findings.append(
                Finding(
                    "godot.name",
                    Severity.ERROR,
                    made.home + name,
                    "the mod has a file of the name that a texture of a model gets",
                    "rename the file",
                )
            )
            continue
        files[name] = outcome.files[row["file"]]
        made.imports.append(Import(name, _SURFACES[row["slot_class"]]))
        made.textures.append({"path": name, "slot_class": row["slot_class"], "bytes_before": row["bytes"]})
    made.losses += [Loss(loss["kind"], f"{path}{loss['place']}", loss["detail"]) for loss in outcome.value["losses"]]


def _sound(path: str, kind: str, outcome: Outcome, files: dict[str, bytes], made: _Made) -> None:
    """Put a sound into the mod. It keeps its name, whatever it is now: resources refer to it by that name."""
    value = outcome.value
    made.findings += [replace(finding, place=made.home + path) for finding in findings_of(value["findings"])]
    if value["findings"]:
        return
    made.seconds += value["seconds"]
    made.sounds.append({**value, "path": path})
    parameters: dict[str, str] = {}
    if "audio" in outcome.files:
        files[path] = outcome.files["audio"]
        kind = "audio"
        if value["kind"] == "mp3":
            made.losses.append(Loss("audio", path, "MP3 was encoded a second time, as Ogg Vorbis"))
        if value["loop"] is not None:
            parameters = {"loop": "true", "loop_offset": f"{value['loop']['start'] / value['rate']:.6f}"}
    if kind == "audio" and not path.lower().endswith((".wav", ".ogg")):
        name = f"{path}.ogg"
        if name in files:
            made.findings.append(
                Finding("godot.name", Severity.ERROR, made.home + name, "the bake needs this name", "rename the file")
            )
            return
        files[name], made.renames[name] = files.pop(path), path
        path = name
    made.imports.append(Import(path, kind, parameters))


def _astc(context: BakeContext, files: Mapping[str, bytes], made: _Made) -> None:
    """Encode the textures of models in ASTC ourselves, one job for each."""
    surfaces = [each for each in made.imports if each.kind in _SURFACES]
    outcomes = context.do_all(
        [
            context.job(
                "textures.astc:encode_job",
                {"image": files[each.path]},
                slot_class=each.kind,
                max_size=context.recipe.textures.max_size,
                image_pixels=context.recipe.limits.image_pixels,
            )
            for each in surfaces
        ]
    )
    rows = {row["path"]: row for row in made.textures}
    for each, outcome in zip(surfaces, outcomes, strict=True):
        made.findings += [
            replace(finding, place=made.home + each.path) for finding in findings_of(outcome.value["findings"])
        ]
        if "ctex" in outcome.files:
            made.vram[each.path] = outcome.files["ctex"]
            rows[each.path] |= {k: v for k, v in outcome.value.items() if k != "findings"}


# -- package -----------------------------------------------------------------------------------------------------------


def package(context: BakeContext, ingested: Ingested, optimized: Optimized) -> Packaged:
    """Bake, repack, load again, sign. What the engine can't import or load is a finding, and nothing is packaged."""
    assert isinstance(optimized, GodotOptimized)
    recipe, mod = context.recipe, optimized.mod
    engine = _engine(recipe)
    if engine.identity != ingested.engine:
        raise EngineFailed(
            f"the engine was exchanged while the bake ran ({ingested.engine} → {engine.identity}): bake again"
        )
    options = BakeOptions(recipe.godot.textures, recipe.textures.max_size)
    limits = engine_limits(context)
    baked = bake(context.engines, prepare(engine, {mod: optimized.files}, {mod: optimized.imports}, options, limits))
    context.outcomes.append(baked.outcome)
    findings = list(baked.findings)
    repacked = context.do(
        context.job(
            "godot.repack:repack_job",
            {"pack": baked.pack, **{f"vram{n}": data for n, data in enumerate(optimized.vram.values())}},
            mod=mod,
            sources=packed_names(optimized),
            renames=optimized.renames,
            format=engine.pack_format,
            engine=engine.number,
            vram={path: f"vram{n}" for n, path in enumerate(optimized.vram)},
        )
    )
    findings += findings_of(repacked.value["findings"])
    pack = repacked.files.get(PACK)
    if pack is None or Verdict.of(tuple(findings)).kind is VerdictKind.REJECT:
        return Packaged({}, "", findings=tuple(findings))
    declared = _policy(recipe, context.request.asset.tenant).game_paths
    loaded = verify_load(context.engines, engine, pack, loadable(optimized), limits, game_paths=declared)
    context.outcomes += [loaded.outcome] if loaded.outcome else []
    findings += loaded.findings
    if Verdict.of(tuple(findings)).kind is VerdictKind.REJECT:
        return Packaged({}, "", findings=tuple(findings))
    unstable = repacked.value["unstable"]
    if unstable:
        findings.append(
            Finding(
                "godot.not-reproducible",
                Severity.INFO,
                f"res://{unstable[0]}",
                f"Godot {engine.short} writes {len(unstable)} file(s) differently each time: {', '.join(unstable[:5])}",
                "nothing to do; all other files of the pack are the same in every bake",
            )
        )
    manifest = build_manifest(
        asset=context.request.asset,
        recipe=recipe.name,
        recipe_hash=recipe.hash,
        bake_key=ingested.bake_key,
        engine=engine,
        mod=mod,
        pack=pack,
        contents=repacked.value["files"],
        classes=loaded.classes,
        unstable=unstable,
        models=optimized.models,
        sounds=optimized.sounds,
        textures=optimized.textures,
        losses=optimized.losses,
    )
    files = {PACK: pack, MANIFEST: manifest}
    row = {
        "name": PACK,
        "variant": f"godot-{engine.number[0]}.{engine.number[1]}",
        "bytes": len(pack),
        "files": len(repacked.value["files"]),
        "loaded": len(loaded.classes),
        "pack_format": engine.pack_format,
    }
    return Packaged(
        files,
        signed(context, ingested, files),
        {
            "package_bytes": float(sum(map(len, files.values()))),
            "engine_bake_cpu_seconds": baked.outcome.cpu_seconds,
            "engine_bake_seconds": baked.outcome.wall_seconds,
            "engine_load_seconds": loaded.outcome.wall_seconds if loaded.outcome else 0.0,
            "engine_peak_bytes": float(baked.outcome.peak_bytes),
        },
        [row],
        {PACK: Role.BUNDLE},
        tuple(findings),
    )


def packed_names(optimized: GodotOptimized) -> list[str]:
    """Files that must be in the pack, by the names that the mod knows, below its folder."""
    names = {optimized.renames.get(path, path) for path in optimized.files}
    return sorted(path for path in names if not _NOT_PACKED.search(path))


def loadable(optimized: GodotOptimized) -> list[str]:
    """Files that are resources, as ``res://`` paths."""
    return [f"res://mods/{optimized.mod}/{path}" for path in packed_names(optimized) if _LOADABLE.search(path)]


def engine_limits(context: BakeContext) -> Limits:
    """What one run of the engine may use: as a job. Several threads work in it, so it gets more CPU than wall clock."""
    limits = job_limits(context.recipe)
    return replace(limits, cpu_seconds=limits.cpu_seconds * max(2, os.cpu_count() or 1))
