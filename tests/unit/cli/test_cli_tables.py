"""The tables of ``inspect`` and ``diff`` as text, names from strangers included."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cloudbaker.cli import cli
from cloudbaker.cli.tables import csv_text, markdown
from cloudbaker.testing import models

TABLES = {
    "meshes": {
        "rows": [
            {"#": 0, "name": '=HYPERLINK("x")', "bytes": 1234567, "bounds": [0.5, 1.0]},
            {"#": 1, "name": "a|b\n# <img src=x>\x1b[31m", "bytes": None, "bounds": None},
        ],
        "footnotes": ["bytes: as stored."],
    },
    "empty": {"rows": [], "footnotes": ["never shown"]},
    "totals": {"triangles": 12, "generator": "", "footnotes": []},
}


def test_markdown_shows_content_as_text() -> None:
    text = markdown(TABLES, ["error x: [link](y)"])
    lines = text.splitlines()
    assert "| # | name | bytes | bounds |" in lines
    assert '| 0 | =HYPERLINK("x") | 1,234,567 | 0.5, 1 |' in lines
    (row,) = [line for line in lines if line.startswith("| 1 ")]
    assert "<img" not in row
    assert "\x1b" not in row
    assert r"a\|b" in row
    assert "- bytes: as stored." in lines
    assert "empty" not in text
    assert "| triangles | 12 |" in lines
    assert r"- error x: \[link\](y)" in lines


def test_csv_of_one_table_has_its_columns_and_no_formulas() -> None:
    rows = list(csv.reader(io.StringIO(csv_text({"meshes": TABLES["meshes"]}, wide=True))))
    assert rows[0] == ["#", "name", "bytes", "bounds"]
    assert rows[1] == ["0", '\'=HYPERLINK("x")', "1234567", "0.5 1.0"]
    assert len(rows) == 3
    assert "\x1b" not in rows[2][1]


def test_csv_of_all_tables_is_long() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(TABLES, wide=False))))
    assert {row["table"] for row in rows} == {"meshes", "totals"}
    assert {"table": "meshes", "row": "0", "column": "bytes", "value": "1234567"} in rows
    assert {"table": "totals", "row": "0", "column": "value", "value": "12"} in rows


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder: Path = tmp_path_factory.mktemp("two")
    paths = (folder / "a.glb", folder / "b.glb")
    for path, data in zip(paths, (models.box(), models.sphere()), strict=True):
        path.write_bytes(data)
    return str(paths[0]), str(paths[1])


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli, list(arguments), catch_exceptions=False, standalone_mode=False)
    assert done.return_value == 0
    return done.stdout


def test_inspect_in_every_form(two: tuple[str, str]) -> None:
    shown = run("inspect", two[0])
    assert "GPU bytes: attributes and indices decompressed" in shown
    facts = json.loads(run("inspect", two[0], "--format", "json"))["facts"]
    assert facts == json.loads(run("inspect", two[0], "--json"))["facts"]
    assert run("inspect", two[0], "--format", "md").startswith("## scenes\n")
    (row,) = csv.DictReader(io.StringIO(run("inspect", two[0], "--format", "csv", "--table", "meshes")))
    assert {k: str(v) for k, v in facts["meshes"]["rows"][0].items()} == row


def test_diff_in_every_form(two: tuple[str, str]) -> None:
    assert "brotli: the whole file" in run("diff", *two)
    look = json.loads(run("diff", *two, "--json"))
    assert look["verdict"] == "pass"
    counts = {row["figure"]: row for row in look["facts"]["counts"]["rows"]}
    assert counts["triangles"]["before"] == 12
    assert "| triangles | 12 |" in run("diff", *two, "--format", "md", "--table", "counts")
    assert run("diff", *two, "--format", "csv").startswith("table,row,column,value\nsizes,0,figure,bytes\n")


def test_a_table_that_is_not_there(two: tuple[str, str]) -> None:
    from cloudbaker.errors import UsageError

    with pytest.raises(UsageError, match="there is no table 'mesh'; there are: scenes, meshes"):
        run("inspect", two[0], "--table", "mesh")


def test_a_bad_second_file_is_named(two: tuple[str, str], tmp_path: Path) -> None:
    bad = tmp_path / "bad.glb"
    bad.write_bytes(models.hostile("truncated"))
    done = CliRunner().invoke(cli, ["diff", two[0], str(bad), "--json"], standalone_mode=False)
    assert done.return_value == 3
    look = json.loads(done.stdout)
    assert look["verdict"] == "reject"
    assert all(finding["place"].startswith("after:") for finding in look["findings"])
    assert look["facts"] == {}
