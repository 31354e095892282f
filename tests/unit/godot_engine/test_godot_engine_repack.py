"""From an exported pack to one that keeps to its folder; and every way in which an export can be less than it says."""

from __future__ import annotations

import io
import json

import pytest

from cloudbaker.compute.godot.pck import read_pck, write_pck
from cloudbaker.compute.godot.repack import repack_job
from cloudbaker.compute.job import JobResult

ENGINES = {3: ((3, 2, 3), 1), 4: ((4, 6, 3), 3)}


def exported(major: int, **changes: bytes | None) -> bytes:
    """A pack as the engine exports it, with some files changed or (None) left out."""
    engine, format = ENGINES[major]
    folder = ".import" if major == 3 else ".godot/imported"
    texture = "stex" if major == 3 else "ctex"
    files: dict[str, bytes | None] = {
        f"{folder}/icon.png-abc.{texture}": b"picture",
        "mods/demo/icon.png.import": f'[remap]\n\nimporter="texture"\ntype="T"\nuid="uid://abc"\n'
        f'path="res://{folder}/icon.png-abc.{texture}"\n\n[deps]\n\nsource_file="res://mods/demo/icon.png"\n'
        "\n[params]\n\ncompress/mode=0\n".encode(),
        f"{folder}/hull.png-def.s3tc.{texture}": b"surface",
        "mods/demo/hull.png.import": f'[remap]\n\nimporter="texture"\npath.s3tc="res://{folder}/hull.png-def.s3tc.{texture}"\n'
        'metadata={\n"imported_formats": [ "s3tc" ],\n"vram_texture": true\n}\n'.encode(),
        "mods/demo/manifest.tres": b"manifest",
        "project.binary": b"ECFG",
    }
    if major == 4:
        files |= {
            ".godot/uid_cache.bin": b"uids",
            ".godot/global_script_class_cache.cfg": b"list=[]",
            ".godot/exported/133/export-fed-room.scn": b"room",
            "mods/demo/room.tscn.remap": b'[remap]\n\npath="res://.godot/exported/133/export-fed-room.scn"\n',
        }
    files |= changes
    target = io.BytesIO()
    write_pck({k: v for k, v in files.items() if v is not None}, target, format=format, engine=engine)
    return target.getvalue()


def job(major: int, pack: bytes, **changes: object) -> JobResult:
    engine, format = ENGINES[major]
    sources = ["icon.png", "hull.png", "manifest.tres", *(["room.tscn"] if major == 4 else [])]
    params = {"mod": "demo", "sources": sources, "format": format, "engine": list(engine), "vram": {}, **changes}
    extra = params.pop("inputs", {})
    return repack_job({"pack": memoryview(pack), **extra}, json.loads(json.dumps(params)))


def codes(result: JobResult) -> set[tuple[str, str]]:
    return {(f["code"], f["place"]) for f in result.value["findings"]}


@pytest.mark.parametrize("major", [3, 4])
def test_everything_is_under_the_mod_and_nothing_of_the_project_is_left(major: int) -> None:
    result = job(major, exported(major))
    assert result.value["findings"] == []
    pack = read_pck(result.files["mod.pck"])
    contents = {entry.path.removeprefix("res://mods/demo/"): pack.read(entry) for entry in pack.entries}
    assert all(entry.path.startswith("res://mods/demo/") for entry in pack.entries)
    texture = "stex" if major == 3 else "ctex"
    assert contents[f".baked/icon.png-abc.{texture}"] == b"picture"
    guide = contents["icon.png.import"].decode()
    assert f'path="res://mods/demo/.baked/icon.png-abc.{texture}"' in guide
    assert "uid" not in guide
    assert "params" not in guide
    assert f'path.s3tc="res://mods/demo/.baked/hull.png-def.s3tc.{texture}"' in contents["hull.png.import"].decode()
    assert b'"imported_formats": ["s3tc"]' in contents["hull.png.import"]
    if major == 4:
        assert contents[".baked/export-fed-room.scn"] == b"room"
        assert result.value["unstable"] == ["mods/demo/.baked/export-fed-room.scn"]
    assert {row["path"] for row in result.value["files"]} == {f"mods/demo/{name}" for name in contents}


@pytest.mark.parametrize("major", [3, 4])
def test_the_same_export_gives_the_same_bytes(major: int) -> None:
    assert bytes(job(major, exported(major)).files["mod.pck"]) == bytes(job(major, exported(major)).files["mod.pck"])


@pytest.mark.parametrize("major", [3, 4])
def test_an_import_that_leads_nowhere_is_found(major: int) -> None:
    folder, texture = (".import", "stex") if major == 3 else (".godot/imported", "ctex")
    lost = job(major, exported(major, **{f"{folder}/icon.png-abc.{texture}": None}))
    assert codes(lost) == {("engine.not-imported", "res://mods/demo/icon.png")}
    assert not lost.files
    pathless = b'[remap]\n\nimporter="texture"\nvalid=false\n'  # what 4.6.3 writes for a broken picture, with status 0
    assert codes(job(major, exported(major, **{"mods/demo/icon.png.import": pathless}))) == {
        ("engine.not-imported", "res://mods/demo/icon.png")
    }


@pytest.mark.parametrize(
    "target", ["res://core.tres", "res://mods/other/.baked/x", "user://x", "res://.import/../core"]
)
def test_an_import_that_leads_elsewhere_is_found(target: str) -> None:
    guide = f'[remap]\n\nimporter="texture"\npath="{target}"\n'.encode()
    result = job(3, exported(3, **{"mods/demo/icon.png.import": guide}))
    assert codes(result) == {("engine.not-imported", "res://mods/demo/icon.png")}
    assert not result.files


def test_stray_and_missing_files_are_found() -> None:
    pack = exported(3, **{"core.tres": b"x", "mods/other/a.tres": b"x", "mods/demo/manifest.tres": None})
    assert not job(3, pack).files
    assert codes(job(3, pack)) == {
        ("engine.stray-file", "res://core.tres"),
        ("engine.stray-file", "res://mods/other/a.tres"),
        ("engine.left-out", "res://mods/demo/manifest.tres"),
    }


def test_what_is_no_pack_is_a_finding_too() -> None:
    for data in (b"", b"GDPC", exported(3)[:-40], exported(3) + b"x" * 100):
        result = job(3, data)
        assert {code for code, _ in codes(result)} == {"engine.bad-pack"}
        assert not result.files


def test_our_own_texture_takes_the_engines_place() -> None:
    result = job(4, exported(4), vram={"hull.png": "v0"}, inputs={"v0": memoryview(b"GST2 astc")})
    pack = read_pck(result.files["mod.pck"])
    contents = {entry.path.removeprefix("res://mods/demo/"): pack.read(entry) for entry in pack.entries}
    assert contents[".baked/hull.png-def.s3tc.ctex"] == b"GST2 astc"
    assert b'path="res://mods/demo/.baked/hull.png-def.s3tc.ctex"' in contents["hull.png.import"]
    assert b"s3tc=" not in contents["hull.png.import"]


def test_mods_of_one_project_are_taken_apart() -> None:
    other = {
        ".import/icon.png-xyz.stex": b"their picture",
        "mods/other/icon.png.import": b'[remap]\n\nimporter="texture"\npath="res://.import/icon.png-xyz.stex"\n',
    }
    pack = exported(3, **other)
    packs = {}
    for mod, sources in (("demo", ["icon.png", "hull.png", "manifest.tres"]), ("other", ["icon.png"])):
        result = job(3, pack, mod=mod, sources=sources, others=["demo", "other"])
        assert result.value["findings"] == []
        packs[mod] = read_pck(result.files["mod.pck"])
    assert all(e.path.startswith("res://mods/demo/") for e in packs["demo"].entries)
    assert {e.path for e in packs["other"].entries} == {
        "res://mods/other/.baked/icon.png-xyz.stex",
        "res://mods/other/icon.png.import",
    }


def test_a_sound_gets_its_name_back() -> None:
    sound = {
        ".import/bird.flac.ogg-xyz.oggstr": b"vorbis",
        "mods/demo/bird.flac.ogg.import": b'[remap]\n\nimporter="ogg_vorbis"\n'
        b'path="res://.import/bird.flac.ogg-xyz.oggstr"\n',
    }
    sources = ["icon.png", "hull.png", "manifest.tres", "bird.flac"]
    result = job(3, exported(3, **sound), sources=sources, renames={"bird.flac.ogg": "bird.flac"})
    assert result.value["findings"] == []
    paths = {row["path"] for row in result.value["files"]}
    assert "mods/demo/bird.flac.import" in paths
    assert "mods/demo/bird.flac.ogg.import" not in paths


def test_translations_are_resources_beside_their_table() -> None:
    table = {
        "mods/demo/words.en.translation": b"RSRC",
        "mods/demo/words.csv.import": b'[remap]\n\nimporter="csv_translation"\ntype="Translation"\n',
    }
    sources = ["icon.png", "hull.png", "manifest.tres", "words.csv"]
    result = job(3, exported(3, **table), sources=sources)
    assert result.value["findings"] == []
    paths = {row["path"] for row in result.value["files"]}
    assert "mods/demo/words.en.translation" in paths
    assert "mods/demo/words.csv.import" not in paths


def test_what_the_engine_has_no_use_for_is_told_and_no_reason_to_reject() -> None:
    result = job(3, exported(3), sources=["icon.png", "hull.png", "manifest.tres", "font.woff2"])
    (finding,) = result.value["findings"]
    assert (finding["code"], finding["severity"]) == ("engine.left-out", "warning")
    assert result.files
