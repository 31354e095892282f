"""Writers, and publishers that are killed at any time. A process of its own: everything is imported once, then forked.

The parent opens no database: a connection does not survive a fork.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.sinks import Retries, in_lanes, register
from cloudbaker.model import AssetRef
from cloudbaker.settings import Settings

ASSETS = [AssetRef("acme", "robots", f"asset-{n}") for n in range(5)]
RETRIES = Retries(attempts=1000, first=timedelta(milliseconds=20), most=timedelta(milliseconds=100))


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


def publisher(heard: Path) -> None:
    with Catalog.open(Settings()) as catalog:
        publisher = catalog.publisher([Journal(heard, refuse=0.05)], retries=RETRIES)
        while True:
            publisher.drain()
            time.sleep(0.002)


def writer(told: Path, seconds: float) -> None:
    """Announces n = 0, 1, 2 … per asset; what is in its file was acknowledged."""
    dice, counts = random.Random(), dict.fromkeys(map(str, ASSETS), 0)
    ends = time.monotonic() + seconds
    with Catalog.open(Settings()) as catalog:
        while time.monotonic() < ends:
            asset = dice.choice(ASSETS)
            catalog.announce(asset, "review.updated", {"n": [os.getpid(), counts[str(asset)]]})
            counts[str(asset)] += 1
            time.sleep(dice.uniform(0, 0.01))
    told.write_text(json.dumps({asset: [os.getpid(), count] for asset, count in counts.items()}))


def forked(work: Callable[[], object]) -> int:
    """Run in a child; its process id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


def main(folder: Path, seconds: float, writers: int) -> None:
    heard, dice, kills = folder / "heard", random.Random(), 0
    assert os.waitpid(forked(_begin), 0)[1] == 0
    # Two at a time: the second waits for its turn, and takes over in the middle of a round.
    publishers = [forked(lambda: publisher(heard)) for _ in range(2)]
    try:
        writing = [forked(lambda n=n: writer(folder / f"told-{n}", seconds)) for n in range(writers)]
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            time.sleep(dice.uniform(0.05, 0.3))
            victim = dice.randrange(2)
            os.kill(publishers[victim], signal.SIGKILL)
            assert os.waitstatus_to_exitcode(os.waitpid(publishers[victim], 0)[1]) == -signal.SIGKILL, "ended by itself"
            publishers[victim] = forked(lambda: publisher(heard))
            kills += 1
        for pid in writing:
            assert os.waitpid(pid, 0)[1] == 0
        assert os.waitpid(forked(lambda: _check(folder, kills)), 0)[1] == 0
    finally:
        for pid in publishers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _begin() -> None:
    with Catalog.open(Settings()) as catalog:
        register(catalog.core, Journal.name, catalog._clock())


def _check(folder: Path, kills: int) -> None:
    with Catalog.open(Settings()) as catalog:
        deadline = time.monotonic() + 60
        while (status := catalog.sinks()[0]).behind or status.waiting:
            assert time.monotonic() < deadline, status
            time.sleep(0.05)
        assert status.dead == 0
        ids, cursor = {}, None
        while True:
            page = catalog.events(limit=5000, cursor=cursor)
            ids.update({event.seq: event.id for event in page})
            cursor = page.next
            if cursor is None:
                break
    lines = [json.loads(line) for line in (folder / "heard").read_text().splitlines()]
    first, order = set[int](), defaultdict(list)
    for seq, asset, event_id, _ in lines:
        assert ids[seq] == event_id
        if seq not in first:
            first.add(seq)
            order[asset].append(seq)
    assert first == set(ids), f"lost: {sorted(set(ids) - first)[:5]}"
    for asset, seqs in order.items():
        assert seqs == sorted(seqs), f"events of {asset} out of order"
    heard_numbers = {(asset, *n) for _, asset, _, n in lines}
    for told in folder.glob("told-*"):
        for asset, (pid, count) in json.loads(told.read_text()).items():
            assert {(asset, pid, n) for n in range(count)} <= heard_numbers, "acknowledged and never told"
    print(json.dumps({"events": len(ids), "kills": kills, "twice": len(lines) - len(ids)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
