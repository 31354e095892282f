"""Policies: declarative TOML that says what a stranger's mod may hold. Validated by pydantic, hashed into the bake key.

A policy never names what is dangerous in order to let the rest through: it names an engine's *reviewed class list* and
takes away from it. What is in no list, no extension table and no ban is refused because it was never allowed.
"""

from __future__ import annotations

import fnmatch
import re
import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloudbaker.canonical import canonical_sha256
from cloudbaker.compute.godot.classlist import COMMON, ClassList, class_list_for, indexed_patterns, load_class_list
from cloudbaker.errors import EngineMissing, PolicyError
from cloudbaker.model import check_name
from cloudbaker.settings import settings

FileKind = Literal[
    "scene", "resource", "binary", "shader", "glb", "gltf", "buffer", "png", "jpeg", "webp",
    "wav", "ogg", "mp3", "flac", "font", "text", "",
]  # fmt: skip
"""What a file of an extension must be; empty takes the extension out of the policy that this one extends."""
Track = Literal[
    "value", "transform", "position_3d", "rotation_3d", "scale_3d", "blend_shape", "bezier", "audio", "animation",
]  # fmt: skip
"""Kinds of tracks that can pass. Method tracks call anything, and never do."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Part):
    """What one mod may ask of us and of the player's machine."""

    files: int = Field(10_000, gt=0)
    pack_bytes: int = Field(1 << 30, gt=0)
    """All files together, unpacked."""
    file_bytes: int = Field(512 << 20, gt=0)
    text_bytes: int = Field(32 << 20, gt=0)
    """Of one text resource. The tree of its values takes up to 40 times that."""
    resource_values: int = Field(4_000_000, gt=0)
    """Of one resource."""
    nodes: int = Field(20_000, gt=0)
    """Of one scene."""
    node_depth: int = Field(128, gt=0)
    instances: int = Field(100_000, gt=0)
    """Nodes of a scene with everything that it instances: ten scenes of ten instances each are 10¹⁰ nodes."""
    image_pixels: int = Field(64 << 20, gt=0)
    """Per image, from its header."""
    archive_ratio: int = Field(200, gt=1)
    """Unpacked to packed, above 16 MB."""


class Shaders(_Part):
    """Whether shaders pass, and what they may do."""

    allowed: bool = False
    bytes: int = Field(64 << 10, gt=0)
    loops: int = Field(8, ge=0)
    iterations: int = Field(4096, ge=0)
    """Of all loops of one shader together, those in one another multiplied."""


class Animations(_Part):
    """What tracks an animation may have. Method tracks call anything, and never pass."""

    tracks: tuple[Track, ...] = get_args(Track)


class Ban(_Part):
    """Classes (with all that derive from them) or properties that don't pass, and why."""

    classes: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    """``Class.name`` counts for derived classes, too; ``*.name`` for every class. ``*`` also within names."""
    code: str = Field(pattern=r"^(script|native|class|property)\.[a-z-]+$")
    reason: str


class Policy(_Part):
    """What a mod may hold."""

    name: str
    description: str = ""
    extends: str = ""
    """A policy that this one adds to: its tables are merged key by key, its lists of bans and paths joined."""
    reviewed: tuple[str, ...]
    """Class lists that the bans were reviewed for; an engine that is newer than all of them is refused."""
    binary_resources: bool = False
    """Whether ``.res``, ``.scn`` and their like pass, checked as deeply as text."""
    uids: Literal["strip", "reject"] = "strip"
    """UIDs override paths. ``strip``: they are noted, and removed before an engine sees the file."""
    game_paths: tuple[str, ...] = ()
    """Files of the game that a mod may refer to: ``res://assets/shared/*.png``; ``*`` does not cross a ``/``."""
    not_roots: tuple[str, ...] = ()
    """Node classes (with all that derive from them; ``*`` within names) that can't be the root of a scene."""
    instance_properties: tuple[str, ...] = ()
    """What a mod may set on an instance of such a file, where it is a scene."""
    paths: tuple[str, ...] = ()
    """Properties (``Class.name``) that hold the path of a file which the engine opens."""
    numbers: dict[str, int] = {}
    """Largest value (of each component) of properties, ``Class.name``; the first pattern that fits counts."""
    limits: Limits = Limits()
    shaders: Shaders = Shaders()
    animations: Animations = Animations()
    files: dict[str, FileKind]
    bans: tuple[Ban, ...] = ()

    @cached_property
    def hash(self) -> str:
        """Hex SHA-256 over everything that decides, the reviewed class lists included. Part of the bake key."""
        lists = {name: load_class_list(name).sha256 for name in self.reviewed}
        return canonical_sha256({"policy": self.model_dump(mode="json", exclude={"description"}), "class_lists": lists})

    def for_engine(self, engine: str) -> Allowed:
        """The policy applied to the classes of an engine (``4.6.3``). Raises `EngineMissing` for one too new."""
        return Allowed(self, class_list_for(engine, self.reviewed))


@dataclass(frozen=True, slots=True)
class PropertyRule:
    """What a policy says about a property of a class."""

    kind: str | None
    """Its type, or None where the class has no such property."""
    ban: Ban | None = None
    is_path: bool = False
    largest: int | None = None


@dataclass
class Allowed:
    """A policy together with the classes of one engine: answers questions about names, each of them once."""

    policy: Policy
    classes: ClassList
    _bans: dict[str, Ban | None] = field(default_factory=dict)
    _rules: dict[tuple[str, str], PropertyRule] = field(default_factory=dict)

    def with_classes(self, classes: ClassList) -> Allowed:
        """The same policy for another list."""
        return Allowed(self.policy, classes)

    def known(self, name: str) -> bool:
        """Whether the engine has such a Resource or Node class."""
        return name in self.classes.bases

    def class_ban(self, name: str) -> Ban | None:
        """The ban that a class falls under, itself or by a base; None where it passes or is unknown."""
        if name not in self._bans:
            chain = [*self.classes.chain(name)] or [name]
            self._bans[name] = next(
                (
                    ban
                    for ban in self.policy.bans
                    for pattern in ban.classes
                    if any(fnmatch.fnmatchcase(part, pattern) for part in chain)
                ),
                None,
            )
        return self._bans[name]

    def can_be_root(self, name: str) -> bool:
        """Whether a node class may be the root of a scene."""
        chain = [*self.classes.chain(name)]
        return not any(fnmatch.fnmatchcase(part, pattern) for pattern in self.policy.not_roots for part in chain)

    def rule(self, owner: str, key: str) -> PropertyRule:
        """What holds for a property of a class. `owner` is empty where the class is not known: a node that a scene
        only changes. Such a node may have the properties of every allowed node class."""
        at = (owner, key)
        found = self._rules.get(at)
        if found is None and (number := _NUMBERED.match(key)):
            # Thousands of tracks and bones have one rule: no engine has a property of one number alone among these.
            key = f"{number[1]}/0{key[number.end() :]}"
            at = (owner, key)
            found = self._rules.get(at)
        if found is None:
            if len(self._rules) > _REMEMBERED:
                self._rules.clear()
            found = self._rules[at] = self._rule(owner, key)
        return found

    def banned_anywhere(self, key: str) -> Ban | None:
        """The ban on a property of any class at all: for places that do not say the class, such as tracks."""
        return next(
            (
                ban
                for ban in self.policy.bans
                for pattern in ban.properties
                if fnmatch.fnmatchcase(key, pattern.partition(".")[2])
            ),
            None,
        )

    def node_has(self, key: str) -> bool:
        """Whether any allowed node class has a property of that name."""
        if any(self._allows(name, key) for name in self._owners.get(key, ())):
            return True
        return any(pattern.fullmatch(key) and self._allows(name, key) for name, pattern in indexed_patterns())

    def _allows(self, name: str, key: str) -> bool:
        node = self.classes.is_a(name, "Node")
        return node and self.class_ban(name) is None and self.rule(name, key).ban is None

    @cached_property
    def _owners(self) -> dict[str, list[str]]:
        """The classes that have each property as their own."""
        owners: dict[str, list[str]] = {}
        for name, own in self.classes.own.items():
            for key in own:
                owners.setdefault(key, []).append(name)
        return owners

    def _rule(self, owner: str, key: str) -> PropertyRule:
        if not owner:
            kind = "Variant" if self.node_has(key) or COMMON.fullmatch(key) else None
            return PropertyRule(kind, self.banned_anywhere(key), largest=self._largest({"*"}, key))
        chain = {*self.classes.chain(owner), owner, "*"}
        ban = next((ban for ban in self.policy.bans if any(_fits(p, chain, key) for p in ban.properties)), None)
        is_path = any(_fits(pattern, chain, key) for pattern in self.policy.paths)
        return PropertyRule(self.classes.property_type(owner, key), ban, is_path, self._largest(chain, key))

    def _largest(self, chain: set[str], key: str) -> int | None:
        return next((most for pattern, most in self.policy.numbers.items() if _fits(pattern, chain, key)), None)


_REMEMBERED = 200_000
_NUMBERED = re.compile(r"(tracks|bones|bind|item|settings)/\d+(?=/|$)")


def _fits(pattern: str, chain: set[str], key: str) -> bool:
    """Whether ``Class.name`` means this property of a class with these bases. ``*`` may stand in both parts."""
    owner, _, name = pattern.partition(".")
    if not fnmatch.fnmatchcase(key, name):
        return False
    return owner in chain or ("*" in owner and any(fnmatch.fnmatchcase(part, owner) for part in chain))


def parse_policy(text: str, *, origin: str = "policy") -> Policy:
    """Read and check a policy's TOML. Raises `PolicyError` that names the first wrong field."""
    try:
        data = _extended(tomllib.loads(text), (origin,))
        policy = Policy.model_validate(data)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{origin} is no valid TOML: {error}", origin=origin) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise PolicyError(
            f"{origin}: {place}: {first['msg']} ({error.error_count()} problem(s) in all)", origin=origin
        ) from error
    check_name("policy", policy.name)
    for name in policy.reviewed:
        try:
            load_class_list(name)
        except EngineMissing as error:
            raise PolicyError(f"{origin}: reviewed: {error.message}", origin=origin) from error
    return policy


def load_policy(name_or_path: str = "default") -> Policy:
    """A policy by name (the operator's folder first, then the built-in ones) or by the path of a ``.toml`` file."""
    text, origin = _text(name_or_path)
    return parse_policy(text, origin=origin)


def tenant_policy(tenant: str) -> Policy:
    """The policy of a tenant: the one in the operator's folder that has its name, else ``default``."""
    check_name("tenant", tenant)
    own = settings().policies
    return load_policy(tenant if own is not None and (own / f"{tenant}.toml").is_file() else "default")


def policy_names() -> list[str]:
    """Names of all policies that `load_policy` finds."""
    folders = [_builtin(), *([settings().policies] if settings().policies else [])]
    return sorted({f.name[:-5] for folder in folders if folder for f in folder.iterdir() if f.name.endswith(".toml")})


def _builtin() -> Any:
    return resources.files("cloudbaker.compute.godot") / "policies"


def _text(name_or_path: str) -> tuple[str, str]:
    path = Path(name_or_path)
    if path.suffix == ".toml":
        try:
            return path.read_text("utf-8"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            raise PolicyError(f"can't read policy {path}: {error}", origin=str(path)) from error
    check_name("policy", name_or_path)
    own = settings().policies
    if own is not None and (own / f"{name_or_path}.toml").is_file():
        return _text(str(own / f"{name_or_path}.toml"))
    file = _builtin() / f"{name_or_path}.toml"
    if not file.is_file():
        raise PolicyError(f"no policy named {name_or_path!r}; there are: {', '.join(policy_names())}")
    return file.read_text("utf-8"), f"policy {name_or_path}"


def _extended(data: dict[str, Any], seen: tuple[str, ...]) -> dict[str, Any]:
    """The data with what it extends merged in. An operator's own ``default`` may extend the built-in one."""
    parent = data.get("extends", "")
    if not parent:
        return data
    text, origin = _text(parent)
    if origin in seen and (_builtin() / f"{parent}.toml").is_file():
        text, origin = (_builtin() / f"{parent}.toml").read_text("utf-8"), f"policy {parent}"
    if origin in seen:
        raise PolicyError(f"{seen[0]}: it extends itself, by way of {', '.join((*seen[1:], origin))}", origin=seen[0])
    base = _extended(tomllib.loads(text), (*seen, origin))
    merged = {**base, **data}
    for key in ("limits", "shaders", "animations", "files", "numbers"):
        if key in base or key in data:
            merged[key] = {
                **data.get(key, {}),
                **{k: v for k, v in base.get(key, {}).items() if k not in data.get(key, {})},
            }
    for key in ("bans", "game_paths", "not_roots", "instance_properties", "paths"):
        merged[key] = [*base.get(key, []), *data.get(key, [])]
    return merged
