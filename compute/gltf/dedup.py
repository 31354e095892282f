"""Merge what is equal: accessors, images, samplers, textures, materials, meshes, and animation samplers.

Name, extras and extensions are part of what a thing is, so two materials that differ in their names stay two and no
name is lost, unless the options say that names don't count. What KHR_animation_pointer animates stays itself, however
equal it is at rest. Materials that differ in a colour stay as many as they are: no palette texture is made for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from cloudbaker.canonical import canonical_json
from cloudbaker.compute.gltf.defaults import without_defaults
from cloudbaker.compute.gltf.document import Document, DocumentError, compression
from cloudbaker.compute.gltf.prune import FREE, Reserved
from cloudbaker.compute.gltf.references import Json, pointers, references, unknown_extensions
from cloudbaker.compute.textures.decode import READABLE, decode_image
from cloudbaker.compute.textures.headers import image_header

_STORAGE = frozenset({"bufferView", "byteOffset", "uri"})
_TOLD = frozenset({"name", "extras"})
MAX_PIXELS = 64 << 20


@dataclass(frozen=True, slots=True)
class DedupOptions:
    """What makes two things different."""

    names: bool = True
    """Names and extras do. Without, exporters' copies are merged too (``Metal.001`` of ``Metal``): the first name
    stays, the others are losses, and what is looked up by them is not found any more."""
    pixels: bool = False
    """Images of one type are equal if their pixels are, however they were stored; the smallest file is kept. Every
    image that has another's size is decoded for that."""


def dedup(document: Document, reserved: Reserved = FREE, options: DedupOptions = DedupOptions()) -> None:
    """Merge equal items in place; the first of several stays. Does nothing on a pinned document (see `prune`)."""
    if reserved.pinned:
        return
    told = frozenset() if options.names else _TOLD
    uses = usage(document)
    _merge(document, "accessors", lambda i, item: _accessor_key(document, i, item, uses[i], told))
    if options.pixels:
        _same_pixels(document)
    _merge(document, "images", lambda i, item: _image_key(document, item, told))
    for kind in ("samplers", "textures", "materials", "meshes"):
        _merge(document, kind, _meaning(kind, told))
    _merge_animation_samplers(document)


def _meaning(kind: str, told: frozenset[str]) -> Callable[[int, Json], bytes]:
    """The key of an item by what it says, whether or not it says what goes without saying."""
    return lambda _, item: canonical_json(_without(without_defaults(kind, item), told))


def _without(item: Json, keys: frozenset[str]) -> Json:
    return {key: value for key, value in item.items() if key not in keys}


def _same_pixels(document: Document) -> None:
    """Give images of the same type and pixels the bytes of the smallest of them."""
    sizes: dict[tuple[str, int, int], list[Json]] = {}
    for image in document.items("images"):
        if "bufferView" in image:
            try:
                header = image_header(document.view(image["bufferView"]))
            except ValueError:
                continue  # the validation has said so; it is carried as it is
            sizes.setdefault((header.mime, header.width, header.height), []).append(image)
    for (mime, width, height), images in sizes.items():
        if len({image["bufferView"] for image in images}) < 2 or mime not in READABLE or width * height > MAX_PIXELS:
            continue
        smallest: dict[bytes, int] = {}
        keys = []
        for image in images:
            data = document.view(image["bufferView"])
            try:
                pixels = decode_image(data, image_header(data))
            except ValueError:
                keys.append(b"")
                continue
            keys.append(hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).digest())
            best = smallest.setdefault(keys[-1], image["bufferView"])
            if len(data) < len(document.view(best)):
                smallest[keys[-1]] = image["bufferView"]
        for image, key in zip(images, keys, strict=True):
            if key:
                image["bufferView"] = smallest[key]


def _merge_animation_samplers(document: Document) -> None:
    """Channels of one animation that follow the same curve share its sampler; samplers have no number elsewhere."""
    for animation in document.items("animations"):
        first: dict[bytes, int] = {}
        new = [first.setdefault(canonical_json(sampler), len(first)) for sampler in animation.get("samplers", ())]
        if len(first) < len(new):
            kept = {to: old for old, to in reversed(list(enumerate(new)))}
            animation["samplers"] = [animation["samplers"][kept[to]] for to in range(len(first))]
            for channel in animation["channels"]:
                channel["sampler"] = new[channel["sampler"]]


def _merge(document: Document, kind: str, key: Callable[[int, Json], bytes | None]) -> None:
    animated = {index for _, pointed, index in pointers(document.json) if pointed == kind}
    first: dict[bytes, int] = {}
    new: list[int] = []
    count = 0
    for index, item in enumerate(document.items(kind)):
        identity = None if index in animated else key(index, item)
        to = first.setdefault(identity, count) if identity is not None else count
        new.append(to)
        count += to == count
    if count < len(new):
        document.remap(kind, new, count)


def _accessor_key(document: Document, index: int, accessor: Json, use: str, told: frozenset[str]) -> bytes | None:
    view = accessor.get("bufferView")
    # Without a view the data lie in a Draco payload; in a compressed one they would have to be unpacked to be compared.
    if view is None or "sparse" in accessor or compression(document.items("bufferViews")[view]):
        return None
    described = _without(accessor, _STORAGE | told)
    return canonical_json({**described, "use": use}) + content_hash(document, index)


def _image_key(document: Document, image: Json, told: frozenset[str]) -> bytes | None:
    if "bufferView" not in image:
        return None
    described = _without(image, _STORAGE | told)
    return canonical_json(described) + hashlib.sha256(document.view(image["bufferView"])).digest()


def content_hash(document: Document, index: int) -> bytes:
    """SHA-256 of an accessor's elements, as bytes without padding."""
    return hashlib.sha256(document.accessor(index).tobytes()).digest()


def usage(document: Document) -> list[str]:
    """What each accessor is for: ``vertex``, ``index``, ``skin``, ``other`` (animations …), ``mixed`` or ``none``.

    The specification has different rules for each (only vertex attributes may share a view with a stride), and the
    validator wants views that hold inverse bind matrices to hold nothing else.
    """
    uses = ["none"] * len(document.items("accessors"))

    def use(index: int, what: str) -> None:
        if 0 <= index < len(uses):
            uses[index] = what if uses[index] in ("none", what) else "mixed"

    geometry: set[int] = set()
    for mesh in document.items("meshes"):
        for primitive in mesh.get("primitives", ()):
            for attributes in (primitive.get("attributes", {}), *primitive.get("targets", ())):
                geometry.add(id(attributes))
                for index in attributes.values():
                    use(index, "vertex")
            geometry.add(id(primitive))
            if "indices" in primitive:
                use(primitive["indices"], "index")
    skins = {id(skin) for skin in document.items("skins")}
    for holder, key, _ in references(document.json, "accessors"):
        if id(holder) not in geometry:
            use(holder[key], "skin" if id(holder) in skins else "other")
    return uses


def opaque(document: Document, index: int) -> bool:
    """Whether an accessor or its view carries an extension that may give its bytes a meaning unknown to us."""
    accessor = document.items("accessors")[index]
    view = accessor.get("bufferView")
    views = document.items("bufferViews")
    if view is not None and not 0 <= view < len(views):
        raise DocumentError(f"/bufferViews/{view}", "does not exist")
    return bool(unknown_extensions(accessor) or (view is not None and unknown_extensions(views[view])))
