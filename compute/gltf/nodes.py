"""Which nodes may be moved, merged or emptied without anybody noticing, and their transforms.

A node keeps its number whatever happens: animations, skins and applications count on it. What is taken out of the scene
is left as an empty object.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from cloudbaker.compute.gltf.document import Array, Document
from cloudbaker.compute.gltf.poses import local_matrix
from cloudbaker.compute.gltf.references import POINTER, Json, foreign_integers

TRANSFORM = frozenset({"matrix", "translation", "rotation", "scale"})
_POINTED = re.compile(r"/nodes/(0|[1-9][0-9]*)(?=/|$)")


class Nodes:
    """The nodes of a document as a tree that can be changed, and which of them something counts on.

    `save` writes children and roots back. Every change takes the same time, however many nodes there are.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.json: list[Json] = document.items("nodes")
        self.parents = [-1] * len(self.json)
        self._children = [dict.fromkeys(node.get("children", ())) for node in self.json]
        self._roots = [dict.fromkeys(scene.get("nodes", ())) for scene in document.items("scenes")]
        for number, children in enumerate(self._children):
            for child in children:
                self.parents[child] = number
        self._scenes: dict[int, list[int]] = {}
        for scene, roots in enumerate(self._roots):
            for root in roots:
                self._scenes.setdefault(root, []).append(scene)
        self.moving = _moving(document)
        """Moved or shown by an animation, or pointed at by an extension."""
        self.bones = _bones(document)
        """Joints and roots of skeletons."""
        self.pinned = bool(foreign_integers(document.json))
        """An unknown extension holds integers, which may be numbers of nodes: touch nothing."""
        self.animated_meshes = {
            int(found["index"])
            for pointer in _pointers(document)
            if (found := POINTER.match(pointer)) and found["kind"] == "meshes"
        }

    def is_free(self, number: int, *, keep_named: bool) -> bool:
        """Whether nobody can tell this node from another but by where it is and what it shows.

        It has no extras and no extension, nothing moves it or counts on it, and with `keep_named` it has no name.
        """
        known = {"mesh", "children", *TRANSFORM, *(() if keep_named else ("name",))}
        return self.json[number].keys() <= known and number not in self.moving and number not in self.bones

    def has_children(self, number: int) -> bool:
        """Whether it has any at present."""
        return bool(self._children[number])

    def siblings(self, number: int) -> tuple[int, tuple[int, ...]]:
        """What nodes with the same parent have in common; of roots, the scenes that show them."""
        parent = self.parents[number]
        return (parent, ()) if parent >= 0 else (-1, tuple(self._scenes.get(number, ())))

    def empty(self, number: int) -> None:
        """Take mesh and, where nothing else is in it, the node itself out of the scene; a named one stays in place."""
        node = self.json[number]
        node.pop("mesh", None)
        if self._children[number] or not node.keys() <= {"children", *TRANSFORM}:
            return
        node.clear()
        self._detach(number)

    def move(self, number: int, parent: int, below: int) -> None:
        """Make a node a child of `parent`, or where that is -1 a root of the scenes that show the root `below`."""
        self._detach(number)
        self.parents[number] = parent
        if parent >= 0:
            self._children[parent][number] = None
            return
        self._scenes[number] = list(self._scenes.get(below, ()))
        for scene in self._scenes[number]:
            self._roots[scene][number] = None

    def _detach(self, number: int) -> None:
        if self.parents[number] >= 0:
            del self._children[self.parents[number]][number]
        for scene in self._scenes.pop(number, ()):
            del self._roots[scene][number]
        self.parents[number] = -1

    def save(self) -> None:
        """Write what has changed into the document."""
        scenes = self.document.items("scenes")
        for holders, key, all_numbers in ((self.json, "children", self._children), (scenes, "nodes", self._roots)):
            for holder, numbers in zip(holders, all_numbers, strict=True):
                if numbers:
                    if holder.get(key) != [*numbers]:
                        holder[key] = [*numbers]
                else:  # an empty list is not allowed
                    holder.pop(key, None)


def _moving(document: Document) -> set[int]:
    found = {
        channel["target"]["node"]
        for animation in document.items("animations")
        for channel in animation["channels"]
        if "node" in channel["target"]
    }
    found |= {int(match[1]) for pointer in _pointers(document) if (match := _POINTED.match(pointer))}
    for node in document.items("nodes"):
        found |= {*node.get("extensions", {}).get("MSFT_lod", {}).get("ids", ())}
    return found


def _bones(document: Document) -> set[int]:
    return {
        bone
        for skin in document.items("skins")
        for bone in (*skin["joints"], *([skin["skeleton"]] if "skeleton" in skin else []))
    }


def _pointers(document: Document) -> list[str]:
    """All JSON pointers of KHR_animation_pointer."""
    targets = [c["target"] for animation in document.items("animations") for c in animation["channels"]]
    pointers = [t.get("extensions", {}).get("KHR_animation_pointer", {}).get("pointer") for t in targets]
    return [pointer for pointer in pointers if isinstance(pointer, str)]


def place(node: Json, translation: Array, rotation: Array, scale: Array) -> None:
    """Write a node's transform, without what is the default."""
    for key in TRANSFORM:
        node.pop(key, None)
    for key, values, default in (
        ("translation", translation, (0, 0, 0)),
        ("rotation", rotation, (0, 0, 0, 1)),
        ("scale", scale, (1, 1, 1)),
    ):
        # What is off by float32 rounding is what it was meant to be.
        if np.abs(values - default).max() > 1e-7:
            node[key] = numbers(values)


def numbers(values: Sequence[float] | Array) -> list[float]:
    """Floats as the shortest decimals that read back as the same float32."""
    return [float(str(value)) for value in np.asarray(values, np.float32)]


def local(node: Json) -> Array:
    """A node's own 4 × 4 transform, column vectors, float64."""
    return np.asarray(local_matrix(node), np.float64)
