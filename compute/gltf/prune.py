"""Drop what nothing refers to, and close the gaps.

Nodes, scenes, skins, cameras and animations are never dropped: applications find them by number or name. A document
without nodes is a library (section 3.5.1 of the specification), so its meshes and materials are its content and stay.

An extension that we don't know may hold an index of any kind, and no reader can tell. Where such an extension holds
integers the document is *pinned*: nothing is merged or dropped, every accessor keeps its number (with its new data
where it was rewritten), and so does every buffer view that only the extension can be using. `reserve` decides that
once, on the source.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.references import foreign_integers, pointers, references

_ORDER = ("meshes", "materials", "textures", "samplers", "images", "accessors", "bufferViews")
"""From the users to the used, so that one pass is enough."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """What unknown extensions might point at. Empty: renumbering is safe."""

    pinned: bool = False
    accessors: frozenset[int] = frozenset()
    views: frozenset[int] = frozenset()


def reserve(source: Document) -> Reserved:
    """Find out, on an unchanged document, what has to keep its number."""
    foreign = foreign_integers(source.json)
    used = {holder[key] for holder, key, _ in references(source.json, "bufferViews")}
    return Reserved(
        bool(foreign),
        frozenset(i for i in foreign if 0 <= i < len(source.items("accessors"))),
        frozenset(i for i in foreign if 0 <= i < len(source.items("bufferViews")) and i not in used),
    )


FREE = Reserved()
"""Nothing is: no unknown extension holds an integer."""


def prune(document: Document, reserved: Reserved = FREE, *, data_only: bool = False) -> None:
    """Drop, in place, what nothing refers to. What had a name or extras is found and told by `losses.compare`.

    `data_only` looks at accessors and buffer views and leaves the rest, for where the rest has been seen to before.
    """
    if reserved.pinned:
        _settle_accessors(document, reserved)
        _settle_views(document, reserved)
        return
    kinds = _ORDER if document.items("nodes") and not data_only else ("accessors", "bufferViews")
    for kind in kinds:
        drop_unused(document, kind)


def drop_unused(document: Document, kind: str) -> None:
    """Drop the items of one collection that nothing refers to; the others keep their order."""
    used = _used(document, kind)
    kept = [i for i in range(len(document.items(kind))) if i in used]
    if len(kept) == len(document.items(kind)):
        return
    new = [-1] * len(document.items(kind))
    for to, old in enumerate(kept):
        new[old] = to
    document.remap(kind, new, len(kept))


def unused(document: Document) -> dict[str, set[int]]:
    """Per collection, the `id` of each item that nothing refers to: what a verb has not left behind."""
    return {
        kind: {id(item) for index, item in enumerate(document.items(kind)) if index not in used}
        for kind in _ORDER
        for used in [_used(document, kind)]
    }


def drop_orphans(document: Document, before: dict[str, set[int]]) -> bool:
    """Drop the items that nothing refers to and that were not among the `unused` before.

    Whether that leaves holes: a view that was shared with an accessor that is gone still holds its bytes.
    """
    shared: set[int] = set()
    for kind in _ORDER:
        used, alone = _used(document, kind), before[kind]
        items = document.items(kind)
        kept = [i for i, item in enumerate(items) if i in used or id(item) in alone]
        if kind == "accessors":
            gone = {items[i].get("bufferView") for i in set(range(len(items))) - set(kept)}
            shared = {items[i]["bufferView"] for i in kept if "bufferView" in items[i]} & gone
        if len(kept) < len(items):
            new = [-1] * len(items)
            for to, old in enumerate(kept):
                new[old] = to
            document.remap(kind, new, len(kept))
    return bool(shared)


def _used(document: Document, kind: str) -> set[int]:
    used = {holder[key] for holder, key, _ in references(document.json, kind)}
    return used | {index for _, pointed, index in pointers(document.json) if pointed == kind}


def _settle_accessors(document: Document, reserved: Reserved) -> None:
    used, count = _used(document, "accessors"), len(document.items("accessors"))
    place: dict[int, int] = {}
    for slot in sorted(reserved.accessors):
        heir = document.heir(slot)
        # The rewritten accessor moves into the number of the one that it replaces: same meaning, new data.
        place[heir if slot not in used and heir in used and heir not in place else slot] = slot
    _settle(
        document, "accessors", place, used - place.keys(), count, {"componentType": 5121, "count": 1, "type": "SCALAR"}
    )


def _settle_views(document: Document, reserved: Reserved) -> None:
    used, count = _used(document, "bufferViews"), len(document.items("bufferViews"))
    if used >= set(range(count)):
        return
    filler = document.add_view(bytes(4))
    place = {slot: slot for slot in reserved.views}
    _settle(document, "bufferViews", place, used - place.keys(), count, dict(document.items("bufferViews")[filler]))


def _settle(
    document: Document, kind: str, place: dict[int, int], others: set[int], count: int, filler: dict[str, object]
) -> None:
    taken = set(place.values())
    free = (slot for slot in range(len(taken) + len(others)) if slot not in taken)
    place.update(zip(sorted(others), free, strict=False))
    size = max(place.values(), default=-1) + 1
    holes = sorted(set(range(size)) - set(place.values()))
    new = [place.get(old, -1) for old in range(len(document.items(kind)))]
    spare = [old for old in range(len(new)) if new[old] < 0]
    for hole, old in zip(holes, spare, strict=False):
        # A number that nobody uses but that must exist, because one above it is reserved: it gets the filler.
        document.items(kind)[old] = dict(filler)
        if kind == "bufferViews":
            document.set_view(old, bytes(4))
        new[old] = hole
    document.remap(kind, new, size)
