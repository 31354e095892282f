"""Retention, holds and deletion: what goes by age, what stays whatever its age, and what a deleted version still is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.records import Hold, Retention
from cloudbaker.catalog.retention import PRESETS
from cloudbaker.errors import CatalogError, InUse, NameRefused, NotFound, UsageError
from cloudbaker.model import AssetRef, Dependency
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import broken, publication, publish

NOW = timedelta(0)
WHO = {"by": "ada", "why": "tests"}


@pytest.fixture(params=["sqlite", "postgres"])
def catalog(request, home, clock):
    """On either database: these are the rules that both have to keep."""
    url = request.getfixturevalue("postgres") if request.param == "postgres" else ""
    with Catalog.open(Settings(home=home, catalog_url=url), clock=clock) as opened:
        yield opened
        assert broken(opened) == []


def gone(report) -> list[str]:
    return [item.key for item in report.items if item.kind == "expired-version"]


def versions(catalog, asset, count: int, *, channel: str | None = "live") -> None:
    for n in range(1, count + 1):
        publish(catalog, asset, b"%s %d" % (str(asset).encode(), n), channel=channel)


def live(catalog, asset) -> list[int]:
    return [v.number for v in catalog.versions(asset, sort="oldest") if v.deleted_at is None]


# ---- deletion by hand


def test_a_deleted_version_is_still_known_and_its_bytes_go_with_the_next_clean_up(catalog, helmet, clock):
    versions(catalog, helmet, 2)
    before = catalog.get_version(helmet, 1)
    assert catalog.delete_version(helmet, 1, by="ada", why="a wrong texture") is True
    assert catalog.delete_version(helmet, 1, by="bob", why="again") is False, "saying it again changes nothing"

    after = catalog.get_version(helmet, 1)
    assert after.deleted_at is not None
    assert replace(after, deleted_at=None) == before
    assert catalog.find_version(helmet, before.bake_key) is None
    clock.later(hours=25)
    assert {i.kind for i in catalog.gc(plan=False).items} == {"unreferenced"}
    for read in (catalog.read_blob, catalog.open_blob):
        with pytest.raises(NotFound, match="were given up on .*: choose another version"):
            read(before.artifacts[0].blob)
    with pytest.raises(NotFound, match="no object"):
        catalog.read_blob(replace(before.artifacts[0].blob, storage_key="vault/acme/never"))
    assert catalog.read_blob(catalog.get_version(helmet, 2).artifacts[0].blob)
    deleted = catalog.sql("SELECT who, subject, why FROM audit WHERE action = 'delete-version'").fetchall()
    assert deleted == [("ada", f"{helmet}@1", "a wrong texture")]


def test_bytes_that_versions_share_stay_until_the_last_one_goes(catalog, helmet, clock):
    arm = AssetRef("acme", "arms", "arm")
    first = publish(catalog, helmet, b"same", channel=None).version
    publish(catalog, arm, b"same", channel=None)
    used = catalog.quota("acme").used_bytes
    catalog.delete_version(helmet, 1, **WHO)
    assert catalog.quota("acme").used_bytes == used
    clock.later(hours=25)
    assert catalog.gc(plan=False).items == ()
    assert catalog.read_blob(first.sources[0].blob) == b"same"

    catalog.delete_version(arm, 1, **WHO)
    assert catalog.quota("acme").used_bytes == 0
    assert catalog.gc(plan=False).bytes == used
    assert list(catalog.store.list()) == []
    # The project that was charged is the one that is credited, not the one whose version went last.
    by_project = "SELECT split_part(asset, '/', 2) AS p, sum(amount) FROM usage WHERE kind = 'stored_bytes' GROUP BY p"
    assert catalog.sql(by_project).fetchall() == [("robots", 0)]


def test_what_is_published_again_after_its_deletion_is_a_new_version(catalog, helmet):
    first = publish(catalog, helmet, b"x", channel=None)
    catalog.delete_version(helmet, 1, **WHO)
    again = publish(catalog, helmet, b"x", channel=None)
    assert (again.created, again.version.number) == (True, 2)
    assert again.version.artifacts == first.version.artifacts, "its bytes had not been collected yet, and are used"


def test_what_is_needed_is_not_deleted_and_the_error_says_what_to_do(catalog, helmet, clock):
    versions(catalog, helmet, 1)
    catalog.place_hold(helmet, 1, by="bob", why="a lawsuit")
    scene = AssetRef("acme", "robots", "scene")
    pinned = publication(catalog, scene, b"scene", channel=None)
    catalog.publish(replace(pinned, dependencies=(Dependency(helmet, 1, "model"),)))
    with pytest.raises(InUse, match=r"channel 'live'.*a lawsuit.*scene@1 is pinned") as refused:
        catalog.delete_version(helmet, 1, **WHO)
    assert len(refused.value.facts["reasons"]) == 3

    publish(catalog, helmet, b"newer")
    catalog.release_hold(helmet, 1, **WHO)
    with pytest.raises(InUse, match="delete that one first"):
        catalog.delete_version(helmet, 1, **WHO)
    catalog.delete_version(scene, 1, **WHO)
    assert catalog.delete_version(helmet, 1, **WHO)


@pytest.mark.parametrize("number", [0, 2, -1])
def test_a_version_that_is_not_there_is_not_found(catalog, helmet, number):
    versions(catalog, helmet, 1)
    with pytest.raises(NotFound):
        catalog.delete_version(helmet, number, **WHO)
    with pytest.raises(NotFound):
        catalog.delete_version(AssetRef("acme", "robots", "nobody"), 1, **WHO)


def test_no_channel_moves_to_a_deleted_version(catalog, helmet):
    versions(catalog, helmet, 2)
    catalog.delete_version(helmet, 1, **WHO)
    with pytest.raises(NotFound, match="deleted"):
        catalog.move_channel(helmet, "live", 1, "ada", "rollback")


# ---- by policy


def test_nothing_goes_without_a_policy(catalog, helmet, clock):
    versions(catalog, helmet, 5, channel=None)
    clock.later(days=4000)
    catalog.set_retention("acme", PRESETS["keep"], **WHO)
    catalog.set_retention("zeta", PRESETS["render"], **WHO)
    assert catalog.gc(plan=False).items == ()


def test_versions_go_by_age_and_what_is_needed_stays(catalog, helmet, clock):
    versions(catalog, helmet, 6, channel=None)
    catalog.move_channel(helmet, "live", 2, "ada", "the good one")
    catalog.place_hold(helmet, 3, **WHO)
    catalog.set_retention("acme", Retention(delete_after_days=30, keep_last=2), **WHO)
    clock.later(days=29)
    assert catalog.gc().items == ()
    clock.later(days=2)
    plan = catalog.gc()
    assert gone(plan) == [f"{helmet}@1", f"{helmet}@4"]
    done = catalog.gc(plan=False)
    assert done.items == plan.items
    assert live(catalog, helmet) == [2, 3, 5, 6]
    assert catalog.gc().items == ()
    why = catalog.sql("SELECT who, why FROM audit WHERE action = 'delete-version'").fetchall()
    assert why == [("cloudbaker", "retention: older than 30 days")] * 2

    catalog.release_hold(helmet, 3, **WHO)
    assert gone(catalog.gc(plan=False)) == [f"{helmet}@3"]


def test_the_newest_that_are_kept_are_those_that_are_not_deleted(catalog, helmet, clock):
    versions(catalog, helmet, 4, channel=None)
    catalog.delete_version(helmet, 4, **WHO)
    catalog.set_retention("acme", Retention(delete_after_days=1, keep_last=2), **WHO)
    clock.later(days=2)
    assert gone(catalog.gc(plan=False)) == [f"{helmet}@1"]
    assert live(catalog, helmet) == [2, 3]


def test_a_pinned_version_goes_after_what_needs_it(catalog, helmet, clock):
    """In one clean-up, and the plan says so; while something that stays needs it, it stays."""
    scene, film = AssetRef("acme", "robots", "scene"), AssetRef("acme", "robots", "film")
    publish(catalog, helmet, b"helmet", channel=None)
    of_scene = publication(catalog, scene, b"scene", channel=None)
    catalog.publish(replace(of_scene, dependencies=(Dependency(helmet, 1, "model"),)))
    of_film = publication(catalog, film, b"film")
    catalog.publish(replace(of_film, dependencies=(Dependency(scene, 1, "scene"),)))
    catalog.set_retention("acme", PRESETS["render"], **WHO)
    clock.later(days=8)
    assert catalog.gc().items == (), "the film is live, and needs the scene, which needs the helmet"

    publish(catalog, film, b"other film")
    clock.later(days=1)
    plan = catalog.gc()
    assert gone(plan) == [f"{film}@1", f"{scene}@1", f"{helmet}@1"]
    assert {(i.kind, i.key) for i in catalog.gc(plan=False).items} == {(i.kind, i.key) for i in plan.items}


def test_holds_end_by_themselves_and_hold_the_whole_asset_if_told(catalog, helmet, clock):
    versions(catalog, helmet, 3, channel=None)
    catalog.set_retention("acme", PRESETS["render"], **WHO)
    placed = clock()
    catalog.place_hold(helmet, until=placed + timedelta(days=20), by="ada", why="awards")
    assert [(h.asset, h.number, h.why) for h in catalog.holds(helmet)] == [(helmet, None, "awards")]
    publish(catalog, helmet, b"a later one", channel=None)
    clock.later(days=19)
    assert catalog.gc(plan=False).items == ()
    clock.later(days=2)
    assert catalog.holds() == []
    assert len(gone(catalog.gc(plan=False))) == 4
    assert live(catalog, helmet) == []


def test_a_hold_is_replaced_by_a_new_one_and_released_once(catalog, helmet, clock):
    versions(catalog, helmet, 1)
    catalog.place_hold(helmet, 1, until=clock() + timedelta(days=1), **WHO)
    catalog.place_hold(helmet, 1, by="bob", why="for ever")
    [hold] = catalog.holds(tenant="acme")
    assert hold == Hold(helmet, 1, None, "bob", "for ever", hold.placed_at)
    assert catalog.holds(tenant="zeta") == []
    assert catalog.release_hold(helmet, **WHO) is False, "that one was on the version, not on the asset"
    assert catalog.release_hold(helmet, 1, **WHO) is True
    assert catalog.release_hold(helmet, 1, **WHO) is False
    moves = catalog.sql("SELECT action FROM audit WHERE action LIKE '%hold' ORDER BY seq").fetchall()
    assert moves == [("place-hold",), ("place-hold",), ("release-hold",)]


def test_holds_are_refused_that_make_no_sense(catalog, helmet, clock):
    with pytest.raises(NotFound):
        catalog.place_hold(helmet, **WHO)
    versions(catalog, helmet, 2)
    catalog.delete_version(helmet, 1, **WHO)
    for number in (1, 3):
        with pytest.raises(NotFound, match="to hold"):
            catalog.place_hold(helmet, number, **WHO)
    with pytest.raises(UsageError, match="ended before it begins"):
        catalog.place_hold(helmet, 2, until=clock() - timedelta(seconds=1), **WHO)
    with pytest.raises(UsageError, match="zone"):
        catalog.place_hold(helmet, 2, until=(clock() + timedelta(days=9)).replace(tzinfo=None), **WHO)
    assert catalog.holds() == []


@pytest.mark.parametrize(
    "terms",
    [
        {"delete_after_days": 0},
        {"delete_after_days": -7},
        {"delete_after_days": 1.5},
        {"delete_after_days": True},
        {"delete_after_days": "7"},
        {"keep_last": -1},
        {"keep_last": None},
        {"inbox_hours": 0},
        {"inbox_hours": 10**9},
    ],
)
def test_policies_that_make_no_sense_are_refused(terms):
    with pytest.raises(UsageError):
        Retention(**terms)


def test_a_policy_is_set_shown_and_taken_away(catalog):
    with pytest.raises(NotFound):
        catalog.retention("acme")
    catalog.set_retention("acme", PRESETS["render"], **WHO)
    assert catalog.retention("acme") == PRESETS["render"]
    catalog.set_retention("acme", PRESETS["render"], **WHO)
    catalog.set_retention("acme", None, **WHO)
    assert catalog.retention("acme") is None
    changes = catalog.sql("SELECT detail FROM audit WHERE action = 'set-retention' ORDER BY seq").fetchall()
    assert len(changes) == 2, "what is set already is not set again"
    with pytest.raises(NameRefused):
        catalog.set_retention("../etc", None, **WHO)


def test_a_policy_of_a_newer_release_deletes_nothing(catalog, helmet, clock):
    versions(catalog, helmet, 2, channel=None)
    with catalog.core.write() as connection:
        connection.exec_driver_sql(
            """UPDATE tenants SET retention = '{"delete_after_days":1,"keep_last":0,"unless":"x"}'"""
        )
    clock.later(days=400)
    for plan in (True, False):
        with pytest.raises(CatalogError, match="nothing was deleted"):
            catalog.gc(plan=plan)
    assert live(catalog, helmet) == [1, 2]
    catalog.set_retention("acme", None, **WHO)
    assert catalog.gc(plan=False).items == ()


def test_the_inbox_is_kept_as_long_as_the_policy_says(catalog, clock):
    catalog.set_retention("acme", Retention(inbox_hours=2), **WHO)
    catalog.set_retention("zeta", Retention(inbox_hours=100), **WHO)
    inbox = {tenant: catalog.put_bytes(b"x", tenant, "inbox") for tenant in ("acme", "zeta")}
    vault = catalog.put_bytes(b"x", "acme", "vault")
    clock.later(hours=3)
    assert [i.key for i in catalog.gc(plan=False).items] == [inbox["acme"].storage_key]
    clock.later(hours=22)
    assert [i.key for i in catalog.gc(plan=False).items] == [vault.storage_key]
    clock.later(hours=76)
    assert [i.key for i in catalog.gc(plan=False).items] == [inbox["zeta"].storage_key]


def test_a_clock_that_jumps_back_makes_versions_young_and_nothing_worse(catalog, helmet, clock):
    versions(catalog, helmet, 2, channel=None)
    catalog.set_retention("acme", Retention(delete_after_days=1, keep_last=0), **WHO)
    clock.later(days=-30)
    versions(catalog, AssetRef("acme", "robots", "old"), 1, channel=None)
    assert gone(catalog.gc(plan=False)) == []
    clock.later(days=2)
    assert gone(catalog.gc(plan=False)) == ["acme/robots/old@1"]
    clock.later(days=30)
    assert len(gone(catalog.gc(plan=False))) == 2
