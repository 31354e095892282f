"""Reading facts in an order in which nothing can appear behind one's back: what the exporter and the events go by.

A reader remembers a *watermark*: every row at a position up to it is handled. The *position* of a row is its `seq` on
SQLite, where one transaction writes at a time and `seq` therefore grows in commit order. On Postgres it does not: a
transaction that drew a low `seq` may commit after one with a higher one, and a reader that went by ``seq > last`` lost
103 of 5,812 rows (measured). There the position is `xid`, the transaction that wrote the row, and a reader takes only
those below the oldest transaction that still runs, so that none of them is yet to come:
``xid < pg_snapshot_xmin(pg_current_snapshot())`` lost none.

Rows of a batch are ordered by `seq`. Whoever writes facts of an asset or a tenant holds that row locked while `seq` is
drawn, so that within it this is the order of commits. Between batches it is `xid`'s, and so an asset's writers line up
before they draw one (`turns.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloudbaker.catalog.engine import Core


def position(core: Core, table: sa.Table) -> sa.Column[Any]:
    """The column by which readers of this table remember how far they came."""
    return table.c.xid if core.engine.dialect.name == "postgresql" else table.c.seq


def horizon(core: Core, connection: Connection, table: sa.Table) -> int:
    """The highest position that can be taken now: no row will ever appear at or below it that is not there yet.

    0 for an empty table on SQLite. On Postgres, where positions are transactions, it grows without rows.
    """
    if core.engine.dialect.name == "postgresql":
        xmin = connection.execute(sa.text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")).scalar_one()
        return int(xmin) - 1
    return int(connection.execute(sa.select(sa.func.max(table.c.seq))).scalar() or 0)


def span(core: Core, connection: Connection, table: sa.Table, after: int, limit: int) -> int:
    """Up to which position the next rows go that one batch may hold, about `limit` of them; `after` if there are none.

    All rows of one transaction belong to one batch.
    """
    highest = horizon(core, connection, table)
    if highest <= after:
        return after
    at = position(core, table)
    # Where to cut: at the position of the limit-th row; later rows of that transaction come along.
    query = sa.select(at).where(at > after, at <= highest).order_by(at).offset(limit - 1).limit(1)
    last = connection.execute(query).scalar()
    return highest if last is None else int(last)


def tail(
    core: Core, connection: Connection, table: sa.Table, after: int, limit: int, *, columns: Sequence[str] | None = None
) -> tuple[Sequence[sa.Row[Any]], int]:
    """The next rows behind a watermark, ordered by `seq`, and the watermark that holds once they are handled.

    About `limit` rows (at least 1): all of one transaction belong to one batch, so that it may have some more. Without
    rows the watermark may be higher than `after` all the same. `columns`: names of those wanted; all by default.
    """
    at = position(core, table)
    wanted = [table.c[name] for name in columns] if columns is not None else [table]
    upto = span(core, connection, table, after, limit)
    if upto <= after:
        return [], after
    rows = connection.execute(sa.select(*wanted).where(at > after, at <= upto).order_by(table.c.seq)).all()
    return rows, upto
