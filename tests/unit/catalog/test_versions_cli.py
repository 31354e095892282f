"""``cloudbaker catalog search|show|diff|tag|depends|audit|events``: what people and programs see, and exit codes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import sqlalchemy as sa

import cloudbaker as cb
from cloudbaker.catalog import schema as s
from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.sinks import register
from cloudbaker.cli import main
from cloudbaker.model import AssetRef, Dependency
from cloudbaker.settings import Settings, settings
from cloudbaker.testing.catalog import publication, publish

HELMET, ARM = AssetRef("acme", "robots", "helmet"), AssetRef("acme", "robots", "arm")


@pytest.fixture
def ask(home, capsys, monkeypatch):
    """Runs ``cloudbaker catalog …``; its exit code and output, parsed if it is JSON."""
    settings.cache_clear()
    with Catalog.open(Settings(home=home)) as catalog:
        publish(catalog, ARM, b"arm")
        catalog.publish(replace(publication(catalog, HELMET, b"one"), dependencies=(Dependency(ARM),)))
        publish(catalog, HELMET, b"two", recipe="web-lite", channel=None)
        catalog.tag(HELMET, ["hero"], "ada", "\x1b[31mred")

    def call(*arguments, code=0):
        monkeypatch.setattr("sys.argv", ["cloudbaker", *arguments])
        with pytest.raises(SystemExit) as stop:
            main(["catalog", *arguments])
        captured = capsys.readouterr()
        assert (stop.value.code or 0) == code, captured
        text = captured.out + captured.err
        assert "\x1b[31mred" not in text
        return json.loads(captured.out) if "--json" in arguments else text

    return call


def test_search_and_its_pages(ask):
    page = ask("search", "--sort", "name", "--limit", "1", "--json")
    assert [row["asset"] for row in page["items"]] == [str(ARM)]
    rest = ask("search", "--limit", "1", "--cursor", page["next"], "--json")
    assert [row["asset"] for row in rest["items"]] == [str(HELMET)]
    assert rest["next"] is None
    assert "hero" in ask("search", "helm", "--tag", "hero", "--since", "1h")
    assert "no asset found" in ask("search", "nothing", "like", "it")
    assert "more with --cursor" in ask("search", "--limit", "1")
    assert "another question" in ask("search", "arm", "--limit", "1", "--cursor", page["next"], code=2)


def test_show(ask):
    view = ask("show", str(HELMET), "--json")
    assert [v["number"] for v in view["versions"]] == [2, 1]
    text = ask("show", str(HELMET))
    assert "channels: live → 1" in text
    assert "tags: hero" in text
    assert "needed by: acme/robots/helmet@1" in ask("show", str(ARM))
    assert ask("show", "nobody", "--json", code=2)["error"]["code"] == "CB1301"


def test_diff(ask):
    found = ask("diff", str(HELMET), "1", "2", "--json")
    assert found["fields"]["recipe"] == ["web", "web-lite"]
    assert "web-lite" in ask("diff", str(HELMET), "2")  # against live
    assert "byte for byte the same" in ask("diff", str(HELMET), "1", "live")
    assert "no version 9" in ask("diff", str(HELMET), "9", code=2)


def test_tag(ask):
    assert ask("tag", str(HELMET), "new", "--json") == {"asset": str(HELMET), "tags": ["hero", "new"]}
    assert ask("tag", str(HELMET), "hero", "--remove", "--why", "over") == f"{HELMET}: new\n"
    assert "new" in ask("tag", str(HELMET))
    assert ask("tag", str(ARM)) == f"{ARM}: no tags\n"
    ask("tag", str(HELMET), "--remove", code=2)
    ask("tag", str(HELMET), "No!", code=2)


def test_depends(ask):
    assert [n["on_asset"] for n in ask("depends", str(HELMET), "--json")] == [str(ARM)]
    assert "acme/robots/helmet@1" in ask("depends", str(ARM), "--on-it", "--all")
    assert "depends on nothing" in ask("depends", f"{HELMET}@2")
    assert "nothing depends on" in ask("depends", str(HELMET), "--on-it")
    ask("depends", "nobody", "--on-it", code=2)


def test_audit(ask, home):
    rows = ask("audit", "--who", "ada", "--json")["items"]
    assert [(row["action"], row["subject"]) for row in rows] == [("tag", str(HELMET))]
    assert "tag" in ask("audit", "--limit", "2")
    assert "no entry" in ask("audit", "--who", "nobody")
    head = ask("audit", "--heads").strip()
    assert ask("audit", "--heads", "--json") == [head]
    assert "every chain is whole" in ask("audit", "--verify", "--head", head)
    assert ask("audit", "--verify", "--json")["ok"] is True
    with Catalog.open(Settings(home=home)) as catalog, catalog.core.write() as connection:
        connection.execute(sa.update(s.audit).where(s.audit.c.position == 2).values(who="eve"))
    assert "position 2" in ask("audit", "--verify", code=3)
    assert ask("audit", "--verify", "--json", code=3)["damage"][0]["kind"] == "changed"
    ask("audit", "--head", head, code=2)
    ask("audit", "--verify", "--head", "nonsense", code=2)


def test_events(ask, home, monkeypatch):
    page = ask("events", "--asset", str(HELMET), "--limit", "1", "--json")
    assert page["items"][0]["kind"] == "asset.indexed"
    assert len(ask("events", "--asset", str(HELMET), "--cursor", page["next"], "--limit", "1", "--json")["items"]) == 1
    assert "channel.moved" in ask("events", "--kind", "channel.moved", "--since", "1d")
    assert "no event" in ask("events", "--run", "nothing")
    assert "nobody was told" in ask("events", "--sinks")
    assert "nobody is to be told" in ask("events", "--deliver", code=2)
    assert "no sink" in ask("events", "--replay", "nobody", code=2)
    ask("events", "--dead", "--waiting", code=2)

    with Catalog.open(Settings(home=home)) as catalog:
        register(catalog.core, "webhook", catalog._clock())
    assert ask("events", "--replay", "webhook", "--since", "1h", "--why", "new", "--json") == {
        "sink": "webhook",
        "events": 5,
    }
    # Nobody listens there: nothing is lost, and the exit code says so.
    monkeypatch.setenv("CLOUDBAKER_WEBHOOK_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("CLOUDBAKER_WEBHOOK_SECRET", "s" * 32)
    settings.cache_clear()
    told = ask("events", "--deliver", "--json", code=1)["webhook"]
    assert (told["told"], told["failed"]) == (0, 0)
    assert "can't be reached" in told["unavailable"]
    assert len(ask("events", "--waiting", "--json")["items"]) == 5
    assert "webhook" in ask("events", "--sinks")
    assert "no dead letter" in ask("events", "--dead")
    monkeypatch.setenv("CLOUDBAKER_WEBHOOK_SECRET", "short")
    settings.cache_clear()
    assert "short" not in ask("events", "--deliver", code=2).replace("shorter", "")


def test_the_same_from_python(ask):
    catalog = cb.catalog()
    for answer in (
        catalog.search("helmet"),
        catalog.show(HELMET),
        catalog.diff(HELMET, 1, 2),
        catalog.versions(HELMET),
        catalog.depends_on(HELMET),
        catalog.audit(),
        catalog.audit_heads(),
        catalog.verify_audit(),
        catalog.events(),
        catalog.sinks(),
        catalog.deliveries(),
        catalog.projects(),
    ):
        assert answer._repr_html_().startswith("<")
    catalog.close()
