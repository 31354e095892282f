"""The tables of ``inspect`` and ``diff`` as text: for a terminal, as Markdown, as CSV.

A table is ``{"rows": [{column: value}], "footnotes": [text]}``, or facts (``{name: value}``) with ``footnotes``.
"""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from cloudbaker.cli.output import printable, table

FORMATS = ("table", "json", "md", "csv")
Tables = Mapping[str, Mapping[str, Any]]
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def show_tables(tables: Tables) -> None:
    """All tables that have something to show, each with its footnotes."""
    for name, columns, rows, footnotes in _drawn(tables):
        table(columns, ([_cell(value) for value in row] for row in rows), title=name)
        for note in footnotes:
            click.secho(f"  {note}", dim=True)


def markdown(tables: Tables, findings: Sequence[str] = ()) -> str:
    """The same as Markdown. What comes from content is shown as it is: it makes no markup, no HTML and no lines."""
    parts: list[str] = []
    for name, columns, rows, footnotes in _drawn(tables):
        lines = [_row(columns), "|" + "---|" * len(columns)]
        for row in rows:
            cells = ("" if value is None else str(_cell(value)).replace("\n", ", ") for value in row)
            lines.append(_row(map(_escaped, cells)))
        parts += [f"## {name}", "\n".join(lines)]
        if footnotes:
            parts.append("\n".join(f"- {note}" for note in footnotes))
    if findings:
        parts += ["## findings", "\n".join(f"- {_escaped(line)}" for line in findings)]
    return "\n\n".join(parts) + "\n" if parts else ""


def csv_text(tables: Tables, *, wide: bool) -> str:
    """CSV. `wide`: the one table with its own columns; else all of them in four, ``table, row, column, value``.

    Text that a spreadsheet would run as a formula gets an apostrophe before it: names come from strangers.
    """
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    if not wide:
        writer.writerow(["table", "row", "column", "value"])
    for name, columns, rows, _ in _drawn(tables):
        if wide:
            writer.writerow(columns)
        for number, row in enumerate(rows):
            values = [_plain(value) for value in row]
            if wide:
                writer.writerow(values)
            else:
                writer.writerows([name, number, column, value] for column, value in zip(columns, values, strict=True))
    return written.getvalue()


def _drawn(tables: Tables) -> Iterator[tuple[str, list[str], Iterable[Sequence[Any]], list[str]]]:
    """Name, columns, rows and footnotes of each table that is not empty."""
    for name, content in tables.items():
        facts = dict(content)
        footnotes, rows = facts.pop("footnotes", []), facts.pop("rows", None)
        if rows:
            yield name, list(rows[0]), [list(row.values()) for row in rows], footnotes
        elif facts and rows is None:
            yield name, ["fact", "value"], [(k, v) for k, v in facts.items() if v not in ("", [])], footnotes


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return ", ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in value)
    if isinstance(value, str) and len(value) > 24 and not any(" " in part for part in value.split(", ")):
        return value.replace(", ", "\n")  # a list of words, no sentence
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value


def _plain(value: Any) -> Any:
    """A value as programs want it: no thousands separators, lists by spaces, no formula."""
    if isinstance(value, list):
        value = " ".join(map(str, value))
    if isinstance(value, str):
        value = printable(value)
        return f"'{value}" if value.startswith(_FORMULA) else value
    return value


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escaped(text: str) -> str:
    text = html.escape(printable(text).replace("\n", " "), quote=False)
    return "".join(f"\\{c}" if c in "\\`*_[]|#!" else c for c in text)
