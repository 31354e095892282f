"""What Ray costs: start, a job beside the same job in a sandbox of this process, a bulk map, memory.

python benchmarks/cluster.py > benchmarks/results/cluster.md
"""

from __future__ import annotations

import datetime
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import psutil

from cloudbaker.compute.cluster import WorkItem, connect
from cloudbaker.compute.faults import FAULT_JOB, WORK
from cloudbaker.compute.job import Job, Workbench
from cloudbaker.compute.sandbox import Sandbox

LARGE = 100 << 20
JOIN = """
import time, sys
from cloudbaker.compute.cluster import connect
from cloudbaker.compute.faults import FAULT_JOB
from cloudbaker.compute.job import Job
start = time.perf_counter()
with connect(sys.argv[1]) as cluster:
    joined = time.perf_counter()
    cluster.workbench().run(Job(FAULT_JOB))
    print(joined - start, time.perf_counter() - joined)
"""


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def side_by_side(benches: list[Workbench], job: Job, times: int) -> list[list[float]]:
    """Sorted milliseconds per bench, taken in turns: on a shared machine a neighbour's load then falls on both."""
    for bench in benches:
        bench.run(job)
    taken = [[seconds(lambda bench=bench: bench.run(job)) * 1e3 for bench in benches] for _ in range(times)]
    return [sorted(column) for column in zip(*taken, strict=True)]


def p50_p99(milliseconds: list[float]) -> str:
    return f"{statistics.median(milliseconds):.1f} / {milliseconds[int(len(milliseconds) * 0.99)]:.1f} ms"


def pss(process: psutil.Process) -> int:
    return process.memory_full_info().pss


def main() -> None:
    rows: list[tuple[str, str]] = []
    noop = Job(FAULT_JOB)
    large = Job(FAULT_JOB, {"a": bytes(LARGE)})
    rows.append(("`connect()`: start a local Ray", f"{seconds(connect):.1f} s"))
    cluster = connect()
    family = psutil.Process().children(recursive=True)
    base = sum(pss(process) for process in family)
    bench = cluster.workbench()
    rows.append(("first job (a worker and its sandbox start)", f"{seconds(lambda: bench.run(noop)):.2f} s"))
    with Sandbox(parallel=1) as sandbox:
        small = side_by_side([sandbox, bench], noop, 300)
        big = side_by_side([sandbox, bench], large, 9)
    for index, where in enumerate(("in a sandbox of this process", "on a Ray worker")):
        rows.append((f"no-op job {where}, p50 / p99", p50_p99(small[index])))
        rows.append((f"100 MB of input, hashed, {where}, median", f"{statistics.median(big[index]):.0f} ms"))

    def items(count: int) -> int:
        return sum(1 for _ in cluster.map(WORK, (WorkItem(str(n), {"n": n}) for n in range(count)), wall_seconds=60))

    items(20)
    rows.append(("map, no-op in the worker", f"{2000 / seconds(lambda: items(2000)):.0f} items/s"))

    def jobs(count: int) -> int:
        made = (WorkItem(str(n), {"n": n, "job": {}}) for n in range(count))
        return sum(1 for _ in cluster.map(WORK, made, wall_seconds=60))

    rows.append(("map, one sandboxed no-op job per item", f"{500 / seconds(lambda: jobs(500)):.0f} items/s"))
    workers = cluster.crew.count()
    full = sum(pss(process) for process in psutil.Process().children(recursive=True))
    rows.append(("memory of Ray without workers (PSS)", f"{base >> 20} MB"))
    rows.append(
        (f"memory of a worker with its fork server (PSS, mean of {workers})", f"{(full - base) // workers >> 20} MB")
    )
    said = subprocess.run([sys.executable, "-c", JOIN, cluster.address], capture_output=True, text=True, check=True)
    joined, first = map(float, said.stdout.split())
    rows.append(("`connect(address)`: join that Ray from another process", f"{joined:.2f} s"))
    rows.append(("first job there", f"{first:.2f} s"))
    rows.append(("`close()`", f"{seconds(lambda: (cluster.close(), cluster.close())):.1f} s"))

    print(f"{datetime.date.today()}, {os.cpu_count()} shared vCPUs, load {os.getloadavg()[0]:.1f}\n")
    print("| what | |\n|---|---:|")
    for name, value in rows:
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
