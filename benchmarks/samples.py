"""Bake a folder of models and print what became of each: sizes, errors, losses, validator. A proof, not a race.

python benchmarks/samples.py FOLDER [--recipe web]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import cloudbaker as cb


def main() -> None:
    """Bake every ``.glb`` of the folder into a home of its own and print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipe", default="web")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["CLOUDBAKER_HOME"] = home
        run(sorted(options.folder.glob("*.glb")), options.recipe)


def run(models: list[Path], recipe: str) -> None:
    """Print one line per model, then the sum."""
    print(f"{date.today()}, {os.cpu_count()} shared vCPUs, recipe {recipe}, direct, without pictures\n")
    print("| model | kB | model.glb | lod1 (triangles, mean error) | lod2 | validator errors | losses | s |")
    print("|---|---|---|---|---|---|---|---|")
    before = after = errors = losses = larger = 0
    options: dict[str, Any] = {"asset": None, "tenant": "local", "recipe": recipe, "channel": "live"}
    with cb.baking(mode="direct", previews=False) as bake_one:
        for path in models:
            started = time.perf_counter()
            result = bake_one(path, progress=lambda _stage, _done: None, **options)
            seconds = time.perf_counter() - started
            if not result.ok:
                print(f"| {path.name} | {result.state}: {result.findings[0].message} |")
                continue
            rows = result.sizes()
            assert result.version is not None
            found = int(result.version.metrics["validator_errors"])
            cells = [f"{row['bytes'] / 1000:.0f} kB, {100 * row['of_source']:.1f} %" for row in rows[:1]]
            cells += [
                f"{100 * row['of_source']:.1f} %, {row['triangles']:,}, {row['error_mean_percent']:.4f} %"
                for row in rows[1:]
            ]
            lost = ", ".join(f"{loss.kind} {loss.place}" for loss in result.losses) or "none"
            source = result.source_bytes
            print(f"| {path.name} | {source / 1000:.0f} | {' | '.join(cells)} | {found} | {lost} | {seconds:.1f} |")
            before, after, errors = before + source, after + rows[0]["bytes"], errors + found
            losses += len(result.losses)
            larger += sum(row["bytes"] > source for row in rows)
    print(
        f"\n{len(models)} models: {before / 1e6:.1f} MB → {after / 1e6:.1f} MB ({100 * after / before:.1f} %), "
        f"{errors} validator errors, {larger} files larger than their source, {losses} reported losses"
    )


if __name__ == "__main__":
    main()
