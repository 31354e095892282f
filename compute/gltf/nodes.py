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
    """The nodes of a document, their parents, and those that something counts on."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.json: list[Json] = document.items("nodes")
        self.parents = [-1] * len(self.json)
        for number, node in enumerate(self.json):
            for child in node.get("children", ()):
                self.parents[child] = number
        self.moving = _moving(document)
        """Moved or shown by an animation, a joint, or pointed at by an extension."""
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

    def siblings(self, number: int) -> tuple[int, tuple[int, ...]]:
        """What nodes with the same parent have in common; of roots, the scenes that show them."""
        parent = self.parents[number]
        if parent >= 0:
            return parent, ()
        scenes = self.document.items("scenes")
        return -1, tuple(i for i, scene in enumerate(scenes) if number in scene.get("nodes", ()))

    def empty(self, number: int) -> None:
        """Take mesh and, where nothing else is in it, the node itself out of the scene; a named one stays in place."""
        node = self.json[number]
        node.pop("mesh", None)
        if not node.keys() <= TRANSFORM:
            return
        node.clear()
        holders = [self.json[self.parents[number]]] if self.parents[number] >= 0 else self.document.items("scenes")
        for holder in holders:
            self._remove(holder, number)
        self.parents[number] = -1

    def _remove(self, holder: Json, number: int) -> None:
        for key in ("children", "nodes"):
            if number in holder.get(key, ()):
                holder[key] = [other for other in holder[key] if other != number]
                if not holder[key]:  # an empty list is not allowed
                    del holder[key]

    def move(self, number: int, parent: int, below: int) -> None:
        """Make a node a child of `parent`, or where that is -1 a root of the scenes that show the root `below`."""
        old = self.json[self.parents[number]]
        self._remove(old, number)
        self.parents[number] = parent
        if parent >= 0:
            self.json[parent].setdefault("children", []).append(number)
            return
        for scene in self.document.items("scenes"):
            if below in scene.get("nodes", ()):
                scene["nodes"].append(number)


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
