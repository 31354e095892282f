"""docs/gltf.md: its examples run, print what the page shows, and leave out no verb.

    CLOUDBAKER_DOCS=update pytest tests/integration/test_docs_gltf.py

writes the outputs into the page. Numbers may differ by a tenth: sizes move when an encoder gets better.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from cloudbaker.cli import main
from cloudbaker.compute.gltf import VERBS
from cloudbaker.compute.npm import validator_js
from cloudbaker.errors import ToolMissing
from cloudbaker.testing import wasteful

PAGE = Path(__file__).parents[2] / "docs" / "gltf.md"
UPDATE = os.environ.get("CLOUDBAKER_DOCS") == "update"
PYTHON = re.compile(r"(?P<code>^```python\n(?P<body>.*?)^```\n)\n(?P<shown>^```text\n(?P<text>.*?)^```\n)", re.M | re.S)
CONSOLE = re.compile(r"^```console\n(?P<body>.*?)^```\n", re.M | re.S)
NUMBER = re.compile(r"\d[\d,]*\.?\d*")


def same(printed: str, shown: str) -> bool:
    """Equal words, and numbers that are near."""
    if NUMBER.sub("#", printed) != NUMBER.sub("#", shown):
        return False
    pairs = zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True)
    return all(float(a.replace(",", "")) == pytest.approx(float(b.replace(",", "")), rel=0.1) for a, b in pairs)


def run_python(body: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(body, PAGE.name, "exec"), {"__name__": "example"})
    return out.getvalue()


def test_the_page_has_an_example_for_each_verb_that_runs_and_prints_what_it_shows():
    text = PAGE.read_text("utf-8")
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", text, re.M | re.S))
    assert set(sections) == set(VERBS)
    for name, section in sections.items():
        [example] = PYTHON.findall(section)
        assert f"{name}(" in example[1]
    wrong = []

    def block(match: re.Match[str]) -> str:
        printed = run_python(match["body"])
        assert printed
        if not same(printed, match["text"]):
            wrong.append(f"{match['body']}\nprinted:\n{printed}\nthe page shows:\n{match['text']}")
        return f"{match['code']}\n```text\n{printed}```\n"

    updated = PYTHON.sub(block, text)
    if UPDATE:
        PAGE.write_text(updated, "utf-8")
    else:
        assert not wrong, "\n".join(wrong)


def test_the_commands_of_the_page_print_what_it_shows(home, tmp_path, monkeypatch, capsys):
    try:
        validator_js()
    except ToolMissing as error:
        pytest.skip(str(error))
    (tmp_path / "ball.glb").write_bytes(wasteful.unwelded())
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text("utf-8")
    wrong = []

    def block(match: re.Match[str]) -> str:
        [command] = [line[2:] for line in match["body"].splitlines() if line.startswith("$ ")]
        words = shlex.split(command)
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            main(words[1:])
        assert not ended.value.code
        printed = "".join(f"{line.rstrip()}\n" for line in capsys.readouterr().out.splitlines())
        block = f"```console\n$ {command}\n{printed}```\n"
        if not same(block, match.group(0)):
            wrong.append(block)
        return block

    updated = CONSOLE.sub(block, text)
    if UPDATE:
        PAGE.write_text(updated, "utf-8")
    else:
        assert not wrong, "\n".join(wrong)
