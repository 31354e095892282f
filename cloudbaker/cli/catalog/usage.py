"""``cloudbaker catalog usage``."""

from __future__ import annotations

import click

from cloudbaker.cli.output import json_option, print_json, table


@click.command()
@click.option("--tenant", help="Only this tenant.")
@json_option
def usage(tenant: str | None, as_json: bool) -> None:
    """Bytes, versions, runs and compute seconds per tenant."""
    from cloudbaker.catalog.core import Catalog
    from cloudbaker.model import to_json
    from cloudbaker.settings import settings

    with Catalog.open(settings()) as opened:
        rows = [to_json(row) for row in opened.usage(tenant)]
    if as_json:
        print_json(rows)
    elif rows:
        table(list(rows[0]), (row.values() for row in rows))
    else:
        click.echo("nothing stored yet")
