"""The official glTF validator of the Khronos Group, run in-process in V8.

Its npm package is one JavaScript file (Dart, compiled), and ``mini-racer`` is V8 as a wheel: 75 ms to start, 26 ms to
load it, then 1 ms to 0.4 s per model (Knight, 3.7 MB with 76 animations); several models share one start. The bytes go
in through a SharedArrayBuffer, without base64. It has no file system and no network there, by construction.

It is blind inside Draco and meshopt payloads, hangs on huge sparse accessors and a million nodes, and dies of deep
JSON: it gets only what the pre-check has passed, and payloads decoded (see ``payloads.py``).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from py_mini_racer import MiniRacer

from cloudbaker.compute.gltf.findings import Findings, printable, quote
from cloudbaker.compute.gltf.glb import Buffer
from cloudbaker.compute.gltf.references import IMAGE_FORMATS
from cloudbaker.model import Finding, Severity

_SEVERITIES = (Severity.ERROR, Severity.WARNING, Severity.INFO, Severity.INFO)
"""The validator's 0 to 3: error, warning, information, hint."""
_MAX_ISSUES = 20_000
_HEAP_BYTES = 1 << 30
"""Of V8's own heap; the model's bytes lie outside of it."""
_PRELUDE = """
var exports = {}, module = {exports: exports}, self = globalThis, queue = [];
var scheduleImmediate = (f) => { queue.push(f); };
setTimeout = setImmediate = scheduleImmediate;
function drain() { while (queue.length) { queue.shift()(); } }
"""
_RUN = """
var report = null;
exports.validateBytes(new Uint8Array(bytes), {maxIssues: %d, writeTimestamp: false})
    .then((r) => { report = JSON.stringify(r); }, (e) => { report = JSON.stringify(String(e)); });
drain();
"""
# The validator's tasks are drained inside the call, rather than left to V8's queue of microtasks: only a call can be
# ended at its time limit. Left to the queue, a sparse accessor of 40 million elements ran 20 s against a limit of 1 s.


@dataclass(frozen=True, slots=True)
class Report:
    """What the validator says about one model. The counts hold also where findings were cut."""

    findings: tuple[Finding, ...]
    errors: int
    warnings: int


def validate_all(glbs: Sequence[Buffer], *, validator_js: str, seconds: float = 120.0) -> list[Report]:
    """Validate several GLBs with one start of V8. `seconds` is the time for each.

    Where the validator itself fails on a model (memory, time, an exception), its report says so as an error, and the
    next model gets a fresh V8.
    """
    reports: list[Report] = []
    while len(reports) < len(glbs):
        with MiniRacer() as engine:
            engine.eval(_PRELUDE)
            engine.eval(validator_js)
            engine.set_hard_memory_limit(_HEAP_BYTES)
            for glb in glbs[len(reports) :]:
                try:
                    reports.append(_read(_validate(engine, glb, seconds)))
                except Exception as error:  # mini-racer has a class each for time, memory, exceptions, lost contexts
                    findings = Findings()
                    findings.add(
                        "khronos.failed", "", f"it ended with {type(error).__name__}: {quote(str(error), 200)}"
                    )
                    reports.append(Report(tuple(findings), 1, 0))
                    # What was ended still calls back once; wait for it, or it finds the event loop closed.
                    with contextlib.suppress(Exception):
                        engine.eval("0", timeout_sec=5.0)
                    break
    return reports


def _validate(engine: MiniRacer, glb: Buffer, seconds: float) -> dict[str, Any]:
    view = memoryview(glb).cast("B")
    room = engine.eval(f"var bytes = new SharedArrayBuffer({len(view)}); bytes")
    assert isinstance(room, memoryview)
    room[:] = view
    engine.eval(_RUN % _MAX_ISSUES, timeout_sec=seconds)
    report = json.loads(str(engine.eval("report", timeout_sec=seconds)))
    engine.eval("bytes = report = null")
    if not isinstance(report, dict):  # the text of an exception, or null where it has not come to an end
        raise ValueError(report)
    return report


def _read(report: dict[str, Any]) -> Report:
    findings = Findings()
    warnings = report["issues"]["numWarnings"]
    for issue in report["issues"]["messages"]:
        if _of_unknown_images(issue):
            warnings -= issue["severity"] == 1
            continue
        findings.append(
            Finding(
                f"khronos.{issue['code']}",
                _SEVERITIES[issue["severity"]],
                printable(issue.get("pointer", "")),
                printable(issue["message"]),
                "export the model again with a current exporter" if issue["severity"] == 0 else "",
            )
        )
    return Report(tuple(findings), report["issues"]["numErrors"], warnings)


def _of_unknown_images(issue: dict[str, Any]) -> bool:
    """Whether it says of an image that its format is none. The validator knows PNG and JPEG alone; WebP, AVIF and KTX2
    are ours to check, with the extensions that allow them (`images.check_images`)."""
    if issue["code"] == "IMAGE_UNRECOGNIZED_FORMAT":
        return True
    place = str(issue.get("pointer", ""))
    named = any(f"'{mime}'" in issue["message"] for mime in IMAGE_FORMATS)
    return bool(issue["code"] == "VALUE_NOT_IN_LIST" and place.endswith("/mimeType") and named)
