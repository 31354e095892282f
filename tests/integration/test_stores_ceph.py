"""The S3 store against a real server: Ceph's gateway, which checks signatures, permissions and what it received."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import pytest

from cloudbaker.catalog.stores.s3 import S3Options, S3Store
from cloudbaker.errors import StoreAccess, StoreError
from cloudbaker.testing.s3 import REQUEST_FAULTS, empty, new_bucket
from cloudbaker.testing.stores import FIVE, StoreConformance, content, get, keys, put


@pytest.fixture(scope="module")
def bucket(ceph_endpoint: str, s3_credentials: None) -> S3Store:
    return new_bucket(ceph_endpoint, S3Options(ceph_endpoint, part_bytes=FIVE, attempts=1), prefix="some/prefix")


@pytest.fixture
def store(bucket: S3Store) -> Iterator[S3Store]:
    yield bucket
    empty(bucket)


class TestS3StoreOnCeph(StoreConformance):
    faults: ClassVar = {how: REQUEST_FAULTS[how] for how in ("503", "timeout", "lost")}
    fault_sizes = (1000, FIVE + 1)
    large_races_have_one_winner = False  # 16.2 ignores the condition on a copy

    @pytest.fixture
    def store(self, bucket: S3Store) -> Iterator[S3Store]:
        yield bucket
        empty(bucket)


@contextmanager
def damaged(store: S3Store, nth: int) -> Iterator[None]:
    """A bit of the nth request's body that turns over on its way, after it was hashed and signed."""
    seen, lock = [], threading.Lock()

    def before_send(request, **_):
        with lock:
            if request.body:
                seen.append(request)
                if len(seen) == nth:
                    body = bytearray(request.body.read() if hasattr(request.body, "read") else request.body)
                    body[len(body) // 2] ^= 4
                    request.body = bytes(body)

    store.client.meta.events.register("before-send.s3", before_send)
    try:
        yield
    finally:
        store.client.meta.events.unregister("before-send.s3", before_send)


@pytest.mark.parametrize(("size", "nth"), [(1000, 1), (12 << 20, 2)])
def test_bytes_that_are_damaged_on_their_way_are_refused(store, size, nth):
    with damaged(store, nth), pytest.raises(StoreError, match="damaged on their way") as caught:
        put(store, "a/b", content(size))
    assert caught.value.retryable
    assert keys(store) == []
    assert list(store.unfinished()) == []
    assert put(store, "a/b", content(size))
    assert get(store, "a/b") == content(size)


@pytest.mark.parametrize(
    ("key", "secret", "words"),
    [
        ("testing", "wrong", "the secret key is wrong"),
        ("nobody", "testing-secret", "the access key is unknown"),
        ("other", "other-secret", "access denied"),
    ],
)
def test_who_may_not_is_told_so(ceph, store, monkeypatch, key, secret, words):
    put(store, "a/b", b"private")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    stranger = S3Store(store.url, S3Options(ceph, attempts=2))
    for use in (lambda: put(stranger, "a/c", b"x"), lambda: get(stranger, "a/b"), lambda: keys(stranger)):
        with pytest.raises(StoreAccess, match=words):
            use()
    with pytest.raises(StoreAccess):
        stranger.delete("a/b")
    assert get(store, "a/b") == b"private"


def test_a_bucket_that_is_not_there(ceph):
    with pytest.raises(StoreAccess, match="there is no such bucket"):
        put(S3Store("s3://no-such-bucket", S3Options(ceph)), "a/b", b"x")
