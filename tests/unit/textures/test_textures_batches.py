"""Many pictures in one launch, the hand-over from the sandbox, and the actor that owns a GPU; here on the CPU."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from PIL import Image

from cloudbaker.compute.job import Job, Outcome, Status
from cloudbaker.compute.textures import handover
from cloudbaker.compute.textures.gpu_encoder import GpuEncoder, GpuFacts, proof_picture
from cloudbaker.compute.textures.uastc import encode_uastc
from cloudbaker.compute.textures.uastc.batches import BatchEncoder
from cloudbaker.compute.textures.uastc.decode import block_modes
from cloudbaker.errors import ComputeUnavailable, SandboxJobError
from cloudbaker.testing.pictures import picture

CONVERT = "cloudbaker.compute.textures.uastc.job:convert_job"


def noise(*sizes: tuple[int, int], seed: int = 1) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (height, width, 4), dtype=np.uint8) for width, height in sizes]


@pytest.mark.parametrize("batch_blocks", [1, 7, 64, None])
def test_any_packing_gives_the_bytes_of_one_by_one(batch_blocks):
    pictures = [*noise((1, 1), (5, 3), (33, 17), (300, 2), (1, 90), (64, 64)), proof_picture(32)]
    encoder = BatchEncoder("cpu", batch_blocks=batch_blocks)
    for _ in range(2):  # and again with the same buffers
        assert encoder.encode(pictures, level="fast") == [encode_uastc(p, level="fast") for p in pictures]
    assert encoder.encode([], level="fast") == []
    assert encoder.launches == 2 if batch_blocks is None else encoder.launches > 10


def test_more_pictures_than_a_launch_takes():
    pictures = noise(*[(4, 4)] * 5000)
    encoder = BatchEncoder("cpu")
    assert encoder.encode(pictures, level="fast") == [encode_uastc(p, level="fast") for p in pictures]
    assert encoder.launches == 2


@pytest.mark.parametrize("shape", [(4, 4, 3), (4, 4), (0, 4, 4)])
def test_pictures_that_are_none(shape):
    with pytest.raises(ValueError, match="pixels must be"):
        BatchEncoder("cpu").encode([np.zeros(shape, np.uint8)])


def test_the_proof_has_blocks_of_every_mode():
    blocks = np.frombuffer(encode_uastc(proof_picture(256), level="max"), np.uint8).reshape(-1, 16)
    assert set(block_modes(blocks).tolist()) == set(range(19))


def test_many_callers_share_launches_and_get_their_own():
    encoder = GpuEncoder("cpu", batch_blocks=500)
    facts = encoder.start()
    assert isinstance(facts, GpuFacts), facts
    assert encoder.start() is facts
    replies: dict[int, tuple[np.ndarray, dict]] = {}
    start = threading.Barrier(12)

    def call(number: int) -> None:
        pictures = noise((40, 40), (20, 20), (3, 1), seed=number)
        start.wait()
        level = "fast" if number % 3 else "default"
        replies[number] = encoder.encode(
            level, [(40, 40), (20, 20), (3, 1)], np.concatenate([p.ravel() for p in pictures])
        )

    threads = [threading.Thread(target=call, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, (blocks, about) in replies.items():
        pictures = noise((40, 40), (20, 20), (3, 1), seed=number)
        wanted = b"".join(encode_uastc(p, level="fast" if number % 3 else "default") for p in pictures)
        assert blocks.tobytes() == wanted
        assert about["blocks"] == 126
        assert about["launch_blocks"] % 126 == 0
        assert about["name"] == facts.name
    encoder.stop()


def test_a_device_that_gives_other_bytes_is_never_used(monkeypatch):
    honest = BatchEncoder.encode
    lies = {"from": 0}

    def encode(self, pictures, *, level="default"):
        blocks = honest(self, pictures, level=level)
        lies["from"] -= 1
        if lies["from"] < 0:  # one bit of each block
            return [bytes(b ^ (1 if i % 16 == 15 else 0) for i, b in enumerate(block)) for block in blocks]
        return blocks

    monkeypatch.setattr(BatchEncoder, "encode", encode)
    refused = GpuEncoder("cpu").start()
    assert isinstance(refused, ComputeUnavailable)
    assert "other bytes" in refused.message

    lies["from"] = 4  # proven, one good launch, then a card that went bad
    encoder = GpuEncoder("cpu")
    assert isinstance(encoder.start(), GpuFacts)
    texels = noise((16, 16))[0].ravel()
    blocks, _ = encoder.encode("fast", [(16, 16)], texels)
    assert blocks.tobytes() == encode_uastc(texels.reshape(16, 16, 4), level="fast")
    for _ in range(2):
        assert isinstance(encoder.encode("fast", [(16, 16)], texels), ComputeUnavailable)
    encoder.stop()


def test_no_such_device_is_an_answer():
    refused = GpuEncoder("cuda:63").start()
    assert isinstance(refused, ComputeUnavailable)
    assert "the CPU does it instead" in refused.message


def png(name: str, size: int = 48) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture(name, size).pixels).save(out, "PNG")
    return out.getvalue()


def by_cpu(level, sizes, texels):
    """Blocks as an actor would make them."""
    blocks, at = b"", 0
    for width, height in sizes:
        blocks += encode_uastc(texels[at : at + width * height * 4].reshape(height, width, 4).copy(), level=level)
        at += width * height * 4
    return np.frombuffer(blocks, np.uint8), {"device": "cuda", "seconds": 0.5}


@pytest.mark.parametrize("mips", [True, False])
def test_a_job_in_legs_ends_as_in_one_piece(sandbox, mips):
    params = {
        "options": {"format": "ktx2-uastc", "mips": mips, "max_size": 40},
        "goal": {"min_psnr": 90},
        "best_effort": True,
    }
    job = Job(CONVERT, {"image": png("leaves")}, params, gpu=True)
    assert handover.takes(job)
    asked = []

    def encode(level, sizes, texels):
        asked.append((level, sizes))
        return by_cpu(level, sizes, texels)

    plain, handed = sandbox.run(job).unwrap(), handover.run(sandbox, job, encode).unwrap()
    assert handed.files == plain.files
    assert {**handed.value, "gpu": 0, "device": 0} == {**plain.value, "gpu": 0, "device": 0}
    assert [level for level, _ in asked] == ["fast", "default", "max"]  # the search climbs through all legs
    assert asked[0][1][:2] == ([(40, 40), (20, 20)] if mips else [(40, 40)])
    assert handed.value["gpu"] == {"device": "cuda", "seconds": 1.5}


def test_a_job_that_ends_before_its_blocks_is_not_handed_over(sandbox):
    job = Job(CONVERT, {"image": png("stone")[:900]}, {"options": {"format": "ktx2-uastc"}}, gpu=True)
    outcome = handover.run(sandbox, job, by_cpu).unwrap()
    assert outcome.value["findings"][0]["code"] == "image.damaged"
    assert "gpu" not in outcome.value


@pytest.mark.parametrize(
    "said",
    [
        {"level": "fast", "sizes": [[8, 8], [4, 5]]},
        {"level": "fast", "sizes": [[-8, -8], [4, 4]]},
        {"level": "../max", "sizes": [[8, 8], [4, 4]]},
        {"level": "fast", "sizes": []},
    ],
)
def test_what_a_job_hands_over_is_not_believed(said):
    class Liar:
        name = "liar"

        def run(self, _job):
            return Outcome(Status.OK, said, {"texels": bytes(80 * 4)})

    with pytest.raises(SandboxJobError, match="does not add up"):
        handover.run(Liar(), Job(CONVERT, gpu=True), by_cpu)
