"""Geometry and animation of a folder of models: ours beside gltf-transform and gltfpack, in one run.

python benchmarks/meshes.py FOLDER [--scan]

Images stay as they are everywhere, and are not counted. Ours is the `web` recipe's optimize step without levels of
detail, which measures every candidate it makes; peers measure nothing. CPU seconds are of the whole process.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from peers import peer

from cloudbaker.compute.gltf.decompress import decompress
from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.khronos import validate_all
from cloudbaker.compute.gltf.losses import compare
from cloudbaker.compute.npm import validator_js
from cloudbaker.testing import models

_OURS = """
import sys
from pathlib import Path
from cloudbaker.compute.gltf.optimize import assemble_job
from cloudbaker.recipe import load_recipe
recipe = load_recipe("web")
data = Path(sys.argv[1]).read_bytes()
params = {"images": [], "lods": [], "meshes": recipe.meshes.model_dump(mode="json")}
done = assemble_job({"model.glb": memoryview(data)}, params)
Path(sys.argv[2]).write_bytes(done.files["model.glb"])
"""
_BROTLI = """
const zlib = require("zlib"), fs = require("fs");
for (const f of process.argv.slice(1)) console.log(zlib.brotliCompressSync(fs.readFileSync(f),
  {params: {[zlib.constants.BROTLI_PARAM_QUALITY]: 9}}).length);
"""
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


def images(data: bytes) -> int:
    """Bytes of the images."""
    document = Document.from_glb(data)
    views = {image["bufferView"] for image in document.items("images") if "bufferView" in image}
    return sum(len(document.stored(view)) for view in views)


def run(way: str, source: Path, folder: Path) -> Row | None:
    """Run one way; None where it fails."""
    target = folder / f"{source.stem}-{way.replace(' ', '')}.glb"
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(WAYS[way](str(source), str(target)), capture_output=True, check=False, timeout=600)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode or not target.exists():
        return None
    data = target.read_bytes()
    row = Row(len(data), len(data) - images(data), wall=wall)
    row.cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    zipped = subprocess.run(
        [peer("gltfpack")[0], "-e", _BROTLI, str(target)], capture_output=True, text=True, check=True
    )
    row.brotli = int(zipped.stdout) - images(data)
    try:
        reports = validate_all([data, bytes(decompress(data))], validator_js=validator_js().read_text("utf-8"))
        row.errors = sum(f.severity == "error" for report in reports for f in report.findings)
        row.lost = len(compare(Document.from_glb(source.read_bytes()), Document.from_glb(data)))
    except ValueError as error:
        print(f"{source.name}, {way}: {error}", file=sys.stderr)
        row.errors = -1
    return row


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scan", action="store_true", help="and a generated scan of a million triangles")
    options = parser.parse_args()
    print(
        f"# Geometry and animation\n\n{date.today()}, {os.cpu_count()} shared vCPUs. kB without images: raw / brotli.\n"
    )
    print("| model | kB | " + " | ".join(WAYS) + " | ours / smaller gt | ours / gltfpack | lost | s (CPU) |")
    print("|" + "---|" * (len(WAYS) + 6))
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
    gt = [row.geometry for way in ("gt draco", "gt meshopt") if (row := rows[way]) is not None]
    cells.append(f"{ours.geometry / min(gt):.2f}" if gt else "–")
    pack = rows["gltfpack -cc"]
    cells.append(f"{ours.geometry / pack.geometry:.2f}" if pack else "–")
    cells.append(", ".join("–" if row is None else str(row.lost) for row in rows.values()))
    cells.append(", ".join("–" if row is None else f"{row.cpu:.1f}" for row in rows.values()))
    print("| " + " | ".join(cells) + " |", flush=True)
    bad = {way: row.errors for way, row in rows.items() if row is not None and row.errors}
    if bad:
        print(f"validator errors, {source.stem}: {bad}", file=sys.stderr)


if __name__ == "__main__":
    main()
