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
    from cloudbaker.tasks.report import finding_lines

    look = run(path, recipe=recipe, trusted=trusted)
    if as_json:
        print_json(look.to_json())
    else:
        click.secho(f"{look.verdict.kind.value}: {printable(path)}", bold=True)
        for line in finding_lines(look.verdict.findings, most=100):
            click.echo("  " + printable(line))
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
    from cloudbaker.tasks.report import finding_lines

    look = run(path, recipe=recipe, trusted=trusted)
    if as_json:
        print_json(look.to_json())
        return 3 if look.verdict.kind is VerdictKind.REJECT else 0
    for name, value in look.facts.items():
        _show_table(name, value)
    for line in finding_lines(look.verdict.findings):
        click.echo(printable(line))
    return 3 if look.verdict.kind is VerdictKind.REJECT else 0


def _show_table(name: str, content: dict[str, Any]) -> None:
    """One table of `inspect_job`: rows with footnotes, or plain facts with footnotes."""
    facts = dict(content)
    footnotes, rows = facts.pop("footnotes", []), facts.pop("rows", None)
    if rows:
        table(list(rows[0]), ([_cell(value) for value in row.values()] for row in rows), title=name)
    elif facts:
        table(("", ""), ((key, _cell(value)) for key, value in facts.items() if value not in ("", [])), title=name)
    else:
        return
    for note in footnotes:
        click.secho(f"  {note}", dim=True)


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return ", ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in value)
    if isinstance(value, str) and len(value) > 24:
        return value.replace(", ", "\n")
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
