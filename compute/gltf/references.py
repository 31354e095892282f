"""Which places of a glTF document hold an index, and into what: the one table that renumbering, deduplication, pruning
and comparison share.

Only what this package ever renumbers is in it. Nodes, scenes, skins, cameras, animations and the arrays inside
extensions (lights, variants, property tables …) keep their numbers for good, so nothing has to know who points at them.

Sources: glTF 2.0 section 5 (properties reference), Appendix C of each extension in the Khronos registry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

Json = dict[str, Any]

KINDS = ("accessors", "bufferViews", "images", "materials", "meshes", "samplers", "textures")
"""The collections whose items may be merged, dropped and renumbered."""

TABLE: tuple[tuple[str, str], ...] = (
    # core
    ("nodes/*/mesh", "meshes"),
    ("meshes/*/primitives/*/material", "materials"),
    ("meshes/*/primitives/*/indices", "accessors"),
    ("meshes/*/primitives/*/attributes/*", "accessors"),
    ("meshes/*/primitives/*/targets/*/*", "accessors"),
    ("skins/*/inverseBindMatrices", "accessors"),
    ("animations/*/samplers/*/input", "accessors"),
    ("animations/*/samplers/*/output", "accessors"),
    ("accessors/*/bufferView", "bufferViews"),
    ("accessors/*/sparse/indices/bufferView", "bufferViews"),
    ("accessors/*/sparse/values/bufferView", "bufferViews"),
    ("images/*/bufferView", "bufferViews"),
    ("textures/*/sampler", "samplers"),
    ("textures/*/source", "images"),
    ("materials/**Texture/index", "textures"),
    # geometry
    ("meshes/*/primitives/*/extensions/KHR_draco_mesh_compression/bufferView", "bufferViews"),
    ("meshes/*/primitives/*/extensions/KHR_materials_variants/mappings/*/material", "materials"),
    ("meshes/*/primitives/*/extensions/CESIUM_primitive_outline/indices", "accessors"),
    ("meshes/*/primitives/*/extensions/EXT_mesh_features/featureIds/*/texture/index", "textures"),
    ("meshes/*/extensions/EXT_mesh_manifold/manifoldPrimitive/indices", "accessors"),
    ("meshes/*/extensions/EXT_mesh_manifold/manifoldPrimitive/attributes/*", "accessors"),
    ("meshes/*/extensions/EXT_mesh_manifold/mergeIndices", "accessors"),
    ("meshes/*/extensions/EXT_mesh_manifold/mergeValues", "accessors"),
    ("nodes/*/extensions/EXT_mesh_gpu_instancing/attributes/*", "accessors"),
    # textures in other formats
    ("textures/*/extensions/EXT_texture_avif/source", "images"),
    ("textures/*/extensions/EXT_texture_webp/source", "images"),
    ("textures/*/extensions/KHR_texture_basisu/source", "images"),
    ("textures/*/extensions/MSFT_texture_dds/source", "images"),
    ("extensions/EXT_lights_image_based/lights/*/specularImages/*/*", "images"),
    # levels of detail, metadata, sound, light profiles
    ("materials/*/extensions/MSFT_lod/ids/*", "materials"),
    ("extensions/EXT_structural_metadata/propertyTables/*/properties/*/values", "bufferViews"),
    ("extensions/EXT_structural_metadata/propertyTables/*/properties/*/arrayOffsets", "bufferViews"),
    ("extensions/EXT_structural_metadata/propertyTables/*/properties/*/stringOffsets", "bufferViews"),
    ("extensions/EXT_structural_metadata/propertyTextures/*/properties/*/index", "textures"),
    ("extensions/KHR_audio_emitter/audio/*/bufferView", "bufferViews"),
    ("extensions/MSFT_audio_emitter/clips/*/bufferView", "bufferViews"),
    ("extensions/EXT_lights_ies/lights/*/bufferView", "bufferViews"),
)
"""Place → collection. ``*`` is any item of an array or value of an object. ``**Texture`` is every object at any depth
whose key ends in "texture": texture infos, which all material extensions write alike."""

MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression")
"""Both names of the same payload, in a buffer view. The second adds a codec version and a colour filter."""
DRACO = "KHR_draco_mesh_compression"
QUANTIZATION = "KHR_mesh_quantization"
WEBP = "EXT_texture_webp"
SPEC_GLOSS = "KHR_materials_pbrSpecularGlossiness"
AVIF = "EXT_texture_avif"
BASISU = "KHR_texture_basisu"
IMAGE_FORMATS = {"image/webp": WEBP, "image/avif": AVIF, "image/ktx2": BASISU}
"""Media types of images beyond core glTF → the extension through which a texture names one."""
TRANSPORT = frozenset({*MESHOPT, DRACO, QUANTIZATION, *IMAGE_FORMATS.values()})
"""Extensions that say how data travel, not what the asset is."""

KNOWN = frozenset(
    {
        *TRANSPORT,
        *(part for place, _ in TABLE for part in place.split("/") if re.match(r"[A-Z]+_", part)),
        *("KHR_animation_pointer", "KHR_lights_punctual", "KHR_node_hoverability", "KHR_node_selectability"),
        *("KHR_node_visibility", "KHR_texture_transform", "KHR_texture_procedurals", "KHR_xmp_json_ld"),
        *("EXT_instance_features", "EXT_texture_procedurals", "GODOT_single_root", "KHR_implicit_shapes"),
        *("KHR_materials_anisotropy", "KHR_materials_clearcoat", "KHR_materials_diffuse_transmission"),
        *("KHR_materials_dispersion", "KHR_materials_emissive_strength", "KHR_materials_ior"),
        *("KHR_materials_iridescence", "KHR_materials_pbrSpecularGlossiness", "KHR_materials_sheen"),
        *("KHR_materials_specular", "KHR_materials_transmission", "KHR_materials_unlit", "KHR_materials_volume"),
        *("KHR_materials_volume_scatter", "ADOBE_materials_clearcoat_specular", "ADOBE_materials_thin_transparency"),
    }
)
"""Extensions whose every index of a kind in `KINDS` stands in `TABLE` (or which hold none)."""

REORDER_SAFE = frozenset({DRACO, "KHR_materials_variants", "EXT_mesh_features", "EXT_structural_metadata"})
"""Extensions of a primitive that stay true when its vertices and triangles are put in another order."""

POINTER = re.compile(r"/(?P<kind>[A-Za-z]+)/(?P<index>0|[1-9][0-9]*)(?=/|$)")

_Tree = dict[str, Any]
_KIND = ""  # in a tree: the collection that the place points at (no JSON key of the table is empty)


@lru_cache(maxsize=32)
def _tree(kinds: frozenset[str]) -> _Tree:
    root: _Tree = {}
    for place, kind in TABLE:
        if kind in kinds and "**" not in place:
            at = root
            for part in place.split("/"):
                at = at.setdefault(part, {})
            at[_KIND] = kind
    return root


def references(json: Json, *kinds: str) -> Iterator[tuple[Any, Any, str]]:
    """Every index into one of `kinds` (all of `KINDS` if none is named) as (holder, key, kind).

    ``holder[key]`` is the index; assign to it to renumber. Places that hold no integer are passed over.
    """
    wanted = frozenset(kinds or KINDS)
    yield from _walk(json, _tree(wanted))
    if "textures" in wanted:
        for material in json.get("materials", ()):
            yield from ((info, "index", "textures") for _, info in texture_infos(material))


def _walk(value: Any, tree: _Tree) -> Iterator[tuple[Any, Any, str]]:
    star = tree.get("*")
    if isinstance(value, dict):
        pairs: Any = value.items() if star is not None else ((k, value[k]) for k in tree if k in value)
    elif isinstance(value, list):
        pairs = enumerate(value)
    else:
        return
    for key, child in pairs:
        branch = star if star is not None else tree.get(key)
        if branch is None:
            continue
        kind = branch.get(_KIND)
        if kind is None:
            yield from _walk(child, branch)
        elif type(child) is int:
            yield value, key, kind


def texture_infos(material: Any) -> Iterator[tuple[str, Json]]:
    """(slot, texture info) of a material, with those of all its extensions; a slot is such as ``baseColorTexture``."""
    if not isinstance(material, dict):
        return
    for key, child in material.items():
        if key == "extras" or not isinstance(child, dict):
            continue
        if key.lower().endswith("texture") and type(child.get("index")) is int:
            yield key, child
        yield from texture_infos(child)


def pointers(json: Json) -> Iterator[tuple[Json, str, int]]:
    """The JSON pointers of KHR_animation_pointer that lead into one of `KINDS`, as (extension, kind, index).

    What a pointer animates has an identity of its own: it is in use, and it is not the same as its equal neighbour.
    """
    for animation in json.get("animations", ()):
        for channel in animation.get("channels", ()):
            target = channel.get("target")
            if not target or "extensions" not in target:  # nearly always, and there may be thousands
                continue
            extension = target["extensions"].get("KHR_animation_pointer")
            if isinstance(extension, dict) and isinstance(extension.get("pointer"), str):
                found = POINTER.match(extension["pointer"])
                if found and found["kind"] in KINDS:
                    yield extension, found["kind"], int(found["index"])


def renumber(json: Json, kind: str, new: Sequence[int]) -> None:
    """Point every reference into `kind` at its new number: ``new[old]``. Numbers outside of `new` are left alone."""
    for holder, key, _ in list(references(json, kind)):
        if 0 <= holder[key] < len(new):
            holder[key] = new[holder[key]]
    for extension, _, old in list(pointers(json)):
        if _ == kind and old < len(new):
            extension["pointer"] = POINTER.sub(f"/{kind}/{new[old]}", extension["pointer"], count=1)


def unknown_extensions(value: Any) -> set[str]:
    """Names of extensions that this value itself carries and the table does not know."""
    extensions = value.get("extensions") if isinstance(value, dict) else None
    return set(extensions) - KNOWN if isinstance(extensions, dict) else set()


def foreign_integers(json: Json) -> set[int]:
    """All integers inside extensions that the table does not know, anywhere in the document.

    Each might be an index of any kind. An empty set means that renumbering is safe; otherwise see `prune`.
    """
    found: set[int] = set()
    stack: list[tuple[Any, bool]] = [(json, False)]
    while stack:
        value, foreign = stack.pop()
        if isinstance(value, dict):
            for key, child in value.items():
                if key == "extensions" and not foreign and isinstance(child, dict):
                    stack += ((extension, name not in KNOWN) for name, extension in child.items())
                elif key != "extras":
                    stack.append((child, foreign))
        elif isinstance(value, list):
            if foreign or not value or not isinstance(value[0], (float, int, str)):
                stack += ((child, foreign) for child in value)
        elif foreign and type(value) is int:
            found.add(value)
    return found
