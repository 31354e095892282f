"""What each engine makes of a path, and whether that stays inside a mod.

Godot simplifies paths late and in many places, so ``res://mods/a/../../core.gd`` and ``res:///core.gd`` are files of
the game (confirmed on 4.6.3). Everything that a mod says about paths is therefore taken through `canonical` first, and
compared only then. The rules are those of ``String::simplify_path``, ``ProjectSettings::localize_path`` and
``ResourceLoader`` in the engine's source.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum

RES = "res://"
MAX_PATH_BYTES = 1024
"""Longer paths in a pack are refused: file systems end at 4096 with everything in front."""

MAX_NAME_BYTES = 255
"""Of one part of a path: what file systems hold."""

_SCHEME = re.compile(r"([A-Za-z0-9]+)://")


class PathKind(StrEnum):
    """Where a path leads."""

    RES = "res"
    """Into the project and its packs."""
    USER = "user"
    """Into the game's user folder (saves, settings)."""
    UID = "uid"
    """To whatever has that UID: a UID wins over the path beside it."""
    ABSOLUTE = "absolute"
    """Into the file system, a network share or a drive."""
    OTHER = "other"
    """A scheme that the engine hands to somebody else."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """What the engine makes of a path."""

    kind: PathKind
    path: str
    """With its scheme: ``res://mods/a/x.png``."""
    plain: bool
    """Whether it was written that way: False for ``..``, ``./``, ``//``, backslashes and relative paths."""

    def inside(self, *folders: str) -> bool:
        """Whether it is a file in (or under) one of the folders, each ``res://…/``; never a folder itself."""
        below = self.path.removeprefix(RES)
        return (
            self.kind is PathKind.RES
            and ".." not in below.split("/")
            and ":" not in below
            and any(self.path.startswith(f) and len(self.path) > len(f) for f in folders)
        )


def canonical(path: str, base: str = RES, engine: int = 4) -> Resolved:
    """What Godot `engine` (3 or 4) loads when a file at `base` (``res://mods/a/scene.tscn``) names `path`.

    Relative paths are taken from the folder of `base`. UIDs are not looked up: whoever accepts one accepts anything.
    """
    if path.startswith("uid://"):
        return Resolved(PathKind.UID, path, True)
    text = path
    if "://" not in text and not _is_absolute(text):
        folder = base[: base.rfind("/") + 1]
        text = folder + text
    elif "://" in text and not _SCHEME.match(text):
        return Resolved(PathKind.OTHER, text, False)
    simple = simplify(text, engine)
    kind = PathKind.ABSOLUTE
    if match := _SCHEME.match(simple):
        kind = {"res": PathKind.RES, "user": PathKind.USER}.get(match[1], PathKind.OTHER)
    return Resolved(kind, simple, simple == path)


def simplify(path: str, engine: int = 4) -> str:
    """``String::simplify_path``: ``\\`` to ``/``, no empty parts, no ``.``, ``..`` taken up.

    Engines up to 4.6 drop a ``..`` that has nothing before it, later ones keep it. For Godot 4 it is kept here, so that
    a path that means two things is inside of nothing.
    """
    drive, rest = _split_drive(path, engine)
    parts: list[str] = []
    for part in rest.replace("\\", "/").split("/"):
        if part in ("", "."):
            continue
        if part == "..":
            if parts and parts[-1] != "..":
                parts.pop()
            elif engine >= 4:
                parts.append(part)
            continue
        parts.append(part)
    return drive + "/".join(parts)


def _split_drive(path: str, engine: int) -> tuple[str, str]:
    if engine >= 4:
        if match := _SCHEME.match(path):
            return match[0], path[match.end() :]
        if path.startswith(("//", "\\\\")):
            return path[:2], path[2:]
    else:
        for scheme in ("local://", "res://", "user://"):
            if path.startswith(scheme):
                return scheme, path[len(scheme) :]
    if path.startswith(("/", "\\")):
        return path[:1], path[1:]
    at = path.find(":/")
    if at < 0:
        at = path.find(":\\")
    if 0 <= at < path.find("/"):  # with backslashes alone it is no drive
        return path[: at + 2], path[at + 2 :]
    return "", path


def _is_absolute(path: str) -> bool:
    return path.startswith(("/", "\\")) or ":/" in path or ":\\" in path


def pack_path_problem(path: str) -> str | None:
    """Why a path can't be in a pack, or None. `path` with or without its ``res://`` (formats 1, 2 and 3 differ).

    A path has to be exactly what every engine makes of it; that excludes whatever a later step could read otherwise.
    """
    below = path.removeprefix(RES)
    if not below:
        return "it is empty"
    if len(below.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES:
        return f"it is longer than {MAX_PATH_BYTES} bytes"
    if "\\" in below:
        return "it holds a backslash"
    if ":" in below:
        return "it holds a colon"
    if below.startswith("/"):
        return "it begins with a slash"
    parts = below.split("/")
    if "" in parts:
        return "it holds an empty part"
    if "." in parts or ".." in parts:
        return "it holds . or .. as a part"
    if any(len(part.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES for part in parts):
        return f"a part is longer than {MAX_NAME_BYTES} bytes"
    if any(part != part.strip() or part.endswith(".") for part in parts):
        return "a part begins or ends with white space, or ends with a dot"
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for c in below):
        return "it holds control, invisible or unassigned characters"
    return None


def path_key(path: str) -> str:
    """Equal for paths that some file system takes for one: case folded, in Unicode form C."""
    below = path.removeprefix(RES)
    if below.isascii():
        return below.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", below).casefold())
