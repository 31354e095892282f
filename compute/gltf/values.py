"""What accessors hold: finite numbers, indices below the vertex count, joints that the skin has.

Reads in blocks of a few MB whatever the accessor, never a copy of it, and each accessor once however many share it. Two
known optimizers pass NaN positions and out-of-range indices on as valid; native mesh code segfaults on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudbaker.compute.gltf.findings import Findings, pointer_key
from cloudbaker.compute.gltf.layout import element_bytes, meshopt_extension, primitives
from cloudbaker.compute.gltf.schema import TYPES

Document = dict[str, Any]
Array = npt.NDArray[Any]

_DTYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_BLOCK_BYTES = 4 << 20
_OVERLAP = 32
"""Times the binary chunk that all accessors together may read; exporters that share buffers reach 2. The official
validator reads equal accessors again and again: 99,000 of one large range would keep it for hours."""
_FREE_BYTES = 256 << 20


def check_values(document: Document, bin: memoryview | None, findings: Findings) -> None:
    """Check the data of a document that has passed `check_layout`. What is compressed is passed over."""
    reader = _Reader(document, bin if bin is not None else memoryview(b""))
    if not reader.affordable(findings):
        return
    accessors = document.get("accessors", [])
    for at, accessor in enumerate(accessors):
        if accessor["componentType"] == 5126:
            bad = reader.first_not_finite(at)
            if bad is not None:
                findings.add("gltf.not-finite", f"/accessors/{at}", f"element {bad:,} is NaN or infinite")
        if "sparse" in accessor and not reader.sparse_is_sound(at):
            findings.add(
                "gltf.sparse-invalid",
                f"/accessors/{at}/sparse/indices",
                f"they do not ascend strictly below {accessor['count']:,}",
            )
    for primitive in primitives(document):
        attributes = primitive.json["attributes"]
        if "indices" in primitive.json and attributes:
            count = accessors[next(iter(attributes.values()))]["count"]
            largest = reader.largest(primitive.json["indices"])
            if largest >= count:
                findings.add(
                    "gltf.index-out-of-range",
                    f"{primitive.place}/indices",
                    f"the largest index is {largest:,}, there are {count:,} vertices",
                )
    _joints(document, reader, findings)


def _joints(document: Document, reader: _Reader, findings: Findings) -> None:
    """The largest joint number of each mesh, against the smallest skin that it is shown with."""
    bones: dict[int, int] = {}
    for node in document.get("nodes", ()):
        if "skin" in node and "mesh" in node:
            joints = len(document["skins"][node["skin"]]["joints"])
            bones[node["mesh"]] = min(joints, bones.get(node["mesh"], joints))
    for primitive in primitives(document):
        count = bones.get(primitive.mesh)
        if count is None:
            continue
        for name, accessor in primitive.json["attributes"].items():
            if name.startswith("JOINTS_") and (largest := reader.largest(accessor)) >= count:
                findings.add(
                    "gltf.joint-out-of-range",
                    f"{primitive.place}/attributes/{pointer_key(name)}",
                    f"joint {largest} is used, the skin has {count}",
                )


class _Reader:
    def __init__(self, document: Document, bin: memoryview) -> None:
        self._accessors: list[Document] = document.get("accessors", [])
        self._views: list[Document] = document.get("bufferViews", [])
        self._bin = bin
        self._largest: dict[tuple[Any, ...], int] = {}
        self._finite: dict[tuple[Any, ...], int | None] = {}

    def affordable(self, findings: Findings) -> bool:
        """Whether reading every accessor stays within a multiple of the file."""
        total = sum(a["count"] * element_bytes(a) for a in self._accessors if "bufferView" in a)
        most = _OVERLAP * len(self._bin) + _FREE_BYTES
        if total > most:
            findings.add("gltf.overlapping-data", "/accessors", f"they read {total:,} bytes of {len(self._bin):,}")
        return bool(total <= most)

    def first_not_finite(self, index: int) -> int | None:
        """The first element of a float accessor that is NaN or infinite."""
        key = self._key(self._accessors[index])
        if key not in self._finite:
            self._finite[key] = self._find_not_finite(index)
        return self._finite[key]

    def _find_not_finite(self, index: int) -> int | None:
        at = 0
        for block in self._blocks(index):
            good = np.isfinite(block)
            if not good.all():
                return at + int(np.argmin(good.all(axis=1)))
            at += len(block)
        return None

    def largest(self, index: int) -> int:
        """The largest value of an integer accessor, -1 where it has no data here.

        A sparse one counts with what it replaces, too: such indices do not occur in the wild.
        """
        key = self._key(self._accessors[index])
        if key not in self._largest:
            self._largest[key] = max((int(block.max()) for block in self._blocks(index)), default=-1)
        return self._largest[key]

    def _key(self, accessor: Document) -> tuple[Any, ...]:
        sparse = accessor.get("sparse")
        return (
            accessor.get("bufferView"),
            accessor.get("byteOffset", 0),
            accessor["count"],
            accessor["componentType"],
            accessor["type"],
            None if sparse is None else (sparse["values"]["bufferView"], sparse["values"].get("byteOffset", 0)),
        )

    def _blocks(self, index: int) -> Iterator[Array]:
        accessor = self._accessors[index]
        if "bufferView" in accessor:
            yield from self._read(accessor, accessor["bufferView"], accessor.get("byteOffset", 0), accessor["count"])
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            values = sparse["values"]
            yield from self._read(accessor, values["bufferView"], values.get("byteOffset", 0), sparse["count"])

    def sparse_is_sound(self, index: int) -> bool:
        """Whether the indices of a sparse accessor ascend strictly and stay below its count (3.6.2.3)."""
        count, sparse = self._accessors[index]["count"], self._accessors[index]["sparse"]
        indices = {"componentType": sparse["indices"]["componentType"], "type": "SCALAR"}
        place = sparse["indices"]
        before = -1
        for block in self._read(indices, place["bufferView"], place.get("byteOffset", 0), sparse["count"]):
            row = block[:, 0].astype(np.int64)
            if int(row[0]) <= before or int(row[-1]) >= count or not (np.diff(row) > 0).all():
                return False
            before = int(row[-1])
        return True

    def _read(self, accessor: Document, view_index: int, offset: int, count: int) -> Iterator[Array]:
        view = self._views[view_index]
        if meshopt_extension(view) is not None:
            return
        dtype = np.dtype(_DTYPES[accessor["componentType"]])
        stride = view.get("byteStride", element_bytes(accessor))
        start = view.get("byteOffset", 0) + offset
        # Matrices of small integers have padded columns; nothing here reads those but as a row of bytes.
        shape = (count, TYPES[accessor["type"]])
        whole: Array = np.ndarray(shape, dtype, self._bin, start, (stride, dtype.itemsize))
        rows = max(1, _BLOCK_BYTES // (dtype.itemsize * shape[1]))
        for first in range(0, count, rows):
            yield whole[first : first + rows]
