"""``cloudbaker catalog diff``."""

from __future__ import annotations

import click

from cloudbaker.cli.output import json_option, print_json, table


@click.command()
@click.argument("asset")
@click.argument("before")
@click.argument("after", default="live")
@click.option("--tenant", default="local", show_default=True)
@json_option
def diff(asset: str, before: str, after: str, tenant: str, as_json: bool) -> None:
    """What changed from one version to another, each a number or a channel: bytes, figures, tools, recipe, losses."""
    from cloudbaker.catalog.core import Catalog
    from cloudbaker.cli.catalog.paging import which
    from cloudbaker.model import AssetRef
    from cloudbaker.settings import settings

    with Catalog.open(settings()) as opened:
        found = opened.diff(AssetRef.parse(asset, tenant=tenant), which(before), which(after))
    if as_json:
        print_json(found.to_json())
        return
    rows = [
        (kind, what, *(f"{v:,.6g}" if isinstance(v, float) else v for v in pair)) for kind, what, *pair in found.rows()
    ]
    if rows:
        table(("kind", "what", "before", "after"), rows, title=f"{found.asset}: {found.before} → {found.after}")
    click.echo(
        "every artifact is byte for byte the same"
        if found.same_bytes
        else f"{found.same_artifacts} artifact(s) the same"
    )
