"""``cloudbaker catalog gc``."""

from __future__ import annotations

import click

from cloudbaker.cli.output import json_option, print_json, table


@click.command()
@click.option("--plan", is_flag=True, help="Only say what would be removed.")
@json_option
def gc(plan: bool, as_json: bool) -> None:
    """Remove what interrupted bakes left behind: temporary files, expired uploads, objects that nothing knows."""
    from cloudbaker.catalog.core import Catalog
    from cloudbaker.model import to_json
    from cloudbaker.settings import settings

    with Catalog.open(settings()) as opened:
        report = opened.gc(plan=plan)
    if as_json:
        print_json(to_json(report))
        return
    table(("what", "key", "bytes", "since"), ((i.kind, i.key, i.size, i.since) for i in report.items))
    click.echo(f"{'would free' if plan else 'freed'} {report.bytes:,} bytes; {len(report.missing)} object(s) missing")
