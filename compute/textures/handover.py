"""A job that needs a GPU in its middle: what comes before and after runs in the sandbox, only plain texels leave it.

The device's driver has no place in a sandbox, and content from outside has none beside it. So the sandboxed job
decodes, scales and makes the mipmaps, and hands over texels of stated sizes; the actor that owns the GPU turns them
into blocks; a second sandboxed job packs those, decodes them with another library, and measures. Whatever the job asks
for (`encode.encode_job`, `convert.convert_job`, with a search for a quality or without) is called as it is, with a
`ktx2_uastc.block_maker` that stops it where the blocks should come from, and starts it anew with them. It decodes its
image again then (0.1 s of 2048²), but makes no mipmaps a second time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudbaker.compute.job import Inputs, Job, JobResult, Outcome, Params, Status, Workbench
from cloudbaker.compute.textures.convert import convert_job
from cloudbaker.compute.textures.encode import encode_job
from cloudbaker.compute.textures.ktx2_uastc import block_maker, mip_levels
from cloudbaker.compute.textures.measure import Pixels
from cloudbaker.compute.textures.options import LEVELS, EncodeOptions
from cloudbaker.errors import SandboxJobError

JOBS: Mapping[str, Callable[[Inputs, Params], JobResult]] = {
    "cloudbaker.compute.textures.uastc.job:encode_job": encode_job,
    "cloudbaker.compute.textures.uastc.job:convert_job": convert_job,
}
"""Jobs that have this form, too."""
BLOCK_BYTES = 16

Size = tuple[int, int]
"""Width and height in texels."""
EncodeBlocks = Callable[[str, Sequence[Size], npt.NDArray[np.uint8]], tuple[npt.NDArray[np.uint8], dict[str, Any]]]
"""From a level of effort, the sizes of pictures and their RGBA texels one after the other, to their UASTC blocks one
after the other, and facts about who made them (``device``, ``seconds`` …)."""


def takes(job: Job) -> bool:
    """Whether a job can be done in this way."""
    return job.gpu and job.function in JOBS


def run(workbench: Workbench, job: Job, encode: EncodeBlocks) -> Outcome:
    """Run a job of `JOBS` with `encode` making its blocks. Its value says ``device``, and ``gpu`` the facts.

    Ends as the job in one piece would, with the same bytes if `encode` gives the CPU's. What `encode` raises is raised.
    """
    texels = np.empty(0, np.uint8)
    blocks: dict[str, bytes] = {}
    facts: dict[str, Any] = {}
    wall = cpu = 0.0
    peak, started = 0, time.monotonic()
    for _ in range(len(LEVELS) + 1):
        params = {"function": job.function, "params": dict(job.params), "known": bool(len(texels))}
        inputs = {**job.inputs, **{f"blocks-{level}": data for level, data in blocks.items()}}
        left = max(1.0, job.limits.wall_seconds - (time.monotonic() - started))
        limits = replace(job.limits, wall_seconds=left)
        outcome = workbench.run(Job(f"{__name__}:handover_job", inputs, params, limits))
        wall, cpu, peak = wall + outcome.wall_seconds, cpu + outcome.cpu_seconds, max(peak, outcome.peak_bytes)
        if outcome.status is not Status.OK or "done" in outcome.value:
            value = outcome.value["done"] if outcome.status is Status.OK else outcome.value
            if facts and isinstance(value, dict):
                value |= {"device": facts.get("device", ""), "gpu": facts}
            return replace(outcome, value=value, wall_seconds=wall, cpu_seconds=cpu, peak_bytes=peak)
        level, sizes = outcome.value["level"], [(int(w), int(h)) for w, h in outcome.value["sizes"]]
        if not len(texels):
            texels = np.frombuffer(outcome.files["texels"], np.uint8)
        _check(level, sizes, texels, blocks)
        made, about = encode(level, sizes, texels)
        blocks[level] = made.tobytes()
        facts = {**about, "seconds": round(facts.get("seconds", 0.0) + about.get("seconds", 0.0), 6)}
    raise SandboxJobError("a texture was handed over again and again: please report it with the file")


def _check(level: Any, sizes: list[Size], texels: npt.NDArray[np.uint8], blocks: Mapping[str, bytes]) -> None:
    """The job's process has read content from outside: what it says is no more to be believed than that."""
    right = level in LEVELS and level not in blocks and sizes and all(w > 0 and h > 0 for w, h in sizes)
    if not right or sum(w * h for w, h in sizes) * 4 != len(texels):
        raise SandboxJobError(
            "a texture was handed over in a form that does not add up: please report it with the file",
            detail=f"level {level!r}, sizes {sizes!r}, {len(texels)} bytes",
        )


class _NeedsBlocksError(Exception):
    """Ends a job where its blocks should come from."""

    def __init__(self, pixels: Pixels, options: EncodeOptions) -> None:
        super().__init__()
        self.pixels = pixels
        self.options = options


def handover_job(inputs: Inputs, params: Params) -> JobResult:
    """One leg of `run`: the job ``params["function"]`` to its end, or to where it needs blocks that are not there.

    Value ``{"done": …}`` with the job's own value and files; or ``{"level", "sizes"}`` with the file ``texels``, unless
    ``params["known"]`` says that they are there already. Inputs ``blocks-<level>`` are what was made so far.
    """

    def maker(pixels: Pixels, options: EncodeOptions) -> list[bytes]:
        made = inputs.get(f"blocks-{options.level}")
        if made is None:
            raise _NeedsBlocksError(pixels, options)
        return _split(bytes(made), _sizes(pixels, options))

    token = block_maker.set(maker)
    try:
        own = {name: data for name, data in inputs.items() if not name.startswith("blocks-")}
        result = JOBS[params["function"]](own, params["params"])
        return JobResult({"done": result.value}, result.files)
    except _NeedsBlocksError as need:
        value = {"level": need.options.level, "sizes": _sizes(need.pixels, need.options)}
        if params["known"]:
            return JobResult(value)
        levels = mip_levels(need.pixels, need.options)
        if [(p.shape[1], p.shape[0]) for p in levels] != value["sizes"]:
            raise AssertionError("mipmaps are not of the sizes that mipmaps have") from None
        return JobResult(value, {"texels": b"".join(level.tobytes() for level in levels)})
    finally:
        block_maker.reset(token)


def _sizes(pixels: Pixels, options: EncodeOptions) -> list[Size]:
    height, width = pixels.shape[:2]
    count = max(width, height).bit_length() if options.mips else 1
    return [(max(1, width >> level), max(1, height >> level)) for level in range(count)]


def _split(blocks: bytes, sizes: Sequence[Size]) -> list[bytes]:
    parts, at = [], 0
    for width, height in sizes:
        size = -(-width // 4) * -(-height // 4) * BLOCK_BYTES
        parts.append(blocks[at : at + size])
        at += size
    if at != len(blocks):
        raise ValueError(f"{len(blocks)} bytes of blocks for pictures that take {at}")
    return parts
