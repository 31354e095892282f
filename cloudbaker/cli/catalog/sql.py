"""``cloudbaker catalog sql``."""

from __future__ import annotations

import click

from cloudbaker.cli.output import json_option, print_json, table


@click.command()
@click.argument("query")
@click.option("--limit", default=200, show_default=True, help="Rows shown (not with --json).")
@json_option
def sql(query: str, limit: int, as_json: bool) -> None:
    """Run a DuckDB query over the catalog's views (docs/catalog.md lists them)."""
    from cloudbaker.catalog.core import Catalog
    from cloudbaker.model import to_json
    from cloudbaker.settings import settings

    with Catalog.open(settings()) as opened:
        relation = opened.sql(query)
        columns, rows = relation.columns, relation.fetchall()
    if as_json:
        print_json([dict(zip(columns, (_plain(to_json(v)) for v in row), strict=True)) for row in rows])
        return
    table(columns, rows[:limit])
    if len(rows) > limit:
        click.echo(f"{limit} of {len(rows)} rows; more with --limit")


def _plain(value: object) -> object:
    return value if isinstance(value, (str, int, float, bool, list, dict, type(None))) else str(value)
