"""The publisher is killed while writers write, again and again: nothing is lost, every asset's events are in order."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.events import register
from cloudbaker.settings import Settings

VICTIMS = Path(__file__).with_name("events_victims.py")


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(VICTIMS), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill_publishers(tmp_path: Path, config: Settings, tell, *, seconds: float, writers: int) -> None:
    heard = tmp_path / "heard"
    with Catalog.open(config) as catalog:
        register(catalog.core, "journal", catalog._clock())
    # Two at a time: the second waits for its turn, and takes over in the middle of a round.
    publishers = [start("publish", heard) for _ in range(2)]
    writing = [start("write", seconds) for _ in range(writers)]
    kills = 0
    dice = random.Random()
    try:
        while any(writer.poll() is None for writer in writing):
            time.sleep(dice.uniform(0.05, 0.4))
            victim = dice.randrange(2)
            # Only one that works: killing Python at its start would prove nothing.
            if publishers[victim].stdout.readline() == "ready\n":
                time.sleep(dice.uniform(0, 0.3))
                publishers[victim].send_signal(signal.SIGKILL)
                assert publishers[victim].wait() == -signal.SIGKILL
                publishers[victim].stdout.close()
                kills += 1
                publishers[victim] = start("publish", heard)
        sent = [json.loads(writer.communicate(timeout=60)[0]) for writer in writing]
        with Catalog.open(config) as catalog:
            deadline = time.monotonic() + 60
            while (status := catalog.sinks()[0]).behind or status.waiting:
                assert time.monotonic() < deadline, status
                time.sleep(0.05)
            assert status.dead == 0
            ids = {event.seq: event.id for event in _all(catalog)}
    finally:
        for process in (*publishers, *writing):
            process.kill()
            process.communicate()

    # A line that a kill tore is no delivery.
    lines = [json.loads(line) for line in heard.read_text().splitlines() if line.endswith("]")]
    told = defaultdict(list)
    first = {}
    for seq, asset, event_id, _ in lines:
        assert ids[seq] == event_id
        if seq not in first:
            first[seq] = len(first)
            told[asset].append(seq)
    assert set(first) == set(ids), "lost"
    for asset, seqs in told.items():
        assert seqs == sorted(seqs), f"events of {asset} out of order"
    heard_numbers = {(asset, *n) for _, asset, _, n in lines}
    for counts in sent:
        for asset, (writer, count) in counts.items():
            assert {(asset, writer, n) for n in range(count)} <= heard_numbers
    assert kills >= 2
    tell(
        f"{len(ids)} events, {kills} kills of the publisher: 0 lost, 0 out of order, {len(lines) - len(ids)} told twice"
    )


def _all(catalog: Catalog) -> list:
    found, cursor = [], None
    while True:
        page = catalog.events(limit=5000, cursor=cursor)
        found += page
        if page.next is None:
            return found
        cursor = page.next


@pytest.mark.timeout(180)
def test_nothing_is_lost_by_kills(home, tmp_path, tell):
    kill_publishers(tmp_path, Settings(home=home), tell, seconds=5, writers=2)


@pytest.mark.timeout(180)
def test_nothing_is_lost_by_kills_on_postgres(home, tmp_path, tell, postgres, monkeypatch):
    monkeypatch.setenv("CLOUDBAKER_CATALOG_URL", postgres)
    kill_publishers(tmp_path, Settings(), tell, seconds=5, writers=3)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_lost_by_many_kills(home, tmp_path, tell):
    kill_publishers(tmp_path, Settings(home=home), tell, seconds=90, writers=4)
