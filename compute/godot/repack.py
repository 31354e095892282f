"""Make of an exported pack one that may be loaded into a game: everything under ``res://mods/<id>/``, nothing more.

An export also holds files of the bake project: settings, and caches of classes and UIDs that would shadow those of the
game. They are dropped. Baked files lie in ``.import`` or ``.godot``, where the packs of two mods would collide; they
move to ``res://mods/<id>/.baked/``, and the ``.import`` and ``.remap`` files that lead to them are written anew with
nothing in them but the way there. What an engine did not import has an ``.import`` that leads nowhere, whatever its
exit status said: that is found here.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from cloudbaker.compute.godot import godot3, godot4
from cloudbaker.compute.godot.adapter import config_text
from cloudbaker.compute.godot.paths import RES
from cloudbaker.compute.godot.pck import Pck, PckError, read_pck, write_pck
from cloudbaker.compute.job import Inputs, JobResult, Params
from cloudbaker.model import Finding, Severity, to_json

BAKED = ".baked"
"""Folder of the baked files below the mod's."""
_GUIDES = (".import", ".remap")
_GUIDE_BYTES = 1 << 20
_BESIDE = frozenset({"csv_translation"})
"""Importers that write ordinary resources beside their source (``words.en.translation``)."""
_LINE = re.compile(r'^(importer|type|path(?:\.[a-z0-9_]+)?)="([^"\\]*)"$')


@dataclass(slots=True)
class Repacked:
    """The files of a pack that keeps to its place."""

    files: dict[str, bytes | memoryview] = field(default_factory=dict)
    """By path without ``res://``."""
    findings: list[Finding] = field(default_factory=list)
    unstable: list[str] = field(default_factory=list)
    """Files that the engine writes differently each time."""


def repack(
    pack: Pck,
    mod: str,
    *,
    sources: set[str],
    others: Collection[str] = (),
    renames: Mapping[str, str] | None = None,
    vram: Mapping[str, bytes | memoryview] | None = None,
) -> Repacked:
    """The files of an exported pack, moved under ``mods/<mod>/``.

    `sources` are the files of the project that must be in it (below the mod's folder), imported or as they are;
    `others` the mods that were baked in the same project, whose files are left to them; `renames` gives files back the
    name that the mod knows them by (a FLAC was baked as ``x.flac.ogg``, or the engine would not look at it). `vram`
    gives textures of our own instead of the engine's: source path → ``.ctex``.
    """
    adapter = godot3 if pack.engine[0] == 3 else godot4
    home, result = f"mods/{mod}/", Repacked()
    entries = {entry.path.removeprefix(RES): entry for entry in pack.entries}
    names, beside = renames or {}, set[str]()
    strangers = tuple(f"mods/{other}/" for other in others if other != mod)
    moved: dict[str, str] = {}
    for path, entry in entries.items():
        if path in adapter.DROPPED:
            continue
        if path.startswith(adapter.IMPORTED):
            moved[path] = f"{home}{BAKED}/{path.rsplit('/', 1)[1]}"
        elif path.startswith(strangers):
            continue
        elif not path.startswith(home):
            result.findings.append(
                _finding(
                    "engine.stray-file", RES + path, "the engine packed a file from outside of the mod", "report this"
                )
            )
        elif not path.endswith(_GUIDES):
            result.files[path] = pack.view(entry)
    for path, entry in entries.items():
        if not path.startswith(home) or not path.endswith(_GUIDES):
            continue
        source = path.rsplit(".", 1)[0]
        if source.removeprefix(home) in names:
            source = home + names[source.removeprefix(home)]
        if entry.size > _GUIDE_BYTES:
            result.findings.append(
                _finding("engine.guide", RES + path, "an import file is far too long", "report this")
            )
            continue
        guide = _read_guide(pack.read(entry).decode("utf-8", "replace"))
        if guide.get("importer") in _BESIDE:
            beside.add(source.removeprefix(home))
            continue
        targets = {key: value for key, value in guide.items() if key.startswith("path")}
        missing = [target for target in targets.values() if target.removeprefix(RES) not in moved]
        if not targets or missing:
            result.findings.append(
                _finding(
                    "engine.not-imported",
                    RES + source,
                    "the engine could not import the file",
                    "repair the file, or export it again; other findings may say what is wrong with it",
                )
            )
            continue
        own = (vram or {}).get(source.removeprefix(home))
        if own is not None:
            place = moved[next(iter(targets.values())).removeprefix(RES)]
            result.files[place] = own
            # A plain path: with `path.astc` a GPU without ASTC would find no texture at all, so it is decoded for it.
            guide = {k: v for k, v in guide.items() if not k.startswith("path")} | {"path": RES + place}
        else:
            for key, target in targets.items():
                old = target.removeprefix(RES)
                guide[key] = RES + moved[old]
                result.files[moved[old]] = pack.view(entries[old])
        remap = {key: f'"{value}"' for key, value in guide.items()}
        if any(key.startswith("path.") for key in guide):
            formats = ", ".join(f'"{key[5:]}"' for key in guide if key.startswith("path."))
            remap["metadata"] = f'{{\n"imported_formats": [{formats}],\n"vram_texture": true\n}}'
        result.files[source + path[path.rindex(".") :]] = config_text({"remap": remap}).encode()
    for path in sorted(sources - beside):
        whole = home + path
        if not {whole, f"{whole}.import", f"{whole}.remap"} & result.files.keys() and not any(
            finding.place == RES + whole for finding in result.findings
        ):
            result.findings.append(
                Finding(
                    "engine.left-out",
                    Severity.WARNING,
                    RES + whole,
                    "the engine has no use for the file: it is not in the pack",
                    "remove it, or convert it to a format that this version of the engine reads",
                )
            )
    result.unstable = sorted(adapter.unstable(result.files))
    return result


def repack_job(inputs: Inputs, params: Params) -> JobResult:
    """Move an exported pack to its place.

    Inputs ``pack`` and the textures of our own; params ``mod``, ``sources`` (paths), ``others`` (mods), ``renames``,
    ``format`` and ``engine`` of the pack to write, ``vram`` (``{source: input}``). Value: ``{"files":
    [{path, bytes, sha256}], "findings", "unstable"}``; file ``mod.pck``, which is left out where a finding is an error.
    """
    try:
        pack = read_pck(inputs["pack"])
    except PckError as error:
        finding = Finding(
            "engine.bad-pack", Severity.ERROR, "", f"the pack that the engine wrote: {error.message}", "report this"
        )
        return JobResult({"files": [], "findings": [to_json(finding)], "unstable": []})
    vram = {path: inputs[key] for path, key in params.get("vram", {}).items()}
    made = repack(
        pack,
        params["mod"],
        sources=set(params["sources"]),
        others=params.get("others", ()),
        renames=params.get("renames"),
        vram=vram,
    )
    value = {
        "files": [
            {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for path, data in sorted(made.files.items())
        ],
        "findings": [to_json(finding) for finding in made.findings],
        "unstable": made.unstable,
    }
    if any(finding.severity is Severity.ERROR for finding in made.findings):
        return JobResult(value)
    target = io.BytesIO()
    major, minor, patch = params["engine"]
    write_pck(made.files, target, format=int(params["format"]), engine=(major, minor, patch))
    return JobResult(value, {"mod.pck": target.getbuffer()})


def _read_guide(text: str) -> dict[str, str]:
    """importer, type and paths of an ``.import`` or ``.remap`` file that an engine wrote."""
    found, section = {}, ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("["):
            section = line
        elif section == "[remap]" and (match := _LINE.match(line)):
            found[match[1]] = match[2]
    return found


def _finding(code: str, place: str, message: str, remedy: str) -> Finding:
    return Finding(code, Severity.ERROR, place, message, remedy)
