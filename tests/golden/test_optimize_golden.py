"""The bytes that each recipe makes of generated models, as hashes.

A bake key promises the same bytes. Where these hashes change, whole libraries are stale: that may be wanted, but never
unnoticed. To accept new bytes: raise ``REVISION`` in ``compute/toolchain.py`` and run

    CLOUDBAKER_GOLDEN=update pytest tests/golden/test_optimize_golden.py
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from pathlib import Path

import pytest

from cloudbaker.compute.gltf.optimize import assemble_job, unpack_job
from cloudbaker.compute.toolchain import versions
from cloudbaker.recipe import load_recipe, recipe_names
from cloudbaker.testing import models

HERE = Path(__file__).parent
UPDATE = os.environ.get("CLOUDBAKER_GOLDEN") == "update"
MODELS = (
    "box",
    "draco",
    "grid",
    "interleaved",
    "many_nodes",
    "meshopt",
    "morphed",
    "quantized",
    "skinned",
    "sparse",
    "textured",
    "variants",
    "vertex_colored",
    "with_extras_and_names",
)


def baked(name: str, recipe: str) -> dict[str, str]:
    """SHA-256 of each file. Images stay as they are: WebP's bytes are Pillow's business and have tests of their own."""
    model = memoryview(models.VALID[name]())
    wanted = load_recipe(recipe).model_dump(mode="json")
    params = {"images": [], "meshes": wanted["meshes"], "lods": wanted["lods"]}
    files = {**unpack_job({"model.glb": model}, {}).files, **assemble_job({"model.glb": model}, params).files}
    return {"source": hashlib.sha256(model).hexdigest()} | {
        file: hashlib.sha256(content).hexdigest() for file, content in sorted(files.items())
    }


@pytest.mark.skipif(platform.machine() != "x86_64", reason="hashes are of x86-64: others round floats differently")
@pytest.mark.parametrize("recipe", [name for name in recipe_names() if load_recipe(name).target == "web"])
def test_bytes_are_those_of_the_last_revision(recipe):
    path = HERE / f"{recipe}.json"
    golden = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if not UPDATE and golden.get("tools") != versions():
        changed = {key: (golden.get("tools", {}).get(key), value) for key, value in versions().items()}
        pytest.skip(
            f"made with other tools, and so under another bake key: {changed}; run with CLOUDBAKER_GOLDEN=update"
        )
    found = {name: baked(name, recipe) for name in MODELS}
    if UPDATE:
        path.write_text(json.dumps({"tools": versions(), "models": found}, indent=2) + "\n", "utf-8")
        return
    changed = sorted(
        f"{name}/{file}"
        for name in MODELS
        for file in found[name]
        if found[name][file] != golden["models"].get(name, {}).get(file)
    )
    assert not changed, (
        f"the same input gives other bytes: {', '.join(changed)}. If that is intended, raise REVISION in "
        "compute/toolchain.py and run with CLOUDBAKER_GOLDEN=update; else a bake key would name two different packages"
    )
