"""``cloudbaker catalog hold``."""

from __future__ import annotations

from datetime import datetime

import click

from cloudbaker.cli.output import json_option, print_json, table
from cloudbaker.cli.units import Moment


@click.command()
@click.argument("asset", required=False)
@click.option("--version", "number", type=click.IntRange(1), help="Only this version; else all of the asset.")
@click.option("--until", type=Moment(ahead=True), help="When it ends by itself: 2027-01-31, 30d; else when released.")
@click.option("--release", is_flag=True, help="Take the hold away.")
@click.option("--why", default="", help="For the audit trail, and for whoever meets the hold.")
@click.option("--tenant", default="local", show_default=True)
@json_option
def hold(
    asset: str | None,
    number: int | None,
    until: datetime | None,
    release: bool,
    why: str,
    tenant: str,
    as_json: bool,
) -> None:
    """Keep an asset, or one version of it, from being deleted. Without an ASSET: the holds in force."""
    import getpass

    from cloudbaker.catalog.core import Catalog
    from cloudbaker.model import AssetRef, to_json
    from cloudbaker.settings import settings

    if asset is None and (number or until or release):
        raise click.UsageError("name the asset that is to be held")
    if release and until:
        raise click.UsageError("--release ends a hold now: give no --until with it")
    with Catalog.open(settings()) as opened:
        ref = None if asset is None else AssetRef.parse(asset, tenant=tenant)
        if ref is not None and release:
            what = str(ref) if number is None else f"{ref}@{number}"
            gone = opened.release_hold(ref, number, by=getpass.getuser(), why=why)
            if not as_json:
                click.echo(f"the hold on {what} is released" if gone else f"there was no hold on {what}")
                return
        elif ref is not None:
            opened.place_hold(ref, number, until=until, by=getpass.getuser(), why=why)
        found = opened.holds(ref)
    if as_json:
        print_json([to_json(h) for h in found])
    elif found:
        table(
            ("asset", "version", "until", "by", "since", "why"),
            (
                (
                    h.asset,
                    h.number or "all",
                    "released" if h.until is None else f"{h.until:%Y-%m-%d %H:%M}",
                    h.placed_by,
                    f"{h.placed_at:%Y-%m-%d %H:%M}",
                    h.why,
                )
                for h in found
            ),
        )
    else:
        click.echo("nothing is held")
