"""Usage over time: integrated exactly, whatever the grouping and wherever a time is cut. And what it costs."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.pricing import estimate, load_prices
from cloudbaker.catalog.records import Metered
from cloudbaker.catalog.usage import metered
from cloudbaker.errors import NameRefused, UsageError
from cloudbaker.model import Run, Step, StepState
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import publish

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BEGIN = datetime(2026, 11, 18, 21, 30, tzinfo=UTC)
WHO = {"by": "ada", "why": "tests"}


def at(us: int) -> datetime:
    return BEGIN + timedelta(microseconds=us)


def duck(events: list[tuple[str, str, str, str, int, datetime]], runs: list[tuple[str, str, datetime]]):
    """The two views that are asked, with these rows."""
    time = pa.timestamp("us", "UTC")
    usage = {"tenant": pa.string(), "asset": pa.string(), "kind": pa.string(), "subject": pa.string()}
    usage |= {"amount": pa.int64(), "created_at": time}
    connection = duckdb.connect(":memory:")
    connection.execute("SET TimeZone = 'UTC'")
    for name, rows, columns in (
        ("usage", events, usage),
        ("runs", runs, {"tenant": pa.string(), "asset": pa.string(), "started_at": time}),
    ):
        data = {column: [row[n] for row in rows] for n, column in enumerate(columns)}
        connection.register(name, pa.table(data, schema=pa.schema(list(columns.items()))))
    return connection


moments = st.integers(0, 5 * 24 * 3600 * 10**6) | st.integers(0, 5).map(lambda d: d * 24 * 3600 * 10**6 + 9_000_000_000)
tenants = st.sampled_from(["acme", "zeta"])
projects = st.sampled_from(["robots", "cars"])
stored = st.tuples(tenants, projects, st.just("stored_bytes"), st.sampled_from(["vault", "public"]))
others = st.tuples(tenants, projects, st.just("compute_ms"), st.sampled_from(["cpu", "cuda"]))
others |= st.tuples(tenants, projects, st.just("transfer_bytes"), st.sampled_from(["in", "out"]))


@st.composite
def histories(draw: st.DrawFn):
    """Events, bytes up to 10^15: their product with microseconds does not fit into 64 bits."""
    rows = []
    for kind, amounts in ((stored, st.integers(-(10**15), 10**15)), (others, st.integers(1, 10**12))):
        for (tenant, project, what, subject), amount, us in draw(
            st.lists(st.tuples(kind, amounts, moments), max_size=12)
        ):
            rows.append((tenant, f"{tenant}/{project}/x", what, subject, amount, at(us)))
    runs = [(t, f"{t}/{p}/x", at(us)) for t, p, us in draw(st.lists(st.tuples(tenants, projects, moments), max_size=5))]
    return rows, runs


def expected(rows, runs, by, since: datetime, until: datetime) -> dict[tuple, int]:
    """The same by going through every event and every day, one by one."""
    found: dict[tuple, int] = {}
    begin = since
    while begin < until:
        midnight = (begin + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        end = min(midnight, until) if "day" in by else until
        for tenant, asset, kind, subject, amount, created in rows:
            key = {"tenant": tenant, "project": asset.split("/")[1], "subject": subject, "day": begin.date()}
            name = (kind, *(key[k] if k in by else None for k in ("tenant", "project", "subject", "day")))
            if kind == "stored_bytes" and created < end:
                found[name] = found.get(name, 0) + amount * ((end - max(begin, created)) // timedelta(microseconds=1))
            elif kind != "stored_bytes" and begin <= created < end:
                found[name] = found.get(name, 0) + amount
        for tenant, asset, started in runs:
            if begin <= started < end:
                key = {"tenant": tenant, "project": asset.split("/")[1], "subject": None, "day": begin.date()}
                name = ("runs", *(key[k] if k in by else None for k in ("tenant", "project", "subject", "day")))
                found[name] = found.get(name, 0) + 1
        begin = end
    return {key: amount for key, amount in found.items() if amount}


KINDS = {"storage": "stored_bytes", "compute": "compute_ms", "transfer": "transfer_bytes", "runs": "runs"}


@settings(max_examples=60, deadline=None)
@given(
    history=histories(),
    by=st.sets(st.sampled_from(["tenant", "project", "subject", "day"])),
    cut=st.tuples(moments, moments).filter(lambda pair: pair[0] != pair[1]),
)
def test_it_is_what_adding_up_event_by_event_gives(history, by, cut):
    rows, runs = history
    since, until = at(min(cut)), at(max(cut))
    with duck(rows, runs) as connection:
        found = metered(connection, tenant=None, by=sorted(by), since=since, until=until, now=until)
    exact = {(KINDS[m.kind], m.tenant, m.project, m.subject, m.day): m.quantity for m in found if m.quantity}
    assert exact == expected(rows, runs, by, since, until)
    assert len({(m.kind, m.tenant, m.project, m.subject, m.day) for m in found}) == len(found)


@settings(max_examples=30, deadline=None)
@given(history=histories(), cuts=st.lists(moments, min_size=3, max_size=3, unique=True).map(sorted))
def test_parts_add_up_to_the_whole_and_days_to_their_time(history, cuts):
    begin, middle, end = map(at, cuts)
    with duck(*history) as connection:

        def total(since: datetime, until: datetime, *by: str) -> dict[str, int]:
            sums: dict[str, int] = {}
            for row in metered(connection, tenant="acme", by=by, since=since, until=until, now=until):
                sums[row.kind] = sums.get(row.kind, 0) + row.quantity
            return {kind: amount for kind, amount in sums.items() if amount}

        whole = total(begin, end)
        assert total(begin, end, "tenant", "project", "subject", "day") == whole
        parts = [total(begin, middle), total(middle, end)]
        assert {kind: amount for kind in KINDS if (amount := sum(part.get(kind, 0) for part in parts))} == whole


def test_a_version_is_charged_from_its_publication_to_its_deletion(catalog, helmet, clock):
    clock.now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    size = publish(catalog, helmet, b"x" * 1000, channel=None).version
    stored = sum(a.blob.size for a in size.artifacts) + size.sources[0].blob.size
    clock.now = datetime(2026, 11, 22, 6, tzinfo=UTC)
    catalog.delete_version(helmet, 1, **WHO)
    clock.now = datetime(2026, 11, 23, 6, tzinfo=UTC)
    days = [
        (row.day, float(row.amount * 10**9 / stored), row.stored_bytes)
        for row in catalog.metered("acme", by=["day", "project"])
        if row.kind == "storage"
    ]
    assert [(day, left) for day, _, left in days] == [
        (date(2026, 11, 20), stored),
        (date(2026, 11, 21), stored),
        (date(2026, 11, 22), 0),
    ]
    assert [hours for _, hours, _ in days] == pytest.approx([12, 24, 6], abs=1e-6)
    assert catalog.metered("zeta") == []
    later = {"by": ["day", "project"], "until": clock.now + timedelta(days=99)}
    assert len(catalog.metered("acme", **later)) == len(days), "what has not been yet is not metered"
    assert catalog.metered("acme", since=clock(), until=clock.now) == []


def test_runs_devices_and_transfers_are_metered_and_billed(catalog, helmet, clock):
    catalog.start_run(Run("run-1", "bake", helmet, "web", "direct", clock(), "tester"))
    begun = clock()
    for device, minutes in (("cpu", 3), ("NVIDIA A100-SXM4-40GB", 2)):
        catalog.record_step(
            Step("run-1", "optimize", 1, StepState.DONE, begun, begun + timedelta(minutes=minutes), device=device)
        )
    catalog.record_transfer("acme", helmet, 2_500_000_000, "out", run_id="run-1")
    catalog.record_transfer("acme", None, 10**9, "in")
    catalog.record_transfer("acme", helmet, 0, "out")
    clock.later(hours=1)
    found = {(row.kind, row.subject): (row.amount, row.unit) for row in catalog.metered("acme")}
    assert found == {
        ("runs", None): (1, "runs"),
        ("compute", "cpu"): (3, "minutes"),
        ("compute", "NVIDIA A100-SXM4-40GB"): (2, "minutes"),
        ("transfer", "out"): (Decimal("2.5"), "GB"),
        ("transfer", "in"): (1, "GB"),
    }
    bill = catalog.cost("acme")
    assert {(item.kind, item.subject): item.cost for item in bill.items} == {
        ("compute", "cpu"): Decimal("0.03"),
        ("compute", "NVIDIA A100-SXM4-40GB"): 4,
        ("transfer", "out"): Decimal("0.125"),
        ("transfer", "in"): 0,
    }
    assert (bill.total, bill.currency) == (Decimal("4.155"), "USD")
    assert bill.to_json()["total"] == "4.155000"
    assert [row.to_json()["amount"] for row in catalog.metered("acme", by=["subject"]) if row.subject == "out"] == [
        "2.5"
    ]


@pytest.mark.parametrize(("amount", "direction"), [(-1, "out"), (True, "out"), (5, "sideways")])
def test_transfers_that_are_none_are_refused(catalog, amount, direction):
    with pytest.raises(UsageError, match="is none"):
        catalog.record_transfer("acme", None, amount, direction)
    with pytest.raises(NameRefused):
        catalog.record_transfer("../x", None, 5, "out")
    assert catalog.usage() == []


def test_questions_that_make_no_sense_are_refused(catalog, helmet, clock):
    publish(catalog, helmet, b"x")
    with pytest.raises(UsageError, match="zone"):
        catalog.metered(since=datetime(2026, 1, 1))
    with pytest.raises(UsageError, match="zone"):
        catalog.metered(until=datetime(2026, 1, 1))
    with pytest.raises(UsageError, match="grouped by 'colour'"):
        catalog.metered(by=["colour"])
    with pytest.raises(UsageError, match="days"):
        catalog.metered(by=["day"], since=datetime(1, 1, 1, tzinfo=UTC))
    assert catalog.metered(since=clock() + timedelta(days=1)) == []
    assert catalog.metered("acme' OR true --") == []


def test_reserved_bytes_are_shown_beside_used_ones(catalog, helmet):
    publish(catalog, helmet, b"x")
    catalog.put_bytes(b"waiting", "acme", "inbox")
    [row] = catalog.usage("acme")
    assert (row.versions, row.reserved_bytes) == (1, 7)
    catalog.move_channel(helmet, "live", 1, **WHO)


# ---- prices


def test_a_device_finds_its_price():
    prices = load_prices()
    assert prices.minute("cpu") == prices.minute("some-tpu") == Decimal("0.01")
    assert prices.minute("cuda") == prices.minute("NVIDIA GeForce RTX 4090") == Decimal("0.50")
    assert prices.minute("NVIDIA A100 80GB PCIe") == prices.minute("a100") == Decimal("2.00")
    assert prices.minute("a1000") == prices.minute("cpu"), "another card"


@pytest.mark.parametrize(
    ("options", "total"),
    [
        ({"minutes": 10}, "0.1"),
        ({"minutes": 10, "device": "rtx-4090"}, "5"),
        ({"minutes": 10, "device": "rtx-4090", "complexity": "medium"}, "7.5"),
        ({"minutes": 10, "device": "a100", "complexity": "complex"}, "60"),
        ({"minutes": 10, "device": "a100", "complexity": "complex", "special": True}, "100"),
        ({"minutes": 0, "stored_gb": 20, "stored_hours": 168}, "3.36"),
        ({"minutes": 0, "transfer_gb": 1.5}, "0.075"),
        ({"minutes": 1, "device": "rtx-4090", "stored_gb": 1, "stored_hours": 1, "transfer_gb": 1}, "0.551"),
    ],
)
def test_an_estimate_is_the_formula(options, total):
    assert estimate(load_prices(), **options).total == Decimal(total)


@pytest.mark.parametrize("wrong", [{"minutes": -1}, {"minutes": float("nan")}, {"minutes": 1, "complexity": "hard"}])
def test_estimates_of_nonsense_are_refused(wrong):
    with pytest.raises(UsageError):
        estimate(load_prices(), **wrong)


OWN = """
currency = "EUR"
[compute]
default = 1
[storage]
default = 0
public = 3.6
[transfer]
in = 0.1
out = 0.2
[complexity]
simple = 1
medium = 2
complex = 3
special = 4
"""


def test_prices_of_ones_own(home, tmp_path, helmet, clock):
    path = tmp_path / "prices.toml"
    path.write_text(OWN)
    with Catalog.open(Settings(home=home, pricing=path), clock=clock) as catalog:
        publish(catalog, helmet, b"x" * 10**6)
        clock.later(hours=1000)
        bill = catalog.cost("acme", by=["tenant", "project"])
    assert bill.currency == "EUR"
    by_zone = {item.subject: item for item in bill.items}
    assert by_zone["vault"].cost == 0
    assert by_zone["public"].cost == pytest.approx(Decimal("7.2"), abs=Decimal("0.01")), (
        "two files of 1 MB, 1,000 hours"
    )
    assert by_zone["public"].project == "robots"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('currency = "EUR"', "", "currency"),
        ('"EUR"', '"euros"', "currency"),
        ("default = 1\n", "", r"\[compute\] with default"),
        ("in = 0.1\n", "", r"\[transfer\] with in"),
        ("[storage]", "[strorage]", "unknown part 'strorage'"),
        ("simple = 1", "simple = -1", "simple in"),
        ("simple = 1", "simple = nan", "simple in"),
        ("simple = 1", "simple = inf", "simple in"),
        ("simple = 1", 'simple = "1"', "simple in"),
        ("simple = 1", "simple = true", "simple in"),
        ("simple = 1", "simple = ", "no TOML"),
        ("[compute]\ndefault = 1", "compute = 5", r"\[compute\]"),
    ],
)
def test_price_tables_that_are_wrong_are_refused(tmp_path, old, new, says):
    path = tmp_path / "prices.toml"
    path.write_text(OWN.replace(old, new))
    with pytest.raises(UsageError, match=says):
        load_prices(path)


def test_price_tables_that_are_none_are_refused(tmp_path):
    with pytest.raises(UsageError, match="can't read"):
        load_prices(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="no TOML"):
        load_prices(tmp_path / "binary.toml")


def test_the_page_shows_the_price_table_that_there_is():
    root = Path(__file__).parents[3]
    page = (root / "docs" / "quotas-and-billing.md").read_text("utf-8")
    [shown] = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    assert shown == (root / "cloudbaker" / "pricing.toml").read_text("utf-8")


def test_amounts_are_exact():
    row = Metered("acme", None, None, "storage", "vault", 3_600_000_000 * 10**9, 5)
    assert (row.amount, row.unit) == (1, "GB-hours")
