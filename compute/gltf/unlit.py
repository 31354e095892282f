"""Materials that show their colour as it is, without light: KHR_materials_unlit.

For scans with their light baked in, for icons and for maps; and the cheapest material that a phone can draw.

Source: KHR_materials_unlit in the Khronos glTF extension registry, with the fallback that it recommends for viewers
that don't know it (not metallic, rough).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.references import DRACO, POINTER, SPEC_GLOSS, Json, pointers

UNLIT = "KHR_materials_unlit"
_ROUGHNESS = 0.9
_LIT = ("normalTexture", "occlusionTexture", "emissiveTexture", "emissiveFactor")


@dataclass(frozen=True, slots=True)
class UnlitOptions:
    """Which materials, and what they show."""

    names: tuple[str, ...] = ()
    """Names of materials; none: all of them."""
    color: Literal["base", "emissive"] = "base"
    """What becomes the colour: some scanners write it as emission. A material that emits nothing shows its base."""
    keep_normals: bool = True
    """Unlit surfaces need no normals, but a viewer that replaces the material does. Draco's payloads keep theirs."""


def unlit(document: Document, options: UnlitOptions = UnlitOptions()) -> int:
    """Make materials unlit, in place; how many. Textures that only light had a use for lose their users.

    Materials that KHR_animation_pointer moves in what would be lost stay lit. Primitives without a material stay as
    they are.

    >>> unlit(document, UnlitOptions(names=("sky",)))         # doctest: +SKIP
    1
    """
    moved = _animated(document)
    done: set[int] = set()
    for index, material in enumerate(document.items("materials")):
        if options.names and material.get("name") not in options.names:
            continue
        if UNLIT in material.get("extensions", {}) or index in moved:
            continue
        _make_unlit(material, options.color)
        done.add(index)
    if done:
        document.declare(UNLIT)
        _undeclare_unused(document)
    if not options.keep_normals:
        _drop_normals(document)
    return len(done)


def _animated(document: Document) -> set[int]:
    """Materials of which more than the base colour is animated."""
    found = set()
    for extension, kind, index in pointers(document.json):
        rest = POINTER.sub("", extension["pointer"], count=1)
        if kind == "materials" and not rest.startswith(("/pbrMetallicRoughness/baseColor", "/alphaCutoff")):
            found.add(index)
    return found


def _make_unlit(material: Json, source: str) -> None:
    pbr = material.get("pbrMetallicRoughness", {})
    old = material.get("extensions", {})
    glossy = old.get(SPEC_GLOSS)
    kept = {k: v for k, v in pbr.items() if k in ("baseColorFactor", "baseColorTexture", "extras", "extensions")}
    if glossy is not None:
        pairs = (("baseColorFactor", "diffuseFactor"), ("baseColorTexture", "diffuseTexture"))
        kept = {to: glossy[key] for to, key in pairs if key in glossy}
    if source == "emissive" and any(material.get("emissiveFactor", (0, 0, 0))):
        strength = old.get("KHR_materials_emissive_strength", {}).get("emissiveStrength", 1.0)
        alpha = kept.get("baseColorFactor", (1, 1, 1, 1))[3]
        kept["baseColorFactor"] = [*(min(1.0, value * strength) for value in material["emissiveFactor"]), alpha]
        kept.pop("baseColorTexture", None)
        if "emissiveTexture" in material:
            kept["baseColorTexture"] = material["emissiveTexture"]
    material["pbrMetallicRoughness"] = {**kept, "metallicFactor": 0, "roughnessFactor": _ROUGHNESS}
    for key in _LIT:
        material.pop(key, None)
    # Lists of other materials (MSFT_lod) and what nobody knows stay; what describes how light meets the surface goes.
    others = {k: v for k, v in old.items() if not k.startswith(("KHR_materials_", "ADOBE_materials_"))}
    material["extensions"] = {**others, UNLIT: {}}


def _undeclare_unused(document: Document) -> None:
    used = {name for material in document.items("materials") for name in material.get("extensions", ())}
    declared = document.json.get("extensionsUsed", ())
    gone = [n for n in declared if n.startswith(("KHR_materials_", "ADOBE_materials_")) and n not in used]
    document.undeclare(*(name for name in gone if name != "KHR_materials_variants"))


def _drop_normals(document: Document) -> None:
    materials = document.items("materials")
    for mesh in document.items("meshes"):
        for primitive in mesh["primitives"]:
            variants = primitive.get("extensions", {}).get("KHR_materials_variants", {}).get("mappings", ())
            shown = [primitive.get("material"), *(mapping.get("material") for mapping in variants)]
            if any(index is None or UNLIT not in materials[index].get("extensions", {}) for index in shown):
                continue
            if DRACO in primitive.get("extensions", {}):
                continue
            for attributes in (primitive["attributes"], *primitive.get("targets", ())):
                for name in ("NORMAL", "TANGENT"):
                    attributes.pop(name, None)
            targets = primitive.get("targets", ())
            if any(not target for target in targets):  # weights count targets, so an empty one can't just go
                primitive["targets"] = [target or {"POSITION": _zeros(document, primitive)} for target in targets]


def _zeros(document: Document, primitive: Json) -> int:
    """An accessor without data: zeros, by the specification (3.6.2)."""
    count = document.items("accessors")[primitive["attributes"]["POSITION"]]["count"]
    zero = {"componentType": 5126, "count": count, "type": "VEC3", "min": [0, 0, 0], "max": [0, 0, 0]}
    return document.append_accessor(zero)
