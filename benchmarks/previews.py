"""What a picture costs: the first with its browser's start, the next ones, memory.

python benchmarks/previews.py > benchmarks/results/previews.md
"""

from __future__ import annotations

import datetime
import os
import statistics
import time

import psutil

from cloudbaker.compute.previews import Picture, Previewer
from cloudbaker.testing import models

MODELS = {
    "cube, 12 triangles": models.box,
    "Draco sphere, 960 triangles": models.draco,
    "sheet, 500,000 triangles, 14 MB": lambda: models.grid(500),
    "lighthouse of the demo, 51,000 triangles, 7 PNG images, 4 MB": models.demo_model,
}


def family(previewer: Previewer) -> list[psutil.Process]:
    assert previewer._process is not None
    worker = psutil.Process(previewer._process.pid)
    return [worker, *worker.children(recursive=True)]


def cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def main() -> None:
    cold: list[float] = []
    cpu: list[float] = []
    ended: list[float] = []
    for _ in range(5):
        with Previewer() as previewer:
            cold.append(previewer.render(models.box()).seconds)
            cpu.append(cpu_seconds(family(previewer)))
            started = time.perf_counter()
        ended.append(time.perf_counter() - started)
    rows = [
        (
            "first picture, with the browser's start",
            f"{min(cold):.1f} … {max(cold):.1f} s",
            f"{statistics.median(cpu):.1f} s",
        ),
        ("end of a browser", f"{statistics.median(ended) * 1e3:.0f} ms", ""),
    ]
    with Previewer() as previewer:
        last: Picture = previewer.render(models.box())
        for name, make in MODELS.items():
            model = make()
            found = []
            before = cpu_seconds(family(previewer))
            for _ in range(7):
                last = previewer.render(model)
                found.append(last.seconds)
            used = (cpu_seconds(family(previewer)) - before) / len(found)
            rows.append((f"warm: {name}", f"{statistics.median(found):.2f} s", f"{used:.2f} s"))
        memory = sum(process.memory_full_info().pss for process in family(previewer))
        rows.append(("memory of all processes afterwards (PSS)", f"{memory >> 20} MB", ""))
    print("# Previews: 512² pictures by three.js in a sandboxed Chromium\n")
    print(f"{datetime.date.today()}, {os.cpu_count()} shared vCPUs, no GPU, {last.renderer}\n")
    print(f"Load average at the end {os.getloadavg()[0]:.1f}: where it is above 2, trust the CPU column.\n")
    print("| what | wall clock | CPU, all processes |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
