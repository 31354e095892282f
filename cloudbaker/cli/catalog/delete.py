"""``cloudbaker catalog delete``."""

from __future__ import annotations

import click

from cloudbaker.cli.output import json_option, print_json


@click.command()
@click.argument("asset")
@click.argument("number", type=click.IntRange(1))
@click.option("--why", required=True, help="For the audit trail, and for whoever looks for it later.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option("--tenant", default="local", show_default=True)
@json_option
def delete(asset: str, number: int, why: str, yes: bool, tenant: str, as_json: bool) -> None:
    """Delete a version for good. What the catalog knows of it stays; its bytes go with the next clean-up."""
    import getpass

    from cloudbaker.catalog.core import Catalog
    from cloudbaker.model import AssetRef
    from cloudbaker.settings import settings

    with Catalog.open(settings()) as opened:
        ref = AssetRef.parse(asset, tenant=tenant)
        version = opened.get_version(ref, number)
        if not yes and version.deleted_at is None:
            click.confirm(f"delete {version} of {version.created_at:%Y-%m-%d} for good?", abort=True, err=True)
        deleted = opened.delete_version(ref, number, by=getpass.getuser(), why=why)
    if as_json:
        print_json({"asset": str(ref), "number": number, "deleted": deleted, "already_deleted": not deleted})
    else:
        click.echo(f"{ref}@{number} {'is deleted' if deleted else 'was deleted before'}")
