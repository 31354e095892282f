"""Policies and the class lists they stand on."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import pytest

from cloudbaker.compute.godot.classlist import INDEXED, class_list_for, class_list_names, load_class_list
from cloudbaker.compute.godot.policy import Policy, load_policy, parse_policy, policy_names, tenant_policy
from cloudbaker.compute.godot.scan_rules import RULES
from cloudbaker.errors import EngineMissing, NameRefused, PolicyError
from cloudbaker.settings import settings

MINIMAL = 'name = "own"\nextends = "default"\n'


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLOUDBAKER_POLICIES", str(tmp_path))
    settings.cache_clear()
    return tmp_path


def test_class_lists_name_the_engine_that_wrote_them() -> None:
    versions = {name: load_class_list(name).version for name in class_list_names()}
    assert set(versions) >= {"godot-3.2", "godot-3.6", "godot-4.6"}
    for name, version in versions.items():
        assert version.startswith(name.removeprefix("godot-") + "."), name


@pytest.mark.parametrize("name", class_list_names())
def test_class_lists_hold_what_everybody_uses(name: str) -> None:
    classes = load_class_list(name)
    assert len(classes.bases) > 400
    node = "Node3D" if name.startswith("godot-4") else "Spatial"
    assert classes.is_a(node, "Node")
    assert not classes.is_a(node, "Resource")
    assert classes.property_type("Node", "script") == "Object", "a list that lacks it would ban nothing"
    assert classes.property_type("Animation", "tracks/12/keys") == "Variant"
    assert classes.property_type("Animation", "tracks/x/keys") is None
    assert classes.property_type(node, "metadata/anything") == "Variant"
    assert classes.property_type("NoSuchClass", "metadata/anything") is None
    assert classes.property_type("RemoteTransform2D", "remote_path") == "NodePath"


def test_every_class_with_properties_of_its_own_making_is_in_a_list() -> None:
    known = set().union(*(load_class_list(name).bases for name in class_list_names()))
    assert set(INDEXED) <= known


@pytest.mark.parametrize(
    ("engine", "name"),
    [("4.6.3", "godot-4.6"), ("4.2", "godot-4.6"), ("3.2.3", "godot-3.2"), ("3.5", "godot-3.6"), ("4", "godot-4.6")],
)
def test_an_engine_gets_the_list_of_its_version_or_the_next(engine: str, name: str) -> None:
    assert class_list_for(engine).name == name


@pytest.mark.parametrize("engine", ["4.7", "5.0", "2.1", "x"])
def test_an_engine_that_nobody_has_looked_at_is_refused(engine: str) -> None:
    # 2.1 is older than every list, but of a major version without one
    with pytest.raises(EngineMissing, match="godot-classes"):
        class_list_for(engine)


def test_builtin_policies_load_and_differ() -> None:
    assert {"default", "shaders", "strict"} <= set(policy_names())
    hashes = {load_policy(name).hash for name in ("default", "shaders", "strict")}
    assert len(hashes) == 3
    assert load_policy("shaders").shaders.allowed
    assert not load_policy("default").shaders.allowed
    assert load_policy("strict").files["gltf"] == ""


def test_bans_mean_something_and_say_why() -> None:
    """A ban on a class that no engine has is a misspelt ban."""
    policy = load_policy("strict")
    lists = [load_class_list(name) for name in policy.reviewed]
    known = set().union(*(classes.bases for classes in lists))
    elsewhere = {"CSharpScript"}  # in official builds, not in Debian's
    properties = {key for classes in lists for own in classes.own.values() for key in own} | {
        "script/x",
        "script_class",
    }
    for ban in policy.bans:
        assert ban.reason
        assert ban.code in RULES
        assert ban.classes or ban.properties
        for pattern in ban.classes:
            assert fnmatch.filter(known, pattern) or pattern in elsewhere, pattern
        for pattern in ban.properties:
            owner, _, name = pattern.partition(".")
            assert owner == "*" or fnmatch.filter(known, owner), pattern
            assert fnmatch.filter(properties, name), pattern


def test_numbers_and_paths_name_properties_that_exist() -> None:
    policy = load_policy()
    lists = [load_class_list(name) for name in policy.reviewed]
    pairs = {
        (c, key) for classes in lists for c in classes.bases for part in classes.chain(c) for key in classes.own[part]
    }
    for pattern in (*policy.numbers, *policy.paths):
        owner, _, name = pattern.partition(".")
        assert any(fnmatch.fnmatchcase(c, owner) and fnmatch.fnmatchcase(key, name) for c, key in pairs), pattern


def test_what_derives_from_a_banned_class_is_banned() -> None:
    allowed = load_policy().for_engine("4.6.3")
    assert allowed.class_ban("PopupMenu") is not None, "by Popup, by Window"
    assert allowed.class_ban("VisualShaderNodeCustom") is not None
    assert allowed.class_ban("CSharpScript") is not None, "also where the engine has no such class"
    assert allowed.class_ban("MeshInstance3D") is None
    assert allowed.rule("Sprite2D", "script").ban is not None
    assert allowed.rule("Sprite2D", "texture").ban is None
    assert allowed.rule("Sprite2D", "no_such").kind is None


def test_a_node_of_unknown_class_has_what_any_allowed_node_has() -> None:
    allowed = load_policy().for_engine("4.6.3")
    assert allowed.rule("", "surface_material_override/0").kind
    assert allowed.rule("", "transform").kind
    assert allowed.rule("", "health").kind is None
    assert allowed.rule("", "script").ban is not None
    assert allowed.rule("", "download_file").kind is None, "only HTTPRequest has it, and that is banned"


def test_numbers_have_a_largest_value_and_own_ones_go_first() -> None:
    assert load_policy().for_engine("4").rule("MultiMesh", "instance_count").largest == 1_000_000
    text = MINIMAL + '[numbers]\n"*.instance_count" = 10\n'
    assert parse_policy(text).for_engine("4").rule("MultiMesh", "instance_count").largest == 10


def test_a_policy_extends_another_table_by_table() -> None:
    policy = parse_policy(
        MINIMAL
        + 'game_paths = ["res://shared/*.tres"]\n[limits]\nfiles = 5\n[files]\nglb = ""\n'
        + '[[bans]]\nclasses = ["Timer"]\ncode = "class.own"\nreason = "no timers here"\n'
    )
    default = load_policy()
    assert policy.limits.files == 5
    assert policy.limits.nodes == default.limits.nodes
    assert policy.files["glb"] == ""
    assert policy.files["png"] == "png"
    assert len(policy.bans) == len(default.bans) + 1
    assert policy.game_paths == ("res://shared/*.tres",)
    assert policy.hash != default.hash


def test_the_hash_covers_everything_but_the_description() -> None:
    default = load_policy()
    same = Policy.model_validate({**default.model_dump(mode="json"), "description": "other words"})
    assert same.hash == default.hash
    for change in ({"binary_resources": True}, {"uids": "reject"}, {"bans": []}, {"reviewed": ["godot-4.6"]}):
        assert Policy.model_validate({**default.model_dump(mode="json"), **change}).hash != default.hash


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = ", "no valid TOML"),
        (MINIMAL + "[limits]\nfiels = 5\n", "limits.fiels"),
        (MINIMAL + "[limits]\nfiles = 0\n", "limits.files"),
        (MINIMAL + '[files]\nglb = "script"\n', "files.glb"),
        (MINIMAL + '[[bans]]\nclasses = ["X"]\ncode = "nonsense"\nreason = ""\n', "bans"),
        (MINIMAL + 'reviewed = ["godot-9.9"]\n', "godot-9.9"),
        ('name = "own"\nextends = "nothing"\n', "no policy named"),
        ('name = "Own Policy"\nextends = "default"\n', "not allowed"),
    ],
)
def test_a_wrong_policy_says_where(text: str, says: str) -> None:
    with pytest.raises((PolicyError, NameRefused), match=says):
        parse_policy(text)


def test_tenants_have_policies_of_their_own(own: Path) -> None:
    (own / "acme.toml").write_text('name = "acme"\nextends = "strict"\nbinary_resources = true\n')
    assert tenant_policy("acme").binary_resources
    assert tenant_policy("acme").uids == "reject"
    assert tenant_policy("other").name == "default"
    assert "acme" in policy_names()


def test_an_operators_default_may_extend_the_builtin_one(own: Path) -> None:
    (own / "default.toml").write_text('name = "default"\nextends = "default"\nuids = "reject"\n')
    assert tenant_policy("anyone").uids == "reject"
    assert len(load_policy("default").bans) > 10


def test_policies_that_extend_one_another_in_a_circle_end(own: Path) -> None:
    (own / "a.toml").write_text('name = "a"\nextends = "b"\n')
    (own / "b.toml").write_text('name = "b"\nextends = "a"\n')
    with pytest.raises(PolicyError, match="itself"):
        load_policy("a")


def test_a_policy_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(MINIMAL)
    assert load_policy(str(file)).name == "own"
    with pytest.raises(PolicyError, match="can't read"):
        load_policy(str(tmp_path / "none.toml"))
    with pytest.raises(PolicyError, match="there are"):
        load_policy("none")
