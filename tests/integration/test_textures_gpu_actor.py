"""Textures through Ray with the actor that owns the GPU, here on Warp's ``cpu`` device: same code, same bytes."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator

import pytest
from PIL import Image

from cloudbaker.compute.cluster import Cluster, RayWorkbench, connect
from cloudbaker.compute.crew import Crew, CrewOptions
from cloudbaker.compute.job import Job, Status
from cloudbaker.testing.pictures import Picture, picture

ENCODE = "cloudbaker.compute.textures.uastc.job:encode_job"


def job_of(drawn: Picture, *, gpu: bool = True) -> Job:
    out = io.BytesIO()
    Image.fromarray(drawn.pixels).save(out, "PNG")
    params = {"format": "ktx2-uastc", "slot_class": drawn.slot_class, "level": "fast"}
    return Job(ENCODE, {"image": out.getvalue()}, params, gpu=gpu)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with connect(num_cpus=2) as found:
        yield found


@pytest.fixture
def crew(cluster: Cluster) -> Iterator[Crew]:
    made = Crew(CrewOptions(encoder="cpu"))
    yield made
    made.close()


def until(condition: Callable[[], object], what: str, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"no {what} after {seconds} s"
        time.sleep(0.05)


def test_blocks_of_the_actor_make_the_same_file(crew: Crew, sandbox, tell) -> None:
    jobs = [job_of(picture(name, 64)) for name in ("stone", "leaves", "bumps", "material")]
    plain = [sandbox.run(job).unwrap() for job in jobs]
    bench = RayWorkbench(crew, None, False, "")
    early = bench.run(jobs[0]).unwrap()  # nobody waits for the actor: the first to ask has it started
    assert early.files == plain[0].files
    until(lambda: crew.encoder_facts, "encoder")
    assert crew.encoder_facts is not None
    assert crew.encoder_facts.proven_blocks == 3 * 64 * 64
    made = [outcome.unwrap() for outcome in bench.run_all(jobs)]
    for one, other in zip(made, plain, strict=True):
        assert one.files == other.files
        assert one.value["gpu"]["name"] == crew.encoder_facts.name
        assert one.value["gpu"]["seconds"] > 0
        same = {key: value for key, value in one.value.items() if key not in ("gpu", "device")}
        assert same == {key: value for key, value in other.value.items() if key != "device"}
    tell(f"{sum(outcome.value['gpu']['blocks'] for outcome in made)} blocks through the actor")


def test_a_lost_actor_is_replaced_by_the_cpu(crew: Crew, sandbox) -> None:
    import ray

    bench = RayWorkbench(crew, None, False, "")
    job = job_of(picture("sky", 64))
    bench.run(job)
    until(lambda: crew.encoder_facts, "encoder")
    actor = crew.encoder()
    ray.kill(actor)
    outcome = bench.run(job)
    assert outcome.status is Status.OK
    assert "gpu" not in outcome.value
    assert outcome.files == sandbox.run(job).files
    until(lambda: crew.encoder() is None, "word of the actor's death")


def test_a_gpu_that_is_none_is_not_asked_again(cluster: Cluster, sandbox) -> None:
    made = Crew(CrewOptions(encoder="cuda:0", gpus=0))
    made._sizes, made._sized_at = {"cpu": 1, "cuda": 1}, float("inf")  # the cluster says that it has one
    try:
        bench = RayWorkbench(made, None, False, "")
        job = job_of(picture("sky", 64))
        assert bench.run(job).unwrap().files == sandbox.run(job).files
        until(lambda: made._encoder is None, "refusal of the actor")
        assert made.encoder() is None
        assert bench.run(job).unwrap().files == sandbox.run(job).files
    finally:
        made.close()


def test_other_work_does_not_start_it(crew: Crew) -> None:
    bench = RayWorkbench(crew, None, False, "")
    bench.run(job_of(picture("sky", 16), gpu=False)).unwrap()
    assert crew._encoder is None
