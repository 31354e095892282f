"""What this machine can do, and what is missing: each line with its remedy."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

from cloudbaker.catalog.core import Catalog
from cloudbaker.compute.godot.engines import Engine, list_engines
from cloudbaker.compute.npm import validator_js
from cloudbaker.compute.previews import available
from cloudbaker.compute.sandbox import probe
from cloudbaker.compute.signing import keys as signing_keys
from cloudbaker.compute.toolchain import versions
from cloudbaker.errors import CloudBakerError
from cloudbaker.service import running_service
from cloudbaker.settings import Settings


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    needed: bool
    """Whether bakes fail without it; else something is merely lost."""
    says: str


def examine(config: Settings) -> list[Check]:
    """Look at everything; changes nothing but what the first bake would (the home folder and its catalog)."""
    isolation = probe()
    pictures = available(config.chromium)
    return [
        Check("python", sys.version_info >= (3, 11), True, sys.version.split()[0]),
        Check("isolation", isolation.sufficient, True, isolation.verdict),
        _check("validator", True, lambda: f"official glTF validator at {validator_js()}"),
        Check("previews", pictures is None, False, pictures or f"three.js in {config.chromium}"),
        _engines(config),
        _check("etc1s", False, _etc1s),
        _check("catalog", True, lambda: _catalog(config)),
        _check("keys", False, lambda: _keys(config)),
        Check("tools", True, True, ", ".join(f"{name} {version}" for name, version in versions().items())),
        _service(config),
        Check("machine", True, True, f"{os.cpu_count()} cores"),
    ]


def _check(name: str, needed: bool, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, needed, look())
    except CloudBakerError as error:
        return Check(name, False, needed, error.message)


def _etc1s() -> str:
    from cloudbaker.compute.textures.etc1s import basisu_program, version

    return f"basisu {version()} at {basisu_program()}"


def _engines(config: Settings) -> Check:
    found = list_engines(config)
    broken = [f"{name}: {engine.message}" for name, engine in found.items() if not isinstance(engine, Engine)]
    there = [f"{name} {engine.short}" for name, engine in found.items() if isinstance(engine, Engine)]
    if broken or not there:
        says = "; ".join(broken) or "none: no Godot packs (`cloudbaker engines install godot-4.6` fetches one)"
        return Check("engines", False, False, says)
    return Check("engines", True, False, ", ".join(there))


def _catalog(config: Settings) -> str:
    with Catalog.open(config) as catalog:
        damaged = catalog.gc(plan=True).missing
    if damaged:
        raise CloudBakerError(f"{len(damaged)} stored object(s) are missing: see `cloudbaker catalog gc --plan`")
    return f"in {config.home}"


def _keys(config: Settings) -> str:
    if not config.keys.exists():
        return "none yet: they are made by the first bake"
    return ", ".join(f"{key.algorithm} {key.key_id[:16]}…" for key in signing_keys.load(config.keys).public)


def _service(config: Settings) -> Check:
    service = running_service(config)
    return Check("service", True, False, service.ui_url if service else "not running (`cloudbaker up` starts it)")
