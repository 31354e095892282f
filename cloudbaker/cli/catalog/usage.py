"""``cloudbaker catalog usage``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from cloudbaker.cli.output import json_option, print_json, table
from cloudbaker.cli.units import Moment

if TYPE_CHECKING:
    from cloudbaker.catalog.core import Catalog


@click.command()
@click.option("--tenant", help="Only this tenant.")
@click.option(
    "--by",
    multiple=True,
    type=click.Choice(["tenant", "project", "subject", "day"]),
    help="Over time, grouped by this (a subject is a zone, a device or a direction). More than once: by all of them.",
)
@click.option("--since", type=Moment(), help="2026-11-01, or 30d: as long ago.  [default: ever]")
@click.option("--until", type=Moment(), help="[default: now]")
@click.option("--cost", "priced", is_flag=True, help="With what it costs, by the price table.")
@json_option
def usage(
    tenant: str | None,
    by: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    priced: bool,
    as_json: bool,
) -> None:
    """What each tenant uses: now, or with any of the other options over time."""
    from cloudbaker.catalog.core import Catalog
    from cloudbaker.model import to_json
    from cloudbaker.settings import settings

    with Catalog.open(settings()) as opened:
        if by or since or until or priced:
            asked = {"tenant": tenant, "by": by or ("tenant", "subject"), "since": since, "until": until}
            (_bill if priced else _over_time)(opened, asked, as_json)
            return
        rows = [to_json(row) for row in opened.usage(tenant)]
    if as_json:
        print_json(rows)
    elif rows:
        _now(rows)
    else:
        click.echo("nothing stored yet")


def _now(rows: list[dict[str, Any]]) -> None:
    from cloudbaker.tasks.report import human_bytes

    table(
        ("tenant", "assets", "versions", "runs", "stored", "reserved", "saved by dedup", "compute", "quota"),
        (
            (
                row["tenant"],
                row["assets"],
                row["versions"],
                row["runs"],
                ", ".join(f"{zone} {human_bytes(size)}" for zone, size in row["bytes_by_zone"].items()),
                human_bytes(row["reserved_bytes"]),
                human_bytes(row["saved_bytes"]),
                ", ".join(f"{device} {seconds:,.1f} s" for device, seconds in row["compute_seconds"].items()),
                "none" if row["quota_bytes"] is None else human_bytes(row["quota_bytes"]),
            )
            for row in rows
        ),
    )


def _over_time(opened: Catalog, asked: dict[str, Any], as_json: bool) -> None:
    found = opened.metered(**asked)
    if as_json:
        print_json([row.to_json() for row in found])
        return
    keys = _keys(asked["by"])
    table(
        (*keys, "kind", "amount", "unit", "stored at the end"),
        (
            (
                *(getattr(row, key) for key in keys),
                row.kind,
                f"{row.amount:.6f}".rstrip("0").rstrip("."),
                row.unit,
                "" if row.stored_bytes is None else f"{row.stored_bytes:,}",
            )
            for row in found
        ),
    )


def _bill(opened: Catalog, asked: dict[str, Any], as_json: bool) -> None:
    bill = opened.cost(**asked)
    if as_json:
        print_json(bill.to_json())
        return
    keys = _keys((*asked["by"], "subject"))
    table(
        (*keys, "kind", "amount", "unit", "price", bill.currency),
        (
            (
                *(getattr(item, key) for key in keys),
                item.kind,
                f"{item.amount:.6f}".rstrip("0").rstrip("."),
                item.unit,
                f"{item.price:f}",
                f"{item.cost:f}",
            )
            for item in bill.items
        ),
    )
    click.echo(f"total {bill.total:f} {bill.currency}")


def _keys(by: Sequence[str]) -> list[str]:
    return [key for key in ("day", "tenant", "project", "subject") if key in by]
