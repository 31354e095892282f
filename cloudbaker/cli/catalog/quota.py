"""``cloudbaker catalog quota``."""

from __future__ import annotations

import click

from cloudbaker.cli.output import json_option, print_json, table
from cloudbaker.cli.units import Bytes, Count, limit


@click.command()
@click.argument("tenant", required=False)
@click.option("--bytes", "size", type=Bytes(), help="What it may store: 10GB, 500MiB; none: no limit.")
@click.option("--runs-in-flight", type=Count(), help="Runs at once; none: no limit.")
@click.option("--runs-per-day", type=Count(), help="Runs a day, from midnight UTC on; none: no limit.")
@click.option("--why", default="", help="For the audit trail.")
@json_option
def quota(
    tenant: str | None,
    size: int | str | None,
    runs_in_flight: int | str | None,
    runs_per_day: int | str | None,
    why: str,
    as_json: bool,
) -> None:
    """Show what tenants may use and do use; with options, set a tenant's limits."""
    import getpass

    from cloudbaker.catalog.core import Catalog
    from cloudbaker.catalog.quotas import KEEP
    from cloudbaker.model import to_json
    from cloudbaker.settings import settings
    from cloudbaker.tasks.report import human_bytes

    given = {"bytes": size, "runs_in_flight": runs_in_flight, "runs_per_day": runs_per_day}
    changes = {name: limit(value, KEEP) for name, value in given.items() if value is not None}
    if changes and tenant is None:
        raise click.UsageError("name the tenant whose quota is to be set")
    with Catalog.open(settings()) as opened:
        if changes and tenant is not None:
            opened.set_quota(tenant, **changes, by=getpass.getuser(), why=why)
        found = [opened.quota(tenant)] if tenant is not None else opened.quotas()
    if as_json:
        print_json([to_json(q) for q in found])
        return
    if not found:
        click.echo("no tenant is known yet")
        return

    def of(used: object, most: object) -> str:
        return f"{used} of {'any number' if most is None else most}"

    table(
        ("tenant", "used", "reserved", "of", "runs in flight", "runs today"),
        (
            (
                q.tenant,
                human_bytes(q.used_bytes),
                human_bytes(q.reserved_bytes),
                "no limit" if q.bytes is None else human_bytes(q.bytes),
                of(q.runs_in_flight_now, q.runs_in_flight),
                of(q.runs_today, q.runs_per_day),
            )
            for q in found
        ),
    )
