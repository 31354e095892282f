"""Validate a GLB: pre-check, payloads, official validator. Each step sees only what the one before has passed."""

from __future__ import annotations

from typing import Any

from cloudbaker.compute.gltf.facts import facts
from cloudbaker.compute.gltf.findings import Findings
from cloudbaker.compute.gltf.glb import Buffer
from cloudbaker.compute.gltf.khronos import validate_all
from cloudbaker.compute.gltf.limits import ContentLimits
from cloudbaker.compute.gltf.payloads import check_payloads, is_packed
from cloudbaker.compute.gltf.precheck import precheck
from cloudbaker.compute.job import Inputs, JobResult, Params
from cloudbaker.model import Severity, to_json

VALIDATOR = "validator.js"
"""Name of the input that holds the validator's source: `cloudbaker.compute.npm.validator_js` says where it lies."""


def validate_job(inputs: Inputs, params: Params) -> JobResult:
    """Validate one model.

    Inputs ``model.glb`` and ``validator.js``; params ``{"limits": {…}}``. Value: ``{"findings": […], "facts": {…}}``,
    the facts empty where the pre-check failed.
    """
    findings, figures = validate(inputs["model.glb"], ContentLimits.of(params), _script(inputs))
    return JobResult({"findings": findings.to_json(), "facts": figures})


def validate(data: Buffer, limits: ContentLimits, validator_js: str) -> tuple[Findings, dict[str, Any]]:
    """Findings and facts of a GLB (see `validate_job`)."""
    checked = precheck(data, limits)
    findings = checked.findings
    if checked.document is None:
        return findings, {}
    figures = facts(checked.document, len(data))
    glbs: list[Buffer] = [data]
    if is_packed(checked.document):
        plain = check_payloads(data, checked.document, limits, findings)
        if plain is None:
            return findings, figures
        glbs.append(plain)
    first, *others = validate_all(glbs, validator_js=validator_js)
    findings.extend(first.findings)
    # What holds for the file as it is need not be said twice, and hints on a layout of our own making say nothing.
    known = set(first.findings)
    for report in others:
        findings.extend(f for f in report.findings if f.severity is not Severity.INFO and f not in known)
    return findings, figures


def check_outputs_job(inputs: Inputs, params: Params) -> JobResult:
    """Prove baked GLBs: official validator on each, as it is and decompressed, with one start of V8.

    Inputs: the GLBs by name and ``validator.js``. Value: ``{name: {"errors", "warnings", "decompressed_errors",
    "findings": […]}}``, the first three counts. Errors of our own pre-check are counted like the validator's.
    """
    limits = ContentLimits.of(params)
    value: dict[str, dict[str, Any]] = {}
    glbs: list[Buffer] = []
    places: list[tuple[str, str]] = []
    for name in inputs:
        if name == VALIDATOR:
            continue
        findings, both = _as_is_and_plain(inputs[name], limits)
        errors = sum(finding.severity is Severity.ERROR for finding in findings)
        hidden = bool(both)  # the file itself is sound: what is wrong was inside its payloads
        value[name] = {
            "errors": 0 if hidden else errors,
            "warnings": 0,
            "decompressed_errors": errors if hidden else 0,
            "findings": findings.to_json(),
        }
        glbs += both
        places += [(name, "errors"), (name, "decompressed_errors")][: len(both)]
    for (name, key), report in zip(places, validate_all(glbs, validator_js=_script(inputs)), strict=True):
        value[name][key] += report.errors
        value[name]["warnings"] += report.warnings if key == "errors" else 0
        value[name]["findings"] += [to_json(f) for f in report.findings if to_json(f) not in value[name]["findings"]]
    return JobResult(value)


def _as_is_and_plain(data: Buffer, limits: ContentLimits) -> tuple[Findings, list[Buffer]]:
    """Our own findings, and what the official validator has to see: the GLB, and it decompressed where it is packed."""
    checked = precheck(data, limits)
    if checked.document is None:
        return checked.findings, []
    if not is_packed(checked.document):
        return checked.findings, [data]
    plain = check_payloads(data, checked.document, limits, checked.findings)
    return checked.findings, [data] if plain is None else [data, plain]


def _script(inputs: Inputs) -> str:
    return bytes(inputs[VALIDATOR]).decode("utf-8")
