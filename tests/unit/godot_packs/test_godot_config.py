"""Configuration files: ``.import``, ``.remap``, ``project.godot``."""

from __future__ import annotations

import pytest

from cloudbaker.compute.godot.resources.text import TextLimits, parse_config
from cloudbaker.compute.godot.resources.tree import DictValue, ObjectValue, ResourceError, ResourceRef
from cloudbaker.model import Finding

IMPORT = b"""[remap]

importer="texture"
type="CompressedTexture2D"
uid="uid://d2"
path.s3tc="res://.godot/imported/icon.png-1.s3tc.ctex"
metadata={
"imported_formats": ["s3tc_bptc"],
"vram_texture": true
}

[deps]

source_file="res://mods/a/icon.png"
dest_files=["res://.godot/imported/icon.png-1.s3tc.ctex"]

[params]

compress/mode=2
"""

PROJECT = b"""; Engine configuration file.
config_version=5

[application]

config/name="My game [demo]"
run/main_scene="res://main.tscn"

[input]

jump={
"deadzone": 0.5,
"events": [Object(InputEventKey,"resource_local_to_scene":false,"keycode":32,"script":null)
]
}
"""


def codes(data: bytes, **options: object) -> list[str]:
    findings: list[Finding] = []
    parse_config(data, findings=findings, **options)  # type: ignore[arg-type]
    return [f.code for f in findings]


def test_an_import_file() -> None:
    config = parse_config(IMPORT)
    assert config.kind == "config"
    assert [s.name for s in config.sections] == ["", "remap", "deps", "params"]
    remap = {p.name: p.value for p in config.sections[1].properties}
    assert remap["path.s3tc"] == "res://.godot/imported/icon.png-1.s3tc.ctex"
    assert isinstance(remap["metadata"], DictValue)
    assert config.where(config.sections[2].properties[0].place) == "line 14"


def test_a_project_file() -> None:
    config = parse_config(PROJECT, engine=4)
    assert [s.name for s in config.sections] == ["", "application", "input"]
    assert config.sections[0].properties[0].value == 5
    assert [v.type for v in config.values() if isinstance(v, ObjectValue)] == ["InputEventKey"]
    assert ("InputEventKey", "script") in [(owner, held.name) for owner, held in config.assignments()]


@pytest.mark.parametrize("call", ["Resource", "SubResource", "ExtResource"])
def test_every_reference_loads_a_path(call: str) -> None:
    config = parse_config(f'[remap]\nmetadata={{"x": {call}("res://evil.tres")}}\n'.encode())
    assert [v.path for v in config.values() if isinstance(v, ResourceRef)] == ["res://evil.tres"]


def test_an_object_in_metadata_is_seen() -> None:
    """It runs when the texture loads."""
    config = parse_config(b'[remap]\nmetadata=Object(Resource,"script":Object(GDScript,"source":"x"))\n')
    assert [v.type for v in config.values() if isinstance(v, ObjectValue)] == ["Resource", "GDScript"]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"[ a b ]", "a b"),
        (b"[a.b:c]", "a.b:c"),
        ("[gr\u00fc\u00df]".encode(), "gr\u00fc\u00df"),
        (b"[]", ""),
        (b'["x"]', '"x"'),
    ],
)
def test_names_of_sections_are_what_stands_there(data: bytes, name: str) -> None:
    assert parse_config(data).sections[1].name == name


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"[a\\]b]", "text.ambiguous"),
        (b"[a", "text.syntax"),
        (b"[\xff]", "text.encoding"),
        (b"a=", "text.syntax"),
        (b"a=1\0", "text.encoding"),
        (b"a=1\nb", "text.syntax"),
        (b"=1", "text.ambiguous"),
        (b"pa th=1", "text.ambiguous"),
        (b'x"path"=1', "text.ambiguous"),
        (b"a=" + b"[" * 10_000, "text.too-deep"),
        (b"[" + b"x" * 5000 + b"]", "text.too-large"),
        (b"[a]" * 1_000_000, "text.too-large"),
    ],
)
def test_what_is_refused(data: bytes, code: str) -> None:
    assert code in codes(data, limits=TextLimits(values=100_000))
    with pytest.raises(ResourceError):
        parse_config(data, limits=TextLimits(values=100_000))


def test_an_empty_file_is_fine() -> None:
    assert [s.name for s in parse_config(b"").sections] == [""]
    assert codes(b"; nothing\n") == []


def test_a_key_may_come_twice_and_both_are_kept() -> None:
    config = parse_config(b'[remap]\npath="a"\npath="b"\n')
    assert [p.value for p in config.sections[1].properties] == ["a", "b"]
