"""The bytes of a pack by Godot 3, which writes the same ones each time: a bake key promises them.

Where the hash changes though engine and tools did not, packs are stale unnoticed. To accept new bytes: raise
``REVISION`` in ``tasks/targets/godot.py`` and run

    CLOUDBAKER_GOLDEN=update pytest tests/golden/test_godot_golden.py
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import pytest

import cloudbaker as cb
from cloudbaker.canonical import canonical_sha256
from cloudbaker.compute.godot.engines import find_engine
from cloudbaker.errors import CloudBakerError
from cloudbaker.settings import settings
from cloudbaker.testing.godot_demo import demo_mod, write_folder

GOLDEN = Path(__file__).parent / "godot_pack.json"
UPDATE = os.environ.get("CLOUDBAKER_GOLDEN") == "update"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="hashes are of x86-64: others round floats differently")
def test_pack_of_godot_3_is_that_of_the_last_revision(tmp_path: Path) -> None:
    try:
        find_engine("godot-3", settings())
    except CloudBakerError as error:
        pytest.skip(error.message)
    mod = write_folder(demo_mod(), tmp_path / "mod")
    version = cb.bake(mod, asset="golden", recipe="godot-3", mode="direct", previews=False).version
    assert version is not None
    now = {
        "engine": version.engine,
        "tools": {name: value for name, value in version.tools.items() if name != "policy"},  # it decides, it bakes not
        "recipe": version.recipe_hash,
        "sources": canonical_sha256(sorted([s.name, s.blob.sha256] for s in version.sources)),
        "pack": next(a.blob.sha256 for a in version.artifacts if a.name == "mod.pck"),
    }
    if UPDATE:
        GOLDEN.write_text(json.dumps(now, indent=2) + "\n")
    golden = json.loads(GOLDEN.read_text())
    differing = [name for name in ("engine", "tools", "recipe", "sources") if golden[name] != now[name]]
    if differing:
        pytest.skip(f"the golden pack is of another {' and '.join(differing)}: run with CLOUDBAKER_GOLDEN=update")
    assert golden["pack"] == now["pack"]
