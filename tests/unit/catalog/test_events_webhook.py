"""The webhook against a real HTTP server: signature, order, refusals, and everything a receiver can do wrong."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from cloudbaker.catalog.sinks import Retries, register
from cloudbaker.catalog.webhook import Webhook, secret_bytes, sign
from cloudbaker.errors import SinkUnavailable, UsageError
from cloudbaker.model import AssetRef
from cloudbaker.settings import Settings

ARM, LEG = AssetRef("acme", "robots", "arm"), AssetRef("acme", "robots", "leg")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
DOCS = Path(__file__).parents[3] / "docs" / "events.md"


class Receiver(ThreadingHTTPServer):
    """Keeps what it was sent; `answer` decides on the status."""

    daemon_threads = True

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answer: Callable[[dict], tuple[int, dict[str, str]]] = lambda _body: (204, {})
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hooks?token=hidden"

    def bodies(self) -> list[dict]:
        return [json.loads(body) for _, body in self.got]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, headers = self.server.answer(json.loads(body))
        if status < 300:
            self.server.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        said = b"" if status == 204 else b"because\x1b[31m" * 2
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def hook(receiver, catalog, clock):
    webhook = Webhook(receiver.url, SECRET, timeout=httpx.Timeout(0.5))
    register(catalog.core, webhook.name, clock())
    yield webhook
    webhook.close()


def tell(catalog, asset, *numbers):
    for n in numbers:
        catalog.announce(asset, "review.updated", {"n": n, "name": "Gläser"}, run_id="run-1")


def test_each_event_is_a_signed_post(catalog, hook, receiver):
    tell(catalog, ARM, 1)
    assert catalog.publisher([hook]).drain()["webhook"].told == 1
    headers, body = receiver.got[0]
    event = catalog.events()[0]
    assert json.loads(body) == {
        "type": "review.updated",
        "timestamp": event.at.isoformat(),
        "data": {"n": 1, "name": "Gläser"},
        "id": event.id,
        "seq": event.seq,
        "tenant": "acme",
        "asset": "acme/robots/arm",
        "run_id": "run-1",
    }
    assert headers["webhook-id"] == event.id
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    assert headers["content-type"] == "application/json"
    expected = sign(secret_bytes(SECRET), event.id, int(headers["webhook-timestamp"]), body)
    assert headers["webhook-signature"] == expected


def test_the_signature_is_that_of_the_specification():
    # The example of the Standard Webhooks specification's own libraries.
    signature = sign(secret_bytes(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_the_docs_say_receivers_do_accepts_ours_and_nothing_else(catalog, hook, receiver):
    code = re.search(r"```python\n(import base64.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert code is not None
    space: dict = {}
    exec(code[1], space)
    tell(catalog, ARM, 1)
    catalog.publisher([hook]).drain()
    headers, body = receiver.got[0]
    verify = space["verify"]
    verify(SECRET, headers, body)
    for changed in (
        (SECRET, headers, body + b" "),
        ("whsec_" + "A" * 32, headers, body),
        (SECRET, headers | {"webhook-id": "other"}, body),
        (SECRET, headers | {"webhook-timestamp": str(int(time.time()) - 3600)}, body),
        (SECRET, headers | {"webhook-signature": "v1,AAAA v2,BBBB"}, body),
    ):
        with pytest.raises(ValueError, match=r"signature|old"):
            verify(*changed)


@pytest.mark.parametrize("status", [301, 307, 400, 404, 410, 429, 500, 503])
def test_what_is_refused_is_told_again_and_redirects_are_not_followed(catalog, hook, receiver, clock, status):
    receiver.answer = lambda body: (status, {"Location": receiver.url}) if body["data"]["n"] == 1 else (200, {})
    tell(catalog, ARM, 1, 2)
    tell(catalog, LEG, 3)
    publisher = catalog.publisher([hook], retries=Retries(attempts=5))
    publisher.drain()
    assert [body["data"]["n"] for body in receiver.bodies()] == [3]
    failed = catalog.deliveries()[0]
    assert failed.error.startswith(f"answered {status}: because")
    assert "token" not in failed.error
    receiver.answer = lambda _body: (200, {})
    clock.later(minutes=1)
    publisher.drain()
    assert [body["data"]["n"] for body in receiver.bodies()] == [3, 1, 2]


def test_a_receiver_that_does_not_answer_in_time_or_talks_nonsense(catalog, clock):
    """A socket that accepts and is silent; one that closes; one that is no HTTP server."""
    behaviours = {"silent": None, "closes": b"", "nonsense": b"\x00\x01\x02 nothing of HTTP\r\n\r\n"}
    with socket.create_server(("127.0.0.1", 0)) as server:
        how = iter(behaviours.values())
        done = threading.Event()

        def serve() -> None:
            for said in how:
                peer, _ = server.accept()
                with peer:
                    peer.recv(65536)
                    if said is None:
                        done.wait(5)
                    else:
                        peer.sendall(said)

        thread = threading.Thread(target=serve)
        thread.start()
        webhook = Webhook(f"http://127.0.0.1:{server.getsockname()[1]}", SECRET, timeout=httpx.Timeout(0.3))
        register(catalog.core, webhook.name, clock())
        tell(catalog, ARM, 1)
        publisher = catalog.publisher([webhook])
        errors = []
        for _ in behaviours:
            publisher.drain()
            errors.append(catalog.deliveries()[0].error)
            done.set()
            clock.later(hours=1)
        thread.join()
        webhook.close()
    assert errors[0] == "no answer in time"
    assert all(error.startswith("no proper answer") for error in errors[1:])
    assert catalog.deliveries()[0].attempts == 3


def test_nobody_there_costs_no_attempt(catalog, clock):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    webhook = Webhook(f"http://127.0.0.1:{port}", SECRET)
    register(catalog.core, webhook.name, clock())
    tell(catalog, ARM, 1)
    with pytest.raises(SinkUnavailable, match="can't be reached"):
        webhook.deliver(catalog.events())
    assert catalog.publisher([webhook]).drain()["webhook"].unavailable
    assert catalog.deliveries() == []
    webhook.close()


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("ftp://example.org/x", SECRET),
        ("hooks", SECRET),
        ("http://", SECRET),
        ("https://exa mple.org:99999/", SECRET),
        ("https://user:pass@example.org", "short"),
        ("https://example.org", ""),
        ("https://example.org", "whsec_***"),
        ("https://example.org", "whsec_aaaa"),
    ],
)
def test_addresses_and_secrets_that_can_not_be(url, secret):
    with pytest.raises(UsageError, match="CLOUDBAKER_WEBHOOK_") as caught:
        Webhook(url, secret)
    assert "pass" not in str(caught.value)


def test_the_secret_is_in_no_form_of_the_settings(monkeypatch):
    monkeypatch.setenv("CLOUDBAKER_WEBHOOK_SECRET", SECRET)
    config = Settings()
    assert config.webhook_secret.get_secret_value() == SECRET
    for text in (repr(config), str(config), config.model_dump_json()):
        assert SECRET not in text
