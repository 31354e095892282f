"""Take mutants through the pipeline, in a process of its own: ``gltf_hostile_worker.py FIRST COUNT [--verdicts]``.

Prints a line of JSON for each seed: how far it came, and a hash of its verdict. Anything but findings and the errors
that are meant ends it with a traceback; native code that can't take it, with a signal; a step of more than a minute,
with SIGALRM. The last line on stderr says where it was. With ``--verdicts`` only the checks are run, the last of a
block first: what they say must not depend on what they saw before.

Whatever a mutant says, nothing is opened and nobody is called: an audit hook ends the process over it.
"""

from __future__ import annotations

import hashlib
import json
import resource
import signal
import sys
from collections.abc import Iterator
from typing import Any

from cloudbaker.compute.gltf.document import Document, DocumentError
from cloudbaker.compute.gltf.facts import facts
from cloudbaker.compute.gltf.findings import RULES, Findings
from cloudbaker.compute.gltf.glb import GlbError
from cloudbaker.compute.gltf.inspect import inspect
from cloudbaker.compute.gltf.intake import to_glb_job
from cloudbaker.compute.gltf.khronos import validate_all
from cloudbaker.compute.gltf.limits import ContentLimits
from cloudbaker.compute.gltf.optimize import assemble_job, unpack_job
from cloudbaker.compute.gltf.payloads import check_payloads, is_packed
from cloudbaker.compute.gltf.precheck import precheck
from cloudbaker.compute.npm import validator_js
from cloudbaker.testing.gltf_mutate import SOURCES, Mutant, mutant, source

SECRET = b"a secret beside the model"
"""What the harness puts into the file that strange URIs name, in the working folder."""
SECONDS = 60
BLOCK = 100
"""Mutants that share one start of the validator."""
MEMORY = 2 << 30
LIMITS = ContentLimits()
RECIPE: dict[str, Any] = {
    "images": [],
    "meshes": {"compression": "auto", "position_bits": 14},
    "lods": [{"variant": "lod1", "ratio": 0.5, "max_error_percent": 1.0}],
}
_FORBIDDEN = (
    *("open", "os.listdir", "os.scandir", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen"),
    *("socket.connect", "socket.bind", "socket.send", "socket.get", "socket.gethostbyname", "urllib"),
)

watching = False


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    module = event == "open" and str(arguments[0]).endswith((".py", ".pyc", ".so"))  # imported on first use
    if watching and event.startswith(_FORBIDDEN) and not module:
        raise SystemExit(f"a mutant made us do {event}{arguments!r}")


def check(case: Mutant) -> tuple[str, list[Any], bytes, bytes | None]:
    """(how far it came, everything that was found, the GLB, the same without compression) of a mutant."""
    taken = to_glb_job({case.name: memoryview(case.data)}, {"main": case.name})
    found: list[Any] = list(taken.value["findings"])
    glb = bytes(taken.files.get("model.glb", b""))
    if not glb:
        assert any(finding["severity"] == "error" for finding in found)
        return "refused at intake", found, b"", None
    assert SECRET not in glb
    checked = precheck(glb, LIMITS)
    found += checked.findings.to_json()
    if checked.document is None:
        assert checked.findings.failed
        return "refused by the pre-check", found, b"", None
    json.dumps(inspect(checked.document, checked.bin, len(glb)), allow_nan=False)
    json.dumps(facts(checked.document, len(glb)), allow_nan=False)
    plain = None
    if is_packed(checked.document):
        findings = Findings()
        plain = check_payloads(glb, checked.document, LIMITS, findings)
        found += findings.to_json()
        if plain is None:
            assert findings.failed
            return "refused for its payload", found, b"", None
    return "passed", found, glb, plain


def bake(glb: bytes, *, msft_lod: bool = False) -> dict[str, bytes]:
    """The optimized files; none where the document contradicts itself in a way that is an error of ours."""
    inputs = {"model.glb": memoryview(glb)}
    try:
        unpack_job(inputs, {})
        meshes = {**RECIPE["meshes"], "msft_lod": msft_lod}
        files = assemble_job(inputs, {**RECIPE, "meshes": meshes}).files
    except (DocumentError, GlbError):
        return {}
    return {name: bytes(data) for name, data in files.items()}


def run(seeds: range, script: str, *, verdicts_only: bool) -> Iterator[dict[str, Any]]:
    lines: dict[int, dict[str, Any]] = {}
    passed: dict[int, list[bytes]] = {}
    for seed in reversed(seeds) if verdicts_only else seeds:
        _at(f"check {seed}")
        case = mutant(seed)
        outcome, found, glb, plain = check(case)
        for finding in found:
            assert finding["code"] in RULES, (seed, finding)
            assert 0 < len(finding["message"]) < 400, (seed, finding)
            assert finding["remedy"] or finding["severity"] != "error", (seed, finding)
        lines[seed] = {"seed": seed, "source": case.source, "operators": case.operators}
        lines[seed] |= {"outcome": outcome, "verdict": _digest(found)}
        if glb:
            passed[seed] = [glb] if plain is None else [glb, plain]
    if passed and not verdicts_only:
        for seed, errors in _validated(passed, script).items():
            lines[seed]["outcome"] = "refused by the official validator" if errors else "passed"
        outputs = {seed: _baked(seed, glbs[0]) for seed, glbs in passed.items()}
        for seed, files in outputs.items():
            lines[seed]["files"] = len(files)
        sound = {seed: files for seed, files in outputs.items() if files and lines[seed]["outcome"] == "passed"}
        for seed, errors in _validated(sound, script).items():
            assert not errors, f"seed {seed}: the official validator finds fault with what became of it"
    yield from lines.values()


def _validated(glbs: dict[int, list[bytes]], script: str) -> dict[int, int]:
    """Errors that the official validator finds in the files of each seed, all with one start of V8."""
    _at(f"validate {list(glbs)}")
    owners = [seed for seed, files in glbs.items() for _ in files]
    reports = validate_all(
        [file for files in glbs.values() for file in files], validator_js=script, seconds=SECONDS / 4
    )
    errors = dict.fromkeys(glbs, 0)
    for seed, report in zip(owners, reports, strict=True):
        failed = [finding.message for finding in report.findings if finding.code == "khronos.failed"]
        assert not failed, f"seed {seed}: the validator failed: {failed[0]}"
        errors[seed] += report.errors
    return errors


def _baked(seed: int, glb: bytes) -> list[bytes]:
    """The files that came out other than they went in: none larger, all as sound, none with a secret."""
    _at(f"bake {seed}")
    outputs = [data for data in bake(glb, msft_lod=seed % 4 == 0).values() if data != glb]
    for data in outputs:
        assert len(data) <= len(glb), f"seed {seed}: {len(glb)} became {len(data)} bytes"
        assert SECRET not in data
        checked = precheck(data, LIMITS)
        assert checked.document is not None, f"seed {seed}: the output is refused: {checked.findings.to_json()[:2]}"
        Document.from_glb(data)
    return outputs


def _at(step: str) -> None:
    """Says on stderr where it is, for whoever finds it dead, and starts the clock anew."""
    signal.alarm(SECONDS)
    print(step, file=sys.stderr, flush=True)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def main() -> None:
    global watching  # noqa: PLW0603 - an audit hook can't be taken off again
    first, count = int(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    script = validator_js().read_text("utf-8")
    for name in SOURCES:
        data = source(name)
        check(Mutant(0, name, (), data))
        bake(data)
    validate_all([source("box")], validator_js=script)
    sys.addaudithook(_watch)
    watching = True
    for begin in range(first, first + count, BLOCK):
        seeds = range(begin, min(begin + BLOCK, first + count))
        for line in run(seeds, script, verdicts_only="--verdicts" in sys.argv):
            print(json.dumps(line), flush=True)
    watching = False


if __name__ == "__main__":
    main()
