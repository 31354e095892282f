"""The page of how packs are read holds the table of the code."""

from __future__ import annotations

from pathlib import Path

from cloudbaker.compute.godot.findings import RULES, rules_table

ROOT = Path(__file__).parents[3]


def test_the_page_holds_the_table_as_it_is() -> None:
    page = (ROOT / "docs" / "godot-packs.md").read_text("utf-8")
    assert rules_table() in page, "docs/godot-packs.md is behind: put the text of findings.rules_table() in it"


def test_every_code_is_used_and_says_what_to_do() -> None:
    files = [ROOT / "compute/godot/pck.py", *(ROOT / "compute/godot/resources").glob("*.py")]
    source = "".join(path.read_text("utf-8") for path in files)
    assert [code for code in RULES if f'"{code}"' not in source] == []
    assert all(rule.meaning and rule.remedy for rule in RULES.values())
