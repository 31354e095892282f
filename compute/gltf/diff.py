"""Two files side by side: sizes, counts, geometry, images, extensions, names, and what the second lacks.

For whoever wants to know what a tool did to a model, ours or another's. Sizes and counts are those of `inspect`, what
is lost is found by `compare`, and the geometry is decoded and measured where the two files have the same nodes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from cloudbaker.compute.gltf.decompress import decode, dequantize
from cloudbaker.compute.gltf.document import Array, Document
from cloudbaker.compute.gltf.inspect import inspect
from cloudbaker.compute.gltf.limits import ContentLimits
from cloudbaker.compute.gltf.losses import compare
from cloudbaker.compute.gltf.measure import measure
from cloudbaker.compute.gltf.poses import local_matrix
from cloudbaker.compute.gltf.precheck import Checked, precheck
from cloudbaker.compute.gltf.primitives import TRIANGLES, Geometry, read
from cloudbaker.compute.gltf.weigh import BROTLI_QUALITY, brotli_bytes
from cloudbaker.compute.job import Inputs, JobResult, Params
from cloudbaker.compute.meshes.error import mesh_error
from cloudbaker.model import to_json

Row = dict[str, Any]

SAMPLES = 2000
"""Points on each surface, where primitives are measured in boxes of their own."""
BEFORE, AFTER = "before.glb", "after.glb"
SIZES = (
    *("bytes", "geometry_bytes", "animation_bytes", "image_bytes", "json_bytes", "other_bytes"),
    *("geometry_gpu_bytes", "texture_gpu_bytes"),
)
COUNTS = (
    *("triangles", "drawn_triangles", "vertices", "primitives", "draw_calls", "meshes", "materials", "textures"),
    *("images", "animations", "keyframes", "skins", "nodes", "scenes", "cameras", "lights", "variants"),
)
NAMED = ("scenes", "nodes", "meshes", "materials", "textures", "images", "animations", "skins", "cameras")
FOOTNOTES = {
    "sizes": [
        f"brotli: the whole file at quality {BROTLI_QUALITY}, as a server compresses on the way.",
        "GPU bytes: estimates, see `cloudbaker inspect`.",
    ],
    "geometry": [
        "error: distance between the two surfaces, decoded, in % of each primitive's bounding box; points are sampled, "
        "so the mean is good to some 5 % of itself. Where nodes or skins put a mesh elsewhere, each primitive is "
        "measured in a box of its own.",
        "suggested distance: from there on (scene units) the error covers at most a pixel of a 1080-line, 50° view.",
    ],
    "textures": ["images are matched by name where each name occurs once, else by number."],
    "names": ["lost: names that occur less often than before; a renamed thing is one lost and one new."],
    "losses": ["what the first file has and its counterpart in the second lacks; none means: nothing was lost."],
}


def diff_job(inputs: Inputs, params: Params) -> JobResult:
    """The tables of two models side by side.

    Inputs ``before.glb`` and ``after.glb``; params ``{"limits": {…}}``. Value: ``{"findings": {"before": […], "after":
    […]}}`` and, if both pass the pre-check, the tables of `diff` (see `inspect_job` for their form).
    """
    limits = ContentLimits.of(params)
    first, second = precheck(inputs[BEFORE], limits), precheck(inputs[AFTER], limits)
    value: Row = {"findings": {"before": first.findings.to_json(), "after": second.findings.to_json()}}
    if first.document is not None and second.document is not None:
        value |= diff(first, inputs[BEFORE], second, inputs[AFTER])
    return JobResult(value)


def diff(first: Checked, before: memoryview, second: Checked, after: memoryview) -> dict[str, Any]:
    """The tables of two files that have passed the pre-check: sizes, counts, geometry, textures, extensions, names,
    losses."""
    assert first.document is not None
    assert second.document is not None
    seen = [inspect(c.document or {}, c.bin, len(data)) for c, data in ((first, before), (second, after))]
    old, new = (Document.from_glb(data) for data in (before, after))
    brotli = [brotli_bytes([data]) for data in (before, after)]
    losses = [to_json(loss) for loss in compare(old, new)]  # before anything is decoded in place
    tables: dict[str, list[Row]] = {
        "sizes": [*_figures(seen, SIZES[:1]), _figure("brotli", *brotli), *_figures(seen, SIZES[1:])],
        "counts": list(_figures(seen, COUNTS)),
        "geometry": [_geometry(old, new)],
        "textures": list(_textures(*(tables["textures"]["rows"] for tables in seen))),
        "extensions": list(_extensions(*(tables["extensions"]["rows"] for tables in seen))),
        "names": list(_names(old, new)),
        "losses": losses,
    }
    return {name: {"rows": rows, "footnotes": FOOTNOTES.get(name, [])} for name, rows in tables.items()}


def _figures(seen: list[dict[str, Any]], names: tuple[str, ...]) -> Iterator[Row]:
    for name in names:
        yield _figure(name, *(tables["totals"][name] for tables in seen))


def _figure(name: str, before: int, after: int) -> Row:
    change = round(100 * (after - before) / before, 1) if before else None
    return {"figure": name, "before": before, "after": after, "change_percent": change}


def _geometry(before: Document, after: Document) -> Row:
    """Mean and largest distance of the surfaces, or why they can't be told."""
    reason = unlike(before, after)
    if not reason:
        try:
            for document in (before, after):
                decode(document)
                dequantize(document)
            if _placed(before, after):
                return _boxed(before, after)
            found = measure(before, after)
        except ValueError as error:
            reason = str(error)
        else:
            return {
                "error_mean_percent": _percent(found.error_mean_percent),
                "error_max_percent": _percent(found.error_max_percent),
                "suggested_distance": found.suggested_distance,
                "note": "",
            }
    return {
        "error_mean_percent": None,
        "error_max_percent": None,
        "suggested_distance": None,
        "note": f"not measured: {reason}",
    }


def _placed(before: Document, after: Document) -> bool:
    """Whether nodes or skins put meshes elsewhere: tools that quantize move scale and place from meshes into them."""
    for a, b in zip(before.items("nodes"), after.items("nodes"), strict=True):
        if not np.allclose(local_matrix(a), local_matrix(b), rtol=1e-4, atol=1e-6):
            return True
    pairs = zip(before.items("skins"), after.items("skins"), strict=False)
    for a, b in pairs:
        if ("inverseBindMatrices" in a) != ("inverseBindMatrices" in b):
            return True
        if "inverseBindMatrices" in a:
            ours, theirs = (d.accessor(s["inverseBindMatrices"]) for d, s in ((before, a), (after, b)))
            if ours.shape != theirs.shape or not np.allclose(ours, theirs, rtol=1e-4, atol=1e-5):
                return True
    return False


def _boxed(before: Document, after: Document) -> Row:
    """The distance of each primitive's surfaces at rest, both brought to a box whose longest side is one."""
    weighted = largest = 0.0
    total, seen = 0, set()
    for a, b in zip(before.items("nodes"), after.items("nodes"), strict=True):
        if "mesh" not in a or (a["mesh"], b["mesh"]) in seen:
            continue
        seen.add((a["mesh"], b["mesh"]))
        drawn = (document.items("meshes")[node["mesh"]]["primitives"] for document, node in ((before, a), (after, b)))
        for p, q in zip(*drawn, strict=True):
            if p.get("mode", TRIANGLES) < TRIANGLES or "POSITION" not in p["attributes"]:
                continue
            ours, theirs = read(before, p), read(after, q)
            if len(ours.indices):
                error = mesh_error(*boxed(ours), *boxed(theirs), samples=SAMPLES)
                if not math.isfinite(error.max_percent):
                    raise ValueError("a primitive has lost all its triangles")
                weighted, total = weighted + len(ours.indices) * error.mean_percent, total + len(ours.indices)
                largest = max(largest, error.max_percent)
    return {
        "error_mean_percent": _percent(weighted / total if total else 0.0),
        "error_max_percent": _percent(largest),
        "suggested_distance": None,
        "note": "each primitive in a box of its own: meshes have other places or sizes in the nodes or skins",
    }


def boxed(geometry: Geometry) -> tuple[Array, Array]:
    """Points and triangles in a box whose longest side is one; without those triangles that nobody sees, which some
    drop and some keep."""
    points = geometry.attributes["POSITION"].astype(np.float64)
    a, b, c = (points[geometry.indices[:, k]] for k in range(3))
    seen = (a != b).any(axis=1) & (b != c).any(axis=1) & (c != a).any(axis=1)
    faces = geometry.indices[seen] if seen.any() else geometry.indices
    corners = points[faces].reshape(-1, 3)
    if not len(corners):
        return points, faces
    return (points - corners.min(axis=0)) / (float(np.ptp(corners, axis=0).max()) or 1.0), faces


def _percent(value: float) -> float:
    return float(f"{value:.4g}") if value > 1e-9 else 0.0  # below is what sums of doubles are off by


def unlike(before: Document, after: Document) -> str:
    """Why primitives can't be matched node by node; empty if they can."""
    old, new = before.items("nodes"), after.items("nodes")
    if len(old) != len(new):
        return f"{len(old)} nodes became {len(new)}"
    for number, (a, b) in enumerate(zip(old, new, strict=True)):
        if ("mesh" in a) != ("mesh" in b):
            return f"node {number} has a mesh in one file only"
        if "mesh" not in a:
            continue
        if _joints(before, a) != _joints(after, b):
            return f"node {number} has other joints"
        ours, theirs = (d.items("meshes")[n["mesh"]]["primitives"] for d, n in ((before, a), (after, b)))
        if len(ours) != len(theirs):
            return f"the mesh of node {number} has {len(ours)} primitives, then {len(theirs)}"
        for p, q in zip(ours, theirs, strict=True):
            if ("POSITION" in p["attributes"]) != ("POSITION" in q["attributes"]):
                return f"the mesh of node {number} has positions in one file only"
            if len(p.get("targets", ())) != len(q.get("targets", ())):
                return f"the mesh of node {number} has other morph targets"
            if ("JOINTS_0" in p["attributes"]) != ("JOINTS_0" in q["attributes"]):
                return f"the mesh of node {number} is skinned in one file only"
            if p.get("mode", 4) != q.get("mode", 4) and min(p.get("mode", 4), q.get("mode", 4)) < 4:
                return f"the mesh of node {number} is drawn in another mode"
    return ""


def _joints(document: Document, node: Row) -> int:
    """How many joints move a node's mesh."""
    return len(document.items("skins")[node["skin"]]["joints"]) if "skin" in node else 0


def _textures(before: list[Row], after: list[Row]) -> Iterator[Row]:
    names = [[row["name"] for row in rows] for rows in (before, after)]
    by_name = all(all(n) and len(set(n)) == len(n) for n in names)
    keys = [n if by_name else list(range(len(n))) for n in names]
    new = dict(zip(keys[1], after, strict=True))
    for key, row in zip(keys[0], before, strict=True):
        yield _image(row, new.pop(key, None))
    for row in new.values():
        yield _image(None, row)


def _image(before: Row | None, after: Row | None) -> Row:
    def size(row: Row | None) -> str:
        return f"{row['mime'].removeprefix('image/')} {row['width']}×{row['height']}" if row else ""

    shown = before or after or {}
    return {
        "name": shown["name"] or f"image {shown['#']}",
        "before": size(before),
        "after": size(after),
        "bytes_before": before["bytes"] if before else None,
        "bytes_after": after["bytes"] if after else None,
        "gpu_bytes_before": before["gpu_bytes"] if before else None,
        "gpu_bytes_after": after["gpu_bytes"] if after else None,
    }


def _extensions(before: list[Row], after: list[Row]) -> Iterator[Row]:
    def state(rows: list[Row]) -> dict[str, str]:
        return {row["name"]: "required" if row["required"] else "used" for row in rows}

    old, new = state(before), state(after)
    for name in sorted({*old, *new}):
        yield {"name": name, "before": old.get(name, ""), "after": new.get(name, "")}


def _names(before: Document, after: Document) -> Iterator[Row]:
    for kind in NAMED:
        old, new = (Counter(item["name"] for item in d.items(kind) if item.get("name")) for d in (before, after))
        lost, added = old - new, new - old
        if lost or added:
            yield {
                "kind": kind,
                "before": old.total(),
                "after": new.total(),
                "lost": lost.total(),
                "new": added.total(),
                "such_as": ", ".join(sorted(lost)[:3] or sorted(added)[:3]),
            }
