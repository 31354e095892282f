"""Lay the plain accessors out anew: few buffer views, no gaps, nothing twice.

An exporter may write a view per accessor (8,840 views in one real model, 740 KB of JSON), or several views over the
same interleaved bytes. Here accessors of one use share a view: indices, vertex attributes of one stride, and everything
else. Attributes are not interleaved: separate ones compress better on the wire, and GPUs don't mind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Set
from dataclasses import dataclass, field

import numpy as np

from cloudbaker.compute.gltf.dedup import opaque, usage
from cloudbaker.compute.gltf.document import (
    ARRAY_BUFFER,
    COMPONENTS,
    ELEMENT_ARRAY_BUFFER,
    SHAPES,
    Array,
    Document,
    compression,
    padded,
)
from cloudbaker.compute.gltf.references import Json


@dataclass(slots=True)
class _Group:
    """A view in the making."""

    properties: Json
    parts: list[memoryview] = field(default_factory=list)
    places: dict[bytes, int] = field(default_factory=dict)
    """Offset of each content, so that equal ones lie there once."""
    holders: list[Json] = field(default_factory=list)
    size: int = 0

    def put(self, holder: Json, content: memoryview) -> None:
        key = hashlib.sha256(content).digest()
        if key not in self.places:
            gap = -self.size % 4
            if gap:
                self.parts.append(memoryview(bytes(gap)))
            self.places[key] = self.size + gap
            self.parts.append(content)
            self.size += gap + len(content)
        offset = self.places[key]
        holder.pop("byteOffset", None)
        if offset:
            holder["byteOffset"] = offset
        self.holders.append(holder)


def pack(document: Document, only: Set[int] | None = None) -> None:
    """Move the elements of all plain accessors into shared views, in place. Emptied views are left for `prune`.

    With `only` just these accessors are moved. What lies in a compressed view, in a Draco payload, or under an
    extension that we don't know stays where it is.
    """
    uses = usage(document)
    groups: dict[tuple[str, int], _Group] = {}
    for index, accessor in enumerate(document.items("accessors")):
        if uses[index] == "none" or opaque(document, index) or (only is not None and index not in only):
            continue
        view = accessor.get("bufferView")
        columns, rows = SHAPES[accessor["type"]]
        small_matrix = columns > 1 and rows * COMPONENTS[accessor["componentType"]].itemsize % 4
        if view is not None and not small_matrix and not compression(document.items("bufferViews")[view]):
            _place(groups, uses[index], index, accessor, document.base(index))
        if "sparse" in accessor and not small_matrix:
            _place_sparse(document, groups, accessor)
    for _, group in sorted(groups.items(), key=lambda item: item[0]):
        view = document.add_view(b"".join(group.parts), **group.properties)
        for holder in group.holders:
            holder["bufferView"] = view


def _place(groups: dict[tuple[str, int], _Group], use: str, index: int, accessor: Json, data: Array) -> None:
    size = data.shape[1] * data.dtype.itemsize
    if use == "vertex" and "sparse" not in accessor:
        stride = -(-size // 4) * 4
        group = groups.setdefault(("vertex", stride), _Group({"byteStride": stride, "target": ARRAY_BUFFER}))
        group.put(accessor, padded(data, stride))
    elif use == "index" and "sparse" not in accessor:
        group = groups.setdefault(("index", 0), _Group({"target": ELEMENT_ARRAY_BUFFER}))
        group.put(accessor, padded(data, size))
    elif use in ("other", "skin") or size % 4 == 0:
        # Alone where it serves two masters (mixed, or the base of a sparse one): no stride, no target.
        group = groups.setdefault((use, 0) if use in ("other", "skin") else ("single", index), _Group({}))
        group.put(accessor, padded(data, size))


def _place_sparse(document: Document, groups: dict[tuple[str, int], _Group], accessor: Json) -> None:
    sparse = accessor["sparse"]
    dtype = COMPONENTS[accessor["componentType"]]
    columns, rows = SHAPES[accessor["type"]]
    parts = (
        (sparse["indices"], sparse["count"] * COMPONENTS[sparse["indices"]["componentType"]].itemsize),
        (sparse["values"], sparse["count"] * columns * rows * dtype.itemsize),
    )
    for holder, size in parts:
        if compression(document.items("bufferViews")[holder["bufferView"]]):
            continue
        offset = holder.get("byteOffset", 0)
        content = np.frombuffer(document.view(holder["bufferView"]), np.uint8, size, offset)
        groups.setdefault(("other", 0), _Group({})).put(holder, content.data)
