"""The shape of a glTF 2.0 document: types of properties, allowed values, and that every index points at something.

A declarative table of the specification's section 5 (properties reference) with one small walker, instead of the 32
JSON schema files and a general validator: it is linear, gives our own codes and places, and knows what an index means.
What a document of the right shape means (cycles, bounds, values) is checked afterwards, and may then trust the shape.
Indices inside extensions are those of ``references.TABLE``, which renumbering uses too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloudbaker.compute.gltf.findings import Findings, pointer_key, quote
from cloudbaker.compute.gltf.limits import ContentLimits
from cloudbaker.compute.gltf.references import KNOWN, TABLE

Document = dict[str, Any]
Path = tuple[Any, ...]
"""A place as nested pairs ``(parent, key)``, ``()`` for the root: no text is made unless there is a finding."""

LARGEST = 1e300
"""Of any number in a checked property; beyond it, integers can't become doubles."""


def pointer(path: Path) -> str:
    """A path as a JSON pointer (RFC 6901)."""
    keys: list[str] = []
    while path:
        path, key = path
        keys.append(pointer_key(key))
    return "".join(f"/{key}" for key in reversed(keys))


class Kind:
    """What a value has to be."""

    def check(self, value: Any, path: Path, walk: _Walk) -> None:
        """Report to `walk` where `value` is something else."""
        raise NotImplementedError


@dataclass(slots=True)
class _Walk:
    sizes: Mapping[str, int]
    findings: Findings

    def wrong(self, path: Path, what: str, value: Any) -> None:
        self.findings.add("gltf.schema", pointer(path), f"should be {what}, is {quote(value)}")


@dataclass(frozen=True, slots=True)
class Test(Kind):
    """A plain value that passes a test."""

    what: str
    passes: Callable[[Any], bool]

    def check(self, value: Any, path: Path, walk: _Walk) -> None:
        """See `Kind`."""
        if not self.passes(value):
            walk.wrong(path, self.what, value)


@dataclass(frozen=True, slots=True)
class Ref(Kind):
    """An index into a collection: a key of the root, or the path of an extension's array (``KHR_x/lights``)."""

    collection: str

    def check(self, value: Any, path: Path, walk: _Walk) -> None:
        """See `Kind`."""
        size = walk.sizes.get(self.collection, 0)
        if type(value) is not int:
            walk.wrong(path, f"an index into {self.collection}", value)
        elif not 0 <= value < size:
            walk.findings.add(
                "gltf.reference",
                pointer(path),
                f"points at {self.collection}[{quote(value)}], of which there are {size}",
            )


@dataclass(frozen=True, slots=True)
class List(Kind):
    """An array of one kind, not shorter than `least`."""

    of: Kind
    least: int = 1

    def check(self, value: Any, path: Path, walk: _Walk) -> None:
        """See `Kind`."""
        if not isinstance(value, list):
            walk.wrong(path, "an array", value)
            return
        if len(value) < self.least:
            walk.wrong(path, f"an array of at least {self.least}", value)
        for at, item in enumerate(value):
            self.of.check(item, (path, at), walk)


@dataclass(frozen=True, slots=True)
class Map(Kind):
    """An object whose values are of one kind, of which there are `least` or more."""

    of: Kind
    least: int = 0

    def check(self, value: Any, path: Path, walk: _Walk) -> None:
        """See `Kind`."""
        if not isinstance(value, dict):
            walk.wrong(path, "an object", value)
            return
        if len(value) < self.least:
            walk.wrong(path, f"an object with at least {self.least} properties", value)
        for key, item in value.items():
            self.of.check(item, (path, key), walk)


@dataclass(frozen=True, slots=True)
class Object(Kind):
    """An object with known properties. Others are allowed: the format grows by new properties."""

    fields: Mapping[str, Kind] = field(default_factory=dict)
    required: Sequence[str] = ()
    rest: Kind | None = None
    """What the other properties have to be; None: anything."""

    def check(self, value: Any, path: Path, walk: _Walk) -> None:
        """See `Kind`."""
        if not isinstance(value, dict):
            walk.wrong(path, "an object", value)
            return
        for name in self.required:
            if name not in value:
                walk.findings.add("gltf.schema", pointer(path), f"the property {name!r} is missing")
        for name, item in value.items():
            kind = self.fields.get(name) or self.rest or _COMMON.get(name)
            if kind is not None:
                kind.check(item, (path, name), walk)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -LARGEST < value < LARGEST


def _numbers(*lengths: int) -> Test:
    def passes(value: Any) -> bool:
        return isinstance(value, list) and (not lengths or len(value) in lengths) and all(map(_is_number, value))

    return Test(f"an array of {' or '.join(map(str, lengths)) + ' ' if lengths else ''}numbers", passes)


def _one_of(*values: Any) -> Test:
    kinds = {type(value) for value in values}
    return Test("one of " + ", ".join(map(str, values)), lambda value: type(value) in kinds and value in values)


def _integer(least: int, most: int = 1 << 53) -> Test:
    what = f"an integer of {least} or more" if most == 1 << 53 else f"an integer from {least} to {most}"
    return Test(what, lambda value: type(value) is int and least <= value <= most)


NUMBER = Test("a number", _is_number)
TEXT = Test("a text", lambda value: isinstance(value, str))
FLAG = Test("true or false", lambda value: isinstance(value, bool))
UINT = _integer(0)
COMPONENTS = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}
"""Component type → bytes."""
TYPES = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
"""Accessor type → components."""

_EXTENSION = Test("an object", lambda value: isinstance(value, dict))
_COMMON: dict[str, Kind] = {"name": TEXT, "extensions": Map(_EXTENSION)}
_TEXTURE_INFO = Object(
    {"index": Ref("textures"), "texCoord": UINT, "scale": NUMBER, "strength": NUMBER}, required=("index",)
)
_ACCESSOR = Object(
    {
        "bufferView": Ref("bufferViews"),
        "byteOffset": UINT,
        "componentType": _one_of(*COMPONENTS),
        "normalized": FLAG,
        "count": _integer(1, (1 << 32) - 1),
        "type": _one_of(*TYPES),
        "max": _numbers(),
        "min": _numbers(),
        "sparse": Object(
            {
                "count": _integer(1, (1 << 32) - 1),
                "indices": Object(
                    {"bufferView": Ref("bufferViews"), "byteOffset": UINT, "componentType": _one_of(5121, 5123, 5125)},
                    required=("bufferView", "componentType"),
                ),
                "values": Object({"bufferView": Ref("bufferViews"), "byteOffset": UINT}, required=("bufferView",)),
            },
            required=("count", "indices", "values"),
        ),
    },
    required=("componentType", "count", "type"),
)
_ANIMATION = Object(
    {
        "channels": List(
            Object(
                {
                    "sampler": UINT,
                    "target": Object(
                        {
                            "node": Ref("nodes"),
                            "path": _one_of("translation", "rotation", "scale", "weights", "pointer"),
                        },
                        required=("path",),
                    ),
                },
                required=("sampler", "target"),
            )
        ),
        "samplers": List(
            Object(
                {
                    "input": Ref("accessors"),
                    "output": Ref("accessors"),
                    "interpolation": _one_of("LINEAR", "STEP", "CUBICSPLINE"),
                },
                required=("input", "output"),
            )
        ),
    },
    required=("channels", "samplers"),
)
_PROJECTION = Object(dict.fromkeys(("xmag", "ymag", "zfar", "znear", "aspectRatio", "yfov"), NUMBER))
_MATERIAL = Object(
    {
        "pbrMetallicRoughness": Object(
            {
                "baseColorFactor": _numbers(4),
                "baseColorTexture": _TEXTURE_INFO,
                "metallicFactor": NUMBER,
                "roughnessFactor": NUMBER,
                "metallicRoughnessTexture": _TEXTURE_INFO,
            }
        ),
        "normalTexture": _TEXTURE_INFO,
        "occlusionTexture": _TEXTURE_INFO,
        "emissiveTexture": _TEXTURE_INFO,
        "emissiveFactor": _numbers(3),
        "alphaMode": _one_of("OPAQUE", "MASK", "BLEND"),
        "alphaCutoff": NUMBER,
        "doubleSided": FLAG,
    }
)
_PRIMITIVE = Object(
    {
        "attributes": Map(Ref("accessors"), least=1),
        "indices": Ref("accessors"),
        "material": Ref("materials"),
        "mode": _integer(0, 6),
        "targets": List(Map(Ref("accessors"))),
        "extensions": Object(
            {
                "KHR_draco_mesh_compression": Object(
                    {"bufferView": Ref("bufferViews"), "attributes": Map(UINT)}, required=("bufferView", "attributes")
                )
            },
            rest=_EXTENSION,
        ),
    },
    required=("attributes",),
)
_MESHOPT = Object(
    {
        "buffer": Ref("buffers"),
        "byteOffset": UINT,
        "byteLength": _integer(1),
        "byteStride": _integer(1, 256),
        "count": _integer(1, (1 << 32) - 1),
        "mode": _one_of("ATTRIBUTES", "TRIANGLES", "INDICES"),
        "filter": _one_of("NONE", "OCTAHEDRAL", "QUATERNION", "EXPONENTIAL", "COLOR"),
    },
    required=("buffer", "byteLength", "byteStride", "count", "mode"),
)
ROOT = Object(
    {
        "asset": Object(
            dict.fromkeys(("version", "minVersion", "generator", "copyright"), TEXT), required=("version",)
        ),
        "extensionsUsed": List(TEXT, least=0),
        "extensionsRequired": List(TEXT, least=0),
        "scene": Ref("scenes"),
        "accessors": List(_ACCESSOR, least=0),
        "animations": List(_ANIMATION, least=0),
        "buffers": List(Object({"uri": TEXT, "byteLength": _integer(1)}, required=("byteLength",)), least=0),
        "bufferViews": List(
            Object(
                {
                    "buffer": Ref("buffers"),
                    "byteOffset": UINT,
                    "byteLength": _integer(1),
                    "byteStride": _integer(4, 252),
                    "target": _one_of(34962, 34963),
                    "extensions": Object(
                        {"EXT_meshopt_compression": _MESHOPT, "KHR_meshopt_compression": _MESHOPT}, rest=_EXTENSION
                    ),
                },
                required=("buffer", "byteLength"),
            ),
            least=0,
        ),
        "cameras": List(
            Object(
                {
                    "type": _one_of("perspective", "orthographic"),
                    "perspective": _PROJECTION,
                    "orthographic": _PROJECTION,
                },
                required=("type",),
            ),
            least=0,
        ),
        "images": List(Object({"uri": TEXT, "mimeType": TEXT, "bufferView": Ref("bufferViews")}), least=0),
        "materials": List(_MATERIAL, least=0),
        "meshes": List(
            Object({"primitives": List(_PRIMITIVE), "weights": _numbers()}, required=("primitives",)), least=0
        ),
        "nodes": List(
            Object(
                {
                    "camera": Ref("cameras"),
                    "children": List(Ref("nodes"), least=0),
                    "skin": Ref("skins"),
                    "matrix": _numbers(16),
                    "mesh": Ref("meshes"),
                    "rotation": _numbers(4),
                    "scale": _numbers(3),
                    "translation": _numbers(3),
                    "weights": _numbers(),
                    "extensions": Object(
                        {
                            "EXT_mesh_gpu_instancing": Object(
                                {"attributes": Map(Ref("accessors"))}, required=("attributes",)
                            )
                        },
                        rest=_EXTENSION,
                    ),
                }
            ),
            least=0,
        ),
        "samplers": List(Object(dict.fromkeys(("magFilter", "minFilter", "wrapS", "wrapT"), UINT)), least=0),
        "scenes": List(Object({"nodes": List(Ref("nodes"), least=0)}), least=0),
        "skins": List(
            Object(
                {
                    "inverseBindMatrices": Ref("accessors"),
                    "skeleton": Ref("nodes"),
                    "joints": List(Ref("nodes")),
                },
                required=("joints",),
            ),
            least=0,
        ),
        "textures": List(Object({"sampler": Ref("samplers"), "source": Ref("images")}), least=0),
    },
    required=("asset",),
)

EXTENSION_REFERENCES: tuple[tuple[str, str], ...] = (
    *((place, kind) for place, kind in TABLE if "extensions/" in place),
    # what is never renumbered, but has to be in range
    ("nodes/*/extensions/KHR_lights_punctual/light", "KHR_lights_punctual/lights"),
    ("scenes/*/extensions/EXT_lights_image_based/light", "EXT_lights_image_based/lights"),
    ("nodes/*/extensions/MSFT_lod/ids/*", "nodes"),
    (
        "meshes/*/primitives/*/extensions/KHR_materials_variants/mappings/*/variants/*",
        "KHR_materials_variants/variants",
    ),
)
_COLLECTIONS = ("KHR_lights_punctual/lights", "EXT_lights_image_based/lights", "KHR_materials_variants/variants")

SUPPORTED = KNOWN
"""Extensions that a model may require."""


def check_schema(document: Document, limits: ContentLimits, findings: Findings) -> None:
    """Check a parsed document's shape. If it adds no error, every property of the table may be used without a look."""
    if _too_many(document, limits, findings):
        return
    sizes = {name: len(items) for name, items in document.items() if isinstance(items, list)}
    for name in _COLLECTIONS:
        extension, key = name.split("/")
        found = [value for path, value in places(document, f"extensions/{extension}/{key}", None)]
        sizes[name] = len(found[0]) if found and isinstance(found[0], list) else 0
    walk = _Walk(sizes, findings)
    ROOT.check(document, (), walk)
    if findings.failed:
        return
    for place, collection in EXTENSION_REFERENCES:
        ref = Ref(collection)
        for path, value in places(document, place, walk):
            ref.check(value, path, walk)
    for number, material in enumerate(document.get("materials", ())):
        _texture_infos(material, (((), "materials"), number), walk)
    _version(document, findings)
    _extensions(document, findings)


def _too_many(document: Document, limits: ContentLimits, findings: Findings) -> bool:
    for name in ROOT.fields:
        items = document.get(name)
        most = limits.images if name in ("images", "textures", "samplers") else limits.items
        if isinstance(items, list) and len(items) > most:
            findings.add("gltf.too-many", f"/{name}", f"there are {len(items):,}, the limit is {most:,}")
    # Of these there is one array per mesh or animation: what counts is all of them.
    for name, inner in (("meshes", "primitives"), ("animations", "channels"), ("animations", "samplers")):
        total = sum(len(v) for _, v in places(document, f"{name}/*/{inner}", None) if isinstance(v, list))
        if total > limits.items:
            findings.add("gltf.too-many", f"/{name}", f"there are {total:,} {inner}, the limit is {limits.items:,}")
    return findings.failed


def places(value: Any, place: str, walk: _Walk | None) -> Iterator[tuple[Path, Any]]:
    """Every value at a place of the form ``nodes/*/extensions/X/light``, with its path; what is absent is passed over.

    What is no object or array on the way is reported to `walk`.
    """
    yield from _places(value, place.split("/"), (), walk)


def _places(value: Any, parts: list[str], path: Path, walk: _Walk | None) -> Iterator[tuple[Path, Any]]:
    if not parts:
        yield path, value
        return
    head, rest = parts[0], parts[1:]
    if head == "*" and isinstance(value, list):
        for at, item in enumerate(value):
            yield from _places(item, rest, (path, at), walk)
    elif head == "*" and isinstance(value, dict):
        for key, item in value.items():
            yield from _places(item, rest, (path, key), walk)
    elif isinstance(value, dict):
        if head in value:
            yield from _places(value[head], rest, (path, head), walk)
    elif walk is not None:
        walk.wrong(path, "an array or object" if head == "*" else "an object", value)


def _texture_infos(value: Any, path: Path, walk: _Walk) -> None:
    """Texture infos at any depth of a material: all material extensions write them alike."""
    for key, child in value.items():
        if key == "extras" or not isinstance(child, dict):
            continue
        if key.lower().endswith("texture") and "index" in child:
            Ref("textures").check(child["index"], ((path, key), "index"), walk)
        _texture_infos(child, (path, key), walk)


def _version(document: Document, findings: Findings) -> None:
    version = str(document["asset"]["version"])
    least = str(document["asset"].get("minVersion", "2.0"))
    if not version.startswith("2.") or least != "2.0":
        findings.add("gltf.version", "/asset", f"the model is glTF {quote(version)} (at least {quote(least)}), not 2.0")


def _extensions(document: Document, findings: Findings) -> None:
    used = set(document.get("extensionsUsed", ()))
    for at, name in enumerate(document.get("extensionsRequired", ())):
        place = f"/extensionsRequired/{at}"
        if name not in SUPPORTED:
            findings.add("gltf.unsupported-extension", place, f"the model requires {quote(name)}")
        if name not in used:
            findings.add("gltf.undeclared-extension", place, f"{quote(name)} is required, but not in extensionsUsed")
