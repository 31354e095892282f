"""The Godot engines of this installation: configured ones, those of `cloudbaker engines install`, those on PATH.

An engine has a *name* (``godot-4.6``), and a recipe asks for a name or for a family: ``godot-4`` is an engine of that
name if there is one, else the newest of the family. Its version is asked of the engine itself, in bubblewrap like
everything it does; it goes into the bake key, so that another version of the same name makes its packs stale.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cloudbaker.compute.job import Limits
from cloudbaker.compute.sandbox import run_tool, scratch_folder
from cloudbaker.errors import EngineMissing
from cloudbaker.settings import Settings

RECORD = "engine.json"
"""What `install` leaves in an engine's folder: its command and version."""
ON_PATH: Mapping[str, tuple[str, ...]] = {
    "godot-3": ("godot3-server", "godot3-headless"),
    "godot-4": ("godot4", "godot"),
}
"""Programs that are looked for on PATH, under the name they get."""
ENVIRONMENT = {"LC_ALL": "C.UTF-8"}
"""Without a UTF-8 locale Godot mangles names that are not ASCII."""

_VERSION = re.compile(rb"^(\d+)\.(\d+)(?:\.(\d+))?\.\S*$", re.MULTILINE)
_PROBE = Limits(memory_bytes=1 << 30, cpu_seconds=20, wall_seconds=20.0, file_bytes=16 << 20)


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that was asked for its version."""

    name: str
    command: tuple[str, ...]
    """How it is started, without arguments."""
    version: str
    """As it says itself: ``4.6.3.stable.debian4.6.3+ds-2``."""
    folders: tuple[Path, ...] = ()
    """What it needs to read beside /usr."""
    pack_format: int = 0
    """Of the packs it writes: 1 (3.x), 2 (4.0 to 4.4), 3 (4.5 and later)."""

    @property
    def number(self) -> tuple[int, int, int]:
        """Major, minor, patch."""
        return version_number(self.version)

    @property
    def major(self) -> int:
        """3 or 4: which adapter bakes for it."""
        return self.number[0]

    @property
    def short(self) -> str:
        """``4.6.3``: what people call it."""
        return ".".join(map(str, self.number))

    @property
    def identity(self) -> str:
        """What goes into the bake key and the catalog: ``godot 4.6.3.stable.debian4.6.3+ds-2``."""
        return f"godot {self.version}"


def version_number(version: str) -> tuple[int, int, int]:
    """``"4.6.3.stable.custom"`` → ``(4, 6, 3)``; ``"3.6.stable"`` → ``(3, 6, 0)``. Raises ValueError for no version."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    if found is None:
        raise ValueError(f"{version!r} is no version of Godot")
    major, minor, patch = found.groups(default="0")
    return int(major), int(minor), int(patch)


def pack_format_of(version: str) -> int:
    """The pack format that an engine of this version writes."""
    number = version_number(version)
    return 1 if number[0] < 4 else 2 if number < (4, 5, 0) else 3


def find_engine(wanted: str, config: Settings) -> Engine:
    """The engine that a recipe asks for, by name or family. Raises `EngineMissing` that says how to get one."""
    names = candidates(config)
    for name in [wanted] if wanted in names else sorted(names, key=_natural, reverse=True):
        if name == wanted or name.startswith((f"{wanted}.", f"{wanted}-")):
            return _open(name, names[name])
    from cloudbaker.compute.godot.install import PACKAGES

    known = next((name for name in PACKAGES if name == wanted or name.startswith(wanted)), "")
    fetch = f"fetch it with `cloudbaker engines install {known}`, or " if known else ""
    raise EngineMissing(
        f"there is no engine {wanted!r} here: {fetch}name its command in CLOUDBAKER_ENGINES "
        f"(engines there are: {', '.join(sorted(names)) or 'none'})",
        engine=wanted,
        found=sorted(names),
    )


def list_engines(config: Settings) -> dict[str, Engine | EngineMissing]:
    """All engines by name, newest last; for one that does not start, why."""
    engines: dict[str, Engine | EngineMissing] = {}
    for name, how in sorted(candidates(config).items(), key=lambda item: _natural(item[0])):
        try:
            engines[name] = _open(name, how)
        except EngineMissing as error:
            engines[name] = error
    return engines


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine that was found but not asked yet."""

    command: tuple[str, ...]
    folders: tuple[Path, ...] = ()
    pack_format: int = 0
    version: str = ""


def candidates(config: Settings) -> dict[str, Candidate]:
    """Engines by name. What an operator configures goes before what was installed, and that before PATH."""
    found: dict[str, Candidate] = {}
    for name, programs in ON_PATH.items():
        program = next(filter(None, map(shutil.which, programs)), None)
        if program is not None:
            found[name] = Candidate((program,))
    if config.engines_prefix.is_dir():
        for record in sorted(config.engines_prefix.glob(f"*/{RECORD}")):
            found[record.parent.name] = _installed(record)
    for name, own in config.engines.items():
        found[name] = Candidate(own.command, own.folders, own.pack_format, own.version)
    return found


def probe_version(command: tuple[str, ...], folders: tuple[Path, ...] = ()) -> str:
    """What ``--version`` prints, in bubblewrap. Its exit status says nothing: 3.2.3 gives 255.

    Raises `EngineMissing` where the command can't be started or says no version, and what `run_tool` raises.
    """
    program = Path(command[0])
    if not program.is_absolute() or not os.access(program, os.X_OK):
        raise EngineMissing(f"the engine's command {command[0]!r} must be the absolute path of a program that is there")
    with scratch_folder() as scratch:
        outcome = run_tool([*command, "--version"], scratch=scratch, ro=folders, env=ENVIRONMENT, limits=_PROBE)
    found = _VERSION.search(outcome.stdout)
    if found is None:
        raise EngineMissing(
            f"{command[0]} does not say which version of Godot it is: check the command and its folders in "
            "CLOUDBAKER_ENGINES, that other users may read them, and that its libraries are installed",
            detail=(outcome.stdout + outcome.stderr)[-2000:].decode("utf-8", "replace"),
        )
    return found.group(0).decode("ascii", "replace")


def probe(command: tuple[str, ...], folders: tuple[Path, ...] = ()) -> str:
    """As `probe_version`; asks only once as long as the program stays the same."""
    return _version(command, folders, _stamp(command))


def _open(name: str, how: Candidate) -> Engine:
    version = how.version or probe(how.command, how.folders)
    return Engine(name, how.command, version, how.folders, how.pack_format or pack_format_of(version))


@lru_cache(maxsize=64)
def _version(command: tuple[str, ...], folders: tuple[Path, ...], _stamp: tuple[int, ...]) -> str:
    return probe_version(command, folders)


def _stamp(command: tuple[str, ...]) -> tuple[int, ...]:
    """Changes when a program is replaced under the same path: a service runs for months."""
    stamps = []
    for word in command:
        if word.startswith("/") and ":" not in word:
            try:
                info = Path(word).stat()
            except OSError:
                continue
            stamps += [info.st_mtime_ns, info.st_size]
    return tuple(stamps)


def _installed(record: Path) -> Candidate:
    """An engine of `install`. Its folder may have been moved as a whole: paths in the record are relative to it."""
    try:
        data: dict[str, Any] = json.loads(record.read_text("utf-8"))
        command = tuple(str(word).replace("{folder}", str(record.parent)) for word in data["command"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineMissing(
            f"{record} can't be read: install the engine again with `cloudbaker engines install {record.parent.name}`",
            detail=str(error),
        ) from error
    return Candidate(command, (record.parent,))


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts ``godot-4.10`` after ``godot-4.6``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
