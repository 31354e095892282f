"""``cloudbaker catalog gc``."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from cloudbaker.cli.output import json_option, print_json, table

if TYPE_CHECKING:
    from cloudbaker.catalog.records import GcReport

_SHOWN = 100


@click.command()
@click.option("--plan", is_flag=True, help="Only say what would be done.")
@click.option(
    "--grace",
    metavar="HOURS",
    type=click.FloatRange(0, 24 * 365),
    default=24,
    show_default=True,
    help="Age at which unexplained files go and silent runs are called failed.",
)
@json_option
def gc(plan: bool, grace: float, as_json: bool) -> int:
    """Clean-up: versions that retention lets go, and what interrupted bakes left behind. Safe at any moment."""
    from rich.console import Console

    from cloudbaker.catalog.core import Catalog
    from cloudbaker.model import to_json
    from cloudbaker.settings import settings

    console = Console(stderr=True, quiet=as_json)
    with Catalog.open(settings()) as opened, console.status("clean-up") as status:
        report = opened.gc(
            plan=plan,
            grace=timedelta(hours=grace),
            progress=lambda what, count: status.update(f"clean-up: {count:,} {what}"),
        )
    if as_json:
        print_json({**to_json(report), "bytes": report.bytes})
    else:
        _show(report)
    return 1 if report.failed else 0


def _show(report: GcReport) -> None:
    from cloudbaker.tasks.report import human_bytes

    if report.items:
        table(
            ("what", "which", "size", "since"),
            (
                (i.kind, i.key, human_bytes(i.size) if i.size else "", f"{i.since:%Y-%m-%d %H:%M}" if i.since else "")
                for i in report.items[:_SHOWN]
            ),
        )
    if len(report.items) > _SHOWN:
        click.echo(f"{_SHOWN} of {len(report.items):,}; --json gives all")
    count = len(report.items) - len(report.missing)
    click.echo(
        f"{'would clean up' if report.plan else 'cleaned up'} {count:,} thing(s), "
        f"{human_bytes(report.bytes)} {'would be' if report.plan else 'are'} free"
    )
    if report.missing:
        click.secho(f"{len(report.missing)} stored object(s) are missing: bake those assets again", fg="red")
    for failure in report.failed[:5]:
        click.secho(f"could not {failure.verb} {failure.key or 'the store'}: {failure.error}", fg="red", err=True)
    if report.failed:
        click.echo(f"the store failed {len(report.failed)} time(s); run this again, it goes on from here", err=True)
