"""What the specification takes for granted: a property that says it and one that is left out are the same.

Exporters differ in what they write out, so things that are equal may not look it, and a tool that adds or drops such a
property has changed nothing.

Source: glTF 2.0 section 5 (properties reference).
"""

from __future__ import annotations

from typing import Any

from cloudbaker.compute.gltf.references import Json

DEFAULTS: dict[str, Any] = {
    "materials/*/alphaCutoff": 0.5,
    "materials/*/alphaMode": "OPAQUE",
    "materials/*/doubleSided": False,
    "materials/*/emissiveFactor": [0, 0, 0],
    "materials/*/normalTexture/scale": 1,
    "materials/*/occlusionTexture/strength": 1,
    "materials/*/pbrMetallicRoughness": {},
    "materials/*/pbrMetallicRoughness/baseColorFactor": [1, 1, 1, 1],
    "materials/*/pbrMetallicRoughness/metallicFactor": 1,
    "materials/*/pbrMetallicRoughness/roughnessFactor": 1,
    "meshes/*/primitives/*/mode": 4,
    "samplers/*/wrapS": 10497,
    "samplers/*/wrapT": 10497,
}
"""Place → value. ``*`` is any item of an array. Transforms of nodes are not among them: one that is written out is one
that tools and animations look for."""


def is_default(place: str, value: Any) -> bool:
    """Whether leaving out this value, at a JSON pointer, says the same.

    >>> is_default("/materials/3/doubleSided", False), is_default("/materials/3/doubleSided", True)
    (True, False)
    """
    parts = place.strip("/").split("/")
    if parts[-1] == "texCoord":
        return type(value) is int and value == 0 and len(parts) > 1 and parts[-2].lower().endswith("texture")
    pattern = "/".join("*" if part.isdecimal() else part for part in parts)
    if pattern not in DEFAULTS:
        return False
    default, meant = DEFAULTS[pattern], _stripped(place, value)
    return bool(meant == default) and isinstance(meant, bool) == isinstance(default, bool)


def without_defaults(kind: str, item: Json) -> Json:
    """A copy of an item of a collection without what goes without saying; extras as they are.

    >>> without_defaults("materials", {"name": "red", "pbrMetallicRoughness": {"metallicFactor": 1}})
    {'name': 'red'}
    """
    found: Json = _stripped(f"/{kind}/0", item)
    return found


def _stripped(place: str, value: Any) -> Any:
    if isinstance(value, dict) and not place.endswith("/extras"):
        inner = {key: _stripped(f"{place}/{key}", child) for key, child in value.items()}
        return {key: child for key, child in inner.items() if not is_default(f"{place}/{key}", child)}
    if isinstance(value, list):
        return [_stripped(f"{place}/{index}", child) for index, child in enumerate(value)]
    return value
