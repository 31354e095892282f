"""Text resources as the engine reads them: grammar, bypasses, ambiguities, limits."""

from __future__ import annotations

import pickle

import pytest

from cloudbaker.compute.godot.resources.text import TextLimits, parse_text
from cloudbaker.compute.godot.resources.tree import (
    ArrayValue,
    Construct,
    DictValue,
    ExtRef,
    NodePath,
    ObjectValue,
    Resource,
    ResourceError,
    ResourceRef,
    StringName,
    SubRef,
    Value,
    walk,
)
from cloudbaker.model import Finding, Severity

HEAD = '[gd_resource type="Resource" format=3]\n'


def value(text: str, *, engine: int | None = 4) -> Value:
    """The value of one property; the table of externals makes references ids, not paths."""
    resource = parse_text(
        f"{HEAD}[resource]\n[resource]\nx = {text}\n".replace("[resource]\n", "", 1).encode(), engine=engine
    )
    assert [p.name for p in resource.properties] == ["x"]
    return resource.properties[0].value


def with_tables(text: str) -> Value:
    """The same in a file whose first two tags are over, so that references name ids."""
    data = f'{HEAD}[ext_resource type="Texture2D" path="res://a.png" id="1"]\n[resource]\nx = {text}\n'
    return parse_text(data.encode(), engine=4).properties[0].value


def findings_of(data: str | bytes, *, engine: int | None = None) -> list[Finding]:
    findings: list[Finding] = []
    parse_text(data if isinstance(data, bytes) else data.encode(), engine=engine, findings=findings)
    return findings


def refused(body: str | bytes, code: str, *, engine: int | None = None, head: str = HEAD + "[resource]\n") -> None:
    data = head.encode() + (body if isinstance(body, bytes) else body.encode())
    assert code in [f.code for f in findings_of(data, engine=engine)], findings_of(data, engine=engine)
    with pytest.raises(ResourceError):
        parse_text(data, engine=engine)


def scripts(resource: Resource) -> list[str]:
    """Everything that would become a script: what a policy looks for."""
    found = [part.type for part in resource.internal if "Script" in part.type]
    found += [name for _, held in resource.assignments() if (name := held.name) == "script"]
    found += [v.type for v in resource.values() if isinstance(v, ObjectValue) and "Script" in v.type]
    return found


# --- values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ("false", False),
        ("null", None),
        ("nil", None),
        ("5", 5),
        ("-5", -5),
        ("007", 7),
        ("1.5", 1.5),
        ("1.", 1.0),
        ("-0.25", -0.25),
        ("1e3", 1000.0),
        ("1e+3", 1000.0),
        ("2.5e-1", 0.25),
        ("1e", 1.0),
        ("inf", float("inf")),
        ("-inf", float("-inf")),
        ("inf_neg", float("-inf")),
        ('"text"', "text"),
        ('""', ""),
        ('"a\nb"', "a\nb"),
        ('"tab\\tquote\\"back\\\\slash\\n\\b\\f\\r"', 'tab\tquote"back\\slash\n\b\f\r'),
        ('"\\a\\/\\\'"', "a/'"),
        ('"\\u0041"', "A"),
        ('"gr\u00fc\u00df \U0001f600"', "gr\u00fc\u00df \U0001f600"),
        ('&"name"', StringName("name")),
        ('@"name"', StringName("name")),
        ('NodePath("A/b:c")', NodePath("A/b:c")),
        ('NodePath( "A" )', NodePath("A")),
    ],
)
def test_values_without_parts(text: str, expected: Value) -> None:
    got = value(text)
    assert got == expected
    assert type(got) is type(expected)


def test_nan_is_a_number() -> None:
    assert repr(value("nan")) == "nan"


@pytest.mark.parametrize(
    ("text", "name", "numbers"),
    [
        ("Vector2(1, 2)", "Vector2", [1, 2]),
        ("Vector2i( 1,2 )", "Vector2i", [1, 2]),
        ("Vector3 ( 1 , 2.5 , -3e2 )", "Vector3", [1, 2.5, -300]),
        ("Vector3(1, ; comment\n 2, 3)", "Vector3", [1, 2, 3]),
        ("Color(1, 0.5, 0, 1)", "Color", [1, 0.5, 0, 1]),
        ("Rect2(0, 0, 1, 1)", "Rect2", [0, 0, 1, 1]),
        ("Quat(0, 0, 0, 1)", "Quat", [0, 0, 0, 1]),
        ("Transform2D(1, 0, 0, 1, 0, 0)", "Transform2D", [1, 0, 0, 1, 0, 0]),
        ("Basis(1, 0, 0, 0, 1, 0, 0, 0, 1)", "Basis", [1, 0, 0, 0, 1, 0, 0, 0, 1]),
        ("Transform3D(" + ", ".join("0" * 12) + ")", "Transform3D", [0] * 12),
        ("Projection(" + ", ".join("0" * 16) + ")", "Projection", [0] * 16),
        ("AABB(0, 0, 0, 1, 1, 1)", "AABB", [0, 0, 0, 1, 1, 1]),
        ("Plane(0, 1, 0, inf)", "Plane", [0, 1, 0, float("inf")]),
        ("PackedFloat32Array()", "PackedFloat32Array", []),
        (
            "PackedFloat32Array(1, inf_neg, -inf, 2.5e-3)",
            "PackedFloat32Array",
            [1, -float("inf"), -float("inf"), 0.0025],
        ),
        ("PoolRealArray( 1, 2 )", "PoolRealArray", [1, 2]),
        ("PackedByteArray(1, 2, 255)", "PackedByteArray", [1, 2, 255]),
        ("PoolVector3Array( 1, 2, 3 )", "PoolVector3Array", [1, 2, 3]),
        ("PackedInt32Array(1e+, 2)", "PackedInt32Array", [1, 2]),
    ],
)
def test_numeric_constructors(text: str, name: str, numbers: list[float]) -> None:
    got = value(text)
    assert isinstance(got, Construct)
    assert got.name == name
    assert got.numbers is not None
    assert got.numbers.values() == numbers
    assert len(got.numbers) == len(numbers)


def test_other_constructors() -> None:
    assert value("PackedStringArray()") == Construct("PackedStringArray", value("PackedStringArray()").place)  # type: ignore[union-attr]
    for text, args in [
        ('PackedStringArray("a", "b")', ("a", "b")),
        ('PoolStringArray( "a", "b", )', ("a", "b")),
        ('PackedByteArray("AAEC")', ("AAEC",)),
        ("RID()", ()),
        ("RID(7)", (7,)),
        ("Callable()", ()),
        ("Signal()", ()),
        ("#ff8800", ("#ff8800",)),
    ]:
        got = value(text)
        assert isinstance(got, Construct)
        assert got.args == args


def test_containers() -> None:
    got = value('[1, "a", [], {}, {"k": [true,],}, ]')
    assert isinstance(got, ArrayValue)
    assert got.items[:2] == [1, "a"]
    inner = got.items[4]
    assert isinstance(inner, DictValue)
    assert isinstance(inner.get("k"), ArrayValue)
    keys = value('{1: 2, &"s": 3, Vector2(1, 2): null, [1]: {}}')
    assert isinstance(keys, DictValue)
    assert [type(k).__name__ for k, _ in keys.items] == ["int", "StringName", "Construct", "ArrayValue"]


def test_typed_containers() -> None:
    got = with_tables('Array[ExtResource("1")]([1])')
    assert isinstance(got, ArrayValue)
    assert isinstance(got.element_type, ExtRef)
    got = with_tables('Dictionary[String, Resource("res://t.gd")]({"a": 1})')
    assert isinstance(got, DictValue)
    assert (got.key_type, type(got.value_type)) == ("String", ResourceRef)
    got = with_tables("Dictionary[Resource, int]({})")
    assert isinstance(got, DictValue)
    assert (got.key_type, got.value_type) == ("Resource", "int")
    assert [type(v) for v in walk(with_tables('Array[Resource("res://t.gd")]([])'))] == [ArrayValue, ResourceRef]


def test_references_name_ids() -> None:
    for text, kind, key in [
        ('ExtResource("1_ab")', ExtRef, "1_ab"),
        ("ExtResource( 1 )", ExtRef, "1"),
        ("SubResource( 007 )", SubRef, "7"),
        ('SubResource( ; comment\n "x" )', SubRef, "x"),
        ('ExtResource("")', ExtRef, ""),
    ]:
        got = with_tables(text)
        assert type(got) is kind
        assert got.id == key  # type: ignore[union-attr]


def test_resource_loads_a_path() -> None:
    got = with_tables('Resource("res://core/x.tres")')
    assert isinstance(got, ResourceRef)
    assert (got.path, got.uid) == ("res://core/x.tres", "")
    for text in ('Resource("uid://abc", "res://x")', 'Resource("res://x", "uid://abc")'):
        got = with_tables(text)
        assert isinstance(got, ResourceRef)
        assert (got.path, got.uid) == ("res://x", "uid://abc")


def test_references_in_the_first_two_tags_are_paths() -> None:
    """The engine sets up its tables after the second tag, and until then loads what it is told."""
    got = value('ExtResource("res://core/evil.tres")')
    assert isinstance(got, ResourceRef)
    assert got.path == "res://core/evil.tres"
    scene = parse_text(b'[gd_scene format=3]\n[node name="A" instance=ExtResource("res://evil.tscn")]\n', engine=4)
    assert isinstance(scene.nodes[0].instance, ResourceRef)
    assert any(isinstance(v, ResourceRef) for v in scene.values())


def test_objects_are_kept_as_what_they_say() -> None:
    got = value('Object(Resource,"script":Object(GDScript,"script/source":"extends Node"),"resource_name":"x")')
    assert isinstance(got, ObjectValue)
    assert got.type == "Resource"
    assert [p.name for p in got.properties] == ["script", "resource_name"]
    script = got.properties[0].value
    assert isinstance(script, ObjectValue)
    assert (script.type, script.properties[0].value) == ("GDScript", "extends Node")
    assert isinstance(value("Object(Node,)"), ObjectValue)


@pytest.mark.parametrize(
    "text",
    [
        "Object(ConfigFile)",  # hangs Godot 4
        "Object()",
        'Object("Node",)',
        'Object(Node,"a":1 "b":2)',
        "Object(Node,a:1)",
        'Object(Node,&"a":1)',
        'Object(Node,"a":)',
        'Object(Node,"a")',
        "[1 2]",
        "[1,,2]",
        "[,]",
        "[1",
        "{1}",
        "{1:}",
        "{1:2 3:4}",
        "{:1}",
        "{1:2",
        "(1)",
        "Vector2(1)",
        "Vector2(1, 2, 3)",
        "Vector2(1, 2,)",
        'Vector2("a", 2)',
        "Vector2[1, 2]",
        "Vector2",
        "PackedFloat32Array(1,)",
        "PackedStringArray(1)",
        'PackedStringArray("a" "b")',
        "Unknown(1)",
        "unknown",
        "Array([1])",
        "Array[int](1)",
        "Array[int]([1]",
        "Array[Array[int]]([])",
        "Array[1]([])",
        "Dictionary[int]({})",
        "NodePath()",
        "NodePath(1)",
        'Resource("a", "b")',
        'Resource("uid://a", "uid://b")',
        "Resource()",
        "SubResource()",
        "Signal(1)",
        "RID(a)",
        '"unterminated',
        '"\\u12G4"',
        "'single'",
        "+1",
        ".5",
        "- 1",
        "-x",
        "$a",
        "",
        "=",
        "]",
    ],
)
def test_what_the_engine_does_not_read_is_refused(text: str) -> None:
    refused(f"x = {text}\n", "text.syntax", engine=4)


# --- the bypasses of the attack list


BYPASSES = {
    "escaped type": '[sub_resource type="GD\\u0053cript" id="1"]\nscript/source = "x"\n[resource]\n',
    "escaped letters": '[sub_resource type="\\G\\D\\S\\cript" id="1"]\n[resource]\n',
    "white space in the key": "[resource]\nscr ipt = 1\n",
    "line feed in the key": "[resource]\nscr\nipt = 1\n",
    "comment in the key": "[resource]\nscr;hello\nipt = 1\n",
    "control characters in the key": "[resource]\nscr\x01\x1fipt = 1\n",
    "quoted key": '[resource]\n"script" = 1\n',
    "escaped key": '[resource]\n"scr\\u0069pt" = 1\n',
    "replaced key": '[resource]\nbar"script" = 1\n',
    "continued key": '[resource]\n"scr"ipt = 1\n',
    "replaced twice": '[resource]\n"a"b"scr"ipt = 1\n',
    "string name as key": '[resource]\n&"script" = 1\n',
    "object": '[resource]\nx = Object(Resource,"script":Object(GDScript,"source":"x"))\n',
    "object in an array": '[resource]\nx = [{"a": [Object(Resource,"script":null)]}]\n',
    "object as a key": '[resource]\nx = {Object(Resource,"script":null): 1}\n',
    "object in an object": '[resource]\nx = Object(Resource,"a":Object(Resource,"script":null))\n',
    "semicolons": "[resource] ; [comment]\n;x = 1\nscript;=\n= 1\n",
    "second assignment": "[resource]\nx = 1 script = 2\n",
    "no line feeds": '[sub_resource type="GDScript" id="1"][resource]x=1 y=2',
    "type as a node path": '[sub_resource type=NodePath("GDScript") id="1"]\n[resource]\n',
    "type as a string name": '[sub_resource type=&"GDScript" id="1"]\n[resource]\n',
    "last type wins": '[sub_resource type="Resource" type="GDScript" id="1"]\n[resource]\n',
}


@pytest.mark.parametrize("name", BYPASSES)
def test_bypasses_are_read_as_the_engine_reads_them(name: str) -> None:
    resource = parse_text((HEAD + BYPASSES[name]).encode(), engine=4, findings=[])
    assert scripts(resource), resource


@pytest.mark.parametrize(
    "name",
    [
        *("white space in the key", "line feed in the key", "comment in the key", "control characters in the key"),
        *("replaced key", "continued key", "string name as key", "type as a node path", "type as a string name"),
        "last type wins",
    ],
)
def test_what_no_engine_writes_is_refused_besides(name: str) -> None:
    assert "text.ambiguous" in [f.code for f in findings_of(HEAD + BYPASSES[name], engine=4)]


def test_scripts_hide_in_attributes_too() -> None:
    scene = parse_text(
        b"""[gd_scene format=3]
[ext_resource type="Texture2D" path="res://mods/a/x.png" id="1"]
[node name="A" type="Node" groups=[Object(Resource,"script":null)]]
[connection signal="a" from="." to="." method="b" binds=[Object(GDScript,"source":"x")]]
""",
        engine=4,
    )
    assert [held.name for _, held in scene.assignments()] == ["script", "source"]
    assert [v.type for v in scene.values() if isinstance(v, ObjectValue)] == ["Resource", "GDScript"]


@pytest.mark.parametrize(
    "body",
    [
        '[resource]\nx = [1, {"a": Object(Resource,"script":1), "b": ?',
        '[resource]\nx = Object(Resource,"script":1,',
        '[resource]\nx = [Object(Resource,"script":1), ' + "[" * 200,
        '[resource]\nx = {Object(Resource,"script":1) ?',
        '[resource]\nx = Array[int]([Object(Resource,"script":1)] ?',
        '[sub_resource type="A" id="1" x=Object(Resource,"script":1)]\n[resource]\n',
        '[sub_resource x=Object(Resource,"script":1) y=?',
        '[unknown x=[Object(Resource,"script":1)]]\n',
        '[resource x=Object(Resource,"script":1)]\n',
    ],
)
def test_what_was_made_before_an_error_is_seen(body: str) -> None:
    """The engine runs a script as soon as it is set, and only then finds out that the rest is nonsense."""
    findings: list[Finding] = []
    resource = parse_text((HEAD + body).encode(), findings=findings)
    assert findings
    assert [held.name for _, held in resource.assignments()].count("script") == 1
    assert [v.type for v in resource.values() if isinstance(v, ObjectValue)] == ["Resource"]


# --- differences between the engines


@pytest.mark.parametrize(
    ("text", "three", "four"),
    [
        ('"\\U000053"', True, True),
        ('"\\u0153"', True, True),
        ('"\\u0000"', True, True),
        ('"\\ud83d\\ude00"', True, True),
        ("1E5", True, True),
        ("Vector2(1E5, 0)", True, True),
        ('^"a/b"', True, True),
        ("-inf", True, False),
        ("Vector2(-inf, 0)", True, False),
        ("PackedFloat32Array(0 ; c\n, -inf)", True, False),
        ("inf_neg", False, False),
        ('"\\u0053"', False, False),
    ],
)
def test_what_engines_read_in_different_ways_is_ambiguous(text: str, three: bool, four: bool) -> None:
    data = f"{HEAD}[resource]\nx = {text}\n"
    for engine, ambiguous in ((3, three), (4, four), (None, three or four)):
        assert ("text.ambiguous" in [f.code for f in findings_of(data, engine=engine)]) is ambiguous, engine


def test_an_escape_above_ascii_is_what_godot_3_makes_of_it() -> None:
    """U+0153 is an S for Godot 3, which keeps the low byte: the reading that finds the script is taken."""
    resource = parse_text((HEAD + '[sub_resource type="GD\\u0153cript" id="1"]\n[resource]\n').encode(), findings=[])
    assert resource.internal[0].type == "GDScript"


def test_long_escapes_are_what_the_engine_makes_of_them() -> None:
    data = (HEAD + '[sub_resource type="GD\\U000053cript" id="1"]\n[resource]\n').encode()
    for engine, expected in ((3, "GDU000053cript"), (4, "GDScript"), (None, "GDScript")):
        assert parse_text(data, engine=engine, findings=[]).internal[0].type == expected


def test_what_follows_a_nul_is_still_read() -> None:
    """So do engines, so that a script behind it is named in the report."""
    findings: list[Finding] = []
    resource = parse_text((HEAD + "[resource]\na = 1\0\nscript = 2\n").encode(), findings=findings)
    assert [f.code for f in findings] == ["text.encoding"]
    assert [p.name for p in resource.properties] == ["a", "script"]


@pytest.mark.parametrize(
    "body",
    [
        "= 1\n",
        '"" = 1\n',
        "k\u00e9y = 1\n",
        "a = 1\nb",
        "a = 1\nb ; [node]",
    ],
)
def test_keys_that_are_none(body: str) -> None:
    codes = {f.code for f in findings_of(HEAD + "[resource]\n" + body, engine=4)}
    assert codes & {"text.ambiguous", "text.syntax"}


def test_quoted_keys_may_hold_anything() -> None:
    resource = parse_text((HEAD + '[resource]\n"k\u00e9y = [x]; \\"y\\"" = 1\n').encode(), engine=4)
    assert resource.properties[0].name == 'k\u00e9y = [x]; "y"'


# --- structure

SCENE = """\ufeff"""  # a byte order mark: the engine refuses it


def test_a_byte_order_mark_is_refused() -> None:
    refused("", "text.syntax", head=SCENE + HEAD)


@pytest.mark.parametrize(
    "data",
    [
        "",
        "; only a comment",
        "[gd_scene format=3]\n",
        HEAD,
        '[node name="A"]\n',
        HEAD + '[node name="A"]\n',
        "[gd_scene format=3]\n[resource]\n",
        HEAD + "[resource]\n[resource]\n",
        HEAD + '[resource]\n[sub_resource type="A" id="1"]\n',
        HEAD + '[sub_resource type="A" id="1"]\n[ext_resource path="a" type="b" id="1"]\n[resource]\n',
        '[gd_scene format=3]\n[connection signal="a" from="." to="." method="b"]\n[node name="A"]\n',
        '[gd_scene format=3]\n[node name="A"]\n[connection signal="a" from="." to="."]\n',
        HEAD + '[ext_resource path="a" id="1"]\n[resource]\n',
        HEAD + '[ext_resource type="a" path="a"]\n[resource]\n',
        HEAD + '[sub_resource id="1"]\n[resource]\n',
        "[gd_resource format=3]\n[resource]\n",
        HEAD + "[unknown]\n[resource]\n",
    ],
)
def test_sections_are_complete_and_in_order(data: str) -> None:
    assert "text.structure" in [f.code for f in findings_of(data)]


@pytest.mark.parametrize(
    "data",
    [
        HEAD + '[sub_resource type="A" id="1"]\n[sub_resource type="B" id="1"]\n[resource]\n',
        HEAD + '[ext_resource type="A" path="a" id="1"]\n[ext_resource type="A" path="b" id=1]\n[resource]\n',
        '[gd_resource type="Resource" x=Object(GDScript,"a":1)]\n[resource]\n',
        '[gd_resource type="Resource" x=[1]]\n[resource]\n',
        HEAD + '[ext_resource type="A" path=NodePath("a") id="1"]\n[resource]\n',
        HEAD + '[sub_resource type="A" id=1.5]\n[resource]\n',
        '[gd_scene format=3]\n[node name="A"]\n= 1\n',
    ],
)
def test_attributes_are_plain_and_ids_unique(data: str) -> None:
    assert "text.ambiguous" in [f.code for f in findings_of(data, engine=4)]


def test_a_scene_of_godot_3() -> None:
    scene = parse_text(
        b"""[gd_scene load_steps=3 format=2]

[ext_resource path="res://mods/a/icon.png" type="Texture" id=1]

[sub_resource type="BoxShape" id=1]
extents = Vector3( 1, 2, 3 )

[node name="Root" type="Spatial"]
transform = Transform( 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0 )

[node name="Child" type="Sprite3D" parent="." groups=[
"enemies",
]]
texture = ExtResource( 1 )
__meta__ = {
"_edit_lock_": true
}

[connection signal="ready" from="." to="Child" method="hide"]

[editable path="Child"]
""",
        engine=3,
    )
    assert (scene.type, scene.format, scene.kind) == ("PackedScene", 2, "text")
    assert (scene.external[0].id, scene.external[0].path) == ("1", "res://mods/a/icon.png")
    assert scene.internal[0].properties[0].name == "extents"
    assert [(n.name, n.type, n.parent, n.groups) for n in scene.nodes] == [
        ("Root", "Spatial", "", ()),
        ("Child", "Sprite3D", ".", ("enemies",)),
    ]
    assert [(c.source, c.target, c.signal, c.method) for c in scene.connections] == [(".", "Child", "ready", "hide")]
    assert scene.editable == ["Child"]
    assert scene.where(scene.nodes[1].place) == "line 11"
    assert scene.line(scene.nodes[1].properties[0].place) == 14


def test_a_scene_of_godot_4() -> None:
    scene = parse_text(
        b"""[gd_scene load_steps=2 format=3 uid="uid://cecaux1sm7mo0"]

[ext_resource type="PackedScene" uid="uid://bo4h1" path="res://mods/a/b.tscn" id="1_x"]

[node name="Root" type="Node3D" unique_id=12]
metadata/tags = ["a"]

[node name="I" parent="." index="0" instance=ExtResource("1_x") node_paths=PackedStringArray("target")]
target = NodePath("../Root")

[node name="P" parent="." instance_placeholder="res://mods/a/p.tscn"]
""",
        engine=4,
    )
    assert (scene.uid, scene.external[0].uid) == ("uid://cecaux1sm7mo0", "uid://bo4h1")
    assert isinstance(scene.nodes[1].instance, ExtRef)
    assert scene.nodes[2].instance_placeholder == "res://mods/a/p.tscn"
    assert [a.name for a in scene.nodes[1].attributes] == ["name", "parent", "index", "instance", "node_paths"]


def test_a_script_class_in_the_header_is_seen() -> None:
    resource = parse_text(b'[gd_resource type="Resource" script_class="Loot" format=3]\n[resource]\n')
    assert resource.script_class == "Loot"


def test_a_packed_scene_in_a_tres_becomes_nodes() -> None:
    resource = parse_text(
        b"""[gd_resource type="PackedScene" format=3]
[resource]
_bun\x01dled = {
"names": PackedStringArray("Root", "HTTPRequest", "url"), "variants": ["x"],
"node_count": 1, "nodes": PackedInt32Array(-1, -1, 1, 0, -1, 1, 2, 0, 0),
"conn_count": 0, "conns": PackedInt32Array(), "version": 3 }
""",
        engine=4,
        findings=[],
    )
    assert [(n.name, n.type, n.properties[0].name, n.properties[0].value) for n in resource.nodes] == [
        ("Root", "HTTPRequest", "url", "x")
    ]
    assert [name for name, _ in resource.assignments()] == ["PackedScene", "HTTPRequest"]


def test_bundles_inside_objects_and_sub_resources_become_nodes() -> None:
    bundle = (
        '{"names": PackedStringArray("R", "Node"), "variants": [], "node_count": 1, '
        '"nodes": PackedInt32Array(-1, -1, 1, 0, -1, 0, 0), "conn_count": 0, "conns": PackedInt32Array()}'
    )
    data = (
        f'{HEAD}[sub_resource type="PackedScene" id="1"]\n_bundled = {bundle}\n'
        f'[resource]\nx = [Object(PackedScene,"_bundled":{bundle})]\n'
    )
    assert [n.type for n in parse_text(data.encode(), engine=4).nodes] == ["Node", "Node"]


# --- encoding, limits


def test_nul_is_refused() -> None:
    refused(b"x = 1\0\n", "text.encoding")
    refused(b'x = "a\0b"\n', "text.encoding")


@pytest.mark.parametrize("raw", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xe2\x82"])
def test_strings_are_utf_8(raw: bytes) -> None:
    refused(b'x = "' + raw + b'"\n', "text.encoding")


@pytest.mark.parametrize("opening", ["[", "{1:", 'Object(Node,"a":', "Array[int](["])
def test_depth_is_bounded(opening: str) -> None:
    refused("x = " + opening * 100_000, "text.too-deep", engine=4)


def test_depth_of_the_engine_is_allowed() -> None:
    assert value("[" * 99 + "]" * 99) is not None


@pytest.mark.parametrize(
    ("body", "limits"),
    [
        ("x = [" + "1," * 2000 + "]", TextLimits(values=1000)),
        ("x = 1\n" * 2000, TextLimits(values=1000)),
        ('x = PackedStringArray("a"' + ', "a"' * 2000 + ")", TextLimits(values=1000)),
        ("x = 1\n", TextLimits(bytes=20)),
        ("x" * 2000 + " = 1\n", TextLimits()),
        ('"' + "x" * 2000 + '" = 1\n', TextLimits()),
        ("x = " + "9" * 5000, TextLimits()),
        ("x = " + "9" * 5000 + ".5", TextLimits()),
        ("[sub" + ".x" * 2000 + "]", TextLimits()),
        ("[resource " + " ".join(f"a{n}=1" for n in range(100)) + "]", TextLimits()),
    ],
)
def test_sizes_are_bounded(body: str, limits: TextLimits) -> None:
    with pytest.raises(ResourceError) as caught:
        parse_text((HEAD + "[resource]\n" + body).encode(), engine=4, limits=limits)
    assert caught.value.code == "text.too-large"


@pytest.mark.parametrize(
    "body",
    [
        '"' * 200_001,
        "\\" * 200_000,
        "[" * 200_000,
        "x" * 200_000,
        " \n" * 200_000,
        ";" * 200_000,
        ";\n" * 200_000,
        "=" * 200_000,
        'x = "' + "\\\\" * 200_000,
        'x = "' + "a" * 200_000,
        "x = Vector2(" + "1," * 200_000,
        "x = PackedInt32Array(" + "1 ," * 200_000 + ";",
        "x = " + "-" * 200_000,
        "x = #" + "f" * 200_000 + "g",
        "[resource " + "a=1 " * 100_000,
        "a = 1\n" * 50_000 + "?",
        'a = "b\\n"\n' * 50_000 + "?",
        'x = "' + "\\u0153" * 100_000,
        'x = "' + "\\u0153" * 100_000 + '"',
        "a b = 1\n" * 50_000,
    ],
)
def test_long_nonsense_ends_quickly(body: str) -> None:
    """Each of these is quadratic or worse for an expression that backtracks; the timeout of the suite is the judge."""
    findings_of(HEAD + "[resource]\n" + body)


def test_a_collecting_reader_keeps_what_it_read() -> None:
    findings: list[Finding] = []
    resource = parse_text(
        (HEAD + '[sub_resource type="GDScript" id="1"]\na = 1\n[resource]\nb = 2\nc = ?').encode(), findings=findings
    )
    assert [(f.code, f.severity, f.place) for f in findings] == [("text.syntax", Severity.ERROR, "line 6")]
    assert resource.findings is findings
    assert resource.internal[0].type == "GDScript"
    assert [p.name for p in resource.properties] == ["b"]


def test_errors_cross_processes_and_are_printable() -> None:
    with pytest.raises(ResourceError) as caught:
        parse_text((HEAD + "[resource]\nx = \x1b[31m").encode())
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.finding() == caught.value.finding()
    assert again.message.isprintable()


def test_places_are_offsets_in_bytes() -> None:
    data = (HEAD + '[resource]\na = "\u00fc\u00fc\u00fc"\nb = Vector2(1, 2)\n').encode()
    resource = parse_text(data, engine=4)
    second = resource.properties[1]
    assert data[second.place :].startswith(b"b = ")
    assert isinstance(second.value, Construct)
    assert data[second.value.place :].startswith(b"Vector2")
    assert resource.where(second.place) == "line 4"


def test_line_numbers_of_long_texts() -> None:
    data = (HEAD + "[resource]\n" + "a = 1\n" * 60_000).encode()
    resource = parse_text(data, engine=4)
    for number in (0, 1, 10_922, 10_923, 59_999):
        assert resource.line(resource.properties[number].place) == number + 3
    assert resource.line(0) == 1
