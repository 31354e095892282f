"""``INSERT … ON CONFLICT``, which SQLAlchemy has once per dialect."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Connection

if TYPE_CHECKING:
    from sqlalchemy.dialects.sqlite import Insert


def insert(connection: Connection, table: sa.Table) -> Insert:
    """An insert with ``on_conflict_do_nothing`` and ``on_conflict_do_update``, which are spelt alike on both."""
    return inserter(connection.dialect.name)(table)


def inserter(dialect: str) -> Callable[[sa.Table], Insert]:
    """The `insert` of a dialect, by its name. Each is imported when it is used: naming one costs up to 0.1 s."""
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert  # type: ignore[return-value]
    from sqlalchemy.dialects import sqlite

    return sqlite.insert
