"""Bytes on their way into a bucket, in bounded memory.

What was tried for a stream whose length and key nobody knows before its end (500 MB; storage notes):

- `upload_fileobj` from a pipe while hashing: 160 MB of memory, and no conditional create;
- `put_object` needs the whole object in a file first;
- this: parts of 5 MB, seven in flight, hashed as they come, to a staging key; a copy within the server to the final
  key, which costs no transfer, and is not made at all if the catalog has these bytes already.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import BotoCoreError, ClientError

from cloudbaker.catalog.stores.base import check_key
from cloudbaker.catalog.stores.s3_errors import code_of, status_of, translated, typed
from cloudbaker.errors import LimitExceeded, StoreDamaged, StoreError
from cloudbaker.media import TABLE, extension

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

    from cloudbaker.catalog.stores.s3 import S3Store

UNFINISHED = ".unfinished/"
"""Where long streams lie until their key is known. No object's key can begin so."""

_PARTS_MAX = 10_000  # S3's limit
_COPY_WHOLE = 1 << 30
"""Up to here CopyObject does it in one request (S3 allows 5 GB, but then keeps the caller waiting for minutes)."""
_COPY_PART = 256 << 20
_IMMUTABLE = "public, max-age=31536000, immutable"
_UNKNOWN = "application/octet-stream"
_WRITER = "cloudbaker-writer"
"""Metadata of each object: who made it. A PUT that was retried after its answer was lost meets its own object."""


class S3Writer:
    """See `cloudbaker.catalog.stores.base.ObjectWriter`."""

    def __init__(self, store: S3Store) -> None:
        """Says nothing to the server before there is more than one part."""
        self.size = 0
        self._store = store
        self._id = uuid.uuid4().hex
        self._staging = UNFINISHED + self._id
        self._hash = hashlib.sha256()
        self._buffer = bytearray()
        self._upload_id = ""
        self._staged = False
        self._closed = False
        self._made: set[str] = set()
        self._pool: ThreadPoolExecutor | None = None
        self._window = threading.BoundedSemaphore(store.options.threads)
        self._parts: list[Future[CompletedPartTypeDef]] = []

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append. Waits while as many parts are under way as may be. Raises `StoreError`, `LimitExceeded`."""
        view = memoryview(data).cast("B")
        self._hash.update(view)
        self.size += len(view)
        limit, done = self._store.options.part_bytes, 0
        while done < len(view):
            # A full buffer waits for one more byte: what fits into one part is no multipart upload.
            if len(self._buffer) == limit:
                self._send_part()
            taken = view[done : done + limit - len(self._buffer)]
            self._buffer += taken
            done += len(taken)
        return len(view)

    def sha256(self) -> str:
        """Hex SHA-256 so far."""
        return self._hash.hexdigest()

    def commit(self, key: str) -> bool:
        """Put it under its key: one PUT, or the end of the multipart upload and a copy within the server."""
        check_key(key)
        if key in self._made:
            return False
        if self._upload_id:
            self._stage()
            created = self._conditionally(key, self._copy if self.size <= _COPY_WHOLE else self._copy_parts)
        else:
            created = self._conditionally(key, self._put)
        if created:
            self._made.add(key)
        return created

    def close(self) -> None:
        """Abort the upload, remove the staged object. What can't be removed now is `unfinished`, for clean-up."""
        if self._closed:
            return
        self._closed = True
        self._buffer = bytearray()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        with suppress(StoreError, BotoCoreError, ClientError):
            if self._staged:
                self._store.remove(self._staging)
            elif self._upload_id:
                self._store.client.abort_multipart_upload(**self._at(self._staging), UploadId=self._upload_id)

    # ---- parts

    def _at(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._store.bucket, "Key": self._store.prefix + key}

    def _send_part(self) -> None:
        """Hand the buffer to a thread. Waits for a free one; raises what befell an earlier part."""
        number = len(self._parts) + 1
        if number > _PARTS_MAX:
            limit = _PARTS_MAX * self._store.options.part_bytes
            raise LimitExceeded(f"an object may have {limit:,} bytes in this store: split it", limit=limit)
        if self._pool is None:
            self._begin()
        for part in self._parts:
            if part.done() and (error := part.exception()) is not None:
                raise error
        self._window.acquire()
        assert self._pool is not None
        body, self._buffer = self._buffer, bytearray()
        try:
            self._parts.append(self._pool.submit(self._upload_part, number, body))
        except BaseException:
            self._window.release()
            raise

    def _begin(self) -> None:
        with translated(self._store.url, "write to"):
            answer = self._store.client.create_multipart_upload(
                **self._at(self._staging), **self._headers(""), ChecksumAlgorithm="SHA256"
            )
        self._upload_id = answer["UploadId"]
        self._pool = ThreadPoolExecutor(self._store.options.threads, thread_name_prefix="cloudbaker-s3")

    def _upload_part(self, number: int, body: bytearray) -> CompletedPartTypeDef:
        try:
            digest = _base64(hashlib.sha256(body).digest())
            with translated(self._store.url, "write to"):
                # Both, or the server does not check: with the value alone boto3 sends it as an unknown header's.
                answer = self._store.client.upload_part(
                    **self._at(self._staging),
                    UploadId=self._upload_id,
                    PartNumber=number,
                    Body=cast(bytes, body),  # a bytearray, which boto3's types leave out
                    ChecksumAlgorithm="SHA256",
                    ChecksumSHA256=digest,
                )
            return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": digest}
        finally:
            self._window.release()

    def _stage(self) -> None:
        """Make one object of the parts, under the staging key. Once."""
        if self._staged:
            return
        if self._buffer:
            self._send_part()
        parts = [part.result() for part in self._parts]
        try:
            self._store.client.complete_multipart_upload(
                **self._at(self._staging), UploadId=self._upload_id, MultipartUpload={"Parts": parts}
            )
        except ClientError as error:
            # Ended already, and only the answer was lost? Then the object is there.
            head = self._store.head(self._staging) if code_of(error) == "NoSuchUpload" else None
            if head is None or head["ContentLength"] != self.size:
                raise typed(error, self._store.url, "write to") from error
        except BotoCoreError as error:
            raise typed(error, self._store.url, "write to") from error
        self._staged = True

    # ---- the object

    def _conditionally(self, key: str, create: Callable[[str], None]) -> bool:
        """Create the object unless its key is taken. True if it is ours, even if an earlier answer was lost."""
        for last in (False, False, True):
            try:
                create(key)
            except ClientError as error:
                if status_of(error) == 412:
                    return self._is_ours(key)
                # "ConditionalRequestConflict": a rival was deleted or aborted just now. S3 asks to try again.
                if status_of(error) != 409 or last:
                    raise typed(error, self._store.url, "write to") from error
            except BotoCoreError as error:
                raise typed(error, self._store.url, "write to") from error
            except _Taken:
                return self._is_ours(key)
            else:
                return True
        raise AssertionError("not reached")

    def _is_ours(self, key: str) -> bool:
        head = self._store.head(key)
        return head is not None and head.get("Metadata", {}).get(_WRITER) == self._id

    def _put(self, key: str) -> None:
        self._store.client.put_object(
            **self._at(key),
            **self._headers(key),
            Body=cast(bytes, self._buffer),
            IfNoneMatch="*",
            ChecksumAlgorithm="SHA256",
            ChecksumSHA256=_base64(self._hash.digest()),
        )

    def _copy(self, key: str) -> None:
        self._look_first(key)
        answer = self._store.client.copy_object(
            **self._at(key),
            **self._headers(key),
            CopySource=self._source(),
            MetadataDirective="REPLACE",
            IfNoneMatch="*",
            ChecksumAlgorithm="SHA256",
        )
        # Of the whole object, computed by the server: the one end-to-end check of a multipart upload there is.
        found = answer["CopyObjectResult"].get("ChecksumSHA256", "")
        if found and "-" not in found and found != _base64(self._hash.digest()):
            self._store.remove(key)
            raise StoreDamaged(f"object {key} was damaged on its way into the store: upload it again", key=key)

    def _copy_parts(self, key: str) -> None:
        self._look_first(key)
        client, at = self._store.client, self._at(key)
        upload_id = client.create_multipart_upload(**at, **self._headers(key))["UploadId"]

        def copy(number: int, start: int) -> CompletedPartTypeDef:
            end = min(start + _COPY_PART, self.size) - 1
            answer = client.upload_part_copy(
                **at,
                UploadId=upload_id,
                PartNumber=number,
                CopySource=self._source(),
                CopySourceRange=f"bytes={start}-{end}",
            )
            return {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}

        try:
            assert self._pool is not None
            copies = [self._pool.submit(copy, n, at) for n, at in enumerate(range(0, self.size, _COPY_PART), 1)]
            parts = [each.result() for each in copies]
            client.complete_multipart_upload(
                **at, UploadId=upload_id, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
            )
        except BaseException:
            with suppress(BotoCoreError, ClientError):
                client.abort_multipart_upload(**at, UploadId=upload_id)
            raise

    def _source(self) -> Any:
        return self._at(self._staging)

    def _look_first(self, key: str) -> None:
        """For servers that ignore the condition on a copy (Ceph 16.2, moto): all that is left is a race's window.

        It is harmless for the catalog: a storage key belongs to one claim, and rivals for a claim bring the same bytes.
        """
        if self._store.head(key) is not None:
            raise _Taken

    def _headers(self, key: str) -> dict[str, Any]:
        """What goes with each object: encryption, who made it, and, if the world may see it, how it is served."""
        headers: dict[str, Any] = {"Metadata": {_WRITER: self._id}}
        if self._store.options.encryption:
            headers["ServerSideEncryption"] = self._store.options.encryption
        if self._store.options.kms_key:
            headers["SSEKMSKeyId"] = self._store.options.kms_key
        if key.startswith("public/"):
            kind = TABLE.get(extension(key))
            headers |= {"ContentType": kind.content_type if kind else _UNKNOWN, "CacheControl": _IMMUTABLE}
        return headers


class _Taken(Exception):
    """The key has an object already."""


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
