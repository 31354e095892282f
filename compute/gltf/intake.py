"""Take in what people hand over, as one GLB: a ``.glb``, a ``.gltf`` with its files, or a ``.zip`` of one model.

What it is, its bytes say, never its name. A GLB that is already one container passes through byte for byte; of
everything else one is made, with relative files and ``data:`` URIs as buffer views. Nothing is fetched, no path outside
the model's folder is looked at, and the bytes of an archive count against the limits before they are unpacked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cloudbaker.compute.gltf.archive import open_archive
from cloudbaker.compute.gltf.embed import embed, file_references
from cloudbaker.compute.gltf.findings import Findings, printable
from cloudbaker.compute.gltf.glb import Buffer, GlbError, split_glb
from cloudbaker.compute.gltf.jsontext import parse_json
from cloudbaker.compute.gltf.limits import ContentLimits
from cloudbaker.compute.gltf.schema import check_schema
from cloudbaker.compute.gltf.sniff import CALLED, sniff
from cloudbaker.compute.job import Inputs, JobResult, Params

__all__ = ["references_job", "sniff", "to_glb", "to_glb_job"]


def references_job(inputs: Inputs, params: Params) -> JobResult:
    """Which files a model needs beside it, before anybody opens one.

    Input ``main``; params ``{"name": …, "limits": {…}}``. Value: ``{"kind": "glb" | "gltf" | "zip" | …, "references":
    [relative paths, percent-decoded], "findings": […]}``. Refused URIs (``../``, ``http:``) are findings, and are not
    among the references.
    """
    main, limits, findings = inputs["main"], ContentLimits.of(params), Findings()
    kind = sniff(main)
    references: list[str] = []
    if not _is_model(kind, main, str(params.get("name", "")), limits, findings):
        pass
    elif kind == "gltf" and (document := _document(main, limits, findings)) is not None:
        references = file_references(document, findings)
    return JobResult({"kind": kind, "references": references, "findings": findings.to_json()})


def to_glb_job(inputs: Inputs, params: Params) -> JobResult:
    """One GLB of what was handed in.

    Inputs: the source files by name (the main one and its references, relative to it); params ``{"main": name,
    "limits": {…}}``. Value ``{"findings": […]}``; file ``model.glb`` where no finding is an error.
    """
    findings = Findings()
    glb = to_glb(inputs, params["main"], ContentLimits.of(params), findings)
    return JobResult({"findings": findings.to_json()}, {} if glb is None else {"model.glb": glb})


def to_glb(sources: Mapping[str, memoryview], main: str, limits: ContentLimits, findings: Findings) -> Buffer | None:
    """The GLB of a model (see `to_glb_job`), or None and the findings that say why not."""
    data = sources[main]
    kind = sniff(data)
    total = sum(len(source) for source in sources.values())
    if total > limits.source_bytes:
        findings.add(
            "intake.too-large", printable(main), f"the files have {total:,} bytes, the limit is {limits.source_bytes:,}"
        )
        return None
    if not _is_model(kind, data, main, limits, findings):
        return None
    if kind == "zip":
        opened = open_archive(data, limits, findings)
        if opened is None:
            return None
        main, sources = opened
        data = sources[main]
        kind = sniff(data)
    return _glb_to_glb(data, limits, findings) if kind == "glb" else _gltf_to_glb(data, sources, limits, findings)


def _is_model(kind: str, data: memoryview, name: str, limits: ContentLimits, findings: Findings) -> bool:
    if kind == "empty":
        findings.add("intake.empty", printable(name), "the file is empty")
    elif kind not in ("glb", "gltf", "zip"):
        called = CALLED.get(kind) or f"a {kind.upper()}"
        findings.add("intake.not-a-model", printable(name), f"the file is {called}, whatever its name says")
    elif len(data) > limits.source_bytes:
        findings.add(
            "intake.too-large", printable(name), f"it has {len(data):,} bytes, the limit is {limits.source_bytes:,}"
        )
    return not findings.failed


def _document(text: Buffer, limits: ContentLimits, findings: Findings) -> dict[str, Any] | None:
    document = parse_json(text, limits, findings)
    if document is not None and not findings.failed:
        check_schema(document, limits, findings)
    return None if findings.failed else document


def _glb_to_glb(data: memoryview, limits: ContentLimits, findings: Findings) -> Buffer | None:
    try:
        text, bin_ = split_glb(data)
    except GlbError as error:
        findings.add(error.code, "", error.message, remedy=error.remedy)
        return None
    document = _document(text, limits, findings)
    if document is None:
        return None
    if not any("uri" in item for name in ("buffers", "images") for item in document.get(name, ())):
        return data
    return embed(document, bin_, None, limits, findings)


def _gltf_to_glb(
    data: memoryview, sources: Mapping[str, memoryview], limits: ContentLimits, findings: Findings
) -> Buffer | None:
    document = _document(data, limits, findings)
    return None if document is None else embed(document, None, sources, limits, findings)
