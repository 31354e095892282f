"""Pages whose commands are run: what they show is what the commands print.

    CLOUDBAKER_DOCS=update pytest tests/integration/test_docs_console.py

writes the outputs into the pages. Times, hashes and ids differ from run to run, and are not compared.
"""

from __future__ import annotations

import os
import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
UPDATE = os.environ.get("CLOUDBAKER_DOCS") == "update"
BLOCK = re.compile(r"^(?P<day><!-- a day passes -->\n)?\n```(?P<kind>sh|console)\n(?P<body>.*?)^```\n", re.M | re.S)
VARYING = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "RUN"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?"), "TIME"),
    (re.compile(r"\b[0-9a-f]{12,64}\b"), "HASH"),
    (re.compile(r"\b[0-9a-f]{8}\b"), "ID"),
    (re.compile(r"\d+(\.\d+)? m?s\b"), "SECONDS"),
    (re.compile(r"[ ─━]{2,}"), " "),
)


def same(text: str) -> str:
    for pattern, name in VARYING:
        text = pattern.sub(name, text)
    return text


def a_day_passes(home: Path) -> None:
    """For uploads: what protects them now is over."""
    connection = sqlite3.connect(home / "catalog" / "catalog.db")
    with connection:
        connection.execute("UPDATE blobs SET lease_until = lease_until - 86400000000")
    connection.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", ["library.md"])
def test_the_page_shows_what_its_commands_print(page, tmp_path, home):
    folder = tmp_path / "library"
    folder.mkdir()
    environment = {
        **os.environ,
        "CLOUDBAKER_HOME": str(home),
        "LOGNAME": "ada",
        "COLUMNS": "110",
        "NO_COLOR": "1",
        "TERM": "dumb",
    }

    def run(command: str) -> str:
        words = shlex.split(command)
        assert words[0] == "cloudbaker"
        done = subprocess.run(
            [sys.executable, "-c", "from cloudbaker.cli import main; main()", *words[1:]],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode in (0, 2, 4), done.stdout
        return "".join(f"{line.rstrip()}\n" for line in done.stdout.replace(str(tmp_path), "").splitlines())

    def block(match: re.Match[str]) -> str:
        kind, body = match["kind"], match["body"]
        if match["day"]:
            a_day_passes(home)
        lines = [line.removeprefix("$ ") for line in body.splitlines() if kind == "sh" or line.startswith("$ ")]
        outputs = [run(line) for line in lines]
        if kind == "sh":
            return match.group(0)
        shown = "\n".join(f"$ {line}\n{output}".rstrip() + "\n" for line, output in zip(lines, outputs, strict=True))
        return f"{match['day'] or ''}\n```console\n{shown}```\n"

    text = (DOCS / page).read_text("utf-8")
    printed = BLOCK.sub(block, text)
    if UPDATE:
        (DOCS / page).write_text(printed, "utf-8")
    else:
        assert same(printed) == same(text)
