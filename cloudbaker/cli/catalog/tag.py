"""``cloudbaker catalog tag``."""

from __future__ import annotations

import click

from cloudbaker.cli.output import json_option, print_json


@click.command()
@click.argument("asset")
@click.argument("tags", nargs=-1)
@click.option("--remove", is_flag=True, help="Take them off instead.")
@click.option("--why", default="", help="For the audit trail.")
@click.option("--tenant", default="local", show_default=True)
@json_option
def tag(asset: str, tags: tuple[str, ...], remove: bool, why: str, tenant: str, as_json: bool) -> None:
    """Put tags on an asset, or take them off. Without tags: those it has."""
    import getpass

    from cloudbaker.catalog.core import Catalog
    from cloudbaker.model import AssetRef
    from cloudbaker.settings import settings

    if remove and not tags:
        raise click.UsageError("name the tags that are to be taken off")
    with Catalog.open(settings()) as opened:
        ref = AssetRef.parse(asset, tenant=tenant)
        if tags:
            change = opened.untag if remove else opened.tag
            found = change(ref, tags, by=getpass.getuser(), why=why)
        else:
            found = opened.show(ref, versions=0, dependents=0).tags
    if as_json:
        print_json({"asset": str(ref), "tags": list(found)})
    else:
        click.echo(f"{ref}: {', '.join(found) or 'no tags'}")
