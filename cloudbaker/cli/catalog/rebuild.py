"""``cloudbaker catalog rebuild``."""

from __future__ import annotations

import click

from cloudbaker.cli.output import json_option, print_json, table


@click.command()
@click.option("--into", metavar="URL", help="Where the new core goes; default: CLOUDBAKER_CATALOG_URL, or the home's.")
@click.option("--plan", is_flag=True, help="Only say what there is to rebuild from.")
@click.option("--force", is_flag=True, help="Replace a core even if it holds rows that are not published.")
@json_option
def rebuild(into: str | None, plan: bool, force: bool, as_json: bool) -> int:
    """Make a new core from the published tables alone: after a loss, or to move from SQLite to Postgres.

    End everything that uses the catalog first (`cloudbaker down`). A SQLite file that is replaced is kept beside the
    new one.
    """
    from rich.console import Console

    from cloudbaker.catalog.published import Tables
    from cloudbaker.catalog.rebuild import rebuild as rebuild_core
    from cloudbaker.model import to_json
    from cloudbaker.settings import settings

    config = settings()
    console = Console(stderr=True, quiet=as_json)
    with console.status("rebuilding") as status:
        report = rebuild_core(
            Tables(config.published, endpoint=config.s3_endpoint),
            into or config.database_url,
            plan=plan,
            force=force,
            progress=lambda name, count: status.update(f"rebuilding: {name} {count:,}"),
        )
    if as_json:
        print_json(to_json(report))
    else:
        table(("table", "rows"), ((name, f"{count:,}") for name, count in report.rows.items() if count))
        done = "would be rebuilt" if plan else f"rebuilt in {report.seconds:.1f} s"
        click.echo(f"{sum(report.rows.values()):,} rows {done}: {report.into}")
        if not plan:
            click.echo("objects that no version refers to are found by `cloudbaker catalog gc`, as orphans")
        for chain in report.broken_chains:
            click.secho(f"the audit log of {chain or 'all'} does not hold: see `catalog audit --verify`", fg="red")
    return 1 if report.broken_chains else 0
