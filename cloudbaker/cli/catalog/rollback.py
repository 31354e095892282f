"""``cloudbaker catalog rollback``."""

from __future__ import annotations

import click


@click.command()
@click.argument("asset")
@click.argument("number", type=int)
@click.option("--tenant", default="local", show_default=True)
@click.option("--channel", default="live", show_default=True)
@click.option("--why", default="", help="For the audit trail.")
def rollback(asset: str, number: int, tenant: str, channel: str, why: str) -> None:
    """Point a channel at an earlier version. History stays."""
    import getpass

    from cloudbaker.catalog.core import Catalog
    from cloudbaker.model import AssetRef
    from cloudbaker.settings import settings

    with Catalog.open(settings()) as opened:
        ref = AssetRef.parse(asset, tenant=tenant)
        opened.move_channel(ref, channel, number, by=getpass.getuser(), why=why)
    click.echo(f"{channel} of {ref} is now version {number}")
