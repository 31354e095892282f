"""The S3 store against moto: what any store must do, at every request that can fail; and what is S3's own."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from typing import ClassVar

import pytest
from botocore.exceptions import ClientError

from cloudbaker.catalog.stores import open_store, s3_writer
from cloudbaker.catalog.stores.s3 import S3Options, S3Store
from cloudbaker.catalog.stores.s3_errors import typed
from cloudbaker.errors import LimitExceeded, StoreAccess, StoreError, UsageError
from cloudbaker.settings import Settings
from cloudbaker.testing.s3 import REQUEST_FAULTS, empty, new_bucket, request_fault
from cloudbaker.testing.stores import FIVE, MB, StoreConformance, content, get, keys, put


@pytest.fixture(scope="module")
def bucket(moto_endpoint: str, s3_credentials: None) -> S3Store:
    """One bucket and one client for all: making a client costs 0.3 s."""
    return new_bucket(moto_endpoint, S3Options(moto_endpoint, part_bytes=FIVE, attempts=1), prefix="some/prefix")


@pytest.fixture
def store(bucket: S3Store) -> Iterator[S3Store]:
    yield bucket
    empty(bucket)


class TestS3StoreOnMoto(StoreConformance):
    faults: ClassVar = {how: REQUEST_FAULTS[how] for how in ("500", "reset", "lost")}
    fault_sizes = (1000, FIVE + 1)
    large_races_have_one_winner = False
    large_racers = 1

    @pytest.fixture
    def store(self, bucket: S3Store) -> Iterator[S3Store]:
        yield bucket
        empty(bucket)


def test_what_fails_once_is_mended_by_trying_again(moto, store):
    """Each request of an upload, each way: also one that was done and only its answer lost is ours, not a rival's."""
    patient = S3Store(store.url, S3Options(moto, part_bytes=FIVE, attempts=3))
    for how in ("500", "lost"):
        for size in (10, FIVE + 1):
            for nth in range(1, 9):
                key = f"a/{how}/{size}/{nth}"
                with request_fault(how)(patient, nth) as calls:
                    assert put(patient, key, content(size)), (how, size, nth)
                if calls.seen < nth:
                    break
            assert get(patient, key) == content(size)
    # The one thing that no retry can undo: a multipart upload was begun, nobody was told its id, and another was begun.
    left = list(patient.unfinished())
    assert len(left) == 1
    assert patient.drop_unfinished(left[0].key)


def test_a_part_that_fails_is_told_at_the_next_write_and_leaves_nothing(store):
    writer = store.writer()

    def endless() -> None:
        for _ in range(20):
            writer.write(content(MB) * 5)

    with request_fault("500")(store, 3), pytest.raises(StoreError, match="the server failed"):
        endless()
    writer.close()
    assert keys(store) == []
    assert list(store.unfinished()) == []


def test_the_copy_of_a_very_large_object_goes_by_parts(store, monkeypatch):
    monkeypatch.setattr(s3_writer, "_COPY_WHOLE", 0)
    monkeypatch.setattr(s3_writer, "_COPY_PART", FIVE)
    assert put(store, "a/b", content(12 * MB))
    assert not put(store, "a/b", content(12 * MB, seed=1))
    assert get(store, "a/b") == content(12 * MB)
    writer = store.writer()
    writer.write(content(12 * MB, seed=2))
    # create, three parts, complete, look, begin the copy: the eighth request is its first part.
    with request_fault("500")(store, 8), pytest.raises(StoreError):
        writer.commit("a/c")
    assert [info.key.partition("?")[0] for info in store.unfinished()] == [writer._staging]
    assert writer.commit("a/c")
    writer.close()
    assert get(store, "a/c") == content(12 * MB, seed=2)
    assert list(store.unfinished()) == []


def test_more_parts_than_s3_takes_are_refused(store, monkeypatch):
    monkeypatch.setattr(s3_writer, "_PARTS_MAX", 2)
    writer = store.writer()
    writer.write(content(12 * MB)[: 2 * FIVE])
    with pytest.raises(LimitExceeded, match="10,485,760 bytes"):
        writer.write(content(12 * MB))
    writer.close()
    assert list(store.unfinished()) == []


@pytest.mark.parametrize("size", [10, FIVE + 1])
def test_objects_carry_how_they_are_encrypted_and_served(moto, store, size):
    sealed = S3Store(store.url, S3Options(moto, "aws:kms", "alias/baker", part_bytes=FIVE))
    put(sealed, "public/acme/run/model_3d/helmet.123456789abc.glb", content(size))
    put(sealed, "vault/acme/helmet.html", content(size))
    head = sealed.head("public/acme/run/model_3d/helmet.123456789abc.glb")
    assert head["ServerSideEncryption"] == "aws:kms"
    assert head["SSEKMSKeyId"] == "alias/baker"
    assert head["ContentType"] == "model/gltf-binary"
    assert head["CacheControl"] == "public, max-age=31536000, immutable"
    assert sealed.head("vault/acme/helmet.html")["ContentType"] == "binary/octet-stream"  # strangers' HTML is never one


def test_only_ones_own_prefix_is_seen(moto, store):
    other = S3Store(f"s3://{store.bucket}/some/prefix-2", store.options)
    put(other, "a/b", b"theirs")
    put(store, "a/b", b"ours")
    assert keys(store) == keys(other) == ["a/b"]
    assert (get(store, "a/b"), get(other, "a/b")) == (b"ours", b"theirs")
    writer = other.writer()
    writer.write(content(6 * MB))
    assert len(list(other.unfinished())) == 1
    assert list(store.unfinished()) == []
    writer.close()
    empty(other)


def test_a_forked_child_has_connections_of_its_own(store):
    put(store, "a/b", b"x")
    child = os.fork()
    if child == 0:
        os._exit(0 if get(store, "a/b") == b"x" else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert get(store, "a/b") == b"x"


# ---- downloads that break off


class Flaky:
    """A server that promises an object and hangs up after `piece` bytes of each answer."""

    def __init__(self, data: bytes, piece: int) -> None:
        self.data, self.piece, self.ranges = data, piece, list[str]()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(4096)
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
                wanted = fields.get(b"range", b"bytes=0-").decode()
                self.ranges.append(wanted)
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                rest = self.data[start:]
                status = b"206 Partial Content" if start else b"200 OK"
                connection.sendall(
                    b'HTTP/1.1 %s\r\nETag: "x"\r\nContent-Length: %d\r\n\r\n' % (status, len(rest)) + rest[: self.piece]
                )


def test_a_download_that_breaks_off_goes_on_where_it_was(s3_credentials):
    server = Flaky(content(3 * MB), MB + 5)
    store = S3Store("s3://bucket", S3Options(server.endpoint, attempts=3))
    assert get(store, "a/b") == content(3 * MB)
    assert server.ranges == ["bytes=0-", f"bytes={MB + 5}-", f"bytes={2 * MB + 10}-"]
    server.socket.close()


def test_a_download_that_never_goes_on_is_a_typed_error(s3_credentials):
    server = Flaky(content(3 * MB), 0)
    store = S3Store("s3://bucket", S3Options(server.endpoint, attempts=2))
    with store.open("a/b") as file, pytest.raises(StoreError, match="can't read from the object store at s3://bucket"):
        file.read()
    server.socket.close()


# ---- what can't work


def test_no_credentials_are_named_as_such(moto, store, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(StoreAccess, match="there are no credentials: set AWS_ACCESS_KEY_ID") as caught:
        put(S3Store(store.url, S3Options(moto)), "a/b", b"x")
    assert not caught.value.retryable
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StoreAccess, match="could not be loaded"):
        put(S3Store(store.url, S3Options(moto)), "a/b", b"x")


def test_a_bucket_that_is_not_there(moto):
    nowhere = S3Store("s3://no-such-bucket", S3Options(moto))
    for use in (lambda: put(nowhere, "a/b", b"x"), lambda: keys(nowhere), lambda: list(nowhere.unfinished())):
        with pytest.raises(StoreAccess, match="there is no such bucket: create it") as caught:
            use()
        assert caught.value.facts["s3"] == "NoSuchBucket"


def test_a_server_that_can_not_be_reached(s3_credentials):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        quick = S3Options(f"http://127.0.0.1:{port}", attempts=1, read_seconds=0.2)
        with pytest.raises(StoreError, match="did not answer in time"):
            put(S3Store("s3://bucket", quick), "a/b", b"x")
    with pytest.raises(StoreError, match="can't be reached") as caught:
        put(S3Store("s3://bucket", quick), "a/b", b"x")
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("code", "status", "kind", "words"),
    [
        ("AccessDenied", 403, StoreAccess, "give these credentials the permissions"),
        ("403", 403, StoreAccess, "access denied"),
        ("ExpiredToken", 400, StoreAccess, "log in again"),
        ("RequestTimeTooSkewed", 403, StoreAccess, "clock is wrong"),
        ("PermanentRedirect", 301, StoreAccess, "AWS_DEFAULT_REGION"),
        ("KMS.DisabledException", 400, StoreAccess, "CLOUDBAKER_S3_KMS_KEY"),
        ("SlowDown", 503, StoreError, "still did after 6 tries"),
        ("BadDigest", 400, StoreError, "damaged on their way"),
        ("QuotaExceeded", 403, StoreError, "the bucket's own quota"),
        ("Whatever", 500, StoreError, r"the server failed \(Whatever, 500\)"),
    ],
)
def test_every_answer_has_a_remedy(code, status, kind, words):
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status, "RetryAttempts": 5}}
    error = typed(ClientError(answer, "PutObject"), "s3://bucket", "write to")
    assert type(error) is kind
    with pytest.raises(kind, match=words):
        raise error
    assert error.retryable is (kind is StoreError)
    assert error.facts == {"store": "s3://bucket", "s3": code, "status": status, "request": ""}


def test_urls(home):
    made = open_store(Settings(home=home, store_url="s3://bucket/some/prefix/", s3_endpoint="http://127.0.0.1:1"))
    assert isinstance(made, S3Store)
    assert (made.url, made.bucket, made.prefix) == ("s3://bucket/some/prefix", "bucket", "some/prefix/")
    assert made.options.endpoint == "http://127.0.0.1:1"
    assert S3Store("s3://bucket").prefix == ""
    wrong = ("s3://", "s3://Bucket", "s3:///x", "s3://bu", "s3://b_c/x", "s4://bucket", "s3:bucket")
    prefixes = ("../x", "a b", "a//x", ".x", "é", "a" * 101, "a/../b", "?x", "%41")
    for url in (*wrong, *(f"s3://bucket/{prefix}" for prefix in prefixes)):
        with pytest.raises(UsageError):
            open_store(Settings(home=home, store_url=url))
