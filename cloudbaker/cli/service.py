"""``cloudbaker up`` and ``cloudbaker down``."""

from __future__ import annotations

import click

from cloudbaker.cli.output import json_option, print_json


@click.command()
@click.option("--port", type=int, help="Of the Prefect API and UI; default: 4200, or any free one.")
@json_option
def up(port: int | None, as_json: bool) -> None:
    """Start the service: Prefect server with its UI, Ray, warm engines, and the worker of `bake` and `rebake`."""
    from dataclasses import asdict

    from cloudbaker.flows.service import up as start
    from cloudbaker.settings import settings

    if not as_json:
        click.echo("starting Prefect, Ray and the worker …", err=True)
    record, new = start(settings(), port=port)
    if as_json:
        print_json({**asdict(record), "already_running": not new})
        return
    click.secho("the service is up" if new else "the service was already up", bold=True)
    click.echo(
        f"  Prefect UI   {record.ui_url}\n  Ray          {record.ray_address}\n  logs         {settings().home}/logs"
    )


@click.command()
@json_option
def down(as_json: bool) -> None:
    """Stop the service and everything it started."""
    from cloudbaker.flows.service import down as stop
    from cloudbaker.settings import settings

    stopped = stop(settings())
    if as_json:
        print_json({"stopped": stopped, "already_down": not stopped})
    else:
        click.echo("the service is down" if stopped else "no service was running")
