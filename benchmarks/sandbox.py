"""Jobs per minute in the sandbox, beside a cold ``bwrap python`` for each job. Prints a table.

python benchmarks/sandbox.py [--seconds 10]
"""

from __future__ import annotations

import argparse
import datetime
import io
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from cloudbaker.compute.gltf.glb import join_glb, split_glb
from cloudbaker.compute.job import Inputs, Job, JobResult, Params, Status
from cloudbaker.compute.sandbox import Sandbox, run_tool, scratch_folder
from cloudbaker.compute.sandbox.reach import python_folders


def noop(inputs: Inputs, params: Params) -> JobResult:
    return JobResult("ok")


def convert(inputs: Inputs, params: Params) -> JobResult:
    """A 512² PNG to a 256² WebP, and a GLB of 100 kB read and written again."""
    image = Image.open(io.BytesIO(inputs["image"]), formats=["PNG"])
    out = io.BytesIO()
    image.resize((256, 256), Image.Resampling.LANCZOS).save(out, "WEBP", quality=80)
    _, body = split_glb(inputs["model"])
    return JobResult(
        {"size": image.size}, {"image": out.getvalue(), "model": join_glb({"asset": {"version": "2.0"}}, body)}
    )


def cold(name: str) -> None:
    """What the cold process does: read its files, run the job, write the results."""
    inputs = {path.name: memoryview(path.read_bytes()) for path in Path("in").iterdir()}
    result = {"noop": noop, "convert": convert}[name](inputs, {})
    for file, data in result.files.items():
        Path(file).write_bytes(data)


def sample() -> dict[str, bytes]:
    x = np.linspace(0, 8, 512)
    pixels = (127 + 120 * np.sin(x[:, None] * x[None, :]))[..., None] * np.array([1, 0.7, 0.4])
    out = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(out, "PNG")
    return {"image": out.getvalue(), "model": join_glb({"asset": {"version": "2.0"}}, bytes(100_000))}


def measure(work: Callable[[], None], seconds: float, workers: int) -> tuple[float, float, float]:
    """Runs per minute with `workers` at once; p50 and p99 of one run, in milliseconds."""
    times: list[float] = []
    end = time.perf_counter() + seconds

    def loop() -> None:
        while time.perf_counter() < end:
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)

    began = time.perf_counter()
    threads = [threading.Thread(target=loop) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    p50, p99 = np.percentile(times, [50, 99]) * 1000
    return 60 * len(times) / (time.perf_counter() - began), p50, p99


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10.0)
    seconds = parser.parse_args().seconds
    workers = len(os.sched_getaffinity(0))
    inputs = sample()
    started = time.perf_counter()
    with Sandbox(allow=["sandbox"]) as sandbox:
        sandbox.wait_ready()
        ready = time.perf_counter() - started
        rows = []
        for name, files in (("no-op", {}), ("small convert", inputs)):
            job = Job(f"sandbox:{name.split()[-1].replace('-', '')}", files)
            assert sandbox.run(job).status is Status.OK, sandbox.run(job)
            rows.append((f"fork server, {name}", *measure(lambda job=job: sandbox.run(job).unwrap(), seconds, workers)))

    paths = [Path(p) for p in {sys.base_prefix, sys.prefix, *python_folders(), str(Path(__file__).parent)}]
    python = str(Path(sys.executable).resolve())
    env = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONHOME": sys.base_prefix}
    with scratch_folder() as folder:
        (folder / "in").mkdir(mode=0o755)
        for name, data in inputs.items():
            (folder / "in" / name).write_bytes(data)

        def process(code: str) -> None:
            outcome = run_tool([python, "-c", code], scratch=folder, ro=paths, env=env)
            assert outcome.status is Status.OK, outcome.stderr.decode()

        bwrap = lambda: run_tool(["/bin/true"], scratch=folder)  # noqa: E731
        rows.append(("bwrap /bin/true", *measure(bwrap, seconds, workers)))
        rows.append(("cold bwrap python, nothing loaded", *measure(lambda: process("pass"), seconds, workers)))
        site = "import site; [site.addsitedir(p) for p in __import__('sys').path if p.endswith('-packages')]; "
        for name in ("noop", "convert"):
            code = f"{site}import sandbox; sandbox.cold({name!r})"
            label = f"cold bwrap python, {'no-op, libraries loaded' if name == 'noop' else 'small convert'}"
            rows.append((label, *measure(lambda code=code: process(code), seconds, workers)))

    kind = f"{workers} shared vCPUs, {platform.machine()}, Python {platform.python_version()}"
    print("# The sandbox: jobs per minute\n")
    print(f"{datetime.datetime.now(datetime.UTC).date()}, {kind}. `python benchmarks/sandbox.py`\n")
    print(f"{workers} at a time; load average {os.getloadavg()[0]:.1f}, from other work too.\n")
    print("| | jobs/min | p50 ms | p99 ms |\n|---|---:|---:|---:|")
    for label, rate, p50, p99 in rows:
        print(f"| {label} | {rate:,.0f} | {p50:.1f} | {p99:.1f} |")
    print(f"\nThe fork server is ready {ready:.2f} s after it was asked for, beside whatever its owner does meanwhile.")
    print("A small convert: a 512² PNG to a 256² WebP, and a 100 kB GLB read and written.")


if __name__ == "__main__":
    main()
