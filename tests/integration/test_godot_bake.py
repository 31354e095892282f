"""A mod all the way through the real engines: scanned, baked, moved, loaded again, signed, published, baked again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import cloudbaker as cb
from cloudbaker.compute.godot.engines import Engine, find_engine
from cloudbaker.compute.godot.pck import read_pck, write_pck
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.errors import CloudBakerError, ContentRejected, EngineMissing
from cloudbaker.model import Role, RunState, Version
from cloudbaker.settings import settings
from cloudbaker.testing.godot_demo import demo_mod, picture, write_folder, zip_of

Tell = Callable[[str], None]


def engine_or_skip(name: str) -> Engine:
    """An engine of this machine; else the test is skipped, and says why."""
    try:
        return find_engine(name, settings())
    except CloudBakerError as error:
        pytest.skip(error.message)


def pack_of(version: Version) -> bytes:
    with cb.catalog() as catalog:
        (pack,) = (a for a in version.artifacts if a.name == "mod.pck")
        return catalog.read_blob(pack.blob)


def manifest_of(version: Version) -> dict:
    with cb.catalog() as catalog:
        (manifest,) = (a for a in version.artifacts if a.name == "manifest.json")
        return json.loads(catalog.read_blob(manifest.blob))


def bake(path: Path, recipe: str, **options: object):
    return cb.bake(path, asset="mods/demo", recipe=recipe, mode="direct", previews=False, **options)


@pytest.fixture
def mod(tmp_path: Path) -> Path:
    return write_folder(demo_mod(), tmp_path / "mod")


@pytest.mark.parametrize(("recipe", "engine", "format"), [("godot-3", "godot-3", 1), ("godot-4", "godot-4", 3)])
def test_mod_becomes_a_signed_pack_that_keeps_to_its_folder(
    mod: Path, recipe: str, engine: str, format: int, tell: Tell
) -> None:
    wanted = engine_or_skip(engine)
    result = bake(mod, recipe)
    version = result.version
    assert version is not None
    assert version.engine == wanted.identity
    pack = read_pck(pack_of(version))
    assert (pack.version, pack.engine) == (format, wanted.number)
    assert all(entry.path.startswith("res://mods/demo/") for entry in pack.entries)
    names = {entry.path.rsplit("/", 1)[-1] for entry in pack.entries}
    assert not names & {"project.binary", "uid_cache.bin", "global_script_class_cache.cfg"}
    assert not any(b'uid="' in pack.read(entry) for entry in pack.entries if entry.path.endswith((".tscn", ".import")))

    manifest = manifest_of(version)
    assert manifest["engine"]["version"] == wanted.version
    assert manifest["mod"] == {"id": "demo", "root": "res://mods/demo/"}
    loaded = manifest["resources"]
    assert loaded["res://mods/demo/room.tscn"] == "PackedScene"
    assert loaded["res://mods/demo/models/ball.glb"] == "PackedScene"  # it came with Draco, which Godot rejects
    assert loaded["res://mods/demo/sounds/hum.wav"].startswith("AudioStreamO")  # Ogg Vorbis under its old name
    assert loaded["res://mods/demo/sounds/click.wav"] in {"AudioStreamSample", "AudioStreamWAV"}  # too short for it
    assert len(loaded) >= 8
    sounds = {row["path"]: row for row in manifest["sounds"]}
    assert sounds["sounds/hum.wav"]["snr_db"] > 20
    assert sounds["sounds/hum.wav"]["loop"] == {"start": 11025, "end": 44100}
    assert sounds["sounds/click.wav"]["kept"]
    levels = {row["path"]: row["triangles"] for row in manifest["models"]}
    assert ("models/ball.lod1.glb" in levels) is (wanted.major == 3)
    assert levels.get("models/ball.lod1.glb", 0) < levels["models/ball.glb"]
    assert cb.verify("mods/demo@live").ok

    scenes = {row["path"] for row in manifest["contents"] if row["path"].endswith(".scn")}
    assert set(manifest["not_reproducible"]) == (scenes if wanted.major == 4 else set())
    assert bake(mod, recipe).state is RunState.UNCHANGED
    tell(
        f"Godot {wanted.short}: {result.source_bytes} bytes of sources, pack {len(pack_of(version))}, "
        f"engine {version.metrics['engine_bake_seconds']:.1f} s"
    )


def test_godot_3_bakes_the_same_bytes_twice_and_has_our_levels_of_detail(mod: Path, tmp_path: Path) -> None:
    engine_or_skip("godot-3")
    first = bake(mod, "godot-3").version
    archive = tmp_path / "demo.zip"
    archive.write_bytes(zip_of({f"demo/{name}": data for name, data in demo_mod().items()}))
    second = cb.bake(archive, asset="mods/zipped", recipe="godot-3", mode="direct", previews=False).version
    assert pack_of(first) == pack_of(second)
    paths = {entry.path for entry in read_pck(pack_of(first)).entries}
    assert {f"res://mods/demo/models/ball.lod{n}.glb.import" for n in (1, 2)} <= paths


@pytest.mark.slow
def test_godot_4_names_the_files_that_differ_from_bake_to_bake(mod: Path, tmp_path: Path) -> None:
    engine_or_skip("godot-4")
    packs = []
    for name in ("one", "two"):
        version = cb.bake(mod, asset=f"mods/{name}", recipe="godot-4", mode="direct", previews=False).version
        packs.append(read_pck(pack_of(version)))
    contents = [{e.path: pack.read(e) for e in pack.entries} for pack in packs]
    differing = {path for path in contents[0] if contents[0][path] != contents[1][path]}
    named = set(manifest_of(version)["not_reproducible"])
    assert contents[0].keys() == contents[1].keys()
    assert differing <= named
    assert all(path.endswith(".scn") for path in named)
    assert any(f.code == "godot.not-reproducible" for f in version.findings)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("bad.png", picture(damaged=True), "engine"),
        (
            "lost.tscn",
            b'[gd_scene load_steps=2 format=2]\n\n[ext_resource path="res://mods/demo/none.tres" type="Curve" id=1]\n\n'
            b'[node name="A" type="Node"]\n',
            "",
        ),
    ],
)
def test_what_the_engine_cant_use_is_rejected_whatever_its_exit_status(
    tmp_path: Path, name: str, content: bytes, code: str
) -> None:
    engine_or_skip("godot-3")
    folder = write_folder({**demo_mod(), name: content}, tmp_path / "mod")
    with pytest.raises(ContentRejected) as caught:
        bake(folder, "godot-3")
    errors = [f for f in caught.value.facts["findings"] if f["severity"] == "error"]
    assert any(name in f["place"] for f in errors), errors
    assert any(f["code"].startswith(code) for f in errors)
    assert all(f["remedy"] for f in errors)


def test_a_script_is_rejected_before_any_engine_starts(mod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = {"godot-3": {"command": ["/nowhere/godot"], "version": "3.2.3.stable"}}  # it could not start
    monkeypatch.setenv("CLOUDBAKER_ENGINES", json.dumps(engine))
    settings.cache_clear()
    (mod / "run.gd").write_text("extends Node\nfunc _ready():\n\tOS.execute('id', [])\n")
    (mod / "inline.tres").write_text(
        '[gd_resource type="Resource" load_steps=2 format=2]\n\n[sub_resource type="GD\\u0053cript" id=1]\n'
        'script/source = "extends Reference"\n\n[resource]\nscript = SubResource( 1 )\n'
    )
    with pytest.raises(ContentRejected) as caught:
        bake(mod, "godot-3")
    places = " ".join(f["place"] for f in caught.value.facts["findings"])
    assert "run.gd" in places
    assert "inline.tres" in places  # the scan went on


def test_files_of_the_game_that_the_policy_declares_are_not_needed_here(
    mod: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine_or_skip("godot-3")
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "local.toml").write_text(
        'name = "local"\nextends = "default"\ngame_paths = ["res://shared/*.tres"]\n'
    )
    monkeypatch.setenv("CLOUDBAKER_POLICIES", str(tmp_path / "policies"))
    settings.cache_clear()
    (mod / "of_the_game.tscn").write_text(
        '[gd_scene load_steps=2 format=2]\n\n[ext_resource path="res://shared/theme.tres" type="Theme" id=1]\n\n'
        '[node name="A" type="Control"]\ntheme = ExtResource( 1 )\n'
    )
    (finding,) = (f for f in bake(mod, "godot-3").findings if f.severity == "warning")
    assert (finding.code, finding.place) == ("engine.game-resource", "res://mods/demo/of_the_game.tscn")
    assert "res://shared/theme.tres" in finding.message


def test_more_files_than_an_engine_takes_are_a_finding(mod: Path, tmp_path: Path) -> None:
    engine_or_skip("godot-3")
    archive = tmp_path / "many.zip"
    archive.write_bytes(zip_of({**demo_mod(), **{f"text/{n}.txt": b"x" for n in range(3500)}}))
    with pytest.raises(ContentRejected) as caught:
        bake(archive, "godot-3")
    assert [f["code"] for f in caught.value.facts["findings"] if f["severity"] == "error"] == ["godot.too-many-files"]


def test_a_pack_of_sources_bakes_like_its_folder(mod: Path, tmp_path: Path) -> None:
    engine_or_skip("godot-3")
    pack = tmp_path / "demo.pck"
    write_pck({f"mods/demo/{name}": data for name, data in demo_mod().items()}, pack, format=1, engine=(3, 2, 3))
    versions = [bake(mod, "godot-3").version]
    versions += [cb.bake(pack, asset="mods/pack", recipe="godot-3", mode="direct", previews=False).version]
    assert pack_of(versions[0]) == pack_of(versions[1])


def test_a_rebake_item_in_a_worker_uses_its_own_engine(
    mod: Path, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloudbaker.flows.item import bake_item
    from cloudbaker.tasks.plan import item_json

    engine = engine_or_skip("godot-3")
    bake(mod, "godot-3")
    (tmp_path / "quieter.toml").write_text(
        'name = "quieter"\ntarget = "godot"\n\n[godot]\nengine = "godot-3"\n\n[audio]\nquality = 3\n'
    )
    monkeypatch.setenv("CLOUDBAKER_RECIPES", str(tmp_path))
    settings.cache_clear()
    (item,) = cb.plan(recipe="quieter").items
    context = {"settings": settings().model_dump_json(), "created_by": "test", "run_id": "parent"}
    row = bake_item(sandbox, item_json(item), context)
    assert (row["state"], row["version"], row["findings"]) == ("completed", 2, [])
    with cb.catalog() as catalog:
        assert catalog.get_version(item.asset, 2).engine == engine.identity


@pytest.mark.slow
def test_ray_gives_the_same_bytes(mod: Path) -> None:
    engine_or_skip("godot-3")
    here = bake(mod, "godot-3").version
    there = cb.bake(mod, asset="mods/ray", recipe="godot-3", mode="ephemeral", previews=False).version
    assert pack_of(here) == pack_of(there)


def test_a_missing_engine_says_how_to_get_it(mod: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLOUDBAKER_ENGINES_PREFIX", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))
    settings.cache_clear()
    with pytest.raises(EngineMissing, match=r"cloudbaker engines install godot-4"):
        bake(mod, "godot-4")


def test_the_same_sources_go_from_engine_to_engine(mod: Path, tmp_path: Path, monkeypatch, tell: Tell) -> None:
    """3.2.3 → 3.6 → 4.6.3: an engine upgrade in small, from the stored sources alone."""
    from cloudbaker.flows.direct import run_directly
    from cloudbaker.tasks.context import BakeRequest
    from cloudbaker.tasks.services import direct_services

    engines = [engine_or_skip(name) for name in ("godot-3", "godot-3.6", "godot-4.6")]
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    for engine in engines:
        (recipes / f"for-{engine.name}.toml").write_text(
            f'name = "for-{engine.name}"\ntarget = "godot"\n\n[godot]\nengine = "{engine.name}"\n'
        )
    monkeypatch.setenv("CLOUDBAKER_RECIPES", str(recipes))
    settings.cache_clear()
    first = bake(mod, f"for-{engines[0].name}").version
    sources = first.sources
    for file in sorted(mod.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    with direct_services(previews=False) as services:
        for engine in engines[1:]:
            request = BakeRequest(first.asset, f"for-{engine.name}", sources=sources, previews=False)
            assert (
                run_directly(services.context(request, run_id=f"run-{engine.major}-{engine.number[1]}"))
                is RunState.COMPLETED
            )
        versions = sorted(services.catalog.versions(first.asset), key=lambda v: v.number)
    assert [v.number for v in versions] == [1, 2, 3]
    full = [services_version(v.number, first) for v in versions]
    assert [v.engine for v in full] == [e.identity for e in engines]
    assert len({v.bake_key for v in full}) == 3
    assert [read_pck(pack_of(v)).version for v in full] == [e.pack_format for e in engines]
    assert all({s.blob.sha256 for s in v.sources} == {s.blob.sha256 for s in sources} for v in full)
    tell(" → ".join(f"Godot {e.short} ({len(pack_of(v))} bytes)" for e, v in zip(engines, full, strict=True)))


def services_version(number: int, like: Version) -> Version:
    with cb.catalog() as catalog:
        return catalog.get_version(like.asset, number)


def test_a_newer_engine_makes_a_version_stale_and_a_rebake_plan_says_so(mod: Path, monkeypatch) -> None:
    old, new = engine_or_skip("godot-3"), engine_or_skip("godot-3.6")
    bake(mod, "godot-3")
    assert cb.plan().items == ()
    engines = {"godot-3": {"command": list(new.command), "folders": [str(f) for f in new.folders]}}
    monkeypatch.setenv("CLOUDBAKER_ENGINES", json.dumps(engines))
    settings.cache_clear()
    (item,) = cb.plan().items
    assert item.reason == f"engine {old.identity} → {new.identity}"


def test_exported_version_holds_pack_and_envelope(mod: Path, tmp_path: Path) -> None:
    from cloudbaker.tasks.export import export_version

    engine_or_skip("godot-3")
    version = bake(mod, "godot-3").version
    assert {a.role for a in version.artifacts} == {Role.BUNDLE}
    with cb.catalog() as catalog:
        export_version(catalog, version, tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"mod.pck", "manifest.json", "provenance.dsse.json"}
    assert cb.verify(tmp_path / "out").ok
    pack = tmp_path / "out" / "mod.pck"
    pack.write_bytes(pack.read_bytes() + b"\0")
    assert not cb.verify(tmp_path / "out").ok
