"""``manifest.tres``: what a mod says about itself, read without running anything.

A plain ``Resource`` (a script in it would be a script) whose fields are metadata: ``metadata/id = "oak"`` (Godot 4), or
one dictionary ``__meta__ = {"id": "oak"}`` (Godot 3). Both are read for either engine.

===============  ================================================================================================
``schema``       1
``id``           2 to 64 of ``a-z 0-9 _ -``; the folder's name under ``mods/``
``version``      semantic version, ``1.2.3``
``name``         for people
``author``       optional, as are all below; text
``license``      SPDX identifier or text
``engine``       ``{"min": "3.2", "max": "4.6"}``, either or both; ``4.6`` as a maximum includes 4.6.3
``game``         the same, for the game's own version
``entry_scenes`` paths of scenes that the game places: relative to the mod, or ``res://mods/<id>/…``
``dependencies`` ``["other_mod >=1.2 <2"]``: an id with comparisons; none means any version
``conflicts``    the same
``tags``         words
===============  ================================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cloudbaker.compute.gltf.findings import quote
from cloudbaker.compute.godot.archive import ID
from cloudbaker.compute.godot.paths import canonical
from cloudbaker.compute.godot.resources.tree import ArrayValue, Construct, DictValue, Property, Resource, Value
from cloudbaker.compute.godot.scan_resource import SCENES
from cloudbaker.compute.godot.scan_rules import ScanFindings

SCHEMA = 1
MAX_TEXT = 1000
MAX_ITEMS = 256

# semver.org, FAQ: the suggested expression
_SEMVER = re.compile(
    r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})"
    r"(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?"
)
_PARTIAL = re.compile(r"\d{1,9}(?:\.\d{1,9}){0,2}")
_REQUIREMENT = re.compile(r"(?P<id>[a-z0-9_-]+)(?P<ranges>(?:\s+(?:>=|<=|>|<|=)\s*\d{1,9}(?:\.\d{1,9}){0,2})*)")
_TAG = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_FIELDS = frozenset(
    {
        *("name", "author", "license", "schema", "id", "version"),
        *("engine", "game", "entry_scenes", "dependencies", "conflicts", "tags"),
    }
)
_REQUIRED = ("schema", "id", "version", "name")


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that has been read. Empty texts and tuples where it says nothing."""

    id: str
    version: str
    name: str
    author: str = ""
    license: str = ""
    engine_min: str = ""
    engine_max: str = ""
    game_min: str = ""
    game_max: str = ""
    entry_scenes: tuple[str, ...] = ()
    """As ``res://mods/<id>/…``."""
    dependencies: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {name: list(v) if isinstance(v := getattr(self, name), tuple) else v for name in self.__slots__}


def manifest_id(resource: Resource) -> str:
    """The id that a manifest gives, if it is allowed; else an empty text."""
    value = _fields(resource).get("id")
    return str(value[0]) if value is not None and isinstance(value[0], str) and ID.fullmatch(value[0]) else ""


def read_manifest(
    path: str, resource: Resource, *, id: str, engine: str, paths: Iterable[str], findings: ScanFindings
) -> Manifest | None:
    """The manifest at `path`, or None and the findings that say why not.

    `id` is the name of the mod's folder, `paths` are the mod's files, `engine` is the version that will bake it.
    """
    reader = _Reader(path, resource, findings)
    if resource.type != "Resource" or resource.nodes:
        reader.add("manifest.invalid", 0, f"it is a {quote(resource.type, 40)}, not a plain Resource")
        return None
    if resource.external or resource.internal:
        reader.add("manifest.invalid", 0, "it refers to other resources")
    fields = reader.fields = _fields(resource)
    for name, (_, place) in fields.items():
        if name not in _FIELDS and not name.startswith("_"):
            reader.add("manifest.field", place, f"there is no field {quote(name, 40)}")
    for name in _REQUIRED:
        if name not in fields:
            reader.add("manifest.field", 0, f"the field {name} is missing")
    if "schema" in fields and fields["schema"][0] != SCHEMA:
        reader.add("manifest.field", fields["schema"][1], f"schema is not {SCHEMA}")
    root = canonical(path).path.rpartition("/")[0] + "/"
    engine_min, engine_max = reader.range("engine")
    game_min, game_max = reader.range("game")
    manifest = Manifest(
        id=reader.id(id),
        version=reader.version(),
        name=reader.text("name"),
        author=reader.text("author"),
        license=reader.text("license"),
        engine_min=engine_min,
        engine_max=engine_max,
        game_min=game_min,
        game_max=game_max,
        entry_scenes=reader.entries(root, frozenset(paths)),
        dependencies=reader.requirements("dependencies"),
        conflicts=reader.requirements("conflicts"),
        tags=reader.tags(),
    )
    if not _within(engine, manifest.engine_min, manifest.engine_max):
        reader.add(
            "manifest.engine",
            fields["engine"][1],
            f"Godot {engine} is not between {manifest.engine_min or 'any'} and {manifest.engine_max or 'any'}",
        )
    return None if reader.failed else manifest


class _Reader:
    def __init__(self, path: str, resource: Resource, findings: ScanFindings) -> None:
        self.path, self.resource, self.findings = path, resource, findings
        self.fields: dict[str, tuple[Value, int]] = {}
        self.failed = False

    def add(self, code: str, place: int, message: str) -> None:
        line = self.resource.line(place)
        self.findings.add(code, f"{self.path}:{line}" if line else self.path, message)
        self.failed = True

    def text(self, name: str) -> str:
        if name not in self.fields:
            return ""
        value, place = self.fields[name]
        if not isinstance(value, str) or (name in _REQUIRED and not value.strip()):
            self.add("manifest.field", place, f"{name} is no text")
            return ""
        if len(value) > MAX_TEXT or any(ord(c) < 32 and c not in "\n\t" for c in value):
            self.add(
                "manifest.field", place, f"{name} is longer than {MAX_TEXT} characters, or holds control characters"
            )
            return ""
        return str(value)

    def id(self, folder: str) -> str:
        given = self.text("id")
        if not given:
            return ""
        place = self.fields["id"][1]
        if not ID.fullmatch(given):
            self.add("manifest.id", place, f"{quote(given, 80)} is not allowed")
        elif folder and given != folder:
            self.add("manifest.id", place, f"it is {quote(given)}, the folder is {quote(folder)}")
        return given

    def version(self) -> str:
        given = self.text("version")
        if given and not _SEMVER.fullmatch(given):
            self.add("manifest.version", self.fields["version"][1], f"{quote(given, 60)} is no semantic version")
        return given

    def range(self, name: str) -> tuple[str, str]:
        if name not in self.fields:
            return "", ""
        value, place = self.fields[name]
        if not isinstance(value, DictValue):
            self.add("manifest.field", place, f'{name} is not {{"min": "…", "max": "…"}}')
            return "", ""
        ends = {"min": "", "max": ""}
        for key, held in value.items:
            if not isinstance(key, str) or key not in ends:
                self.add("manifest.field", place, f"{name} has a key that is neither min nor max")
            elif not isinstance(held, str) or not (_PARTIAL.fullmatch(held) or _SEMVER.fullmatch(held)):
                self.add("manifest.version", place, f"{name}/{key} is no version such as 4.6 or 4.6.3")
            else:
                ends[str(key)] = str(held)
        if ends["min"] and ends["max"] and not _within(ends["min"], "", ends["max"]):
            self.add("manifest.version", place, f"{name}/min is above {name}/max")
        return ends["min"], ends["max"]

    def items(self, name: str) -> list[str]:
        if name not in self.fields:
            return []
        value, place = self.fields[name]
        items = value.items if isinstance(value, ArrayValue) else value.args if isinstance(value, Construct) else None
        if items is None or not all(isinstance(item, str) for item in items):
            self.add("manifest.field", place, f"{name} is no list of texts")
            return []
        if len(items) > MAX_ITEMS:
            self.add("manifest.field", place, f"{name} has {len(items):,} items, at most {MAX_ITEMS} are read")
        return [str(item) for item in items[:MAX_ITEMS]]

    def entries(self, root: str, paths: frozenset[str]) -> tuple[str, ...]:
        found = []
        for item in self.items("entry_scenes"):
            path = canonical(item if "://" in item else root + item.removeprefix("/"), root)
            place = self.fields["entry_scenes"][1]
            if not path.inside(root) or path.path not in paths:
                self.add("manifest.entry", place, f"{quote(item, 120)} is not in the mod")
            elif path.path.rpartition(".")[2].lower() not in SCENES:
                self.add("manifest.entry", place, f"{quote(item, 120)} is no scene")
            else:
                found.append(path.path)
        return tuple(found)

    def requirements(self, name: str) -> tuple[str, ...]:
        found = []
        for item in self.items(name):
            match = _REQUIREMENT.fullmatch(item.strip())
            if match is None or not ID.fullmatch(match["id"]):
                self.add("manifest.dependency", self.fields[name][1], f"{name}: {quote(item, 80)} can't be read")
            else:
                found.append(" ".join(re.sub(r"([<>=]+)\s*", r" \1", item).split()))
        return tuple(found)

    def tags(self) -> tuple[str, ...]:
        tags = self.items("tags")
        for tag in tags:
            if not _TAG.fullmatch(tag):
                self.add(
                    "manifest.field", self.fields["tags"][1], f"the tag {quote(tag, 40)} is not of a-z, 0-9, _ and -"
                )
        return tuple(tags)


def _fields(resource: Resource) -> dict[str, tuple[Value, int]]:
    """The metadata by name, in both ways of writing them; the last one counts."""
    fields: dict[str, tuple[Value, int]] = {}
    held: Property
    for held in resource.properties:
        if held.name == "__meta__" and isinstance(held.value, DictValue):
            fields.update({str(key): (value, held.place) for key, value in held.value.items if isinstance(key, str)})
        elif held.name.startswith("metadata/"):
            fields[held.name.removeprefix("metadata/")] = (held.value, held.place)
    return fields


def _within(version: str, least: str, most: str) -> bool:
    """Whether a version is in a range; as a maximum, ``4.6`` includes every 4.6.x."""
    number = _number(version)
    if not number:
        return True
    if least and number < _number(least)[: len(number)]:
        return False
    return not most or number[: len(_number(most))] <= _number(most)


def _number(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(?:\.\d+){0,2}", version.removeprefix("godot-"))
    return tuple(int(part) for part in match[0].split(".")) if match else ()
