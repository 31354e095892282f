"""The files of a scanned mod, as the next stages take them: by number, with what each of them is."""

from __future__ import annotations

import re
from typing import Any

from cloudbaker.compute.godot.archive import open_mod
from cloudbaker.compute.godot.policy import Limits
from cloudbaker.compute.godot.resources.text import parse_text
from cloudbaker.compute.godot.scan_rules import ScanFindings
from cloudbaker.compute.job import Inputs, JobResult, Params
from cloudbaker.media import sniff
from cloudbaker.model import Finding, Severity, to_json

KINDS = {
    "png": "image",
    "jpg": "image",
    "webp": "image",
    "bmp": "image",
    "tga": "image",
    "svg": "image",
    "glb": "model",
    "gltf": "scene",
    "wav": "wav",
    "ogg": "audio",
    "mp3": "audio",
    "flac": "audio",
}
"""What becomes of a file in the bake, by what its bytes (or, where they don't say, its name) tell."""
_TEXT = ("tres", "tscn")
_HEADER = re.compile(rb"^\s*\[\s*(?:gd_scene|gd_resource|ext_resource)\b[^\n]*", re.MULTILINE)
_UID = re.compile(rb'\s+uid\s*=\s*"uid://[a-z0-9<>-]*"')


def unpack_job(inputs: Inputs, params: Params) -> JobResult:
    """Take a mod apart that a scan let pass.

    Inputs as those of the scan; params ``id`` (the mod's, from the scan), ``limits`` (the policy's), ``special``.
    Files ``f0``, ``f1`` …; value ``{"id", "files": [{path, file, kind, uids}], "findings"}``, paths below the
    mod's folder.
    Raises ValueError where there is a file outside of it: a scan would have rejected the mod.
    """
    findings = ScanFindings()
    mod = open_mod(inputs, Limits(**params.get("limits", {})), findings, special=tuple(params.get("special", ())))
    if mod is None or any(finding.severity is Severity.ERROR for finding in findings):
        raise ValueError("the mod can't be opened: it was not scanned")
    if not mod.id:
        mod = mod.named(params["id"])
    rows: list[dict[str, Any]] = []
    files: dict[str, bytes | bytearray | memoryview] = {}
    left: list[Finding] = []
    for number, (path, data) in enumerate(sorted(mod.files.items())):
        if not path.startswith(mod.root):
            raise ValueError("a file lies outside of the mod: it was not scanned")
        below = path.removeprefix(mod.root)
        content: bytes | memoryview = data
        uids = 0
        if below.rsplit(".", 1)[-1].lower() in _TEXT:
            plain, uids = strip_uids(data)
            content = plain
            if has_uids(plain):
                left.append(
                    Finding(
                        "godot.uid",
                        Severity.ERROR,
                        below,
                        "it has a UID that is written in an unusual way",
                        "save the file with the editor",
                    )
                )
        files[f"f{number}"] = content
        rows.append({"path": below, "file": f"f{number}", "kind": kind_of(below, content), "uids": uids})
    return JobResult({"id": mod.id, "files": rows, "findings": to_json(left)}, {} if left else files)


def kind_of(path: str, data: bytes | memoryview) -> str:
    """``image``, ``model``, ``scene`` (a .gltf), ``wav``, ``audio`` or ``other``."""
    extension = path.rsplit(".", 1)[-1].lower()
    extension = "jpg" if extension == "jpeg" else extension
    if extension not in KINDS:
        return "other"
    seen = sniff(memoryview(data)[:64])
    return KINDS[seen if seen in KINDS else extension]


def strip_uids(data: bytes | memoryview) -> tuple[bytes, int]:
    """A text resource without UIDs in the headers of its sections, and how many there were.

    A UID wins over the path beside it: in a game that knows the same UID, the game's own file would be loaded.
    """
    count = 0

    def clean(match: re.Match[bytes]) -> bytes:
        nonlocal count
        text, found = _UID.subn(b"", match[0])
        count += found
        return text

    return _HEADER.sub(clean, bytes(data)), count


def has_uids(data: bytes) -> bool:
    """Whether a text resource has a UID, however it is written."""
    resource = parse_text(data, findings=[])  # what is wrong with it, the scan has said
    return bool(resource.uid) or any(item.uid for item in resource.external)
