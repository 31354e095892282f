"""Encoding image files for their own sake: what ``encode`` does. Every byte of them is read in the sandbox."""

from __future__ import annotations

import glob
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any, Literal

from cloudbaker.compute.job import Job, Limits, Outcome, Workbench
from cloudbaker.compute.textures import programs
from cloudbaker.errors import CloudBakerError, SourceUnreadable, UsageError
from cloudbaker.model import Finding, to_json
from cloudbaker.tasks.gather import findings_of

Slot = Literal["color", "normal", "data"]

HDR_FORMATS = ("hdr", "ktx2-rgb9e5", "ktx2-astc-hdr")
"""Of environment maps, which are Radiance .hdr or OpenEXR pictures."""
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
"""What is taken for an image in a folder. A file that is named is read whatever its name."""
HDR_SUFFIXES = frozenset({".hdr", ".exr"})
_OF_MIME = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "image/avif": ".avif"}

_ANY_SIZE = 1 << 30
_TEXTURES = "cloudbaker.compute.textures"
_NORMAL = frozenset({"nml", "nor", "norm", "normal", "normals", "nrm"})
_DATA = frozenset(
    {"ao", "arm", "disp", "displacement", "gloss", "glossiness", "height", "mask", "metal", "metallic", "metalness"}
    | {"metalrough", "mra", "occlusion", "orm", "rma", "rough", "roughness", "thickness", "transmission"}
)
_NOTHING = frozenset({"bake", "baked", "dx", "gl", "map", "px", "tex", "texture"})
"""Words at the end of a name that say nothing of what the texture is for."""


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """A file to encode, and where to."""

    source: Path
    output: Path
    """Its suffix follows the result, should that be another type."""
    slot: Slot


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """What came of a file."""

    path: str
    output: str | None
    """None where nothing was written."""
    slot: Slot
    format: str
    source_bytes: int
    bytes: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    """Of `compute.textures.convert.convert_job`: sizes, what was measured, what was tried."""
    findings: tuple[Finding, ...] = ()
    error: dict[str, Any] | None = None
    """Of work that failed, as `CloudBakerError.to_json`."""
    exit_code: int = 0
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """One of ``files`` of the ``--json`` contract (docs/cli.md)."""
        return {
            "path": self.path,
            "output": self.output,
            "slot": self.slot,
            "format": self.format,
            "source_bytes": self.source_bytes,
            "bytes": self.bytes,
            **self.facts,
            "seconds": round(self.seconds, 3),
            "findings": [to_json(finding) for finding in self.findings],
            "error": self.error,
        }


@dataclass(frozen=True)
class EncodeReport:
    """What came of all files, in the order in which they were named."""

    files: tuple[EncodedFile, ...]

    @property
    def exit_code(self) -> int:
        """0 if all were written; else the worst file's: 3 rejected, 4 over a limit, 1 failed."""
        return max((file.exit_code for file in self.files), default=0)

    def to_json(self) -> dict[str, Any]:
        """The ``--json`` contract of ``encode``."""
        written = [file for file in self.files if file.output]
        return {
            "files": [file.to_json() for file in self.files],
            "written": len(written),
            "failed": len(self.files) - len(written),
            "source_bytes": sum(file.source_bytes for file in written),
            "bytes": sum(file.bytes for file in written),
            "gpu_bytes": sum(file.facts.get("gpu_bytes", 0) for file in written),
        }

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in report_rows(self)
        )
        head = "".join(f"<th>{name}</th>" for name in REPORT_COLUMNS)
        return f"<table><tr>{head}</tr>{rows}</table>"


REPORT_COLUMNS = ("file", "slot", "size", "kB", "→ kB", "GPU kB", "dB", "angle", "setting")


def report_rows(report: EncodeReport) -> Iterator[tuple[str, ...]]:
    """A report as a table for people, under `REPORT_COLUMNS`."""
    for file in report.files:
        facts = file.facts
        if file.output is None:
            why = file.error["code"] if file.error else ", ".join(f.code for f in file.findings)
            yield file.path, file.slot, "", f"{file.source_bytes / 1000:,.1f}", "–", "", "", "", why
            continue
        angle, decibel = facts.get("angle_degrees"), facts["psnr_db"]
        yield (
            file.path,
            file.slot,
            f"{facts['width']} × {facts['height']}",
            f"{file.source_bytes / 1000:,.1f}",
            f"{file.bytes / 1000:,.1f}",
            f"{facts['gpu_bytes'] / 1000:,.1f}",
            "lossless" if decibel is None else f"{decibel:.1f}",
            "" if angle is None else f"{angle:.2f}°",
            facts.get("setting", file.format),
        )


def formats() -> tuple[str, ...]:
    """All that there are."""
    from cloudbaker.compute.textures.options import FORMATS

    return *FORMATS, *HDR_FORMATS


def suffix_of(form: str) -> str:
    """Of the files of a format."""
    return "." + {"jpeg": "jpg"}.get(form, form.partition("-")[0])


def requests(paths: Sequence[str | Path], output: str | Path | None, form: str, slot: str) -> list[ImageRequest]:
    """The files that `paths` (files, folders, patterns) mean, and where each goes.

    `output`: a folder (which exists, or is written with a slash at the end, or a folder or several files go into it),
    else a file; None: beside each source. `slot` is a class, or ``auto``: by the name of the file.

    Raises `SourceUnreadable` for what is not there, `UsageError` where a file would go onto a source or onto another.
    """
    if form not in formats():
        raise UsageError(f"there is no format {form!r}; there are: {', '.join(formats())}")
    found = [pair for path in paths for pair in _sources(path, form, beside=output is None)]
    sources = list(dict.fromkeys(found))
    named = {source.resolve() for source, _ in sources}
    into_file = output is not None and not Path(output).is_dir() and not str(output).endswith("/")
    single = into_file and len(sources) == 1 and not any(Path(path).is_dir() for path in paths)
    wanted: dict[Path, Path] = {}
    result = []
    for source, below in sources:
        if single:
            target = Path(str(output))
        elif output is None:
            target = source.with_suffix(suffix_of(form))
        else:
            target = (Path(output) / below).with_suffix(suffix_of(form))
        if target.resolve() in named:
            raise UsageError(f"{target} is a source itself: name another place with -o", output=str(target))
        if other := wanted.get(target.resolve()):
            raise UsageError(f"{other} and {source} would both become {target}: encode them one by one with -o")
        wanted[target.resolve()] = source
        result.append(ImageRequest(source, target, _slot(source, slot)))
    return result


def options_of(
    form: str,
    *,
    level: str = "default",
    quality: int = 85,
    rdo: float = 0.0,
    max_size: int | None = None,
    mips: bool = True,
    cube: bool = False,
    prefilter: bool = False,
    image_pixels: int = 64 << 20,
) -> dict[str, Any]:
    """Fields of `EncodeOptions` but the slot, or of `HdrOptions`. Raises `UsageError` for what they would not take."""
    from cloudbaker.compute.textures.options import EncodeOptions

    size = {} if max_size is None and form in HDR_FORMATS else {"max_size": max_size or _ANY_SIZE}
    options: dict[str, Any] = {"format": form, "level": level, "mips": mips, **size}
    if rdo and form != "ktx2-uastc":
        raise UsageError(f"rdo is of ktx2-uastc: {form} has no blocks that it could make repeat each other")
    try:
        if form in HDR_FORMATS:
            from cloudbaker.compute.textures.hdr import HdrOptions

            options |= {"cube": cube, "prefilter": prefilter}
            HdrOptions(**options)
        else:
            if cube or prefilter:
                raise UsageError(f"{form} holds no environment map: cube maps are of {', '.join(HDR_FORMATS[1:])}")
            options |= {"quality": quality, "max_pixels": image_pixels, **({"rdo": rdo} if rdo else {})}
            EncodeOptions(**options)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return options


def goal_of(min_psnr: float | None, max_angle: float | None) -> dict[str, Any]:
    """Fields of `Goal`. Raises `UsageError` for values that it would not take."""
    from cloudbaker.compute.textures.search import Goal

    try:
        return asdict(Goal(min_psnr, max_angle))
    except ValueError as error:
        raise UsageError(str(error)) from error


def encode_files(
    workbench: Workbench,
    wanted: Sequence[ImageRequest],
    options: dict[str, Any],
    goal: dict[str, float],
    *,
    best_effort: bool = False,
    limits: Limits | None = None,
    parallel: int = 1,
    told: Callable[[EncodedFile], None] = lambda _file: None,
) -> EncodeReport:
    """Encode files, `parallel` at a time, and write each when it is done: whole or not at all.

    `options` are fields of `EncodeOptions` but the slot, `goal` those of `Goal`. `told` hears of each file as it ends.
    A file that fails stops no other; what it failed of is in the report.
    """
    done: dict[int, EncodedFile] = {}
    waiting = iter(enumerate(wanted))
    flights: dict[Future[Outcome], int] = {}
    pool = ThreadPoolExecutor(parallel, thread_name_prefix="cloudbaker-encode")
    try:
        while True:
            # No more in flight than can be worked on: results wait in memory, and files can be many.
            while len(flights) < parallel and (following := next(waiting, None)) is not None:
                index, request = following
                job = _job(request, options, goal, best_effort, limits or Limits())
                flights[pool.submit(programs.run, workbench, job)] = index
            if not flights:
                break
            for future in wait(flights, return_when=FIRST_COMPLETED).done:
                index = flights.pop(future)
                done[index] = _ended(wanted[index], options["format"], future)
                told(done[index])
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return EncodeReport(tuple(done[index] for index in sorted(done)))


def _job(
    request: ImageRequest, options: dict[str, Any], goal: dict[str, float], best_effort: bool, limits: Limits
) -> Job:
    form, inputs = options["format"], {"image": request.source}
    if form in HDR_FORMATS:
        return Job(f"{_TEXTURES}.hdr:encode_hdr_job", inputs, options, limits)
    params = {"options": {**options, "slot_class": request.slot}, "goal": goal, "best_effort": best_effort}
    # UASTC has a fork server of its own, which has its kernels loaded; it also takes the place of an ETC1S without the
    # program that makes those.
    module = "uastc.job" if form in ("ktx2-uastc", "ktx2-etc1s") else "convert"
    if rdo := options.get("rdo"):  # which has a kernel of its own, for CPUs
        module = "uastc.rdo_job"
    return Job(f"{_TEXTURES}.{module}:convert_job", inputs, params, limits, gpu=form == "ktx2-uastc" and not rdo)


def _ended(request: ImageRequest, form: str, future: Future[Outcome]) -> EncodedFile:
    row = EncodedFile(str(request.source), None, request.slot, form, 0)
    try:
        row = replace(row, source_bytes=request.source.stat().st_size)
        outcome = future.result().unwrap()
        facts = {**outcome.value, "device": outcome.device}
        findings = tuple(findings_of(facts.pop("findings")))
        row = replace(row, facts=facts, findings=findings, seconds=outcome.wall_seconds)
        if "image" not in outcome.files:
            return replace(row, exit_code=3)
        suffix = _OF_MIME.get(facts["mime"], request.output.suffix)
        same = request.output.suffix.lower() == suffix or (suffix == ".jpg" and request.output.suffix == ".jpeg")
        target = request.output if same else request.output.with_suffix(suffix)
        write_whole(target, outcome.files["image"])
        return replace(row, output=str(target), bytes=len(outcome.files["image"]))
    except CloudBakerError as error:
        return replace(row, error=error.to_json(), exit_code=error.exit_code)
    except OSError as error:
        unwritten = SourceUnreadable(f"{error.filename or request.output}: {error.strerror}", path=str(request.output))
        return replace(row, error=unwritten.to_json(), exit_code=unwritten.exit_code)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that there is never half of it: under another name first, then renamed. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def slot_of_name(name: str) -> Slot:
    """What a texture is for, by its name's last word: ``rock_normal.png``, ``RockORM.jpg``, ``rock-roughness-2k.png``.

    The words before it are the thing: ``rough_stone.png`` and ``metal_plate_diffuse.png`` are colours.

    >>> slot_of_name("WoodFloor_NormalGL_4K.png")
    'normal'
    """
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", Path(name).stem)]
    last = next((word for word in reversed(words) if len(word) > 1 and word not in _NOTHING), "")
    return "normal" if last in _NORMAL else "data" if last in _DATA else "color"


def _slot(source: Path, slot: str) -> Slot:
    match slot:
        case "auto":
            return slot_of_name(source.name)
        case "color" | "normal" | "data":
            return slot
    raise UsageError(f"slot must be auto, color, normal or data, not {slot!r}")


def _sources(path: str | Path, form: str, *, beside: bool) -> Iterator[tuple[Path, Path]]:
    """Files, each with its place below an output folder."""
    start, suffixes = Path(path), HDR_SUFFIXES if form in HDR_FORMATS else SUFFIXES
    try:
        folder, there, file = start.is_dir(), start.exists(), start.is_file()
        # Not Path.glob, which can't take a pattern that begins at the root.
        matches = [] if there else sorted(Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207
    except (OSError, ValueError) as error:  # ValueError: a NUL in a name
        raise SourceUnreadable(f"{path} can't be read: {error}", path=str(path)) from error
    if folder:
        inside = _images(start, suffixes)
        # A second run over the same folder meets the results of the first: they are in that format already.
        kept = [image for image in inside if not (beside and image.suffix.lower() == suffix_of(form))]
        if not kept:
            raise SourceUnreadable(f"there is no image in {path} ({', '.join(sorted(suffixes))})", path=str(path))
        yield from ((image, image.relative_to(start)) for image in kept)
        return
    if there and not file:
        raise SourceUnreadable(f"{path} is no file", path=str(path))
    files = [start] if file else [match for match in matches if match.is_file()]
    if not files:
        raise SourceUnreadable(f"there is no file {path}", path=str(path))
    yield from ((match, Path(match.name)) for match in files)


def _images(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """Images below a folder, hidden ones left out."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place) / name for name in names if Path(name).suffix.lower() in suffixes and name[0] != "."]
    return sorted(found)
