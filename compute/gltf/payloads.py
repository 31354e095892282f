"""Decode what Draco and meshopt have packed, and check what is inside.

The official validator does not look there, and a viewer on the user's machine does: a payload that claims other counts
than its accessors, an index past the last vertex or a NaN would arrive untested.
"""

from __future__ import annotations

from typing import Any

from cloudbaker.compute.gltf.decompress import decompress
from cloudbaker.compute.gltf.document import Document, DocumentError
from cloudbaker.compute.gltf.findings import Findings, quote
from cloudbaker.compute.gltf.glb import Buffer
from cloudbaker.compute.gltf.layout import Primitive, meshopt_extension, primitives
from cloudbaker.compute.gltf.limits import ContentLimits
from cloudbaker.compute.gltf.precheck import precheck
from cloudbaker.compute.meshes import draco

Json = dict[str, Any]


def is_packed(document: Json) -> bool:
    """Whether anything in it is compressed by Draco or meshopt."""
    return any(map(meshopt_extension, document.get("bufferViews", ()))) or any(p.draco for p in primitives(document))


def check_payloads(data: Buffer, document: Json, limits: ContentLimits, findings: Findings) -> bytes | None:
    """Check all payloads of a GLB that has passed the pre-check; the GLB without compression if they are sound.

    The decompressed GLB passes the pre-check again: bounds, indices and finite values, now of what was hidden.
    """
    source = Document.from_glb(data)
    for primitive in primitives(document):
        if primitive.draco is not None:
            _claims(primitive, source, limits, findings)
    if findings.failed:
        return None
    try:
        plain = decompress(data)
    except (DocumentError, MemoryError, ValueError):
        _blame(source, findings)
        return None
    checked = precheck(plain, limits)
    findings.extend(checked.findings)
    if checked.document is not None:
        _counts(document, checked.document, findings)
    return None if findings.failed else plain


def _claims(primitive: Primitive, source: Document, limits: ContentLimits, findings: Findings) -> None:
    """What a Draco header claims, before the decoder allocates for it."""
    assert primitive.draco is not None
    try:
        header = draco.read_header(source.stored(primitive.draco["bufferView"]))
    except ValueError as error:
        findings.add("draco.corrupt", primitive.place, str(error))
        return
    accessors = source.items("accessors")
    vertices = [accessors[primitive.json["attributes"][name]]["count"] for name in primitive.draco["attributes"]]
    most = max(vertices, default=limits.triangles)
    if header.geometry != "mesh":
        findings.add("draco.mismatch", primitive.place, f"the payload is a {header.geometry}, not a mesh")
    elif header.triangles is not None and header.triangles > limits.triangles:
        findings.add("draco.mismatch", primitive.place, f"the payload claims {header.triangles:,} triangles")
    elif header.vertices is not None and header.vertices > most:
        findings.add(
            "draco.mismatch",
            primitive.place,
            f"the payload claims {header.vertices:,} vertices, the accessors {most:,}",
        )


def _counts(before: Json, after: Json, findings: Findings) -> None:
    """Decoded counts against the accessors' of the file. Places are the same in both: nothing is renumbered."""
    for packed, plain in zip(primitives(before), primitives(after), strict=True):
        if packed.draco is None:
            continue
        old_ids, new_ids = packed.json["attributes"], plain.json["attributes"]
        pairs = [(name, old_ids[name], new_ids[name]) for name in packed.draco["attributes"]]
        if "indices" in packed.json and packed.json.get("mode", 4) == 4:
            pairs.append(("indices", packed.json["indices"], plain.json["indices"]))
        for name, old, new in pairs:
            said, has = before["accessors"][old]["count"], after["accessors"][new]["count"]
            if said != has:
                findings.add(
                    "draco.mismatch", packed.place, f"{quote(name)}: the accessor says {said:,}, the payload {has:,}"
                )


def _blame(source: Document, findings: Findings) -> None:
    """Name each payload that does not decode: the decompression stops at the first."""
    for at, view in enumerate(source.items("bufferViews")):
        if meshopt_extension(view) is not None:
            try:
                source.view(at)
            except (ValueError, MemoryError) as error:
                findings.add("meshopt.corrupt", f"/bufferViews/{at}", _message(error))
    for primitive in primitives(source.json):
        if primitive.draco is not None:
            try:
                draco.decode(source.view(primitive.draco["bufferView"]), attribute_ids=primitive.draco["attributes"])
            except (ValueError, MemoryError) as error:
                findings.add("draco.corrupt", primitive.place, _message(error))
    if not findings.failed:
        findings.add("draco.mismatch", "", "the compressed data do not fit the document around them")


def _message(error: Exception) -> str:
    return getattr(error, "message", None) or str(error) or type(error).__name__
