"""``cloudbaker catalog audit``."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from cloudbaker.cli.catalog.paging import page_options, print_page, say_more
from cloudbaker.cli.output import json_option, print_json, table
from cloudbaker.cli.units import Moment

if TYPE_CHECKING:
    from cloudbaker.catalog.core import Catalog

DAMAGED = 3
"""Exit code: something is not what its hash says."""


@click.command()
@click.option("--tenant", help="Of this tenant.")
@click.option("--who", help="What this person did.")
@click.option("--action", help="publish, move-channel, tag, release, delete-version …")
@click.option("--subject", help="What it was done to: an asset (with its versions and channels), a version, a sink.")
@click.option("--since", type=Moment(), help="Not older: 2026-01-31, 7d.")
@click.option("--until", type=Moment(), help="Older.")
@page_options(50)
@click.option("--verify", is_flag=True, help="Check that nothing was changed, inserted or removed; exit code 3 if so.")
@click.option("--heads", is_flag=True, help="Print the end of each chain, to be kept elsewhere.")
@click.option("--head", "kept", multiple=True, metavar="HEAD", help="With --verify: one that was kept; again for more.")
@json_option
def audit(verify: bool, heads: bool, kept: tuple[str, ...], as_json: bool, **filters: Any) -> int:
    """Who did what to what, when and why, newest first; and whether the log is whole."""
    from cloudbaker.catalog.core import Catalog
    from cloudbaker.settings import settings

    if kept and not verify:
        raise click.UsageError("--head is for --verify")
    with Catalog.open(settings()) as opened:
        if verify:
            return _verify(opened, kept, as_json)
        if heads:
            ends = opened.audit_heads()
            if as_json:
                print_json([str(end) for end in ends])
            else:
                click.echo("\n".join(map(str, ends)) or "nothing is written yet")
            return 0
        _list(opened, as_json, filters)
    return 0


def _list(opened: Catalog, as_json: bool, filters: dict[str, datetime | str | int | None]) -> None:
    page = opened.audit(**filters)  # type: ignore[arg-type]
    if as_json:
        print_page(page)
        return
    if page:
        table(
            ("when", "who", "did", "to", "why", "run"),
            ((f"{r.at:%Y-%m-%d %H:%M:%S}", r.who, r.action, r.subject, r.why, (r.run_id or "")[:8]) for r in page),
        )
    say_more(page, "entry")


def _verify(opened: Catalog, kept: tuple[str, ...], as_json: bool) -> int:
    from rich.console import Console

    from cloudbaker.catalog.audit import Head

    heads = [Head.parse(text) for text in kept]
    with Console(stderr=True).status("audit log") as status:
        report = opened.verify_audit(
            anchors=heads, progress=lambda rows: status.update(f"audit log: {rows:,} rows hashed")
        )
    if as_json:
        print_json(report.to_json())
        return 0 if report.ok else DAMAGED
    for damage in report.damage:
        click.secho(f"✗ {damage.chain or '(all)'}, position {damage.position}: ", fg="red", bold=True, nl=False)
        click.echo(damage.message)
    if report.ok:
        click.secho("✓ every chain is whole", bold=True)
    click.echo(
        f"  {report.rows:,} rows in {len(report.heads)} chain(s) hashed, {report.published:,} compared with the "
        f"published table, {len(kept)} kept head(s)"
    )
    if report.unchained:
        click.echo(f"  {report.unchained:,} rows are older than the chains: only the published table vouches for them")
    if not kept:
        click.echo("  a log cut off at its end, or written anew, shows only against heads kept elsewhere (--heads)")
    return 0 if report.ok else DAMAGED
