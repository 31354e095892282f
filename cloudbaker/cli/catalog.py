"""``cloudbaker catalog …``: query what is known."""

from __future__ import annotations

import click

from cloudbaker.cli.output import json_option, print_json, table


@click.group()
def catalog() -> None:
    """Query versions, usage and anything else."""


@catalog.command()
@click.argument("query")
@click.option("--limit", default=200, show_default=True, help="Rows shown (not with --json).")
@json_option
def sql(query: str, limit: int, as_json: bool) -> None:
    """Run a DuckDB query over the catalog's views (docs/catalog.md lists them)."""
    from cloudbaker.catalog.core import Catalog
    from cloudbaker.model import to_json
    from cloudbaker.settings import settings

    with Catalog.open(settings()) as opened:
        relation = opened.sql(query)
        columns, rows = relation.columns, relation.fetchall()
    if as_json:
        print_json([dict(zip(columns, (_plain(to_json(v)) for v in row), strict=True)) for row in rows])
        return
    table(columns, rows[:limit])
    if len(rows) > limit:
        click.echo(f"{limit} of {len(rows)} rows; more with --limit")


def _plain(value: object) -> object:
    return value if isinstance(value, (str, int, float, bool, list, dict, type(None))) else str(value)


@catalog.command()
@click.argument("asset")
@click.option("--tenant", default="local", show_default=True)
@click.option("--limit", default=50, show_default=True)
@json_option
def versions(asset: str, tenant: str, limit: int, as_json: bool) -> None:
    """All versions of an asset, newest first."""
    from cloudbaker.catalog.core import Catalog
    from cloudbaker.model import AssetRef, to_json
    from cloudbaker.settings import settings
    from cloudbaker.tasks.report import human_bytes

    with Catalog.open(settings()) as opened:
        found = opened.versions(AssetRef.parse(asset, tenant=tenant), limit=limit)
    if as_json:
        print_json([to_json(v) for v in found])
        return
    table(
        ("version", "channels", "recipe", "size", "created", "by", "note", "bake key"),
        (
            (
                v.number,
                ", ".join(v.channels),
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


@catalog.command()
@click.option("--tenant", help="Only this tenant.")
@json_option
def usage(tenant: str | None, as_json: bool) -> None:
    """Bytes, versions, runs and compute seconds per tenant."""
    from cloudbaker.catalog.core import Catalog
    from cloudbaker.model import to_json
    from cloudbaker.settings import settings

    with Catalog.open(settings()) as opened:
        rows = [to_json(row) for row in opened.usage(tenant)]
    if as_json:
        print_json(rows)
    elif rows:
        table(list(rows[0]), (row.values() for row in rows))
    else:
        click.echo("nothing stored yet")


@catalog.command()
@click.argument("asset")
@click.argument("number", type=int)
@click.option("--tenant", default="local", show_default=True)
@click.option("--channel", default="live", show_default=True)
@click.option("--why", default="", help="For the audit trail.")
def rollback(asset: str, number: int, tenant: str, channel: str, why: str) -> None:
    """Point a channel at an earlier version. History stays."""
    import getpass

    from cloudbaker.catalog.core import Catalog
    from cloudbaker.model import AssetRef
    from cloudbaker.settings import settings

    with Catalog.open(settings()) as opened:
        ref = AssetRef.parse(asset, tenant=tenant)
        opened.move_channel(ref, channel, number, by=getpass.getuser(), why=why)
    click.echo(f"{channel} of {ref} is now version {number}")


@catalog.command()
@click.argument("asset")
@click.argument("target", type=click.Path(), metavar="FOLDER|FILE.zip")
@click.option("--version", "number", default="live", show_default=True, help="A number or a channel.")
@click.option("--tenant", default="local", show_default=True)
def export(asset: str, target: str, number: str, tenant: str) -> None:
    """Write a version's bundle, with its signature, into a folder or a .zip."""
    from pathlib import Path

    from cloudbaker.catalog.core import Catalog
    from cloudbaker.model import AssetRef
    from cloudbaker.settings import settings
    from cloudbaker.tasks.export import export_version

    with Catalog.open(settings()) as opened:
        ref = AssetRef.parse(asset, tenant=tenant)
        version = opened.get_version(ref, int(number) if number.isdigit() else number)
        for path in export_version(opened, version, Path(target)):
            click.echo(path)


@catalog.command()
@click.option("--plan", is_flag=True, help="Only say what would be removed.")
@json_option
def sweep(plan: bool, as_json: bool) -> None:
    """Remove what interrupted bakes left behind: temporary files, expired uploads, objects that nothing knows."""
    from cloudbaker.catalog.core import Catalog
    from cloudbaker.model import to_json
    from cloudbaker.settings import settings

    with Catalog.open(settings()) as opened:
        report = opened.sweep(plan=plan)
    if as_json:
        print_json(to_json(report))
        return
    table(("what", "key", "bytes", "since"), ((i.kind, i.key, i.size, i.since) for i in report.items))
    click.echo(f"{'would free' if plan else 'freed'} {report.bytes:,} bytes; {len(report.missing)} object(s) missing")


@catalog.command()
@click.option("--release", metavar="ASSET", help="Take an asset out, so that the next re-bake tries it again.")
@click.option("--tenant", default="local", show_default=True)
@json_option
def quarantine(release: str | None, tenant: str, as_json: bool) -> None:
    """Assets whose bake failed for good, with the evidence."""
    from cloudbaker.catalog.core import Catalog
    from cloudbaker.model import AssetRef, to_json
    from cloudbaker.settings import settings

    with Catalog.open(settings()) as opened:
        if release:
            count = opened.release(AssetRef.parse(release, tenant=tenant))
            click.echo(f"{count} entries released")
            return
        rows = [to_json(q) for q in opened.quarantined()]
    if as_json:
        print_json(rows)
    elif rows:
        columns = ("asset", "attempts", "since", "error")
        table(columns, ((r["asset"], r["attempts"], r["at"], str(r["error"])[:200]) for r in rows))
    else:
        click.echo("quarantine is empty")
