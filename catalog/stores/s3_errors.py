"""What boto3 raises, as the typed error that names the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore import exceptions as boto

from cloudbaker.errors import StoreAccess, StoreError

_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give this machine a role that may use the "
    "bucket"
)
_ACCESS = {
    "NoSuchBucket": "there is no such bucket: create it, or correct CLOUDBAKER_STORE_URL (and CLOUDBAKER_S3_ENDPOINT)",
    "AccessDenied": "access denied: give these credentials the permissions that docs/errors/CB6302.md lists",
    "AllAccessDisabled": "the account is disabled: ask whoever runs the store",
    "InvalidAccessKeyId": f"the access key is unknown there: {_CREDENTIALS}",
    "SignatureDoesNotMatch": f"the secret key is wrong: {_CREDENTIALS}",
    "ExpiredToken": "the session's credentials have expired: log in again",
    "InvalidToken": "the session token is not valid: log in again",
    "RequestTimeTooSkewed": "this machine's clock is wrong by minutes: set it right",
    "PermanentRedirect": "the bucket lies in another region: set AWS_DEFAULT_REGION to it",
    "AuthorizationHeaderMalformed": "the bucket lies in another region: set AWS_DEFAULT_REGION to it",
    "InvalidBucketName": "that is no bucket's name: correct CLOUDBAKER_STORE_URL",
    "403": "access denied (no such permission, or wrong keys): see docs/errors/CB6302.md",
    "301": "the bucket lies in another region: set AWS_DEFAULT_REGION to it",
}
_ACCESS["Forbidden"] = _ACCESS["403"]
_TRANSIENT = {
    "SlowDown": "it asks to slow down, and still did after {attempts} tries: run this again, or bake fewer at once",
    "RequestTimeout": "the connection was too slow: run this again",
    "BadDigest": "bytes were damaged on their way (a checksum does not match): run this again",
    "QuotaExceeded": "the bucket's own quota is used up: raise it, or free some space there",
    "EntityTooLarge": "the object is larger than the server takes: split it",
    "NoSuchUpload": "the upload vanished while it was under way (clean-up with too short a grace?): run this again",
    "NotImplemented": "the server does not know this request: is it S3-compatible?",
}
_TRANSIENT |= dict.fromkeys(
    ("503", "ServiceUnavailable", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests"),
    _TRANSIENT["SlowDown"],
)
_TRANSIENT |= dict.fromkeys(
    ("XAmzContentSHA256Mismatch", "InvalidDigest", "XAmzContentChecksumMismatch"), _TRANSIENT["BadDigest"]
)


def code_of(error: boto.ClientError) -> str:
    """The server's error code; for HEAD, which has no body, the HTTP status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: boto.ClientError) -> int:
    """The HTTP status."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@contextmanager
def translated(url: str, verb: str) -> Iterator[None]:
    """Turns what boto3 raises inside the block into `StoreError` or `StoreAccess`."""
    try:
        yield
    except (boto.BotoCoreError, boto.ClientError) as error:
        raise typed(error, url, verb) from error


def typed(error: Exception, url: str, verb: str) -> StoreError:
    """The typed error for one of boto3's; `verb` completes "can't … the object store at …"."""

    def failed(kind: type[StoreError], remedy: str, **facts: object) -> StoreError:
        return kind(f"can't {verb} the object store at {url}: {remedy}", detail=str(error), store=url, **facts)

    if isinstance(error, boto.ClientError):
        code = code_of(error)
        request = str(error.response.get("ResponseMetadata", {}).get("RequestId", ""))
        facts = {"s3": code, "status": status_of(error), "request": request}
        if code in _ACCESS:
            return failed(StoreAccess, _ACCESS[code], **facts)
        if code.startswith("KMS."):
            return failed(StoreAccess, "its encryption key can't be used: correct CLOUDBAKER_S3_KMS_KEY", **facts)
        attempts = error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) + 1
        default = f"the server failed ({code or 'no code'}, {status_of(error)}): run this again"
        return failed(StoreError, _TRANSIENT.get(code, default).format(attempts=attempts), **facts)
    match error:
        case boto.NoCredentialsError() | boto.PartialCredentialsError() | boto.CredentialRetrievalError():
            return failed(StoreAccess, f"there are no credentials: {_CREDENTIALS}")
        case boto.ProfileNotFound() | boto.TokenRetrievalError() | boto.SSOError():
            return failed(StoreAccess, f"the credentials could not be loaded: {error}")
        case boto.SSLError():
            return failed(StoreError, "its certificate is not trusted here: name the right one in AWS_CA_BUNDLE")
        case boto.ConnectTimeoutError() | boto.ReadTimeoutError():
            return failed(StoreError, "it did not answer in time: look after the network, then run this again")
        case boto.HTTPClientError() | boto.ConnectionError():
            return failed(StoreError, "it can't be reached: is CLOUDBAKER_S3_ENDPOINT right and the server up?")
    return failed(StoreError, f"{type(error).__name__}: the log holds the details")
