"""Processes of the events' chaos tests: writers, and publishers that are killed at any time."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path

from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.events import Retries, in_lanes
from cloudbaker.model import AssetRef
from cloudbaker.settings import Settings

ASSETS = [AssetRef("acme", "robots", f"asset-{n}") for n in range(5)]


class Journal:
    """A sink that writes what it is told into a file, one line at a time, and refuses every so often."""

    name = "journal"

    def __init__(self, path: Path, refuse: float) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._refuse = refuse
        self._dice = random.Random()

    def deliver(self, events):
        def send(event):
            if self._dice.random() < self._refuse:
                return "not now"
            line = json.dumps([event.seq, event.asset, event.id, event.payload["n"]]) + "\n"
            os.write(self._file, line.encode())
            return None

        return in_lanes(events, send, parallel=3)


def publish_for_ever(path: Path) -> None:
    from datetime import timedelta

    retries = Retries(attempts=1000, first=timedelta(milliseconds=20), most=timedelta(milliseconds=100))
    with Catalog.open(Settings()) as catalog:
        publisher = catalog.publisher([Journal(path, refuse=0.05)], retries=retries)
        print("ready", flush=True)
        while True:
            publisher.drain()
            time.sleep(0.005)


def write(seconds: float) -> None:
    """Announces n = 0, 1, 2 … per asset; what is printed at the end was acknowledged."""
    dice, counts = random.Random(), dict.fromkeys(ASSETS, 0)
    writer, ends = os.getpid(), time.monotonic() + seconds
    with Catalog.open(Settings()) as catalog:
        while time.monotonic() < ends:
            asset = dice.choice(ASSETS)
            catalog.announce(asset, "review.updated", {"n": [writer, counts[asset]]})
            counts[asset] += 1
            time.sleep(dice.uniform(0, 0.01))
    print(json.dumps({str(asset): [writer, count] for asset, count in counts.items()}))


if __name__ == "__main__":
    if sys.argv[1] == "publish":
        publish_for_ever(Path(sys.argv[2]))
    else:
        write(float(sys.argv[2]))
