"""``cloudbaker catalog versions``."""

from __future__ import annotations

import click

from cloudbaker.cli.catalog.paging import page_options, say_more
from cloudbaker.cli.output import json_option, print_json, table


@click.command()
@click.argument("asset")
@click.option("--tenant", default="local", show_default=True)
@page_options(50)
@json_option
def versions(asset: str, tenant: str, limit: int, cursor: str | None, as_json: bool) -> None:
    """All versions of an asset, newest first."""
    from cloudbaker.catalog.core import Catalog
    from cloudbaker.model import AssetRef, to_json
    from cloudbaker.settings import settings
    from cloudbaker.tasks.report import human_bytes

    with Catalog.open(settings()) as opened:
        found = opened.versions(AssetRef.parse(asset, tenant=tenant), limit=limit, cursor=cursor)
    if as_json:
        print_json([to_json(v) for v in found])
        return
    table(
        ("version", "channels", "recipe", "size", "created", "by", "note", "bake key"),
        (
            (
                v.number,
                ", ".join(v.channels) if v.deleted_at is None else f"deleted {v.deleted_at:%Y-%m-%d}",
                v.recipe,
                human_bytes(v.size_bytes),
                f"{v.created_at:%Y-%m-%d %H:%M}",
                v.created_by,
                v.change_note,
                v.bake_key[:12],
            )
            for v in found
        ),
    )
    say_more(found, "version")
