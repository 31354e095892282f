"""What commands with long answers have in common: a page at a time, and where the next begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from cloudbaker.catalog.pages import Page

F = TypeVar("F", bound=Callable[..., Any])


def page_options(limit: int) -> Callable[[F], F]:
    """``--limit`` and ``--cursor``."""

    def decorate(command: F) -> F:
        command = click.option("--cursor", help="Where the page before ended: prints the next one.")(command)
        return click.option("--limit", default=limit, show_default=True, help="Rows of a page.")(command)

    return decorate


def print_page(page: Page[Any]) -> None:
    """A page as JSON: ``items``, and ``next``, the cursor of the page after it (null at the end)."""
    from cloudbaker.cli.output import print_json
    from cloudbaker.model import to_json

    print_json({"items": [to_json(row) for row in page], "next": page.next})


def say_more(page: Page[Any], what: str) -> None:
    """Under a table: that there is more, or that there is nothing."""
    if page.next:
        click.echo(f"more with --cursor {page.next}")
    elif not page:
        click.echo(f"no {what}")


def which(text: str) -> int | str:
    """A version as it is written: a number or a channel."""
    return int(text) if text.isascii() and text.isdigit() else text


def asset_at(text: str, default: str) -> tuple[str, int | str]:
    """``ASSET``, ``ASSET@NUMBER`` or ``ASSET@CHANNEL``: the asset, and which version."""
    name, _, version = text.partition("@")
    return name, which(version or default)
