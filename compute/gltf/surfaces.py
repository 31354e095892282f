"""Surfaces that leave a document as arrays, are worked on elsewhere, and come back: repair and decimation by PyMeshLab.

Only static geometry with nothing but positions and normals leaves: new vertices would have no texture coordinates, no
colours, no weights. What continues in another primitive of its mesh stays too, or a crack would open between them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cloudbaker.compute.gltf.decompress import decode, dequantize
from cloudbaker.compute.gltf.document import Array, Document
from cloudbaker.compute.gltf.pack import pack
from cloudbaker.compute.gltf.poses import world_matrices
from cloudbaker.compute.gltf.primitives import Geometry, Shape, read, shapes, write
from cloudbaker.compute.gltf.prune import prune, reserve
from cloudbaker.compute.job import Inputs, JobResult, Params
from cloudbaker.compute.meshes import meshopt
from cloudbaker.compute.meshes.lods import LodOptions, may_be_replaced, shared_vertices, simplify_primitive
from cloudbaker.compute.meshes.normals import smooth_normals
from cloudbaker.compute.meshes.topology import border_vertices

MAIN = "model.glb"
EXT_INSTANCING = "EXT_mesh_gpu_instancing"
SAME = 5e4
"""Places of two nodes' meshes are the same if they agree to this part of the scene's extent."""
_SEARCH = LodOptions(samples=1500)


def static_surfaces(document: Document) -> Iterator[tuple[Shape, Geometry]]:
    """The distinct geometries of a decoded document that may leave it, with their arrays."""
    nodes = document.items("nodes")
    skinned = {node["mesh"] for node in nodes if "mesh" in node and "skin" in node}
    bound = {id(p) for mesh in skinned for p in document.items("meshes")[mesh].get("primitives", ())}
    found = [(shape, read(document, shape.first)) for shape in shapes(document)]
    for (shape, arrays), joined in zip(found, seams(document, found), strict=True):
        if joined is not None or any(id(primitive) in bound for primitive in shape.primitives):
            continue
        if len(arrays.indices) and may_be_replaced(arrays.attributes, arrays.targets):
            yield shape, arrays


def seams(document: Document, found: Sequence[tuple[Shape, Geometry]]) -> list[Array | None]:
    """For each shape the vertices where another one continues: if they moved, cracks would open. None: there are none.

    Those are the other primitives of its mesh; and, along its open edges, the other meshes of its skin (a character's
    head and body) and where nodes put meshes edge to edge (a wall in pieces). A mesh that several nodes show has no
    such neighbours for sure.
    """
    locks: list[Array] = [np.zeros(len(arrays.attributes["POSITION"]), bool) for _, arrays in found]
    borders: dict[int, Array] = {}
    for kind, members in _neighbours(document, found):
        shared = shared_vertices([places for _, places in members])
        for (number, _), lock in zip(members, shared, strict=True):
            if kind == "mesh" or not lock.any():
                locks[number] |= lock
                continue
            if number not in borders:
                arrays = found[number][1]
                borders[number] = border_vertices(arrays.attributes["POSITION"], arrays.indices)
            locks[number] |= lock & borders[number]  # two shells in one place don't hold each other
    return [lock if lock.any() else None for lock in locks]


def _neighbours(
    document: Document, found: Sequence[tuple[Shape, Geometry]]
) -> Iterator[tuple[str, list[tuple[int, Array]]]]:
    """Groups of shapes that stand in one space, each by (number, places (n, 3) in it), and what holds them together."""
    nodes = document.items("nodes")
    owners: dict[int, list[int]] = {}
    for number, node in enumerate(nodes):
        if "mesh" in node:
            owners.setdefault(node["mesh"], []).append(number)
    mesh_of = {id(p): n for n, mesh in enumerate(document.items("meshes")) for p in mesh.get("primitives", ())}
    groups: dict[tuple[str, int], list[tuple[int, Array]]] = {}
    worlds: list[Array] | None = None
    for number, (shape, arrays) in enumerate(found):
        mesh = mesh_of[id(shape.first)]
        places = arrays.attributes["POSITION"]
        groups.setdefault(("mesh", mesh), []).append((number, places))
        shown = owners.get(mesh, [])
        if len(shown) != 1 or len(shape.primitives) != 1 or EXT_INSTANCING in nodes[shown[0]].get("extensions", {}):
            continue
        if "skin" in nodes[shown[0]]:
            groups.setdefault(("skin", nodes[shown[0]]["skin"]), []).append((number, places))
        elif len(owners) > 1:
            worlds = worlds or world_matrices(document)
            matrix = worlds[shown[0]]
            groups.setdefault(("scene", 0), []).append((number, places @ matrix[:3, :3].T + matrix[:3, 3]))
    for (kind, _), members in groups.items():
        if len(members) < 2:
            continue
        if kind != "scene":
            yield kind, members
            continue
        # Two chains of transforms agree but for the last digits. What the first grid parts, the second hardly does.
        extent = max(float(np.abs(places).max(initial=0.0)) for _, places in members)
        if np.isfinite(extent) and extent > 0:
            for shift in (0.0, 0.5):
                yield kind, [(n, np.rint(places * (SAME / extent) + shift).astype(np.int64)) for n, places in members]


def key_of(geometry: Geometry) -> str:
    """What tells a surface from others whatever the order of its vertices and triangles: a hash of corners' places."""
    corners = geometry.attributes["POSITION"][geometry.indices].reshape(-1, 3) + np.float32(0)
    rows = np.ascontiguousarray(corners, np.float32).view(np.dtype((np.void, 12))).ravel()
    return hashlib.sha256(np.sort(rows).tobytes()).hexdigest()[:32]


def surfaces_job(inputs: Inputs, params: Params) -> JobResult:
    """Hand out the surfaces that may be worked on.

    Input ``model.glb``. With ``params["lods"]`` (the recipe's) each surface has the triangles wanted of each level, and
    without ``params["every"]`` only those are handed out that meshoptimizer can't bring down as far. The value is
    ``{"surfaces": [{key, place, triangles, levels: [{variant, triangles}]}]}``; the files are ``KEY.positions``
    (float32) and ``KEY.indices`` (uint32).
    """
    document = Document.from_glb(inputs[MAIN])
    decode(document)
    dequantize(document)
    rows: list[dict[str, Any]] = []
    files: dict[str, bytes] = {}
    lods = params.get("lods")
    for shape, arrays in static_surfaces(document):
        key = key_of(arrays)
        levels = [
            {"variant": lod["variant"], "triangles": max(1, round(len(arrays.indices) * lod["ratio"]))}
            for lod in lods or ()
            if params.get("every") or _stalls(arrays, lod)
        ]
        if f"{key}.positions" in files or (lods is not None and not levels):
            continue
        rows.append({"key": key, "place": shape.place, "triangles": len(arrays.indices), "levels": levels})
        files[f"{key}.positions"] = np.ascontiguousarray(arrays.attributes["POSITION"], "<f4").tobytes()
        files[f"{key}.indices"] = np.ascontiguousarray(arrays.indices, "<u4").tobytes()
    return JobResult({"surfaces": rows}, files)


def _stalls(arrays: Geometry, lod: Mapping[str, Any]) -> bool:
    """Whether meshoptimizer ends with clearly more triangles than are wanted of a level."""
    if len(arrays.indices) < _SEARCH.min_triangles:
        return False
    done = simplify_primitive(
        arrays.attributes,
        arrays.indices,
        ratio=lod["ratio"],
        max_error_percent=lod["max_error_percent"],
        options=_SEARCH,
    )
    return done.triangles > _SEARCH.stall * max(1, round(len(arrays.indices) * float(lod["ratio"])))


def replace_surfaces_job(inputs: Inputs, params: Params) -> JobResult:
    """Put mended surfaces in the places of those that they were: files ``KEY.positions`` and ``KEY.indices``.

    Input ``model.glb``, ``params["keys"]``. The file is ``model.glb`` with plain geometry; normals are made anew where
    there were some. Raises `MeshoptError` where arrays are no mesh.
    """
    document = Document.from_glb(inputs[MAIN])
    reserved = reserve(document)
    decode(document)
    dequantize(document)
    wanted = set(params["keys"])
    done = 0
    for shape, arrays in list(static_surfaces(document)):
        key = key_of(arrays)
        if key in wanted:
            write(document, shape, _with_normals(*surface(inputs, key), smooth="NORMAL" in arrays.attributes))
            done += 1
    prune(document, reserved, data_only=True)
    pack(document)
    return JobResult({"replaced": done}, {MAIN: document.to_glb()})


def surface(inputs: Inputs, name: str) -> tuple[Array, Array]:
    """The arrays of files ``NAME.positions`` and ``NAME.indices``: (n, 3) float32, (t, 3) uint32; checked by who uses
    them."""
    positions = np.frombuffer(inputs[f"{name}.positions"], "<f4").reshape(-1, 3)
    return positions, np.frombuffer(inputs[f"{name}.indices"], "<u4").reshape(-1, 3)


def _with_normals(positions: Array, indices: Array, *, smooth: bool) -> Geometry:
    points = meshopt.checked_floats(positions, 3, "positions")
    faces = meshopt.checked_triangles(indices, len(points)).reshape(-1, 3)
    if not smooth:
        return Geometry({"POSITION": points}, faces)
    corner = faces.ravel()
    streams = {"POSITION": points[corner], "NORMAL": smooth_normals(points, faces).reshape(-1, 3)}
    joined = meshopt.weld(streams, np.arange(len(corner), dtype=np.uint32).reshape(-1, 3))
    return Geometry(dict(joined.streams), joined.indices)
