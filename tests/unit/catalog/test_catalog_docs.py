"""docs/catalog.md is a contract: every view and column is in it, and every query of it runs."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from cloudbaker.catalog import records
from cloudbaker.catalog.views import VIEWS
from cloudbaker.testing.catalog import publish

PAGE = Path(__file__).parents[3] / "docs" / "catalog.md"


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text("utf-8")


def test_every_view_and_column_is_described(catalog, page):
    described = {}
    for line in page.split("### The views")[1].split("### Some questions")[0].splitlines():
        if match := re.match(r"\| `(\w+)` \| .+? \| (.*) \|$", line):
            columns = re.sub(r"\([^)]*\)", "", match[2]).replace("all of `versions`:", "")
            described[match[1]] = sorted(re.findall(r"`(\w+)`", columns))
    with catalog.connect() as duck:
        assert described == {view: sorted(duck.sql(f"FROM {view}").columns) for view in VIEWS}


def test_every_query_runs(catalog, helmet, page):
    publish(catalog, helmet, b"x")
    queries = re.findall(r"```sql\n(.*?);\n```", page, flags=re.DOTALL)
    assert len(queries) >= 7
    for query in queries:
        assert len(catalog.sql(query).columns) > 1


def test_every_kind_of_clean_up_is_described(page):
    table = page.split("## Clean-up")[1].split("## Speed")[0]
    documented = inspect.getsource(records.GcItem)
    kinds = set(re.findall(r"``([a-z-]+)``", documented))
    assert len(kinds) == 9
    assert set(re.findall(r"^\| `([a-z-]+)` \|", table, flags=re.MULTILINE)) == kinds
