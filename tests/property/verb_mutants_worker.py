"""Takes mutants through the verbs: ``python verb_mutants_worker.py FIRST COUNT [PER]``, a JSON line for each mutant.

A mutant that the pre-check and the payload check pass is given to `PER` verbs (all of them if left out), each with
options that make it do all it can. What is written must pass the same checks again.
"""

from __future__ import annotations

import json
import random
import sys
import traceback
from typing import Any

from cloudbaker.compute.gltf import VERBS, Document
from cloudbaker.compute.gltf.findings import Findings
from cloudbaker.compute.gltf.limits import ContentLimits
from cloudbaker.compute.gltf.payloads import check_payloads, is_packed
from cloudbaker.compute.gltf.precheck import precheck
from cloudbaker.compute.gltf.verbs import call
from cloudbaker.model import Severity
from cloudbaker.testing.gltf_mutate import SOURCES, Mutant, mutant
from cloudbaker.testing.wasteful import WASTEFUL

LIMITS = ContentLimits(triangles=200_000, image_pixels=1 << 20, source_bytes=16 << 20)
BOLD: dict[str, dict[str, Any]] = {
    "dedup": {"names": False, "pixels": True},
    "flatten": {"keep_named": False},
    "instance": {"keep_named": False, "least": 2},
    "join": {"keep_named": False, "copies": True},
    "merge_textures": {"resize": True},
    "metal_rough": {"method": "metallic"},
    "quantize": {"positions": True},
    "reorder": {"size": True},
    "tangents": {"unused": True},
    "unlit": {"keep_normals": False},
    "weld": {"always": True},
}
"""Options with which a verb leaves nothing out."""


def errors(data: bytes) -> list[str]:
    """What our own checks find wrong."""
    checked = precheck(data, LIMITS)
    findings: Findings = checked.findings
    if checked.document is not None and is_packed(checked.document):
        check_payloads(data, checked.document, LIMITS, findings)
    return [f"{f.code} {f.place} {f.message}" for f in findings if f.severity is Severity.ERROR]


def take(made: Mutant, verbs: list[str]) -> dict[str, Any]:
    """What became of a mutant: per verb ``done``, ``refused`` or what is wrong."""
    if made.form != "glb" or errors(made.data):
        return {"seed": made.seed, "outcome": "rejected"}
    outcomes: dict[str, str] = {}
    for verb in verbs:
        for options in ({}, BOLD.get(verb, {})):
            document = Document.from_glb(made.data)
            try:
                call(verb, document, options)
                found = errors(document.to_glb())
                outcomes[verb] = f"WRONG {options} {found[:2]}" if found else "done"
            except ValueError:  # DocumentError, MeshoptError, DracoError …: typed, and what the sandbox hands on
                outcomes[verb] = "refused"
            except Exception:
                outcomes[verb] = f"CRASH {options} {traceback.format_exc()[-1500:]}"
            if outcomes[verb] not in ("done", "refused"):
                break
    return {"seed": made.seed, "outcome": "passed", "source": made.source, "ops": made.operators, "verbs": outcomes}


def main(first: int, count: int, per: int) -> None:
    """Print the lines."""
    SOURCES.update(WASTEFUL)
    names = sorted(VERBS)
    for seed in range(first, first + count):
        chosen = random.Random(f"verbs {seed}").sample(names, min(per, len(names)))
        print(json.dumps(take(mutant(seed), chosen)), flush=True)


if __name__ == "__main__":
    main(*(int(argument) for argument in (*sys.argv[1:], "99")[:3]))
