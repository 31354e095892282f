"""Which texture gets what: from where a material uses it to how it may be stored.

What a slot holds decides three things: how an image is filtered and measured (its class), whether its colours are sRGB,
and which formats may hold it. A recipe names a format for all, and another one for a class where it wants.

    slot                                            class    sRGB
    baseColor, emissive, sheenColor, specularColor … color    yes
    normal, clearcoatNormal                         normal   no
    metallicRoughness, occlusion, transmission,
    thickness, clearcoat, iridescence, anisotropy … data     no

Sources: glTF 2.0, 5.19 to 5.22; the material extensions of the Khronos registry; KHR_texture_basisu (its colour space
has to be that of the slot).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cloudbaker.compute.textures.prepare import SlotClass

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
ALPHA_SLOTS = frozenset({"sheenRoughnessTexture", "specularTexture", "diffuseTransmissionTexture"})
"""Slots that read alpha alone, which is linear in any image: often the alpha of their own colours."""

BLOCK = 4
"""Sides of a KTX2 in glTF are multiples of it (KHR_texture_basisu)."""

FORMATS: dict[str, dict[SlotClass, str]] = {
    "ktx2": {"color": "ktx2-uastc", "normal": "ktx2-uastc", "data": "ktx2-uastc"},
    "webp": {"color": "webp", "normal": "webp", "data": "webp"},
    "avif": {"color": "avif", "normal": "webp", "data": "webp"},
}
"""What a recipe's ``textures.format`` means for each class; see docs/decisions/024."""
SMALLER: dict[str, dict[SlotClass, str]] = {"ktx2": {"color": "ktx2-etc1s"}}
"""What takes its place where it would be larger than the source, and the program for it is installed."""
COLOR_FLOOR_DB = 32.0
"""PSNR under which ETC1S is too poor."""


def slot_class(slots: Iterable[str]) -> SlotClass:
    """The strictest class of several slots that share an image.

    >>> slot_class(["baseColorTexture", "occlusionTexture"])
    'data'
    """
    names = set(slots)
    if NORMAL_SLOTS & names:
        return "normal"
    return "color" if names <= COLOR_SLOTS else "data"


def is_srgb(slots: Iterable[str]) -> bool | None:
    """Whether the colours of an image in these slots are sRGB; None where they are in one slot and not in another."""
    names = set(slots) - ALPHA_SLOTS
    if names and names <= COLOR_SLOTS:
        return True
    return None if names & COLOR_SLOTS else False


def plan(image: Mapping[str, Any], textures: Mapping[str, Any]) -> dict[str, Any]:
    """Params of ``encode_job`` for an image, a row of ``unpack_job``, by the ``textures`` of a recipe; and ``smaller``,
    a format to try where what comes of these is larger than the source.

    KTX2 says once for the whole file what its colours are, and can't hold an image that is colour in one slot and data
    in another; nor one that has less than a block on a side. Such an image becomes WebP.
    """
    kind: SlotClass = image["slot_class"]
    wanted = (textures.get("slots") or {}).get(kind) or FORMATS.get(textures["format"], {}).get(kind, "keep")
    params = {
        "slot_class": kind,
        "format": wanted,
        "max_size": textures["max_size"],
        "quality": textures["quality"],
        "level": textures["level"],
        "min_psnr": textures["min_psnr"],
        "max_angle": textures["max_angle"],
        "fallback": textures["fallback"],
    }
    if not wanted.startswith("ktx2"):
        return params
    srgb = is_srgb(image["slots"])
    if srgb is None or min(image["width"], image["height"]) < BLOCK:
        return {**params, "format": "webp"}
    if wanted == "ktx2-uastc" and textures.get("rdo"):
        params["rdo"] = textures["rdo"]
    params |= {
        "srgb": srgb,
        "mips": textures["mips"] and image["mips"],
        "alpha_coverage": image["alpha_cutoff"],
        "instead": "webp",
    }
    smaller = SMALLER.get(textures["format"], {}).get(kind)
    return {**params, "smaller": smaller} if smaller and not (textures.get("slots") or {}).get(kind) else params


def formats(textures: Mapping[str, Any]) -> set[str]:
    """Every format that a recipe's ``textures`` may have an image stored in.

    >>> sorted(formats({"format": "ktx2", "slots": {"data": "keep"}}))
    ['keep', 'ktx2-etc1s', 'ktx2-uastc', 'webp']
    """
    named = {kind: name for kind, name in (textures.get("slots") or {}).items() if name}
    tables = (FORMATS, SMALLER) if textures["format"] in FORMATS else ()
    meant = {name for table in tables for kind, name in table.get(textures["format"], {}).items() if kind not in named}
    used = meant | set(named.values())
    return used | {"webp"} if any(name.startswith("ktx2") for name in used) else used


def gpu_bytes(width: int, height: int) -> int:
    """What an image of plain pixels takes in a GPU's memory: four bytes a texel, with the mipmaps that are made there.

    >>> gpu_bytes(2, 2)
    20
    """
    total = 0
    while True:
        total += 4 * width * height
        if width == height == 1:
            return total
        width, height = max(1, width // 2), max(1, height // 2)
