"""What each verb of ``compute/gltf`` does to a folder of models, alone and with its defaults.

python benchmarks/verbs.py FOLDER [--docs]

Sizes are of whole files. A model counts where the verb changed its bytes; the plain file that it is held against is
written by the same writer (and unpacked, where the verb needs plain geometry), so that only the verb's own work shows.
Every output is validated by the official validator, as it is and decompressed. ``--docs`` writes the first table into
docs/gltf.md.
"""

from __future__ import annotations

import argparse
import os
import re
import textwrap
import time
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import cloudbaker.compute.gltf as package
from cloudbaker.compute.gltf import VERBS, Document, compare
from cloudbaker.compute.gltf.decompress import decode, decompress
from cloudbaker.compute.gltf.khronos import validate_all
from cloudbaker.compute.gltf.verbs import is_packed
from cloudbaker.compute.npm import validator_js

PAGE = Path(__file__).parents[1] / "docs" / "gltf.md"
MARK = "<!-- effects: python benchmarks/verbs.py FOLDER -->\n"


@dataclass
class Effect:
    """Of one verb on all models."""

    before: int = 0
    after: int = 0
    changed: dict[str, float] = field(default_factory=dict)
    """Model → size after in parts of the size before."""
    seconds: float = 0.0
    errors: int = 0
    losses: int = 0


def main() -> None:
    """Print two Markdown tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--docs", action="store_true", help="write the table of effects into docs/gltf.md")
    options = parser.parse_args()
    paths = sorted(options.folder.glob("*.glb"))
    effects = {verb: Effect() for verb in sorted(VERBS)}
    outputs: list[tuple[str, bytes]] = []
    for path in paths:
        for verb, effect in effects.items():
            data = run(verb, effect, path)
            if data is not None:
                outputs.append((verb, data))
    for verb, found in validated(outputs):
        effects[verb].errors += found
    table = per_verb(effects, len(paths))
    print(
        f"# Verbs\n\n{date.today()}, {os.cpu_count()} shared vCPUs, one thread. Each verb alone, with its defaults.\n"
    )
    print(table)
    print("\nSize after, in % of the size before, where the verb changed the file:\n")
    print(per_model(effects, [path.stem for path in paths]))
    if options.docs:
        text = PAGE.read_text("utf-8")
        start = text.index(MARK) + len(MARK)
        PAGE.write_text(f"{text[:start]}\n{intro(paths)}\n\n{table}\n", "utf-8")


def run(verb: str, effect: Effect, path: Path) -> bytes | None:
    """One verb on one model; the file it made if that is another."""
    source = Document.from_glb(path.read_bytes())
    document = source.clone()
    if VERBS[verb].plain and is_packed(document):
        decode(document)
        package.prune(document)
    before = document.to_glb()
    started = time.perf_counter()
    getattr(package, verb)(document)
    effect.seconds += time.perf_counter() - started
    after = document.to_glb()
    if after == before:
        return None
    effect.before += len(before)
    effect.after += len(after)
    effect.changed[path.stem] = len(after) / len(before)
    effect.losses += len(compare(source, Document.from_glb(after)))
    return after


def validated(outputs: list[tuple[str, bytes]]) -> list[tuple[str, int]]:
    """Errors of each output, as it is and decompressed."""
    glbs = [glb for _, data in outputs for glb in (data, decompress(data))]
    reports = validate_all(glbs, validator_js=validator_js().read_text("utf-8"))
    return [(outputs[i // 2][0], report.errors) for i, report in enumerate(reports)]


def per_verb(effects: dict[str, Effect], models: int) -> str:
    """The table of docs/gltf.md."""
    lines = [
        f"| verb | changes, of {models} models | their size before → after | most on | validator errors | losses | s |",
        "|---|---|---|---|---|---|---|",
    ]
    for verb, effect in effects.items():
        if not effect.changed:
            lines.append(f"| {verb} | 0 | – | – | – | – | {effect.seconds:.1f} |")
            continue
        best = min(effect.changed, key=lambda name: effect.changed[name])
        sizes = f"{effect.before / 1e3:,.0f} → {effect.after / 1e3:,.0f} kB"
        lines.append(
            f"| {verb} | {len(effect.changed)} | {sizes} ({100 * effect.after / effect.before:.1f} %) "
            f"| {best}, {100 * effect.changed[best]:.1f} % | {effect.errors} | {effect.losses} | {effect.seconds:.1f} |"
        )
    return "\n".join(lines)


def per_model(effects: dict[str, Effect], names: list[str]) -> str:
    """Every verb on every model."""
    lines = [f"| verb | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for verb, effect in effects.items():
        cells = (f"{100 * effect.changed[name]:.1f}" if name in effect.changed else "–" for name in names)
        lines.append(f"| {verb} | {' | '.join(cells)} |")
    return "\n".join(lines)


def intro(paths: list[Path]) -> str:
    """What stands above the table in the page."""
    size = re.sub(r"\.0$", "", f"{sum(path.stat().st_size for path in paths) / 1e6:.1f}")
    text = (
        f"Each alone, with its defaults, on {len(paths)} models ({size} MB, most of it textures) of the kind that "
        "people hand in. What Draco or meshopt has packed counts by its unpacked size where a verb needs it plain. A "
        "loss is what `compare` finds: a changed material, a name that went with what it named, a node that was moved. "
        "Meshes and nodes have names here, so flatten, instance and join leave nearly all of them alone."
    )
    return textwrap.fill(text, 120)


if __name__ == "__main__":
    main()
