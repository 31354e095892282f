"""The policy applied to one resource, text or binary: classes, properties, values, references, nodes, tracks.

Everything that is not allowed is a finding; nothing stops the walk, so that one report names them all. What a resource
says *about other files* (which scenes it instances, how many nodes it has) is returned, and `scan` puts it together.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from cloudbaker.compute.gltf.findings import quote
from cloudbaker.compute.godot.filetypes import extension_ban
from cloudbaker.compute.godot.paths import PathKind, canonical
from cloudbaker.compute.godot.policy import Allowed, Ban
from cloudbaker.compute.godot.resources.tree import (
    ArrayValue,
    Construct,
    DictValue,
    ExtRef,
    Node,
    NodePath,
    ObjectValue,
    Property,
    Resource,
    ResourceRef,
    SubRef,
    Value,
    walk,
)
from cloudbaker.compute.godot.scan_rules import ScanFindings
from cloudbaker.compute.godot.shaders import check_shader

SCENES = frozenset({"tscn", "scn", "glb", "gltf"})
"""Extensions of files that can be instanced."""

_URI = re.compile(r"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]*)://([^\s\[\]\"'<>]*)")
_WEB = frozenset({"http", "https"})
"""Addresses in texts harm nobody: what opens them is banned."""
_BBCODE = re.compile(r"\[(?P<name>img|font|dropcap)\b(?P<options>[^\]]*)\](?P<body>[^\[]*)")
_NUMERIC = re.compile(r"[\d.,x%-]*|#\w+")
_TRACK = re.compile(r"tracks/(\d+)/(type|path|keys)")
_SHADERS = ("Shader", "ShaderMaterial", "ShaderInclude", "VisualShaderNode")
_CODE = frozenset({"code", "expression"})
_CONSTRUCTORS = frozenset(
    {
        *("Vector2", "Vector2i", "Vector3", "Vector3i", "Vector4", "Vector4i", "Rect2", "Rect2i", "Transform2D"),
        *("Matrix32", "Plane", "Quaternion", "Quat", "AABB", "Rect3", "Basis", "Matrix3", "Transform3D", "Transform"),
        *("Projection", "Color", "NodePath", "StringName", "Array", "Dictionary"),
        *(f"{prefix}{kind}Array" for prefix in ("Packed", "Pool", "") for kind in ("Byte", "Int", "Real", "String")),
        *(f"{prefix}{kind}Array" for prefix in ("Packed", "Pool", "") for kind in ("Vector2", "Vector3", "Color")),
        *("PackedInt32Array", "PackedInt64Array", "PackedFloat32Array", "PackedFloat64Array", "PackedVector4Array"),
        *("FloatArray", "PoolFloatArray"),
    }
)
_PLAIN = frozenset({int, float, bool})
_ATTRIBUTES = frozenset(
    {
        *("name", "type", "parent", "owner", "index", "groups", "instance", "instance_placeholder", "node_paths"),
        *("unique_id", "parent_id_path", "owner_uid_path"),
    }
)
_NO_UID = frozenset({"0x0", f"{(1 << 64) - 1:#x}", "uid://<invalid>"})
_ID_PATHS = frozenset({"parent_id_path", "owner_uid_path"})
_PLAYERS = ("AnimationPlayer", "AnimationMixer", "AnimationTree")
_READS_ONLY = frozenset({"skeleton"})
"""Node paths that only look something up. GLB scenes have ``skeleton = NodePath("..")`` on their root."""


@dataclass(slots=True)
class SceneFacts:
    """What the whole mod's check needs to know about one resource."""

    nodes: int = 0
    instances: list[str] = field(default_factory=list)
    """Files that it instances, each as often as it does."""


@dataclass(slots=True)
class Context:
    """What every check of one mod shares."""

    root: str
    """``res://mods/<id>/``."""
    paths: frozenset[str]
    """All files of the mod."""
    allowed: Allowed
    other: Allowed
    """For files of Godot 3 that Godot 4 reads: the classes of both."""
    major: int
    """Of the engine that will read the mod."""
    findings: ScanFindings


def check_resource(path: str, resource: Resource, context: Context) -> SceneFacts:
    """Check one resource at `path` of a mod."""
    return _Check(path, resource, context).run()


def check_config(path: str, resource: Resource, context: Context) -> None:
    """Check the values of a configuration file (``.import``, ``.remap``): it is refused, and what it tried is said."""
    check = _Check(path, resource, context)
    for section in resource.sections:
        for held in section.properties:
            check.values(held.value, held.name, held.place)


def check_words(path: str, text: str, context: Context) -> None:
    """Check a file of translations: its words may end up in a label that reads BBCode."""
    check = _Check(path, Resource("words", ""), context)
    for number, line in enumerate(text.split("\n"), 1):
        if "://" in line or "[" in line:
            check.text(line, number)


@dataclass(slots=True)
class _Place:
    """Where a node stands in its scene."""

    depth: int
    game: bool
    """Whether it is, or is below, an instance of a scene of the game."""
    open: bool
    """Whether it may have children that this file does not list: an instance."""


class _Check:
    def __init__(self, path: str, resource: Resource, context: Context) -> None:
        self.path, self.resource, self.context = path, resource, context
        old = resource.format == 2 if resource.kind == "text" else (resource.engine or (4, 0))[0] == 3
        self.allowed = context.other if old and context.major >= 4 else context.allowed
        self.policy = self.allowed.policy
        self.external = {item.id: item for item in resource.external}
        self.internal = {item.id for item in resource.internal}
        self.facts = SceneFacts(len(resource.nodes))
        # Tracks of a file that is no scene may play in any scene of the mod.
        self.game_instance = any(self._is_game(target) for target in self._targets()) or (
            resource.type != "PackedScene" and any(_may_be_scene(pattern) for pattern in self.policy.game_paths)
        )
        self.climb = 0

    def add(self, code: str, place: int, message: str) -> None:
        self.context.findings.add(code, self._where(place), message)

    def _where(self, place: int) -> str:
        if self.resource.kind == "words":  # no resource: places are lines
            return f"{self.path}:{place}"
        line = self.resource.line(place)
        return f"{self.path}@{place:#x}" if line is None else f"{self.path}:{line}"

    # --- the file as a whole

    def run(self) -> SceneFacts:
        resource = self.resource
        if resource.script_class:
            self.add("script.global-class", 0, f"it is of the class {quote(resource.script_class)}, which is a script")
        if resource.kind == "text" or self.policy.uids == "reject":
            # A game looks UIDs up in its own cache: that of a file itself means nothing there, those it refers to do.
            self._uid(resource.uid, 0)
        if resource.type:  # where there is none, the reader has said why
            self._class(resource.type, 0, "Resource")
        for item in resource.external:
            self._uid(item.uid, item.place)
            self._class(item.type, item.place, "Resource", source=True)
            self._reference(item.path, item.place)
        scenes = [(nodes, self._places(nodes)) for nodes in self._scenes()]
        self.climb = min((self._climb(nodes, places) for nodes, places in scenes), default=0)
        for part in resource.internal:
            self._class(part.type, part.place, "Resource")
            self._properties(part.type, part.properties, 0)
        self._properties(resource.type, resource.properties, 0)
        for held in resource.header:
            if type(held.value) is not str:
                self._values(held.value, held.name, None, held.place)
        for nodes, places in scenes:
            for node, at in zip(nodes, places, strict=True):
                self._node(node, at)
        for connection in resource.connections:
            self.add(
                "scene.connection",
                connection.place,
                f"the signal {quote(connection.signal, 40)} calls {quote(connection.method, 40)}",
            )
            self._values(connection.binds, "", None)
        for editable in resource.editable:
            if self.game_instance:
                self.add("scene.game-child", 0, f"the children of {quote(editable, 60)} are made editable")
        return self.facts

    def _uid(self, uid: str, place: int) -> None:
        if uid and uid not in _NO_UID:
            # Out of text they are taken before the bake; nobody takes them out of binary files.
            strip = self.policy.uids == "strip" and self.resource.kind == "text"
            code = "ref.uid-stripped" if strip else "ref.uid"
            self.add(code, place, f"it has the UID {quote(uid, 40)}")

    def _class(self, name: str, place: int, base: str, *, source: bool = False) -> None:
        ban = self.allowed.class_ban(name)
        if ban is not None:
            code = ban.code.replace(".class", ".source") if source and ban.code.endswith(".class") else ban.code
            self.add(code, place, f"{quote(name, 60)}: {ban.reason}")
            return
        classes = self.allowed.classes
        if not self.allowed.known(name):
            self.add("class.unknown", place, f"{classes.name} has no class {quote(name, 60)}")
        elif not classes.is_a(name, base):
            self.add("class.kind", place, f"{name} is no {base}")
        elif not self.policy.shaders.allowed and any(classes.is_a(name, kind) for kind in _SHADERS):
            self.add("shader.forbidden", place, f"a {name}, and the policy {self.policy.name} allows no shaders")

    # --- properties and values

    def _properties(self, owner: str, properties: list[Property], depth: int | None) -> None:
        """The assignments of one resource or node. `depth`: of the node; 0 for resources."""
        types: dict[str, str] = {}
        for held in properties:
            rule = self.allowed.rule(owner, held.name)
            if rule.ban is not None:
                self._banned(rule.ban, owner, held)
            elif rule.kind is None and (not owner or self.allowed.known(owner)):
                what = owner or "an allowed node"
                self.add("property.unknown", held.place, f"{what} has no property {quote(held.name, 60)}")
            if rule.largest is not None and (number := _largest(held.value)) > rule.largest:
                self.add(
                    "property.too-large",
                    held.place,
                    f"{owner}.{held.name} is {number:,.0f}, the limit is {rule.largest:,}",
                )
            if rule.is_path and isinstance(held.value, str):
                self._reference(held.value, held.place)
            value = held.value
            if held.name.startswith("tracks/") and self.allowed.classes.is_a(owner, "Animation"):
                self._track(held, types)
            # Nine of ten values are numbers: nothing in them to look at.
            if value is None or type(value) in _PLAIN:
                continue
            if type(value) is Construct and value.numbers is not None and value.name in _CONSTRUCTORS:
                continue
            if rule.kind == "NodePath" and isinstance(value, str):
                value = NodePath(value)  # the engine converts
            if self.policy.shaders.allowed and held.name in _CODE and isinstance(value, str):
                self._shader(owner, value, held.place)
            self._values(value, held.name, depth, held.place, owner)

    def _banned(self, ban: Ban, owner: str, held: Property) -> None:
        if held.value is None and ban.code.startswith("script."):
            return  # `script = null` is what the editor writes for "no script"
        self.add(ban.code, held.place, f"{owner or 'a node'}.{held.name}: {ban.reason}")

    def _values(self, value: Value, key: str, depth: int | None, place: int = 0, owner: str = "") -> None:
        """A value with all that is in it."""
        for item in walk(value):
            kind = type(item)
            if kind in _PLAIN:
                continue
            if kind is str or (kind is not NodePath and isinstance(item, str)):
                if "://" in item or "[" in item:  # type: ignore[operator]
                    self.text(str(item), place)
            elif kind is NodePath:
                self._node_path(str(item), key, depth, place, owner)
            elif isinstance(item, ExtRef):
                if item.id not in self.external:
                    self.add("ref.unknown", item.place, f"there is no external resource {quote(item.id, 40)}")
            elif isinstance(item, SubRef):
                if item.id not in self.internal:
                    self.add("ref.unknown", item.place, f"there is no internal resource {quote(item.id, 40)}")
            elif isinstance(item, Construct):
                if item.name in ("Callable", "Signal") or (item.name == "RID" and item.args):
                    self.add("value.callable", item.place, f"a {item.name} in {quote(key, 40)}")
                elif item.name not in _CONSTRUCTORS and item.name != "RID":
                    self.add("value.constructor", item.place, f"{quote(item.name, 40)}() in {quote(key, 40)}")
            elif isinstance(item, ObjectValue):
                self._object(item, key)
            elif isinstance(item, ResourceRef):
                self.add("value.resource", item.place, f"{quote(item.path or item.uid, 80)} in {quote(key, 40)}")
                self._uid(item.uid, item.place)
                if item.path:
                    self._reference(item.path, item.place)

    def _object(self, value: ObjectValue, key: str) -> None:
        self.add("value.object", value.place, f"Object({quote(value.type, 40)}) in {quote(key, 40)}")
        ban = self.allowed.class_ban(value.type)
        if ban is not None:
            self.add(ban.code, value.place, f"{quote(value.type, 60)}: {ban.reason}")
        for held in value.properties:
            rule = self.allowed.rule(value.type, held.name)
            if rule.ban is not None:
                self._banned(rule.ban, value.type, held)

    def text(self, text: str, place: int) -> None:
        """A string with an address in it: BBCode loads images and fonts by their path, and so do some properties."""
        for match in _URI.finditer(text):
            if match[1].lower() not in _WEB:
                self._reference(match[0].rstrip(".,;:!?)"), place)
        for tag in _BBCODE.finditer(text):
            paths = [tag["body"] or ""] if tag["name"] == "img" else []
            paths += [word.strip("\"'") for word in re.findall(r"=\s*(\"[^\"]*\"|'[^']*'|[^\s\]]+)", tag["options"])]
            for path in paths:
                # Without a scheme, the engine takes it from res://.
                if "://" not in path and re.search(r"[./\\]", path) and not _NUMERIC.fullmatch(path):
                    self._reference(path, place, "res://")

    def values(self, value: Value, key: str, place: int) -> None:
        """A value outside of any resource."""
        self._values(value, key, None, place)

    # --- references

    def _reference(self, path: str, place: int, base: str = "") -> None:
        """A path that the engine loads, relative to this file or to `base`."""
        found = canonical(path, base or self.path, self.context.major)
        ban = extension_ban(found.path)
        if ban in ("file.script", "file.native"):
            code = "script.source" if ban == "file.script" else "native.source"
            self.add(code, place, f"it refers to {quote(path)}")
        if found.kind is PathKind.RES and self._is_game(found.path):
            return
        if not found.inside(self.context.root):
            self.add("ref.outside", place, f"{quote(path)} is {_what(found.kind, found.path)}")
        elif not found.plain:
            self.add("ref.not-plain", place, f"{quote(path)} means {quote(found.path)}")
        elif found.path not in self.context.paths:
            self.add("ref.missing", place, f"there is no {quote(path)}")

    def _is_game(self, path: str) -> bool:
        return is_game_path(path, self.policy.game_paths)

    def _targets(self) -> Iterator[str]:
        """Paths of what nodes are instances of."""
        for node in self.resource.nodes:
            target = self._target(node)
            if target:
                yield target

    def _target(self, node: Node) -> str:
        if isinstance(node.instance, ExtRef):
            item = self.external.get(node.instance.id)
            return item.path if item is not None else ""
        return node.instance.path if isinstance(node.instance, ResourceRef) else ""

    # --- nodes

    def _scenes(self) -> list[list[Node]]:
        """The nodes by scene: each begins with its root. A resource may hold scenes beside its own."""
        scenes: list[list[Node]] = []
        for node in self.resource.nodes:
            if not node.parent or not scenes:
                scenes.append([])
            scenes[-1].append(node)
        if self.resource.kind == "text" and self.resource.type == "PackedScene":
            if len(scenes) > 1 and not any(p.name == "_bundled" for _, p in self.resource.assignments()):
                self.add("scene.no-root", scenes[1][0].place, "it has a second root")
            if not scenes:
                self.add("scene.no-root", 0, "it has no node")
        return scenes

    def _places(self, nodes: list[Node]) -> list[_Place]:
        """Where each node of a scene stands."""
        limits = self.policy.limits
        if len(nodes) > limits.nodes:
            self.add("scene.too-many-nodes", nodes[0].place, f"{len(nodes):,} nodes, the limit is {limits.nodes:,}")
        by_path: dict[str, _Place] = {}
        places: list[_Place] = []
        for node in nodes:
            places.append(self._place(node, by_path, places))
        deepest = max((at.depth for at in places), default=0)
        if deepest > limits.node_depth:
            self.add("scene.too-deep", nodes[0].place, f"{deepest} levels, the limit is {limits.node_depth}")
        return places

    def _place(self, node: Node, places: dict[str, _Place], indexed: list[_Place]) -> _Place:
        target = self._target(node)
        instance = node.instance is not None or not node.type
        if not node.parent:
            if indexed or (not node.type and node.instance is None):
                self.add("scene.no-root", node.place, "a node without a parent, type or instance")
            return _Place(0, self._is_game(target), instance)
        if node.parent.startswith("#"):
            number = int(node.parent[1:]) if node.parent[1:].isdigit() else -1
            above = indexed[number] if 0 <= number < len(indexed) else None
            path = f"{node.parent}/{node.name}"
        else:
            parent = "" if node.parent == "." else node.parent
            path = f"{parent}/{node.name}" if parent else node.name
            above = indexed[0] if not parent and indexed else self._above(parent, places, indexed)
        if above is None:
            self.add("scene.parent", node.place, f"the parent {quote(node.parent, 60)} is no node of the scene")
            above = _Place(0, False, True)
        if above.game:
            self.add("scene.game-child", node.place, f"{quote(node.name, 40)} is put into a scene of the game")
        place = _Place(above.depth + 1, self._is_game(target) or above.game, instance or above.open)
        places[path] = place
        return place

    def _above(self, parent: str, places: dict[str, _Place], indexed: list[_Place]) -> _Place | None:
        """The place of a parent by its path; one that is inside an instance is not listed."""
        parts = parent.split("/")
        if ".." in parts or "" in parts or "." in parts or ":" in parent or not indexed:
            return None
        if parent in places:
            return places[parent]
        for end in range(len(parts) - 1, 0, -1):
            above = places.get("/".join(parts[:end]))
            if above is not None:
                return _Place(above.depth + len(parts) - end, above.game, True) if above.open else None
        root = indexed[0]
        return _Place(len(parts), root.game, True) if root.open else None

    def _node(self, node: Node, at: _Place) -> None:
        for attribute in node.attributes:
            if attribute.name not in _ATTRIBUTES:
                self.add("scene.attribute", attribute.place, f"{quote(attribute.name, 40)}")
            elif attribute.name in _ID_PATHS and self.game_instance:
                self.add("scene.game-child", attribute.place, f"{attribute.name} may lead into a scene of the game")
            if type(attribute.value) is not str:
                self._values(attribute.value, attribute.name, at.depth, attribute.place)
        if node.instance_placeholder:
            self.add("scene.placeholder", node.place, f"of {quote(node.instance_placeholder)}")
            self._reference(node.instance_placeholder, node.place)
        if node.instance is not None:
            self._instance(node)
        if node.type:
            self._class(node.type, node.place, "Node")
            if at.depth == 0 and node.instance is None and not self.allowed.can_be_root(node.type):
                self.add("scene.root", node.place, f"{node.type} as the root")
        game = at.game
        if game:
            for held in node.properties:
                if not any(fnmatch.fnmatchcase(held.name, name) for name in self.policy.instance_properties):
                    self.add("property.game", held.place, f"{quote(held.name, 60)} of a node of the game")
        owner = "" if node.instance is not None else node.type
        if at.depth == 0 and any(self.allowed.classes.is_a(node.type, player) for player in _PLAYERS):
            self._root_player(node)
        self._properties(owner, node.properties, at.depth)

    def _instance(self, node: Node) -> None:
        if isinstance(node.instance, SubRef):
            return  # a packed scene inside this file, whose nodes are checked with the others
        target = self._target(node)
        if not target:
            self.add("scene.instance", node.place, f"{quote(node.name, 40)} is an instance of nothing that is listed")
            return
        found = canonical(target, self.path, self.context.major)
        if found.path.rpartition(".")[2].lower() not in SCENES:
            self.add("scene.instance", node.place, f"{quote(target)} is no scene")
        self.facts.instances.append(found.path)

    def _root_player(self, node: Node) -> None:
        """A player acts on its parent unless told otherwise; the parent of a scene's root is the game's."""
        roots = [held.value for held in node.properties if held.name == "root_node"]
        if not roots or any(not isinstance(value, str) or _climbs(str(value)) > 0 for value in roots):
            self.add("animation.root", node.place, f"{node.type} as the root, and root_node is not a path below it")

    def _node_path(self, path: str, key: str, depth: int | None, place: int, owner: str) -> None:
        names = path.partition(":")[0]
        if names.startswith("/"):
            self.add("node-path.absolute", place, f"{quote(path, 80)} in {quote(key, 40)}")
            return
        if key == "_bundled" or key in _READS_ONLY or self.allowed.classes.is_a(owner, "SkeletonModification2D"):
            return
        climbs = _climbs(names)
        if climbs == 0:
            return
        root = 0 if depth is None else depth
        if _TRACK.fullmatch(key) or key in ("filters", "root_motion_track"):
            root = self.climb
        if climbs > root:
            self.add("node-path.outside", place, f"{quote(path, 80)} in {quote(key, 40)} leaves the scene")

    # --- animations

    def _climb(self, nodes: list[Node], places: list[_Place]) -> int:
        """How far up tracks may go: as far as the player that stands highest is below the root."""
        least: int | None = None
        for node, at in zip(nodes, places, strict=True):
            if node.type and any(self.allowed.classes.is_a(node.type, player) for player in _PLAYERS):
                roots = [str(p.value) for p in node.properties if p.name == "root_node" and isinstance(p.value, str)]
                reached = min((at.depth + _net(root) for root in roots or [".."]), default=0)
                least = reached if least is None else min(least, reached)
        return max(0, least or 0)

    def _track(self, held: Property, types: dict[str, str]) -> None:
        match = _TRACK.fullmatch(held.name)
        if match is None:
            return
        number, what, value = match[1], match[2], held.value
        if what == "type":
            name = str(value) if isinstance(value, str) else ""
            types[number] = name
            if name == "method":
                self.add("animation.method", held.place, f"track {number} calls methods")
            elif name not in self.policy.animations.tracks:
                self.add("animation.track", held.place, f"track {number} is of the kind {quote(name, 40)}")
        elif what == "path" and types.get(number, "value") in ("value", "bezier", "method", ""):
            if not isinstance(value, str):
                self.add("animation.track", held.place, f"the path of track {number} is no path")
                return
            self._track_property(number, str(value), held.place)
        if what == "path" and isinstance(value, str) and not isinstance(value, NodePath):
            self._node_path(str(value), held.name, 0, held.place, "Animation")

    def _track_property(self, number: str, path: str, place: int) -> None:
        names = path.partition(":")[2].split(":") if ":" in path else []
        ban = next(filter(None, map(self.allowed.banned_anywhere, names)), None)
        if ban is not None:
            self.add(ban.code, place, f"track {number} sets {quote(path, 80)}: {ban.reason}")
        elif not names or not self.allowed.node_has(names[0]):
            self.add("animation.property", place, f"track {number} sets {quote(path, 80)}")
        elif self.game_instance and not any(
            fnmatch.fnmatchcase(names[0], name) for name in self.policy.instance_properties
        ):
            self.add("property.game", place, f"track {number} may set {quote(names[0], 60)} of a node of the game")

    # --- shaders

    def _shader(self, owner: str, code: str, place: int) -> None:
        if not any(self.allowed.classes.is_a(owner, kind) for kind in ("Shader", "ShaderInclude", "VisualShaderNode")):
            return
        for problem, line, message in check_shader(code, self.policy.shaders):
            self.add(problem, place, f"{message} (line {line} of the shader)")


def is_game_path(path: str, patterns: tuple[str, ...]) -> bool:
    """Whether a path is on the game's declared list. ``*`` does not cross a ``/``."""
    parts = path.split("/")
    return any(
        len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))
        for wanted in (pattern.split("/") for pattern in patterns)
    )


def _may_be_scene(pattern: str) -> bool:
    extension = pattern.rpartition(".")[2]
    return "*" in extension or "?" in extension or "[" in extension or extension.lower() in SCENES


def _what(kind: PathKind, path: str) -> str:
    if kind is PathKind.RES:
        for folder, holds in (("res://addons/", "the engine's plug-ins"), ("res://src/", "the game's code")):
            if path.startswith(folder):
                return f"in {folder}, which holds {holds}"
        return "outside the mod"
    return {
        PathKind.USER: "in the game's user folder",
        PathKind.UID: "a UID, which means whatever file has it",
        PathKind.ABSOLUTE: "an absolute path on the player's disk",
    }.get(kind, "of a scheme that the engine hands on")


def _climbs(path: str) -> int:
    """How many levels above its node a path goes at most."""
    level = lowest = 0
    for part in path.partition(":")[0].split("/"):
        if part == "..":
            level -= 1
            lowest = min(lowest, level)
        elif part not in ("", "."):
            level += 1
    return -lowest


def _net(path: str) -> int:
    """Where a path ends, in levels below its node."""
    parts = path.partition(":")[0].split("/")
    return sum(-1 if part == ".." else part not in ("", ".") for part in parts)


def _largest(value: Value) -> float:
    """The largest number of a value: itself, or a component."""
    if isinstance(value, (int, float)):
        return float(min(abs(value), 1 << 64))  # a text may hold 400 digits
    if isinstance(value, Construct) and value.numbers is not None and len(value.numbers) <= 4:
        return float(min(max(map(abs, value.numbers.values()), default=0.0), 1 << 64))
    if isinstance(value, (ArrayValue, DictValue)):
        return 0.0
    if isinstance(value, str):
        try:
            return abs(float(value))  # the engine converts
        except ValueError:
            return 0.0
    return 0.0
