"""Our own strict check of a GLB, on raw bytes and JSON, before any native code or other tool sees it.

Linear in the file's size and bounded in memory whatever it says. After it, the official validator, Draco, meshoptimizer
and Pillow get only documents whose every reference, bound and count holds. It collects what it finds; a step that would
build on broken ground is not taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cloudbaker.compute.gltf.facts import drawn_triangles, triangles_of
from cloudbaker.compute.gltf.findings import Findings
from cloudbaker.compute.gltf.glb import Buffer, GlbError, split_glb
from cloudbaker.compute.gltf.graph import check_graph
from cloudbaker.compute.gltf.images import check_images
from cloudbaker.compute.gltf.jsontext import parse_json
from cloudbaker.compute.gltf.layout import check_layout, primitives
from cloudbaker.compute.gltf.limits import ContentLimits
from cloudbaker.compute.gltf.schema import check_schema
from cloudbaker.compute.gltf.values import check_values


@dataclass(frozen=True, slots=True)
class Checked:
    """What the pre-check found. The document is None where its findings hold an error."""

    findings: Findings
    document: dict[str, Any] | None = None
    bin: memoryview | None = None


def precheck(data: Buffer, limits: ContentLimits | None = None) -> Checked:
    """Check a GLB. Never raises for what the file holds."""
    limits = limits or ContentLimits()
    findings = Findings()
    try:
        text, bin_ = split_glb(data)
    except GlbError as error:
        findings.add(error.code, "", error.message, remedy=error.remedy)
        return Checked(findings)
    document = parse_json(text, limits, findings)
    if document is None:
        return Checked(findings)
    steps: list[Callable[[], None]] = [
        lambda: check_schema(document, limits, findings),
        lambda: check_graph(document, limits, findings),
        lambda: check_layout(document, None if bin_ is None else len(bin_), limits, findings),
        lambda: check_images(document, bin_, limits, findings),
        lambda: _check_triangles(document, limits, findings),
        lambda: check_values(document, bin_, findings),
    ]
    for step in steps:
        step()
        if findings.failed:
            return Checked(findings)
    return Checked(findings, document, bin_)


def _check_triangles(document: dict[str, Any], limits: ContentLimits, findings: Findings) -> None:
    for what, count in (
        ("holds", sum(triangles_of(p.json, document) for p in primitives(document))),
        ("draws", drawn_triangles(document)),
    ):
        if count > limits.triangles:
            findings.add(
                "gltf.too-many-triangles",
                "/meshes",
                f"the model {what} {count:,} triangles, the limit is {limits.triangles:,}",
            )
