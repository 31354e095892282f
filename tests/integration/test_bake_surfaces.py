"""A scan is repaired and decimated by PyMeshLab within a bake, where its recipe asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cloudbaker as cb
from cloudbaker.compute.gltf.decompress import decode
from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.measure import measure
from cloudbaker.compute.gltf.primitives import read, shapes
from cloudbaker.compute.meshes.topology import topology
from cloudbaker.compute.meshlab import missing, version
from cloudbaker.errors import ToolMissing
from cloudbaker.testing import shapes as surfaces
from cloudbaker.testing.writer import Writer

RECIPE = """
name = "scan"
target = "web"

[meshes]
{meshes}

[[lods]]
variant = "lod1"
ratio = 0.25
max_error_percent = 0.5
"""
needs_the_extra = pytest.mark.skipif(bool(missing()), reason=missing() or "installed")


def scan() -> bytes:
    """A ball with bumps as a soup of triangles, some turned, some missing; beside it a textured box."""
    ball = surfaces.sphere(1, 64)
    bumps = 1 + 0.02 * np.sin(ball.positions * 9).sum(axis=1, keepdims=True)
    faces = np.delete(ball.indices, [90, 91, 700, 1500], axis=0)
    faces[::50] = faces[::50, ::-1]
    w = Writer()
    corners = (ball.positions * bumps).astype(np.float32)[faces].reshape(-1, 3)
    primitive = {"attributes": {"POSITION": w.attribute(corners, bounds=True)}}
    mesh = w.add("meshes", {"name": "scan", "primitives": [primitive]})
    w.scene(w.node(name="scan", mesh=mesh), w.node(name="box", mesh=w.mesh(surfaces.box(), name="box")))
    return w.glb()


def baked(result: cb.BakeResult, name: str) -> Document:
    with cb.catalog() as catalog:
        (artifact,) = [a for a in result.version.artifacts if a.name == name]
        document = Document.from_glb(catalog.read_blob(artifact.blob))
    decode(document)
    return document


def first_surface(document: Document) -> tuple[np.ndarray, np.ndarray]:
    shape = next(iter(shapes(document)))
    arrays = read(document, shape.first)
    return arrays.attributes["POSITION"], arrays.indices


@needs_the_extra
def test_a_scan_is_mended_and_its_levels_are_more_exact(tmp_path: Path, tell: Callable[[str], None]) -> None:
    model = tmp_path / "scan.glb"
    model.write_bytes(scan())
    results = {}
    for name, meshes in (("plain", ""), ("mended", 'repair = true\ndecimate = "pymeshlab"')):
        recipe = tmp_path / f"{name}.toml"
        recipe.write_text(RECIPE.format(meshes=meshes))
        results[name] = cb.bake(model, mode="direct", previews=False, recipe=str(recipe), asset=name)
        assert all(row["bytes"] <= len(scan()) for row in results[name].sizes())
    plain, mended = results["plain"], results["mended"]
    assert topology(*first_surface(baked(plain, "model.glb"))).open_edges > 0
    found = topology(*first_surface(baked(mended, "model.glb")))
    assert found.closed
    assert found.flipped_edges == 0
    assert topology(*first_surface(baked(mended, "lod1.glb"))).closed
    assert [finding.code for finding in mended.findings if finding.code.startswith("mesh.")] == ["mesh.repaired"]
    assert mended.version.tools["pymeshlab"] == version()
    assert "pymeshlab" not in plain.version.tools
    isolation = cb.verify("mended@1").statement.predicate["buildDefinition"]["internalParameters"]["isolation"]
    assert "bubblewrap" in isolation
    assert "landlock" in isolation
    # The same number of triangles, nearer to the surface.
    whole = baked(mended, "model.glb")
    by_meshoptimizer, by_pymeshlab = (measure(whole, baked(results[n], "lod1.glb")) for n in ("plain", "mended"))
    assert by_pymeshlab.triangles <= 1.05 * by_meshoptimizer.triangles
    assert by_pymeshlab.error_mean_percent < by_meshoptimizer.error_mean_percent
    tell(
        f"mean error at 25 %: {by_meshoptimizer.error_mean_percent:.4f} % by meshoptimizer, "
        f"{by_pymeshlab.error_mean_percent:.4f} % by PyMeshLab"
    )


def test_without_the_extra_a_recipe_that_wants_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloudbaker.compute.meshlab.process.missing", lambda: "PyMeshLab is not installed: pip …")
    model, recipe = tmp_path / "scan.glb", tmp_path / "mended.toml"
    model.write_bytes(scan())
    recipe.write_text(RECIPE.format(meshes="repair = true"))
    with pytest.raises(ToolMissing, match="pip"):
        cb.bake(model, mode="direct", previews=False, recipe=str(recipe))
