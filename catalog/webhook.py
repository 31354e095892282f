"""The webhook: each event one signed POST, by the Standard Webhooks specification (standardwebhooks.com, 1.0.0).

Receivers check the signature with any of that specification's libraries, or with the ten lines of docs/events.md. The
address is the operator's and not a tenant's, so private networks are allowed; redirects are not followed, because the
signed event would go to whoever is named there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from cloudbaker import __version__
from cloudbaker.catalog.events import Event
from cloudbaker.catalog.sinks import in_lanes
from cloudbaker.errors import SinkUnavailable, UsageError

LEAST_SECRET = 16
"""Bytes of a secret."""
TIMEOUT = httpx.Timeout(15.0, connect=5.0)
"""Seconds without a sign of the receiver."""


class Webhook:
    """A sink (see `cloudbaker.catalog.sinks.Sink`). What is answered with 2xx is taken."""

    def __init__(self, url: str, secret: str, *, name: str = "webhook", timeout: httpx.Timeout = TIMEOUT) -> None:
        """Raises `UsageError` for an address or a secret that can't be used. Neither is repeated in a message."""
        self.name = name
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            parsed = httpx.URL()
        if parsed.scheme not in ("http", "https") or not parsed.host or any(c.isspace() for c in url):
            raise UsageError("CLOUDBAKER_WEBHOOK_URL is no address: write https://host/path")
        self._url = parsed
        self._secret = secret_bytes(secret)
        self._client = httpx.Client(
            timeout=timeout, follow_redirects=False, headers={"User-Agent": f"cloudbaker/{__version__}"}
        )

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def deliver(self, events: Sequence[Event]) -> Mapping[int, str | None]:
        """Assets side by side, the events of each in order. Raises `SinkUnavailable` if nobody listens there."""
        return in_lanes(events, self._send)

    def _send(self, event: Event) -> str | None:
        body = json.dumps(message(event), ensure_ascii=False, separators=(",", ":")).encode()
        now = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": event.id,
            "webhook-timestamp": str(now),
            "webhook-signature": sign(self._secret, event.id, now, body),
        }
        try:
            with self._client.stream("POST", self._url, content=body, headers=headers) as answer:
                if answer.is_success:
                    return None
                said = next(answer.iter_bytes(300), b"")[:300].decode("utf-8", "replace")
                return f"answered {answer.status_code}: {' '.join(said.split())}".removesuffix(": ")
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise SinkUnavailable(
                f"the webhook {self.name} can't be reached: is its server up, and CLOUDBAKER_WEBHOOK_URL right?",
                detail=repr(error),
            ) from error
        except httpx.TimeoutException:
            return "no answer in time"
        except (httpx.HTTPError, httpx.StreamError) as error:
            return f"no proper answer ({type(error).__name__})"


def message(event: Event) -> dict[str, Any]:
    """The body of the POST."""
    fields = event.to_json()
    return {"type": fields.pop("kind"), "timestamp": fields.pop("at"), "data": fields.pop("payload"), **fields}


def sign(secret: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """The ``webhook-signature`` header: HMAC-SHA256 over ``{id}.{timestamp}.{body}``, in base64, after its version."""
    signed = hmac.new(secret, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(signed).decode()


def secret_bytes(secret: str) -> bytes:
    """The key behind a secret: ``whsec_`` and base64, or any text as it is. Raises `UsageError`."""
    key = secret.encode()
    if secret.startswith("whsec_"):
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            key = b""
    if len(key) < LEAST_SECRET:
        raise UsageError(
            f"CLOUDBAKER_WEBHOOK_SECRET is missing, or shorter than {LEAST_SECRET} bytes: make one (docs/events.md), "
            "and give it to the receiver too"
        )
    return key
