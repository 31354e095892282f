"""``cloudbaker catalog tables …``: care of the published tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from cloudbaker.cli.output import json_option, print_json, table

if TYPE_CHECKING:
    from cloudbaker.catalog.core import Catalog
    from cloudbaker.catalog.records import MaintenanceReport

_keep = click.option(
    "--keep",
    metavar="HOURS",
    type=click.IntRange(0, 24 * 365),
    default=24,
    show_default=True,
    help="How long files stay that were replaced: connections that are open read them.",
)


@click.group()
def tables() -> None:
    """Published Delta tables: status, export, compaction, removal of what was replaced, repair."""


@tables.command()
@json_option
def status(as_json: bool) -> int:
    """How far each table goes, and whether something is wrong with it."""
    from cloudbaker.model import to_json
    from cloudbaker.tasks.report import human_bytes

    with _opened(as_json, "looking") as (catalog, _):
        rows = catalog.tables()
        place = str(catalog.published)
    if as_json:
        print_json({"place": place, "tables": [to_json(row) for row in rows]})
    else:
        table(
            ("table", "rows", "not yet", "files", "size", "problem"),
            ((r.table, f"{r.rows:,}", f"{r.behind:,}", r.files, human_bytes(r.bytes), r.problem) for r in rows),
            title=place,
        )
    return 1 if any(row.problem for row in rows) else 0


@tables.command()
@json_option
def export(as_json: bool) -> None:
    """Publish what is new."""
    from cloudbaker.model import to_json

    with _opened(as_json, "publishing") as (catalog, tell):
        report = catalog.export(progress=tell)
    if as_json:
        print_json(to_json(report))
    elif report.busy:
        click.echo("another process is publishing: left to that")
    else:
        click.echo(f"{sum(report.rows.values()):,} new rows in {len(report.rows)} table(s)")


@tables.command()
@click.option("--plan", is_flag=True, help="Only say what would be done.")
@_keep
@json_option
def compact(plan: bool, keep: int, as_json: bool) -> None:
    """Publish what is new, sort each month into one file, write the snapshots, remove what was replaced."""
    with _opened(as_json, "compacting") as (catalog, tell):
        report = catalog.maintain_tables(plan=plan, retention=timedelta(hours=keep), progress=tell)
    _show(report, as_json)


@tables.command()
@click.option("--plan", is_flag=True, help="Only say what would be done.")
@_keep
@json_option
def vacuum(plan: bool, keep: int, as_json: bool) -> None:
    """Only remove files that were replaced, and old logs."""
    with _opened(as_json, "removing") as (catalog, tell):
        report = catalog.maintain_tables(plan=plan, retention=timedelta(hours=keep), compact=False, progress=tell)
    _show(report, as_json)


@tables.command()
@click.argument("names", nargs=-1, metavar="[TABLE]…")
@click.option("--all", "everything", is_flag=True, help="All tables, as those of the core that is open now.")
@json_option
def repair(names: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Put damaged tables aside, and publish them anew from the core."""
    from cloudbaker.model import to_json

    if bool(names) == everything:
        raise click.UsageError("name the tables, or say --all")
    with _opened(as_json, "publishing anew") as (catalog, _):
        report = catalog.repair_tables(names)
    if as_json:
        print_json(to_json(report))
        return
    table(("table", "rows", "what was there"), ((n, f"{c:,}", report.aside.get(n, "")) for n, c in report.rows.items()))


@contextmanager
def _opened(as_json: bool, what: str) -> Iterator[tuple[Catalog, Any]]:
    from rich.console import Console

    from cloudbaker.catalog.core import Catalog
    from cloudbaker.settings import settings

    console = Console(stderr=True, quiet=as_json)
    with Catalog.open(settings()) as catalog, console.status(what) as status:
        yield catalog, lambda name, count: status.update(f"{what}: {name} {count:,}")


def _show(report: MaintenanceReport, as_json: bool) -> None:
    from cloudbaker.model import to_json

    if as_json:
        print_json(to_json(report))
    elif report.busy:
        click.echo("another process is writing to the tables: left to the next time")
    else:
        rows = ((w.table, len(w.compacted), w.files_before, w.files_after, w.removed, w.note) for w in report.tables)
        table(("table", "months compacted", "files before", "after", "removed", ""), rows)
        for name, count in report.snapshots.items():
            click.echo(f"snapshot {name}: {count:,} rows")
        if report.plan:
            click.echo("nothing was changed")
