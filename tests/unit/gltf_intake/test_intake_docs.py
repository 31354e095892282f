"""The page of findings is the table of the code."""

from __future__ import annotations

from pathlib import Path

from cloudbaker.compute.gltf.findings import RULES, rules_table

ROOT = Path(__file__).parents[3]


def test_the_page_holds_the_table_as_it_is() -> None:
    page = (ROOT / "docs" / "validation.md").read_text("utf-8")
    assert rules_table() in page, "docs/validation.md is behind: put the text of findings.rules_table() in it"


def test_every_code_is_used_and_says_what_to_do() -> None:
    files = [p for p in (ROOT / "compute/gltf").glob("*.py") if p.name != "findings.py"]
    source = "".join(p.read_text("utf-8") for p in [*files, ROOT / "tasks/surfaces.py"])
    assert [code for code in RULES if f'"{code}"' not in source] == []
    assert all(rule.meaning and rule.remedy for rule in RULES.values())
