"""The audit log: what it answers, what every decision leaves in it, and every way to tamper with it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.audit import Head
from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.journal import audit_hash
from cloudbaker.catalog.records import Retention
from cloudbaker.catalog.sinks import register
from cloudbaker.errors import UsageError
from cloudbaker.model import AssetRef
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import publish

HELMET, ARM = AssetRef("acme", "robots", "helmet"), AssetRef("zeta", "robots", "arm")
a = s.audit.c


@pytest.fixture(params=["sqlite", "postgres"])
def both(request: pytest.FixtureRequest, home: Path, clock) -> Iterator[Catalog]:
    """A catalog on either database, with six rows of acme, three of zeta and one of nobody's."""
    url = request.getfixturevalue("postgres") if request.param == "postgres" else ""
    with Catalog.open(Settings(home=home, catalog_url=url), clock=clock) as opened:
        _fill(opened, clock)
        yield opened


@pytest.fixture
def filled(home: Path, clock) -> Iterator[Catalog]:
    """The same on SQLite: hashing is the same code on both."""
    with Catalog.open(Settings(home=home), clock=clock) as opened:
        _fill(opened, clock)
        yield opened


def _fill(opened: Catalog, clock) -> None:
    publish(opened, HELMET, b"1")
    publish(opened, HELMET, b"2")
    opened.tag(HELMET, ["hero"], "ada", "for the fair")
    publish(opened, ARM, b"3")
    opened.untag(HELMET, ["hero"], "bob")
    opened.tag(ARM, ["hero"], "bob", "ünïcode “why” \x07")
    opened.announce(HELMET, "review.updated", {})
    register(opened.core, "somebody", clock())
    opened.replay("somebody", by="ada", why="again", since=clock() - timedelta(days=1))


def tamper(catalog: Catalog, *statements: Any) -> None:
    with catalog.core.write() as connection:
        for statement in statements:
            connection.execute(statement)


def damage(catalog: Catalog, **options: Any) -> list[tuple[str, int, str]]:
    report = catalog.verify_audit(**options)
    assert report.ok is (not report.damage)
    assert len({d.chain for d in report.damage}) == len(report.damage), "one per chain: the first"
    return [(d.chain, d.position, d.kind) for d in report.damage]


def at(position: int, chain: str = "acme") -> tuple[Any, Any]:
    return (a.chain == chain, a.position == position)


def rehash(catalog: Catalog, chain: str) -> None:
    """What somebody who knows the code does after tampering: compute all hashes anew, and the head."""
    with catalog.core.write() as connection:
        digest, position = "", 0
        for row in connection.execute(sa.select(s.audit).where(a.chain == chain).order_by(a.position)).all():
            position += 1
            digest = audit_hash({**row._mapping, "position": position}, digest)
            changed = sa.update(s.audit).where(a.seq == row.seq)
            connection.execute(changed.values(position=position, hash=digest))
        c = s.audit_chains.c
        connection.execute(sa.update(s.audit_chains).where(c.chain == chain).values(position=position, hash=digest))


def test_an_untouched_log_is_whole(both):
    report = both.verify_audit(anchors=both.audit_heads())
    assert (report.ok, report.rows, report.unchained, report.published) == (True, 10, 0, 0)
    assert [(h.chain, h.position) for h in report.heads] == [("", 1), ("acme", 6), ("zeta", 3)]
    both.export()
    assert both.verify_audit().published == 10
    publish(both, HELMET, b"more")
    report = both.verify_audit()
    assert (report.ok, report.rows, report.published) == (True, 12, 10)
    assert "whole" in report._repr_html_()
    assert report.to_json()["ok"] is True


@pytest.mark.parametrize(
    "values",
    [
        {"why": "for fun"},
        {"who": "eve"},
        {"subject": "acme/robots/other"},
        {"created_at": datetime(2020, 1, 1, tzinfo=UTC)},
        {"detail": {"tags": ["other"]}},
        {"detail": None},
        {"run_id": "x"},
        {"tenant": "zeta"},
        {"tenant": None},
        {"hash": "0" * 64},
    ],
    ids=lambda values: next(iter(values)),
)
def test_a_changed_row_is_found(filled, values):
    tamper(filled, sa.update(s.audit).where(*at(5)).values(**values))
    assert damage(filled) == [("acme", 5, "changed")]
    assert "position 5" in filled.verify_audit().damage[0].message


def test_a_removed_row_is_found(filled):
    tamper(filled, sa.delete(s.audit).where(*at(3)))
    assert damage(filled) == [("acme", 3, "removed")]


def test_removed_rows_are_found_though_the_others_close_up(filled):
    tamper(
        filled,
        sa.delete(s.audit).where(*at(3)),
        *(sa.update(s.audit).where(*at(n)).values(position=n - 1) for n in (4, 5, 6)),
    )
    assert damage(filled) == [("acme", 3, "changed")]


def test_an_inserted_row_is_found(filled):
    forged = {"tenant": "acme", "who": "eve", "action": "publish", "subject": str(HELMET), "why": "", "run_id": None}
    row = {**forged, "detail": None, "chain": "acme", "position": 7, "created_at": datetime.now(UTC)}
    tamper(filled, sa.insert(s.audit).values(**row, hash=audit_hash(row, _hash(filled, 6))))
    assert damage(filled) == [("acme", 7, "inserted")]  # its hash is right; the head knows nothing of it


def test_a_row_in_no_chain_is_found(filled):
    forged = {"tenant": "acme", "who": "eve", "action": "publish", "subject": str(HELMET), "why": ""}
    tamper(filled, sa.insert(s.audit).values(**forged, created_at=datetime.now(UTC)))
    assert damage(filled) == [("acme", 0, "inserted")]


def test_two_rows_that_changed_places_are_found(filled):
    tamper(
        filled,
        sa.update(s.audit).where(*at(2)).values(position=99),
        sa.update(s.audit).where(*at(3)).values(position=2),
        sa.update(s.audit).where(*at(99)).values(position=3),
    )
    assert damage(filled) == [("acme", 2, "changed")]


def test_a_cut_end_is_found_by_the_head(filled):
    tamper(filled, sa.delete(s.audit).where(a.chain == "acme", a.position > 4))
    assert damage(filled) == [("acme", 5, "truncated")]
    tamper(filled, sa.delete(s.audit).where(a.chain == "zeta"))
    assert damage(filled) == [("acme", 5, "truncated"), ("zeta", 1, "truncated")]


def test_a_head_that_was_moved_is_found(filled):
    c = s.audit_chains.c
    tamper(filled, sa.update(s.audit_chains).where(c.chain == "acme").values(hash="0" * 64))
    tamper(filled, sa.delete(s.audit_chains).where(c.chain == "zeta"))
    assert damage(filled) == [("acme", 6, "head"), ("zeta", 1, "inserted")]


def test_a_cut_end_with_its_head_is_found_by_a_head_that_was_kept(both):
    kept = both.audit_heads()
    tamper(both, sa.delete(s.audit).where(a.chain == "acme", a.position > 4))
    rehash(both, "acme")
    assert damage(both) == []  # nothing inside the catalog can show it: docs/audit.md says so
    assert damage(both, anchors=kept) == [("acme", 6, "anchor")]
    tamper(
        both,
        sa.delete(s.audit).where(a.chain == "zeta"),
        sa.delete(s.audit_chains).where(s.audit_chains.c.chain == "zeta"),
    )
    assert damage(both, anchors=kept) == [("acme", 6, "anchor"), ("zeta", 3, "anchor")]


def test_a_log_that_was_written_anew_is_found_by_a_head_that_was_kept(filled):
    kept = [Head.parse(str(head)) for head in filled.audit_heads()]
    tamper(filled, sa.update(s.audit).where(*at(2)).values(who="eve"))
    rehash(filled, "acme")
    assert damage(filled) == []
    assert damage(filled, anchors=kept) == [("acme", 6, "anchor")]


def test_the_published_table_shows_both(both):
    both.export()
    tamper(both, sa.update(s.audit).where(*at(2)).values(who="eve"))
    rehash(both, "acme")
    assert damage(both) == [("acme", 2, "published")]
    assert damage(both, published=False) == []
    tamper(both, sa.delete(s.audit).where(a.chain == "zeta", a.position == 3))
    rehash(both, "zeta")
    found = both.verify_audit()
    assert [(d.chain, d.position, d.kind) for d in found.damage] == [("acme", 2, "published"), ("zeta", 3, "published")]
    assert "gone from the core" in found.damage[1].message


def test_rows_older_than_the_chains_are_told_and_compared(both):
    """Rows of revision 0001 have no hash: what protects them is the table they are published in."""
    tamper(
        both,
        sa.update(s.audit).where(a.chain == "zeta").values(chain=None, position=None, hash=None),
        sa.delete(s.audit_chains).where(s.audit_chains.c.chain == "zeta"),
        sa.update(s.audit).where(a.chain == "").values(seq=1000),
        sa.update(s.audit).where(a.chain == "acme").values(seq=a.seq + 100),
    )
    both.export()
    report = both.verify_audit()
    assert (report.ok, report.rows, report.unchained, report.published) == (True, 7, 3, 10)
    tamper(both, sa.update(s.audit).where(a.chain.is_(None), a.action == "tag").values(why="other"))
    assert [(d.chain, d.position, d.kind) for d in both.verify_audit().damage] == [("zeta", 0, "published")]


@pytest.mark.parametrize(
    "text", ["", "acme", "acme:1", "acme:x:" + "0" * 64, "acme:1:" + "0" * 63, "Acme:1:" + "0" * 64]
)
def test_heads_that_are_none(text):
    with pytest.raises(UsageError, match="no head"):
        Head.parse(text)


def test_questions(both, clock):
    trail = both.audit(tenant="acme")
    assert [row.position for row in trail] == [6, 5, 4, 3, 2, 1]
    assert {row.tenant for row in trail} == {"acme"}
    assert [(row.who, row.action) for row in both.audit(who="bob")] == [("bob", "tag"), ("bob", "untag")]
    assert [row.subject for row in both.audit(action="replay-events")] == ["somebody"]
    subjects = {row.subject for row in both.audit(subject=str(HELMET))}
    assert subjects == {f"{HELMET}@1", f"{HELMET}@2", f"{HELMET}:live", str(HELMET)}
    assert both.audit(subject="acme/robots/helm") == []
    assert both.audit(subject="acme/robots/%") == []
    assert both.audit(since=clock()) == []
    assert len(both.audit(until=clock())) == 10
    page = both.audit(limit=4)
    publish(both, HELMET, b"new")
    rest = both.audit(limit=100, cursor=page.next)
    assert [row.seq for row in page + rest] == sorted((row.seq for row in page + rest), reverse=True)
    assert len(page + rest) == 10


def _hash(catalog: Catalog, position: int) -> str:
    with catalog.core.read() as connection:
        return connection.execute(sa.select(a.hash).where(*at(position))).scalar_one()


# ---- every decision leaves a row

WHY = "because of the test"

DECISIONS: dict[str, Callable[[Catalog], object]] = {
    "publish": lambda c: publish(c, HELMET, b"decided"),
    "move_channel": lambda c: c.move_channel(HELMET, "live", 1, "ada", WHY),
    "tag": lambda c: c.tag(HELMET, ["one"], "ada", WHY),
    "untag": lambda c: c.untag(HELMET, ["one"], "ada", WHY),
    "quarantine": lambda c: c.quarantine(HELMET, "k", run_id="r", attempts=3, error={}),
    "release": lambda c: c.release(HELMET, by="ada", why=WHY),
    "set_quota": lambda c: c.set_quota("acme", bytes=1 << 30, by="ada", why=WHY),
    "set_retention": lambda c: c.set_retention("acme", Retention(keep_last=3), by="ada", why=WHY),
    "place_hold": lambda c: c.place_hold(HELMET, 2, by="ada", why=WHY),
    "release_hold": lambda c: c.release_hold(HELMET, 2, by="ada", why=WHY),
    "delete_version": lambda c: c.delete_version(HELMET, 2, by="ada", why=WHY),
    "replay": lambda c: (tamper(c, sa.delete(s.deliveries)), c.replay("somebody", by="ada", why=WHY, seqs=[1])),
}
"""What people decide, in an order in which each has something to do."""

RECORDS = {
    # Facts of their own, with who and when in their own rows, or work of the machine that decides nothing.
    *("start_run", "record_step", "finish_run", "record_attempt", "clear_attempts", "record_transfer", "announce"),
    *("upload", "put_bytes", "put_file", "publisher", "export", "maintain_tables", "repair_tables"),
    *("gc", "rotate_store_keys"),  # leave a row for each thing that they touch: see their own tests
}
READS = {
    *("open", "close", "open_blob", "blob_path", "read_blob", "get_run", "find_version", "get_version", "versions"),
    *("assets", "search", "projects", "show", "diff", "tags", "depends_on", "dependents", "latest_versions"),
    *("channels", "channel_moves", "audit", "audit_heads", "verify_audit", "events", "sinks", "deliveries", "attempts"),
    *(
        "quarantined",
        "sql",
        "connect",
        "tables",
        "tables_due",
        "usage",
        "metered",
        "cost",
        "quota",
        "quotas",
        "retention",
        "holds",
    ),
}


def test_every_method_is_known_to_this_test():
    public = {
        name for name, value in vars(Catalog).items() if not name.startswith("_") and not isinstance(value, property)
    }
    public = {name for name in public if callable(getattr(Catalog, name))}
    assert public - READS - RECORDS - set(DECISIONS) == set(), (
        "a decision? It leaves an audit row, and goes into DECISIONS"
    )
    for name in DECISIONS.keys() - {"publish", "quarantine"}:
        parameters = inspect.signature(getattr(Catalog, name)).parameters
        assert {"by", "why"} <= parameters.keys(), name


def test_every_decision_leaves_who_what_and_why(both, clock):
    clock.later(hours=1)
    for name, decide in DECISIONS.items():
        before = {row.seq for row in both.audit(limit=1000)}
        decide(both)
        rows = [row for row in both.audit(limit=1000) if row.seq not in before]
        assert rows, name
        for row in rows:
            assert row.who, name
            assert row.action, name
            assert row.subject, name
            if name not in ("publish", "quarantine"):
                assert (row.who, row.why) == ("ada", WHY), name
    assert damage(both) == []
