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

import numpy as np
import pytest

from cloudbaker.compute.gltf.optimize import assemble_job, unpack_job
from cloudbaker.compute.textures.encode import encode_image
from cloudbaker.compute.textures.options import EncodeOptions
from cloudbaker.compute.toolchain import versions
from cloudbaker.recipe import load_recipe, recipe_names
from cloudbaker.testing import models, shapes
from cloudbaker.testing.writer import encode_image as png

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


def textures() -> dict[str, str]:
    """SHA-256 of KTX2 files of each class: scaling, mipmaps, blocks and container."""
    height = shapes.noise(96, seed=1)
    planes = [height, height, shapes.noise(96, seed=2), shapes.noise(96, seed=3, octaves=2)]
    color = shapes.to_bytes(np.stack(planes, axis=-1))
    pictures = {
        "color": (color[..., :3], {}),
        "cut-out": (color, {"alpha_coverage": 0.4}),
        "normal": (shapes.normal_map(height, 8), {}),
        "data": (color[..., :3], {"max_size": 50}),
    }
    found = {}
    for name, (pixels, more) in pictures.items():
        kind = name if name in ("normal", "data") else "color"
        done = encode_image(png(np.ascontiguousarray(pixels)), EncodeOptions(kind, format="ktx2-uastc", **more))
        assert done.data is not None
        found[name] = hashlib.sha256(done.data).hexdigest()
    return found


@pytest.mark.skipif(platform.machine() != "x86_64", reason="made on x86-64")
def test_textures_are_those_of_the_last_revision():
    path = HERE / "textures.json"
    golden = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if UPDATE:
        path.write_text(json.dumps({"tools": versions(), "textures": textures()}, indent=2) + "\n", "utf-8")
    elif golden.get("tools") != versions():
        pytest.skip("made with other tools, and so under another bake key; run with CLOUDBAKER_GOLDEN=update")
    else:
        assert textures() == golden["textures"], "raise REVISION, and run with CLOUDBAKER_GOLDEN=update"
