"""Vertices and every triangle list drawn from them: what may be joined and put in another order without any loss.

Elements are moved as they are stored, so integers stay integers and no float is rounded. Exporters often draw several
primitives from one set of vertices; they stay together here, where `primitives.read` would give each a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cloudbaker.compute.gltf.document import ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER, Array, Document
from cloudbaker.compute.gltf.primitives import index_array, shapes
from cloudbaker.compute.gltf.references import Json, references
from cloudbaker.compute.gltf.sparsify import store_sparse

Numbers = npt.NDArray[np.int64]
Triangles = npt.NDArray[np.uint32]


@dataclass(slots=True)
class Drawing:
    """A triangle list, strip or fan, and all primitives that draw it."""

    primitives: list[Json]
    """The primitives' own JSON: change all alike."""

    @property
    def first(self) -> Json:
        """The first primitive; the others refer to the same accessors."""
        return self.primitives[0]


@dataclass(slots=True)
class VertexSet:
    """Vertices (all attributes and morph targets alike) and what is drawn from them."""

    place: str
    """JSON pointer of the first primitive."""
    attributes: dict[str, int]
    targets: list[dict[str, int]]
    drawings: list[Drawing] = field(default_factory=list)
    shared: bool = False
    """Something else uses some of these accessors too, so they stay, whatever becomes of this set."""

    @property
    def accessors(self) -> dict[str, int]:
        """Accessor by stream: attributes by semantic, those of morph targets as ``/0/POSITION``."""
        return self.attributes | {
            f"/{number}/{name}": index for number, target in enumerate(self.targets) for name, index in target.items()
        }

    def streams(self, document: Document) -> dict[str, Array]:
        """Elements by stream, (n, components) each, in the types in which they are stored."""
        return {name: document.accessor(index) for name, index in self.accessors.items()}


def vertex_sets(document: Document) -> list[VertexSet]:
    """The vertex sets of a document whose vertices may be renumbered (see `primitives.shapes`)."""
    found: dict[object, VertexSet] = {}
    for shape in shapes(document):
        attributes, targets = shape.first["attributes"], shape.first.get("targets", ())
        key = (tuple(sorted(attributes.items())), tuple(tuple(sorted(target.items())) for target in targets))
        new = VertexSet(shape.place, dict(attributes), [dict(target) for target in targets])
        found.setdefault(key, new).drawings.append(Drawing(shape.primitives))
    _mark_shared(document, found.values())
    return list(found.values())


def _mark_shared(document: Document, sets: Iterable[VertexSet]) -> None:
    owner: dict[int, VertexSet] = {}  # id of the JSON object that holds the reference
    for each in sets:
        for drawing in each.drawings:
            for primitive in drawing.primitives:
                for holder in (primitive["attributes"], *primitive.get("targets", ())):
                    owner[id(holder)] = each
    users: dict[int, set[int]] = {}
    for holder, key, _ in references(document.json, "accessors"):
        users.setdefault(holder[key], set()).add(id(owner.get(id(holder))))
    for each in sets:
        each.shared = any(len(users[index]) > 1 for index in each.accessors.values())


def rewrite(document: Document, each: VertexSet, lists: Sequence[Triangles], source: Numbers | None) -> list[int]:
    """Give a set's primitives new vertices (new vertex `i` is the old ``source[i]``) and triangle lists.

    Without `source` the vertices stay the accessors that they are. What was used before is left for `prune`; a sparse
    accessor stays sparse where that is smaller. Returns the new accessors, each with a view of its own: see `pack`.
    """
    count = document.items("accessors")[each.attributes["POSITION"]]["count"] if source is None else len(source)
    moved: dict[int, int] = {}
    if source is not None:
        moved = {index: _moved(document, index, source) for index in sorted({*each.accessors.values()})}
    made = [*moved.values()]
    for drawing, faces in zip(each.drawings, lists, strict=True):
        indices = document.add_accessor(
            index_array(faces, count), like=drawing.first.get("indices"), target=ELEMENT_ARRAY_BUFFER
        )
        made.append(indices)
        for primitive in drawing.primitives:
            primitive["indices"] = indices
            primitive.pop("mode", None)
            for holder in (primitive["attributes"], *primitive.get("targets", ())):
                holder.update({name: moved.get(index, index) for name, index in holder.items()})
    return made


def _moved(document: Document, index: int, source: Numbers) -> int:
    accessor = document.items("accessors")[index]
    data = document.accessor(index)[source]
    new = document.add_accessor(
        data,
        like=index,
        normalized=bool(accessor.get("normalized")),
        bounds="min" in accessor or "max" in accessor,
        target=ARRAY_BUFFER,
        type=accessor["type"],
    )
    if "sparse" in accessor or "bufferView" not in accessor:
        store_sparse(document, new)
    return new


def row_bytes(data: Array) -> int:
    """Bytes of a vertex attribute's element: a multiple of 4."""
    return int(-(-data.shape[1] * data.dtype.itemsize // 4) * 4)
