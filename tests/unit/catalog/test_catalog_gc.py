"""Clean-up: finds everything that is left over, says so first, and takes nothing that anybody needs."""

from __future__ import annotations

import shutil
import threading
from datetime import UTC, datetime, timedelta

import pytest

from cloudbaker.catalog import gc as collector
from cloudbaker.catalog.core import Catalog, UploadKey
from cloudbaker.catalog.records import Retention
from cloudbaker.errors import StoreError
from cloudbaker.model import Role, Run, RunState, Step, StepState
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import broken, publish

NOW = timedelta(0)


def kinds(report) -> list[str]:
    return [item.kind for item in report.items]


def test_a_healthy_catalog_has_nothing_to_clean(catalog, helmet, clock):
    publish(catalog, helmet, b"x")
    clock.later(days=400)
    assert kinds(catalog.gc(plan=False, grace=NOW)) == []
    assert catalog.read_blob(catalog.get_version(helmet).artifacts[0].blob) == b"0:x"


def test_every_kind_is_found_planned_removed_and_then_gone(catalog, helmet, clock):
    publish(catalog, helmet, b"kept")
    lonely = catalog.put_bytes(b"lonely", "acme", "inbox")
    claim = catalog.upload("acme", "vault")
    claim.write(b"claimed")
    key, _ = claim._claim(claim._writer.sha256(), claim.size)
    claim._writer.commit(key)
    claim._writer.close()
    unfinished = catalog.store.writer()
    unfinished.write(b"unfinished")
    catalog.store.path("public/stray.glb").write_bytes(b"stray")
    catalog.start_run(Run("run-1", "bake", helmet, "web", "direct", clock(), "tester"))

    assert kinds(catalog.gc()) == []
    clock.later(hours=25)
    plan = catalog.gc()
    assert sorted(kinds(plan)) == ["abandoned-run", "expired-upload", "orphan", "unfinished", "unreferenced"]
    assert plan.bytes == len(b"lonely" + b"stray" + b"unfinished")
    assert catalog.gc() == plan
    assert catalog.read_blob(lonely) == b"lonely"

    done = catalog.gc(plan=False)
    assert sorted(kinds(done)) == sorted(kinds(plan))
    assert {item.key for item in done.items} == {item.key for item in plan.items}
    unfinished.close()
    assert catalog.gc(plan=False, grace=NOW).items == ()
    wanted = [
        b.storage_key for v in catalog.versions(helmet) for b in (v.sources[0].blob, *(a.blob for a in v.artifacts))
    ]
    assert sorted(info.key for info in catalog.store.list()) == sorted(wanted)
    run = catalog.get_run("run-1")
    assert run.state is RunState.FAILED
    assert run.error is not None
    assert "killed" in run.error["message"]
    audited = catalog.sql("SELECT tenant, detail FROM audit WHERE action = 'gc' ORDER BY seq").fetchall()
    assert audited == [
        ("acme", '{"expired-upload":1,"unreferenced":1,"bytes":6}'),
        (None, '{"orphan":1,"bytes":5}'),
        (None, '{"unfinished":1,"bytes":10}'),
        ("acme", '{"abandoned-run":1,"bytes":0}'),
    ]


def test_a_run_that_shows_signs_of_life_is_not_abandoned(catalog, helmet, clock):
    catalog.start_run(Run("run-1", "bake", helmet, "web", "direct", clock(), "tester"))
    clock.later(hours=20)
    begun = clock()
    catalog.record_step(Step("run-1", "optimize", 1, StepState.DONE, begun, clock()))
    clock.later(hours=20)
    assert catalog.gc(plan=False).items == ()
    clock.later(hours=5)
    assert kinds(catalog.gc(plan=False)) == ["abandoned-run"]
    assert catalog.gc(plan=False).items == ()


def test_clean_up_that_dies_before_it_removes_is_finished_by_the_next(catalog, clock, monkeypatch):
    blob = catalog.put_bytes(b"x", "acme", "vault")
    clock.later(hours=25)
    monkeypatch.setattr(collector._Collector, "_remove", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        catalog.gc(plan=False)
    monkeypatch.undo()
    assert catalog.store.stat(blob.storage_key) is not None
    assert kinds(catalog.gc(grace=NOW)) == ["pending-deletion"]
    again = catalog.put_bytes(b"x", "acme", "vault")
    assert again.storage_key != blob.storage_key
    assert kinds(catalog.gc(plan=False, grace=NOW)) == ["pending-deletion"]
    assert catalog.store.stat(blob.storage_key) is None
    assert catalog.read_blob(again) == b"x"


def test_an_object_put_after_its_claim_was_given_up_is_an_orphan(catalog, clock):
    """Its upload slept through the lease, put the object, and was killed before it could take it away again."""
    hint = UploadKey("run-1", Role.MODEL_3D, "a.glb")
    claim = catalog.upload("acme", "public", key_hint=hint)
    claim.write(b"sleepy")
    key, _ = claim._claim(claim._writer.sha256(), claim.size)
    clock.later(hours=25)
    assert kinds(catalog.gc(plan=False, grace=timedelta(days=2))) == ["expired-upload"]
    claim._writer.commit(key)
    claim._writer.close()
    assert kinds(catalog.gc(plan=False, grace=timedelta(days=2))) == []
    assert kinds(catalog.gc(plan=False, grace=NOW)) == ["orphan"]
    assert catalog.store.stat(key) is None
    assert catalog.put_bytes(b"sleepy", "acme", "public", key_hint=hint).storage_key != key


def test_files_that_cloud_baker_can_not_have_put_there_are_left_alone(catalog, tmp_path):
    stray = catalog.store.root / "Read Me.txt"
    stray.write_text("by hand")
    (catalog.store.root / "Übung").mkdir()
    (catalog.store.root / "Übung" / "x").write_text("by hand")
    report = catalog.gc(plan=False, grace=NOW)
    assert [(item.kind, item.key) for item in report.items] == [("foreign", "Read Me.txt"), ("foreign", "Übung/x")]
    assert report.bytes == 0
    assert stray.read_text() == "by hand"


def test_missing_bytes_are_reported_and_nothing_is_made_worse(catalog, helmet):
    version = publish(catalog, helmet, b"x").version
    path = catalog.blob_path(version.artifacts[0].blob)
    assert path is not None
    data = path.read_bytes()
    path.unlink()
    report = catalog.gc(plan=False, grace=NOW)
    assert [item.key for item in report.missing] == [version.artifacts[0].blob.storage_key]
    assert report.bytes == 0
    assert catalog.get_version(helmet) == version
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_many_are_cleaned_in_batches(home, clock, monkeypatch):
    monkeypatch.setattr(collector, "_BATCH", 3)
    with Catalog.open(Settings(home=home), clock=clock, lease=NOW) as catalog:
        for n in range(10):
            catalog.put_bytes(b"%d" % n, "acme", "inbox")
            catalog.store.path(f"inbox/acme/stray-{n}").write_bytes(b"stray")
        clock.now = datetime.now(UTC) + timedelta(hours=1)
        report = catalog.gc(plan=False, grace=NOW)
        assert sorted(kinds(report)) == ["orphan"] * 10 + ["unreferenced"] * 10
        assert list(catalog.store.list()) == []
        assert catalog.gc(grace=NOW).items == ()


# ---- a store that fails


class Faulty:
    """A store whose n-th call fails, or all calls of one kind; each object listed is a call."""

    def __init__(self, store, *, at: int | None = None, verb: str = "") -> None:
        self.store, self.at, self.verb, self.calls = store, at, verb, 0
        self._lock = threading.Lock()

    def _call(self, verb: str) -> None:
        with self._lock:
            n, self.calls = self.calls, self.calls + 1
        if n == self.at or verb == self.verb:
            raise StoreError(f"call {n}, {verb}, failed")

    def delete(self, key: str) -> bool:
        self._call("delete")
        return self.store.delete(key)

    def stat(self, key: str):
        self._call("stat")
        return self.store.stat(key)

    def drop_unfinished(self, name: str) -> bool:
        self._call("drop_unfinished")
        return self.store.drop_unfinished(name)

    def list(self, prefix: str = ""):
        for info in self.store.list(prefix):
            self._call("list")
            yield info

    def unfinished(self):
        self._call("unfinished")
        yield from self.store.unfinished()

    def __getattr__(self, name: str):
        return getattr(self.store, name)


def litter(catalog, helmet, clock) -> None:
    """Some of everything that clean-up is there for."""
    catalog.set_retention("acme", Retention(delete_after_days=1, keep_last=1), by="ada", why="tests")
    for content in (b"one", b"two", b"three"):
        publish(catalog, helmet, content)
    catalog.put_bytes(b"lonely", "acme", "inbox")
    writer = catalog.store.writer()
    writer.write(b"unfinished")
    catalog.store.path("public/stray.glb").write_bytes(b"stray")
    clock.later(days=2)


def test_a_store_that_fails_at_any_call_costs_nothing_but_another_clean_up(home, clock, helmet, tell):
    with Catalog.open(Settings(home=home), clock=clock) as catalog:
        litter(catalog, helmet, clock)

    def ended(n: int | None) -> tuple[int, list[str], list[str]]:
        """Calls of a clean-up whose n-th call fails; what it failed at; what is left when the next has run."""
        copy = home.with_name(f"home-{n}")
        shutil.copytree(home, copy)
        with Catalog.open(Settings(home=copy), clock=clock) as catalog:
            good, faulty = catalog.store, Faulty(catalog.store, at=n)
            catalog.store = faulty
            report = catalog.gc(plan=False, grace=NOW)
            catalog.store = good
            assert broken(catalog) == []
            catalog.gc(plan=False, grace=NOW)
            assert broken(catalog) == []
            assert catalog.gc(grace=NOW).items == ()
            left = sorted(info.key for info in catalog.store.list())
            return faulty.calls, [failure.verb for failure in report.failed], left

    calls, failed, left = ended(None)
    assert failed == []
    told = set()
    for n in range(calls):
        _, failed, also_left = ended(n)
        assert len(failed) == 1, n
        assert also_left == left, n
        told.update(failed)
    assert told == {"list", "delete", "list unfinished uploads of", "drop"}
    tell(f"clean-up survived a failure at each of {calls} calls of its store")


def test_a_store_that_is_down_is_not_asked_a_thousand_times(home, clock, monkeypatch):
    monkeypatch.setattr(collector, "_BATCH", 5)
    with Catalog.open(Settings(home=home), clock=clock) as catalog:
        for n in range(20):
            catalog.put_bytes(b"%d" % n, "acme", "inbox")
        clock.later(days=2)
        good, catalog.store = catalog.store, Faulty(catalog.store, verb="delete")
        report = catalog.gc(plan=False)
        assert kinds(report) == ["unreferenced"] * 20
        assert [f.verb for f in report.failed] == ["delete"] * 5
        assert report.failed[0].error == "CB6301: call 20, delete, failed"
        catalog.store = good
        assert catalog.quota("acme").reserved_bytes == 0, "given up is given up"
        assert kinds(catalog.gc(plan=False)) == ["pending-deletion"] * 20
        assert list(catalog.store.list()) == []


def test_one_object_that_can_not_be_removed_holds_up_no_other(home, clock, monkeypatch):
    monkeypatch.setattr(collector, "_BATCH", 2)
    with Catalog.open(Settings(home=home), clock=clock) as catalog:
        blobs = sorted(catalog.put_bytes(b"%d" % n, "acme", "inbox").storage_key for n in range(7))
        clock.later(days=2)
        delete = catalog.store.delete

        def stuck(key: str) -> bool:
            if key == blobs[0]:
                raise StoreError("not this one")
            return delete(key)

        monkeypatch.setattr(catalog.store, "delete", stuck)
        assert [f.key for f in catalog.gc(plan=False).failed] == [blobs[0]]
        assert [i.key for i in catalog.gc(plan=False, grace=NOW).items] == [blobs[0]]
        assert [info.key for info in catalog.store.list()] == [blobs[0]]


def test_a_list_that_breaks_off_calls_nothing_missing(catalog, helmet, clock):
    publish(catalog, helmet, b"x")
    catalog.store = Faulty(catalog.store, verb="list")
    report = catalog.gc(plan=False)
    catalog.store = catalog.store.store
    assert (report.items, [f.verb for f in report.failed]) == ((), ["list"])


def test_progress_is_told(catalog, helmet, clock):
    litter(catalog, helmet, clock)
    told = []
    catalog.gc(plan=False, grace=NOW, progress=lambda what, count: told.append((what, count)))
    assert ("versions deleted", 2) in told
    assert {what for what, _ in told} == {"versions deleted", "blobs given up", "objects looked at", "objects removed"}
