"""A folder of models in one go: ours in warm sandboxes beside the peers' command lines, as many at once as CPUs.

python benchmarks/meshes_batch.py FOLDER [--times 3]

Images stay as they are. `auto` is what a bake does: every candidate is made and measured, the smallest is taken, losses
are looked for. `draco` and `meshopt` make one candidate, still measured, as the peers make theirs, unmeasured. Ours
does it in a sandbox that forks a process for each model; the peers start node for each, as their users do.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

from peers import peer

from cloudbaker.compute.job import Job
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.recipe import load_recipe

CPUS = os.cpu_count() or 1


def ours(compression: str) -> Callable[[list[Path], Path], int]:
    """All files through one sandbox; bytes of the results."""

    def run(files: list[Path], _: Path) -> int:
        meshes = load_recipe("web").meshes.model_dump(mode="json") | {"compression": compression}
        params = {"images": [], "lods": [], "meshes": meshes}
        jobs = [Job("cloudbaker.compute.gltf.optimize:assemble_job", {"model.glb": path}, params) for path in files]
        outcomes = sandbox.run_all(jobs)
        return sum(len(outcome.unwrap().files["model.glb"]) for outcome in outcomes)

    return run


def theirs(command: Callable[[str, str], list[str]]) -> Callable[[list[Path], Path], int]:
    """A process per file, as many at once as there are CPUs; bytes of the results, or of the input where it failed."""

    def one(path: Path, target: Path) -> int:
        done = subprocess.run(command(str(path), str(target)), capture_output=True, check=False, timeout=600)
        return (path if done.returncode or not target.exists() else target).stat().st_size

    def run(files: list[Path], folder: Path) -> int:
        targets = [folder / f"{number}.glb" for number in range(len(files))]
        with ThreadPoolExecutor(CPUS) as pool:
            return sum(pool.map(one, files, targets))

    return run


WAYS = {
    "ours, auto": ours("auto"),
    "ours, draco": ours("draco"),
    "ours, meshopt": ours("meshopt"),
    "gltf-transform draco": theirs(lambda a, b: [*peer("gltf-transform"), "draco", a, b]),
    "gltf-transform meshopt": theirs(lambda a, b: [*peer("gltf-transform"), "meshopt", a, b]),
    "gltfpack -cc": theirs(lambda a, b: [*peer("gltfpack"), "-cc", "-i", a, "-o", b]),
}


def main() -> None:
    """Print a Markdown table."""
    global sandbox  # one at a time, fresh for each way
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--times", type=int, default=3, help="how often each file is done")
    options = parser.parse_args()
    files = sorted(options.folder.glob("*.glb")) * options.times
    size = sum(path.stat().st_size for path in files)
    print(
        f"# A batch of models\n\n{date.today()}, {CPUS} shared vCPUs, load average {os.getloadavg()[0]:.1f}: ", end=""
    )
    print(f"{len(files)} files, {size / 1e6:.1f} MB.\n")
    print("| way | models/s | MB/s | wall s | CPU s | out / in |\n|---|---|---|---|---|---|")
    for name, way in WAYS.items():
        with tempfile.TemporaryDirectory() as folder, Sandbox(parallel=CPUS) as sandbox:
            sandbox.run_all([Job("cloudbaker.compute.job:nothing_job")] * CPUS)
            before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            made = way(files, Path(folder))
            wall = time.perf_counter() - started
            sandbox.close()  # so that its CPU time counts
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        figures = f"{len(files) / wall:.1f} | {size / wall / 1e6:.1f} | {wall:.1f} | {cpu:.1f} | {made / size:.3f}"
        print(f"| {name} | {figures} |", flush=True)


sandbox: Sandbox

if __name__ == "__main__":
    main()
