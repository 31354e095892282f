"""Jobs and bulk work on a real local Ray, with real sandboxes."""

from __future__ import annotations

import collections
import hashlib
import itertools
import logging
import os
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from cloudbaker import logs
from cloudbaker.compute.cluster import AttemptStatus, Cluster, RayWorkbench, WorkItem, WorkMap, connect
from cloudbaker.compute.crew import Crew, CrewOptions
from cloudbaker.compute.faults import FAULT_JOB, WORK
from cloudbaker.compute.job import Job, Limits, Status
from cloudbaker.errors import Cancelled, ComputeUnavailable, SourceUnreadable, UsageError

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def cluster():
    with connect() as found:
        yield found


@pytest.fixture(scope="module")
def bench(cluster):
    return cluster.workbench()


@contextmanager
def crew_of(cluster: Cluster, **options):
    """Workers of their own beside the cluster's, to be treated badly."""
    crew = Crew(CrewOptions(**options))
    try:
        yield crew
    finally:
        crew.close()


def bulk(crew: Crew, items, *, wall_seconds=60.0, window=None) -> WorkMap:
    return WorkMap(crew, WORK, items, wall_seconds, window, {}, False, "")


def until(condition, what: str, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.05)


def ready_pids(crew: Crew) -> list[int]:
    return [hand.facts.pid for hand in crew._hands if hand.facts]


# jobs


def test_a_job_runs_in_a_sandbox_on_a_worker(bench):
    outcome = bench.run(Job(FAULT_JOB, {"a": b"abc"}))
    assert outcome.status is Status.OK
    assert outcome.value["inputs"]["a"]["sha256"] == hashlib.sha256(b"abc").hexdigest()
    assert outcome.device == "cpu"
    assert "landlock" in outcome.isolation
    assert bench.name == "ray"


def test_outcomes_come_in_the_order_of_the_jobs(bench):
    jobs = [Job(FAULT_JOB, {str(n): bytes([n])}, {"fault": "sleep", "seconds": 0.2 if n == 0 else 0}) for n in range(8)]
    outcomes = bench.run_all(jobs)
    assert [list(outcome.value["inputs"]) for outcome in outcomes] == [[str(n)] for n in range(8)]
    assert bench.run_all([]) == []


def test_faults_of_content_are_outcomes_and_the_workers_live(bench, cluster):
    limits = Limits(memory_bytes=512 << 20, wall_seconds=2.0, cpu_seconds=30)
    before = {bench.run(Job(FAULT_JOB)).status, *map(str, ready_pids(cluster.crew))}
    faults = {"hang": Status.WALL, "segfault": Status.CRASH, "balloon": Status.MEMORY, "error": Status.ERROR}
    outcomes = bench.run_all([Job(FAULT_JOB, params={"fault": fault}, limits=limits) for fault in faults])
    assert [outcome.status for outcome in outcomes] == list(faults.values())
    assert {Status.OK, *map(str, ready_pids(cluster.crew))} >= before


def test_large_inputs_and_results_are_not_multiplied(bench, cluster):
    size = 100 << 20
    data = os.urandom(1 << 20) * 100
    outcome = bench.run(Job(FAULT_JOB))  # so that at least one worker is there
    pids = ready_pids(cluster.crew)
    before = {pid: psutil.Process(pid).memory_full_info().uss for pid in pids}
    outcome = bench.run(Job(FAULT_JOB, {"a": data}))
    assert outcome.value["inputs"]["a"] == {"bytes": size, "sha256": hashlib.sha256(data).hexdigest()}
    assert outcome.peak_bytes < size + (100 << 20)  # the job's process maps it once
    for pid, was in before.items():
        assert psutil.Process(pid).memory_full_info().uss - was < size // 2  # the worker holds no copy of its own

    outcome = bench.run(Job(FAULT_JOB, params={"fault": "files", "sizes": {"large": size, "small": 1}}))
    assert {name: len(content) for name, content in outcome.files.items()} == {"large": size, "small": 1}
    assert all(isinstance(content, bytes) for content in outcome.files.values())


def test_paths_are_opened_where_the_worker_is(bench, tmp_path, monkeypatch):
    path = tmp_path / "model"
    path.write_bytes(b"from a file" * 100_000)
    monkeypatch.chdir(tmp_path)
    for given in (path, Path("model")):
        outcome = bench.run(Job(FAULT_JOB, {"a": given}))
        assert outcome.value["inputs"]["a"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(SourceUnreadable):
        bench.run(Job(FAULT_JOB, {"a": tmp_path / "missing"}))
    with pytest.raises(UsageError):
        bench.run(Job("os:system"))
    assert bench.run(Job(FAULT_JOB)).status is Status.OK


def test_many_threads_share_the_workers(bench, cluster):
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: found.extend(bench.run(Job(FAULT_JOB, {str(n): b""})).value["inputs"]))
        for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found, key=int) == [str(n) for n in range(12)]
    assert cluster.crew.count() <= cluster.crew.size()


def test_no_gpu_means_the_cpu_at_once_and_it_is_said_once(cluster):
    if cluster.resources()["GPU"]:
        pytest.skip("this machine has a GPU")
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("cloudbaker").addHandler(handler)
    try:
        with crew_of(cluster) as crew:
            outcomes = RayWorkbench(crew, None, False, "").run_all([Job(FAULT_JOB, gpu=True)] * 3)
    finally:
        logging.getLogger("cloudbaker").removeHandler(handler)
    assert [(outcome.status, outcome.device) for outcome in outcomes] == [(Status.OK, "cpu")] * 3
    assert len([line for line in said if "no GPU" in line]) == 1


def test_a_worker_killed_under_a_job_is_a_crash_and_is_replaced(cluster):
    with crew_of(cluster) as crew:
        bench = RayWorkbench(crew, None, False, "")
        found = []
        thread = threading.Thread(
            target=lambda: found.append(bench.run(Job(FAULT_JOB, params={"fault": "sleep", "seconds": 100})))
        )
        thread.start()
        until(lambda: ready_pids(crew), "a worker")
        process = psutil.Process(ready_pids(crew)[0])
        until(lambda: len(process.children(recursive=True)) >= 2, "the fork server and its job")
        family = process.children(recursive=True)
        process.kill()
        thread.join(60)
        assert found[0].status is Status.CRASH
        assert "lost" in found[0].error
        assert "landlock" in found[0].isolation
        until(lambda: not any(child.is_running() for child in family), "the end of the sandboxed processes")
        assert bench.run(Job(FAULT_JOB)).status is Status.OK


def test_a_worker_that_no_longer_answers_is_killed_by_the_driver(cluster):
    with crew_of(cluster, grace_seconds=1.0) as crew:
        bench = RayWorkbench(crew, None, False, "")
        assert bench.run(Job(FAULT_JOB)).status is Status.OK
        process = psutil.Process(ready_pids(crew)[0])
        job = Job(FAULT_JOB, params={"fault": "sleep", "seconds": 100}, limits=Limits(wall_seconds=2.0))
        found = []
        thread = threading.Thread(target=lambda: found.append(bench.run(job)))
        thread.start()
        until(lambda: len(process.children(recursive=True)) >= 2, "the job")
        process.suspend()  # its sandbox's clock stands still too
        thread.join(60)
        assert found[0].status is Status.WALL
        assert "driver" in found[0].error
        until(lambda: not process.is_running(), "the end of the worker")
        assert bench.run(Job(FAULT_JOB)).status is Status.OK


def test_a_worker_that_died_while_idle_costs_no_attempt(cluster):
    with crew_of(cluster) as crew:
        bench = RayWorkbench(crew, None, False, "")
        assert bench.run(Job(FAULT_JOB)).status is Status.OK
        psutil.Process(ready_pids(crew)[0]).kill()
        time.sleep(1.1)  # younger ones are believed to live
        assert bench.run(Job(FAULT_JOB)).status is Status.OK


def test_idle_workers_are_let_go(cluster):
    with crew_of(cluster, idle_seconds=0.3) as crew:
        bench = RayWorkbench(crew, None, False, "")
        assert bench.run(Job(FAULT_JOB)).status is Status.OK
        processes = [psutil.Process(pid) for pid in ready_pids(crew)]
        until(lambda: crew.count() == 0, "idle workers to be let go")
        until(lambda: not any(process.is_running() for process in processes), "their processes")
        assert bench.run(Job(FAULT_JOB)).status is Status.OK


def test_trusted_and_untrusted_work_never_share_a_worker(cluster):
    with crew_of(cluster) as crew:
        for trusted in (False, True, False, True):
            assert RayWorkbench(crew, 1, trusted, "").run(Job(FAULT_JOB)).status is Status.OK
        kinds = {hand.kind.trusted: hand.facts.pid for hand in crew._hands}
        assert len(set(kinds.values())) == 2
        assert crew.count() <= crew.size()


# bulk


def test_300_items_each_exactly_once(cluster):
    with (
        logs.bound(run_id="run-1"),
        cluster.map(
            WORK, (WorkItem(f"i{n}", {"n": n}) for n in range(300)), wall_seconds=60, context={"any": 1}
        ) as work,
    ):
        attempts = list(work)
    assert collections.Counter(attempt.item_id for attempt in attempts) == {f"i{n}": 1 for n in range(300)}
    assert all(attempt.status is AttemptStatus.OK and attempt.error is None for attempt in attempts)
    assert {attempt.value["n"] for attempt in attempts} == set(range(300))
    assert attempts[0].value["log"] == {"run_id": "run-1", "item": attempts[0].item_id}
    assert len({attempt.worker for attempt in attempts}) <= cluster.crew.size()


@pytest.mark.parametrize("window", [1, None])
def test_items_are_pulled_only_as_the_window_has_room(cluster, window):
    pulled = ended = 0
    most = 0

    def items():
        nonlocal pulled, most
        for n in range(40):
            pulled += 1
            most = max(most, pulled - ended)
            yield WorkItem(str(n), {"n": n})

    for _ in cluster.map(WORK, items(), wall_seconds=60, window=window):
        ended += 1
    assert ended == 40
    # one more than the window at most: it is pulled before the attempt that made room has been handed out
    assert most <= (window or cluster.crew.size()) + 1


def test_every_fault_is_reported_once_and_neighbours_are_untouched(cluster, tmp_path):
    trace = tmp_path / "calls"
    planted = {3: {"worker": "die"}, 9: {"worker": "hang"}, 14: {"worker": "error"}, 17: {"job": {"fault": "segfault"}},
               23: {"worker": "die"}, 31: {"job": {"fault": "balloon"}}}  # fmt: skip
    items = [WorkItem(str(n), {"n": n, "trace": str(trace), **planted.get(n, {})}) for n in range(60)]
    with crew_of(cluster) as crew, bulk(crew, items, wall_seconds=15.0) as work:
        attempts = {attempt.item_id: attempt for attempt in work}
        again = {attempt.item_id: attempt for attempt in bulk(crew, [items[0], items[1]])}
    calls = collections.Counter(line.split()[0] for line in trace.read_text().splitlines())
    assert calls == {str(n): 2 if n < 2 else 1 for n in range(60)}
    status = {n: attempts[str(n)].status for n in range(60)}
    expected = {3: "lost", 9: "timeout", 14: "error", 23: "lost"}
    assert status == {n: expected.get(n, "ok") for n in range(60)}
    assert attempts["17"].value["status"] == "crash"
    assert attempts["31"].value["status"] == "memory"
    assert (attempts["3"].error["code"], attempts["9"].error["code"]) == ("CB5201", "CB3001")
    assert {attempt.status for attempt in again.values()} == {"ok"}


def test_the_caller_counts_attempts(cluster):
    tries: collections.Counter[str] = collections.Counter()
    order = []
    items = [WorkItem(str(n), {"n": n, **({"worker": "error"} if n == 1 else {})}) for n in range(5)]
    with cluster.map(WORK, iter(items), wall_seconds=60, window=1) as work:
        for attempt in work:
            order.append(attempt.item_id)
            tries[attempt.item_id] += 1
            if attempt.status is not AttemptStatus.OK and tries[attempt.item_id] < 3:
                work.submit(attempt.item)
    assert order == ["0", "1", "2", "3", "4", "1", "1"]


def test_a_single_job_is_served_while_bulk_work_runs(cluster):
    left = []
    with crew_of(cluster) as crew:
        bench = RayWorkbench(crew, None, False, "")
        work = bulk(crew, (WorkItem(str(n), {"worker": "sleep", "seconds": 0.1}) for n in range(200)))
        next(work)
        done = threading.Event()
        thread = threading.Thread(target=lambda: (bench.run(Job(FAULT_JOB)), done.set()))
        thread.start()
        for attempt in work:
            if done.is_set():
                left.append(attempt.item_id)
                break
        work.close()
        thread.join(60)
    assert left, "the job had to wait for the end of the bulk run"


@pytest.mark.parametrize("how", ["close", "exception", "interrupt"])
def test_stopping_kills_what_is_under_way(cluster, tmp_path, how):
    trace = tmp_path / "hanging"
    items = [WorkItem("hangs", {"worker": "hang", "trace": str(trace)})]
    items += [WorkItem(str(n), {"worker": "sleep", "seconds": 0.1}) for n in range(1000)]
    with crew_of(cluster) as crew:
        work = bulk(crew, items)
        for _ in work:
            if trace.exists() and trace.read_text().endswith("\n"):
                break
        process = psutil.Process(int(trace.read_text().split()[-1]))
        family = [process, *process.children(recursive=True)]
        assert len(family) >= 2
        if how == "close":
            work.close()
        elif how == "exception":
            with pytest.raises(ZeroDivisionError), work:
                raise ZeroDivisionError
        else:
            threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT]).start()
            with pytest.raises(KeyboardInterrupt):
                collections.deque(work, maxlen=0)
        until(lambda: not any(member.is_running() for member in family), "the end of the worker and its fork server")
        assert list(work) == []
        assert [attempt.status for attempt in bulk(crew, [WorkItem("after", {"n": 1})])] == ["ok"]


def test_closing_from_another_thread_cancels(cluster):
    with crew_of(cluster) as crew:
        bench = RayWorkbench(crew, None, False, "")
        threading.Timer(1.5, crew.close).start()
        with pytest.raises(Cancelled):
            bench.run(Job(FAULT_JOB, params={"fault": "sleep", "seconds": 100}))
        with pytest.raises(Cancelled):
            bench.run(Job(FAULT_JOB))
        with pytest.raises(Cancelled):
            list(bulk(crew, [WorkItem("a", {})]))


def test_code_that_workers_do_not_have_stops_the_run(cluster):
    with pytest.raises(ComputeUnavailable, match="same release"):
        list(cluster.map("cloudbaker.compute.nowhere:work", [WorkItem("a")], wall_seconds=60))
    with pytest.raises(UsageError, match="can't run on workers"):
        cluster.map("os:system", [WorkItem("a", "true")], wall_seconds=60)
    with pytest.raises(UsageError, match="window"):
        cluster.map(WORK, [], wall_seconds=60, window=0)
    with pytest.raises(UsageError, match="parallel"):
        cluster.workbench(parallel=0)


def test_no_room_in_the_cluster_is_an_error_and_not_a_wait(cluster):
    with crew_of(cluster, cpus=1000.0, start_seconds=1.0) as crew, pytest.raises(ComputeUnavailable, match="no room"):
        RayWorkbench(crew, None, False, "").run(Job(FAULT_JOB))


# connections


def test_connecting_twice_is_one_connection(cluster):
    with connect() as again:
        assert again is cluster
    with connect(cluster.address) as again:
        assert again is cluster
    assert not cluster.closed
    assert cluster.workbench().run(Job(FAULT_JOB)).status is Status.OK
    with pytest.raises(UsageError, match="connected to Ray"):
        connect("203.0.113.1:6379")
    with pytest.raises(UsageError, match="another size"):
        connect(num_gpus=1)


def test_resources_are_what_ray_has(cluster):
    resources = cluster.resources()
    assert resources["nodes"] >= 1
    assert resources["CPU"] >= 1
    assert resources["memory"] > 0
    assert cluster.crew.size() >= 1
    assert list(itertools.islice(cluster.map(WORK, [], wall_seconds=1), 1)) == []
