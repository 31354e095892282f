"""What an engine's Resource and Node classes are, and which properties each has: the ground of every allow-list.

The lists in ``classes/`` are written by ``tools/godot-classes`` from the engine's own dump of its API and committed, so
that what a new engine brings is a diff that somebody reads. `INDEXED` adds what no dump names: properties that exist
only with a number or a name in them (``tracks/0/keys``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib import resources
from typing import Final

from cloudbaker.errors import EngineMissing

_LINE = re.compile(r"(?P<name>\w+) < (?P<base>\w*):(?P<properties>.*)")

# One pattern for all properties that a class makes up as it is loaded. Source: `_set` of each class, 3.2 to 4.6.
INDEXED: Final[dict[str, str]] = {
    "AnimatedTexture": r"frame_\d+/(texture|duration|delay_sec)",
    "Animation": r"tracks/\d+/(type|path|interp|loop_wrap|imported|enabled|keys|compressed_track|use_blend)",
    "AnimationMixer": r"libraries(/.*)?",
    "AnimationNodeBlendSpace1D": r"blend_point_\d+/(node|pos|name)",
    "AnimationNodeBlendSpace2D": r"blend_point_\d+/(node|pos|name)",
    "AnimationNodeBlendTree": r"nodes/[^/]+/(node|position)",
    "AnimationNodeStateMachine": r"states/.+/(node|position)|transitions|start_node|end_node",
    "AnimationNodeTransition": r"input_\d+/(name|auto_advance|break_loop_at_end|reset)",
    "AnimationPlayer": r"(anims|next)/.+|libraries(/.*)?|blend_times",
    "AnimationTree": r"parameters/.+",
    "ArrayMesh": r"surfaces?(_|/)\d+(/\w+)?|blend_shape/(names|mode)",
    "AudioBusLayout": r"bus/\d+/(name|solo|mute|bypass_fx|volume_db|send|effect/\d+/(effect|enabled))",
    "AudioEffectChorus": r"voice/\d/\w+",
    "AudioStreamInteractive": r"clip_\d+/(name|stream|auto_advance|next_clip)",
    "AudioStreamPlaylist": r"stream_\d+",
    "AudioStreamRandomizer": r"stream_\d+/(stream|weight)",
    "AudioStreamSynchronized": r"stream_\d+/(stream|volume)",
    "Bone2D": r"length|bone_angle",
    "BoneMap": r"bonemap/\w+|bone_map/\w+",
    "CPUParticles2D": r"emission_\w+",
    "CanvasItem": r"instance_shader_parameters/\w+",
    "Control": r"theme_override_(colors|constants|fonts|font_sizes|icons|styles)/\w+"
    r"|custom_(colors|constants|fonts|icons|styles)/\w+",
    "Curve": r"point_\d+/\w+",
    "Curve2D": r"point_\d+/\w+",
    "Curve3D": r"point_\d+/\w+",
    "DynamicFont": r"fallback/\d+",
    "FontFile": r"cache/\d+/.+|fallbacks",
    "GeometryInstance3D": r"instance_shader_parameters/\w+",
    "GraphNode": r"slot/\d+/\w+",
    "ItemList": r"item_\d+/(text|icon|selectable|disabled)|items",
    "LabelSettings": r"stacked_(outline|shadow)_\d+/\w+",
    "MenuButton": r"popup/item_\d+/\w+|items",
    "MeshInstance": r"material/\d+|blend_shapes/.+",
    "MeshInstance3D": r"surface_material_override/\d+|blend_shapes/.+",
    "MeshLibrary": r"item/\d+/\w+",
    "OptionButton": r"popup/item_\d+/\w+|items",
    "PhysicalBone": r"joint_constraints/.+",
    "PhysicalBone3D": r"joint_constraints/.+",
    "PopupMenu": r"item_\d+/\w+|items",
    "ShaderMaterial": r"(shader_param|shader_parameter)/\w+",
    "Skeleton": r"bones/\d+/(name|parent|rest|enabled|pose|bound_children)",
    "Skeleton3D": r"bones/\d+/(name|parent|rest|enabled|position|rotation|scale|bone_meta/\w+)",
    "SkeletonModification2D": r"\w+/\d+/\w+|joint_\d+[/_]\w+|constraint_\w+|collision_mask",
    "SkeletonModificationStack2D": r"modifications/\d+",
    "SkeletonModifier3D": r"(settings|modifiers|chains|joints)/\d+/.+",
    "SkeletonProfile": r"(groups|bones)/\d+/\w+",
    "Skin": r"bind/\d+/(name|bone|pose)",
    "SpringBoneSimulator3D": r"settings/\d+/.+",
    "TabBar": r"tab_\d+/\w+",
    "TabContainer": r"tab_\d+/\w+",
    "Theme": r"\w+/(colors|constants|fonts|font_sizes|icons|styles)/\w+|\w+/base_type",
    "TileMap": r"layer_\d+/\w+|cell_\w+",
    "TileSet": r"(terrain_set|physics_layer|occlusion_layer|navigation_layer|custom_data_layer)_\d+/.+"
    r"|sources/\d+|pattern_\d+|tile_proxies/\w+|\d+/[\w/]+",
    "TileSetAtlasSource": r"\d+:\d+/.+",
    "TileSetScenesCollectionSource": r"scenes/\d+/(scene|display_placeholder)",
    "VisualShader": r"(nodes|modes|flags|parameters|varyings|stencil)/.+|mode|graph_offset",
    "VisualShaderNode": r"\w+_(input|output|port)\w*|default_input_values",
}
COMMON: Final = re.compile(r"metadata/.+|__meta__")
"""Of every object: what people attach. Godot 3 keeps it as one dictionary."""


@dataclass(frozen=True)
class ClassList:
    """The classes of one engine, or of two of them merged."""

    name: str
    version: str
    """As the engine says it: ``4.6.3.stable.debian4.6.3+ds-2``."""
    bases: dict[str, str]
    own: dict[str, dict[str, str]]
    """Own properties of each class with their type."""
    sha256: str
    _chains: dict[str, frozenset[str]] = field(default_factory=dict, compare=False, repr=False)

    def chain(self, name: str) -> Iterator[str]:
        """A class and its bases, as far as they are in the list."""
        while name in self.bases:
            yield name
            name = self.bases[name]

    def is_a(self, name: str, base: str) -> bool:
        """Whether a class is `base` or derives from it."""
        known = self._chains.get(name)
        if known is None:
            known = frozenset(self.chain(name))
            if known:  # names come from strangers: only those of the engine are remembered
                self._chains[name] = known
        return base in known

    def property_type(self, name: str, key: str) -> str | None:
        """The type of a class's property, or None where it has none of that name. Metadata are ``Variant``."""
        for part in self.chain(name):
            found = self.own[part].get(key)
            if found is not None:
                return found
            pattern = _indexed(part)
            if pattern is not None and pattern.fullmatch(key):
                return "Variant"
        return "Variant" if name in self.bases and COMMON.fullmatch(key) else None

    def merged(self, other: ClassList) -> ClassList:
        """Both lists: a class has the properties of either. For files of Godot 3 that Godot 4 reads."""
        own = {c: {**other.own.get(c, {}), **self.own.get(c, {})} for c in {**other.own, **self.own}}
        digest = hashlib.sha256((self.sha256 + other.sha256).encode()).hexdigest()
        return ClassList(f"{self.name}+{other.name}", self.version, {**other.bases, **self.bases}, own, digest)


@cache
def _indexed(name: str) -> re.Pattern[str] | None:
    return re.compile(INDEXED[name]) if name in INDEXED else None


def indexed_patterns() -> Iterator[tuple[str, re.Pattern[str]]]:
    """Every class with properties of its own making, and what their names are like."""
    for name in INDEXED:
        pattern = _indexed(name)
        assert pattern is not None
        yield name, pattern


def class_list_names() -> list[str]:
    """Names of the committed lists, oldest engine first: ``godot-3.2``, ``godot-3.6``, ``godot-4.6``."""
    folder = resources.files("cloudbaker.compute.godot") / "classes"
    names = [f.name.removesuffix(".txt") for f in folder.iterdir() if f.name.endswith(".txt")]
    return sorted(names, key=_number)


@lru_cache(maxsize=8)
def load_class_list(name: str) -> ClassList:
    """The committed list of an engine. Raises `EngineMissing` where there is none of that name."""
    if name not in class_list_names():
        raise EngineMissing(
            f"there is no class list {name!r} (there are: {', '.join(class_list_names())}): write it with "
            "tools/godot-classes, and review what is new in it",
            engine=name,
        )
    text = (resources.files("cloudbaker.compute.godot") / "classes" / f"{name}.txt").read_text("utf-8")
    version = re.search(r"classes of Godot (\S+),", text)
    bases: dict[str, str] = {}
    own: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        assert match is not None, f"{name}: {line[:80]}"
        bases[match["name"]] = match["base"]
        own[match["name"]] = dict(word.split(":", 1) for word in match["properties"].split())
    return ClassList(name, version[1] if version else "", bases, own, hashlib.sha256(text.encode()).hexdigest())


def class_list_for(engine: str, reviewed: tuple[str, ...] | None = None) -> ClassList:
    """The list that holds for an engine (``3.6``, ``4.6.3`` or ``godot-4.6``), among the `reviewed` ones.

    That of the same minor version, else the next newer one of the same major: classes that an engine lacks fail to
    load in it and harm nobody. An engine newer than every list is refused, since what is new in it nobody has looked
    at. A bare major (``4``) means the newest list. Raises `EngineMissing`.
    """
    wanted = engine.removeprefix("godot-").split(".")
    number = tuple(int(part) for part in wanted[:2] if part.isdigit())
    names = [n for n in class_list_names() if reviewed is None or n in reviewed]
    same = [n for n in names if number and _number(n)[0] == number[0]]
    fitting = same[-1:] if len(number) < 2 else [n for n in same if _number(n) >= number]
    if not fitting:
        raise EngineMissing(
            f"Godot {engine} is newer than every class list that the policy was reviewed for "
            f"({', '.join(names) or 'none'}): write its list with tools/godot-classes, read the diff, and add it to "
            "the policy's `reviewed`",
            engine=engine,
        )
    return load_class_list(fitting[0])


def _number(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.removeprefix("godot-").split("."))
