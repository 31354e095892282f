"""docs/godot.md is what the code says."""

from __future__ import annotations

from pathlib import Path

from cloudbaker.compute.godot.policy import parse_policy
from cloudbaker.compute.godot.scan_rules import RULES, rules_table

DOCS = Path(__file__).parents[3] / "docs"


def test_the_table_of_findings_is_the_code_s() -> None:
    assert rules_table() in (DOCS / "godot.md").read_text("utf-8")


def test_every_rule_says_what_to_do() -> None:
    assert all(rule.meaning and rule.remedy for rule in RULES.values())
    assert list(RULES) == list(dict.fromkeys(RULES))


def test_the_policy_in_the_docs_is_one() -> None:
    text = (DOCS / "godot.md").read_text("utf-8")
    (example,) = (block for block in text.split("```toml\n") if block.startswith('name = "acme"'))
    policy = parse_policy(example.split("```")[0])
    assert policy.for_engine("4.6").class_ban("Timer") is not None
    assert policy.limits.files == 500
