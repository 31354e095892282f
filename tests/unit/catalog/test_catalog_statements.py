"""Compiled statements say the same as SQLAlchemy would, on both databases, and refuse the same values."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.journal import audit, many
from cloudbaker.catalog.statements import Statement
from cloudbaker.errors import Conflict, UsageError
from cloudbaker.settings import Settings

MOMENT = datetime(2026, 2, 3, 4, 5, 6, 789012, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgres"])
def catalog(request: pytest.FixtureRequest, home: Path) -> Iterator[Catalog]:
    url = request.getfixturevalue("postgres") if request.param == "postgres" else ""
    with Catalog.open(Settings(home=home, catalog_url=url)) as opened:
        yield opened


def row(**more: object) -> dict[str, object]:
    common = {"created_at": MOMENT, "tenant": "t", "asset": "t/p/a", "run_id": None, "kind": "k", "payload": {"a": [1]}}
    return {**common, **more}


def test_rows_are_as_sqlalchemy_writes_and_reads_them(catalog):
    values = row(payload={"text": "ü – 😀", "n": 2**60, "x": 1.5, "none": None})
    with catalog.core.write() as connection:
        many(connection, s.outbox, [values])
        connection.execute(sa.insert(s.outbox), values)
        first, second = connection.execute(sa.select(s.outbox).order_by(s.outbox.c.seq)).all()
        assert first[1:-1] == second[1:-1] == tuple(values[c.name] for c in list(s.outbox.c)[1:-1])
        statement = Statement(
            sa.select(s.outbox.c.created_at, s.outbox.c.payload)
            .where(s.outbox.c.kind == sa.bindparam("kind"))
            .order_by(s.outbox.c.seq)
        )
        assert statement.run(connection, kind="k").all() == [(MOMENT, values["payload"])] * 2
        assert statement.run(connection, kind="k").one() == (MOMENT, values["payload"])
        assert statement.run(connection, kind="other").one_or_none() is None
        with pytest.raises(LookupError):
            statement.run(connection, kind="other").one()


def test_no_rows_are_no_insert(catalog):
    with catalog.core.write() as connection:
        many(connection, s.outbox, [])
        assert connection.execute(sa.select(sa.func.count()).select_from(s.outbox)).scalar() == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"created_at": datetime(2026, 1, 1)},
        {"payload": {"x": float("nan")}},
        {"payload": {"x": {1, 2}}},
        {"kind": "half a pair \ud83d"},
    ],
    ids=["time without a zone", "not a number", "no JSON", "no Unicode"],
)
def test_what_the_catalog_can_not_hold(catalog, wrong):
    with pytest.raises(UsageError, match="can't hold this value"), catalog.core.write() as connection:
        many(connection, s.outbox, [row(), row(**wrong)])
    with catalog.core.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(s.outbox)).scalar() == 0


def test_numbers_beyond_64_bits(catalog):
    with pytest.raises(UsageError, match="can't hold this value"), catalog.core.write() as connection:
        many(connection, s.tenants, [{"created_at": MOMENT, "tenant": "t", "quota_bytes": 2**63}])


def test_constants_of_a_statement_are_its_own(catalog):
    insert = Statement(
        lambda insert: (
            insert(s.audit_chains)
            .values(chain=sa.bindparam("chain"), position=7, hash="x")
            .on_conflict_do_update(index_elements=["chain"], set_={"position": s.audit_chains.c.position + 10})
        )
    )
    with catalog.core.write() as connection:
        for _ in range(3):
            insert.run(connection, chain="a")
        assert connection.execute(sa.select(s.audit_chains)).all() == [("a", 27, "x")]


def test_a_pipeline_gives_the_same_and_its_errors_undo_everything(catalog):
    count = Statement(sa.select(sa.func.count()).select_from(s.outbox))

    def good(connection: sa.Connection) -> tuple[object, ...]:
        many(connection, s.outbox, [row(), row()])
        found = count.run(connection).one()
        audit(connection, MOMENT, who="x", action="y", subject="z", tenant="t")
        return found

    def twice(connection: sa.Connection) -> None:
        many(connection, s.outbox, [row()])
        many(connection, s.projects, [{"created_at": MOMENT, "tenant": "t", "project": "p"}] * 2)

    assert catalog.core.transact(good, pipelined=True) == (2,)
    with pytest.raises(Conflict):
        catalog.core.transact(twice, pipelined=True)
    with pytest.raises(ZeroDivisionError):
        catalog.core.transact(lambda connection: [good(connection), 1 / 0], pipelined=True)
    with catalog.core.read() as connection:
        assert count.run(connection).one() == (2,)
