"""``cloudbaker inspect``, ``diff`` and ``validate``: look at files without keeping them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from cloudbaker.cli.output import json_option, print_json, printable
from cloudbaker.cli.tables import FORMATS, csv_text, markdown, show_tables
from cloudbaker.errors import UsageError

if TYPE_CHECKING:
    from cloudbaker.tasks.look import Look


@click.command()
@click.argument("path")
@click.option("--recipe", default="web", show_default=True, help="Whose limits hold.")
@click.option("--trusted", is_flag=True, help="The content is your own: look at it even where nothing can isolate it.")
@json_option
def validate(path: str, recipe: str, trusted: bool, as_json: bool) -> int:
    """Say whether a file would pass validation, and why not. Nothing is stored."""
    from cloudbaker.api import validate as run
    from cloudbaker.model import VerdictKind
    from cloudbaker.tasks.report import finding_lines

    look = run(path, recipe=recipe, trusted=trusted)
    if as_json:
        print_json(look.to_json())
    else:
        click.secho(f"{look.verdict.kind.value}: {printable(path)}", bold=True)
        for line in finding_lines(look.verdict.findings, most=100):
            click.echo("  " + printable(line))
    return 3 if look.verdict.kind is VerdictKind.REJECT else 0


_shown = (
    click.option(
        "--format",
        "form",
        type=click.Choice(FORMATS),
        default="table",
        show_default=True,
        help="For people, for programs (as --json), for a page, for a spreadsheet.",
    ),
    click.option("--table", "only", metavar="NAME", help="Only this table, such as meshes."),
    click.option("--recipe", default="web", show_default=True, help="Whose limits hold."),
    click.option("--trusted", is_flag=True, help="The content is your own: look even where nothing can isolate it."),
    json_option,
)


def _showing(command: Callable[..., int]) -> Callable[..., int]:
    """The options that `inspect` and `diff` share."""
    for option in reversed(_shown):
        command = option(command)
    return command


@click.command()
@click.argument("path")
@_showing
def inspect(path: str, form: str, only: str | None, recipe: str, trusted: bool, as_json: bool) -> int:
    """Show what a file holds: scenes, meshes, textures, materials, animations, extensions."""
    from cloudbaker.api import inspect as run

    return _show(run(path, recipe=recipe, trusted=trusted), "json" if as_json else form, only)


@click.command()
@click.argument("before")
@click.argument("after")
@_showing
def diff(before: str, after: str, form: str, only: str | None, recipe: str, trusted: bool, as_json: bool) -> int:
    """Show what changed from one model to another: sizes, counts, geometry, names, and whatever was lost."""
    from cloudbaker.api import diff as run

    return _show(run(before, after, recipe=recipe, trusted=trusted), "json" if as_json else form, only)


def _show(look: Look, form: str, only: str | None) -> int:
    from cloudbaker.model import VerdictKind
    from cloudbaker.tasks.report import finding_lines

    tables = look.facts
    if only is not None and tables:
        if only not in tables:
            raise UsageError(f"there is no table {only!r}; there are: {', '.join(tables)}")
        tables = {only: tables[only]}
    lines = finding_lines(look.verdict.findings, most=100)
    match form:
        case "json":
            print_json({**look.to_json(), "facts": tables})
        case "md":
            click.echo(markdown(tables, lines), nl=False)
        case "csv":
            click.echo(csv_text(tables, wide=only is not None), nl=False)
        case _:
            show_tables(tables)
            for line in lines:
                click.echo(printable(line))
    if form == "csv":  # whose reader shall not find lines of prose among the rows
        for line in lines:
            click.echo(printable(line), err=True)
    return 3 if look.verdict.kind is VerdictKind.REJECT else 0
