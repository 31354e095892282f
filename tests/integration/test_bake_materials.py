"""A bake whose recipe works on materials: converted before images are encoded, losses counted from the source."""

from __future__ import annotations

import cloudbaker as cb
from cloudbaker.compute.gltf import Document
from cloudbaker.testing import wasteful
from cloudbaker.testing.wasteful import SPEC_GLOSS


def test_a_glossy_model_comes_out_as_three_js_knows_it(home, tmp_path):
    path = tmp_path / "paint.glb"
    path.write_bytes(wasteful.glossy(64))
    result = cb.bake(path, mode="direct", previews=False)
    assert result.ok
    [artifact] = [a for a in result.version.artifacts if a.name == "model.glb"]
    with cb.catalog() as catalog:
        document = Document.from_glb(catalog.read_blob(artifact.blob))
    [material] = document.json["materials"]
    assert set(material["extensions"]) == {"KHR_materials_specular", "KHR_materials_ior"}
    assert len(document.json["images"]) == 3
    told = [loss.detail for loss in result.losses]
    assert f"{SPEC_GLOSS} is not used any more" in told
    assert not [loss for loss in result.losses if loss.kind == "name"]
