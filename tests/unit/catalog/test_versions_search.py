"""Pages, search, tags, show, diff and dependencies, on both databases; and that pages cost what they show."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.core import Catalog
from cloudbaker.errors import Conflict, NameRefused, NotFound, UsageError
from cloudbaker.model import AssetRef, Dependency, Finding, Loss, Severity
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import broken, publication, publish

HELMET, ARM, LEG = (AssetRef("acme", "robots", name) for name in ("helmet", "arm", "leg"))
CAR = AssetRef("zeta", "cars", "car")


@pytest.fixture(params=["sqlite", "postgres"])
def both(request: pytest.FixtureRequest, home: Path, clock) -> Iterator[Catalog]:
    """A catalog on either database."""
    url = request.getfixturevalue("postgres") if request.param == "postgres" else ""
    with Catalog.open(Settings(home=home, catalog_url=url), clock=clock) as opened:
        yield opened
        assert broken(opened) == []


def names(page):
    return [str(info.asset) for info in page]


def all_pages(ask, limit):
    found, cursor = [], None
    while True:
        page = ask(limit=limit, cursor=cursor)
        assert len(page) <= limit
        found += page
        if page.next is None:
            return found
        cursor = page.next


# ---- pages


def test_pages_are_the_whole_in_every_order(both, clock):
    for n in range(7):
        publish(both, AssetRef("acme", ("robots", "cars")[n % 2], f"a{n}"), b"%d" % n)
        clock.later(hours=1)
    publish(both, AssetRef("acme", "robots", "a2"), b"again")
    publish(both, CAR, b"car")
    orders = {}
    for sort in ("name", "-name", "newest", "oldest"):
        for where in ({}, {"tenant": "acme"}, {"tenant": "acme", "project": "robots"}):
            whole = names(both.search(sort=sort, **where))
            for limit in (1, 2, 3, 9):
                paged = all_pages(lambda s=sort, w=where, **page: both.search(sort=s, **w, **page), limit)
                assert [str(info.asset) for info in paged] == whole
            orders[sort, len(where)] = whole
    assert orders["name", 0] == sorted(orders["name", 0]) == orders["-name", 0][::-1]
    assert len(orders["name", 0]) == 8
    assert orders["newest", 1] == [f"acme/{p}/a{n}" for p, n in _parts("r2 r6 c5 r4 c3 c1 r0")]
    assert orders["oldest", 2] == [f"acme/robots/a{n}" for n in (0, 4, 6, 2)]
    assert names(both.assets("acme", project="cars")) == ["acme/cars/a1", "acme/cars/a3", "acme/cars/a5"]


def _parts(text):
    return [({"r": "robots", "c": "cars"}[word[0]], word[1]) for word in text.split()]


def test_a_page_is_stable_while_others_publish(both):
    for n in range(6):
        publish(both, HELMET, b"%d" % n)
    page = both.versions(HELMET, limit=2)
    assert [v.number for v in page] == [6, 5]
    publish(both, HELMET, b"new")
    assert [v.number for v in both.versions(HELMET, limit=2, cursor=page.next)] == [4, 3]
    oldest = all_pages(lambda **p: both.versions(HELMET, sort="oldest", **p), 3)
    assert [v.number for v in oldest] == list(range(1, 8))
    first = both.search(sort="newest", limit=1)
    publish(both, ARM, b"arm")  # before the first page: nothing is shown twice
    assert first.next is None
    assert names(both.search(sort="newest")) == [str(ARM), str(HELMET)]


@pytest.mark.parametrize(
    "cursor", ["", "x", "!!!", "e30", "W10", "WyJhIiwgMSwgMl0", "A" * 5000, "WyIwMDAwIiwgMWU5OV0", "é"]
)
def test_cursors_that_are_none(catalog, cursor):
    for n in range(3):
        publish(catalog, HELMET, b"%d" % n)
    with pytest.raises(UsageError, match="cursor"):
        catalog.versions(HELMET, cursor=cursor)


def test_a_cursor_belongs_to_its_question(catalog):
    for n in range(3):
        publish(catalog, AssetRef("acme", "robots", f"a{n}"), b"%d" % n)
    cursor = catalog.search(tenant="acme", limit=1).next
    assert len(catalog.search(tenant="acme", limit=1, cursor=cursor)) == 1
    for other in ({}, {"tenant": "zeta"}, {"tenant": "acme", "sort": "-name"}, {"tenant": "acme", "text": "a"}):
        with pytest.raises(UsageError, match="another question"):
            catalog.search(**other, limit=1, cursor=cursor)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda c: c.search(sort="size"), "sort by one of"),
        (lambda c: c.versions(HELMET, sort="size"), "sorted by"),
        (lambda c: c.search(limit=0), "1 to 10,000 rows"),
        (lambda c: c.search(limit=10_001), "1 to 10,000 rows"),
        (lambda c: c.search(project="robots"), "which tenant"),
        (lambda c: c.search(tags=["No Tag"]), "tag name"),
        (lambda c: c.search(tenant="../x"), "tenant name"),
        (lambda c: c.search(" ".join(f"w{n}" for n in range(30))), "up to 16 words"),
        (lambda c: c.search("x" * 10_000), "1,000 characters"),
    ],
)
def test_questions_that_make_no_sense(catalog, ask, says):
    with pytest.raises(UsageError, match=says):
        ask(catalog)


def _cost(catalog: Catalog, ask) -> int:
    """What a question costs SQLite, in thousands of instructions of its virtual machine."""
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    def watch(connection: sqlite3.Connection, _record: object, _proxy: object) -> None:
        connection.set_progress_handler(step, 100)

    sa.event.listen(catalog.core.engine, "checkout", watch)
    try:
        ask()
    finally:
        sa.event.remove(catalog.core.engine, "checkout", watch)
        catalog.core.engine.dispose()
    return steps


def _grow(catalog: Catalog, first: int, last: int, clock) -> None:
    """Assets straight into the tables: 10 versions each, every 50th with a tag."""
    with catalog.core.write() as connection:
        assets, versions, tags = [], [], []
        for n in range(first, last):
            tenant, project = f"t{n % 20}", f"p{n % 7}"
            asset = {"asset": f"{tenant}/{project}/a{n:06}", "tenant": tenant, "project": project, "name": f"a{n:06}"}
            assets.append({**asset, "created_at": clock(), "next_version": 11})
            for number in range(1, 11):
                row = {"asset": asset["asset"], "number": number, "tenant": tenant, "bake_key": f"{n}-{number}"}
                fixed = {
                    "recipe": "web",
                    "recipe_hash": "",
                    "tools": {},
                    "run_id": "",
                    "created_by": "",
                    "size_bytes": 1,
                }
                versions.append({**row, **fixed, "change_note": "", "created_at": clock()})
            if n % 50 == 0:
                tags.append({"asset": asset["asset"], "tag": "rare"})
        of = ("asset", "number", "created_at")
        envelopes = [{**{name: row[name] for name in of}, "envelope": "{}"} for row in versions]
        for table, rows in ((s.assets, assets), (s.versions, versions), (s.provenance, envelopes), (s.tags, tags)):
            connection.execute(sa.insert(table), rows)


def test_pages_cost_what_they_show_and_not_what_there_is(home, clock, tell):
    """The same pages of a catalog ten times as large cost SQLite the same number of instructions."""
    with Catalog.open(Settings(home=home), clock=clock) as catalog:
        _grow(catalog, 0, 500, clock)
        middle = catalog.search(sort="newest", limit=10).next
        late = clock.now
        asset = AssetRef("t3", "p3", "a000003")
        questions = {
            "first by name": lambda: catalog.search(limit=20),
            "last by name": lambda: catalog.search(sort="-name", limit=20),
            "of a tenant": lambda: catalog.search(tenant="t3", limit=20),
            "of a project": lambda: catalog.search(tenant="t3", project="p3", limit=3),
            "newest": lambda: catalog.search(sort="newest", limit=20),
            "newest of a tenant": lambda: catalog.search(tenant="t3", sort="newest", limit=20),
            "the page after": lambda: catalog.search(sort="newest", limit=10, cursor=middle),
            "nothing since": lambda: catalog.search(sort="newest", since=clock.now + timedelta(days=1)),
            "by tag": lambda: catalog.search(tags=["rare"], limit=5),
            "versions": lambda: catalog.versions(asset, limit=5),
            "show": lambda: catalog.show(asset),
        }
        small = {name: _cost(catalog, ask) for name, ask in questions.items()}
        _grow(catalog, 500, 5000, clock)
        large = {name: _cost(catalog, ask) for name, ask in questions.items()}
        assert late < clock.now
        for name in questions:
            assert large[name] <= small[name] * 1.5 + 3, (name, small[name], large[name])
        everything = _cost(catalog, lambda: catalog.search("zzz"))
        assert everything > 2 * max(large.values())  # the measure sees a walk along all names
        tell(f"5,000 assets, 50,000 versions: a page costs at most {max(large.values()) / 10:.1f} k instructions")


def test_postgres_walks_along_indexes_too(home, clock, postgres):
    """Of 50,000 versions no page sorts, hashes or reads all of them."""
    with Catalog.open(Settings(home=home, catalog_url=postgres), clock=clock) as catalog:
        _grow(catalog, 0, 5000, clock)
        with catalog.core.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("ANALYZE"))
        cursor = catalog.search(sort="newest", limit=10).next
        for question in (
            {},
            {"sort": "-name"},
            {"tenant": "t3"},
            {"tenant": "t3", "project": "p3"},
            {"sort": "newest"},
            {"sort": "newest", "tenant": "t3"},
            {"sort": "newest", "limit": 10, "cursor": cursor},
            {"sort": "oldest", "since": clock.now},
        ):
            plan = _plan(catalog, lambda q=question: catalog.search(**{"limit": 20, **q}))
            assert "Index" in plan, (question, plan)
            assert not [word for word in ("Sort", "Hash", "Seq Scan on versions") if word in plan], (question, plan)


def _plan(catalog: Catalog, ask) -> str:
    """How Postgres would run the first SELECT of a question."""
    seen = []

    def before(connection, cursor, statement, parameters, _context, _many):
        if statement.startswith("SELECT assets") or statement.startswith("SELECT tags"):
            seen.append((statement, parameters))

    sa.event.listen(catalog.core.engine, "before_cursor_execute", before)
    try:
        ask()
    finally:
        sa.event.remove(catalog.core.engine, "before_cursor_execute", before)
    with catalog.core.read() as connection:
        return "\n".join(row[0] for row in connection.exec_driver_sql("EXPLAIN " + seen[0][0], seen[0][1]))


# ---- search


def test_search(both, clock):
    publish(both, HELMET, b"1", recipe="web")
    clock.later(hours=1)
    middle = clock.now
    publish(both, ARM, b"2", recipe="web-lite")
    publish(both, CAR, b"3", recipe="web")
    publish(both, HELMET, b"4", recipe="web-lite", channel="beta")
    both.tag(HELMET, ["hero", "shiny"], "ada")
    both.tag(ARM, ["hero"], "ada")
    h, a, c = str(HELMET), str(ARM), str(CAR)
    for question, found in [
        ({}, [a, h, c]),
        ({"text": "hel"}, [h]),
        ({"text": "ROBOTS"}, [a, h]),
        ({"text": "  car  zeta "}, [c]),
        ({"text": "ĥ\u00e9lmet"}, [h]),  # accents
        ({"text": "ｈｅｌｍｅｔ"}, [h]),  # full width
        ({"text": "he\u0301lmet"}, [h]),  # another Unicode form
        ({"text": "%"}, []),
        ({"text": "h_lmet"}, []),
        ({"text": "'; drop table assets --"}, []),
        ({"text": "日本"}, []),
        ({"text": "ar\0m"}, [a]),
        ({"tags": ["hero"]}, [a, h]),
        ({"tags": ["shiny", "hero"]}, [h]),
        ({"tags": ["hero"], "sort": "newest"}, [h, a]),
        ({"tags": ["hero"], "tenant": "zeta"}, []),
        ({"tags": ["none"]}, []),
        ({"tenant": "acme"}, [a, h]),
        ({"tenant": "acme", "project": "cars"}, []),
        ({"recipe": "web"}, [c]),  # of the newest version
        ({"created_by": "tester", "text": "arm"}, [a]),
        ({"since": middle}, [a, h, c]),
        ({"until": middle}, []),
        ({"since": middle, "sort": "newest"}, [h, c, a]),
    ]:
        assert names(both.search(**question)) == found, question
    info = both.search("helmet")[0]
    assert (info.latest, info.channels, info.tags, info.recipe) == (
        2,
        {"live": 1, "beta": 2},
        ("hero", "shiny"),
        "web-lite",
    )
    assert [(p.tenant, p.project, p.assets) for p in both.projects()] == [("acme", "robots", 2), ("zeta", "cars", 1)]
    assert [p.project for p in both.projects("zeta")] == ["cars"]
    assert "<table>" in both.search()._repr_html_()
    assert "<p>nothing</p>" in both.search("zzz")._repr_html_()


def test_assets_without_a_living_version_are_left_out(both):
    publish(both, HELMET, b"1", channel=None)
    publish(both, ARM, b"2", channel=None)
    both.delete_version(HELMET, 1, by="ada", why="wrong")
    assert names(both.search()) == [str(ARM)]
    assert names(both.search(deleted=True)) == [str(ARM), str(HELMET)]
    assert names(both.assets()) == [str(ARM), str(HELMET)]
    assert [v.deleted_at is not None for v in both.versions(HELMET)] == [True]
    assert both.versions(HELMET, deleted=False) == []
    assert both.show(HELMET).versions[0].deleted_at is not None
    assert both.latest_versions()[0].asset == ARM
    assert len(both.latest_versions()) == 1


# ---- tags


def test_tags_are_history_and_audited(both):
    publish(both, HELMET, b"1")
    assert both.tag(HELMET, ["hero", "shiny"], "ada", "for the fair") == ("hero", "shiny")
    assert both.tag(HELMET, ["hero"], "ada") == ("hero", "shiny")  # saying it again is harmless
    assert both.untag(HELMET, ["shiny", "absent"], "bob", "dull now") == ("hero",)
    assert both.tags(HELMET) == ("hero",)
    with both.core.read() as connection:
        m = s.tag_moves.c
        rows = connection.execute(sa.select(m.tag, m.action, m.moved_by, m.why).order_by(m.seq)).all()
    assert [tuple(row) for row in rows] == [
        ("hero", "add", "ada", "for the fair"),
        ("shiny", "add", "ada", "for the fair"),
        ("shiny", "remove", "bob", "dull now"),
    ]
    trail = [
        (row.who, row.action, row.why, row.detail) for row in both.audit(subject=str(HELMET)) if "tag" in row.action
    ]
    assert trail == [
        ("bob", "untag", "dull now", {"tags": ["shiny"]}),
        ("ada", "tag", "for the fair", {"tags": ["hero", "shiny"]}),
    ]
    with pytest.raises(NotFound):
        both.tag(ARM, ["hero"], "ada")
    for bad in ("Hero", "a b", "", "x" * 65, "é"):
        with pytest.raises(NameRefused, match="tag name"):
            both.tag(HELMET, [bad], "ada")
    with pytest.raises(UsageError, match="may have 64"):
        both.tag(HELMET, [f"t{n}" for n in range(64)], "ada")


# ---- dependencies


def needing(catalog, asset, content, *on, **options):
    return catalog.publish(replace(publication(catalog, asset, content, **options), dependencies=on))


def test_dependencies_both_ways(both):
    publish(both, LEG, b"leg 1")
    publish(both, LEG, b"leg 2")
    needing(both, ARM, b"arm 1", Dependency(LEG, 1, "rig"))
    needing(both, HELMET, b"helmet 1", Dependency(ARM), Dependency(LEG, 2))
    assert both.get_version(HELMET).dependencies == (Dependency(ARM), Dependency(LEG, 2))

    direct = both.depends_on(HELMET)
    assert [(n.on_asset, n.on_number, n.kind, n.depth) for n in direct] == [(ARM, None, "uses", 1), (LEG, 2, "uses", 1)]
    deep = both.depends_on(HELMET, transitive=True)
    assert [(n.asset, n.on_asset, n.on_number, n.depth) for n in deep] == [
        (HELMET, ARM, None, 1),
        (HELMET, LEG, 2, 1),
        (ARM, LEG, 1, 2),
    ]
    assert [(n.asset, n.number) for n in both.dependents(LEG)] == [(ARM, 1), (HELMET, 1)]
    assert [n.asset for n in both.dependents(LEG, 1)] == [ARM]
    assert [(n.asset, n.depth) for n in both.dependents(LEG, 1, transitive=True)] == [(ARM, 1), (HELMET, 2)]
    assert both.dependents(HELMET) == []
    assert both.depends_on(LEG) == []

    # A newer version that needs nothing: the old one matters as long as a channel points at it.
    needing(both, ARM, b"arm 2", channel=None)
    assert [(n.asset, n.number) for n in both.dependents(LEG, 1)] == [(ARM, 1)]
    both.move_channel(ARM, "live", 2, "ada", "done")
    assert both.dependents(LEG, 1) == []
    assert [n.asset for n in both.dependents(LEG, 1, old=True)] == [ARM]
    view = both.show(LEG)
    assert [(n.asset, n.number) for n in view.dependents] == [(HELMET, 1)]
    with pytest.raises(Conflict, match="helmet"):
        both.delete_version(LEG, 2, by="ada", why="no more")


def test_cycles_end(both):
    for asset in (HELMET, ARM, LEG):
        publish(both, asset, b"first " + asset.name.encode())
    needing(both, HELMET, b"h", Dependency(ARM))
    needing(both, ARM, b"a", Dependency(LEG))
    needing(both, LEG, b"l", Dependency(HELMET))
    around = [(HELMET, ARM, 1), (ARM, LEG, 2), (LEG, HELMET, 3)]
    assert [(n.asset, n.on_asset, n.depth) for n in both.depends_on(HELMET, transitive=True)] == around
    up = [(n.asset, n.on_asset, n.depth) for n in both.dependents(HELMET, transitive=True)]
    assert up == [(LEG, HELMET, 1), (ARM, LEG, 2), (HELMET, ARM, 3)]


def test_a_long_chain(both):
    chain = [AssetRef("acme", "chain", f"link{n:03}") for n in range(60)]
    publish(both, chain[0], b"0")
    for n, (below, link) in enumerate(itertools.pairwise(chain)):
        needing(both, link, b"%d" % (n + 1), Dependency(below), files=1)
    assert [n.depth for n in both.dependents(chain[0], transitive=True)] == list(range(1, 60))
    assert len(both.depends_on(chain[-1], transitive=True)) == 59


# ---- show and diff


def test_show(both, clock):
    publish(both, HELMET, b"1")
    publish(both, HELMET, b"2", channel="beta")
    both.tag(HELMET, ["hero"], "ada")
    both.place_hold(HELMET, 1, until=clock() + timedelta(days=1), by="ada", why="fair")
    both.place_hold(HELMET, None, until=clock() + timedelta(hours=1), by="ada", why="soon over")
    view = both.show(HELMET)
    assert (view.latest, view.channels, view.tags) == (2, {"beta": 2, "live": 1}, ("hero",))
    assert [(h.number, h.why) for h in view.holds] == [(None, "soon over"), (1, "fair")]
    assert [(v.number, v.channels, v.held) for v in view.versions] == [(2, ("beta",), True), (1, ("live",), True)]
    clock.later(hours=2)
    assert [v.held for v in both.show(HELMET).versions] == [False, True]
    assert both.show(HELMET, versions=1).to_json()["versions"][0]["number"] == 2
    assert "helmet" in view._repr_html_()
    with pytest.raises(NotFound, match="bake it first"):
        both.show(ARM)


def test_diff(both):
    one = publication(both, HELMET, b"one", files=3)
    both.publish(one)
    two = publication(both, HELMET, b"two", files=2, recipe="web-lite")
    new = Finding("x.new", Severity.WARNING, "/<b>", "<script>alert(1)</script>")
    loss = Loss("extras", "/nodes/1", "gone")
    artifacts = (one.artifacts[0], replace(two.artifacts[1], metrics={"bytes": 1.0, "psnr_db": 40.0}))
    two = replace(
        two,
        artifacts=artifacts,
        tools={"encoder": "1.1", "other": "3"},
        engine="godot-4.6",
        findings=(*two.findings, new),
        losses=(loss,),
        metrics={"triangles": 6.0},
    )
    both.publish(two)
    found = both.diff(HELMET, 1, 2)
    assert found.fields["recipe"] == ("web", "web-lite")
    assert found.fields["engine"] == (None, "godot-4.6")
    assert found.tools == {"encoder": ("1.0", "1.1"), "other": (None, "3"), "packer": ("2.1", None)}
    assert [(f.name, f.change) for f in found.sources] == [("helmet.glb", "changed")]
    assert [(f.name, f.change) for f in found.artifacts] == [("lod1.glb", "changed"), ("lod2.glb", "removed")]
    assert found.artifacts[0].metrics["psnr_db"] == (None, 40.0)
    assert found.artifacts[1].percent is None
    assert (found.same_artifacts, found.same_bytes) == (1, False)
    assert found.metrics == {"source_bytes": (3.0, None), "triangles": (12.0, 6.0)}
    assert (found.findings_added, found.findings_removed) == ((new,), ())
    assert (found.losses_added, found.losses_removed) == ((loss,), one.losses)
    assert "<script>" not in found._repr_html_()
    assert found.to_json()["same_bytes"] is False
    back = both.diff(HELMET, "live", 1)
    assert back.findings_removed == (new,)
    same = both.diff(HELMET, 2, 2)
    assert (same.rows(), same.same_bytes) == ([], True)
    assert "no difference" in same._repr_html_()
    with pytest.raises(NotFound):
        both.diff(HELMET, 1, 9)
