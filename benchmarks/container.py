"""Reading a GLB with thousands of small accessors: our document layer beside pygltflib and a bare json.loads.

    python benchmarks/container.py > benchmarks/results/container.md

The model is generated: one skeleton, 76 animations, a buffer view per accessor, as Blender's exporter writes them.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date

import numpy as np
import pygltflib

from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.glb import split_glb
from cloudbaker.testing import models

ANIMATIONS, JOINTS, KEYS = 76, 39, 34


def animated_model() -> bytes:
    """About 3.7 MB: ANIMATIONS × JOINTS × 3 channels, each with keyframes of its own."""
    rng = np.random.default_rng(0)
    document = Document.from_glb(models.box())
    json_ = document.json
    first = len(json_["nodes"])
    json_["nodes"] += [{"name": f"joint.{n:03}", "rotation": [0.0, 0.0, 0.0, 1.0]} for n in range(JOINTS)]
    json_["scenes"][0]["nodes"] += range(first, first + JOINTS)
    json_["animations"] = []
    for number in range(ANIMATIONS):
        channels, samplers = [], []
        times = document.add_accessor(np.linspace(0, 1, KEYS, dtype=np.float32)[:, None], bounds=True)
        for joint in range(JOINTS):
            for path, width, keys in (("translation", 3, 2), ("rotation", 4, KEYS), ("scale", 3, 2)):
                values = rng.standard_normal((keys, width)).astype(np.float32)
                if path == "rotation":
                    values /= np.linalg.norm(values, axis=1, keepdims=True)
                channels.append({"sampler": len(samplers), "target": {"node": first + joint, "path": path}})
                samplers.append({"input": times, "interpolation": "LINEAR", "output": document.add_accessor(values)})
        json_["animations"].append({"channels": channels, "name": f"action {number}", "samplers": samplers})
    return document.to_glb()


def median_ms(call: Callable[[], object], times: int) -> float:
    """Median of `times` calls, milliseconds of CPU: a neighbour on the machine does not count."""
    taken = []
    for _ in range(times):
        gc.collect()
        start = time.process_time()
        call()
        taken.append((time.process_time() - start) * 1e3)
    return statistics.median(taken)


def read_everything(data: bytes) -> int:
    """Every accessor as an array."""
    document = Document.from_glb(data)
    return sum(document.accessor(i).size for i in range(len(document.items("accessors"))))


def main() -> None:
    """Print the table."""
    data = animated_model()
    text = bytes(split_glb(data)[0])
    document = Document.from_glb(data)
    rows = [
        ("pygltflib `GLTF2.load_from_bytes`", median_ms(lambda: pygltflib.GLTF2.load_from_bytes(data), 3)),
        ("`json.loads` of the JSON chunk alone", median_ms(lambda: json.loads(text), 21)),
        ("`Document.from_glb`: container and document", median_ms(lambda: Document.from_glb(data), 21)),
        ("the same, and every accessor as an array", median_ms(lambda: read_everything(data), 9)),
        ("`Document.to_glb`", median_ms(document.to_glb, 9)),
    ]
    slowest = rows[0][1]
    print("# Reading an animated GLB\n")
    print(
        f"{date.today()}, {platform.machine()}, {os.cpu_count()} shared vCPUs, Python {platform.python_version()}, "
        f"pygltflib {importlib.metadata.version('pygltflib')}. `python benchmarks/container.py`\n"
    )
    print(
        f"Generated model: {len(data) / 1e6:.1f} MB, of that {len(text) / 1e6:.1f} MB JSON; "
        f"{len(document.items('accessors')):,} accessors, {ANIMATIONS} animations.\n"
    )
    print("| | CPU ms | times faster |")
    print("|---|---:|---:|")
    for name, taken in rows:
        print(f"| {name} | {taken:,.1f} | {slowest / taken:,.0f} |")


if __name__ == "__main__":
    main()
