"""``cloudbaker catalog estimate``."""

from __future__ import annotations

from typing import Any

import click

from cloudbaker.cli.output import json_option, print_json, table


@click.command()
@click.option("--minutes", type=float, default=0, help="Expected time of a simple case on that device.")
@click.option("--device", default="cpu", show_default=True, help="As the price table or the driver names it.")
@click.option("--complexity", type=click.Choice(["simple", "medium", "complex"]), default="simple", show_default=True)
@click.option("--special", is_flag=True, help="Work that needs care of its own: adds to the factor.")
@click.option("--stored-gb", type=float, default=0, help="GB that will be stored …")
@click.option("--stored-hours", type=float, default=0, help="… for so many hours.")
@click.option("--transfer-gb", type=float, default=0, help="GB that will be downloaded.")
@json_option
def estimate(as_json: bool, **work: Any) -> None:
    """What work will cost, by the price table: before it is done."""
    from cloudbaker.catalog.pricing import estimate, load_prices
    from cloudbaker.settings import settings

    told = estimate(load_prices(settings().pricing), **work)
    if as_json:
        amounts = {name: f"{getattr(told, name):f}" for name in ("compute", "storage", "transfer", "total")}
        print_json({"currency": told.currency, **amounts})
        return
    table(("", told.currency), ((name, f"{getattr(told, name):f}") for name in ("compute", "storage", "transfer")))
    click.echo(f"total {told.total:f} {told.currency}")
