"""docs/lods.md: its examples run and print what the page shows.

    CLOUDBAKER_DOCS=update pytest tests/integration/test_docs_lods.py

writes the outputs into the page. Numbers may differ by a tenth.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path

import pytest

from cloudbaker.compute.meshlab import missing

PAGE = Path(__file__).parents[2] / "docs" / "lods.md"
EXAMPLE = re.compile(r"^```python\n(?P<body>.*?)^```\n\n```text\n(?P<shown>.*?)^```\n", re.M | re.S)
NUMBER = re.compile(r"\d+\.?\d*")


@pytest.mark.parametrize("number", range(2))
def test_an_example_prints_what_the_page_shows(number: int) -> None:
    text = PAGE.read_text("utf-8")
    examples = list(EXAMPLE.finditer(text))
    assert len(examples) == 2
    example = examples[number]
    if "meshlab" in example["body"] and (reason := missing()):
        pytest.skip(reason)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(example["body"], PAGE.name, "exec"), {"__name__": "example"})
    printed = out.getvalue()
    if os.environ.get("CLOUDBAKER_DOCS") == "update":
        PAGE.write_text(text[: example.start("shown")] + printed + text[example.end("shown") :], "utf-8")
        return
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", example["shown"])
    for ours, shown in zip(NUMBER.findall(printed), NUMBER.findall(example["shown"]), strict=True):
        assert float(ours) == pytest.approx(float(shown), rel=0.1, abs=0.011), printed
