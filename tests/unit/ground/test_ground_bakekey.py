from __future__ import annotations

import re
from typing import Any

import pytest

from cloudbaker.bakekey import bake_key
from cloudbaker.model import Blob, Source


def source(name: str, digest: str, media_type: str = "", key: str = "k") -> Source:
    return Source(name, media_type, Blob(digest * 64, 1, key))


MAIN, IMAGE, BUFFER = source("a.gltf", "1"), source("textures/a.png", "2"), source("a.bin", "3")
BASE: dict[str, Any] = {"sources": [MAIN, IMAGE, BUFFER], "recipe_hash": "r" * 64, "tools": {"x": "1", "y": "2"}}


def test_it_is_a_sha256_and_stays_what_it_is() -> None:
    key = bake_key(**BASE)
    assert re.fullmatch(r"[0-9a-f]{64}", key)
    # A release that changes this makes every asset of every installation stale. That must be on purpose.
    assert key == "f9a068a8a195d2456e9323a6bca97c63d361532493e5b9f625388d2708614a51"


@pytest.mark.parametrize(
    "same",
    [
        {"sources": [MAIN, BUFFER, IMAGE]},
        {"sources": [source("renamed.gltf", "1"), IMAGE, BUFFER]},
        {"sources": [source("a.gltf", "1", "model/gltf+json", "elsewhere"), IMAGE, BUFFER]},
        {"tools": {"y": "2", "x": "1"}},
    ],
    ids=["order of the others", "name of the main file", "type and place", "order of tools"],
)
def test_what_does_not_count(same: dict[str, Any]) -> None:
    assert bake_key(**{**BASE, **same}) == bake_key(**BASE)


@pytest.mark.parametrize(
    "other",
    [
        {"sources": [source("a.gltf", "4"), IMAGE, BUFFER]},
        {"sources": [MAIN, source("textures/b.png", "2"), BUFFER]},
        {"sources": [MAIN, source("textures/a.png", "4"), BUFFER]},
        {"sources": [MAIN, IMAGE]},
        {"sources": [IMAGE, MAIN, BUFFER]},
        {"recipe_hash": "s" * 64},
        {"tools": {"x": "1", "y": "3"}},
        {"tools": {"x": "1"}},
        {"engine": "godot-4.6.3"},
    ],
)
def test_what_counts(other: dict[str, Any]) -> None:
    assert bake_key(**{**BASE, **other}) != bake_key(**BASE)
