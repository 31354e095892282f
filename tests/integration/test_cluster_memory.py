"""Memory that work declares: who gets a larger worker, and that a huge one holds nobody up."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from cloudbaker.compute.cluster import AttemptStatus, Cluster, RayWorkbench, WorkItem, WorkMap, connect
from cloudbaker.compute.crew import Crew, CrewOptions
from cloudbaker.compute.faults import FAULT_JOB, WORK
from cloudbaker.compute.gltf.facts import facts, memory_of
from cloudbaker.compute.gltf.glb import read_glb
from cloudbaker.compute.job import Job, Status
from cloudbaker.testing import models

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with connect() as found:
        yield found


@pytest.fixture
def crew(cluster: Cluster) -> Iterator[Crew]:
    """Workers of a quarter of the memory each: two fill this driver's half, and one that wants more is alone."""
    made = Crew(CrewOptions(memory_bytes=int(cluster.resources()["memory"] / 4)))
    yield made
    made.close()


def memory_of_workers(crew: Crew) -> list[int]:
    return [hand.kind.memory_bytes // crew.options.memory_bytes for hand in crew._hands]


def test_what_declares_more_gets_a_larger_worker_that_serves_others_too(crew: Crew) -> None:
    bench = RayWorkbench(crew, 1, False, "")
    assert bench.run(Job(FAULT_JOB)).status is Status.OK
    assert memory_of_workers(crew) == [1]
    large = Job(FAULT_JOB, memory_bytes=int(1.5 * crew.options.memory_bytes))
    assert bench.run(large).status is Status.OK
    assert memory_of_workers(crew) == [2]  # the idle one made room for it
    assert bench.run(Job(FAULT_JOB)).status is Status.OK
    assert memory_of_workers(crew) == [2]


def test_more_than_any_node_has_runs_on_the_largest_worker_there_can_be(crew: Crew) -> None:
    bench = RayWorkbench(crew, 1, False, "")
    assert bench.run(Job(FAULT_JOB, memory_bytes=1 << 50)).status is Status.OK
    assert memory_of_workers(crew) == [4]


def test_small_ones_pass_a_huge_one_and_none_is_forgotten(crew: Crew) -> None:
    huge = int(1.5 * crew.options.memory_bytes)
    items = [WorkItem(f"small-{n}", {"fault": "sleep", "seconds": 0.3}) for n in range(7)]
    items.insert(1, WorkItem("huge", {"fault": "sleep", "seconds": 0.1}, huge))
    most: list[int] = []
    order: list[str] = []
    with WorkMap(crew, WORK, items, 60.0, 2, {}, False, "") as attempts:
        for attempt in attempts:
            assert attempt.status is AttemptStatus.OK, attempt.error
            order.append(attempt.item_id)
            most.append(sum(memory_of_workers(crew)))
    assert sorted(order) == sorted(item.id for item in items)
    if crew.size() > 1:  # with one worker there is nobody to pass
        assert order.index("huge") > 1
    assert max(most) <= 2


def test_drivers_share_without_a_lock_up(crew: Crew) -> None:
    """Several threads, each with a large and small jobs at once."""
    found: list[Status] = []

    def work() -> None:
        bench = RayWorkbench(crew, None, False, "")
        sizes = (0, int(1.5 * crew.options.memory_bytes), 0, 0)
        found.extend(outcome.status for outcome in bench.run_all([Job(FAULT_JOB, memory_bytes=size) for size in sizes]))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [Status.OK] * 12


def test_what_the_header_says_is_about_what_it_takes(cluster: Cluster) -> None:
    data = models.grid(256)
    declared = memory_of(facts(read_glb(data).document, len(data)))
    job = Job("cloudbaker.compute.gltf.optimize:assemble_job", {"model.glb": data}, {"meshes": {}})
    peak = cluster.workbench().run(job).unwrap().peak_bytes
    assert declared / 3 < peak < declared * 1.5
