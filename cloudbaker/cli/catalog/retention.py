"""``cloudbaker catalog retention``."""

from __future__ import annotations

from typing import Any

import click

from cloudbaker.cli.output import json_option, print_json, table
from cloudbaker.cli.units import Count, limit


@click.command()
@click.argument("tenant", required=False)
@click.option(
    "--preset",
    type=click.Choice(["keep", "render", "none"]),
    help="keep: everything; render: versions go after 7 days; none: take the policy away.",
)
@click.option("--delete-after-days", type=Count(), help="Versions this old go; none: no version goes by age.")
@click.option("--keep-last", type=click.IntRange(0), help="So many of an asset's newest versions stay.")
@click.option("--inbox-hours", type=click.IntRange(1), help="How long the inbox is kept.")
@click.option("--why", default="", help="For the audit trail.")
@json_option
def retention(
    tenant: str | None,
    preset: str | None,
    delete_after_days: int | str | None,
    keep_last: int | None,
    inbox_hours: int | None,
    why: str,
    as_json: bool,
) -> None:
    """Show how long tenants' versions are kept; with options, set it. `catalog gc` acts on it, `gc --plan` says how."""
    import dataclasses
    import getpass

    from cloudbaker.catalog.core import Catalog
    from cloudbaker.catalog.records import Retention
    from cloudbaker.catalog.retention import PRESETS
    from cloudbaker.errors import NotFound
    from cloudbaker.settings import settings

    terms: dict[str, Any] = {"keep_last": keep_last, "inbox_hours": inbox_hours}
    terms = {name: value for name, value in terms.items() if value is not None}
    if delete_after_days is not None:
        terms["delete_after_days"] = limit(delete_after_days, None)
    if (terms or preset) and tenant is None:
        raise click.UsageError("name the tenant whose retention is to be set")
    if terms and preset == "none":
        raise click.UsageError("--preset none takes the policy away: give no terms with it")
    with Catalog.open(settings()) as opened:
        if tenant is not None and (terms or preset):
            try:
                policy = PRESETS.get(preset) if preset else opened.retention(tenant)
            except NotFound:  # it becomes known by this
                policy = None
            if preset != "none":
                policy = dataclasses.replace(policy or Retention(), **terms)
            opened.set_retention(tenant, policy, by=getpass.getuser(), why=why)
        names = [tenant] if tenant is not None else [q.tenant for q in opened.quotas()]
        found = {name: opened.retention(name) for name in names}
    if as_json:
        print_json([{"tenant": n, "retention": p and dataclasses.asdict(p)} for n, p in found.items()])
    elif found:
        table(("tenant", "retention"), ((name, policy or "everything is kept") for name, policy in found.items()))
    else:
        click.echo("no tenant is known yet")
