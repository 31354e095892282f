"""What engines make of paths, and which of them stay in a mod."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudbaker.compute.godot.paths import PathKind, canonical, pack_path_problem, path_key, simplify

BASE = "res://mods/a/scenes/main.tscn"
MOD = "res://mods/a/"


@pytest.mark.parametrize("engine", [3, 4])
@pytest.mark.parametrize(
    ("path", "kind", "outcome", "inside"),
    [
        ("res://mods/a/x.png", PathKind.RES, "res://mods/a/x.png", True),
        ("x.png", PathKind.RES, "res://mods/a/scenes/x.png", True),
        ("../x.png", PathKind.RES, "res://mods/a/x.png", True),
        ("./x.png", PathKind.RES, "res://mods/a/scenes/x.png", True),
        ("../../b/x.png", PathKind.RES, "res://mods/b/x.png", False),
        ("../../../core.gd", PathKind.RES, "res://core.gd", False),
        ("res://mods/a/../../core.gd", PathKind.RES, "res://core.gd", False),
        ("res://mods/a/../a/x", PathKind.RES, "res://mods/a/x", True),
        ("res:///mods/a/x", PathKind.RES, "res://mods/a/x", True),
        ("res:///core.gd", PathKind.RES, "res://core.gd", False),
        ("res://./core.gd", PathKind.RES, "res://core.gd", False),
        ("res://mods//a///x", PathKind.RES, "res://mods/a/x", True),
        ("res://mods\\a\\x", PathKind.RES, "res://mods/a/x", True),
        ("res://mods/a/..\\..\\core.gd", PathKind.RES, "res://core.gd", False),
        ("..\\..\\..\\core.gd", PathKind.RES, "res://core.gd", False),
        ("res://mods/a", PathKind.RES, "res://mods/a", False),
        ("res://mods/a/", PathKind.RES, "res://mods/a", False),
        ("res://mods/ab/x", PathKind.RES, "res://mods/ab/x", False),
        ("res://mods/A/x", PathKind.RES, "res://mods/A/x", False),
        ("res://mods/a/x.tscn::3", PathKind.RES, "res://mods/a/x.tscn::3", False),
        ("user://save.tres", PathKind.USER, "user://save.tres", False),
        ("user://../x", PathKind.USER, None, False),
        ("uid://abc", PathKind.UID, "uid://abc", False),
        ("/etc/passwd", PathKind.ABSOLUTE, "/etc/passwd", False),
        ("\\etc\\passwd", PathKind.ABSOLUTE, None, False),
        ("C:/Windows/x", PathKind.ABSOLUTE, "C:/Windows/x", False),
        ("C:\\Windows\\x", PathKind.ABSOLUTE, None, False),
        ("http://evil/x.gd", PathKind.OTHER, None, False),
        ("", PathKind.RES, "res://mods/a/scenes", True),
    ],
)
def test_canonical(engine: int, path: str, kind: PathKind, outcome: str | None, inside: bool) -> None:
    got = canonical(path, BASE, engine)
    if path.startswith(("http", "user://..")) and engine == 3:
        assert not got.inside(MOD)
        return
    assert got.kind is kind
    assert outcome is None or got.path == outcome
    assert got.inside(MOD) is inside


@pytest.mark.parametrize("engine", [3, 4])
@pytest.mark.parametrize("path", ["res://../core.gd", "res://mods/../../x", "res://a/../../mods/a/x", "../../../../x"])
def test_more_parents_than_folders_are_never_inside_by_accident(path: str, engine: int) -> None:
    got = canonical(path, BASE, engine)
    if engine >= 4:
        assert ".." in got.path
        assert not got.inside(MOD)
    else:
        assert ".." not in got.path


def test_network_shares_are_absolute() -> None:
    assert canonical("//server/share/x", BASE, 4).kind is PathKind.ABSOLUTE
    assert canonical("\\\\server\\share\\x", BASE, 4).kind is PathKind.ABSOLUTE


def test_plain_says_whether_it_was_written_that_way() -> None:
    assert canonical("res://mods/a/x", BASE).plain
    assert canonical("uid://x", BASE).plain
    for path in ("x", "res://mods/a/./x", "res:///mods/a/x", "res://mods\\a\\x", "res://mods/a/b/../x"):
        assert not canonical(path, BASE).plain


def test_several_folders_may_be_allowed() -> None:
    assert canonical("res://game/api/x.tres", BASE).inside(MOD, "res://game/api/")
    assert not canonical("res://game/api", BASE).inside(MOD, "res://game/api/")


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b", "mods", "\\", "res:"]), max_size=12), st.sampled_from([3, 4]))
def test_simplifying_twice_changes_nothing(parts: list[str], engine: int) -> None:
    once = simplify("res://" + "/".join(parts), engine)
    assert simplify(once, engine) == once
    assert "//" not in once.removeprefix("res://")


@given(st.text(max_size=40))
def test_paths_that_a_pack_may_hold_are_canonical_everywhere(path: str) -> None:
    if pack_path_problem(path) is None:
        whole = "res://" + path.removeprefix("res://")
        for engine in (3, 4):
            got = canonical(whole, "res://x", engine)
            assert (got.kind, got.path, got.plain) == (PathKind.RES, whole, True)


@pytest.mark.parametrize(
    "path", ["mods/a/x.png", "res://mods/a/x.png", "\u00fc/\u4e2d\u6587.png", "a/.baked/x", "a b/c (1).png"]
)
def test_everyday_paths_have_no_problem(path: str) -> None:
    assert pack_path_problem(path) is None


def test_names_longer_than_file_systems_hold_are_a_problem() -> None:
    assert pack_path_problem("a/" + "x" * 255) is None
    assert pack_path_problem("a/" + "x" * 256) is not None
    assert pack_path_problem("a/" + "\u4e2d" * 86) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("res://a/B.png", "A/b.PNG"),
        ("caf\u00e9", "cafe\u0301"),
        ("CAF\u00c9", "cafe\u0301"),
        ("stra\u00dfe", "STRASSE"),
        ("\u1e9e", "ss"),
        ("\u03a3", "\u03c2"),
        ("\u212a", "k"),
    ],
)
def test_keys_are_equal_for_paths_that_collide(one: str, other: str) -> None:
    assert path_key(one) == path_key(other)
