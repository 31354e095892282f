"""A bake whose UASTC is made smaller: the recipe's word reaches the jobs, which have a fork server of their own."""

from __future__ import annotations

from pathlib import Path

import cloudbaker as cb
from cloudbaker.compute.gltf import Document
from cloudbaker.testing import models

RECIPE = """
name = "light"
target = "web"
[textures]
format = "ktx2"
rdo = {}
[textures.slots]
color = "webp"
normal = "ktx2-uastc"
data = "webp"
"""


def test_a_recipe_makes_its_uastc_smaller(home: Path, tmp_path: Path) -> None:
    sizes = {}
    model = tmp_path / "crate.glb"
    model.write_bytes(models.textured(256))
    for strength in (0, 50):
        recipe = tmp_path / "light.toml"
        recipe.write_text(RECIPE.format(strength))
        result = cb.bake(model, recipe=str(recipe), mode="direct", previews=False)
        assert result.ok, result.findings
        [artifact] = [a for a in result.version.artifacts if a.name == "model.glb"]
        with cb.catalog() as catalog:
            document = Document.from_glb(catalog.read_blob(artifact.blob))
        [image] = [image for image in document.json["images"] if image["mimeType"] == "image/ktx2"]
        sizes[strength] = len(document.view(image["bufferView"]))
    assert sizes[50] < 0.95 * sizes[0]
