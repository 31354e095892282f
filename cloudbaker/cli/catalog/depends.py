"""``cloudbaker catalog depends``."""

from __future__ import annotations

import click

from cloudbaker.cli.output import json_option, print_json, table


@click.command()
@click.argument("asset", metavar="ASSET[@VERSION]")
@click.option("--on-it", is_flag=True, help="What needs it, instead of what it needs.")
@click.option("--all", "transitive", is_flag=True, help="Also what those need (or what needs those), and so on.")
@click.option("--old", is_flag=True, help="With --on-it: also versions that are neither newest nor in a channel.")
@click.option("--tenant", default="local", show_default=True)
@json_option
def depends(asset: str, on_it: bool, transitive: bool, old: bool, tenant: str, as_json: bool) -> None:
    """What a version needs of other assets, or what needs it."""
    from cloudbaker.catalog.core import Catalog
    from cloudbaker.cli.catalog.paging import asset_at
    from cloudbaker.model import AssetRef, to_json
    from cloudbaker.settings import settings

    name, which = asset_at(asset, "" if on_it else "live")
    ref = AssetRef.parse(name, tenant=tenant)
    with Catalog.open(settings()) as opened:
        if on_it:
            number = opened.get_version(ref, which).number if which else None
            opened.show(ref, versions=0, dependents=0)  # NotFound for a name that is none
            found = opened.dependents(ref, number, transitive=transitive, old=old)
        else:
            found = opened.depends_on(ref, which, transitive=transitive)
    if as_json:
        print_json([to_json(need) for need in found])
    elif found:
        table(
            ("version", "needs", "kind", "depth"),
            (
                (
                    f"{n.asset}@{n.number}",
                    n.on_asset if n.on_number is None else f"{n.on_asset}@{n.on_number}",
                    n.kind,
                    n.depth,
                )
                for n in found
            ),
        )
    else:
        click.echo(f"nothing depends on {ref}" if on_it else f"{ref} depends on nothing")
