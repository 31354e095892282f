"""Say whether a stranger's mod may enter, before any engine sees a byte of it.

    open → names and bytes of every file → resources, text and binary → models → manifest → the mod as a whole

Nothing is executed, nothing is decoded whole, and nothing stops the scan: the first script decides the verdict, but the
report lists every finding, with file, line (or offset) and remedy.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from cloudbaker.compute.gltf.embed import file_references
from cloudbaker.compute.gltf.findings import Findings, quote
from cloudbaker.compute.gltf.glb import GlbError, split_glb
from cloudbaker.compute.gltf.intake import to_glb
from cloudbaker.compute.gltf.jsontext import parse_json
from cloudbaker.compute.gltf.limits import ContentLimits
from cloudbaker.compute.gltf.precheck import precheck
from cloudbaker.compute.gltf.schema import check_schema
from cloudbaker.compute.godot.archive import Mod, open_mod
from cloudbaker.compute.godot.classlist import class_list_for, class_list_names, load_class_list
from cloudbaker.compute.godot.filetypes import check_file, extension
from cloudbaker.compute.godot.manifest import Manifest, manifest_id, read_manifest
from cloudbaker.compute.godot.paths import RES
from cloudbaker.compute.godot.policy import Policy
from cloudbaker.compute.godot.resources.binary import BinaryLimits, parse_binary
from cloudbaker.compute.godot.resources.text import TextLimits, parse_config, parse_text
from cloudbaker.compute.godot.resources.tree import Resource
from cloudbaker.compute.godot.scan_resource import Context, SceneFacts, check_config, check_resource, check_words
from cloudbaker.compute.godot.scan_rules import ScanFindings
from cloudbaker.compute.godot.shaders import check_shader
from cloudbaker.compute.godot.unpack import strip_uids
from cloudbaker.compute.job import Inputs, JobResult, Params
from cloudbaker.model import Finding, Verdict, to_json

_CONFIGS = frozenset({"import", "remap", "cfg", "godot", "gdextension", "gdnlib"})
_MANY = 10**12
_GODOT_3 = "3.6"
"""Whose classes count beside Godot 4's own in files that Godot 3 wrote."""

# The sandbox reads no file once a job runs: the lists have to be there when it is forked.
for _name in class_list_names():
    load_class_list(_name)


@dataclass(slots=True)
class Scan:
    """What a scan found."""

    verdict: Verdict
    id: str = ""
    """Of the mod; empty where neither its folder nor its manifest gives one."""
    form: str = ""
    """``pck``, ``zip`` or ``folder``; empty where it could not be opened."""
    manifest: Manifest | None = None
    files: list[dict[str, Any]] = field(default_factory=list)
    """``{"path": "res://mods/…", "bytes": 12, "kind": "scene"}``; no kind where the file is refused."""
    class_list: str = ""
    """The list that held, such as ``godot-4.6``."""

    def to_json(self) -> dict[str, Any]:
        """The value of `scan_job` and of ``cloudbaker scan --json``."""
        return {
            "verdict": self.verdict.kind.value,
            "id": self.id,
            "form": self.form,
            "manifest": None if self.manifest is None else self.manifest.to_json(),
            "files": self.files,
            "bytes": sum(file["bytes"] for file in self.files),
            "class_list": self.class_list,
            "findings": to_json(self.verdict.findings),
        }


def scan_job(inputs: Inputs, params: Params) -> JobResult:
    """`scan` in the sandbox.

    Inputs: one ``.pck`` or ``.zip``, or a folder's files by their relative path (`folder_inputs`). Params: ``policy``
    (a policy as JSON, ``Policy.model_dump(mode="json")``), ``engine`` (``4.6.3``; empty: what the mod's form says),
    ``special`` (names of a folder's links and devices). Value: `Scan.to_json`.
    """
    policy = Policy.model_validate(params["policy"])
    found = scan(inputs, policy, engine=params["engine"], special=tuple(params.get("special") or ()))
    return JobResult(found.to_json())


def scan(inputs: Mapping[str, memoryview], policy: Policy, *, engine: str = "", special: tuple[str, ...] = ()) -> Scan:
    """Scan a mod under a policy for an engine version (see `scan_job`).

    Raises `EngineMissing` where the engine is newer than every class list that the policy was reviewed for.
    """
    findings = ScanFindings()
    with _no_collector():
        mod = open_mod(inputs, policy.limits, findings, special=special)
        if mod is None:
            return Scan(Verdict.of(tuple(findings)))
        return _Scanner(mod, policy, engine or made_for(inputs, mod), findings).run()


@contextmanager
def _no_collector() -> Iterator[None]:
    """Without the collector of cycles: there are none in a tree of values, and it walks the whole tree again and again
    while it grows (a scene of 1.9 MB: 3.9 MB/s with it, 5.4 without)."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def made_for(inputs: Mapping[str, memoryview], mod: Mod) -> str:
    """The major version that a mod is made for: ``3`` for packs of format 1 and manifests of Godot 3, else ``4``."""
    if mod.form == "pck":
        ((_, data),) = inputs.items()
        return "3" if bytes(data[4:8]) == b"\1\0\0\0" else "4"
    head = bytes(mod.files[mod.manifest][:400]) if mod.manifest else b""
    return "3" if re.search(rb"format\s*=\s*2\s*\]", head) else "4"


class _Scanner:
    def __init__(self, mod: Mod, policy: Policy, engine: str, findings: ScanFindings) -> None:
        self.policy, self.engine, self.findings = policy, engine, findings
        self.allowed = policy.for_engine(engine)
        self.major = int(self.allowed.classes.version.split(".")[0])
        self.text_limits = TextLimits(bytes=policy.limits.text_bytes, values=policy.limits.resource_values)
        self.binary_limits = BinaryLimits(bytes=policy.limits.file_bytes, values=policy.limits.resource_values)
        self.parsed_manifest: Resource | None = None
        self.mod = self._identified(mod)
        other = self.allowed
        if self.major >= 4:
            older = class_list_for(_GODOT_3, policy.reviewed) if _reviewed(policy, "godot-3.") else None
            other = self.allowed if older is None else self.allowed.with_classes(self.allowed.classes.merged(older))
        self.context = Context(self.mod.root, frozenset(self.mod.files), self.allowed, other, self.major, findings)
        self.facts: dict[str, SceneFacts] = {}
        self.buffers: set[str] = set()

    def run(self) -> Scan:
        kinds: dict[str, str] = {}
        for path, data in self.mod.files.items():
            self._check_place(path)
            kinds[path] = check_file(path, data, self.policy, self.findings)
        for path, data in self.mod.files.items():
            self._check_content(path, data, kinds[path])
        for path, kind in kinds.items():
            if kind == "buffer" and path not in self.buffers:
                self.findings.add("file.buffer", path, "no .gltf of the mod refers to it")
        self._check_instances()
        manifest = self._manifest()
        if not any(path != self.mod.manifest for path in self.mod.files):
            self.findings.add("mod.empty", "", "it has no files but its manifest")
        files = [{"path": path, "bytes": len(data), "kind": kinds[path]} for path, data in self.mod.files.items()]
        return Scan(
            Verdict.of(tuple(self.findings)),
            self.mod.id,
            self.mod.form,
            manifest,
            sorted(files, key=lambda file: file["path"]),
            self.allowed.classes.name,
        )

    # --- the mod's name

    def _identified(self, mod: Mod) -> Mod:
        """The mod under its id, which only its manifest may say."""
        if not mod.manifest:
            return mod if mod.id else mod.named("unnamed")
        self.parsed_manifest = self._parse_text(mod.manifest, mod.files[mod.manifest], Findings())
        if mod.id:
            return mod
        return mod.named(manifest_id(self.parsed_manifest) or "unnamed")

    def _manifest(self) -> Manifest | None:
        if self.parsed_manifest is None:
            return None
        return read_manifest(
            self.mod.manifest,
            self.parsed_manifest,
            id="" if self.mod.id == "unnamed" else self.mod.id,
            engine=self.engine,
            paths=self.mod.files,
            findings=self.findings,
        )

    def _check_place(self, path: str) -> None:
        """Whether a file lies in the mod's folder."""
        if path.startswith(self.mod.root):
            below = path.removeprefix(self.mod.root)
        else:
            below = path.removeprefix(RES)
            self.findings.add("path.outside", path, f"it is outside {self.mod.root}")
        for folder in ("addons", "src"):
            if below.startswith(f"{folder}/") and (folder == "addons" or not path.startswith(self.mod.root)):
                self.findings.add(f"path.{folder}", path, f"it is in {RES}{folder}/ or means to be")

    # --- contents

    def _check_content(self, path: str, data: memoryview, kind: str) -> None:
        if kind in ("scene", "resource"):
            resource = self._parse_text(path, data, self.findings)
            if resource.type and (resource.type == "PackedScene") != (kind == "scene"):
                self.findings.add("file.content", path, f"a .{extension(path)} that holds a {quote(resource.type, 40)}")
            self.facts[path] = check_resource(path, resource, self.context)
            self._check_uids(path, data, resource)
        elif kind == "binary":
            found: list[Finding] = []
            resource = parse_binary(data, limits=self.binary_limits, findings=found)
            self._extend(path, found)
            self.facts[path] = check_resource(path, resource, self.context)
        elif kind == "glb":
            self._check_glb(path, data)
        elif kind == "gltf":
            self._check_gltf(path, data)
        elif kind == "shader":
            self._check_shader(path, data)
        elif kind == "text" and extension(path) in ("csv", "po"):
            check_words(path, bytes(data).decode("utf-8", "replace"), self.context)
        elif extension(path) in _CONFIGS:
            found = []
            config = parse_config(data, engine=self.major, limits=self.text_limits, findings=found)
            self._extend(path, found)
            check_config(path, config, self.context)

    def _parse_text(self, path: str, data: memoryview, findings: Findings) -> Resource:
        found: list[Finding] = []
        resource = parse_text(data, engine=self.major, limits=self.text_limits, findings=found)
        self._extend(path, found, findings)
        return resource

    def _extend(self, path: str, found: list[Finding], findings: Findings | None = None) -> None:
        """Findings of a reader, with the file before their place."""
        for finding in found:
            place = finding.place.replace("line ", ":").replace("offset ", "@")
            joined = f"{path}{place}" if not place or place[0] in ":@/" else f"{path}: {place}"
            (findings if findings is not None else self.findings).append(replace(finding, place=joined))

    def _check_uids(self, path: str, data: memoryview, resource: Resource) -> None:
        """Every UID has to be one that `strip_uids` finds: an engine would find the others."""
        wanted = sum(bool(uid) for uid in (resource.uid, *(item.uid for item in resource.external)))
        if wanted and self.policy.uids == "strip" and strip_uids(data)[1] != wanted:
            self.findings.add("ref.uid", path, "a UID is written in a way that no editor writes, and can't be removed")

    def _check_glb(self, path: str, data: memoryview) -> None:
        limits, findings = self._model_limits(), Findings()
        try:
            document = parse_json(split_glb(data)[0], limits, findings)
        except GlbError:
            document = None  # the pre-check says it again
        if document is not None:
            for at, uri in _uris(document):
                if uri[:5].lower() != "data:":
                    findings.add("gltf.uri-in-glb", at, f"it refers to {quote(uri)}")
            nodes = document.get("nodes")
            self.facts[path] = SceneFacts(len(nodes) if isinstance(nodes, list) else 0)
        if not findings.failed:
            findings = precheck(data, limits).findings
        self._extend(path, list(findings))

    def _check_gltf(self, path: str, data: memoryview) -> None:
        limits, findings = self._model_limits(), Findings()
        document = parse_json(data, limits, findings)
        if document is not None and not findings.failed:
            check_schema(document, limits, findings)
        if document is not None and not findings.failed:
            folder = path.rpartition("/")[0] + "/"
            sources: dict[str, memoryview] = {"model.gltf": data}
            for reference in file_references(document, findings):
                held = self.mod.files.get(folder + reference)
                if held is None:
                    findings.add("intake.missing-file", "", f"there is no {quote(reference)} beside it")
                else:
                    self.buffers.add(folder + reference)
                    sources[reference] = held
            self.facts[path] = SceneFacts(len(document.get("nodes", ())))
            if not findings.failed:
                glb = to_glb(sources, "model.gltf", limits, findings)
                if glb is not None:
                    findings.extend(precheck(glb, limits).findings)
        self._extend(path, list(findings))

    def _model_limits(self) -> ContentLimits:
        return ContentLimits(source_bytes=self.policy.limits.file_bytes, image_pixels=self.policy.limits.image_pixels)

    def _check_shader(self, path: str, data: memoryview) -> None:
        if not self.policy.shaders.allowed:
            self.findings.add("shader.forbidden", path, f"a shader, and the policy {self.policy.name} allows none")
            return
        try:
            code = bytes(data).decode("utf-8")
        except UnicodeDecodeError:
            self.findings.add("text.encoding", path, "it is not UTF-8")
            return
        for problem, line, message in check_shader(code, self.policy.shaders):
            self.findings.add(problem, f"{path}:{line}", message)

    # --- the mod as a whole

    def _check_instances(self) -> None:
        """No scene is in itself, and none is 10¹⁰ nodes once its instances are multiplied out."""
        totals: dict[str, int] = {}
        on_way: set[str] = set()
        for start in self.facts:
            stack = [start]
            while stack:
                path = stack[-1]
                facts = self.facts.get(path)
                if facts is None or path in totals:
                    totals.setdefault(path, 1)
                    stack.pop()
                elif path in on_way:
                    on_way.discard(path)
                    total = facts.nodes + sum(totals.get(inner, 1) for inner in facts.instances)
                    totals[path] = min(total, _MANY)  # or numbers grow by a digit for each file
                    stack.pop()
                else:
                    on_way.add(path)
                    for inner in dict.fromkeys(facts.instances):
                        if inner in on_way:
                            self.findings.add("scene.cycle", path, f"it instances {quote(inner)}, which instances it")
                        elif inner not in totals:
                            stack.append(inner)
        most = self.policy.limits.instances
        for path, total in totals.items():
            if total > most:
                shown = f"{total:,}" if total < _MANY else "more than 10¹²"
                self.findings.add("scene.too-many-nodes", path, f"{shown} nodes with its instances, at most {most:,}")


def _reviewed(policy: Policy, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in policy.reviewed)


def _uris(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Every ``uri`` anywhere in a document, extensions included, with its JSON pointer. Linear, without recursion."""
    found: list[tuple[str, str]] = []
    stack: list[tuple[str, Any]] = [("", document)]
    while stack:
        at, value = stack.pop()
        if isinstance(value, dict):
            for key, held in value.items():
                if isinstance(held, str):
                    if key.lower() in ("uri", "url") and at.split("/")[-1] != "extras":
                        found.append((f"{at}/{key}", held))
                elif isinstance(held, (dict, list)):
                    stack.append((f"{at}/{key}" if len(at) < 200 else at, held))
        elif isinstance(value, list) and value and isinstance(value[0], (dict, list)):
            stack += [(f"{at}/{n}", held) for n, held in enumerate(value) if isinstance(held, (dict, list))]
    return found
