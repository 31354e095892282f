"""Which images of a document may be encoded anew, for what they are used, and putting the new ones in.

Source: glTF 2.0 section 5.19 (colour textures are sRGB, all others linear data); EXT_texture_webp in the Khronos glTF
extension registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cloudbaker.compute.gltf.document import Bytes, Document
from cloudbaker.compute.gltf.references import WEBP, references, texture_infos
from cloudbaker.compute.textures.headers import image_header

ENCODABLE = ("image/png", "image/jpeg", "image/webp")

COLOR_SLOTS = frozenset(
    {
        "baseColorTexture",
        "emissiveTexture",
        "sheenColorTexture",
        "specularColorTexture",
        "diffuseTransmissionColorTexture",
        "multiscatterColorTexture",
        "diffuseTexture",
        "specularGlossinessTexture",
    }
)
"""Slots whose colours are sRGB. Everything else holds data."""
NORMAL_SLOTS = frozenset({"normalTexture", "clearcoatNormalTexture"})


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

    @property
    def slot_class(self) -> str:
        """``normal``, ``data`` or ``color``: the strictest of its slots."""
        if NORMAL_SLOTS & set(self.slots):
            return "normal"
        return "color" if set(self.slots) <= COLOR_SLOTS else "data"


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
            slots_of = tuple(sorted(uses[index]))
            found.append(ImageUse(index, image["bufferView"], header.mime, header.width, header.height, slots_of))
    return found


def replace_images(document: Document, images: Mapping[int, tuple[Bytes, str]]) -> None:
    """Put encoded images, {index: (bytes, media type)}, in the place of what was there.

    A texture whose image becomes WebP names it in EXT_texture_webp and in nothing else, as the extension asks where
    there is no fallback; the extension is then required.
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
        if mime != "image/webp":
            continue
        for texture in document.items("textures"):
            if texture.get("source") == index:
                del texture["source"]
                texture["extensions"] = {**texture.get("extensions", {}), WEBP: {"source": index}}
                document.declare(WEBP, required=True)
