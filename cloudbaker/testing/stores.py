"""The tests that any object store must pass. Inherit, give it a store, and yours is tested:

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def store(self, tmp_path):
            return MyStore(tmp_path)

A store is empty at the beginning of each test. What a store can't do is said by its class attributes, not by leaving
tests out.
"""

# ruff: noqa: D102, PT017 (a test's name says what it tests; a fault may or may not be felt)

from __future__ import annotations

import errno
import hashlib
import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, ClassVar, TypeAlias
from unittest.mock import patch

import pytest

from cloudbaker.catalog.stores import ObjectStore
from cloudbaker.errors import NotFound, StoreError

MB = 1 << 20
FIVE = 5 * MB
"""The least size of a part in S3, but for the last: where one-part objects end and multipart ones begin."""
SIZES = (0, 1, FIVE - 1, FIVE, FIVE + 1, 12 * MB)
REFUSED_KEYS = (
    *("", "/", "/etc/passwd", "a//b", "a/", "../a", "a/../b", "a/..", "a/.hidden", ".unfinished/x", ".keys/x", "a..b"),
    *("A/b", "a/É", "a/e\u0301", "a\\b", "a b", "a\x00b", "a\n", "con:", "a/" + "b" * 256, "a/" * 500 + "a", "~/a"),
    *("a/b.", "a?upload=1", "a%2fb", "a/ſ", "a/\u212a"),
)
"""What could mean something else to some file system, URL or CDN: hidden, absolute, above, folded by case or form."""


@dataclass(slots=True)
class Calls:
    """How many calls a fault has watched."""

    seen: int = 0


Fault: TypeAlias = Callable[[Any, int], AbstractContextManager[Calls]]
"""``fault(store, nth)``: inside the block, the nth call to what lies under the store fails."""


@lru_cache(maxsize=8)
def content(size: int, seed: int = 0) -> bytes:
    """Bytes that don't compress and are the same each time."""
    return random.Random(seed).randbytes(size)


def put(store: ObjectStore, key: str, data: bytes, *, tenant: str = "acme") -> bool:
    """Store `data` whole, 1 MB at a time; whether the key was free."""
    writer = store.writer(tenant=tenant)
    try:
        for start in range(0, len(data), MB):
            writer.write(data[start : start + MB])
        return writer.commit(key)
    finally:
        writer.close()


def get(store: ObjectStore, key: str, offset: int = 0) -> bytes:
    """All of an object from `offset` on."""
    with store.open(key, offset=offset) as file:
        return file.read()


def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    """The keys under a prefix, sorted."""
    return sorted(info.key for info in store.list(prefix))


class StoreConformance:
    """Whole or not at all, never over something, durable, in any order, from any thread, whatever fails."""

    faults: ClassVar[Mapping[str, Fault]] = {}
    """What may go wrong below the store, by name. Without them, the tests of faults have nothing to do and skip."""
    fault_sizes: ClassVar[tuple[int, ...]] = (1000, 6 * MB)
    """Of the objects whose upload is made to fail at each call: one for each way the store has of storing."""
    large_races_have_one_winner: ClassVar[bool] = True
    """False for a server that checks "only if absent" for small objects alone: then each rival may be told it won."""
    large_racers: ClassVar[int] = 8
    """How many of them the server stands; moto answers 500 to the second."""

    @pytest.fixture
    def store(self) -> ObjectStore:
        """An empty store. Override it."""
        raise NotImplementedError

    # ---- bytes

    @pytest.mark.parametrize("size", SIZES)
    def test_bytes_come_back_whole_and_from_any_offset(self, store: ObjectStore, size: int) -> None:
        data = content(size)
        assert put(store, "vault/acme/one", data)
        assert get(store, "vault/acme/one") == data
        for offset in {0, 1, size // 2, max(size - 1, 0), size, size + 10}:
            assert get(store, "vault/acme/one", offset) == data[offset:]
        info = store.stat("vault/acme/one")
        assert info is not None
        assert (info.key, info.size) == ("vault/acme/one", size)
        assert abs(datetime.now(UTC) - info.modified) < timedelta(minutes=5)
        assert info.modified.utcoffset() == timedelta(0)
        assert [each.size for each in store.list()] == [size]

    def test_an_open_object_is_a_file_that_seeks(self, store: ObjectStore) -> None:
        data = content(3 * MB)
        put(store, "a/b", data)
        with store.open("a/b", offset=10) as file:
            assert file.read(5) == data[10:15]
            assert file.seek(-7, os.SEEK_END) == len(data) - 7
            assert file.read() == data[-7:]
            assert file.seek(2 * MB) == 2 * MB
            assert file.tell() == 2 * MB
            assert file.read(100) == data[2 * MB : 2 * MB + 100]
            assert file.seek(0) == 0
            buffer = bytearray(64)
            assert file.readinto(buffer) == 64  # type: ignore[attr-defined]
            assert bytes(buffer) == data[:64]
            file.seek(len(data) + 5)
            assert file.read() == b""

    def test_hashed_on_the_way_whatever_the_pieces(self, store: ObjectStore) -> None:
        writer = store.writer(tenant="acme")
        assert writer.sha256() == hashlib.sha256(b"").hexdigest()
        assert [writer.write(piece) for piece in (b"abc", bytearray(b"def"), memoryview(b"xxghi")[2:], b"")] == [
            3,
            3,
            3,
            0,
        ]
        assert writer.sha256() == hashlib.sha256(b"abcdefghi").hexdigest()
        assert writer.size == 9
        assert writer.commit("a/b")
        writer.close()
        assert get(store, "a/b") == b"abcdefghi"

    def test_a_stream_of_many_small_pieces(self, store: ObjectStore) -> None:
        data, writer = content(6 * MB), store.writer(tenant="acme")
        for start in range(0, len(data), 77_777):
            writer.write(data[start : start + 77_777])
        assert writer.sha256() == hashlib.sha256(data).hexdigest()
        assert writer.commit("a/b")
        writer.close()
        assert get(store, "a/b") == data

    # ---- whole or not at all

    @pytest.mark.parametrize("size", [4, 12 * MB])
    def test_nothing_is_visible_before_commit_nor_left_after_close(self, store: ObjectStore, size: int) -> None:
        writer = store.writer(tenant="acme")
        writer.write(content(size))
        assert keys(store) == []
        writer.close()
        writer.close()
        assert keys(store) == []
        assert list(store.unfinished()) == []

    def test_a_writer_that_was_never_closed_is_found_and_dropped(self, store: ObjectStore) -> None:
        writer = store.writer(tenant="acme")
        writer.write(content(12 * MB))
        assert keys(store) == []
        [left] = store.unfinished()
        assert store.drop_unfinished(left.key)
        assert not store.drop_unfinished(left.key)
        assert list(store.unfinished()) == []
        writer.close()

    def test_dropping_what_is_not_unfinished_touches_nothing(self, store: ObjectStore) -> None:
        put(store, "a/b", b"x")
        for name in ("nothing", "../x", "a/b", "", ".", ".unfinished/nothing", "a?upload=nothing"):
            assert not store.drop_unfinished(name)
        assert get(store, "a/b") == b"x"

    # ---- never over something

    @pytest.mark.parametrize("size", [10, 6 * MB])
    def test_an_object_is_never_replaced(self, store: ObjectStore, size: int) -> None:
        assert put(store, "a/b", content(size))
        assert not put(store, "a/b", content(size, seed=1))
        assert not put(store, "a/b", b"shorter")
        assert not put(store, "a/b", content(6 * MB, seed=2))
        assert get(store, "a/b") == content(size)
        assert list(store.unfinished()) == []

    @pytest.mark.parametrize("size", [10, 6 * MB])
    def test_a_writer_may_be_committed_again_under_another_key(self, store: ObjectStore, size: int) -> None:
        put(store, "a/taken", b"old")
        writer = store.writer(tenant="acme")
        writer.write(content(size))
        assert not writer.commit("a/taken")
        assert writer.commit("a/free")
        assert not writer.commit("a/free")
        assert writer.commit("b/too")
        writer.close()
        assert keys(store) == ["a/free", "a/taken", "b/too"]
        assert get(store, "a/taken") == b"old"
        assert get(store, "a/free") == get(store, "b/too") == content(size)
        assert list(store.unfinished()) == []

    @pytest.mark.parametrize("size", [100, 6 * MB])
    def test_one_of_many_rivals_wins(self, store: ObjectStore, size: int) -> None:
        racers = 8 if size < FIVE else self.large_racers
        won: list[int] = []
        failed: list[BaseException] = []
        start = threading.Barrier(racers)

        def race(n: int) -> None:
            writer = store.writer(tenant="acme")
            try:
                writer.write(content(size, seed=n))
                start.wait()
                if writer.commit("a/prize"):
                    won.append(n)
            except BaseException as error:
                failed.append(error)
            finally:
                writer.close()

        _together(race, racers)
        assert failed == []
        found = get(store, "a/prize")
        whose = [n for n in range(racers) if content(size, seed=n) == found]
        if size < FIVE or self.large_races_have_one_winner:
            assert won == whose
        else:
            assert set(whose) <= set(won)  # whole, and of one who was told so
        assert list(store.unfinished()) == []

    def test_threads_and_keys_do_not_disturb_each_other(self, store: ObjectStore) -> None:
        failed: list[BaseException] = []

        def work(n: int) -> None:
            try:
                for turn in range(5):
                    assert put(store, f"x/y/{n}", content(1000, seed=n))
                    assert get(store, f"x/y/{n}") == content(1000, seed=n)
                    if turn < 4:
                        assert store.delete(f"x/y/{n}")
            except BaseException as error:
                failed.append(error)

        _together(work, 4)
        assert failed == []
        assert keys(store) == [f"x/y/{n}" for n in range(4)]

    # ---- keys

    def test_keys_that_could_mean_something_else_are_refused(self, store: ObjectStore) -> None:
        uses: tuple[Callable[[str], object], ...] = (
            lambda key: put(store, key, b"x"),
            store.open,
            store.stat,
            store.delete,
            store.path,
        )
        for key in REFUSED_KEYS:
            for use in uses:
                with pytest.raises(StoreError, match="is refused"):
                    use(key)
        assert keys(store) == []
        assert list(store.unfinished()) == []

    def test_list_by_prefix(self, store: ObjectStore) -> None:
        for key in ("vault/acme/1", "vault/acme/2", "vault/ac", "vault/zeta/1", "public/acme/1"):
            put(store, key, b"")
        assert keys(store, "vault/ac") == ["vault/ac", "vault/acme/1", "vault/acme/2"]
        assert keys(store, "vault/acme/") == ["vault/acme/1", "vault/acme/2"]
        assert len(keys(store)) == 5
        assert keys(store, "nothing/") == []

    def test_delete_says_whether_there_was_one(self, store: ObjectStore) -> None:
        put(store, "a/b/c.glb", b"x")
        put(store, "a/d", b"y")
        assert store.delete("a/b/c.glb")
        assert not store.delete("a/b/c.glb")
        assert not store.delete("never/there")
        assert keys(store) == ["a/d"]
        assert put(store, "a/b/c.glb", b"again")
        assert get(store, "a/b/c.glb") == b"again"

    def test_a_missing_object_is_not_found(self, store: ObjectStore) -> None:
        for offset in (0, 5):
            with pytest.raises(NotFound, match="no object a/b"):
                store.open("a/b", offset=offset)
        assert store.stat("a/b") is None

    def test_a_path_is_the_objects_bytes_or_none(self, store: ObjectStore) -> None:
        put(store, "a/b", b"bytes")
        path = store.path("a/b")
        assert path is None or path.read_bytes() == b"bytes"

    # ---- faults

    def test_a_fault_at_any_call_of_an_upload_leaves_it_whole_or_absent(
        self, store: ObjectStore, request: pytest.FixtureRequest
    ) -> None:
        struck = 0
        for name, fault in self._faults():
            for size in self.fault_sizes:
                data = content(size)
                for nth in range(1, 200):
                    key, created = f"vault/{name}/{size}/{nth}", None
                    with fault(store, nth) as calls:
                        try:
                            created = put(store, key, data)
                        except StoreError as error:
                            assert str(error).strip()
                    info = store.stat(key)
                    assert created is None or info is not None
                    assert created is not False
                    assert info is None or get(store, key) == data
                    assert put(store, key, data) is (info is None)  # again: it works, or is found done
                    assert get(store, key) == data
                    if calls.seen < nth:
                        break
                    struck += 1
                else:
                    raise AssertionError("an upload of 200 calls")
        for left in list(store.unfinished()):
            assert store.drop_unfinished(left.key)
        assert list(store.unfinished()) == []
        _tell(request, f"{struck} calls of an upload made to fail: each whole or absent, and done when tried again")

    def test_a_fault_at_any_call_of_reading_is_a_typed_error(self, store: ObjectStore) -> None:
        put(store, "a/b", b"bytes")
        uses: tuple[Callable[[], object], ...] = (
            lambda: get(store, "a/b"),
            lambda: store.stat("a/b"),
            lambda: keys(store),
            lambda: list(store.unfinished()),
        )
        for name, fault in self._faults():
            for use in uses:
                right = use()
                for nth in range(1, 20):
                    with fault(store, nth) as calls:
                        try:
                            assert use() == right, name
                        except StoreError as error:
                            assert error.retryable, name
                    if calls.seen < nth:
                        break
        assert get(store, "a/b") == b"bytes"

    def _faults(self) -> list[tuple[str, Fault]]:
        if not self.faults:
            pytest.skip("this store names no faults")
        return list(self.faults.items())


def disk_fault(code: int) -> Fault:
    """A file system's call that fails: EIO, ENOSPC, EDQUOT … For stores on files."""

    @contextmanager
    def fault(_store: ObjectStore, nth: int) -> Iterator[Calls]:
        calls, mine = Calls(), threading.get_ident()

        def failing(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kw: Any) -> Any:
                if threading.get_ident() == mine:
                    calls.seen += 1
                    if calls.seen == nth:
                        raise OSError(code, os.strerror(code))
                return real(*args, **kw)

            return call

        names = ("open", "write", "fsync", "link", "mkdir")
        watched: dict[str, Any] = {name: failing(getattr(os, name)) for name in names}
        with patch.multiple(os, **watched):
            yield calls

    return fault


DISK_FAULTS: Mapping[str, Fault] = {"eio": disk_fault(errno.EIO), "enospc": disk_fault(errno.ENOSPC)}
"""For `StoreConformance.faults` of stores on files."""


def _together(work: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=work, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _tell(request: pytest.FixtureRequest, text: str) -> None:
    """Into the summary, where the test suite has a fixture for that."""
    try:
        request.getfixturevalue("tell")(f"{request.cls.__name__}: {text}")
    except pytest.FixtureLookupError:
        print(text)
