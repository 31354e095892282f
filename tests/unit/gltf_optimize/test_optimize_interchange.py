"""pygltflib in and out."""

from __future__ import annotations

import numpy as np
import pygltflib
import pytest

from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.interchange import from_pygltflib, to_pygltflib
from cloudbaker.testing import models


@pytest.mark.parametrize("name", ["box", "textured", "skinned", "morphed", "draco", "meshopt", "sparse"])
def test_geometry_survives_both_ways(name):
    document = Document.from_glb(models.VALID[name]())
    gltf, _ = to_pygltflib(document)
    assert isinstance(gltf, pygltflib.GLTF2)
    again = Document.from_glb(from_pygltflib(gltf).to_glb())
    primitive = again.json["meshes"][0]["primitives"][0]
    points = again.accessor(primitive["attributes"]["POSITION"])
    assert len(points) == document.items("accessors")[0]["count"] or name in ("draco", "meshopt")
    assert np.isfinite(points).all()
    assert len(points) > 4


def test_defaults_that_it_writes_out_are_no_losses():
    assert to_pygltflib(Document.from_glb(models.with_extras_and_names()))[1] == []


def test_what_pygltflib_can_not_hold_is_told():
    document = Document.from_glb(models.box())
    document.json["ACME_draft"] = 1
    assert [loss.place for loss in to_pygltflib(document)[1]] == ["/ACME_draft"]


def test_what_pygltflib_refuses_is_a_clear_error():
    document = Document.from_glb(models.box())
    document.json["nodes"][0]["extras"] = "text is legal here"
    with pytest.raises(ValueError, match="pygltflib can't hold"):
        to_pygltflib(document)


def test_buffers_with_a_uri_are_not_read():
    gltf = pygltflib.GLTF2(buffers=[pygltflib.Buffer(uri="../../etc/passwd", byteLength=10)])
    with pytest.raises(ValueError, match="BINARYBLOB"):
        from_pygltflib(gltf)
