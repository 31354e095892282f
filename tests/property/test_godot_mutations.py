"""Mutated packs and resources: readers end in findings or typed errors, and strict and collecting ones agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import pytest

from cloudbaker.compute.godot.findings import RULES, BadContent
from cloudbaker.compute.godot.pck import PckLimits, read_pck
from cloudbaker.compute.godot.policy import load_policy
from cloudbaker.compute.godot.resources.binary import BinaryLimits, parse_binary
from cloudbaker.compute.godot.resources.text import TextLimits, parse_config, parse_text
from cloudbaker.compute.godot.resources.tree import Resource
from cloudbaker.compute.job import Job, Status
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.model import Finding, Severity
from cloudbaker.testing.godot_mutate import Mutant, mutant, seeds
from cloudbaker.testing.godot_packs import pack

BLOCK = 200
PCK = PckLimits(files=1000, pack_bytes=1 << 20)
TEXT = TextLimits(bytes=1 << 20, values=20_000)
BINARY = BinaryLimits(bytes=1 << 20, values=20_000, strings=5_000)


def read(case: Mutant, findings: list[Finding] | None) -> None:
    """Everything that a reader and those who use its result do."""
    if case.kind == "pck":
        with read_pck(case.data, limits=PCK, findings=findings) as pack:
            assert all(len(pack.view(entry)) == entry.size for entry in pack.entries)
        return
    resource: Resource
    if case.kind == "binary":
        resource = parse_binary(case.data, limits=BINARY, findings=findings)
    else:
        resource = (parse_text if case.kind == "text" else parse_config)(case.data, limits=TEXT, findings=findings)
    assert sum(1 for _ in resource.values()) < 100_000
    for owner, held in resource.assignments():
        assert isinstance(owner, str)
        assert isinstance(held.name, str)
        assert resource.where(held.place)


def check(case: Mutant) -> str:
    """``passed`` or ``refused``, the same for both ways to read."""
    findings: list[Finding] = []
    read(case, findings)
    for finding in findings:
        assert finding.code in RULES
        assert finding.message
        assert finding.remedy
        assert len(finding.message) < 500
        assert (finding.message + finding.place).isprintable()
    errors = [f for f in findings if f.severity is Severity.ERROR]
    try:
        read(case, None)
    except BadContent as error:
        first: str | None = error.code
    else:
        first = None
    assert first == (errors[0].code if errors else None), errors
    return "refused" if first else "passed"


def run(numbers: Iterable[int]) -> Counter[tuple[str, str]]:
    outcomes: Counter[tuple[str, str]] = Counter()
    for seed in numbers:
        case = mutant(seed)
        try:
            outcomes[case.kind, check(case)] += 1
        except Exception as error:
            raise AssertionError(f"mutant({seed}), {case.kind}: {type(error).__name__}: {error}") from error
    return outcomes


@pytest.mark.parametrize("block", range(5))
def test_mutants_end_in_findings(block: int, tell: Callable[[str], None]) -> None:
    outcomes = run(seeds(block, BLOCK))
    tell(", ".join(f"{kind} {outcome} {count}" for (kind, outcome), count in sorted(outcomes.items())))
    for kind in ("pck", "binary", "text"):
        # Both ways have to be walked, or the mutations test nothing.
        assert outcomes[kind, "refused"] > 10, outcomes
        assert outcomes[kind, "passed"] > 2, outcomes


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_many_more_mutants_end_in_findings(block: int, tell: Callable[[str], None]) -> None:
    numbers = seeds(10 + block, 1000)
    tell(", ".join(f"{kind} {outcome} {count}" for (kind, outcome), count in sorted(run(numbers).items())))


def test_mutants_in_the_sandbox_end_in_findings(sandbox: Sandbox, tell: Callable[[str], None]) -> None:
    cases = [case for seed in range(5_000, 5_120) if (case := mutant(seed)).kind == "pck"]
    jobs = [Job("cloudbaker.compute.godot.pck:extract_job", {"pack": case.data}) for case in cases]
    handed_out = 0
    for case, outcome in zip(cases, sandbox.run_all(jobs), strict=True):
        assert outcome.status is Status.OK, (outcome.error, case)
        refused = any(f["severity"] == "error" for f in outcome.value["findings"])
        assert refused is (check(case) == "refused")
        assert len(outcome.files) == (0 if refused else len(outcome.value["entries"]))
        handed_out += not refused
    tell(f"{len(cases)} packs, {handed_out} handed out")


def test_mutants_in_a_scan_in_the_sandbox_are_all_read(sandbox: Sandbox, tell: Callable[[str], None]) -> None:
    """The readers of resources where they run: behind the scan of a mod, in a process with limits."""
    suffix = {"text": "tscn", "binary": "res", "config": "cfg"}
    cases = {seed: case for seed in range(7_000, 7_200) if (case := mutant(seed)).kind != "pck"}
    files = {f"res://mods/a/{seed}.{suffix[case.kind]}": case.data for seed, case in cases.items()}
    policy = load_policy("default").model_dump(mode="json")
    job = Job("cloudbaker.compute.godot.scan:scan_job", {"m.pck": pack(files)}, {"policy": policy, "engine": "4.6.3"})
    outcome = sandbox.run(job)
    assert outcome.status is Status.OK, outcome.error
    assert outcome.value["verdict"] == "reject"
    found = {f["code"] for f in outcome.value["findings"]}
    assert any(code.startswith("text.") for code in found)
    assert any(code.startswith("binary.") for code in found)
    tell(f"{len(files)} resources, {len(outcome.value['findings'])} findings of {len(found)} kinds")


def test_a_seed_is_a_file() -> None:
    assert mutant(7) == mutant(7)
    assert len({mutant(seed).data for seed in range(100)}) > 90
