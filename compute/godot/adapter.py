"""Run a Godot engine on a project, isolated, and read what it says. The adapters of each generation build on this.

    prepare → bake → collect → repack → verify_load

An `EngineJob` is to an engine what a `Job` is to the sandbox: files in, an `Outcome` out. It runs in bubblewrap with no
network, a read-only root and an empty HOME of its own. Nobody believes an engine's exit status: 3.2.3 and 4.6.3 both
say 0 for a broken PNG, GLB or .tres and for a missing dependency, and the pack then holds an ``.import`` that leads
nowhere. So what it prints is read line by line (`parse_log`), what it wrote is looked at (`repack`), and the result is
loaded in the engine again (`verify_load`).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Protocol

from cloudbaker.compute.godot.engines import ENVIRONMENT, Engine
from cloudbaker.compute.godot.paths import pack_path_problem
from cloudbaker.compute.job import Limits, Outcome, Status
from cloudbaker.compute.sandbox import read_output, run_tool, scratch_folder
from cloudbaker.compute.sandbox.tools import SCRATCH
from cloudbaker.errors import EngineFailed, EngineMissing
from cloudbaker.model import Finding, Severity

_LIMITS = Limits()
PROJECT = "project"
"""Folder of the project in an engine's scratch folder."""
PROJECT_PATH = f"{SCRATCH}/{PROJECT}"
_HOME = f"{SCRATCH}/home"
_TIMES = f"{_HOME}/times"


@dataclass(frozen=True, slots=True)
class EngineJob:
    """One run of an engine over a project that is made for it."""

    engine: Engine
    files: Mapping[str, bytes | memoryview | Path]
    """By path below the scratch folder: ``project/project.godot``, ``project/mods/a/x.png`` …"""
    arguments: tuple[str, ...]
    """After the engine's command. Paths are those that the engine sees: ``/scratch/project``."""
    outputs: tuple[str, ...] = ()
    """What to read back, by path below the scratch folder; what it did not write is left out."""
    limits: Limits = _LIMITS


class Engines(Protocol):
    """Where engines run: on this machine (`LocalEngines`), or on the nodes of a cluster (`remote.RayEngines`)."""

    def run(self, job: EngineJob) -> Outcome:
        """Run an engine to its end. The value of the outcome is ``{"code", "stdout", "stderr"}``."""
        ...


class LocalEngines:
    """Engines of this machine."""

    def run(self, job: EngineJob) -> Outcome:
        """Run an engine here; see `run_engine`."""
        return run_engine(job)


def run_engine(job: EngineJob) -> Outcome:
    """Run an engine on this machine. Its exit status is in the value and is no error; a limit that it hit is.

    What it wrote is as untrusted as its input. Raises `EngineMissing` where its command is not on this machine, and
    what `run_tool` raises where nothing can be isolated.
    """
    program = Path(job.engine.command[0])
    if not program.is_file():
        raise EngineMissing(
            f"the engine {job.engine.name} is not on this machine: install it with `cloudbaker engines install`, on "
            "every node where bakes run",
            command=str(program),
        )
    with scratch_folder() as scratch:
        write_tree(scratch, job.files)
        ran = run_tool(
            # `times` is how long the engine and its children worked: bubblewrap does not wait for what it started, so
            # that nobody outside could ask the kernel.
            ["/bin/sh", "-c", f'"$@"; code=$?; times >{_TIMES}; exit $code', "sh", *job.engine.command, *job.arguments],
            scratch=scratch,
            ro=job.engine.folders,
            env={**ENVIRONMENT, "HOME": _HOME},
            limits=job.limits,
        )
        cpu = _cpu_seconds(scratch)
        files = {}
        for name in job.outputs:
            try:
                files[name] = read_output(scratch, name, limit=job.limits.file_bytes)
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                raise EngineFailed(
                    f"the engine {job.engine.name} left something at {name} that is no plain file of an allowed size",
                    detail=str(error),
                ) from error
    status = Status.OK if ran.status is Status.ERROR else ran.status
    return Outcome(
        status,
        {"code": ran.code, "stdout": _text(ran.stdout), "stderr": _text(ran.stderr)},
        files,
        "" if status is Status.OK else f"{job.engine.identity}: {status.value}",
        ran.wall_seconds,
        cpu,
        ran.peak_bytes,
        isolation=ran.isolation,
    )


def _cpu_seconds(scratch: Path) -> float:
    """What ``times`` said: a line about the shell, and one about its children. 0 where it says nothing."""
    try:
        children = read_output(scratch, "home/times", limit=1000).decode("ascii", "replace").splitlines()[1]
    except (OSError, ValueError, IndexError):
        return 0.0
    return sum(60 * int(m) + float(s) for m, s in re.findall(r"(\d+)m([\d.]+)s", children))


def write_tree(folder: Path, files: Mapping[str, bytes | memoryview | Path]) -> None:
    """Write files into a new, empty folder, for a tool that runs as nobody and writes beside them.

    Raises ValueError for a path that is not plain: names come from strangers.
    """
    made = {folder}
    for name, content in files.items():
        if problem := pack_path_problem(name):
            raise ValueError(f"{name!r} can't be the path of a file: {problem}")
        path = folder / name
        for parent in reversed(path.relative_to(folder).parents[:-1]):
            if (here := folder / parent) not in made:
                here.mkdir()
                here.chmod(0o777)
                made.add(here)
        if isinstance(content, Path):
            shutil.copyfile(content, path)
        else:
            path.write_bytes(content)
        path.chmod(0o666)
    home = folder / "home"
    home.mkdir()
    home.chmod(0o777)


# -- what an engine says -----------------------------------------------------------------------------------------------

_HARMLESS = re.compile(
    "|".join(
        (
            r"X509CertificateMbedTLS",  # the sandbox shows no certificates: there is no network
            r"get_language_code|set_locale|locale 'C'",  # 3.2.3 knows no C.UTF-8
            r"free_static: Condition \"p_ptr == __null\"",  # 3.2.3 at its end
            r"attempted to free a NULL RID|free: Condition",  # 3.6 headless frees what it never made
            r"patch_list",
            r"leaked at exit|still in use at exit|ObjectDB instances",
            r"Parameter \"m\" is null|Parameter \"t\" is null|Parameter \"RenderingServer::get_singleton\(\)\" is null",
            r"ALSA|PulseAudio|audio driver",
        )
    )
)
"""Messages that say nothing about the content: each engine prints some of these on an empty project."""
_MESSAGE = re.compile(r"^(?:SCRIPT |USER )?(ERROR|WARNING): ?(.*)$")
_PLACE = re.compile(r"^\s+(?:[Aa]t): ?(.*)$")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_RES_PATH = re.compile(r"res://[^\s'\"]+?(?=[\s'\":,;)]|\.$|\. |$)")
_MOST = 100
"""Messages that are kept: a scene with a thousand bad nodes has one cause."""


@dataclass(frozen=True, slots=True)
class Message:
    """Something that an engine printed as an error or a warning."""

    severity: Severity
    text: str
    paths: tuple[str, ...] = ()
    """``res://…`` paths in it."""
    place: str = ""
    """Where in the engine's source it comes from."""


def parse_log(text: str) -> list[Message]:
    """Errors and warnings of an engine's output, without those that are harmless and those that are repeated."""
    found: dict[tuple[Severity, str], Message] = {}
    last: tuple[Severity, str] | None = None
    for raw in _ANSI.sub("", text).splitlines():
        if match := _MESSAGE.match(raw.strip()):
            message = match[2].strip()
            severity = Severity.ERROR if match[1] == "ERROR" else Severity.WARNING
            last = (severity, message)
            if _HARMLESS.search(message) or last in found or len(found) >= _MOST:
                last = None
                continue
            found[last] = Message(severity, message[:500], tuple(_RES_PATH.findall(message)))
        elif last is not None and (match := _PLACE.match(raw)):
            found[last] = replace(found[last], place=match[1])
            last = None
    return list(found.values())


def log_findings(messages: Iterable[Message], mod_folder: str) -> list[Finding]:
    """What an engine said about the content, as findings.

    An error that names a file of the mod rejects. One that names no file, or one of the game's, is a warning: whether
    it matters, the files that are missing and the load in the engine will tell.
    """
    findings = []
    for message in messages:
        if message.severity is not Severity.ERROR:
            continue
        ours = [path for path in message.paths if path.startswith(mod_folder)]
        findings.append(
            Finding(
                "engine.error" if ours else "engine.complaint",
                Severity.ERROR if ours else Severity.WARNING,
                ours[0] if ours else "",
                f"the engine says: {message.text}",
                "repair the file, or remove it" if ours else "look at the files that other findings name",
            )
        )
    return findings


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


# -- the project -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BakeOptions:
    """What a recipe wants of an engine."""

    textures: str = "s3tc"
    """How textures of models are compressed: ``s3tc`` or ``bptc`` (desktop, by the engine), ``etc2`` (mobile, by the
    engine), ``astc`` (mobile and VR, by us)."""
    max_size: int = 2048
    """Pixels of the longer side of a model's texture."""
    generate_lods: bool = True
    """Godot 4 makes levels of detail while it imports; Godot 3 can't."""


@dataclass(frozen=True, slots=True)
class Import:
    """How the engine is to import a file of the mod."""

    path: str
    """Below the mod's folder."""
    kind: str
    """``image`` (UI, lossless), ``color``, ``normal`` or ``data`` (textures of models), ``audio`` (Ogg Vorbis, whatever
    its name), ``wav``, ``model``."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Of the importer, on top of the kind's, in the syntax of Godot's configuration files."""


Sections = Mapping[str, Mapping[str, str]]


def config_text(sections: Sections) -> str:
    """A configuration file of Godot: ``[section]`` and ``key=value``. Values are in Godot's syntax already."""
    lines = []
    for name, values in sections.items():
        lines += [f"[{name}]", ""] if name else []
        lines += [*(f"{key}={value}" for key, value in values.items()), ""]
    return "\n".join(lines) + "\n"


def truth(value: bool) -> str:
    """A bool in Godot's syntax."""
    return "true" if value else "false"


def template(name: str) -> str:
    """A file of the folder ``project``."""
    return (resources.files("cloudbaker.compute.godot") / "project" / name).read_text("utf-8")
