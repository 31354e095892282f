"""Uploads: stored once per tenant and zone, under keys that are never used again, safe from clean-up."""

from __future__ import annotations

import hashlib
import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa

from cloudbaker.catalog import schema as s
from cloudbaker.catalog.core import Catalog, UploadKey
from cloudbaker.errors import CatalogError, Conflict, NameRefused, NotFound, SourceUnreadable, StoreError, UsageError
from cloudbaker.model import Blob, Role
from cloudbaker.settings import Settings

HINT = UploadKey("0c0ffee0-run", Role.MODEL_3D, "lod1.glb")


def objects(catalog: Catalog) -> list[str]:
    return sorted(info.key for info in catalog.store.list())


def test_an_upload_is_stored_and_can_be_read(catalog):
    with catalog.upload("acme", "vault") as upload:
        upload.write(b"hello ")
        upload.write(b"world")
        assert upload.size == 11
        with pytest.raises(CatalogError, match="after the with block"):
            _ = upload.blob
    blob = upload.blob
    assert (blob.sha256, blob.size) == (hashlib.sha256(b"hello world").hexdigest(), 11)
    assert catalog.read_blob(blob) == b"hello world"
    with catalog.open_blob(blob) as file:
        assert file.read(5) == b"hello"
    path = catalog.blob_path(blob)
    assert path is not None
    assert path.read_bytes() == b"hello world"


def test_a_file_is_streamed_in(catalog, tmp_path):
    path = tmp_path / "big.bin"
    path.write_bytes(bytes(range(256)) * 10_000)
    blob = catalog.put_file(path, "acme", "vault")
    assert (blob.size, catalog.read_blob(blob)) == (2_560_000, path.read_bytes())
    for bad in (tmp_path / "none", tmp_path):
        with pytest.raises(SourceUnreadable):
            catalog.put_file(bad, "acme", "vault")
    assert list(catalog.store.unfinished()) == []


def test_an_empty_blob_is_a_blob(catalog):
    assert catalog.read_blob(catalog.put_bytes(b"", "acme", "vault")) == b""


def test_the_public_key_is_the_documented_one(catalog):
    blob = catalog.put_bytes(b"glb", "acme", "public", key_hint=HINT)
    hash12 = hashlib.sha256(b"glb").hexdigest()[:12]
    assert blob.storage_key == f"public/acme/0c0ffee0-run/model_3d/lod1.{hash12}.glb"


def test_the_same_bytes_are_stored_once_per_tenant_and_zone(catalog):
    first = catalog.put_bytes(b"same", "acme", "public", key_hint=HINT)
    again = catalog.put_bytes(b"same", "acme", "public", key_hint=UploadKey("another-run", Role.TEXTURE, "other.webp"))
    assert again == first
    vault = catalog.put_bytes(b"same", "acme", "vault")
    assert catalog.put_bytes(b"same", "acme", "vault") == vault
    other = catalog.put_bytes(b"same", "zeta", "vault")
    assert len({first.storage_key, vault.storage_key, other.storage_key}) == 3
    assert objects(catalog) == sorted([first.storage_key, vault.storage_key, other.storage_key])


def test_an_upload_that_raises_leaves_nothing(catalog):
    def interrupted() -> None:
        with catalog.upload("acme", "vault") as upload:
            upload.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert objects(catalog) == []
    assert list(catalog.store.unfinished()) == []


@pytest.mark.parametrize("tenant", ["../acme", "Acme", "", "acme/x", "a" * 65, "acmé", ".", "a..b"])
def test_tenant_names_are_checked_before_any_byte(catalog, tenant):
    with pytest.raises(NameRefused):
        catalog.upload(tenant, "vault")
    assert list(catalog.store.unfinished()) == []


@pytest.mark.parametrize(
    "hint",
    [
        UploadKey("../x", Role.MODEL_3D, "a.glb"),
        UploadKey("Run", Role.MODEL_3D, "a.glb"),
        UploadKey("", Role.MODEL_3D, "a.glb"),
        UploadKey("run", Role.MODEL_3D, "../a.glb"),
        UploadKey("run", Role.MODEL_3D, "A.glb"),
        UploadKey("run", Role.MODEL_3D, "a b.glb"),
        UploadKey("run", Role.MODEL_3D, ""),
        UploadKey("run", Role.MODEL_3D, "nested/a.glb"),
    ],
)
def test_key_hints_are_checked_before_any_byte(catalog, hint):
    with pytest.raises(NameRefused):
        catalog.upload("acme", "public", key_hint=hint)
    assert list(catalog.store.unfinished()) == []


def test_zones_and_hints_belong_together(catalog):
    with pytest.raises(UsageError, match="no zone named"):
        catalog.upload("acme", "attic")
    with pytest.raises(UsageError, match="needs a key hint"):
        catalog.upload("acme", "public")
    with pytest.raises(UsageError, match="no other takes one"):
        catalog.upload("acme", "vault", key_hint=HINT)


def test_threads_that_upload_the_same_bytes_get_the_same_blob(catalog):
    blobs: list[Blob] = []
    start = threading.Barrier(6)

    def upload() -> None:
        start.wait()
        blobs.append(catalog.put_bytes(b"raced" * 1000, "acme", "vault"))

    threads = [threading.Thread(target=upload) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(blobs) == 6
    assert len(set(blobs)) == 1
    assert objects(catalog) == [blobs[0].storage_key]


def test_a_lease_keeps_clean_up_away_and_a_second_upload_renews_it(catalog, clock):
    blob = catalog.put_bytes(b"leased", "acme", "vault")
    clock.later(hours=23)
    assert catalog.put_bytes(b"leased", "acme", "vault") == blob
    clock.later(hours=23)
    assert catalog.gc(plan=False, grace=timedelta(0)).items == ()
    assert catalog.read_blob(blob) == b"leased"
    clock.later(hours=2)
    assert [item.kind for item in catalog.gc(plan=False, grace=timedelta(0)).items] == ["unreferenced"]
    with pytest.raises(NotFound):
        catalog.read_blob(blob)


def test_a_key_that_was_given_up_is_never_used_again(catalog, clock):
    first = catalog.put_bytes(b"x", "acme", "public", key_hint=HINT)
    clock.later(hours=25)
    catalog.gc(plan=False)
    second = catalog.put_bytes(b"x", "acme", "public", key_hint=HINT)
    hash12 = hashlib.sha256(b"x").hexdigest()[:12]
    assert second.storage_key == f"public/acme/0c0ffee0-run/model_3d/lod1-2.{hash12}.glb"
    assert second.storage_key != first.storage_key
    assert catalog.read_blob(second) == b"x"


def test_an_upload_that_sleeps_through_its_lease_begins_again(home, clock):
    """Between its claim and its registration clean-up takes the claim, and sweeps what it put meanwhile."""
    with Catalog.open(Settings(home=home), clock=clock) as catalog:
        upload = catalog.upload("acme", "vault")
        claimed: list[str] = []
        commit = upload._writer.commit

        def slow_commit(key: str) -> bool:
            claimed.append(key)
            if len(claimed) == 1:
                clock.later(hours=25)
                assert [i.kind for i in catalog.gc(plan=False, grace=timedelta(days=2)).items] == ["expired-upload"]
            return commit(key)

        upload._writer.commit = slow_commit
        with upload:
            upload.write(b"sleepy")
        assert len(claimed) == 2
        assert upload.blob.storage_key == claimed[1] != claimed[0]
        assert objects(catalog) == [claimed[1]]
        assert catalog.gc(plan=False, grace=timedelta(0)).items == ()


def test_an_upload_gives_up_when_clean_up_takes_every_claim(home, clock):
    with Catalog.open(Settings(home=home), clock=clock, lease=timedelta(0)) as catalog:
        upload = catalog.upload("acme", "vault")
        commit = upload._writer.commit

        def raided(key: str) -> bool:
            clock.later(seconds=1)
            catalog.gc(plan=False, grace=timedelta(days=1))
            return commit(key)

        upload._writer.commit = raided
        with pytest.raises(Conflict, match="lease or grace is too short"), upload:
            upload.write(b"x")
        assert list(catalog.store.unfinished()) == []


def test_a_claim_whose_process_died_is_taken_over(catalog):
    """Died after the claim, or after the object: the next upload of the same bytes ends what it began."""
    for put_object in (False, True):
        data = b"orphaned %d" % put_object
        upload = catalog.upload("acme", "vault")
        upload.write(data)
        key, live = upload._claim(upload._writer.sha256(), upload.size)
        assert not live
        if put_object:
            assert upload._writer.commit(key)
        upload._writer.close()
        blob = catalog.put_bytes(data, "acme", "vault")
        assert blob.storage_key == key
        assert catalog.read_blob(blob) == data


def test_a_live_blob_whose_file_was_removed_by_hand_is_mended_by_uploading_it(catalog):
    blob = catalog.put_bytes(b"precious", "acme", "vault")
    path = catalog.blob_path(blob)
    assert path is not None
    path.unlink()
    assert [item.kind for item in catalog.gc().items] == ["missing"]
    assert catalog.put_bytes(b"precious", "acme", "vault") == blob
    assert catalog.read_blob(blob) == b"precious"


def test_damage_is_found_when_it_is_read(catalog):
    blob = catalog.put_bytes(b"precious", "acme", "vault")
    path = catalog.blob_path(blob)
    assert path is not None
    path.chmod(0o600)
    path.write_bytes(b"prexious")
    assert catalog.read_blob(blob, verify=False) == b"prexious"
    with pytest.raises(StoreError, match="is damaged: put it back from a backup"):
        catalog.read_blob(blob)
    path.write_bytes(b"precious")


def test_a_damaged_object_under_a_claimed_key_is_not_taken_for_the_bytes(catalog):
    upload = catalog.upload("acme", "vault")
    upload.write(b"whole")
    key, _ = upload._claim(upload._writer.sha256(), upload.size)
    path = catalog.store.path(key)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"who")
    with pytest.raises(StoreError, match="is damaged, 3 bytes instead of 5"), upload:
        pass
    path.unlink()


def test_an_object_that_was_given_up_is_refused_by_publish_not_dangling(catalog, clock, helmet):
    from cloudbaker.testing.catalog import publication

    prepared = publication(catalog, helmet, b"too late")
    clock.later(hours=25)
    catalog.gc(plan=False)
    with pytest.raises(Conflict, match=r"3 blob\(s\) of this version are not in the store any more") as caught:
        catalog.publish(prepared)
    assert caught.value.retryable
    assert len(caught.value.facts["keys"]) == 3
    assert catalog.find_version(helmet, prepared.bake_key) is None
    with catalog.core.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(s.outbox)).scalar() == 0
