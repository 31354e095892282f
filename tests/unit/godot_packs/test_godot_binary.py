"""Binary resources: both engines, both byte orders, every variant, every lie."""

from __future__ import annotations

import struct
import tracemalloc

import pytest

from cloudbaker.compute.godot.resources.binary import BinaryLimits, parse_binary
from cloudbaker.compute.godot.resources.tree import (
    ArrayValue,
    Construct,
    DictValue,
    ExtRef,
    NodePath,
    ObjectValue,
    ResourceError,
    ResourceRef,
    StringName,
    SubRef,
    Value,
)
from cloudbaker.model import Finding
from cloudbaker.testing.godot_packs import (
    Internal,
    SceneConnection,
    SceneNode,
    array,
    bundle,
    dictionary,
    numbers,
    rsrc,
    strings,
)

ENGINES = [(3, 2), (3, 6), (4, 0), (4, 6)]


def codes(data: bytes, **options: object) -> list[str]:
    findings: list[Finding] = []
    parse_binary(data, findings=findings, **options)  # type: ignore[arg-type]
    return [f.code for f in findings]


def refused(data: bytes, code: str, **options: object) -> None:
    assert code in codes(data, **options)
    with pytest.raises(ResourceError):
        parse_binary(data, **options)  # type: ignore[arg-type]


def plain(value: Value) -> object:
    """A value without places, for comparison."""
    if isinstance(value, Construct):
        return value.name, value.numbers.values() if value.numbers else None, value.args
    if isinstance(value, ArrayValue):
        return [plain(item) for item in value.items]
    if isinstance(value, DictValue):
        return [(plain(key), plain(item)) for key, item in value.items]
    if isinstance(value, (ExtRef, SubRef)):
        return type(value).__name__, value.id
    if isinstance(value, ResourceRef):
        return value.type, value.path
    return type(value), value


COMMON: list[Value] = [
    *(
        None,
        True,
        False,
        0,
        -5,
        (1 << 31) - 1,
        1 << 40,
        -(1 << 62),
        1.5,
        -0.25,
        "",
        "text",
        "gr\u00fc\u00df \U0001f600",
    ),
    *(NodePath("A/B:c:d"), NodePath("/root/A"), NodePath(""), NodePath("."), array(), dictionary({})),
    array(1, array(2, array("x")), dictionary({"k": array(None)})),
    numbers("Vector2", 1, 2),
    numbers("Vector3", 1, 2, 3),
    numbers("Rect2", 1, 2, 3, 4),
    numbers("Plane", 1, 2, 3, 4),
    numbers("Quaternion", 0, 0, 0, 1),
    numbers("AABB", *range(6)),
    numbers("Basis", *range(9)),
    numbers("Transform2D", *range(6)),
    numbers("Transform3D", *range(12)),
    numbers("Color", 1, 0.5, 0.25, 1),
    numbers("PackedByteArray"),
    numbers("PackedByteArray", 1, 2, 255),
    numbers("PackedInt32Array", -1, 2),
    numbers("PackedFloat32Array", -1, 2.5),
    numbers("PackedVector2Array", 1, 2, 3, 4),
    numbers("PackedVector3Array", *range(6)),
    numbers("PackedColorArray", *range(4)),
    strings("a", "", "\u00fc"),
    strings(),
    Construct("RID", 0, args=(7,)),
    ResourceRef("res://x.gd", "", 0, "Script"),
    ExtRef("0", 0),
]
ONLY_4: list[Value] = [
    *(StringName("name"), Construct("Callable", 0), Construct("Signal", 0)),
    numbers("Vector2i", 1, -2),
    numbers("Vector3i", 1, -2, 3),
    numbers("Rect2i", 1, 2, 3, 4),
    numbers("Vector4", 1, 2, 3, 4),
    numbers("Vector4i", 1, 2, 3, 4),
    numbers("Projection", *range(16)),
    numbers("PackedInt64Array", 1 << 40, -1),
    numbers("PackedFloat64Array", 0.1, 2),
    numbers("PackedVector4Array", *range(8)),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("inline_names", [False, True])
def test_every_variant_comes_back(engine: tuple[int, int], big_endian: bool, inline_names: bool) -> None:
    values = COMMON + (ONLY_4 if engine[0] == 4 else [])
    data = rsrc(
        "Resource",
        [(f"p{number}", value) for number, value in enumerate(values)],
        externals=[("Texture2D", "res://mods/a/x.png")],
        engine=engine,
        big_endian=big_endian,
        inline_names=inline_names,
    )
    got = parse_binary(data)
    assert [plain(p.value) for p in got.properties] == [plain(v) for v in values]
    assert [p.name for p in got.properties] == [f"p{number}" for number in range(len(values))]
    assert (got.kind, got.type, got.engine) == ("binary", "Resource", engine)
    assert (got.external[0].type, got.external[0].path) == ("Texture2D", "res://mods/a/x.png")


@pytest.mark.parametrize("format", [3, 4, 5, 6])
def test_formats_of_godot_4(format: int) -> None:
    got = parse_binary(rsrc("Resource", [("x", 1)], format=format, uid=0xABC, script_class="Loot"))
    assert (got.format, got.uid, got.script_class) == (format, "0xabc", "Loot")


@pytest.mark.parametrize("format", [1, 2])
def test_old_formats_of_godot_3_have_one_more_subname(format: int) -> None:
    got = parse_binary(rsrc("Resource", [("x", NodePath("A:b"))], engine=(3, 0), format=3))
    old = rsrc("Resource", [("x", 1)], engine=(3, 0), format=format)
    assert got.properties[0].value == NodePath("A:b")
    assert parse_binary(old).format == format


def test_uids_of_externals_are_read() -> None:
    got = parse_binary(rsrc("Resource", uid=1, externals=[("T", "res://a", 5), ("T", "res://b")]))
    assert [e.uid for e in got.external] == ["0x5", ""]


@pytest.mark.parametrize("engine", ENGINES)
def test_internals_are_found_by_their_ids(engine: tuple[int, int]) -> None:
    old = engine[0] < 4
    first, second = ("1", "2") if old else ("Mat_a", "Mesh_b")
    got = parse_binary(
        rsrc(
            "Resource",
            [("m", SubRef(second, 0))],
            internals=[Internal("Material", [("c", 1)], first), Internal("Mesh", [("m", SubRef(first, 0))], second)],
            engine=engine,
        )
    )
    assert [(i.id, i.type) for i in got.internal] == [(first, "Material"), (second, "Mesh")]
    assert got.properties[0].value == SubRef(second, got.properties[0].value.place)  # type: ignore[union-attr]
    assert [owner for owner, _ in got.assignments()] == ["Material", "Mesh", "Resource"]


def test_inline_externals_name_files_that_no_table_has() -> None:
    got = parse_binary(rsrc("Resource", [("x", array(ResourceRef("res://core/evil.gd", "", 0, "Script")))]))
    assert got.external == []
    assert [v.path for v in got.values() if isinstance(v, ResourceRef)] == ["res://core/evil.gd"]


def test_a_script_in_an_internal_resource_is_seen() -> None:
    got = parse_binary(rsrc("Mesh", internals=[Internal("GDScript", [("script/source", "extends Node")])]))
    assert got.internal[0].type == "GDScript"


def test_the_type_of_the_body_counts_not_that_of_the_header() -> None:
    data = rsrc("GDScript", [("script/source", "x")], header_type="Texture2D")
    assert "binary.structure" in codes(data)
    assert parse_binary(data, findings=[]).type == "GDScript"


def test_a_packed_scene_becomes_nodes_and_connections() -> None:
    scene = bundle(
        [
            SceneNode("Root", "Node2D", -1, {"position": numbers("Vector2", 1, 2)}, ["g"]),
            SceneNode("Http", "HTTPRequest", 0, {"download_file": "user://x"}),
            SceneNode("Deep", "Node", 1),
            SceneNode("Copy", None, 0, instance=ExtRef("0", 0)),
        ],
        [SceneConnection(0, 2, "ready", "request", ["http://evil"])],
    )
    for engine in ENGINES:
        got = parse_binary(
            rsrc(
                "PackedScene", [("_bundled", scene)], externals=[("PackedScene", "res://mods/a/b.tscn")], engine=engine
            )
        )
        assert [(n.name, n.type, n.parent, n.groups) for n in got.nodes] == [
            ("Root", "Node2D", "", ("g",)),
            ("Http", "HTTPRequest", ".", ()),
            ("Deep", "Node", "Http", ()),
            ("Copy", "", ".", ()),
        ]
        assert plain(got.nodes[3].instance) == ("ExtRef", "0")
        wire = got.connections[0]
        assert (wire.source, wire.target, wire.signal, wire.method) == (".", "Http/Deep", "ready", "request")
        assert plain(wire.binds) == [(str, "http://evil")]
        assert ("HTTPRequest", "download_file") in [(owner, held.name) for owner, held in got.assignments()]
        assert all(not isinstance(v, ObjectValue) for v in got.values())


# --- what is refused


@pytest.mark.parametrize("data", [b"", b"RS", b"RSR", b"GDPC" + bytes(100), b"[gd_resource]"])
def test_magic(data: bytes) -> None:
    refused(data, "binary.bad-magic")


@pytest.mark.parametrize("engine", [(3, 2), (4, 6)])
@pytest.mark.parametrize("big_endian", [False, True])
def test_a_resource_that_ends_anywhere_is_refused(engine: tuple[int, int], big_endian: bool) -> None:
    whole = rsrc(
        "Resource",
        [("a", dictionary({"k": array(1, "x")})), ("b", numbers("PackedByteArray", 1, 2, 3))],
        internals=[Internal("Mesh", [("x", "y")])],
        externals=[("T", "res://a")],
        engine=engine,
        big_endian=big_endian,
        tail=b"",
    )
    for length in range(len(whole)):
        with pytest.raises(ResourceError):
            parse_binary(whole[:length])


@pytest.mark.parametrize(
    ("engine", "format"), [((5, 0), 6), ((4, 6), 7), ((4, 6), 2), ((3, 2), 4), ((1, 0), 1), ((0, 0), 0)]
)
def test_unknown_versions(engine: tuple[int, int], format: int) -> None:
    refused(rsrc("Resource", engine=engine, format=format), "binary.bad-version")


def test_variants_of_the_other_engine_are_refused() -> None:
    for value in ONLY_4:
        refused(rsrc("Resource", [("x", value)], engine=(3, 2)), "binary.value")


@pytest.mark.parametrize("kind", [0, 6, 9, 19, 21, 25, 27, 38, 54, 255, 0xFFFFFFFF])
def test_unknown_variants_are_refused(kind: int) -> None:
    data = rsrc("Resource", [("x", None)], tail=b"")
    refused(data[:-4] + struct.pack("<I", kind), "binary.value")


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (struct.pack("<II", 24, 4), "binary.truncated"),
        (struct.pack("<III", 24, 4, 0), "binary.value"),
        (struct.pack("<III", 24, 2, 9), "binary.value"),
        (struct.pack("<III", 24, 3, 0), "binary.value"),
        (struct.pack("<II", 30, 0x7FFFFFFF), "binary.truncated"),
        (struct.pack("<II", 26, 0xFFFFFFFF), "binary.truncated"),
        (struct.pack("<II", 31, 0xFFFFFFFF), "binary.truncated"),
        (struct.pack("<II", 35, 0x7FFFFFFF), "binary.truncated"),
        (struct.pack("<II", 34, 0x7FFFFFFF), "binary.too-large"),
        (struct.pack("<II", 34, 1000), "binary.truncated"),
        (struct.pack("<II", 5, 0xFFFFFFFF), "binary.truncated"),
        (struct.pack("<IHHI", 22, 1, 0, 99), "binary.value"),
        (struct.pack("<IHH", 22, 0xFFFF, 0x7FFF), "binary.truncated"),
    ],
)
def test_counts_and_indices_are_checked(value: bytes, code: str) -> None:
    data = rsrc("Resource", [("x", None)], tail=b"")
    tracemalloc.start()
    try:
        refused(data[:-4] + value, code)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def _patched(data: bytes, before: bytes, after: bytes) -> bytes:
    assert data.count(before) >= 1
    return data.replace(before, after, 1)


def test_tables_are_bounded() -> None:
    data = rsrc("Resource", [("only_name", 1)])
    count = struct.pack("<II", 1, 10) + b"only_name\0"
    for wrong, code in ((0xFFFFFFFF, "binary.too-large"), (150_000, "binary.truncated")):
        refused(_patched(data, count, struct.pack("<I", wrong) + count[4:]), code)
    refused(data, "binary.too-large", limits=BinaryLimits(strings=0))


def test_offsets_of_internals_are_checked() -> None:
    data = rsrc("Resource", [("x", 1)])
    path = b"res://main.res\0"
    at = data.index(path) + len(path)
    for offset in (0, 4, len(data), 1 << 40, (1 << 64) - 1):
        refused(data[:at] + struct.pack("<Q", offset) + data[at + 8 :], "binary.structure")


def test_internals_do_not_share_bytes() -> None:
    data = rsrc("Resource", [("x", 1)], internals=[Internal("Resource", [("x", 1)], "a")])
    first = data.index(b"local://a\0") + 10
    second = data.index(b"res://main.res\0") + 15
    same = data[:first] + data[second : second + 8] + data[first + 8 :]
    refused(same, "binary.structure")


def test_internals_take_no_path_of_the_game() -> None:
    """The engine caches an internal resource under its path: the next load of that file gets it instead."""
    data = rsrc("Resource", internals=[Internal("Resource", (), "ab")])
    refused(_patched(data, b"local://ab\0", b"res://ab/x\0"), "binary.structure")


def test_two_internals_have_not_the_same_id() -> None:
    refused(rsrc("Resource", internals=[Internal("A", (), "x"), Internal("B", (), "x")]), "binary.structure")


@pytest.mark.parametrize("tail", [b"x", b"RSRCx", b"GDPC", bytes(4)])
def test_nothing_follows_the_body(tail: bytes) -> None:
    refused(rsrc("Resource", [("x", 1)], tail=tail), "binary.structure")
    assert codes(rsrc("Resource", [("x", 1)], tail=b"")) == []


def test_strings_are_strict() -> None:
    good = rsrc("Resource", [("x", "abcd")])
    refused(_patched(good, b"abcd\0", b"a\0cd\0"), "binary.encoding")
    refused(_patched(good, b"abcd\0", b"\xff\xfe\xfd\xfc\0"), "binary.encoding")
    assert parse_binary(_patched(good, b"abcd\0", b"a\0cd\0"), findings=[]).properties[0].value == "a"


def test_a_property_has_a_name() -> None:
    refused(rsrc("Resource", [("", 1)]), "binary.value")


def test_depth_and_number_of_values_are_bounded() -> None:
    deep: Value = array()
    for _ in range(120):
        deep = array(deep)
    refused(rsrc("Resource", [("x", deep)]), "binary.too-deep")
    refused(rsrc("Resource", [("x", array(*range(500)))]), "binary.too-large", limits=BinaryLimits(values=100))
    refused(rsrc("Resource", [("x", strings(*"a" * 500))]), "binary.too-large", limits=BinaryLimits(values=100))


def test_a_node_path_of_many_long_names_is_bounded() -> None:
    """One name of the table, named 60,000 times: 240 KB that say 60 MB."""
    data = rsrc("Resource", [("n" * 1000, None)], tail=b"")
    path = struct.pack("<IHH", 22, 60_000, 0) + struct.pack("<I", 0) * 60_000
    refused(data[:-4] + path, "binary.too-large")


def test_what_was_set_before_an_error_is_seen() -> None:
    """The engine sets one property after the other, and a script runs when it is set."""
    data = rsrc("Resource", [("script", ExtRef("0", 0)), ("x", None)], externals=[("Script", "res://a.gd")], tail=b"")
    findings: list[Finding] = []
    got = parse_binary(data[:-4] + struct.pack("<I", 99), findings=findings)
    assert [f.code for f in findings] == ["binary.value"]
    assert [(owner, held.name) for owner, held in got.assignments()] == [("Resource", "script")]


def test_absent_resources() -> None:
    data = rsrc("Resource")
    at = data.index(b"res://main.res\0") - 8
    refused(data[:at] + struct.pack("<I", 0), "binary.structure")


def test_doubles_are_read_where_the_header_says_so() -> None:
    data = bytearray(rsrc("Resource", [("x", numbers("PackedFloat64Array", 1))], tail=b""))
    at = data.index(b"Resource\0") + 9 + 8
    data[at : at + 4] = struct.pack("<I", 1 | 4)
    # As a float of double precision, type 4.
    data[-16:] = struct.pack("<Id", 4, 0.1)
    assert parse_binary(bytes(data)).properties[0].value == 0.1


@pytest.mark.parametrize("encoding", [0, 1, 2, 3])
def test_images_of_old_files_are_read_over(encoding: int) -> None:
    data = rsrc("Resource", [("x", None), ("y", 5)], engine=(3, 2), tail=b"")
    image = struct.pack("<II", 21, encoding)
    if encoding == 1:
        image += struct.pack("<4I", 1, 1, 0, 0)
    if encoding:
        image += struct.pack("<I", 3) + b"abc\0"
    at = len(data) - 16
    got = parse_binary(data[:at] + image + data[at + 4 :])
    assert [p.value for p in got.properties][1] == 5


def test_places_are_offsets() -> None:
    data = rsrc("Resource", [("x", 1), ("y", array(2))])
    got = parse_binary(data)
    assert got.where(got.properties[0].place).startswith("offset 0x")
    assert struct.unpack_from("<I", data, got.properties[1].value.place)[0] == 30  # type: ignore[union-attr]
    assert got.line(5) is None
