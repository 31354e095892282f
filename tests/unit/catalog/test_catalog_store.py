"""The folder store: whole or not at all, never over something, and never outside its folder."""

from __future__ import annotations

import hashlib
import resource
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloudbaker.catalog.stores import FolderStore, ObjectStore, check_key, open_store
from cloudbaker.errors import NotFound, StoreError, UsageError
from cloudbaker.settings import Settings


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "objects")


def put(store: FolderStore, key: str, data: bytes) -> bool:
    writer = store.writer()
    try:
        writer.write(data)
        return writer.commit(key)
    finally:
        writer.close()


def test_bytes_come_back_and_are_hashed_on_the_way(store):
    writer = store.writer()
    pieces = [b"abc", bytearray(b"def"), memoryview(b"xxghi")[2:]]
    assert [writer.write(piece) for piece in pieces] == [3, 3, 3]
    assert writer.sha256() == hashlib.sha256(b"abcdefghi").hexdigest()
    assert writer.size == 9
    assert writer.commit("vault/acme/one")
    writer.close()
    with store.open("vault/acme/one") as file:
        assert file.read() == b"abcdefghi"
    with store.open("vault/acme/one", offset=4) as file:
        assert file.read(3) == b"efg"
    info = store.stat("vault/acme/one")
    assert info is not None
    assert (info.key, info.size) == ("vault/acme/one", 9)
    assert abs(datetime.now(UTC) - info.modified) < timedelta(minutes=1)
    assert store.path("vault/acme/one").read_bytes() == b"abcdefghi"


def test_nothing_is_visible_before_commit_nor_left_after_close(store):
    writer = store.writer()
    writer.write(b"half")
    assert list(store.list()) == []
    assert [info.size for info in store.unfinished()] == [4]
    writer.close()
    assert list(store.unfinished()) == []
    assert list(store.list()) == []


def test_an_object_is_never_replaced(store):
    assert put(store, "a/b", b"first")
    assert not put(store, "a/b", b"second")
    assert store.path("a/b").read_bytes() == b"first"
    assert list(store.unfinished()) == []


def test_a_writer_may_be_committed_again_under_another_key(store):
    put(store, "a/taken", b"old")
    writer = store.writer()
    writer.write(b"new")
    assert not writer.commit("a/taken")
    assert writer.commit("a/free")
    writer.close()
    assert store.path("a/free").read_bytes() == b"new"


def test_one_of_many_rivals_wins(store):
    won, start = [], threading.Barrier(8)

    def race(n: int) -> None:
        start.wait()
        if put(store, "a/prize", b"%d" % n):
            won.append(n)

    threads = [threading.Thread(target=race, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.path("a/prize").read_bytes() == b"%d" % won[0]


def test_delete_tidies_up_empty_folders_and_says_whether_there_was_one(store):
    put(store, "public/acme/run/model_3d/a.glb", b"a")
    put(store, "public/acme/other.glb", b"b")
    assert store.delete("public/acme/run/model_3d/a.glb")
    assert not store.delete("public/acme/run/model_3d/a.glb")
    assert not (store.root / "public/acme/run").exists()
    assert [info.key for info in store.list()] == ["public/acme/other.glb"]


def test_puts_and_deletes_in_one_folder_do_not_disturb_each_other(store):
    end, failed = threading.Event(), []

    def busy(n: int) -> None:
        try:
            while not end.is_set():
                assert put(store, f"x/y/z/{n}", b"1")
                assert store.delete(f"x/y/z/{n}")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=busy, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    end.wait(0.5)
    end.set()
    for thread in threads:
        thread.join()
    assert failed == []


def test_list_by_prefix(store):
    for key in ("vault/acme/1", "vault/acme/2", "vault/ac", "vault/zeta/1", "public/acme/1"):
        put(store, key, b"")
    (store.root / ".hidden").mkdir()

    def keys(prefix: str) -> list[str]:
        return sorted(info.key for info in store.list(prefix))

    assert keys("vault/ac") == ["vault/ac", "vault/acme/1", "vault/acme/2"]
    assert keys("vault/acme/") == ["vault/acme/1", "vault/acme/2"]
    assert len(keys("")) == 5
    assert keys("nothing/") == []


@pytest.mark.parametrize(
    "key",
    [
        *("", "/", "/etc/passwd", "a//b", "a/", "../a", "a/../b", "a/..", "a/.hidden", ".unfinished/x", "a..b", "a/b."),
        *("A/b", "a/É", "a/e\u0301", "a\\b", "a b", "a\x00b", "a\n", "con:", "a/" + "b" * 256, "a/" * 500 + "a", "~/a"),
    ],
)
def test_keys_that_could_mean_something_else_are_refused(store, key):
    with pytest.raises(StoreError, match="refused"):
        check_key(key)
    with pytest.raises(StoreError):
        put(store, key, b"x")
    with pytest.raises(StoreError):
        store.open(key)
    with pytest.raises(StoreError):
        store.delete(key)
    assert list(store.list()) == []
    assert list(store.unfinished()) == []


def test_a_missing_object_is_not_found(store):
    with pytest.raises(NotFound, match="no object a/b"):
        store.open("a/b")
    assert store.stat("a/b") is None


def test_a_link_is_not_followed(store, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    put(store, "a/b", b"x")
    (store.root / "a/link").symlink_to(secret)
    with pytest.raises(StoreError):
        store.open("a/link")


def test_urls(tmp_path):
    def opened(url: str) -> ObjectStore:
        return open_store(Settings(home=tmp_path / "home", store_url=url))

    assert opened(f"folder:{tmp_path}/o").url == f"folder:{tmp_path}/o"
    assert opened("").url == f"folder:{tmp_path}/home/objects"
    for url in ("folder:relative", "folder:", str(tmp_path), "ftp://x/y"):
        with pytest.raises(UsageError, match="folder:/absolute/path or s3://bucket/prefix"):
            opened(url)


def test_a_folder_that_can_not_be_is_a_typed_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't open the object store"):
        FolderStore(tmp_path / "file" / "objects")


def test_all_is_private(store):
    put(store, "a/b", b"x")
    assert store.root.stat().st_mode & 0o777 == 0o700
    assert (store.root / "a").stat().st_mode & 0o777 == 0o700
    assert (store.root / "a/b").stat().st_mode & 0o777 == 0o400


def test_file_size_limit_is_a_typed_error_and_leaves_nothing(store):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = store.writer()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        with pytest.raises(StoreError, match="file size limit") as caught:
            writer.write(b"x" * 200_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        writer.close()
    assert caught.value.facts["errno"] == "EFBIG"
    assert caught.value.retryable
    assert list(store.unfinished()) == []


def test_a_full_disk_is_a_typed_error_and_leaves_nothing(small_disk):
    store = FolderStore(small_disk / "objects")
    writer = store.writer()
    with pytest.raises(StoreError, match="disk is full: free some space") as caught:
        writer.write(b"x" * 2_000_000)
    writer.close()
    assert caught.value.facts["errno"] == "ENOSPC"
    assert list(store.unfinished()) == []
    assert put(store, "a/small", b"fits")


def test_a_killed_writer_leaves_an_unfinished_file_that_can_be_dropped(store):
    code = (
        "import sys; from pathlib import Path; from cloudbaker.catalog.stores import FolderStore\n"
        "w = FolderStore(Path(sys.argv[1])).writer(); w.write(b'x' * 1000); print('ready', flush=True); input()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(store.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    [left] = store.unfinished()
    assert left.size == 1000
    assert store.drop_unfinished(left.key)
    assert not store.drop_unfinished(left.key)
    assert list(store.unfinished()) == []
