"""``cloudbaker catalog gc|quota|retention|hold|delete|usage``: what they print, their JSON, their exit codes."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest

from cloudbaker.catalog.core import Catalog
from cloudbaker.cli import main
from cloudbaker.cli.units import Bytes, Count, Moment
from cloudbaker.model import AssetRef
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import publish

HELMET = AssetRef("acme", "robots", "helmet")


@pytest.fixture
def cli(home, capsys, monkeypatch):
    """Calls ``cloudbaker catalog …``; its standard output, and with ``--json`` what that says."""

    def call(*arguments: str, code: int = 0) -> Any:
        monkeypatch.setattr(sys, "argv", ["cloudbaker", "catalog", *arguments])  # asked for --json when all fails
        with pytest.raises(SystemExit) as ended:
            main(["catalog", *arguments])
        out, err = capsys.readouterr()
        assert ended.value.code == code, (out, err)
        return json.loads(out) if "--json" in arguments else out + err

    return call


@pytest.fixture
def stored(home):
    """Three versions of a helmet, the first two 30 days old."""
    past = [datetime.now(UTC) - timedelta(days=30)]
    with Catalog.open(Settings(home=home), clock=lambda: past[0]) as catalog:
        for n in range(3):
            past[0] += timedelta(days=15 * (n == 2), seconds=1)
            publish(catalog, HELMET, b"x" * 1000 + b"%d" % n)


def test_quota(cli):
    assert "no tenant" in cli("quota")
    [quota] = cli("quota", "acme", "--bytes", "1.5GB", "--runs-in-flight", "4", "--why", "trial", "--json")
    assert (quota["bytes"], quota["runs_in_flight"], quota["runs_per_day"]) == (1_500_000_000, 4, None)
    [quota] = cli("quota", "acme", "--bytes", "none", "--json")
    assert (quota["bytes"], quota["runs_in_flight"]) == (None, 4)
    text = cli("quota")
    assert "no limit" in text
    assert "0 of 4" in text
    assert "name the tenant" in cli("quota", "--bytes", "5", code=2)
    assert "no size" in cli("quota", "acme", "--bytes", "lots", code=2)
    assert cli("quota", "nobody", "--json", code=2)["error"]["code"] == "CB1301"


def test_retention_and_gc(cli, stored):
    assert "everything is kept" in cli("retention")
    cli("retention", "acme", "--preset", "render", "--keep-last", "1", "--why", "contract")
    [row] = cli("retention", "acme", "--json")
    assert row["retention"] == {"delete_after_days": 7, "keep_last": 1, "inbox_hours": 24}
    cli("retention", "acme", "--delete-after-days", "20")

    plan = cli("gc", "--plan", "--json")
    gone = [item["key"] for item in plan["items"] if item["kind"] == "expired-version"]
    assert gone == ["acme/robots/helmet@1", "acme/robots/helmet@2"]
    assert plan["bytes"] == sum(item["size"] for item in plan["items"]) > 6000
    assert "would clean up 8 thing(s)" in cli("gc", "--plan")
    assert "cleaned up 8 thing(s)" in cli("gc")
    assert cli("gc", "--json")["items"] == []
    [row] = cli("retention", "acme", "--preset", "none", "--json")
    assert row["retention"] is None
    assert "give no terms" in cli("retention", "acme", "--preset", "none", "--keep-last", "1", code=2)
    assert "name the tenant" in cli("retention", "--preset", "keep", code=2)


def test_a_store_that_fails_is_told_and_ends_with_1(cli, stored, monkeypatch):
    from cloudbaker.catalog.stores import FolderStore
    from cloudbaker.errors import StoreError

    def failing(self: object, key: str) -> bool:
        raise StoreError("the disk is on fire")

    cli("retention", "acme", "--preset", "render")
    monkeypatch.setattr(FolderStore, "delete", failing)
    assert "the disk is on fire" in cli("gc", code=1)
    monkeypatch.undo()
    assert cli("gc", "--json")["failed"] == []


def test_hold_and_delete(cli, stored):
    assert "nothing is held" in cli("hold")
    [hold] = cli("hold", "robots/helmet", "--tenant", "acme", "--version", "1", "--until", "30d", "--json")
    assert (hold["asset"], hold["number"]) == ("acme/robots/helmet", 1)
    refused = cli("delete", "acme/robots/helmet", "1", "--why", "x", "--yes", "--json", code=2)
    assert refused["error"]["code"] == "CB6103"
    assert "is released" in cli("hold", "acme/robots/helmet", "--version", "1", "--release")
    assert "there was no hold" in cli("hold", "acme/robots/helmet", "--version", "1", "--release")
    deleted = cli("delete", "acme/robots/helmet", "1", "--why", "x", "--yes", "--json")
    assert deleted == {"asset": "acme/robots/helmet", "number": 1, "deleted": True, "already_deleted": False}
    assert "was deleted before" in cli("delete", "acme/robots/helmet", "1", "--why", "x")
    assert "name the asset" in cli("hold", "--release", code=2)
    assert "give no --until" in cli("hold", "acme/robots/helmet", "--release", "--until", "3d", code=2)
    assert "ended before it begins" in cli("hold", "acme/robots/helmet", "--until", "2020-01-01", code=2)


def test_what_is_exported_is_a_transfer_and_what_is_deleted_is_not_exported(cli, stored, tmp_path):
    cli("export", "acme/robots/helmet", str(tmp_path / "out.zip"))
    cli("export", "acme/robots/helmet", str(tmp_path / "out"), "--version", "1")
    size = sum(path.stat().st_size for path in [tmp_path / "out.zip", *(tmp_path / "out").iterdir()])
    [row] = [row for row in cli("usage", "--by", "subject", "--json") if row["kind"] == "transfer"]
    assert (row["subject"], float(row["amount"])) == ("out", size / 10**9)
    cli("delete", "acme/robots/helmet", "1", "--why", "x", "--yes")
    assert "choose another version" in cli(
        "export", "acme/robots/helmet", str(tmp_path / "no"), "--version", "1", code=2
    )
    assert not (tmp_path / "no").exists()


def test_a_deletion_is_asked_for(cli, stored, monkeypatch):
    monkeypatch.setattr(click, "confirm", lambda *_, **__: (_ for _ in ()).throw(click.Abort()))
    cli("delete", "acme/robots/helmet", "1", "--why", "x", code=130)
    assert "for good" not in cli("versions", "acme/robots/helmet")
    with Catalog.open(Settings()) as catalog:
        assert catalog.get_version(HELMET, 1).deleted_at is None


def test_usage_over_time_and_its_cost(cli, stored):
    assert cli("usage", "--json")[0]["versions"] == 3
    days = cli("usage", "--by", "day", "--since", "2d", "--json")
    assert len([row for row in days if row["kind"] == "storage"]) == 3
    assert {row["unit"] for row in days if row["kind"] == "storage"} == {"GB-hours"}
    bill = cli("usage", "--cost", "--by", "tenant", "--json")
    assert bill["currency"] == "USD"
    assert {item["tenant"] for item in bill["items"]} == {"acme"}
    assert float(bill["total"]) == pytest.approx(sum(float(item["cost"]) for item in bill["items"]))
    text = cli("usage", "--cost", "--by", "tenant", "--by", "day", "--since", "3d")
    assert f"total {0:f}"[:9] in text
    assert "GB-hours" in text
    assert "no time" in cli("usage", "--since", "yesterday", code=2)


def test_an_estimate(cli):
    work = ("--minutes", "10", "--device", "NVIDIA A100-SXM4-40GB", "--complexity", "medium", "--transfer-gb", "2")
    told = cli("estimate", *work, "--json")
    assert told == {
        "currency": "USD",
        "compute": "30.000000",
        "storage": "0.000000",
        "transfer": "0.100000",
        "total": "30.100000",
    }
    assert "total 30.100000 USD" in cli("estimate", *work)
    assert "minutes of an estimate" in cli("estimate", "--minutes", "-1", code=2)


@pytest.mark.parametrize(
    ("text", "size"),
    [("500", 500), ("1.5GB", 1_500_000_000), ("2 GiB", 2 << 30), ("10k", 10_000), ("1TiB", 1 << 40), ("NONE", "none")],
)
def test_sizes(text, size):
    assert Bytes().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "-1", "1.5", "0.0001k", "1e9", "GB", "5ib", "１", "9" * 40, "1,5GB"])
def test_sizes_that_are_none(text):
    with pytest.raises(click.BadParameter):
        Bytes().convert(text, None, None)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "many", "9" * 30])
def test_counts_that_are_none(text):
    with pytest.raises(click.BadParameter):
        Count().convert(text, None, None)


def test_times():
    assert Moment().convert("2026-11-20", None, None) == datetime(2026, 11, 20, tzinfo=UTC)
    assert Moment().convert("2026-11-20T15:30+01:00", None, None) == datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
    now = datetime.now(UTC)
    assert abs(Moment().convert("7d", None, None) - (now - timedelta(days=7))) < timedelta(minutes=1)
    assert abs(Moment(ahead=True).convert("12h", None, None) - (now + timedelta(hours=12))) < timedelta(minutes=1)
    for text in ("", "soon", "999999d", "2026-13-01", "5m"):
        with pytest.raises(click.BadParameter):
            Moment().convert(text, None, None)
