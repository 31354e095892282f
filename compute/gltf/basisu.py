"""KTX2 images of a document: sound files, and of the kinds that KHR_texture_basisu allows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cloudbaker.compute.gltf.findings import Findings
from cloudbaker.compute.gltf.limits import ContentLimits
from cloudbaker.compute.gltf.references import BASISU, texture_infos
from cloudbaker.compute.textures.ktx2 import Ktx2, Ktx2Error, read_ktx2
from cloudbaker.compute.textures.slots import BLOCK, is_srgb

Document = dict[str, Any]

_ODD = frozenset({"ktx2.descriptor", "ktx2.metadata", "ktx2.unsupported"})
"""What a reader may be lenient about: it endangers nobody, and older exporters wrote such files."""


def check_ktx2(
    document: Document, number: int, data: memoryview, limits: ContentLimits, findings: Findings
) -> Ktx2 | None:
    """Check the KTX2 of image `number` of a document that has passed `check_layout`; the file, if it can be read.

    It is inflated, within what its size in texels allows: a browser would.
    """
    place = f"/images/{number}"
    try:
        texture = read_ktx2(data, max_pixels=limits.image_pixels)
    except Ktx2Error as error:
        findings.add("image.ktx2-odd" if error.code in _ODD else "image.ktx2-invalid", place, str(error))
        return None
    slots = _slots(document, number)
    for what in _deviations(texture, is_srgb(slots) if slots else None):
        findings.add("image.ktx2-odd", place, what)
    return texture


def _deviations(texture: Ktx2, srgb: bool | None) -> Iterator[str]:
    """What KHR_texture_basisu does not allow of a file. `srgb`: what the slots want, None where they disagree."""
    if texture.codec.name not in ("uastc", "etc1s"):
        yield f"{texture.codec.name} is neither UASTC nor ETC1S: viewers that know {BASISU} need not show it"
    if texture.width % BLOCK or texture.height % BLOCK:
        yield f"{texture.width} × {texture.height} texels are no multiples of {BLOCK}, which some GPUs need"
    if texture.layers or texture.faces != 1:
        yield "it is an array or a cube map, which a material can't show"
    if texture.premultiplied:
        yield "its colours are premultiplied by alpha, which materials don't expect"
    if texture.metadata.get("KTXorientation", b"rd").rstrip(b"\0") != b"rd":
        yield "its first row is not the top one"
    if texture.metadata.get("KTXswizzle", b"rgba").rstrip(b"\0") != b"rgba":
        yield "its channels are swizzled"
    if srgb is not None and texture.srgb is not srgb:
        yield f"its colours are marked {'sRGB' if texture.srgb else 'linear'}, materials read them the other way"


def _slots(document: Document, number: int) -> set[str]:
    """Slots of the materials that show an image through the extension."""
    textures = {
        index
        for index, texture in enumerate(document.get("textures", ()))
        if texture.get("extensions", {}).get(BASISU, {}).get("source") == number
    }
    return {
        slot
        for material in document.get("materials", ())
        for slot, info in texture_infos(material)
        if info["index"] in textures
    }
