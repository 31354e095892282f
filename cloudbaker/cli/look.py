"""``cloudbaker inspect`` and ``cloudbaker validate``: look at a file without keeping it."""

from __future__ import annotations

from typing import Any

import click

from cloudbaker.cli.output import json_option, print_json, printable, table


@click.command()
@click.argument("path")
@click.option("--recipe", default="web", show_default=True, help="Whose limits hold.")
@click.option("--trusted", is_flag=True, help="The content is your own: look at it even where nothing can isolate it.")
@json_option
def validate(path: str, recipe: str, trusted: bool, as_json: bool) -> int:
    """Say whether a file would pass validation, and why not. Nothing is stored."""
    from cloudbaker.api import validate as run
    from cloudbaker.model import VerdictKind
    from cloudbaker.tasks.report import finding_line
    from cloudbaker.tasks.result import worst_first

    look = run(path, recipe=recipe, trusted=trusted)
    if as_json:
        print_json(look.to_json())
    else:
        click.secho(f"{look.verdict.kind.value}: {printable(path)}", bold=True)
        for finding in worst_first(look.verdict.findings):
            click.echo("  " + printable(finding_line(finding)))
    return 3 if look.verdict.kind is VerdictKind.REJECT else 0


@click.command()
@click.argument("path")
@click.option("--recipe", default="web", show_default=True, help="Whose limits hold.")
@click.option("--trusted", is_flag=True, help="The content is your own: look at it even where nothing can isolate it.")
@json_option
def inspect(path: str, recipe: str, trusted: bool, as_json: bool) -> int:
    """Show what a file holds: scenes, meshes, textures, materials, animations, extensions."""
    from cloudbaker.api import inspect as run
    from cloudbaker.model import VerdictKind
    from cloudbaker.tasks.report import finding_line
    from cloudbaker.tasks.result import worst_first

    look = run(path, recipe=recipe, trusted=trusted)
    if as_json:
        print_json(look.to_json())
        return 3 if look.verdict.kind is VerdictKind.REJECT else 0
    for name, value in look.facts.items():
        _show_table(name, value)
    for finding in worst_first(look.verdict.findings)[:20]:
        click.echo(printable(finding_line(finding)))
    return 3 if look.verdict.kind is VerdictKind.REJECT else 0


def _show_table(name: str, value: Any) -> None:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        columns = list(value[0])
        table(columns, ([_cell(row.get(c)) for c in columns] for row in value), title=name)
    elif isinstance(value, dict) and value:
        table(("", ""), ((k, _cell(v)) for k, v in value.items()), title=name)
    elif isinstance(value, list) and value:
        click.echo(f"{name}:")
        for line in value:
            click.echo(f"  {printable(str(line))}")


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
