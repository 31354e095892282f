"""Encryption at rest: nothing readable on the disk, every change noticed, keys that turn, and keys that are lost."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.stores import open_store
from cloudbaker.catalog.stores.encrypted import EncryptedStore, plain_size
from cloudbaker.catalog.stores.keyring import MASTER, Keyring, master_key, rotate_master
from cloudbaker.errors import CloudBakerError, StoreDamaged, StoreError, StoreKeyError, UsageError
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import broken, publish
from cloudbaker.testing.stores import MB, content, get, put


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=home, store_encryption="tink")


@pytest.fixture
def store(settings: Settings) -> EncryptedStore:
    opened = open_store(settings)
    assert isinstance(opened, EncryptedStore)
    return opened


def sealed(store: EncryptedStore, key: str) -> Path:
    path = store.root / key
    path.chmod(0o600)
    return path


def test_no_byte_of_the_content_is_on_the_disk(store, settings):
    secret = b"the robot's face, unpublished " * 100
    put(store, "vault/acme/a", secret)
    files = [path for path in settings.home.rglob("*") if path.is_file()]
    assert len(files) == 3  # the object, its tenant's keyset, the master key
    for path in files:
        assert secret[:30] not in path.read_bytes()
        assert path.stat().st_mode & 0o077 == 0
    assert store.path("vault/acme/a") is None
    assert get(store, "vault/acme/a") == secret


@pytest.mark.parametrize("size", [0, 1, MB - 57, MB - 56, MB - 55, MB, 2 * MB - 73, 2 * MB - 72, 2 * MB - 71, 3 * MB])
def test_the_size_is_the_contents(store, size):
    put(store, "a/b", content(3 * MB)[:size])
    assert store.stat("a/b").size == size
    assert [info.size for info in store.list()] == [size]
    assert plain_size(sealed(store, "a/b").stat().st_size) == size
    assert get(store, "a/b", size // 2) == content(3 * MB)[size // 2 : size]


@pytest.mark.parametrize("place", [0, 7, 10, 71, 72, 73, 100, 110, MB, MB + 100, 2 * MB + 5, -1])
def test_a_bit_that_turns_over_anywhere_is_noticed(store, place):
    put(store, "a/b", content(3 * MB))
    path = sealed(store, "a/b")
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises((StoreDamaged, StoreKeyError)):
        get(store, "a/b")


@pytest.mark.parametrize("cut", [0, 10, 71, 72, 100, 72 + MB, 72 + MB + 17, 2 * MB, -1])
def test_a_file_that_was_cut_is_noticed(store, cut):
    put(store, "a/b", content(3 * MB))
    path = sealed(store, "a/b")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(StoreDamaged):
        get(store, "a/b")


def test_segments_that_change_places_or_come_from_another_object_are_noticed(store):
    put(store, "a/1", content(3 * MB))
    put(store, "a/2", content(3 * MB, seed=1))
    one, two = sealed(store, "a/1").read_bytes(), sealed(store, "a/2").read_bytes()
    first, second = slice(72, 72 + MB), slice(72 + MB, 72 + 2 * MB)
    swapped, mixed = one[:72] + one[second] + one[first] + one[72 + 2 * MB :], one[: 72 + MB] + two[72 + MB :]
    for changed in (swapped, mixed, one + two):
        sealed(store, "a/1").write_bytes(changed)
        with pytest.raises(StoreDamaged):
            get(store, "a/1")


def test_each_tenant_has_keys_of_its_own(store):
    put(store, "a/acme", b"x" * 100, tenant="acme")
    put(store, "a/zeta", b"x" * 100, tenant="zeta")
    assert store.keyring.tenants() == ["acme", "zeta"]
    path = sealed(store, "a/acme")
    path.write_bytes(path.read_bytes().replace(b"acme", b"zeta", 1))  # says it is zeta's
    with pytest.raises(StoreDamaged, match="sealed with keys that this store has not"):
        get(store, "a/acme")
    path.write_bytes(path.read_bytes().replace(b"zeta", b"acme", 1))
    assert get(store, "a/acme") == b"x" * 100
    keyring = store.root / ".keys"
    (keyring / "acme.json").write_bytes((keyring / "zeta.json").read_bytes())
    with pytest.raises(StoreKeyError, match="tenant 'acme' don't open"):
        get(store, "a/acme")
    (keyring / "zeta.json").unlink()
    with pytest.raises(StoreKeyError, match="keys of tenant 'zeta' are gone"):
        get(store, "a/zeta")


def test_rotation_keeps_old_objects_and_seals_new_ones_anew(store, settings):
    other = open_store(settings)  # as another process: it has read the keyset before
    put(store, "a/1", b"first")
    assert get(other, "a/1") == b"first"
    for turn in (2, 3):
        store.keyring.rotate("acme")
        put(store, f"a/{turn}", b"later")
    assert [get(other, f"a/{n}") for n in (1, 2, 3)] == [b"first", b"later", b"later"]
    before = (store.root / ".keys/acme.json").read_bytes()
    assert rotate_master(store.keyring, settings.keys) == 1
    assert (store.root / ".keys/acme.json").read_bytes() != before
    again = open_store(settings)
    assert [get(again, f"a/{n}") for n in (1, 2, 3)] == [b"first", b"later", b"later"]
    assert put(again, "a/4", b"new")
    assert get(open_store(settings), "a/4") == b"new"


def test_rivals_for_a_tenants_first_key_agree(settings):
    stores = [open_store(settings) for _ in range(8)]
    start = threading.Barrier(8)

    def work(n: int) -> None:
        start.wait()
        put(stores[n], f"a/{n}", b"%d" % n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [get(stores[0], f"a/{n}") for n in range(8)] == [b"%d" % n for n in range(8)]


def test_the_wrong_master_key_is_told_and_changes_nothing(store, settings, tmp_path):
    put(store, "a/b", b"x")
    master = settings.keys / MASTER
    kept = master.read_bytes()
    master.unlink()
    with pytest.raises(StoreKeyError, match="its master key is gone: put .* back"):
        open_store(settings)
    assert not master.exists()  # never a new one where there is something to lose
    master_key("", settings.keys, create=True)
    with pytest.raises(StoreKeyError, match="don't open with this master key") as caught:
        get(open_store(settings), "a/b")
    assert not caught.value.retryable
    with pytest.raises(StoreKeyError):
        put(open_store(settings), "a/c", b"y")
    master.write_text("{}")
    with pytest.raises(StoreKeyError, match="can't be read"):
        open_store(settings)
    master.write_bytes(kept)
    master.chmod(0o644)
    with pytest.raises(StoreKeyError, match="chmod 600"):
        open_store(settings)
    master.chmod(0o600)
    assert get(open_store(settings), "a/b") == b"x"


def test_switching_it_on_or_off_for_a_folder_in_use_is_refused(home):
    plain, on = Settings(home=home), Settings(home=home, store_encryption="tink")
    put(open_store(plain), "a/b", b"plain")
    with pytest.raises(StoreKeyError, match="are not encrypted"):
        open_store(on)
    assert open_store(plain).delete("a/b")
    put(open_store(on), "a/b", b"sealed")
    with pytest.raises(StoreKeyError, match="set CLOUDBAKER_STORE_ENCRYPTION=tink"):
        open_store(plain)
    (home / "objects/a/stray").write_bytes(b"put here by hand")
    with pytest.raises(StoreDamaged, match="not an encrypted one"):
        get(open_store(on), "a/stray")


def test_unknown_key_uris_are_refused(home):
    for uri in ("gcp-kms://x", "file:///x", "x"):
        with pytest.raises(UsageError, match="write aws-kms://"):
            open_store(Settings(home=home, store_encryption="tink", store_key_uri=uri))
    with pytest.raises(StoreKeyError, match="name a key's whole ARN"):
        open_store(Settings(home=home, store_encryption="tink", store_key_uri="aws-kms://nothing"))


def test_a_master_key_in_the_cloud(home, moto, monkeypatch):
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", moto)
    arn = boto3.client("kms").create_key()["KeyMetadata"]["Arn"]
    settings = Settings(home=home, store_encryption="tink", store_key_uri=f"aws-kms://{arn}")
    put(open_store(settings), "a/b", b"x")
    assert get(open_store(settings), "a/b") == b"x"
    assert not (settings.keys / MASTER).exists()
    wrong = Settings(home=home, store_encryption="tink", store_key_uri=f"aws-kms://{arn[:-4]}0000")
    with pytest.raises(StoreKeyError):
        get(open_store(wrong), "a/b")
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StoreKeyError, match="can't be reached"):
        get(open_store(settings), "a/b")


def test_a_whole_catalog_on_it(settings, helmet):
    with Catalog.open(settings) as catalog:
        first = publish(catalog, helmet, content(2 * MB))
        again = publish(catalog, helmet, content(2 * MB, seed=1))
        assert (first.version.number, again.version.number) == (1, 2)
        assert broken(catalog) == []
        assert isinstance(catalog.store, EncryptedStore)
        assert catalog.store.keyring.tenants() == ["acme"]
        for artifact in again.version.artifacts:
            assert len(catalog.read_blob(artifact.blob)) == artifact.blob.size


def test_keyring_of_nobody(tmp_path):
    assert Keyring(tmp_path / "none", master_key("", tmp_path, create=True)).tenants() == []


def test_the_command_gives_new_keys_and_writes_it_down(settings, helmet, monkeypatch):
    from click.testing import CliRunner

    from cloudbaker.cli.catalog import catalog as command
    from cloudbaker.settings import settings as current

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(command, ["rotate-keys", *arguments], standalone_mode=False)
        assert result.exception is None or isinstance(result.exception, CloudBakerError)
        return result.output + str(result.exception or "")

    monkeypatch.setenv("CLOUDBAKER_STORE_ENCRYPTION", "tink")
    current.cache_clear()
    assert "nobody" in run()
    with Catalog.open(settings) as catalog:
        publish(catalog, helmet, b"sealed")
    before = (settings.home / "objects/.keys/acme.json").read_bytes()
    assert "new keys for acme" in run("--tenant", "acme")
    assert json.loads(run("--json")) == {"master": False, "tenants": ["acme"]}
    assert "wraps the keys of 1 tenant" in run("--master")
    assert (settings.home / "objects/.keys/acme.json").read_bytes() != before
    assert "has no keys" in run("--tenant", "zeta")
    with Catalog.open(settings) as catalog:
        assert broken(catalog) == []  # every object is read
        rows = catalog.sql("SELECT subject FROM audit WHERE action = 'rotate-keys' ORDER BY seq").fetchall()
    assert rows == [("acme",), ("acme",), ("store master key",)]
    monkeypatch.delenv("CLOUDBAKER_STORE_ENCRYPTION")
    monkeypatch.setenv("CLOUDBAKER_STORE_URL", f"folder:{settings.home}/plain")
    current.cache_clear()
    assert "no key to rotate" in run()


def test_a_full_disk_is_a_typed_error_and_leaves_nothing(small_disk):
    store = open_store(Settings(home=small_disk / "home", store_encryption="tink"))
    put(store, "a/small", b"fits")
    with pytest.raises(StoreError, match="disk is full: free some space"):
        put(store, "a/b", content(3 * MB))
    assert list(store.unfinished()) == []
    assert [info.key for info in store.list()] == ["a/small"]
    assert put(store, "a/b", b"fits too")


def test_a_full_disk_for_a_tenants_first_key(small_disk):
    store = open_store(Settings(home=small_disk / "home", store_encryption="tink"))
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(b"x" * (2 << 20))
    with pytest.raises(StoreError):
        put(store, "a/b", b"x")
    filler.unlink()
    assert put(store, "a/b", b"x")
    assert get(store, "a/b") == b"x"
