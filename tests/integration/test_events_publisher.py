"""The publisher's own process, as ``cloudbaker up`` runs it: it tells the configured webhook, and ends when told to."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from cloudbaker.catalog.core import Catalog
from cloudbaker.errors import UsageError
from cloudbaker.flows import service
from cloudbaker.flows.publisher import configured_sinks, ready_file
from cloudbaker.model import AssetRef
from cloudbaker.settings import Settings

HELMET = AssetRef("acme", "robots", "helmet")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[queue.Queue[dict]]:
    """What a webhook of the settings is sent."""
    got: queue.Queue[dict] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("CLOUDBAKER_WEBHOOK_URL", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("CLOUDBAKER_WEBHOOK_SECRET", SECRET)
        yield got
        server.shutdown()
        thread.join()


def start(home: Path) -> subprocess.Popen[str]:
    ready = ready_file(Settings(home=home))
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", "cloudbaker.flows.publisher"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not ready.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def test_the_process_tells_and_ends(home: Path, hook: queue.Queue[dict]) -> None:
    process = start(home)
    try:
        with Catalog.open(Settings(home=home)) as catalog:
            catalog.announce(HELMET, "review.updated", {"n": 1})
            assert hook.get(timeout=30)["data"] == {"n": 1}
            process.kill()
            process.communicate()
            catalog.announce(HELMET, "review.updated", {"n": 2})
            process = start(home)
            told = [hook.get(timeout=30)["data"]["n"]]
            while told[-1] != 2:  # the first may be told twice
                told.append(hook.get(timeout=30)["data"]["n"])
            assert told in ([2], [1, 2])
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert out == "telling webhook\n"
        assert SECRET not in out + err
    finally:
        process.kill()
        process.communicate()


def test_it_ends_with_its_parent(home: Path, hook: queue.Queue[dict]) -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'cloudbaker.flows.publisher'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    deadline = time.monotonic() + 60
    while not ready_file(Settings(home=home)).exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    parent.kill()
    while Path(f"/proc/{pid}").exists() and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < deadline, "the publisher outlives its parent"
        time.sleep(0.1)
    parent.communicate()


def test_a_webhook_that_can_not_be_is_told_before_anything_starts(
    home: Path, hook: queue.Queue[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDBAKER_WEBHOOK_SECRET", "short")
    with pytest.raises(UsageError, match="CLOUDBAKER_WEBHOOK_SECRET"):
        service.up(Settings(home=home))
    assert not (home / "logs").exists()


def test_who_is_told(home: Path, hook: queue.Queue[dict]) -> None:
    with configured_sinks(Settings(home=home)) as sinks:
        assert [sink.name for sink in sinks] == ["webhook"]
    with configured_sinks(Settings(home=home, prefect_api_url="http://127.0.0.1:9/api")) as sinks:
        assert [sink.name for sink in sinks] == ["prefect", "webhook"]
    with configured_sinks(Settings(home=home, webhook_url="")) as sinks:
        assert sinks == []
    assert "CLOUDBAKER_WEBHOOK_URL" in os.environ
