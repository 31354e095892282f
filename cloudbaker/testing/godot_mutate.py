"""Mutated packs and resources, by seed: honest ones with something wrong where it hurts.

A mutation knows the structure: it sets a count, an offset, a flag or a path in a pack, a number in a binary resource, a
token in a text. Bytes at random are the smaller part, since most of them only break a string.
"""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

from cloudbaker.compute.godot.resources.tree import Construct, ExtRef, NodePath, ResourceRef, StringName, SubRef, Value
from cloudbaker.testing.godot_packs import (
    COMPRESSIONS,
    Internal,
    RawFile,
    SceneConnection,
    SceneNode,
    array,
    bundle,
    dictionary,
    numbers,
    raw_pack,
    rscc,
    rsrc,
    strings,
)

STRANGE = (0, 1, 2, 3, 4, 7, 8, 24, 255, 4096, 65_535, 1 << 20, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
STRANGE_64 = (*STRANGE, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
STRANGE_PATHS = (
    *("", "res://", "res://../x", "res:///x", "/x", "a/../b", "a//b", "a\\b", "user://x", "C:/x", "res://res://x"),
    *("res://mods/a/x", "res://mods/A/X", "res://mods/a", "res://x\u202e", "res://" + "x" * 2000, b"\xff\xfe", b"a\0b"),
)
FRAGMENTS = (
    *("[", "]", "{", "}", "(", ")", ",", ":", ";", "=", '"', "\\", ".", "-", "#", "&", "@", "^", "\0", "\n", "\xff"),
    *(
        "[[[[",
        "]]",
        "{{",
        "= =",
        '""',
        '\\"',
        "\\u",
        "\\u0053",
        "\\u0153",
        "\\U000041",
        "1e",
        "1E9",
        "-inf",
        "nan",
        "-",
    ),
    *("true", "null", "Object(", "Object(GDScript,", 'Object(Resource,"script":1)', 'Resource("res://x")', "Array["),
    *(
        "Array[int]([",
        "Dictionary[",
        'SubResource("1")',
        "ExtResource( 1 )",
        "PackedByteArray(",
        "Vector2(1,",
        "script",
    ),
    *('[sub_resource type="GDScript" id="9"]', "[resource]", '[node name="x"]', "[connection]", "[", "9" * 500),
    '_bundled = {"names": PackedStringArray(), "variants": [], "node_count": 9, "nodes": PackedInt32Array(1)}',
)
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[A-Za-z_0-9.]+|\s+|.', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A mutated file."""

    kind: str
    """``pck``, ``binary``, ``text`` or ``config``: which reader it is for."""
    data: bytes


def mutant(seed: int) -> Mutant:
    """The file of a seed, always the same."""
    chance = random.Random(seed)
    kind = chance.choices(("pck", "binary", "text", "config"), (3, 3, 3, 1))[0]
    return Mutant(kind, _MAKERS[kind](chance))


def _pck(chance: random.Random) -> bytes:
    format_ = chance.choice((1, 2, 3, 4))
    files = [
        RawFile(f"res://mods/a/{'deep/' * chance.randrange(3)}{number}.bin", chance.randbytes(chance.randrange(200)))
        for number in range(chance.randrange(1, 6))
    ]
    header: dict[str, int | bytes] = {}
    for _ in range(chance.choices((0, 1, 2), (1, 5, 2))[0]):
        number = chance.randrange(len(files))
        match chance.randrange(9):
            case 0:
                files[number] = replace(files[number], path=chance.choice(STRANGE_PATHS))
            case 1:
                files[number] = replace(files[number], flags=chance.choice(STRANGE))
            case 2:
                files[number] = replace(files[number], offset=chance.choice(STRANGE_64))
            case 3:
                files[number] = replace(files[number], size=chance.choice(STRANGE_64))
            case 4:
                files[number] = replace(files[number], md5=chance.choice((bytes(16), chance.randbytes(16))))
            case 5:
                files.append(files[number])
            case 6:
                header["count"] = chance.choice((*STRANGE, len(files) - 1, len(files) + 1))
            case 7:
                header[chance.choice(("flags", "version"))] = chance.choice(STRANGE)
            case _:
                header[chance.choice(("base", "directory"))] = chance.choice(STRANGE_64)
    made = raw_pack(files, format=format_, align=chance.choice((1, 16, 32)), **header)  # type: ignore[arg-type]
    return _bytes(chance, made) if chance.random() < 0.3 else made


def _value(chance: random.Random, depth: int = 0) -> Value:
    makers: list[Callable[[], Value]] = [
        *(lambda: None, lambda: chance.random() < 0.5, lambda: chance.choice(STRANGE), chance.random),
        *(lambda: "text" * chance.randrange(4), lambda: NodePath("A/B:c"), lambda: StringName("s")),
        lambda: numbers("Vector3", 1, 2, 3),
        lambda: numbers("PackedByteArray", *chance.randbytes(chance.randrange(9))),
        lambda: numbers("PackedInt32Array", *range(chance.randrange(9))),
        lambda: strings("a", "b"),
        lambda: Construct("RID", 0),
        lambda: ResourceRef("res://x.gd", "", 0, "Script"),
        lambda: ExtRef("0", 0),
        lambda: SubRef("1", 0),
        lambda: bundle(
            [SceneNode("R", "Node", -1, {"x": 1}), SceneNode("C", "Node2D", 0)], [SceneConnection(0, 1, "a", "b", [2])]
        ),
    ]
    if depth < 3:
        makers += [
            lambda: array(*(_value(chance, depth + 1) for _ in range(chance.randrange(4)))),
            lambda: dictionary({str(n): _value(chance, depth + 1) for n in range(chance.randrange(4))}),
        ]
    return chance.choice(makers)()


def _binary(chance: random.Random) -> bytes:
    old = chance.random() < 0.3
    scene, packing = chance.random() < 0.3, chance.random() < 0.3
    count = chance.randrange(1, 5)
    values = [("_bundled" if scene and not n else f"p{n}", _value(chance)) for n in range(count)]
    if old:
        values = [(name, value) for name, value in values if not isinstance(value, StringName)]
    made = rsrc(
        "PackedScene" if scene else "Resource",
        values,
        internals=[Internal("Material", [("x", 1)], "1")],
        externals=[("Texture2D", "res://mods/a/x.png")],
        engine=(3, 2) if old else (4, 6),
        big_endian=chance.random() < 0.2,
        inline_names=chance.random() < 0.2,
        uid=None if old or chance.random() < 0.5 else 5,
        to_pack=packing,
    )
    for _ in range(chance.choices((0, 1, 2, 3), (1, 4, 2, 1))[0]):
        made = _number(chance, made) if chance.random() < 0.7 else _bytes(chance, made)
    if packing:
        packed = rscc(made, chance.choice(list(COMPRESSIONS)), block=chance.choice((64, 256, 4096)))
        if chance.random() < 0.5:
            packed = _number(chance, packed, before=64) if chance.random() < 0.5 else _bytes(chance, packed)
        return packed
    return made


_SCENE = """[gd_scene load_steps=3 format=3 uid="uid://abc"]

[ext_resource type="Texture2D" path="res://mods/a/x.png" id="1_x"]

[sub_resource type="StandardMaterial3D" id="m"]
albedo_color = Color(1, 0.5, 0.25, 1)
albedo_texture = ExtResource("1_x")

[node name="Root" type="Node3D" groups=["a", "b"]]
transform = Transform3D(1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0)
metadata/tags = {"a": [1, 2.5, "x\\ty"], &"b": NodePath("../C:d")}

[node name="Child" type="MeshInstance3D" parent="."]
material = SubResource("m")
points = PackedVector3Array(0, 1, 2, 3, 4, 5)

[connection signal="ready" from="." to="Child" method="hide" binds=[1]]
"""
_RESOURCE = """[gd_resource type="Resource" format=2]

[sub_resource type="Curve" id=1]
_data = [ Vector2( 0, 1 ), 0.0, 1.5, 0, 0 ]
min_value = -1.0

[resource]
resource_name = "x" ; comment
curve = SubResource( 1 )
names = PoolStringArray( "a", "b" )
data = PoolByteArray( 1, 2, 3 )
typed = Array[int]([1, 2])
map = Dictionary[String, Variant]({"k": null})
"""
_CONFIG = """[remap]

importer="texture"
path="res://.import/x.stex"
metadata={
"vram_texture": false
}

[params]

compress/mode=0
flags=Object(Resource,"x":1)
"""


def _text(chance: random.Random) -> bytes:
    return _tokens(chance, chance.choice((_SCENE, _RESOURCE)))


def _config(chance: random.Random) -> bytes:
    return _tokens(chance, _CONFIG)


def _tokens(chance: random.Random, text: str) -> bytes:
    tokens: list[str] = _TOKENS.findall(text)
    for _ in range(chance.choices((0, 1, 2, 5), (1, 4, 3, 1))[0]):
        at = chance.randrange(len(tokens))
        match chance.randrange(7):
            case 0:
                del tokens[at]
            case 1:
                tokens.insert(at, tokens[chance.randrange(len(tokens))])
            case 2:
                other = chance.randrange(len(tokens))
                tokens[at], tokens[other] = tokens[other], tokens[at]
            case 3:
                tokens[at] = chance.choice(FRAGMENTS)
            case 4:
                end = min(len(tokens), at + chance.randrange(1, 20))
                tokens[at:at] = tokens[at:end]
            case 5:
                tokens.insert(at, chance.choice(("[", "{", "a = [")) * chance.choice((1, 50, 150)))
            case _:
                tokens.insert(at, chance.choice(FRAGMENTS))
        tokens = tokens or [""]
    data = "".join(tokens).encode("latin-1")
    return _bytes(chance, data) if chance.random() < 0.15 else data


def _number(chance: random.Random, data: bytes, *, before: int | None = None) -> bytes:
    """One aligned or unaligned u32 set to something strange, or moved a little."""
    if len(data) < 8:
        return data
    changed = bytearray(data)
    at = chance.randrange(4, min(len(data), before or len(data)) - 3)
    (old,) = struct.unpack_from("<I", changed, at)
    new = chance.choice((*STRANGE, old + 1, old - 1, old << 8, old * 2))
    struct.pack_into("<I", changed, at, new & 0xFFFFFFFF)
    return bytes(changed)


def _bytes(chance: random.Random, data: bytes) -> bytes:
    """Bytes changed, cut off, put in, doubled."""
    if not data:
        return data
    at = chance.randrange(len(data))
    match chance.randrange(5):
        case 0:
            return data[:at]
        case 1:
            changed = bytearray(data)
            for _ in range(chance.randrange(1, 8)):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            return bytes(changed)
        case 2:
            return data[:at] + chance.randbytes(chance.randrange(1, 40)) + data[at:]
        case 3:
            end = chance.randrange(at, len(data))
            return data[:end] + data[at:]
        case _:
            return data + chance.choice((b"GDPC", b"\0", b"x" * 100, data))


_MAKERS: dict[str, Callable[[random.Random], bytes]] = {
    "pck": _pck,
    "binary": _binary,
    "text": _text,
    "config": _config,
}


_METADATA = """[gd_resource type="Resource" format=2]

[sub_resource type="Curve" id="1"]
min_value = -1.0 ; c

[resource]
resource_name = "x"
metadata/a = [1, 2.5, "t", {"k": Vector2(1, 2)}]
"metadata/b" = NodePath("a/b")
metadata/c = {"x": [true, null], 5: "y"}
metadata/d = Color(1, 0, 0, 1)
metadata/e = SubResource("1")
metadata/f = "esc \\n \\" \\u0041"
metadata/g = PackedFloat32Array(1, 2, 3e2)
metadata/h = 5
"""
_HARMLESS = (
    *(fragment for fragment in FRAGMENTS if "Object" not in fragment and "GDScript" not in fragment),
    *("metadata/z = 1\n", '\nmetadata/y = "q"\n', "metadata/", '"metadata/w"', '"', "\\", "\n", ";", " "),
)


def mutated_metadata(seed: int, engine: int) -> bytes:
    """A text whose properties an engine can be asked for (`engine` 3 or 4), spoilt by seed; nothing in it hangs one."""
    chance = random.Random(seed)
    text = _METADATA
    if engine == 3:
        text = text.replace("PackedFloat32Array", "PoolRealArray").replace('"1"', "1")
    tokens: list[str] = _TOKENS.findall(text)
    for _ in range(chance.choice((1, 1, 2, 3))):
        at = chance.randrange(12, len(tokens))
        match chance.randrange(6):
            case 0:
                del tokens[at]
            case 1:
                tokens.insert(at, tokens[chance.randrange(len(tokens))])
            case 2:
                tokens[at] = chance.choice(_HARMLESS)
            case 3:
                tokens.insert(at, chance.choice(_HARMLESS))
            case 4:
                other = chance.randrange(12, len(tokens))
                tokens[at], tokens[other] = tokens[other], tokens[at]
            case _:
                within = chance.randrange(len(tokens[at]) + 1)
                tokens[at] = tokens[at][:within] + chance.choice('";=[]{}(),\\ \n.-#&@:x') + tokens[at][within:]
    return "".join(tokens).encode("latin-1")


def seeds(block: int, size: int) -> range:
    """The seeds of a block of cases."""
    return range(block * size, (block + 1) * size)
