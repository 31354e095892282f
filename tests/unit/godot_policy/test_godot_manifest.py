"""manifest.tres, read without running anything."""

from __future__ import annotations

import pytest

from cloudbaker.compute.godot.manifest import Manifest, manifest_id, read_manifest
from cloudbaker.compute.godot.resources.text import parse_text
from cloudbaker.compute.godot.scan_rules import ScanFindings
from cloudbaker.testing.godot_mods import GODOT_3, GODOT_4, ROOT, Syntax

PATH = ROOT + "manifest.tres"
PATHS = (PATH, ROOT + "main.tscn", ROOT + "trees/oak.glb", ROOT + "a.png")
BOTH = pytest.mark.parametrize("syntax", [GODOT_3, GODOT_4], ids=["godot3", "godot4"])


def read(text: bytes, *, engine: str = "4.6.3", major: int | None = None) -> tuple[Manifest | None, ScanFindings]:
    findings = ScanFindings()
    resource = parse_text(text, engine=major or (3 if b"format=2" in text else 4))
    return read_manifest(PATH, resource, id="oak", engine=engine, paths=PATHS, findings=findings), findings


def codes(findings: ScanFindings) -> set[str]:
    return {finding.code for finding in findings}


@BOTH
def test_a_manifest_says_what_it_says(syntax: Syntax) -> None:
    text = syntax.manifest(
        entry_scenes='["main.tscn", "res://mods/oak/trees/oak.glb"]',
        dependencies='["elm >=1.2 <2", "ash"]',
        conflicts=f'{syntax.strings}( "fir" )',
        tags='["tree", "big-tree"]',
        game='{"min": "1.0.0-beta.2"}',
    )
    manifest, findings = read(text)
    assert list(findings) == []
    assert manifest is not None
    assert manifest.entry_scenes == (ROOT + "main.tscn", ROOT + "trees/oak.glb")
    assert manifest.dependencies == ("elm >=1.2 <2", "ash")
    assert manifest.conflicts == ("fir",)
    assert (manifest.engine_min, manifest.engine_max, manifest.game_min) == ("3.2", "4.6", "1.0.0-beta.2")
    assert manifest.to_json()["tags"] == ["tree", "big-tree"]


@BOTH
def test_the_id_is_read_before_the_rest(syntax: Syntax) -> None:
    assert manifest_id(parse_text(syntax.manifest(), engine=syntax.major)) == "oak"
    assert manifest_id(parse_text(syntax.manifest(id='"../oak"'), engine=syntax.major)) == ""
    assert manifest_id(parse_text(syntax.manifest(id=""), engine=syntax.major)) == ""


@BOTH
@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("schema", "", "manifest.field"),
        ("schema", '"1"', "manifest.field"),
        ("id", '"elm"', "manifest.id"),
        ("id", '"Oak"', "manifest.id"),
        ("id", '"o"', "manifest.id"),
        ("id", "5", "manifest.field"),
        ("version", '"1"', "manifest.version"),
        ("version", '"v1.0.0"', "manifest.version"),
        ("version", '"1.02.0"', "manifest.version"),
        ("version", '"1.0.0-"', "manifest.version"),
        ("name", '""', "manifest.field"),
        ("name", '"' + "x" * 2000 + '"', "manifest.field"),
        ("author", "[]", "manifest.field"),
        ("engine", '"4.6"', "manifest.field"),
        ("engine", '{"from": "4.0"}', "manifest.field"),
        ("engine", '{"min": 4.2}', "manifest.version"),
        ("engine", '{"min": "four"}', "manifest.version"),
        ("engine", '{"min": "4.7"}', "manifest.engine"),
        ("engine", '{"max": "4.5"}', "manifest.engine"),
        ("game", '{"min": "2", "max": "1"}', "manifest.version"),
        ("entry_scenes", '"main.tscn"', "manifest.field"),
        ("entry_scenes", '["a.png"]', "manifest.entry"),
        ("entry_scenes", '["../../core.tscn"]', "manifest.entry"),
        ("entry_scenes", '["user://x.tscn"]', "manifest.entry"),
        ("entry_scenes", "[1]", "manifest.field"),
        ("dependencies", '["elm^1"]', "manifest.dependency"),
        ("dependencies", '["elm >= "]', "manifest.dependency"),
        ("conflicts", '["-"]', "manifest.dependency"),
        ("tags", '["Big Tree"]', "manifest.field"),
        ("tags", "[" + '"a",' * 300 + "]", "manifest.field"),
        ("homepage", '"x"', "manifest.field"),
    ],
)
def test_wrong_fields_are_findings(syntax: Syntax, field: str, value: str, code: str) -> None:
    manifest, findings = read(syntax.manifest(**{field: value}))
    assert code in codes(findings)
    assert manifest is None


def test_findings_name_the_line() -> None:
    _, findings = read(GODOT_4.manifest(version='"x"'))
    (finding,) = findings
    assert finding.place == f"{PATH}:7"


@pytest.mark.parametrize(
    ("engine", "ranges", "fits"),
    [
        ("4.6.3", '{"max": "4.6"}', True),
        ("4.6.3", '{"max": "4.6.2"}', False),
        ("4.6.3", '{"min": "4.6.3", "max": "4.6.3"}', True),
        ("3.6.0", '{"min": "3.6.1"}', False),
        ("3.6.2", '{"min": "3.6.1"}', True),
        ("4", '{"min": "4.2", "max": "4.4"}', True),
        ("4.10.0", '{"min": "4.9"}', True),
    ],
)
def test_engine_ranges(engine: str, ranges: str, fits: bool) -> None:
    manifest, _ = read(GODOT_4.manifest(engine=ranges), engine=engine)
    assert (manifest is not None) is fits


def test_only_a_plain_resource_is_a_manifest() -> None:
    for text in (GODOT_4.resource("Environment"), GODOT_4.scene(GODOT_4.root())):
        manifest, findings = read(text)
        assert manifest is None
        assert codes(findings) == {"manifest.invalid"}
    other = GODOT_4.manifest().replace(b"[resource]", GODOT_4.sub_resource("Gradient", 1).encode() + b"[resource]")
    assert "manifest.invalid" in codes(read(other)[1])
