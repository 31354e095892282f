"""Drivers that are cancelled, killed or share a machine: each one a process of its own, on a Ray of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.timeout(180)

BULK = """
    import os, signal, sys, tempfile
    from cloudbaker.compute.cluster import WorkItem, connect
    from cloudbaker.compute.faults import WORK

    class TerminationSignal(BaseException):  # what Prefect raises in a flow run that is cancelled
        pass

    def terminate(*_):
        raise TerminationSignal

    {before}
    cluster = connect()
    items = [WorkItem("first", {{"n": 0}}), *(WorkItem(str(n), {{"worker": "hang"}}) for n in range(6))]
    try:
        with cluster, cluster.map(WORK, items, wall_seconds=600) as work:
            for attempt in work:
                print("running", flush=True)
    except TerminationSignal:
        print("cancelled", flush=True)
"""


@pytest.fixture
def driver(tmp_path):
    """Starts a driver with a temporary folder of its own; afterwards nothing of it may be left."""
    folder = Path("/tmp") / f"cb-{os.getpid()}"  # short: Ray's sockets lie in there
    folder.mkdir()
    started: list[subprocess.Popen[str]] = []

    def start(code: str, **env: str) -> subprocess.Popen[str]:
        script = tmp_path / f"driver{len(started)}.py"
        script.write_text(textwrap.dedent(code))
        errors = tmp_path / f"stderr{len(started)}"
        process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors.open("w"),
            text=True,
            env={**os.environ, "TMPDIR": str(folder), "CB_TEST_DRIVER": str(folder), **env},
        )
        process.errors = errors
        started.append(process)
        return process

    start.folder = folder
    yield start
    for process in started:
        process.kill()
        process.wait()
    left = wait_for_end(folder)
    for process in left:
        process.kill()
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    assert not left, "processes were left behind"


def family(folder: Path) -> list[psutil.Process]:
    """All processes that a driver has started: they have inherited its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("CB_TEST_DRIVER") == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            pass
    return found


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    """What a driver wrote to stdout, all of it, when it has ended as it should."""
    out = process.communicate(timeout=150)[0]
    assert process.returncode == code, Path(process.errors).read_text()[-4000:]
    return out


def wait_for_end(folder: Path, seconds: float = 30.0) -> list[psutil.Process]:
    end = time.monotonic() + seconds
    while (left := family(folder)) and time.monotonic() < end:
        time.sleep(0.1)
    return left


def said(process: subprocess.Popen[str], what: str) -> str:
    for line in process.stdout:
        if what in line:
            return line
    raise AssertionError(f"the driver ended without saying {what!r}")


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_cancelled_driver_ends_as_it_wants_and_leaves_nothing(driver, number):
    process = driver(BULK.format(before="for n in (signal.SIGTERM, signal.SIGINT): signal.signal(n, terminate)"))
    said(process, "running")
    time.sleep(1.0)  # let the hanging ones begin
    assert len(family(driver.folder)) > 5
    process.send_signal(number)
    assert process.stdout.read().split()[-1] == "cancelled"
    assert process.wait(30) == 0
    assert not wait_for_end(driver.folder)
    assert list(driver.folder.iterdir()) == []


@pytest.mark.slow
def test_a_terminated_driver_without_a_handler_dies_of_the_signal(driver):
    process = driver(BULK.format(before=""))
    said(process, "running")
    process.terminate()
    assert process.wait(30) == -signal.SIGTERM  # as without Ray, whose own handler would exit with 1
    assert not wait_for_end(driver.folder)


def test_a_killed_driver_leaves_no_process_and_the_next_one_sweeps(driver):
    process = driver(BULK.format(before=""))
    said(process, "running")
    process.kill()
    process.wait(30)
    assert not wait_for_end(driver.folder)
    left = list(driver.folder.glob("cb-ray-*"))
    assert len(left) == 1
    after = driver(
        """
        import os
        from cloudbaker.compute.cluster import _Session
        session = _Session()
        print(os.listdir(os.environ["TMPDIR"]) == [session.folder.name])
        session.remove()
        """
    )
    assert finish(after).strip() == "True"


def test_clusters_on_one_machine_do_not_meet_and_can_be_joined(driver):
    home = driver(
        """
        import os, sys
        from cloudbaker.compute.cluster import connect
        with connect(num_cpus=1) as cluster:
            print(f"address {cluster.address} {os.environ['RAY_AUTH_TOKEN']}", flush=True)
            sys.stdin.read()
        """,
    )
    address, token = said(home, "address").split()[1:]
    try:
        other = driver(
            """
            import json
            from cloudbaker.compute.cluster import connect
            from cloudbaker.errors import ComputeUnavailable
            with connect(num_cpus=3) as cluster:
                print(json.dumps({"address": cluster.address, **cluster.resources()}))
            """
        )
        joined = driver(
            f"""
            import json
            from cloudbaker.compute.cluster import connect
            from cloudbaker.compute.faults import FAULT_JOB
            from cloudbaker.compute.job import Job
            with connect("{address}") as cluster:
                status = cluster.workbench().run(Job(FAULT_JOB)).status
                print(json.dumps({{"status": status, "local": cluster.local, **cluster.resources()}}))
            """,
            RAY_AUTH_MODE="token",
            RAY_AUTH_TOKEN=token,
        )
        found = json.loads(finish(other))
        assert (found["CPU"], found["nodes"]) == (3, 1)
        assert found["address"] != address
        found = json.loads(finish(joined))
        assert (found["status"], found["local"], found["CPU"], found["nodes"]) == ("ok", False, 1, 1)
        assert home.poll() is None  # closing a joined cluster does not end it
    finally:
        home.kill()


def test_gpu_tag_quiet_stdout_and_kept_handler(driver):
    process = driver(
        """
        import json, os, signal
        def mine(*_): pass
        signal.signal(signal.SIGTERM, mine)
        from cloudbaker.compute.cluster import WorkItem, connect
        from cloudbaker.compute.faults import FAULT_JOB, WORK
        from cloudbaker.compute.job import Job
        with connect(num_cpus=2, num_gpus=1) as cluster:
            kept = signal.getsignal(signal.SIGTERM) is mine
            jobs = [Job(FAULT_JOB), Job(FAULT_JOB, gpu=True), Job(FAULT_JOB, gpu=True)]
            outcomes = cluster.workbench().run_all(jobs)
            kinds = sorted(hand.kind.device for hand in cluster.crew._hands)
            lost = [a.status for a in cluster.map(WORK, [WorkItem("a", {"worker": "die"})], wall_seconds=60)]
            gpus = cluster.resources()["GPU"]
        kept = kept and signal.getsignal(signal.SIGTERM) is mine
        with connect(num_cpus=1) as cluster:  # and again in the same process
            again = cluster.workbench().run(Job(FAULT_JOB, gpu=True)).device
        print(json.dumps({"kept": kept, "devices": [o.device for o in outcomes], "status": [o.status for o in outcomes],
                          "kinds": kinds, "lost": lost, "gpus": gpus, "again": again}))
        """
    )
    found = json.loads(finish(process))  # and nothing else on stdout
    assert found["kept"]
    assert found["gpus"] == 1
    assert found["status"] == ["ok"] * 3
    assert found["devices"] == ["cpu", "cuda", "cuda"]
    assert set(found["kinds"]) == {"cpu", "cuda"}
    assert found["lost"] == ["lost"]
    assert found["again"] == "cpu"


@pytest.mark.slow
def test_a_node_lost_under_bulk_work(driver):
    process = driver(
        """
        import collections, json, os
        from cloudbaker.compute.cluster import WorkItem, _import_ray, connect
        from cloudbaker.compute.faults import FAULT_JOB, WORK
        from cloudbaker.compute.job import Job
        os.environ["RAY_AUTH_MODE"] = "disabled"
        _import_ray()
        from ray.cluster_utils import Cluster as Nodes
        nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1})
        victim = nodes.add_node(num_cpus=2, num_gpus=1)
        nodes.add_node(num_cpus=1)
        tries = collections.Counter()
        with connect(nodes.address) as cluster:
            size = cluster.crew.size()
            before = cluster.workbench().run(Job(FAULT_JOB, {"a": bytes(1 << 20)}, gpu=True)).device
            items = [WorkItem(str(n), {"worker": "sleep", "seconds": 0.1}) for n in range(200)]
            done = collections.Counter()
            with cluster.map(WORK, items, wall_seconds=60) as work:
                for attempt in work:
                    tries[attempt.status] += 1
                    if attempt.status == "ok":
                        done[attempt.item_id] += 1
                    else:
                        work.submit(attempt.item)
                    if sum(done.values()) == 40 and victim is not None:
                        nodes.remove_node(victim, allow_graceful=False)
                        victim = None
            import time
            end = time.monotonic() + 60
            while cluster.resources()["GPU"] and time.monotonic() < end:
                time.sleep(0.5)
            cluster.crew._sized_at = float("-inf")
            after = cluster.workbench().run(Job(FAULT_JOB, gpu=True)).device
        print(json.dumps({"size": size, "before": before, "after": after, "lost": tries["lost"], "done": len(done),
                          "most": max(done.values())}))
        nodes.shutdown()
        """,
        RAY_AUTH_MODE="disabled",
    )
    found = json.loads(finish(process).splitlines()[-1])
    assert (found["before"], found["after"]) == ("cuda", "cpu")
    assert (found["done"], found["most"]) == (200, 1)
    assert found["lost"] <= found["size"]
    assert found["size"] == 4
