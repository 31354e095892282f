"""Which images of a document may be encoded anew, for what they are used, and putting the new ones in.

Source: glTF 2.0 section 5.19 (colour textures are sRGB, all others linear data); EXT_texture_webp, EXT_texture_avif and
KHR_texture_basisu in the Khronos glTF extension registry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cloudbaker.compute.gltf.document import Bytes, Document
from cloudbaker.compute.gltf.references import IMAGE_FORMATS, WEBP, references, texture_infos
from cloudbaker.compute.textures.headers import image_header
from cloudbaker.compute.textures.prepare import SlotClass
from cloudbaker.compute.textures.slots import slot_class

ENCODABLE = ("image/png", "image/jpeg", "image/webp")

_NO_MIPMAPS = (9728, 9729)
"""NEAREST and LINEAR as minFilter: the smaller levels are never looked at."""


@dataclass(frozen=True, slots=True)
class ImageUse:
    """An image that may be encoded anew."""

    index: int
    view: int
    mime: str
    width: int
    height: int
    slots: tuple[str, ...]
    """Where materials use it, sorted: ``baseColorTexture`` …"""
    mips: bool = True
    """Whether any sampler looks at its mipmaps."""
    alpha_cutoff: float | None = None
    """Of cut-outs (alphaMode MASK): the alpha in the image above which it is solid, where all materials agree on it."""

    @property
    def slot_class(self) -> SlotClass:
        """``normal``, ``data`` or ``color``: the strictest of its slots."""
        return slot_class(self.slots)


def encodable_images(document: Document) -> list[ImageUse]:
    """The images that materials and nothing else use, in a format that can be encoded anew.

    Left as they are: KTX2, fallbacks beside another format, images of environment maps, and textures that an extension
    reads numbers from (feature ids, property tables): there a changed texel is a wrong number.
    """
    slots: dict[int, set[str]] = {}
    for material in document.items("materials"):
        for slot, info in texture_infos(material):
            slots.setdefault(info["index"], set()).add(slot)
    materials = {id(info) for material in document.items("materials") for _, info in texture_infos(material)}
    numbers = {h[key] for h, key, _ in references(document.json, "textures") if id(h) not in materials}
    uses: dict[int, set[str]] = {}
    textures_of: dict[int, list[int]] = {}
    refused: set[int] = set()
    for number, texture in enumerate(document.items("textures")):
        formats = {name: e["source"] for name, e in texture.get("extensions", {}).items() if "source" in (e or {})}
        image = formats.get(WEBP, texture.get("source"))
        others = ({texture["source"]} if "source" in texture else set()) | set(formats.values())
        if image is None or number in numbers or number not in slots or set(formats) - {WEBP}:
            refused |= others
            continue
        refused |= others - {image}
        uses.setdefault(image, set()).update(slots[number])
        textures_of.setdefault(image, []).append(number)
    textures = {id(t) for t in document.items("textures")}
    textures |= {id(e) for t in document.items("textures") for e in t.get("extensions", {}).values()}
    refused |= {h[key] for h, key, _ in references(document.json, "images") if id(h) not in textures}
    found = []
    for index in sorted(uses.keys() - refused):
        image = document.items("images")[index]
        if "bufferView" not in image or image.get("extensions"):
            continue
        try:
            header = image_header(document.view(image["bufferView"]))
        except ValueError:
            continue  # the validation has said so; it is carried as it is
        if header.mime in ENCODABLE:
            found.append(
                ImageUse(
                    index,
                    image["bufferView"],
                    header.mime,
                    header.width,
                    header.height,
                    tuple(sorted(uses[index])),
                    any(_has_mipmaps(document, document.items("textures")[n]) for n in textures_of[index]),
                    _alpha_cutoff(document, textures_of[index]),
                )
            )
    return found


def _has_mipmaps(document: Document, texture: Mapping[str, Any]) -> bool:
    sampler = document.items("samplers")[texture["sampler"]] if "sampler" in texture else {}
    return sampler.get("minFilter") not in _NO_MIPMAPS


def _alpha_cutoff(document: Document, textures: Iterable[int]) -> float | None:
    """What alpha has to exceed in an image, if all materials that show its alpha cut it off there."""
    cutoffs: set[float | None] = set()
    for material in document.items("materials"):
        base = material.get("pbrMetallicRoughness", {})
        if base.get("baseColorTexture", {}).get("index") not in textures:
            continue
        alpha = float(base.get("baseColorFactor", (1, 1, 1, 1))[3])
        masked = material.get("alphaMode", "OPAQUE") == "MASK" and alpha > 0
        cutoffs.add(material.get("alphaCutoff", 0.5) / alpha if masked else None)
    cutoff = cutoffs.pop() if len(cutoffs) == 1 else None
    return cutoff if cutoff is not None and 0 < cutoff < 1 else None


def replace_images(
    document: Document,
    images: Mapping[int, tuple[Bytes, str]],
    fallbacks: Mapping[int, tuple[Bytes, str]] | None = None,
) -> None:
    """Put encoded images, {index: (bytes, media type)}, in the place of what was there.

    A texture whose image becomes WebP, AVIF or KTX2 names it in that format's extension and in nothing else, as the
    extensions ask where there is no fallback; the extension is then required. `fallbacks` of the same form, in PNG or
    JPEG, become images of their own behind the others, which such a texture names beside it; nothing is required then.
    """
    users: dict[int, int] = {}
    for holder, key, _ in references(document.json, "bufferViews"):
        users[holder[key]] = users.get(holder[key], 0) + 1
    for index, (content, mime) in images.items():
        image = document.items("images")[index]
        if users[image["bufferView"]] == 1:
            document.set_view(image["bufferView"], content)
        else:
            users[image["bufferView"]] -= 1
            image["bufferView"] = document.add_view(content)
        image["mimeType"] = mime
    beside = {index: _add_image(document, index, *content) for index, content in (fallbacks or {}).items()}
    for texture in document.items("textures"):
        _name_images(document, texture, {index: mime for index, (_, mime) in images.items()}, beside)
    used = {name for texture in document.items("textures") for name in texture.get("extensions", {})}
    document.undeclare(*(name for name in IMAGE_FORMATS.values() if name not in used))


def _add_image(document: Document, like: int, content: Bytes, mime: str) -> int:
    image = {"bufferView": document.add_view(content), "mimeType": mime}
    if "name" in (original := document.items("images")[like]):
        image["name"] = original["name"]
    document.items("images").append(image)
    return len(document.items("images")) - 1


def _name_images(
    document: Document, texture: dict[str, Any], mimes: Mapping[int, str], beside: Mapping[int, int]
) -> None:
    """Have a texture name its new image where its format belongs."""
    extensions = texture.get("extensions", {})
    sources = [texture.get("source"), *(extensions.get(name, {}).get("source") for name in IMAGE_FORMATS.values())]
    index = next((source for source in sources if source in mimes), None)
    if index is None:
        return
    kept = {n: e for n, e in extensions.items() if not (n in IMAGE_FORMATS.values() and e.get("source") == index)}
    if texture.get("source") == index:
        del texture["source"]
    extension = IMAGE_FORMATS.get(mimes[index])
    if extension is None:
        texture["source"] = index
    else:
        kept[extension] = {"source": index}
        if index in beside:
            texture["source"] = beside[index]
        document.declare(extension, required="source" not in texture)
    texture.pop("extensions", None)
    if kept:
        texture["extensions"] = kept
