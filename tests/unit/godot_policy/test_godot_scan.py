"""What policies let pass, and what the scan says about a mod as a whole. What it stops: tests/integration."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cloudbaker.compute.godot.policy import Policy, load_policy
from cloudbaker.compute.godot.scan import Scan, scan, scan_job
from cloudbaker.compute.godot.scan_resource import is_game_path
from cloudbaker.errors import EngineMissing
from cloudbaker.model import Severity, VerdictKind
from cloudbaker.testing.godot_mods import GODOT_3, GODOT_4, ROOT, as_pck, mod, png
from cloudbaker.testing.godot_packs import rsrc

S = GODOT_4


def changed(policy: str = "default", **changes: Any) -> Policy:
    return Policy.model_validate({**load_policy(policy).model_dump(mode="json"), **changes})


def scanned(files: dict[str, bytes], policy: Policy | None = None, engine: str = "4.6.3") -> Scan:
    inputs = {name: memoryview(data) for name, data in mod(files).items()}
    return scan(inputs, policy or load_policy(), engine=engine)


def errors(found: Scan) -> set[str]:
    return {finding.code for finding in found.verdict.findings if finding.severity is Severity.ERROR}


def test_the_result_is_json_and_says_what_is_in_the_mod() -> None:
    inputs = {name: memoryview(data) for name, data in mod({"a.png": png()}).items()}
    policy = load_policy().model_dump(mode="json")
    value = json.loads(json.dumps(scan_job(inputs, {"policy": policy, "engine": "4.6"}).value))
    assert value["verdict"] == "pass"
    assert (value["id"], value["form"], value["class_list"]) == ("oak", "folder", "godot-4.6")
    assert {file["path"]: file["kind"] for file in value["files"]} == {
        ROOT + "a.png": "png",
        ROOT + "main.tscn": "scene",
        ROOT + "manifest.tres": "resource",
    }
    assert value["bytes"] == sum(map(len, inputs.values()))


def test_without_an_engine_the_mod_s_form_says_which_classes_count() -> None:
    for files, name in (
        ({"x.pck": as_pck(mod({}, 3), 1)}, "godot-3.6"),
        ({"x.pck": as_pck(mod({}), 3)}, "godot-4.6"),
        (mod({}, 3), "godot-3.6"),
        (mod({}), "godot-4.6"),
    ):
        found = scan({name: memoryview(data) for name, data in files.items()}, load_policy())
        assert found.class_list == name
        assert found.verdict.kind is VerdictKind.PASS


def test_an_engine_that_the_policy_was_not_reviewed_for_is_refused() -> None:
    with pytest.raises(EngineMissing):
        scanned({}, engine="4.7")
    with pytest.raises(EngineMissing):
        scanned({}, changed(reviewed=["godot-3.6"]))


def test_classes_of_godot_4_are_unknown_to_godot_3() -> None:
    inputs = {name: memoryview(data) for name, data in mod({}, 3).items()}
    inputs["new.tscn"] = memoryview(GODOT_3.scene(GODOT_3.root(type="Node3D")))
    assert "class.unknown" in errors(scan(inputs, load_policy(), engine="3.6"))


def test_shaders_pass_where_the_policy_says_so() -> None:
    code = "shader_type spatial;\\nvoid fragment() { for (int i = 0; i < 4; i++) { ALBEDO.r += 0.1; } }"
    files = {
        "s.gdshader": code.replace("\\n", "\n").encode(),
        "m.tres": S.resource(
            "ShaderMaterial",
            f"shader = {S.sub(1)}\nshader_parameter/strength = 2.0\n",
            S.sub_resource("Shader", 1, f'code = "{code}"\n'),
        ),
    }
    assert errors(scanned(files)) == {"shader.forbidden"}
    assert errors(scanned(files, load_policy("shaders"))) == set()


def test_the_strict_policy_takes_props_and_nothing_that_covers_the_screen() -> None:
    strict = load_policy("strict")
    assert errors(scanned({"a.png": png()}, strict)) == set()
    for node in ("Control", "Button", "CanvasLayer", "Camera3D", "SubViewport", "RemoteTransform3D"):
        assert errors(scanned({"b.tscn": S.scene(S.root() + S.child(node))}, strict)) == {"class.strict"}
    uid = {"b.tscn": S.scene(S.root(), header='uid="uid://abc" ')}
    assert errors(scanned(uid, strict)) == {"ref.uid"}
    assert errors(scanned(uid)) == set()
    assert errors(scanned({"s.gdshader": b"shader_type sky;"}, strict)) == {"file.extension"}


def test_a_scene_that_the_game_lends_may_be_placed_and_moved() -> None:
    lent = changed(game_paths=["res://shared/*.tscn"])
    files = {
        "main.tscn": S.scene(
            S.root()
            + f'[node name="Door" parent="." instance={S.ext(1)}]\nposition = Vector3(1, 2, 3)\nmetadata/mine = 1\n',
            S.ext_resource("PackedScene", "res://shared/door.tscn", 1),
        )
    }
    assert errors(scanned(files, lent)) == set()
    assert errors(scanned(files)) == {"ref.outside"}


def test_game_paths_do_not_cross_folders() -> None:
    assert is_game_path("res://shared/a.tres", ("res://shared/*.tres",))
    assert not is_game_path("res://shared/b/a.tres", ("res://shared/*.tres",))
    assert is_game_path("res://shared/b/a.tres", ("res://shared/*/*.tres",))
    assert not is_game_path("res://shared/../a.tres", ("res://shared/*.tres",))


def test_binary_resources_pass_where_the_policy_says_so_and_are_looked_into() -> None:
    files = {"a.res": rsrc("StandardMaterial3D", [("metallic", 0.5)])}
    assert errors(scanned(files)) == {"file.binary-resource"}
    assert errors(scanned(files, changed(binary_resources=True))) == set()
    unknown = {"a.res": rsrc("StandardMaterial3D", [("health", 5)])}
    assert errors(scanned(unknown, changed(binary_resources=True))) == {"property.unknown"}


def test_uids_that_stripping_would_miss_are_refused() -> None:
    hidden = S.scene(S.root(), S.ext_resource("Texture2D", ROOT + "a.png", 1, more='\nuid="uid://abc" '))
    assert errors(scanned({"b.tscn": hidden, "a.png": png()})) == {"ref.uid"}


def test_instances_are_counted_through_all_scenes() -> None:
    def of(path: str, count: int) -> bytes:
        nodes = "".join(f'[node name="i{n}" parent="." instance={S.ext(1)}]\n' for n in range(count))
        return S.scene(S.root() + nodes, S.ext_resource("PackedScene", ROOT + path, 1))

    few = changed(limits={**load_policy().limits.model_dump(), "instances": 30})
    files = {"a.tscn": of("b.tscn", 5), "b.tscn": of("c.tscn", 4), "c.tscn": S.scene(S.root())}
    # c is 1, b is 5 + 4 × 1 = 9 (an instance counts as a node and as what is in it), a is 6 + 5 × 9 = 51
    found = scanned(files, few)
    assert [f.place for f in found.verdict.findings] == [ROOT + "a.tscn"]
    assert errors(found) == {"scene.too-many-nodes"}
    assert errors(scanned(files)) == set()


def test_a_mod_of_nothing_is_noted() -> None:
    found = scan({"manifest.tres": memoryview(S.manifest(entry_scenes="[]"))}, load_policy(), engine="4.6")
    assert [(f.code, f.severity) for f in found.verdict.findings] == [("mod.empty", Severity.WARNING)]
    assert found.verdict.kind is VerdictKind.PASS


@pytest.mark.parametrize("number", ["9" * 399, "-" + "9" * 399, "1e308", "1e999", '"200001"', '"1e999"', "200001.5"])
def test_numbers_of_any_form_are_held_to_the_limit(number: str) -> None:
    files = {"b.tscn": S.scene(S.root() + S.child("GPUParticles3D", f"amount = {number}"))}
    assert "property.too-large" in errors(scanned(files))


def test_findings_in_translations_name_the_line() -> None:
    found = scanned({"words.csv": b"key,en\nOAK,Oak\nELM,[img]secret/plan.tres[/img]\n"})
    (finding,) = found.verdict.findings
    assert finding.place == ROOT + "words.csv:3"


@pytest.mark.parametrize("size", ["Vector2i(9" + "9" * 300 + ", 1)", "Vector2i(1, 100000)", "Vector2i(1, -100000)"])
def test_every_component_is_held_to_the_limit(size: str) -> None:
    files = {"b.tscn": S.scene(S.root() + S.child("SubViewport", f"size = {size}"))}
    assert "property.too-large" in errors(scanned(files))
