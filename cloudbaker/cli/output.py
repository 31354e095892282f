"""How the command line prints: tables and progress for people, JSON for programs, errors with their remedy."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from cloudbaker.errors import CloudBakerError

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, as documented in docs/cli.md.")


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def wants_json() -> bool:
    """Whether the current command was called with ``--json``."""
    return "--json" in sys.argv


def show_error(error: CloudBakerError) -> None:
    """An error with its code, remedy and page; as JSON on standard output if JSON was asked for.

    Its private detail goes to the log alone (``CLOUDBAKER_LOG_LEVEL=debug`` shows it on standard error).
    """
    if error.detail:
        from cloudbaker import logs

        logs.configure()
        logs.get_logger(__name__).debug("error detail", code=error.code, detail=error.detail)
    if wants_json():
        print_json({"error": error.to_json()})
        return
    click.secho(f"error {error.code}: ", fg="red", bold=True, err=True, nl=False)
    click.echo(f"{error.message}\n  more: {error.page}", err=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """A table for people. Text from content is printed as it is, never as markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text("" if cell is None else printable(str(cell))) for cell in row))
    # A pipe has no width of its own, and Rich would take 80 columns.
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(drawn)


def printable(text: str) -> str:
    """`text` without control characters: names come from strangers, and terminals obey escape sequences."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)
