"""The store that is a bucket: Amazon's S3, or a server that speaks its protocol.

What it asks of the server, and what it makes of one that does less, is in docs/storage.md.
"""

from __future__ import annotations

import base64
import io
import os
import random
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from botocore.auth import AUTH_TYPE_MAPS, S3SigV4Auth
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from cloudbaker.catalog.stores.base import CHUNK, ObjectInfo, check_key
from cloudbaker.catalog.stores.s3_errors import code_of, status_of, translated, typed
from cloudbaker.catalog.stores.s3_writer import UNFINISHED, S3Writer
from cloudbaker.errors import NotFound, StoreError, UsageError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*")
_PREFIX_MAX = 100  # of S3's 1,024 bytes; `check_key` allows 900
_MARK = "?upload="


@dataclass(frozen=True, slots=True)
class S3Options:
    """How a bucket is talked to."""

    endpoint: str = ""
    """URL of the server; empty: Amazon's."""
    encryption: str = ""
    """``AES256``, ``aws:kms`` or empty."""
    kms_key: str = ""
    part_bytes: int = 5 << 20
    """Of a multipart upload, S3's least: up to this an object is one PUT. With 10,000 parts one may have 50 GB."""
    threads: int = 7
    """Parts of one writer under way at a time. Its memory is that of `threads` + 1 parts.

    Many small ones rather than few large: 250 MB took 2.9 s with 7 of 5 MB, 3.4 s with 4 of 8 MB, in the same memory.
    """
    attempts: int = 6
    """Of each request, with jittered exponential backoff between them (boto3's standard mode)."""
    connect_seconds: float = 10.0
    read_seconds: float = 60.0


class S3Store:
    """Objects of a bucket, under a prefix.

    Small objects are one conditional PUT. A long stream becomes a multipart upload below ``.unfinished/``, and its
    final object a copy of that within the server, as its key is only known when its last byte is hashed.
    """

    def __init__(self, url: str, options: S3Options = S3Options()) -> None:
        """`url` is ``s3://bucket`` or ``s3://bucket/prefix``. Says nothing to the server yet. Raises `UsageError`."""
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        if not url.startswith("s3://") or not _BUCKET.fullmatch(bucket):
            raise UsageError(f"{url!r} names no bucket: write CLOUDBAKER_STORE_URL as s3://bucket/prefix", url=url)
        if not _PREFIX.fullmatch(prefix) or ".." in prefix or len(prefix) > _PREFIX_MAX:
            raise UsageError(
                f"the prefix of {url!r} is refused: use up to {_PREFIX_MAX} of A-Z, a-z, 0-9, '.', '_', '-' between "
                "slashes",
                url=url,
            )
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self.bucket = bucket
        self.prefix = prefix
        self.options = options
        self._lock = threading.Lock()
        self._made: tuple[int, S3Client] | None = None

    @property
    def client(self) -> S3Client:
        """boto3's client, made on first use; a forked child makes its own, sharing no connection with its parent."""
        with self._lock:
            if self._made is None or self._made[0] != os.getpid():
                with translated(self.url, "open"):
                    self._made = os.getpid(), _client(self.options)
            return self._made[1]

    def writer(self, *, tenant: str = "") -> S3Writer:
        """Begin a new object."""
        return S3Writer(self)

    def open(self, key: str, *, offset: int = 0) -> BinaryIO:
        """Read from `offset` on: one GET that streams, and goes on where it was if the connection breaks."""
        reader = _Reader(self, check_key(key), offset)
        return cast(BinaryIO, io.BufferedReader(reader, CHUNK))

    def stat(self, key: str) -> ObjectInfo | None:
        """Size and time of an object."""
        head = self.head(check_key(key))
        return None if head is None else ObjectInfo(key, head["ContentLength"], head["LastModified"].astimezone(UTC))

    def head(self, key: str) -> dict[str, Any] | None:
        """What HEAD says of an object, None if there is none."""
        try:
            return dict(self.client.head_object(Bucket=self.bucket, Key=self.prefix + key))
        except ClientError as error:
            if status_of(error) == 404:
                return None
            raise typed(error, self.url, "look into") from error
        except BotoCoreError as error:
            raise typed(error, self.url, "look into") from error

    def delete(self, key: str) -> bool:
        """Remove an object. Asks first, as S3 does not tell whether there was one."""
        if self.stat(key) is None:
            return False
        self.remove(key)
        return True

    def remove(self, key: str) -> None:
        """Remove an object or an unfinished one, there or not."""
        with translated(self.url, "delete from"):
            self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects under a prefix, 1,000 a request."""
        return (info for info in self._listed(prefix) if not info.key.startswith(UNFINISHED))

    def path(self, key: str) -> Path | None:
        """None: objects are no files."""
        check_key(key)
        return None

    def unfinished(self) -> Iterator[ObjectInfo]:
        """Multipart uploads under way or left behind, and staged objects that were not moved to their place."""
        yield from self._listed(UNFINISHED)
        with translated(self.url, "list"):
            pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=self.prefix)
            for page in pages:
                for upload in page.get("Uploads", []):
                    key, upload_id = upload["Key"], upload["UploadId"]
                    name = f"{key.removeprefix(self.prefix)}{_MARK}{upload_id}"
                    began = upload["Initiated"].astimezone(UTC)
                    yield ObjectInfo(name, self._size_of_parts(key, upload_id), began)

    def drop_unfinished(self, name: str) -> bool:
        """Abort such an upload, or remove such an object."""
        key, mark, upload_id = name.partition(_MARK)
        if mark:
            try:
                self.client.abort_multipart_upload(Bucket=self.bucket, Key=self.prefix + key, UploadId=upload_id)
            except ClientError as error:
                if code_of(error) == "NoSuchUpload" or status_of(error) == 404:
                    return False
                raise typed(error, self.url, "delete from") from error
            except BotoCoreError as error:
                raise typed(error, self.url, "delete from") from error
            return True
        if not key.startswith(UNFINISHED) or self.head(key) is None:
            return False
        self.remove(key)
        return True

    def _listed(self, prefix: str) -> Iterator[ObjectInfo]:
        with translated(self.url, "list"):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + prefix
            )
            for page in pages:
                for each in page.get("Contents", []):
                    key, modified = each["Key"].removeprefix(self.prefix), each["LastModified"].astimezone(UTC)
                    yield ObjectInfo(key, each["Size"], modified)

    def _size_of_parts(self, key: str, upload_id: str) -> int:
        try:
            pages = self.client.get_paginator("list_parts").paginate(Bucket=self.bucket, Key=key, UploadId=upload_id)
            return sum(part["Size"] for page in pages for part in page.get("Parts", []))
        except ClientError as error:
            if status_of(error) == 404:  # ended between the two requests
                return 0
            raise


def _client(options: S3Options) -> S3Client:
    # A session of our own: boto3's default one is not thread-safe while it makes clients.
    from boto3.session import Session

    config = Config(
        retries={"mode": "standard", "total_max_attempts": options.attempts},
        connect_timeout=options.connect_seconds,
        read_timeout=options.read_seconds,
        max_pool_connections=32,
        tcp_keepalive=True,
        # SHA-256 is passed with every object and part; a CRC beside it would be one more pass over the bytes, in a
        # trailer that older servers do not read.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # Servers with an address of their own seldom have a DNS name for each bucket.
        s3={"addressing_style": "path" if options.endpoint else "auto"},
    )
    client: S3Client = Session().client("s3", endpoint_url=options.endpoint or None, config=config)
    client.meta.events.register_first("choose-signer.s3", _choose_signer)
    return client


class _SignedDigest(S3SigV4Auth):
    """Signs a body by the SHA-256 that is sent with it.

    boto3 would hash it once more (0.3 s of CPU for 500 MB), or over https not sign it at all. Signed it is checked by
    servers too that know nothing of checksums: it is how Ceph 16 notices a damaged part.
    """

    def payload(self, request: Any) -> str:
        digest = request.headers.get("x-amz-checksum-sha256")
        return super().payload(request) if digest is None else base64.b64decode(digest).hex()


_SIGNER = "cloudbaker-s3v4"
AUTH_TYPE_MAPS[_SIGNER] = _SignedDigest


def _choose_signer(signature_version: Any, **_: Any) -> Any:
    return _SIGNER if signature_version == "s3v4" else None


class _Reader(io.RawIOBase):
    """An object as a file: GET from the position on, again after a seek or a broken connection."""

    def __init__(self, store: S3Store, key: str, offset: int) -> None:
        self._store, self._key, self._position = store, key, offset
        self._etag = ""
        self._body: Any = None
        self._end = False
        self._connect()

    def _connect(self) -> None:
        store = self._store
        wanted: dict[str, Any] = {"Bucket": store.bucket, "Key": store.prefix + self._key}
        if self._position:
            wanted["Range"] = f"bytes={self._position}-"
        if self._etag:
            wanted["IfMatch"] = self._etag
        try:
            answer = store.client.get_object(**wanted)
        except ClientError as error:
            if status_of(error) == 416:  # at the end or past it
                self._end = True
                return
            if code_of(error) in ("NoSuchKey", "404"):
                raise NotFound(f"no object {self._key} in the store", key=self._key) from error
            raise typed(error, store.url, "read from") from error
        except BotoCoreError as error:
            raise typed(error, store.url, "read from") from error
        self._etag, self._body = answer["ETag"], answer["Body"]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_CUR:
            offset += self._position
        elif whence == io.SEEK_END:
            info = self._store.stat(self._key)
            if info is None:
                raise NotFound(f"no object {self._key} in the store", key=self._key)
            offset += info.size
        if offset < 0:
            raise ValueError(f"negative position {offset}")
        if offset != self._position:
            self._drop()
            self._position, self._end = offset, False
        return offset

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(CHUNK) or b"", b""))  # the inherited one takes 8 KB at a time

    def readinto(self, buffer: Any) -> int:
        attempt = 0
        while not self._end:
            try:
                if self._body is None:
                    self._connect()
                    continue
                data = self._body.read(len(buffer))
            except StoreError:
                raise
            except (BotoCoreError, OSError) as error:
                self._drop()
                attempt += 1
                if attempt >= self._store.options.attempts:
                    raise typed(error, self._store.url, "read from") from error
                time.sleep(random.uniform(0, min(0.1 * 2**attempt, 5.0)))
                continue
            buffer[: len(data)] = data
            self._position += len(data)
            return len(data)
        return 0

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    def close(self) -> None:
        self._drop()
        super().close()
