"""``cloudbaker catalog export``."""

from __future__ import annotations

import click


@click.command()
@click.argument("asset")
@click.argument("target", type=click.Path(), metavar="FOLDER|FILE.zip")
@click.option("--version", "number", default="live", show_default=True, help="A number or a channel.")
@click.option("--tenant", default="local", show_default=True)
def export(asset: str, target: str, number: str, tenant: str) -> None:
    """Write a version's bundle, with its signature, into a folder or a .zip."""
    from pathlib import Path

    from cloudbaker.catalog.core import Catalog
    from cloudbaker.model import AssetRef
    from cloudbaker.settings import settings
    from cloudbaker.tasks.export import export_version

    with Catalog.open(settings()) as opened:
        ref = AssetRef.parse(asset, tenant=tenant)
        version = opened.get_version(ref, int(number) if number.isdigit() else number)
        for path in export_version(opened, version, Path(target)):
            click.echo(path)
