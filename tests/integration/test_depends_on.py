"""Dependencies from the front door to the catalog, and the events of a bake."""

from __future__ import annotations

import pytest

import cloudbaker as cb
from cloudbaker.errors import NameRefused, NotFound
from cloudbaker.flows.direct import run_directly
from cloudbaker.model import AssetRef, Dependency, RunState
from cloudbaker.tasks.context import BakeRequest
from cloudbaker.tasks.services import direct_services
from cloudbaker.testing import models


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "wheel.glb"
    path.write_bytes(models.box())
    cb.bake(path, mode="direct", previews=False)
    return AssetRef.parse("wheel")


def test_what_is_needed_is_kept_until_something_else_is_said(tmp_path, wheel):
    path = tmp_path / "car.glb"
    path.write_bytes(models.animated())
    common = {"mode": "direct", "previews": False}
    first = cb.bake(path, depends_on=["wheel@1"], **common)
    assert first.version.dependencies == (Dependency(wheel, 1),)
    assert cb.bake(path, **common).state is RunState.UNCHANGED
    # The same bytes with other needs are another version.
    second = cb.bake(path, depends_on=["wheel"], **common)
    assert (second.version.number, second.version.dependencies) == (2, (Dependency(wheel),))
    assert second.version.bake_key == first.version.bake_key
    assert cb.bake(path, depends_on=["default/wheel"], **common).state is RunState.UNCHANGED
    third = cb.bake(path, depends_on=[], **common)
    assert (third.version.number, third.version.dependencies) == (3, ())
    with pytest.raises(NotFound, match="missing"):
        cb.bake(path, depends_on=["missing"], **common)
    with pytest.raises(NameRefused, match="ASSET@NUMBER"):
        cb.bake(path, depends_on=["wheel@live"], **common)
    with cb.catalog() as catalog:
        assert [n.number for n in catalog.dependents(wheel, old=True)] == [1, 2]
        assert catalog.dependents(wheel) == []


def test_a_rebake_keeps_what_is_needed(tmp_path, wheel):
    path = tmp_path / "car.glb"
    path.write_bytes(models.animated())
    first = cb.bake(path, depends_on=["wheel@1"], mode="direct", previews=False).version
    with direct_services(previews=False) as services:
        request = BakeRequest(
            first.asset, recipe="web-lite", sources=first.sources, replaces=first.number, previews=False
        )
        assert run_directly(services.context(request, run_id="again", flow="rebake")) is RunState.COMPLETED
        version = services.catalog.get_version(first.asset)
    assert (version.number, version.dependencies) == (2, (Dependency(wheel, 1),))


def test_a_bake_tells_its_story_in_order(tmp_path, wheel):
    with cb.catalog() as catalog:
        told = catalog.events(asset=wheel)[::-1]
        run = catalog.get_version(wheel).run_id
    assert {event.run_id for event in told} == {run}
    stages = [(e.kind.removeprefix("step."), e.payload["stage"]) for e in told if e.kind.startswith("step.")]
    names = ("ingest", "validate", "optimize", "preview", "package", "publish")
    assert stages == [(kind, stage) for stage in names for kind in ("started", "completed")]
    kinds = [event.kind for event in told if not event.kind.startswith("step.")]
    assert kinds == ["asset.uploaded", "asset.indexed", "channel.moved"]
    uploaded = next(event for event in told if event.kind == "asset.uploaded")
    assert [s["name"] for s in uploaded.payload["sources"]] == ["wheel.glb"]
    assert uploaded.payload["files"] == 1
