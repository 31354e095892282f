"""``cloudbaker catalog search``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from cloudbaker.cli.catalog.paging import page_options, print_page, say_more
from cloudbaker.cli.output import json_option, table
from cloudbaker.cli.units import Moment


@click.command()
@click.argument("text", nargs=-1)
@click.option("--tag", "tags", multiple=True, help="It has this tag; again for more.")
@click.option("--tenant", help="Of this tenant.")
@click.option("--project", help="Of this project of the tenant.")
@click.option("--recipe", help="Its newest version was baked by this recipe.")
@click.option("--by", "created_by", help="Its newest version was published by this person.")
@click.option("--since", type=Moment(), help="Its newest version is not older: 2026-01-31, 7d.")
@click.option("--until", type=Moment(), help="Its newest version is older.")
@click.option("--deleted", is_flag=True, help="Also assets whose versions are all deleted.")
@click.option("--sort", type=click.Choice(["name", "-name", "newest", "oldest"]), default="name", show_default=True)
@page_options(50)
@json_option
def search(
    text: tuple[str, ...], since: datetime | None, until: datetime | None, as_json: bool, **options: Any
) -> None:
    """Find assets: TEXT is words, each of which is somewhere in the name."""
    from cloudbaker.catalog.core import Catalog
    from cloudbaker.settings import settings
    from cloudbaker.tasks.report import human_bytes

    with Catalog.open(settings()) as opened:
        page = opened.search(" ".join(text), since=since, until=until, **options)
    if as_json:
        print_page(page)
        return
    if page:
        table(
            ("asset", "version", "channels", "tags", "recipe", "size", "changed", "by"),
            (
                (
                    a.asset,
                    a.latest,
                    ", ".join(f"{name} → {number}" for name, number in a.channels.items()),
                    ", ".join(a.tags),
                    a.recipe,
                    human_bytes(a.size_bytes),
                    f"{a.changed_at:%Y-%m-%d %H:%M}",
                    a.created_by,
                )
                for a in page
            ),
        )
    say_more(page, "asset found")
