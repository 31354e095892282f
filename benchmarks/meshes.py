"""Geometry and animation of a folder of models: ours beside gltf-transform and gltfpack, in one run.

python benchmarks/meshes.py FOLDER [--scan]

Images stay as they are everywhere, and are not counted. Ours is the `web` recipe's optimize step without levels of
detail, which measures every candidate it makes; peers measure nothing. CPU seconds are of the whole process, and so is
the peak of its memory. The error is the largest distance between the surfaces in % of a primitive's bounding box, where
nodes and primitives can be matched: a file that has lost its shape (more than `BROKEN`) is no measure for another's
size, and is not compared with.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

from peers import peer

from cloudbaker.compute.gltf.decompress import decode, decompress, dequantize
from cloudbaker.compute.gltf.diff import boxed, unlike
from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.khronos import validate_all
from cloudbaker.compute.gltf.losses import compare
from cloudbaker.compute.gltf.primitives import read
from cloudbaker.compute.meshes.error import mesh_error
from cloudbaker.compute.npm import validator_js
from cloudbaker.testing import models

_OURS = """
import sys
from pathlib import Path
from cloudbaker.compute.gltf.optimize import assemble_job
from cloudbaker.recipe import load_recipe
recipe = load_recipe("web")
data = Path(sys.argv[1]).read_bytes()
parts = {"meshes": recipe.meshes.model_dump(mode="json"), "verbs": recipe.verbs.model_dump(mode="json")}
params = {"images": [], "lods": [], **parts}
done = assemble_job({"model.glb": memoryview(data)}, params)
Path(sys.argv[2]).write_bytes(done.files["model.glb"])
"""
_BROTLI = """
const zlib = require("zlib"), fs = require("fs");
for (const f of process.argv.slice(1)) console.log(zlib.brotliCompressSync(fs.readFileSync(f),
  {params: {[zlib.constants.BROTLI_PARAM_QUALITY]: 9}}).length);
"""
BROKEN = 5.0
WAYS = {
    "ours": lambda a, b: [sys.executable, "-c", _OURS, a, b],
    "gt draco": lambda a, b: [*peer("gltf-transform"), "draco", a, b],
    "gt meshopt": lambda a, b: [*peer("gltf-transform"), "meshopt", a, b],
    "gltfpack -cc": lambda a, b: [*peer("gltfpack"), "-cc", "-i", a, "-o", b],
}


@dataclass
class Row:
    """What one way made of one model; `geometry` is the file without its images."""

    raw: int = 0
    geometry: int = 0
    brotli: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    errors: int = 0
    lost: int = 0
    memory: int = 0
    """Peak resident set of the process, MB."""
    error: float | None = None
    """Largest distance of the surfaces in %; None where they can't be matched."""

    @property
    def broken(self) -> bool:
        """Whether the shape is lost."""
        return self.error is not None and self.error > BROKEN


_LAUNCHER = """
import json, os, subprocess, sys, time
for line in sys.stdin:
    started = time.perf_counter()
    process = subprocess.Popen(json.loads(line), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    code, wall = os.waitstatus_to_exitcode(status), time.perf_counter() - started
    print(json.dumps([code, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss >> 10]), flush=True)
"""


class Launcher:
    """A small process that starts the others: Linux counts the peak of whoever forks into the child's."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", _LAUNCHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, command: list[str]) -> tuple[int, float, float, int]:
        """Exit code, wall and CPU seconds, peak memory in MB."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        code, wall, cpu, memory = json.loads(self.process.stdout.readline())
        return code, wall, cpu, memory


@cache
def launcher() -> Launcher:
    """The one launcher."""
    return Launcher()


def images(data: bytes) -> int:
    """Bytes of the images."""
    document = Document.from_glb(data)
    views = {image["bufferView"] for image in document.items("images") if "bufferView" in image}
    return sum(len(document.stored(view)) for view in views)


def run(way: str, source: Path, folder: Path) -> Row | None:
    """Run one way; None where it fails."""
    target = folder / f"{source.stem}-{way.replace(' ', '')}.glb"
    code, wall, cpu, memory = launcher().run(WAYS[way](str(source), str(target)))
    if code or not target.exists():
        return None
    data = target.read_bytes()
    row = Row(len(data), len(data) - images(data), wall=wall, cpu=cpu, memory=memory)
    zipped = subprocess.run(
        [peer("gltfpack")[0], "-e", _BROTLI, str(target)], capture_output=True, text=True, check=True
    )
    row.brotli = int(zipped.stdout) - images(data)
    try:
        reports = validate_all([data, bytes(decompress(data))], validator_js=validator_js().read_text("utf-8"))
        row.errors = sum(f.severity == "error" for report in reports for f in report.findings)
        row.lost = len(compare(Document.from_glb(source.read_bytes()), Document.from_glb(data)))
        row.error = distance(source.read_bytes(), data)
    except ValueError as error:
        print(f"{source.name}, {way}: {error}", file=sys.stderr)
        row.errors = -1
    return row


def distance(before: bytes, after: bytes) -> float | None:
    """The largest distance of the surfaces in % of a primitive's bounding box; None where they can't be matched.

    Each primitive is first brought to a box of size one: quantization by others moves scale and place into the nodes.
    """
    old, new = (Document.from_glb(data) for data in (before, after))
    for document in (old, new):
        decode(document)
        dequantize(document)
    if unlike(old, new):
        return None
    largest, seen = 0.0, set()
    for a, b in zip(old.items("nodes"), new.items("nodes"), strict=True):
        if "mesh" not in a or (a["mesh"], b["mesh"]) in seen:
            continue
        seen.add((a["mesh"], b["mesh"]))
        drawn = (document.items("meshes")[node["mesh"]]["primitives"] for document, node in ((old, a), (new, b)))
        for p, q in zip(*drawn, strict=True):
            if p.get("mode", 4) < 4 or "POSITION" not in p["attributes"]:
                continue
            ours, theirs = read(old, p), read(new, q)
            if not len(theirs.indices) and len(ours.indices):
                return 100.0
            largest = max(largest, mesh_error(*boxed(ours), *boxed(theirs), samples=1000).max_percent)
    return largest


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scan", action="store_true", help="and a generated scan of a million triangles")
    options = parser.parse_args()
    print(
        f"# Geometry and animation\n\n{date.today()}, {os.cpu_count()} shared vCPUs. kB without images: raw / brotli.\n"
    )
    print(
        "| model | kB | "
        + " | ".join(WAYS)
        + " | ours / smaller gt | ours / gltfpack | lost | error % | s (CPU) | MB |"
    )
    print("|" + "---|" * (len(WAYS) + 8))
    totals = {way: Row() for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        files = sorted(options.folder.glob("*.glb"))
        if options.scan:
            scan = Path(folder) / "scan.glb"
            scan.write_bytes(models.grid(708))
            files.append(scan)
        for source in files:
            line(source, {way: run(way, source, Path(folder)) for way in WAYS}, totals)
    sums = (f"{way} {row.geometry / 1e6:.2f} MB, {row.cpu:.1f} CPU s" for way, row in totals.items())
    print("\nAll (a way that fails is not counted): " + "; ".join(sums) + ".")


def line(source: Path, rows: dict[str, Row | None], totals: dict[str, Row]) -> None:
    """One model."""
    data = source.read_bytes()
    cells = [source.stem, f"{(len(data) - images(data)) / 1000:.1f}"]
    for way, row in rows.items():
        if row is not None:
            totals[way].geometry += row.geometry
            totals[way].cpu += row.cpu
        cells.append("fails" if row is None else f"{row.geometry / 1000:.1f} / {row.brotli / 1000:.1f}")
    ours = rows["ours"]
    assert ours is not None
    gt = [row.geometry for way in ("gt draco", "gt meshopt") if (row := rows[way]) is not None and not row.broken]
    cells.append(f"{ours.geometry / min(gt):.2f}" if gt else "–")
    pack = rows["gltfpack -cc"]
    cells.append(f"{ours.geometry / pack.geometry:.2f}" if pack else "–")
    cells.append(", ".join("–" if row is None else str(row.lost) for row in rows.values()))
    cells.append(", ".join("–" if row is None or row.error is None else f"{row.error:.3f}" for row in rows.values()))
    cells.append(", ".join("–" if row is None else f"{row.cpu:.1f}" for row in rows.values()))
    cells.append(", ".join("–" if row is None else str(row.memory) for row in rows.values()))
    print("| " + " | ".join(cells) + " |", flush=True)
    bad = {way: row.errors for way, row in rows.items() if row is not None and row.errors}
    if bad:
        print(f"validator errors, {source.stem}: {bad}", file=sys.stderr)


if __name__ == "__main__":
    main()
