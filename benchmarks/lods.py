"""Half and a quarter of the triangles: ours beside gltf-transform and PyMeshLab, in one run.

python benchmarks/lods.py FOLDER [--scan]

Each way gets the same geometry and the same target, no gate. The mean error is the distance of the surfaces in % of the
primitive's bounding box, both directions, over primitives weighted by triangles; the texture error is how far, on
average, a point of the simplified surface is in the texture from where it was, in pixels of 1024 (points whose nearest
one lies beyond a seam are many pixels off, whoever simplifies). CPU seconds: ours are of the call, with every attempt
it measures; gltf-transform's of the process (weld, then simplify with its own error limit off), with 0.3 s for node and
both files; PyMeshLab's of the filters alone, without its import. PyMeshLab keeps texture coordinates where there are
some, but neither joints, weights, colours nor morph targets.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import igl
import numpy as np
from peers import peer

from cloudbaker.compute.gltf.decompress import decode, dequantize
from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.primitives import read, shapes
from cloudbaker.compute.gltf.simplify import SimplifyOptions, simplify
from cloudbaker.compute.meshes.error import Surface, surface_error
from cloudbaker.testing import models

Array = np.ndarray[Any, Any]
RATIOS = (0.5, 0.25)
SMALLEST = 100
"""Models with fewer triangles are left out."""
SAMPLES = 5000

_MESHLAB = """
import sys, time
import numpy as np, pymeshlab
given, ratio = np.load(sys.argv[1]), float(sys.argv[3])
made, seconds = {}, 0.0
for n in range(int(given["count"])):
    points, faces = given[f"points{n}"], given[f"faces{n}"]
    uv = given[f"uv{n}"] if f"uv{n}" in given else None
    target = max(1, round(len(faces) * ratio))
    start = time.process_time()
    textured = {} if uv is None else {"v_tex_coords_matrix": uv}
    meshes = pymeshlab.MeshSet()
    meshes.add_mesh(pymeshlab.Mesh(vertex_matrix=points, face_matrix=faces, **textured))
    if uv is not None:
        meshes.compute_texcoord_transfer_vertex_to_wedge()
    meshes.meshing_remove_duplicate_vertices()
    if uv is not None:
        meshes.meshing_decimation_quadric_edge_collapse_with_texture(targetfacenum=target)
    else:
        meshes.meshing_decimation_quadric_edge_collapse(targetfacenum=target)
    mesh = meshes.current_mesh()
    made[f"points{n}"], made[f"faces{n}"] = mesh.vertex_matrix(), mesh.face_matrix()
    if uv is not None:
        made[f"uv{n}"] = mesh.wedge_tex_coord_matrix()
    seconds += time.process_time() - start
np.savez(sys.argv[2], **made)
print(seconds)
"""


@dataclass
class Part:
    """One primitive's surface, and the texture coordinates of its corners (t, 3, 2)."""

    points: Array
    faces: Array
    uv: Array | None

    def surface(self) -> Surface:
        """To be measured."""
        return Surface(self.points, self.faces)


@dataclass
class Row:
    """What one way made of one model at one ratio."""

    reached: float
    """Triangles, of the source's."""
    mean: float
    pixels: float | None
    seconds: float

    def __str__(self) -> str:
        pixels = "–" if self.pixels is None else f"{self.pixels:.1f}"
        return f"{self.reached:.0%} / {self.mean:.4f} / {pixels} / {self.seconds:.2f}"


def parts(document: Document) -> list[Part]:
    """All distinct triangle geometries of a decoded document."""
    found = []
    for shape in shapes(document):
        arrays = read(document, shape.first)
        uv = arrays.attributes.get("TEXCOORD_0")
        found.append(Part(arrays.attributes["POSITION"], arrays.indices, None if uv is None else uv[arrays.indices]))
    return found


def load(data: bytes) -> Document:
    """A document with plain geometry."""
    document = Document.from_glb(data)
    decode(document)
    dequantize(document)
    return document


def ours(source: Path, _: Path, ratio: float) -> tuple[list[Part], float]:
    """Our verb, every attempt measured."""
    document = load(source.read_bytes())
    start = time.process_time()
    simplify(document, SimplifyOptions(ratio, 100.0))
    return parts(document), time.process_time() - start


def gltf_transform(source: Path, folder: Path, ratio: float) -> tuple[list[Part], float]:
    """Its command line."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    welded, target = folder / "welded.glb", folder / "gt.glb"
    for arguments in (
        ["weld", str(source), str(welded)],
        ["simplify", str(welded), str(target), "--ratio", str(ratio), "--error", "1"],
    ):
        subprocess.run([*peer("gltf-transform"), *arguments], capture_output=True, check=True, timeout=600)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return parts(load(target.read_bytes())), cpu


def pymeshlab(source: Path, folder: Path, ratio: float) -> tuple[list[Part], float]:
    """Quadric edge collapse with texture, where there is one."""
    given: dict[str, Array] = {}
    document = load(source.read_bytes())
    found = list(shapes(document))
    for number, shape in enumerate(found):
        arrays = read(document, shape.first)
        given |= {f"points{number}": arrays.attributes["POSITION"], f"faces{number}": arrays.indices.astype(np.int32)}
        if "TEXCOORD_0" in arrays.attributes:
            given[f"uv{number}"] = arrays.attributes["TEXCOORD_0"].astype(np.float64)
    np.savez(folder / "in.npz", count=len(found), **given)
    command = [sys.executable, "-c", _MESHLAB, str(folder / "in.npz"), str(folder / "out.npz"), str(ratio)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=1200)
    made = np.load(folder / "out.npz")
    result = []
    for number in range(len(found)):
        faces = made[f"faces{number}"]
        uv = made[f"uv{number}"].reshape(-1, 3, 2) if f"uv{number}" in made else None
        result.append(Part(made[f"points{number}"], faces.astype(np.int64), uv))
    return result, float(done.stdout.split()[-1])


WAYS: dict[str, Callable[[Path, Path, float], tuple[list[Part], float]]] = {
    "ours": ours,
    "gltf-transform": gltf_transform,
    "PyMeshLab": pymeshlab,
}


def texture_error(source: Part, other: Part) -> float | None:
    """Mean distance in the texture, in pixels of 1024, of points spread over `other` from the nearest of `source`."""
    if source.uv is None or other.uv is None or not len(other.faces):
        return None
    corners = np.asarray(other.points, np.float64)[other.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    if not area.sum() > 0:
        return None
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(area), SAMPLES, p=area / area.sum())
    u, v = np.sqrt(rng.random(SAMPLES)), rng.random(SAMPLES)
    weights = np.stack([1 - u, u * (1 - v), u * v], axis=1)
    points = np.einsum("ij,ijk->ik", weights, corners[chosen])
    there = np.einsum("ij,ijk->ik", weights, other.uv[chosen])
    vertices, faces = np.ascontiguousarray(source.points, np.float64), np.ascontiguousarray(source.faces, np.int64)
    tree = igl.AABB()
    tree.init(vertices, faces)
    _, hit, nearest = tree.squared_distance(vertices, faces, points)
    a, b, c = (vertices[faces[hit, k]] for k in range(3))
    placed = np.clip(igl.barycentric_coordinates(nearest, a, b, c), 0, 1)
    here = np.einsum("ij,ijk->ik", np.nan_to_num(placed), source.uv[hit])
    return float(1024 * np.linalg.norm(here - there, axis=1).mean())


def row(source: list[Part], made: list[Part], seconds: float) -> Row:
    """Measure what a way made."""
    if len(source) != len(made):
        raise ValueError(f"{len(source)} geometries became {len(made)}")
    total = sum(len(part.faces) for part in source)
    mean, pixels, textured = 0.0, 0.0, 0
    for old, new in zip(source, made, strict=True):
        if not len(old.faces):
            continue
        mean += len(old.faces) * surface_error(old.surface(), new.surface(), samples=SAMPLES).mean_percent / total
        off = texture_error(old, new)
        if off is not None:
            pixels, textured = pixels + len(old.faces) * off, textured + len(old.faces)
    return Row(sum(len(part.faces) for part in made) / total, mean, pixels / textured if textured else None, seconds)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scan", action="store_true", help="and a generated scan of a million triangles")
    options = parser.parse_args()
    print("# Levels of detail: half and a quarter of the triangles\n")
    print(
        f"{date.today()}, {os.cpu_count()} shared vCPUs. Triangles reached / mean error in % / texture error in pixels "
    )
    print("of 1024 / CPU seconds. Made by `benchmarks/lods.py`, where each figure is explained.\n")
    print("| model | triangles | of them | " + " | ".join(WAYS) + " |\n|" + "---|" * (3 + len(WAYS)))
    worse: list[str] = []
    totals = dict.fromkeys(WAYS, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        files = sorted(options.folder.glob("*.glb"))
        if options.scan:
            files.append(Path(folder) / "scan.glb")
            files[-1].write_bytes(models.grid(708))
        for path in files:
            source = parts(load(path.read_bytes()))
            triangles = sum(len(part.faces) for part in source)
            if triangles < SMALLEST:
                continue
            for ratio in RATIOS:
                rows: dict[str, Row | str] = {}
                for name, way in WAYS.items():
                    try:
                        rows[name] = row(source, *way(path, Path(folder), ratio))
                    except (subprocess.SubprocessError, ValueError) as error:
                        last = str(getattr(error, "stderr", "") or error).strip().splitlines()[-1:]
                        print(f"{path.stem}, {name}: {last}", file=sys.stderr)
                        rows[name] = "fails"
                cells = " | ".join(str(rows[name]) for name in WAYS)
                print(f"| {path.stem} | {triangles:,} | {ratio:.0%} | {cells} |", flush=True)
                own = rows["ours"]
                assert isinstance(own, Row)
                for name, other in rows.items():
                    if isinstance(other, Row):
                        totals[name] += other.seconds
                        if name != "ours" and own.mean > other.mean:
                            worse.append(
                                f"{path.stem} at {ratio:.0%}: {own.mean:.4f} % at {own.reached:.1%} of the triangles, "
                                f"{name} {other.mean:.4f} % at {other.reached:.1%}"
                            )
    print("\nCPU seconds of all: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in totals.items()) + ".\n")
    print("Where our mean error is larger:\n\n" + ("\n".join(f"- {line}" for line in worse) or "- nowhere"))


if __name__ == "__main__":
    main()
