"""To and from `pygltflib.GLTF2`, for notebooks that already speak it. Never on the way of a bake.

pygltflib is the object model that most Python code around glTF uses. It writes out defaults, knows no compression, and
refuses legal things (extras that are no object); what it can't hold, `to_pygltflib` says.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cloudbaker.compute.gltf.decompress import decode
from cloudbaker.compute.gltf.document import Document, compression
from cloudbaker.compute.gltf.losses import compare
from cloudbaker.model import Loss

if TYPE_CHECKING:
    import pygltflib


def to_pygltflib(document: Document) -> tuple[pygltflib.GLTF2, list[Loss]]:
    """A document as a `pygltflib.GLTF2` with one binary blob, and what it could not hold.

    Draco and meshopt payloads are unpacked: pygltflib would hand out the compressed bytes as if they were vertices.
    Raises ValueError on a document that pygltflib can't read.

    >>> gltf, lost = to_pygltflib(Document.from_glb(data))      # doctest: +SKIP
    """
    plain = document.clone()
    decode(plain)
    gltf = _held(plain)
    lost = compare(document, from_pygltflib(gltf))
    # It writes out defaults (alphaMode OPAQUE …) that the source left unsaid.
    return gltf, [loss for loss in lost if not loss.detail.startswith("was not set")]


def from_pygltflib(gltf: pygltflib.GLTF2) -> Document:
    """The document of a `pygltflib.GLTF2`.

    Buffers must be the binary blob (``gltf.convert_buffers(pygltflib.BufferFormat.BINARYBLOB)`` makes them so). Raises
    ValueError where one has a URI: nothing is read from disk or network.
    """
    if any(buffer.uri for buffer in gltf.buffers):
        raise ValueError(
            "the model's buffers have URIs: call gltf.convert_buffers(pygltflib.BufferFormat.BINARYBLOB) first"
        )
    fields: dict[str, Any] = json.loads(gltf.gltf_to_json())
    return Document(fields, gltf.binary_blob())


def adopt(gltf: pygltflib.GLTF2, document: Document) -> None:
    """Give a `pygltflib.GLTF2` the content of a document, in place; where it was loaded from stays.

    Raises ValueError, and leaves it alone, where pygltflib can't hold the document: what EXT_meshopt_compression packs
    it would write with offsets of another layout.
    """
    if any(compression(view) is not None for view in document.items("bufferViews")):
        raise ValueError(
            "pygltflib writes views that meshopt has packed with wrong offsets: take Document.from_glb, and write "
            "document.to_glb() to a file"
        )
    vars(gltf).update(vars(_held(document)))


def _held(document: Document) -> pygltflib.GLTF2:
    import pygltflib

    try:
        return pygltflib.GLTF2.load_from_bytes(document.to_glb())
    except (AttributeError, TypeError, KeyError) as error:
        raise ValueError(f"pygltflib can't hold this document ({error}): work on cloudbaker's Document") from error
