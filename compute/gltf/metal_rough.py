"""Materials of the specular-glossiness workflow as metallic-roughness ones, their textures included.

KHR_materials_pbrSpecularGlossiness is archived: three.js has dropped it, and a viewer that does not know it shows white
plastic. There are two ways out:

- ``specular``: the conversion that KHR_materials_specular gives, with KHR_materials_ior (index of refraction 0) so that
  its colour is all of the reflection. Diffuse and specular colours stay as they were, roughness is rounded to 8 bits.
  How a viewer shares energy between the two at grazing angles is its own business, before as after.
- ``metallic``: core glTF alone. The amount of metal is solved for, texel by texel, so that brightness of diffuse and
  specular are met; what no metal or dielectric can be (a coloured reflection over a coloured ground) is approximated.

Sources: KHR_materials_pbrSpecularGlossiness, KHR_materials_specular ("Conversions") and KHR_materials_ior in the
Khronos glTF extension registry; for ``metallic`` the formulas of the first one's ``convert-between-workflows``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.pixels import ImageFormat, TextureWork, Unreadable, placement, same_size
from cloudbaker.compute.gltf.references import SPEC_GLOSS, Json, pointers
from cloudbaker.compute.textures.measure import Pixels

Floats = npt.NDArray[np.float64]

SPECULAR, IOR = "KHR_materials_specular", "KHR_materials_ior"
DIELECTRIC = 0.04
"""What every dielectric of core glTF reflects head on (section 3.9.2: index of refraction 1.5)."""
_BRIGHTNESS = np.array([0.299, 0.587, 0.114])
_ROWS = 256
"""Rows at a time: the solver holds a dozen floats per texel."""


@dataclass(frozen=True, slots=True)
class MetalRoughOptions:
    """How to convert."""

    method: Literal["specular", "metallic"] = "specular"
    """``specular`` keeps both colours and needs KHR_materials_specular of the viewer; ``metallic`` is core glTF."""
    format: ImageFormat = "png"
    """Of new images, which are lossless."""


@dataclass(frozen=True, slots=True)
class Converted:
    """What came of it."""

    materials: int = 0
    """That are metallic-roughness now."""
    textures: int = 0
    """Made for them."""
    notes: tuple[str, ...] = ()
    """Materials that stay as they were, and why."""


def metal_rough(document: Document, options: MetalRoughOptions = MetalRoughOptions()) -> Converted:
    """Convert every specular-glossiness material, in place.

    A metallic-roughness fallback that such a material may have is replaced. A texture whose pixels can't be had (KTX2,
    a damaged image), or a material that KHR_animation_pointer moves there, leaves its material as it was, with a note.

    >>> metal_rough(document)                                                     # doctest: +SKIP
    Converted(materials=1, textures=1, notes=())
    """
    animated = {
        index
        for extension, kind, index in pointers(document.json)
        if kind == "materials" and f"/{SPEC_GLOSS}/" in extension["pointer"]
    }
    work = TextureWork(document, format=options.format)
    convert = _exact if options.method == "specular" else _solved
    before, done, notes = len(document.items("textures")), 0, []
    for index, material in enumerate(document.items("materials")):
        glossy = material.get("extensions", {}).get(SPEC_GLOSS)
        if glossy is None:
            continue
        if index in animated:
            notes.append(f"/materials/{index}: an animation moves its {SPEC_GLOSS}")
            continue
        try:
            pbr, extensions = convert(work, glossy)
        except Unreadable as error:
            notes.append(f"/materials/{index}: {error}")
            continue
        material["pbrMetallicRoughness"] = pbr
        kept = {name: value for name, value in material["extensions"].items() if name != SPEC_GLOSS}
        material["extensions"] = {**kept, **extensions}
        if not material["extensions"]:
            del material["extensions"]
        for name in extensions:
            document.declare(name)
        done += 1
    if done and not any(SPEC_GLOSS in m.get("extensions", ()) for m in document.items("materials")):
        document.undeclare(SPEC_GLOSS)
    return Converted(done, len(document.items("textures")) - before, tuple(notes))


_Result = tuple[Json, dict[str, Json]]
"""``pbrMetallicRoughness``, and the extensions beside it."""


def _exact(work: TextureWork, glossy: Json) -> _Result:
    gloss = float(glossy.get("glossinessFactor", 1))
    pbr: Json = {}
    if "diffuseFactor" in glossy:
        pbr["baseColorFactor"] = glossy["diffuseFactor"]
    if "diffuseTexture" in glossy:
        pbr["baseColorTexture"] = glossy["diffuseTexture"]
    pbr["metallicFactor"] = 0
    specular: Json = {}
    if "specularFactor" in glossy:
        specular["specularColorFactor"] = glossy["specularFactor"]
    info = glossy.get("specularGlossinessTexture")
    if info is None:
        pbr["roughnessFactor"] = _number(1 - gloss)
        return pbr, {SPECULAR: specular, IOR: {"ior": 0}}
    old = info["index"]
    pixels = work.pixels(old)
    if pixels.shape[2] == 3:  # glossy all over: the image holds only the colour
        pbr["roughnessFactor"] = _number(1 - gloss)
        specular["specularColorTexture"] = info
        return pbr, {SPECULAR: specular, IOR: {"ior": 0}}
    image = work.image(old)
    colour = work.make(("specular", old, image), old, "", lambda: pixels[..., :3])
    rough = work.make(("rough", old, image, gloss), old, "roughness", lambda: _roughness(pixels, gloss))
    pbr["metallicRoughnessTexture"] = {**info, "index": rough}
    specular["specularColorTexture"] = {**info, "index": colour}
    return pbr, {SPECULAR: specular, IOR: {"ior": 0}}


def _roughness(pixels: Pixels, gloss: float) -> Pixels:
    """Roughness in G, as metallicRoughnessTexture wants it; metal (B) is 0 by its factor."""
    out = np.zeros((*pixels.shape[:2], 3), np.uint8)
    out[..., 1] = np.rint(255 - pixels[..., 3] * gloss)
    return out


def _solved(work: TextureWork, glossy: Json) -> _Result:
    diffuse_factor = np.array(glossy.get("diffuseFactor", (1, 1, 1, 1)), np.float64)
    specular_factor = np.array(glossy.get("specularFactor", (1, 1, 1)), np.float64)
    gloss = float(glossy.get("glossinessFactor", 1))
    diffuse_info, glossy_info = glossy.get("diffuseTexture"), glossy.get("specularGlossinessTexture")
    info = diffuse_info or glossy_info
    if info is None:
        base, metal = solve(diffuse_factor[:3], specular_factor)
        return {
            "baseColorFactor": [*map(_number, base), _number(diffuse_factor[3])],
            "metallicFactor": _number(metal),
            "roughnessFactor": _number(1 - gloss),
        }, {}
    if diffuse_info and glossy_info and placement(diffuse_info) != placement(glossy_info):
        raise Unreadable("its two textures lie differently on the surface; method specular can keep both")
    white = np.full((1, 1, 4), 255, np.uint8)
    diffuse = work.pixels(diffuse_info["index"]) if diffuse_info else white
    shiny = work.pixels(glossy_info["index"]) if glossy_info else white
    diffuse, shiny = same_size(diffuse, shiny, slots=("color", "color"))
    key = tuple(work.image(i["index"]) if i else -1 for i in (diffuse_info, glossy_info))
    factors = (*diffuse_factor[:3], *specular_factor, gloss)
    made: list[tuple[Pixels, Pixels]] = []

    def pair() -> tuple[Pixels, Pixels]:
        if not made:
            made.append(_texels(diffuse, shiny, diffuse_factor, specular_factor, gloss))
        return made[0]

    colour = work.make(("base", key, factors), info["index"], "", lambda: pair()[0])
    rough = work.make(("metal", key, factors), info["index"], "metallic-roughness", lambda: pair()[1])
    pbr: Json = {
        "baseColorTexture": {**info, "index": colour},
        "metallicRoughnessTexture": {**info, "index": rough},
    }
    if diffuse_factor[3] != 1:
        pbr["baseColorFactor"] = [1, 1, 1, _number(diffuse_factor[3])]
    return pbr, {}


def _texels(
    diffuse: Pixels, shiny: Pixels, diffuse_factor: Floats, specular_factor: Floats, gloss: float
) -> tuple[Pixels, Pixels]:
    """Base colour (with the alpha of `diffuse`) and metallic-roughness."""
    base = np.empty_like(diffuse)
    rough = np.zeros((*diffuse.shape[:2], 3), np.uint8)
    for row in range(0, len(diffuse), _ROWS):
        at = slice(row, row + _ROWS)
        colour, metal = solve(
            _linear(diffuse[at, :, :3]) * diffuse_factor[:3], _linear(shiny[at, :, :3]) * specular_factor
        )
        base[at, :, :3] = _srgb(colour)
        shininess = shiny[at, :, 3] / 255 if shiny.shape[2] == 4 else np.ones(metal.shape)
        rough[at, :, 1] = np.rint(255 * (1 - shininess * gloss))
        rough[at, :, 2] = np.rint(255 * metal)
    if diffuse.shape[2] == 4:
        base[..., 3] = diffuse[..., 3]
    return base, rough


def solve(diffuse: Floats, specular: Floats) -> tuple[Floats, Any]:
    """Base colour (…, 3) and metalness (…) of linear diffuse and specular colours (…, 3), all in [0, 1]."""
    left = 1 - specular.max(axis=-1)
    metal = _metalness(_bright(diffuse), _bright(specular), left)
    share = metal[..., None]
    from_diffuse = diffuse * (left / (1 - DIELECTRIC))[..., None] / np.maximum(1 - share, 1e-6)
    from_specular = (specular - DIELECTRIC * (1 - share)) / np.maximum(share, 1e-6)
    return np.clip(from_diffuse + (from_specular - from_diffuse) * share**2, 0, 1), metal


def _bright(colour: Floats) -> Floats:
    return np.asarray(np.sqrt((colour**2 * _BRIGHTNESS).sum(axis=-1)))


def _metalness(diffuse: Floats, specular: Floats, left: Floats) -> Floats:
    """The root of the quadratic in which a mixture of metal and dielectric has both brightnesses."""
    b = diffuse * left / (1 - DIELECTRIC) + specular - 2 * DIELECTRIC
    c = DIELECTRIC - specular
    root = np.sqrt(np.maximum(b * b - 4 * DIELECTRIC * c, 0))
    return np.where(specular < DIELECTRIC, 0.0, np.clip((root - b) / (2 * DIELECTRIC), 0, 1))


def _linear(pixels: Pixels) -> Floats:
    levels = np.arange(256) / 255
    table = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return np.asarray(table[pixels])


def _srgb(linear: Floats) -> Pixels:
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(encoded * 255), np.uint8)


def _number(value: Any) -> float:
    """Without the noise of binary arithmetic: 1 - 0.7 is 0.3."""
    return float(f"{float(value):.7g}")
