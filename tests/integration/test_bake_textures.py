"""Textures through whole bakes: KTX2 by slot, as far as the file does not grow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cloudbaker as cb
from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.textures import replace_images
from cloudbaker.compute.textures import etc1s
from cloudbaker.compute.textures.ktx2 import Ktx2, read_ktx2
from cloudbaker.model import RunState
from cloudbaker.testing import models
from cloudbaker.testing.writer import encode_image


def bake(folder: Path, data: bytes, recipe: str = "web") -> tuple[Any, Document, dict[str, Any]]:
    """The result, the baked model and the manifest."""
    path = folder / "Thing.glb"
    path.write_bytes(data)
    result = cb.bake(path, mode="direct", previews=False, recipe=recipe)
    assert result.state is RunState.COMPLETED, result.findings
    assert all(row["bytes"] <= len(data) for row in result.sizes())
    with cb.catalog() as catalog:
        files = {a.name: catalog.read_blob(a.blob) for a in result.version.artifacts}
    return result, Document.from_glb(files["model.glb"]), json.loads(files["manifest.json"])


def textures(document: Document) -> dict[str, Ktx2 | str]:
    """Name of each image → its KTX2, or its media type."""
    return {
        image["name"]: read_ktx2(bytes(document.view(image["bufferView"])))
        if image["mimeType"] == "image/ktx2"
        else image["mimeType"]
        for image in document.items("images")
    }


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A recipe of one's own: no levels of detail, and what a test appends."""
    path = tmp_path / "own.toml"
    path.write_text('name = "own"\ntarget = "web"\n[textures]\nformat = "ktx2"\n')
    return path


def test_web_gives_each_slot_its_ktx2(home: Path, tmp_path: Path) -> None:
    result, document, manifest = bake(tmp_path, models.textured(256))
    found = {name: (t.codec.name, t.srgb, t.full_pyramid) for name, t in textures(document).items()}
    assert found.pop("color") in (("uastc", True, True), ("etc1s", True, True))  # the second where it is installed
    assert found == {"metallic-roughness": ("uastc", False, True), "normal": ("uastc", False, True)}
    rows = {row["slots"][0]: row for row in manifest["textures"]}
    assert 0 < rows["normalTexture"]["angle_degrees"] < 5  # noise at every texel: hard for any block
    assert rows["baseColorTexture"]["psnr_db"] >= 32
    assert all(row["gpu_bytes"] * 3.9 < row["gpu_bytes_before"] and row["levels"] == 9 for row in rows.values())
    with cb.catalog() as catalog:
        [optimize] = [step for step in catalog.get_run(result.run_id).steps if step.stage == "optimize"]
    assert optimize.metrics["texture_gpu_bytes"] * 3.9 < optimize.metrics["source_texture_gpu_bytes"]
    assert not result.losses


def test_a_jpeg_of_colours_becomes_etc1s_where_its_encoder_is(home: Path, tmp_path: Path) -> None:
    result, document, _ = bake(tmp_path, models.textured(256, mime="image/jpeg"))
    color = textures(document)["color"]
    if etc1s.available():
        assert isinstance(color, Ktx2)
        assert (color.codec.name, color.srgb) == ("etc1s", True)
    else:
        assert "texture.etc1s-missing" in {finding.code for finding in result.findings}


def test_without_the_encoder_it_says_so_and_has_another_bake_key(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not etc1s.available():
        pytest.skip("the encoder is not installed: the test before has seen this")
    model = models.textured(256, mime="image/jpeg")
    first, *_ = bake(tmp_path, model)
    monkeypatch.setattr(etc1s, "available", lambda: False)
    second, document, _ = bake(tmp_path, model)
    assert "texture.etc1s-missing" in {finding.code for finding in second.findings}
    assert second.version.bake_key != first.version.bake_key
    color = textures(document)["color"]
    assert isinstance(color, str) or color.codec.name == "uastc"  # where there was room for it after all


def test_colours_too_rich_for_etc1s_get_another_form(home: Path, tmp_path: Path) -> None:
    """Noise: ETC1S falls under 32 dB, so UASTC is on offer, and something light is in its place without room for it."""
    source = Document.from_glb(models.textured(256, mime="image/jpeg"))
    noise = np.random.default_rng(1).integers(0, 256, (128, 128, 3), np.uint8)
    replace_images(source, {0: (encode_image(noise, "image/jpeg", quality=40), "image/jpeg")})
    _, document, _ = bake(tmp_path, source.to_glb())
    color = textures(document)["color"]
    assert isinstance(color, str) or color.codec.name == "uastc"


def test_a_budget_leaves_what_is_light(home: Path, tmp_path: Path, own: Path) -> None:
    own.write_text(own.read_text() + "budget = 0.01\n[textures.slots]\ncolor = 'ktx2-uastc'\n")
    _, document, manifest = bake(tmp_path, models.textured(256, mime="image/jpeg"), str(own))
    assert textures(document)["color"] in ("image/webp", "image/jpeg")
    [row] = [row for row in manifest["textures"] if row["slots"] == ["baseColorTexture"]]
    assert row["bytes"] <= row["bytes_before"]


@pytest.mark.slow
def test_a_fallback_stands_beside_each(home: Path, tmp_path: Path, own: Path) -> None:
    own.write_text(own.read_text() + "fallback = 32\n")
    _, document, _ = bake(tmp_path, models.textured(256), str(own))
    assert [image["mimeType"] for image in document.items("images")].count("image/ktx2") == 3
    for texture in document.items("textures"):
        assert document.items("images")[texture["source"]]["mimeType"] in ("image/png", "image/jpeg")
    assert "KHR_texture_basisu" not in document.json.get("extensionsRequired", ())


@pytest.mark.slow
def test_what_can_not_be_reached_is_told(home: Path, tmp_path: Path, own: Path) -> None:
    own.write_text(own.read_text() + "min_psnr = 110.0\n")
    result, *_ = bake(tmp_path, models.textured(64), str(own))
    assert {finding.code for finding in result.findings} >= {"image.below-quality"}
    assert {finding.place for finding in result.findings if finding.code == "image.below-quality"} <= {
        "/images/0",
        "/images/1",
        "/images/2",
    }
