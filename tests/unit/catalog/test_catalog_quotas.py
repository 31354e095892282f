"""Quotas: set, shown, and how what is used of them moves between reserved and used."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cloudbaker.errors import NameRefused, NotFound, QuotaExceeded, UsageError
from cloudbaker.model import AssetRef, Run, RunState
from cloudbaker.testing.catalog import publish

WHO = {"by": "ada", "why": "tests"}


def run(catalog, name: str, clock) -> None:
    catalog.start_run(Run(name, "bake", AssetRef("acme", "robots", "helmet"), "web", "direct", clock(), "tester"))


def test_each_quota_is_set_and_taken_away_alone(catalog):
    catalog.set_quota("acme", bytes=100, runs_in_flight=2, **WHO)
    catalog.set_quota("acme", runs_per_day=9, **WHO)
    quota = catalog.quota("acme")
    assert (quota.bytes, quota.runs_in_flight, quota.runs_per_day) == (100, 2, 9)
    catalog.set_quota("acme", bytes=None, by="bob", why="paid for")
    catalog.set_quota("acme", bytes=None, by="bob", why="paid for")
    quota = catalog.quota("acme")
    assert (quota.bytes, quota.runs_in_flight, quota.runs_per_day) == (None, 2, 9)
    audited = catalog.sql("SELECT who, why, detail FROM audit WHERE action = 'set-quota' ORDER BY seq").fetchall()
    assert audited[0][2] == '{"quota_bytes":{"from":null,"to":100},"quota_runs_in_flight":{"from":null,"to":2}}'
    assert audited[2] == ("bob", "paid for", '{"quota_bytes":{"from":100,"to":null}}')
    assert len(audited) == 3, "what is set already is not set again"
    assert [q.tenant for q in catalog.quotas()] == ["acme"]


@pytest.mark.parametrize("limit", [-1, 1.5, True, "10", 1 << 62])
def test_limits_that_make_no_sense_are_refused(catalog, limit):
    with pytest.raises(UsageError, match="makes no sense"):
        catalog.set_quota("acme", bytes=limit, **WHO)
    with pytest.raises(NotFound):
        catalog.quota("acme")


@pytest.mark.parametrize("tenant", ["../etc", "Acme", "acme/robots", "a cme", "", "ünal"])
def test_names_that_are_none_are_refused(catalog, tenant):
    with pytest.raises(NameRefused):
        catalog.set_quota(tenant, bytes=5, **WHO)
    assert catalog.quotas() == []


def test_bytes_are_reserved_then_used_then_reserved_then_free(catalog, helmet, clock):
    catalog.set_quota("acme", bytes=1000, **WHO)

    def used() -> tuple[int, int]:
        quota = catalog.quota("acme")
        return quota.used_bytes, quota.reserved_bytes

    catalog.put_bytes(b"0:" + b"x" * 98, "acme", "vault")
    assert used() == (0, 100)
    publish(catalog, helmet, b"y" * 100, files=1, channel=None)
    assert used() == (202, 100)
    catalog.delete_version(helmet, 1, **WHO)
    assert used() == (0, 302)
    clock.later(hours=25)
    catalog.gc(plan=False)
    assert used() == (0, 0)


def test_what_clean_up_frees_can_be_used_again_to_the_byte(catalog, clock):
    catalog.set_quota("acme", bytes=10, **WHO)
    catalog.put_bytes(b"1234567890", "acme", "vault")
    assert catalog.put_bytes(b"1234567890", "acme", "vault").size == 10, "what is there costs nothing"
    with pytest.raises(QuotaExceeded):
        catalog.put_bytes(b"x", "acme", "vault")
    clock.later(hours=25)
    catalog.gc(plan=False)
    catalog.put_bytes(b"abcdefghij", "acme", "vault")
    with pytest.raises(QuotaExceeded) as refused:
        catalog.put_bytes(b"x", "acme", "inbox")
    assert refused.value.facts["free_bytes"] == 0
    catalog.put_bytes(b"x" * 100, "zeta", "vault")


def test_a_quota_below_what_is_used_takes_nothing_away(catalog, helmet):
    publish(catalog, helmet, b"x" * 100)
    catalog.set_quota("acme", bytes=5, **WHO)
    assert catalog.quota("acme").used_bytes > 5
    with pytest.raises(QuotaExceeded):
        publish(catalog, helmet, b"y" * 100)
    assert catalog.read_blob(catalog.get_version(helmet).sources[0].blob) == b"x" * 100


def test_runs_are_counted_in_flight_and_by_the_day(catalog, clock):
    clock.now = datetime(2026, 11, 20, 23, 50, tzinfo=UTC)
    catalog.set_quota("acme", runs_in_flight=2, runs_per_day=3, **WHO)
    run(catalog, "run-1", clock)
    run(catalog, "run-2", clock)
    with pytest.raises(QuotaExceeded, match="under way"):
        run(catalog, "run-3", clock)
    catalog.finish_run("run-1", RunState.COMPLETED)
    run(catalog, "run-3", clock)
    catalog.finish_run("run-2", RunState.FAILED)
    catalog.finish_run("run-3", RunState.FAILED)
    with pytest.raises(QuotaExceeded, match="day"):
        run(catalog, "run-4", clock)
    quota = catalog.quota("acme")
    assert (quota.runs_in_flight_now, quota.runs_today) == (0, 3)
    clock.later(minutes=11)
    assert catalog.quota("acme").runs_today == 0, "a new day, UTC"
    run(catalog, "run-4", clock)


def test_abandoned_runs_give_their_place_back(catalog, clock):
    catalog.set_quota("acme", runs_in_flight=1, **WHO)
    run(catalog, "run-1", clock)
    clock.now += timedelta(days=2)
    with pytest.raises(QuotaExceeded):
        run(catalog, "run-2", clock)
    assert [i.key for i in catalog.gc(plan=False).items] == ["run-1"]
    run(catalog, "run-2", clock)
    assert catalog.get_run("run-1").state is RunState.FAILED
