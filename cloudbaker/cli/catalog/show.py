"""``cloudbaker catalog show``."""

from __future__ import annotations

import click

from cloudbaker.cli.output import json_option, print_json, printable, table


@click.command()
@click.argument("asset")
@click.option("--tenant", default="local", show_default=True)
@click.option("--versions", default=10, show_default=True, help="Newest versions shown.")
@json_option
def show(asset: str, tenant: str, versions: int, as_json: bool) -> None:
    """An asset: its channels, tags, holds, newest versions, and dependencies both ways."""
    from cloudbaker.catalog.core import Catalog
    from cloudbaker.model import AssetRef
    from cloudbaker.settings import settings
    from cloudbaker.tasks.report import human_bytes

    with Catalog.open(settings()) as opened:
        view = opened.show(AssetRef.parse(asset, tenant=tenant), versions=versions)
    if as_json:
        print_json(view.to_json())
        return
    click.secho(str(view.asset), bold=True)
    click.echo(f"  since {view.created_at:%Y-%m-%d %H:%M}, {view.latest} version(s)")
    lines = {
        "channels": ", ".join(f"{name} → {number}" for name, number in view.channels.items()),
        "tags": ", ".join(view.tags),
        "depends on": ", ".join(
            f"{n.on_asset}{'' if n.on_number is None else f'@{n.on_number}'} ({n.kind})" for n in view.depends_on
        ),
        "needed by": ", ".join(f"{n.asset}@{n.number}" for n in view.dependents)
        + (" …" if view.dependents_more else ""),
    }
    for name, text in lines.items():
        if text:
            click.echo(f"  {name}: {text}")
    for hold in view.holds:
        end = f" until {hold.until:%Y-%m-%d %H:%M}" if hold.until else ""
        what = f"version {hold.number}" if hold.number else "all versions"
        click.echo(f"  held: {what}{end}, by {printable(hold.placed_by)}: {printable(hold.why)}")
    table(
        ("version", "channels", "recipe", "size", "created", "by", "note"),
        (
            (
                v.number,
                "deleted" if v.deleted_at else ", ".join((*v.channels, *(["held"] if v.held else []))),
                v.recipe,
                human_bytes(v.size_bytes),
                f"{v.created_at:%Y-%m-%d %H:%M}",
                v.created_by,
                v.change_note,
            )
            for v in view.versions
        ),
    )
