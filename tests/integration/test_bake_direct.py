"""The whole way of the data, direct: real stages, real sandbox, real catalog."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

import cloudbaker as cb
from cloudbaker.errors import ContentRejected, LimitExceeded, SourceUnreadable
from cloudbaker.model import Role, RunState
from cloudbaker.tasks.gather import open_source
from cloudbaker.testing import models


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "Thing.glb"
    path.write_bytes(models.textured(256))
    return path


def test_bake_publishes_a_signed_version_and_the_second_time_says_unchanged(home: Path, model: Path) -> None:
    first = cb.bake(model, mode="direct", previews=False)
    assert first.state is RunState.COMPLETED
    assert first.version is not None
    assert first.version.number == 1
    assert first.version.channels == ("live",)
    assert str(first.asset) == "local/default/thing"
    names = {a.name for a in first.version.artifacts}
    assert names == {"model.glb", "lod1.glb", "lod2.glb", "manifest.json"}
    assert all(row["bytes"] <= first.source_bytes for row in first.sizes())

    with cb.catalog() as catalog:
        for artifact in first.version.artifacts:
            data = catalog.read_blob(artifact.blob)  # its hash is checked
            tenant, run, role = artifact.blob.storage_key.split("/")[-4:-1]
            assert (tenant, run, role) == ("local", first.run_id, artifact.role.value)
            assert f".{artifact.blob.sha256[:12]}." in artifact.blob.storage_key
            if artifact.name == "manifest.json":
                manifest = json.loads(data)
                assert manifest["bake_key"] == first.version.bake_key
                assert {f["name"] for f in manifest["files"]} == {"model.glb", "lod1.glb", "lod2.glb"}
        steps = catalog.get_run(first.run_id).steps
        assert [s.stage for s in steps] == ["ingest", "validate", "optimize", "preview", "package", "publish"]
        rows = catalog.sql("select number, size_bytes from versions").fetchall()
        assert rows == [(1, first.version.size_bytes)]

    report = cb.verify("thing@live")
    assert report.ok, report.problems
    assert cb.verify("thing@1").statement.run_id == first.run_id

    second = cb.bake(model, mode="direct", previews=False)
    assert second.state is RunState.UNCHANGED
    assert second.version.number == 1


def test_another_recipe_makes_a_second_version_of_the_same_asset(home: Path, model: Path) -> None:
    cb.bake(model, mode="direct", previews=False)
    second = cb.bake(model, mode="direct", previews=False, recipe="web-lite", change_note="for phones")
    assert second.version.number == 2
    with cb.catalog() as catalog:
        assert catalog.channels(second.asset) == {"live": 2}
        catalog.move_channel(second.asset, "live", 1, by="test", why="rollback")
        assert catalog.get_version(second.asset, "live").number == 1
        assert [v.number for v in catalog.versions(second.asset)] == [2, 1]


def test_gltf_folder_and_zip_bake_to_the_same_model_as_the_glb(home: Path, tmp_path: Path, model: Path) -> None:
    folder = tmp_path / "folder"
    models.write_gltf_folder(model.read_bytes(), folder)
    archive = tmp_path / "thing.zip"
    archive.write_bytes(models.zip_of(folder))
    results = [cb.bake(p, asset=n, mode="direct", previews=False) for p, n in ((folder, "folder"), (archive, "zip"))]
    assert len(results[0].version.sources) > 1
    hashes = [{a.name: a.blob.sha256 for a in r.version.artifacts if a.role is Role.MODEL_3D} for r in results]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("kind", sorted(models.HOSTILE))
def test_bad_content_is_rejected_with_findings_and_publishes_nothing(home: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bad.glb"
    path.write_bytes(models.hostile(kind))
    with pytest.raises(ContentRejected) as caught:
        cb.bake(path, mode="direct", previews=False)
    findings = caught.value.facts["findings"]
    assert findings
    assert all(f["code"] and f["message"] for f in findings)
    assert any(f["severity"] == "error" and f["remedy"] for f in findings), findings
    with cb.catalog() as catalog:
        record = catalog.get_run(caught.value.facts["run_id"])
        assert record.state is RunState.REJECTED
        assert record.findings
        assert catalog.sql("select count(*) from versions").fetchall() == [(0,)]
    assert _leftovers(home) == []


def test_the_same_worker_goes_on_after_bad_content(home: Path, tmp_path: Path, model: Path) -> None:
    bad = tmp_path / "bad.glb"
    bad.write_bytes(models.hostile("truncated"))
    options = dict(asset=None, tenant="local", progress=lambda _s, _f: None, recipe="web", channel="live")
    with cb.baking(mode="direct", previews=False) as bake_one:
        assert bake_one(bad, **options).state is RunState.REJECTED
        assert bake_one(model, **options).state is RunState.COMPLETED


def test_sources_that_cant_be_read_name_the_remedy(home: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceUnreadable, match="there is no file"):
        cb.bake(tmp_path / "none.glb", mode="direct", previews=False)
    with pytest.raises(SourceUnreadable, match="holds 0"):
        cb.bake(tmp_path, mode="direct", previews=False)
    fifo = tmp_path / "fifo.glb"
    os.mkfifo(fifo)
    with pytest.raises(SourceUnreadable, match="not a regular file"):
        cb.bake(fifo, mode="direct", previews=False)


def test_a_file_without_permission_names_the_remedy(model: Path) -> None:
    model.chmod(0)
    model.parent.chmod(0o755)
    me = os.geteuid()
    try:
        if me == 0:
            os.seteuid(65534)
        with pytest.raises(SourceUnreadable, match="no permission to read"):
            open_source(model, model.parent)
    finally:
        os.seteuid(me)


def test_a_gltf_may_not_reach_out_of_its_folder_by_a_link(home: Path, tmp_path: Path, model: Path) -> None:
    folder = tmp_path / "folder"
    models.write_gltf_folder(model.read_bytes(), folder)
    secret = tmp_path / "secret.bin"
    buffer = next(p for p in folder.iterdir() if p.suffix == ".bin")
    secret.write_bytes(buffer.read_bytes())
    buffer.unlink()
    buffer.symlink_to(secret)
    with pytest.raises(ContentRejected) as caught:
        cb.bake(folder, mode="direct", previews=False)
    assert "leads out of the model's folder" in str(caught.value)


def test_source_larger_than_the_recipe_allows(home: Path, tmp_path: Path, model: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text('name = "tiny"\ntarget = "web"\n[limits]\nsource_bytes = 1000\n')
    with pytest.raises(LimitExceeded, match="raise limits.source_bytes"):
        cb.bake(model, mode="direct", previews=False, recipe=str(recipe))


def test_private_keys_are_for_the_owner_alone(home: Path, model: Path) -> None:
    cb.bake(model, mode="direct", previews=False)
    keys = list((home / "keys").iterdir())
    private = [p for p in keys if b"PRIVATE" in p.read_bytes()]
    assert len(private) == 2
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in private)


def test_losses_are_reported_and_nothing_else_is_lost(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "named.glb"
    path.write_bytes(models.with_extras_and_names())
    result = cb.bake(path, mode="direct", previews=False)
    assert result.losses == ()
    html = result._repr_html_()
    assert "nothing was lost" in html


def _leftovers(home: Path) -> list[str]:
    with cb.catalog() as catalog:
        return [i.kind for i in catalog.gc(plan=True).items if i.kind not in ("unreferenced",)]
