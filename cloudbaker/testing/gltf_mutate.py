"""Mutated models, by seed: honest ones with something wrong where it hurts.

A mutation knows glTF: it sets a count, a stride, an offset, a reference, a component type; it makes a node its own
grandchild, a keyframe earlier than the one before, a vertex infinitely far away; it damages a Draco or meshopt payload
inside a sound container; it points a URI at a file that lies there. Bytes at random are the smaller part, since most
of them only break the JSON.

`mutant` makes one of a seed. The same seed gives the same bytes in any process; what went wrong is in its `operators`.
"""

from __future__ import annotations

import base64
import json
import math
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np

from cloudbaker.compute.gltf.references import references
from cloudbaker.testing import models, shapes
from cloudbaker.testing.shapes import f32
from cloudbaker.testing.writer import Writer, pack, unpack

Json = dict[str, Any]

CANARY = "canary.bin"
"""Name of a file that strange URIs point at: a harness puts a secret there and looks for it in what comes out."""

NUMBERS = (
    *(0, 1, -1, 2, 3, 4, 5, 7, 12, 16, 255, 256, 257, 65_534, 65_535, 65_536, (1 << 31) - 1, 1 << 31, (1 << 32) - 1),
    *(1 << 32, 1 << 53, (1 << 63) - 1, 1 << 64, 1 << 70, -(1 << 31), -(1 << 70), 0.5, -0.0, 1e30, -1e30, 1e300, 1e308),
)
STRANGE: tuple[Any, ...] = (
    *(None, True, False, "", "x", "0", "\0", "\ud83d", "../x", "__proto__", "POSITION", "SCALAR", "MAT4", "é" * 300),
    *([], [0], [[]], [None], {}, {"": 0}, {"extensions": {}}, {"index": 0}, 5120, 5121, 5125, 5126, *NUMBERS),
)
FLOATS = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1e30, -1e30, 3.4e38, 1e-40, 1e-45, 1.0, -1.0, 2.0, 65_536.0)
URIS = (
    *("", ".", "..", "/", "//", "a", "../../../../../../etc/passwd", "..%2f..%2f..%2fetc/passwd", "/etc/passwd"),
    *("file:///etc/passwd", "FILE:///etc/passwd", "file:etc/passwd", "/dev/zero", "/proc/self/environ", "\\\\host\\x"),
    *("http://127.0.0.1:9/x", "https://localhost/x", "http://169.254.169.254/latest/", "ftp://localhost/x", "//h/x"),
    *(CANARY, f"./{CANARY}", f"x/../{CANARY}", f"%2e/{CANARY}", f"{CANARY}\0.png", f"file:{CANARY}", "C:/x", "c:x"),
    *("data:", "data:,", "data:;base64,", "data:;base64,!!!!", "data:application/octet-stream;base64,AAAA", "data:x"),
    *("data:image/png;base64,iVBORw0KGgo=", "data:model/gltf-buffer;base64," + "A" * 4000, "blob:x", "x" * 3000),
)
COMPONENT_TYPES = (5120, 5121, 5122, 5123, 5124, 5125, 5126, 5130)
TYPES = ("SCALAR", "VEC2", "VEC3", "VEC4", "MAT2", "MAT3", "MAT4", "VEC5")
SEMANTICS = (
    *("POSITION", "NORMAL", "TANGENT", "TEXCOORD_0", "TEXCOORD_1", "TEXCOORD_9", "COLOR_0", "JOINTS_0", "WEIGHTS_0"),
    *("JOINTS_1", "WEIGHTS_1", "_CUSTOM", "_", "position", "TEXCOORD_-1", "TEXCOORD_00"),
)
EXTENSIONS = (
    *("KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_meshopt_compression", "KHR_mesh_quantization"),
    *("KHR_texture_basisu", "EXT_texture_webp", "KHR_materials_variants", "EXT_mesh_gpu_instancing", "MSFT_lod"),
    *("KHR_animation_pointer", "KHR_lights_punctual", "KHR_texture_transform", "EXT_structural_metadata", "ACME_x"),
)


@dataclass(slots=True)
class Model:
    """A model being mutated."""

    json: Json
    bin: bytearray

    def items(self, kind: str) -> list[Any]:
        """A top-level array; empty where there is none, or something else by now."""
        value = self.json.get(kind)
        return value if isinstance(value, list) else []


@dataclass(frozen=True, slots=True)
class Mutant:
    """A model with something wrong."""

    seed: int
    source: str
    operators: tuple[str, ...]
    """Names of what was done to it, in order."""
    data: bytes
    form: str = "glb"
    """``glb``, ``gltf`` (JSON text alone) or ``zip``."""

    @property
    def name(self) -> str:
        """What a user would have called the file."""
        return f"model.{self.form}"


class Unfit(Exception):
    """The model has nothing that this operator could change."""


_MISSING = (TypeError, ValueError, OverflowError, AttributeError, KeyError, IndexError)
"""What an operator runs into where an earlier one has left something else than it expects."""

Operator = Callable[[random.Random, Model], None]


# ------------------------------------------------------------------------------------------------------------- sources


def instanced() -> bytes:
    """Boxes by EXT_mesh_gpu_instancing."""
    w = Writer()
    w.use("EXT_mesh_gpu_instancing", required=True)
    mesh = w.mesh(shapes.box(0.2), name="crate", uv=False)
    places = f32(np.arange(24).reshape(8, 3) % 5)
    turns = np.tile(np.array([0, 0, 0, 1], np.float32), (8, 1))
    attributes = {"TRANSLATION": w.accessor(places), "ROTATION": w.accessor(turns)}
    w.scene(w.node(name="crates", mesh=mesh, extensions={"EXT_mesh_gpu_instancing": {"attributes": attributes}}))
    return w.glb()


def levels() -> bytes:
    """A sphere with two coarser ones by MSFT_lod, and a material's animation by KHR_animation_pointer."""
    w = Writer()
    w.use("MSFT_lod")
    w.use("KHR_animation_pointer")
    material = w.add("materials", {"name": "m", "pbrMetallicRoughness": {"baseColorFactor": [1.0, 1.0, 1.0, 1.0]}})
    nodes = [
        w.node(name=f"ball {n}", mesh=w.mesh(shapes.sphere(1, n), material=material), translation=[0.0, 0.0, 0.0])
        for n in (16, 8, 4)
    ]
    w.json["nodes"][nodes[0]] |= {
        "extensions": {"MSFT_lod": {"ids": nodes[1:]}},
        "extras": {"MSFT_screencoverage": [0.5, 0.1, 0.01]},
    }
    times, colors = w.accessor(f32([0, 1]), bounds=True), w.accessor(f32([[1, 0, 0, 1], [0, 1, 0, 1]]))
    pointer = {"KHR_animation_pointer": {"pointer": "/materials/0/pbrMetallicRoughness/baseColorFactor"}}
    channel = {"sampler": 0, "target": {"path": "pointer", "extensions": pointer}}
    w.add("animations", {"name": "tint", "channels": [channel], "samplers": [{"input": times, "output": colors}]})
    w.scene(nodes[0])
    return w.glb()


def soup() -> bytes:
    """Triangles without normals or texture coordinates that share no vertex, some twice and some flipped: a scan."""
    surface = shapes.sphere(1, 12)
    faces = surface.indices.copy()
    faces[::7] = faces[::7, ::-1]
    corners = np.concatenate([surface.positions[faces].reshape(-1, 3), surface.positions[faces[:4]].reshape(-1, 3)])
    w = Writer()
    primitive = {"attributes": {"POSITION": w.attribute(corners, bounds=True)}}
    w.scene(w.node(name="scan", mesh=w.add("meshes", {"name": "scan", "primitives": [primitive]})))
    return w.glb()


SOURCES: dict[str, Callable[[], bytes]] = {
    # Pictures of 16 pixels: a mutation of pixels changes nothing that these tests look at.
    **{name: make for name, make in models.VALID.items() if name not in ("grid", "textured", "textured_jpeg")},
    "textured": lambda: models.textured(16),
    "textured_jpeg": lambda: models.textured(16, mime="image/jpeg"),
    "sphere": lambda: models.sphere(12),
    "skinned": lambda: models.skinned(segments=8, rings=8),
    "morphed": lambda: models.morphed(segments=10),
    "draco": lambda: models.draco(10),
    "meshopt": lambda: models.meshopt(10),
    "quantized": lambda: models.quantized(10),
    "instanced": instanced,
    "levels": levels,
    "soup": soup,
}
"""Sound models by name: each has a part of the format that can be broken."""


@cache
def source(name: str) -> bytes:
    """The sound model of a name."""
    return SOURCES[name]()


# ---------------------------------------------------------------------------------------------------- generic mutations


def _holders(value: Any) -> list[Any]:
    """All arrays and objects inside `value`, itself first."""
    found, stack = [], [value]
    while stack:
        item = stack.pop()
        if isinstance(item, (dict, list)):
            found.append(item)
            stack += item.values() if isinstance(item, dict) else item
    return found


def _place(chance: random.Random, model: Model) -> tuple[Any, Any]:
    """Any (holder, key) of the document."""
    holder = _pick(chance, [h for h in _holders(model.json) if h])
    return holder, chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))


def _pick(chance: random.Random, items: Any) -> Any:
    """One of the items; `Unfit` where there are none."""
    if not items:
        raise Unfit
    return chance.choice(items)


def _copy(value: Any) -> Any:
    text = json.dumps(value)
    if len(text) > 4000:
        raise Unfit
    return json.loads(text)


def drop(chance: random.Random, model: Model) -> None:
    """Remove a property or an item."""
    holder, key = _place(chance, model)
    del holder[key]


def double(chance: random.Random, model: Model) -> None:
    """Append an item of an array once more."""
    items = _pick(chance, [h for h in _holders(model.json) if isinstance(h, list) and h])
    items.append(_copy(chance.choice(items)))


def strange(chance: random.Random, model: Model) -> None:
    """Put a value of another kind somewhere."""
    holder, key = _place(chance, model)
    holder[key] = chance.choice(STRANGE)


def nudge(chance: random.Random, model: Model) -> None:
    """Change a number a little."""
    spots = [
        (h, k)
        for h in _holders(model.json)
        for k, v in (h.items() if isinstance(h, dict) else enumerate(h))
        if type(v) in (int, float)
    ]
    holder, key = _pick(chance, spots)
    holder[key] += chance.choice((-4, -2, -1, 1, 2, 4, 100, 0.5))


def graft(chance: random.Random, model: Model) -> None:
    """Put a copy of one part of the document in the place of another."""
    holder, key = _place(chance, model)
    holder[key] = _copy(chance.choice(_holders(model.json)))


def misplace(chance: random.Random, model: Model) -> None:
    """Give a value a second place, under a property's name that means something."""
    holder = _pick(chance, [h for h in _holders(model.json) if isinstance(h, dict) and h])
    name = chance.choice(("mesh", "children", "sparse", "extensions", "targets", "uri", "skin", "mode", "attributes"))
    holder[name] = _copy(holder[chance.choice(list(holder))])


def crossover(chance: random.Random, model: Model) -> None:
    """Take a top-level part of another model: its references now lead elsewhere."""
    other, _ = unpack(source(chance.choice(sorted(SOURCES))))
    key = chance.choice(sorted(other))
    model.json[key] = other[key]


def deepen(chance: random.Random, model: Model) -> None:
    """Put something into many arrays or objects."""
    holder, key = _place(chance, model)
    value = holder[key] if len(json.dumps(holder[key])) < 4000 else 0
    for _ in range(chance.choice((3, 30, 70, 400))):
        value = [value] if chance.random() < 0.5 else {"extras": value}
    holder[key] = value


# --------------------------------------------------------------------------------------------- references and structure


def reference(chance: random.Random, model: Model) -> None:
    """Point an index at another item, the last, one past the end, or nowhere."""
    holder, key, kind = _pick(chance, list(references(model.json)))
    count = len(model.items(kind))
    holder[key] = chance.choice((0, 1, count - 1, count, count + 1, chance.randrange(count + 1), *NUMBERS))


def node_graph(chance: random.Random, model: Model) -> None:
    """A cycle, a second parent, a child twice, a child of its own, a root that is somebody's child."""
    nodes = [n for n in model.items("nodes") if isinstance(n, dict)]
    node = _pick(chance, nodes)
    number = chance.randrange(len(model.items("nodes")))
    action = chance.randrange(5)
    if action == 0:
        node["children"] = [chance.choice((number, 0, -1, len(nodes), 1 << 40))]
    elif action == 1:
        node["children"] = [number, number]
    elif action == 2:
        for index, each in enumerate(nodes):
            each["children"] = [(index + 1) % len(nodes)]
    elif action == 3 and model.items("scenes") and isinstance(model.items("scenes")[0], dict):
        model.items("scenes")[0]["nodes"] = [number] * chance.choice((1, 2)) + [0]
    else:
        # 24 levels of two references to one child: 16 million nodes for who walks it as a tree.
        first = len(model.items("nodes"))
        model.items("nodes").extend({"children": [first + i + 1] * 2} for i in range(24))
        model.items("nodes").append({"mesh": 0})
        node["children"] = [first]


def transform(chance: random.Random, model: Model) -> None:
    """A transform that is none: no length, no inverse, not finite, both forms at once."""
    node = _pick(chance, [n for n in model.items("nodes") if isinstance(n, dict)])
    key, length = chance.choice((("translation", 3), ("rotation", 4), ("scale", 3), ("matrix", 16)))
    node[key] = [chance.choice((0, 1, -1, 0.5, 1e30, 1e-30, 1e308)) for _ in range(chance.choice((length, length, 2)))]


def skin(chance: random.Random, model: Model) -> None:
    """Joints that are missing, doubled, too few, in a circle; matrices that are too few."""
    item = _pick(chance, [s for s in model.items("skins") if isinstance(s, dict)])
    joints = item.get("joints") or [0]
    item[chance.choice(("joints", "joints", "skeleton", "inverseBindMatrices"))] = chance.choice(
        ([], [joints[0]], [*joints, joints[0]], joints[::-1], [len(model.items("nodes"))], 0, joints * 200)
    )


def extension(chance: random.Random, model: Model) -> None:
    """Declare, require, forget or carry an extension."""
    name = chance.choice(EXTENSIONS)
    action = chance.randrange(4)
    if action == 0:
        model.json[chance.choice(("extensionsUsed", "extensionsRequired"))] = [name] * chance.choice((1, 2))
    elif action == 1:
        model.json.pop(chance.choice(("extensionsUsed", "extensionsRequired")), None)
    elif action == 2:
        holder = _pick(chance, [h for h in _holders(model.json) if isinstance(h, dict)])
        ids = [chance.randrange(4) for _ in range(chance.randrange(4))]
        holder["extensions"] = {name: chance.choice(({}, {"ids": ids}, {"bufferView": 0, "attributes": {}}, [], 0))}
    else:
        holder = _pick(chance, [h for h in _holders(model.json) if isinstance(h, dict) and "extensions" in h])
        inside = holder["extensions"]
        if not isinstance(inside, dict) or not inside:
            raise Unfit
        inside[name] = inside.pop(chance.choice(list(inside)))


def pointer(chance: random.Random, model: Model) -> None:
    """An animation of something that is not there, or is no property."""
    animation = _pick(chance, [a for a in model.items("animations") if isinstance(a, dict) and a.get("channels")])
    path = chance.choice(("", "/", "/nodes/99/rotation", "/materials/-1/x", "/nodes/0/~", "nodes/0", "/" * 500, "/~2"))
    target = {"path": "pointer", "extensions": {"KHR_animation_pointer": {"pointer": path}}}
    channel = chance.choice(animation["channels"])
    if not isinstance(channel, dict):
        raise Unfit
    channel["target"] = target


# -------------------------------------------------------------------------------------------------------- data layout


def accessor(chance: random.Random, model: Model) -> None:
    """An accessor that claims something else than its bytes."""
    item = _pick(chance, [a for a in model.items("accessors") if isinstance(a, dict)])
    match chance.randrange(8):
        case 0:
            item["count"] = chance.choice((item.get("count", 0), *NUMBERS))
            if type(item["count"]) is int:
                item["count"] += chance.choice((-1, 0, 1))
        case 1:
            item["byteOffset"] = chance.choice(NUMBERS)
        case 2:
            item["componentType"] = chance.choice(COMPONENT_TYPES)
        case 3:
            item["type"] = chance.choice(TYPES)
        case 4:
            item["normalized"] = not item.get("normalized")
        case 5:
            item.pop("bufferView", None)
        case 6:
            bound = chance.choice(("min", "max"))
            item[bound] = [chance.choice((0, 1e30, -1e30, 1)) for _ in range(chance.choice((0, 1, 3, 4, 16)))]
        case _:
            view = chance.randrange(max(1, len(model.items("bufferViews"))))
            component = chance.choice((5121, 5123, 5125, 5126))
            item["sparse"] = {
                "count": chance.choice((0, 1, 2, item.get("count", 1), 1 << 31)),
                "indices": {"bufferView": view, "componentType": component, "byteOffset": chance.choice((0, 4))},
                "values": {"bufferView": chance.randrange(view + 1), "byteOffset": chance.choice((0, 1, 4))},
            }


def buffer_view(chance: random.Random, model: Model) -> None:
    """A buffer view that lies elsewhere, is shorter, or has another stride."""
    item = _pick(chance, [v for v in model.items("bufferViews") if isinstance(v, dict)])
    key = chance.choice(("byteOffset", "byteLength", "byteStride", "buffer", "target"))
    strides = (0, 1, 3, 4, 6, 8, 12, 16, 20, 252, 253, 256)
    item[key] = chance.choice(strides if key == "byteStride" else (*NUMBERS, len(model.bin), len(model.bin) - 1))


def buffer(chance: random.Random, model: Model) -> None:
    """A buffer of another length, a second one, or one that lies outside of the file."""
    if not model.items("buffers"):
        raise Unfit
    match chance.randrange(3):
        case 0:
            model.items("buffers")[0] = {"byteLength": chance.choice((*NUMBERS, len(model.bin) + 4))}
        case 1:
            model.items("buffers").append({"byteLength": chance.choice((4, 1 << 31))})
        case _:
            model.items("buffers")[0]["uri"] = chance.choice(URIS)


def uri(chance: random.Random, model: Model) -> None:
    """An image or a buffer that is a URI."""
    image = {"uri": chance.choice(URIS), **({"mimeType": "image/png"} if chance.random() < 0.5 else {})}
    images = model.items("images")
    if images:
        images[chance.randrange(len(images))] = image
    else:
        model.json |= {"images": [image], "textures": [{"source": 0}]}
        info = {"baseColorTexture": {"index": 0}}
        model.json["materials"] = [{"pbrMetallicRoughness": info}]


def primitive(chance: random.Random, model: Model) -> None:
    """Attributes that are missing, renamed, of another length; another mode; targets of another shape."""
    meshes = [m for m in model.items("meshes") if isinstance(m, dict)]
    item = _pick(chance, [p for m in meshes for p in m.get("primitives", ()) if isinstance(p, dict)])
    attributes = item.get("attributes")
    count = len(model.items("accessors"))
    if not isinstance(attributes, dict) or not count:
        raise Unfit
    match chance.randrange(5):
        case 0:
            item["mode"] = chance.choice((0, 1, 2, 3, 4, 5, 6, 7, -1))
        case 1:
            attributes[chance.choice(SEMANTICS)] = chance.randrange(count)
        case 2 if attributes:
            attributes[chance.choice(SEMANTICS)] = attributes.pop(chance.choice(list(attributes)))
        case 3:
            item["targets"] = [
                {chance.choice(SEMANTICS): chance.randrange(count)} for _ in range(chance.choice((0, 1, 3, 70)))
            ]
        case _:
            item["indices"] = chance.randrange(count)


# ------------------------------------------------------------------------------------------------------------- content


def _span(model: Model, view: Any) -> tuple[int, int]:
    """Where the bytes of a buffer view, or of a compressed one's payload, begin, and how many they are."""
    if not isinstance(view, dict):
        raise Unfit
    start, length = view.get("byteOffset", 0), view.get("byteLength", 0)
    if type(start) is not int or type(length) is not int or not 0 <= start < start + length <= len(model.bin):
        raise Unfit
    return start, length


def _width(item: Json) -> int:
    """Components of an accessor of vectors or numbers."""
    kind = item.get("type")
    return ("SCALAR", "VEC2", "VEC3", "VEC4").index(kind) + 1  # ValueError for others: the operator does not fit


def _plain_view(model: Model, item: Json) -> Json:
    """The uncompressed buffer view of an accessor."""
    number, views = item.get("bufferView"), model.items("bufferViews")
    view = views[number] if type(number) is int and 0 <= number < len(views) else None
    if not isinstance(view, dict) or "extensions" in view:
        raise Unfit
    return view


def _elements(chance: random.Random, model: Model, component: set[int]) -> tuple[int, int, int]:
    """(offset of a component of an element, its component type, how many there are) of an accessor of these types."""
    found = [a for a in model.items("accessors") if isinstance(a, dict) and a.get("componentType") in component]
    item = _pick(chance, found)
    start, length = _span(model, _plain_view(model, item))
    size = struct.calcsize(_CODES[item["componentType"]])
    return start + chance.randrange(max(1, length // size)) * size, item["componentType"], length // size


_CODES = {5120: "<b", 5121: "<B", 5122: "<h", 5123: "<H", 5125: "<I", 5126: "<f"}


def number(chance: random.Random, model: Model) -> None:
    """A float somewhere in the data becomes NaN, infinite, huge, tiny or zero: a vertex, a weight, a keyframe."""
    for _ in range(chance.choice((1, 1, 2, 8))):
        at, _, _ = _elements(chance, model, {5126})
        if at + 4 <= len(model.bin):
            struct.pack_into("<f", model.bin, at, chance.choice(FLOATS))


def index(chance: random.Random, model: Model) -> None:
    """An integer somewhere in the data: an index past the end, a joint that is none, a restart."""
    for _ in range(chance.choice((1, 1, 3))):
        at, component, count = _elements(chance, model, {5121, 5123, 5125})
        code = _CODES[component]
        size = struct.calcsize(code)
        if at + size <= len(model.bin):
            top = (1 << 8 * size) - 1
            struct.pack_into(code, model.bin, at, min(top, chance.choice((0, 1, count - 1, count, top - 1, top))))


def flatten(chance: random.Random, model: Model) -> None:
    """A run of the data becomes one value: all in one point, all triangles the same, all weights zero."""
    view = _pick(chance, [v for v in model.items("bufferViews") if isinstance(v, dict)])
    start, length = _span(model, view)
    begin = start + chance.randrange(length) // 4 * 4
    model.bin[begin : start + length] = bytes([chance.choice((0, 0, 1, 63, 255))]) * (start + length - begin)


def stir(chance: random.Random, model: Model) -> None:
    """Vertices, indices or keyframes in another order: strange, but each still a number that the format allows."""
    view = _pick(chance, [v for v in model.items("bufferViews") if isinstance(v, dict) and "extensions" not in v])
    start, length = _span(model, view)
    rows = np.frombuffer(model.bin, np.uint8, length // 4 * 4, start).reshape(-1, 4)
    width = _pick(chance, [w for w in (1, 2, 3, 4, 6) if len(rows) % w == 0])
    order = np.random.default_rng(chance.randrange(1 << 32)).permutation(len(rows) // width)
    part = chance.choice((len(order), max(2, len(order) // 8)))
    order[part:] = np.sort(order[part:])
    model.bin[start : start + rows.size] = rows.reshape(-1, 4 * width)[order].tobytes()


def collapse(chance: random.Random, model: Model) -> None:
    """A run of elements becomes copies of one: triangles without area, vertices in one place, all the same keyframe."""
    view = _pick(chance, [v for v in model.items("bufferViews") if isinstance(v, dict) and "extensions" not in v])
    start, length = _span(model, view)
    width = chance.choice((2, 4, 6, 12))
    count = length // width
    first = chance.randrange(max(1, count))
    last = min(count, first + chance.choice((2, 6, 30, count)))
    source = bytes(model.bin[start + first * width : start + (first + 1) * width])
    model.bin[start + first * width : start + last * width] = source * (last - first)


def stretch(chance: random.Random, model: Model) -> None:
    """Floats of an accessor many times as large or small, or flat in one direction."""
    floats = [a for a in model.items("accessors") if isinstance(a, dict) and a.get("componentType") == 5126]
    item = _pick(chance, floats)
    view = _plain_view(model, item)
    start, length = _span(model, view)
    width = _width(item)
    if "byteStride" in view:
        raise Unfit
    values = np.frombuffer(model.bin, "<f4", length // (4 * width) * width, start).reshape(-1, width).copy()
    axes = [chance.randrange(width)] if chance.random() < 0.5 else list(range(width))
    with np.errstate(over="ignore", invalid="ignore"):
        values[:, axes] *= np.float32(chance.choice((0, -1, 0.999, 1e-6, 1e-30, 1e6, 1e18, 1e30)))
    model.bin[start : start + values.nbytes] = values.tobytes()


def payload(chance: random.Random, model: Model) -> None:
    """Damage inside a Draco or meshopt payload, or in what the extension says about it."""
    packed = [v["extensions"][n] for v in _views_with_extensions(model) for n in v["extensions"] if "meshopt" in n]
    draco = [
        p["extensions"]["KHR_draco_mesh_compression"]
        for m in model.items("meshes")
        if isinstance(m, dict)
        for p in m.get("primitives", ())
        if isinstance(p, dict) and "KHR_draco_mesh_compression" in (p.get("extensions") or {})
    ]
    item = _pick(chance, [p for p in packed + draco if isinstance(p, dict)])
    if chance.random() < 0.35:
        key = chance.choice((*item, "filter", "mode", "count", "byteStride", "attributes"))
        item[key] = chance.choice(
            ("NONE", "OCTAHEDRAL", "QUATERNION", "EXPONENTIAL", "COLOR", "ATTRIBUTES", "TRIANGLES", "INDICES", *NUMBERS)
        )
        return
    view = item if "byteLength" in item else None
    number = item.get("bufferView")
    if type(number) is int and 0 <= number < len(model.items("bufferViews")):
        view = model.items("bufferViews")[number]
    start, length = _span(model, view)
    for _ in range(chance.randint(1, 6)):
        # Headers and counts are at the front.
        at = start + chance.randrange(min(length, 32) if chance.random() < 0.5 else length)
        model.bin[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))


def _views_with_extensions(model: Model) -> Iterator[Json]:
    for view in model.items("bufferViews"):
        if isinstance(view, dict) and isinstance(view.get("extensions"), dict):
            yield view


def keyframes(chance: random.Random, model: Model) -> None:
    """Samplers and channels that do not fit each other."""
    animation = _pick(chance, [a for a in model.items("animations") if isinstance(a, dict)])
    count = max(1, len(model.items("accessors")))
    samplers, channels = animation.get("samplers"), animation.get("channels")
    if not isinstance(samplers, list) or not isinstance(channels, list) or not samplers or not channels:
        raise Unfit
    sampler, channel = chance.choice(samplers), chance.choice(channels)
    if not isinstance(sampler, dict) or not isinstance(channel, dict):
        raise Unfit
    match chance.randrange(5):
        case 0:
            sampler[chance.choice(("input", "output"))] = chance.randrange(count)
        case 1:
            sampler["interpolation"] = chance.choice(("STEP", "LINEAR", "CUBICSPLINE", "cubic", 0))
        case 2:
            target = channel.get("target")
            if not isinstance(target, dict):
                raise Unfit
            target["path"] = chance.choice(("translation", "rotation", "scale", "weights", "pointer", "x"))
        case 3:
            channel["sampler"] = chance.choice((len(samplers), -1, 0))
        case _:
            channels.append(_copy(channel))


def noise(chance: random.Random, model: Model) -> None:
    """Bytes of the binary chunk at random: pictures, payloads, vertices."""
    if not model.bin:
        raise Unfit
    for _ in range(chance.randint(1, 12)):
        model.bin[chance.randrange(len(model.bin))] = chance.randrange(256)


def shorten(chance: random.Random, model: Model) -> None:
    """A binary chunk that ends early, or is empty."""
    del model.bin[chance.choice((0, len(model.bin) // 2, max(0, len(model.bin) - chance.randint(1, 8)))) :]


STRUCTURE: tuple[Operator, ...] = (
    *(drop, double, strange, nudge, graft, misplace, crossover, deepen, shorten),
    *(reference, reference, node_graph, transform, skin, extension, pointer),
    *(accessor, accessor, buffer_view, buffer_view, buffer, uri, primitive, primitive),
)
"""What changes the JSON."""
CONTENT: tuple[Operator, ...] = (
    *(number, number, number, index, index, flatten, stir, stir, collapse, collapse, stretch, stretch, noise),
    *(payload, payload, payload, payload, keyframes, keyframes),
)
"""What changes the data and what describes it."""


def mend(model: Model) -> None:
    """Give every float accessor the bounds that its data now have, so that the damage is not found by them alone."""
    for item in model.items("accessors") if model.bin else ():  # NumPy reads past the end of an empty buffer
        if not isinstance(item, dict) or "min" not in item or item.get("componentType") != 5126 or "sparse" in item:
            continue
        try:
            view = _plain_view(model, item)
            width = _width(item)
            offset = view.get("byteOffset", 0) + item.get("byteOffset", 0)
            stride = view.get("byteStride", 4 * width)
            data = np.ndarray((item["count"], width), "<f4", model.bin, offset, (stride, 4))
        except (Unfit, *_MISSING):
            continue
        if len(data) and np.isfinite(data).all():
            item["min"], item["max"] = data.min(axis=0).tolist(), data.max(axis=0).tolist()


# ----------------------------------------------------------------------------------------------------------- containers


def _text(document: Json) -> bytes:
    # NaN and Infinity are written as Python writes them, which JSON does not allow; lone surrogates as escapes.
    return json.dumps(document, separators=(",", ":")).encode()


def _container(chance: random.Random, data: bytes) -> tuple[str, bytes]:
    """The GLB itself is damaged: (what was done, the bytes)."""
    changed = bytearray(data)
    match chance.randrange(7):
        case 0:
            return "truncated", data[: chance.randrange(len(data))]
        case 1:
            changed[chance.randrange(min(20, len(changed)))] = chance.randrange(256)
            return "header", bytes(changed)
        case 2:
            struct.pack_into("<I", changed, chance.choice((8, 12)), chance.choice((0, 1, 7, 1 << 31, (1 << 32) - 1)))
            return "length", bytes(changed)
        case 3:
            return "appended", data + chance.randbytes(chance.choice((1, 4, 8, 64)))
        case 4:
            chunk = struct.pack("<I4s", 4, chance.choice((b"JSON", b"BIN\0", b"XXXX"))) + b"{}  "
            body = data[12:] + chunk if chance.random() < 0.5 else chunk + data[12:]
            return "chunks", data[:8] + struct.pack("<I", 12 + len(body)) + body
        case 5:
            start, end = sorted(chance.randrange(20, len(data)) for _ in range(2))
            return "cut out", data[:start] + data[end:]
        case _:
            for _ in range(chance.randint(1, 30)):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            return "bytes", bytes(changed)


def _zip(files: dict[str, bytes]) -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


def mutant(seed: int, sources: tuple[str, ...] | None = None) -> Mutant:
    """The mutant of a seed: one of `sources` (all by default) with one to four things wrong."""
    chance = random.Random(f"gltf {seed}")
    name = chance.choice(sources or tuple(sorted(SOURCES)))
    document, binary = unpack(source(name))
    model = Model(document, bytearray(binary))
    done: list[str] = []
    for _ in range(chance.choice((1, 1, 1, 1, 2, 2, 3, 4))):
        for _attempt in range(8):
            operator = chance.choice(STRUCTURE if chance.random() < 0.4 else CONTENT)
            try:
                operator(chance, model)
            except (Unfit, *_MISSING):
                continue
            done.append(operator.__name__)
            break
    if chance.random() < 0.8:
        mend(model)
    form = chance.choices(("glb", "gltf", "zip"), (88, 8, 4))[0]
    if form == "glb":
        if model.items("buffers") and isinstance(model.items("buffers")[0], dict) and chance.random() < 0.9:
            # Most have the length that they say, or all else would stop at that.
            model.items("buffers")[0].setdefault("byteLength", len(model.bin))
        data = pack(_text(model.json), bytes(model.bin))
        if chance.random() < 0.1:
            what, data = _container(chance, data)
            done.append(what)
        return Mutant(seed, name, tuple(done), data)
    if model.items("buffers") and isinstance(model.items("buffers")[0], dict) and chance.random() < 0.7:
        encoded = base64.b64encode(model.bin).decode()
        model.items("buffers")[0]["uri"] = f"data:application/octet-stream;base64,{encoded}"
    text = _text(model.json)
    if form == "gltf":
        return Mutant(seed, name, tuple(done), text, form)
    names = ("model.gltf", "a/model.gltf", "../model.gltf", "/model.gltf", "model.txt")
    return Mutant(seed, name, tuple(done), _zip({chance.choice(names): text, "x.bin": bytes(model.bin)}), form)
