"""``cloudbaker catalog quarantine``."""

from __future__ import annotations

import click

from cloudbaker.cli.output import json_option, print_json, table


@click.command()
@click.option("--release", metavar="ASSET", help="Take an asset out, so that the next re-bake tries it again.")
@click.option("--why", default="", help="Of --release, for the audit trail.")
@click.option("--tenant", default="local", show_default=True)
@json_option
def quarantine(release: str | None, why: str, tenant: str, as_json: bool) -> None:
    """Assets whose bake failed for good, with the evidence."""
    import getpass

    from cloudbaker.catalog.core import Catalog
    from cloudbaker.model import AssetRef, to_json
    from cloudbaker.settings import settings

    with Catalog.open(settings()) as opened:
        if release:
            count = opened.release(AssetRef.parse(release, tenant=tenant), by=getpass.getuser(), why=why)
            click.echo(f"{count} entries released")
            return
        rows = [to_json(q) for q in opened.quarantined()]
    if as_json:
        print_json(rows)
    elif rows:
        columns = ("asset", "attempts", "since", "error")
        table(columns, ((r["asset"], r["attempts"], r["at"], str(r["error"])[:200]) for r in rows))
    else:
        click.echo("quarantine is empty")
