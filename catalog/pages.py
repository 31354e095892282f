"""Pages of long answers: a cursor says where the next one begins.

A cursor holds the sort key of the last row that was shown, and the database seeks to it in an index: page 100,000 costs
what page 1 does, and rows that are added meanwhile push nothing from one page to the next. An OFFSET reads and throws
away all rows before it, and shows a row twice when another was inserted before it.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from typing import Any, TypeVar

import sqlalchemy as sa

from cloudbaker.canonical import canonical_sha256
from cloudbaker.errors import UsageError

T = TypeVar("T")

MOST = 10_000
"""Rows of one page."""


class Page(list[T]):
    """A list of rows; `next` is the cursor of the page after it, None at the end. A table in a notebook."""

    def __init__(self, rows: Iterable[T] = (), *, next: str | None = None, columns: Sequence[str] = ()) -> None:
        """`columns`: those of the table; all by default."""
        super().__init__(rows)
        self.next = next
        self._columns = columns

    def _repr_html_(self) -> str:
        return rows_html(self, self._columns) + (f"<p>more: cursor={self.next!r}</p>" if self.next else "")


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """Columns that together are unique, all ascending or all descending, and the question that they sort."""

    columns: tuple[sa.ColumnElement[Any], ...]
    descending: bool
    question: dict[str, Any]
    """Whatever decides which rows there are: a cursor of another question is refused."""

    def page(self, query: sa.Select[Any], *, limit: int, cursor: str | None) -> sa.Select[Any]:
        """`query` sorted, from `cursor` on, one row more than `limit`. Raises `UsageError`."""
        if not 1 <= limit <= MOST:
            raise UsageError(f"a page has 1 to {MOST:,} rows, not {limit}", limit=limit)
        keys = [sa.type_coerce(column, sa.BigInteger) if _is_time(column) else column for column in self.columns]
        for n, key in enumerate(keys):
            query = query.add_columns(key.label(f"_key{n}"))
        if cursor is not None:
            here = sa.tuple_(*keys)
            there = sa.tuple_(*(sa.literal(v, k.type) for v, k in zip(self._read(cursor), keys, strict=True)))
            query = query.where(here < there if self.descending else here > there)
        return query.order_by(*(key.desc() if self.descending else key.asc() for key in keys)).limit(limit + 1)

    def cut(self, rows: Sequence[Any], limit: int) -> tuple[Sequence[Any], str | None]:
        """The rows of the page, and the cursor after them if there are more."""
        if len(rows) <= limit:
            return rows, None
        last = rows[limit - 1]
        value = [self._digest, *(getattr(last, f"_key{n}") for n in range(len(self.columns)))]
        return rows[:limit], base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    @property
    def _digest(self) -> str:
        return canonical_sha256({**self.question, "descending": self.descending})[:12]

    def _read(self, cursor: str) -> list[Any]:
        kinds = [int if isinstance(column.type, sa.BigInteger) or _is_time(column) else str for column in self.columns]
        try:
            values: list[Any]
            digest, *values = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)))
            if [type(value) for value in values] != kinds:
                raise ValueError(values)
            if any(isinstance(value, int) and abs(value) >= 1 << 63 for value in values):
                raise ValueError(values)
        except (ValueError, TypeError, binascii.Error, RecursionError) as error:
            raise UsageError(f"{cursor[:80]!r} is no cursor: take it from the page before, as it is") from error
        if digest != self._digest:
            raise UsageError("this cursor is of another question: ask with the same filters and sorting as before")
        return values


def _is_time(column: sa.ColumnElement[Any]) -> bool:
    from cloudbaker.catalog.schema import UtcTime

    return isinstance(column.type, UtcTime)


def rows_html(rows: Sequence[Any], columns: Sequence[str] = ()) -> str:
    """Dataclasses as a table for a notebook. Nothing of the content becomes markup."""
    if not rows:
        return "<p>nothing</p>"
    names = columns or [field.name for field in dataclasses.fields(rows[0])]
    return table_html(names, ([getattr(row, name) for name in names] for row in rows))


def table_html(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table for a notebook. Nothing of the content becomes markup."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell(value))}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def cell(value: Any) -> str:
    """A value as text for a table."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {cell(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(cell, value))
    return str(value)
