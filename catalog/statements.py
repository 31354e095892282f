"""Statements of the schema, compiled once and then run by the driver itself.

SQLAlchemy spends 15 to 30 µs on each statement it executes, SQLite 3 to 5: a publish of 21 statements took 1.5 ms, most
of it in Python. So what is said thousands of times a second is written as SQLAlchemy expressions of the one schema,
compiled to SQL once per dialect, and handed to the driver with its parameters. Types of columns (times, JSON) are
converted as SQLAlchemy would. All runs inside the transaction of the connection that is passed.

On Postgres what counts are round trips: in a transaction that is `pipelined` (`Core.transact`) statements are sent
without waiting for each other, only asking for rows waits, and errors may come out as late as at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql import ClauseElement

from cloudbaker.catalog.upsert import inserter
from cloudbaker.errors import UsageError

Processor = Callable[[Any], Any] | None


class Statement:
    """A statement with named parameters (`sa.bindparam`). Values that the catalog can't hold raise `UsageError`."""

    def __init__(self, statement: ClauseElement | Callable[[Callable[[sa.Table], Any]], ClauseElement]) -> None:
        """An expression; or a function that makes one of its dialect's ``insert``, for ``ON CONFLICT``."""
        self._statement = statement
        self._compiled: dict[str, _Compiled] = {}

    def run(self, connection: Connection, **parameters: Any) -> Rows:
        """Execute it."""
        compiled = self._for(connection)
        try:
            cursor = _driver(connection).execute(compiled.sql, compiled.values(parameters))
        except (ValueError, TypeError, OverflowError) as error:
            raise _cannot_hold(error) from error
        return Rows(cursor, compiled.columns)

    def many(self, connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Execute it once for each row, in one call of the driver."""
        compiled = self._for(connection)
        cursor = _driver(connection).cursor()
        try:
            cursor.executemany(compiled.sql, [compiled.values(row) for row in rows])
        except (ValueError, TypeError, OverflowError) as error:
            raise _cannot_hold(error) from error
        finally:
            cursor.close()

    def _for(self, connection: Connection) -> _Compiled:
        name = connection.dialect.name
        found = self._compiled.get(name)
        if found is None:
            statement = self._statement
            if not isinstance(statement, ClauseElement):
                statement = statement(inserter(name))
            found = self._compiled[name] = _compile(statement, _dialect(name))
        return found


class Rows:
    """What a statement gave, still at the driver's."""

    def __init__(self, cursor: Any, columns: tuple[Processor, ...] | None) -> None:
        self._cursor = cursor
        self._columns = columns

    def one_or_none(self) -> tuple[Any, ...] | None:
        """The first row. In a pipeline this waits."""
        row = self._cursor.fetchone()
        return None if row is None else self._converted(row)

    def one(self) -> tuple[Any, ...]:
        """The first row, which there has to be."""
        row = self.one_or_none()
        if row is None:
            raise LookupError("a statement that always gives a row gave none")
        return row

    def all(self) -> list[tuple[Any, ...]]:
        """Every row. In a pipeline this waits."""
        return [self._converted(row) for row in self._cursor.fetchall()]

    def _converted(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        if self._columns is None:
            return row
        return tuple(v if p is None else p(v) for v, p in zip(row, self._columns, strict=True))


def insert_many(connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that all have the same columns. None is fine."""
    if rows:
        _insert(table, tuple(rows[0])).many(connection, rows)


class _Compiled(NamedTuple):
    sql: str
    pick: Callable[[Mapping[str, Any]], Iterable[Any]]
    special: tuple[tuple[int, Callable[[Any], Any]], ...]
    constants: Mapping[str, Any]
    columns: tuple[Processor, ...] | None

    def values(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        if self.constants:
            row = {**row, **self.constants}
        values = list(self.pick(row))
        for n, process in self.special:
            values[n] = process(values[n])
        return tuple(values)


@cache
def _insert(table: sa.Table, names: tuple[str, ...]) -> Statement:
    # Inline: without it SQLAlchemy asks Postgres to return each row's key.
    return Statement(sa.insert(table).values({name: sa.bindparam(name) for name in names}).inline())


def _compile(statement: ClauseElement, dialect: Dialect) -> _Compiled:
    compiled: Any = statement.compile(dialect=dialect)
    binds = compiled.binds
    names = compiled.positiontup
    # A tuple is taken out of a row in C; what has to be converted is a time or two.
    pick = itemgetter(*names) if len(names) > 1 else lambda row: [row[name] for name in names]
    processors = [binds[name].type.dialect_impl(dialect).bind_processor(dialect) for name in names]
    special = tuple((n, process) for n, process in enumerate(processors) if process is not None)
    constants = {name: bind.value for name, bind in binds.items() if not bind.required}
    columns: tuple[Processor, ...] | None = None
    if isinstance(statement, sa.sql.Select | sa.sql.dml.UpdateBase):
        wanted = statement.selected_columns if isinstance(statement, sa.sql.Select) else statement.exported_columns
        columns = tuple(c.type.dialect_impl(dialect).result_processor(dialect, None) for c in wanted)
    return _Compiled(compiled.string, pick, special, constants, columns if columns and any(columns) else None)


@cache
def _dialect(name: str) -> Dialect:
    if name == "postgresql":
        from sqlalchemy.dialects.postgresql import psycopg

        return psycopg.dialect(paramstyle="format")  # type: ignore[no-untyped-call]
    from sqlalchemy.dialects.sqlite import pysqlite

    return pysqlite.dialect()


def _cannot_hold(error: Exception) -> UsageError:
    # A time without a zone, NaN in JSON, half a surrogate pair, an integer of more than 64 bits.
    return UsageError(f"the catalog can't hold this value: {error}", detail=repr(error))


def _driver(connection: Connection) -> Any:
    return connection.connection.dbapi_connection
