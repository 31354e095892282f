"""The whole way of the data, objects in a bucket: bake, bake again, verify, bake the stored sources, clean up."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path

import pytest

import cloudbaker as cb
from cloudbaker.catalog.stores.s3 import S3Store
from cloudbaker.flows.direct import run_directly
from cloudbaker.model import RunState
from cloudbaker.settings import settings
from cloudbaker.tasks.context import BakeRequest
from cloudbaker.tasks.services import direct_services
from cloudbaker.testing import models
from cloudbaker.testing.catalog import broken
from cloudbaker.testing.s3 import new_bucket


@pytest.fixture(params=["moto", "ceph"])
def bucket(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    """A bucket as this installation's store, on a mock and on a real server."""
    endpoint = request.getfixturevalue(request.param)
    made = new_bucket(endpoint, prefix="baker")
    monkeypatch.setenv("CLOUDBAKER_STORE_URL", made.url)
    monkeypatch.setenv("CLOUDBAKER_S3_ENDPOINT", endpoint)
    settings.cache_clear()
    return made


def test_a_model_is_baked_into_a_bucket_and_out_of_it(home: Path, tmp_path: Path, bucket: S3Store) -> None:
    path = tmp_path / "Thing.glb"
    path.write_bytes(models.textured(256))
    first = cb.bake(path, mode="direct", previews=False)
    assert first.state is RunState.COMPLETED
    assert first.version is not None
    assert not (home / "objects").exists()
    assert cb.bake(path, mode="direct", previews=False).state is RunState.UNCHANGED

    report = cb.verify("thing@live")
    assert report.ok, report.problems

    with cb.catalog() as catalog:
        assert broken(catalog) == []  # reads and hashes every object
        for artifact in first.version.artifacts:
            data = catalog.read_blob(artifact.blob)
            assert hashlib.sha256(data).hexdigest() == artifact.blob.sha256
            assert catalog.blob_path(artifact.blob) is None
            head = bucket.head(artifact.blob.storage_key)
            assert head is not None
            assert head["ContentType"] == artifact.media_type
            assert head["CacheControl"] == "public, max-age=31536000, immutable"
        blobs = [each.blob for each in (*first.version.artifacts, *first.version.sources)]
        assert {info.key for info in catalog.store.list()} == {blob.storage_key for blob in blobs}

    # Nothing of the first bake is on this machine: the source comes out of the bucket.
    path.unlink()
    with direct_services(previews=False) as services:
        request = BakeRequest(first.asset, "web-lite", sources=first.version.sources, previews=False)
        assert run_directly(services.context(request, run_id="from-the-bucket")) is RunState.COMPLETED
    assert cb.verify("thing@2").ok

    with cb.catalog() as catalog:
        stray = catalog.put_bytes(b"nobody refers to this", "local", "vault")
        writer = catalog.store.writer(tenant="local")
        writer.write(b"x" * (33 << 20))  # more than a part: an upload under way in the bucket
        assert len(list(catalog.store.unfinished())) == 1
        later = catalog._clock() + timedelta(days=3)
        catalog._clock = lambda: later
        planned = {item.key for item in catalog.gc(plan=True).items}
        assert stray.storage_key in planned
        catalog.gc(plan=False)
        assert list(catalog.store.unfinished()) == []
        assert catalog.store.stat(stray.storage_key) is None
        assert broken(catalog) == []
        assert catalog.gc(plan=False).items == ()
        writer.close()
