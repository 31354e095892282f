"""Where the time of a bake goes: direct (cold, the whole process), service and ephemeral, beside gltf-transform.

    python benchmarks/bake.py [MODEL.glb …] [--service] [--ephemeral] [--repeat 3]

Overhead is what lies outside the stages: in the run (first row of the catalog to last), and in the whole process that
asked for it, Python's start and the reading of the result included. Jobs run two at a time, so their seconds may add up
to more than their stage's. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

from peers import peer

CLI = [sys.executable, "-c", "from cloudbaker.cli import main; main()"]


def main() -> None:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--service", action="store_true")
    parser.add_argument("--ephemeral", action="store_true")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    models = options.models or [_demo(), _small()]
    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} shared vCPUs, Python {platform.python_version()}\n")
    for model in models:
        print(f"## {model.name} ({model.stat().st_size / 1e6:.1f} MB), best of {options.repeat}\n")
        print(
            "| way | wall s | ingest | validate | optimize | preview | package | publish "
            "| jobs s | overhead in the run s | overhead of the whole process s | RSS MB | largest job MB |"
        )
        print("|---" * 13 + "|")
        ways = ["direct"] + ["service"] * options.service + ["ephemeral"] * options.ephemeral
        for way in ways:
            row(way, model, options.repeat)
        for name, arguments in {
            "gltf-transform optimize draco+webp": ["--compress", "draco", "--texture-compress", "webp"],
            "gltf-transform optimize meshopt+webp": ["--compress", "meshopt", "--texture-compress", "webp"],
        }.items():
            with tempfile.TemporaryDirectory() as folder:
                out = f"{folder}/out.glb"
                runs = [
                    _timed([*peer("gltf-transform"), "optimize", str(model), out, *arguments])
                    for _ in range(options.repeat)
                ]
                wall, rss, _ = min(runs, key=lambda r: r[0])
                print(f"| {name} | {wall:.2f} | | | | | | | | | | {rss:.0f} | |")
        print()
    print("gltf-transform makes no LODs, checks nothing and stores normal maps with loss; its time is for scale alone.")


def row(way: str, model: Path, repeat: int) -> None:
    """One line of the table: the best of some bakes, each into a home of its own (direct) or as a new asset."""
    best: tuple[float, float, dict[str, Any]] | None = None
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"CLOUDBAKER_HOME": home}
        if way == "service":
            subprocess.run([*CLI, "up"], env=environment, check=True, capture_output=True)
            time.sleep(15)  # the browser and the second engine warm up
        try:
            for n in range(repeat):
                if way == "direct":
                    environment = os.environ | {"CLOUDBAKER_HOME": f"{home}/{n}"}
                arguments = ["bake", str(model), "--asset", f"asset-{n}", "--no-previews", "--mode", way, "--json"]
                wall, rss, output = _timed([*CLI, *arguments], environment)
                result = json.loads(output)
                result["steps"] = _steps(environment, result["run_id"])
                if best is None or wall < best[0]:
                    best = (wall, rss, result)
                if way == "service":
                    time.sleep(8)  # a burst is another question: here each run finds a warm engine
        finally:
            if way == "service":
                subprocess.run([*CLI, "down"], env=environment, check=True, capture_output=True)
    assert best is not None
    wall, rss, result = best
    steps = {s["stage"]: s for s in result["steps"]}
    stages = ("ingest", "validate", "optimize", "preview", "package", "publish")
    jobs = sum(s["job_seconds"] for s in steps.values())
    cells = " | ".join(f"{steps[s]['seconds']:.2f}" for s in stages)
    peak = max(s["peak_bytes"] for s in steps.values()) / 1e6
    inside = sum(s["seconds"] for s in steps.values())
    overhead = f"{result['seconds'] - inside:.2f} | {wall - inside:.2f}"
    print(
        f"| {way} | {wall:.2f} | {cells} | {jobs:.2f} | {overhead} | {rss:.0f} | {peak:.0f} |",
        flush=True,
    )


def _steps(environment: dict[str, str], run_id: str) -> list[dict[str, Any]]:
    query = (
        "select split_part(subject, '#', 1) as stage, name, value from metrics "
        f"where run_id = '{run_id}' and scope = 'step' and name in ('seconds', 'job_seconds', 'peak_bytes')"
    )
    done = subprocess.run([*CLI, "catalog", "sql", query, "--json"], env=environment, capture_output=True, text=True)
    rows: dict[str, dict[str, Any]] = {}
    for line in json.loads(done.stdout):
        rows.setdefault(line["stage"], {"stage": line["stage"]})[line["name"]] = line["value"]
    return list(rows.values())


def _timed(command: list[str], environment: dict[str, str] | None = None) -> tuple[float, float, str]:
    """Wall seconds, peak RSS of the largest process in MB, and standard output."""
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    if status:
        raise SystemExit(f"{' '.join(command)} failed: {output[-2000:]}")
    return wall, usage.ru_maxrss / 1024, output


def _small() -> Path:
    from cloudbaker.testing.models import small_asset

    path = Path(tempfile.gettempdir()) / "cloudbaker-benchmark-small.glb"
    path.write_bytes(small_asset(1))
    return path


def _demo() -> Path:
    path = Path(tempfile.gettempdir()) / "cloudbaker-benchmark-demo.glb"
    # In a process of its own: what a parent's memory peaked at counts for its children too (ru_maxrss outlives exec).
    subprocess.run([*CLI, "demo", str(path)], check=True, stdout=subprocess.DEVNULL)
    return path


if __name__ == "__main__":
    main()
