"""KHR_meshopt_compression: read whoever wrote it, written on request, smaller than EXT_meshopt_compression."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cloudbaker.compute.gltf.compress_meshopt import MeshoptOptions, compress_meshopt
from cloudbaker.compute.gltf.decompress import decode, dequantize
from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.limits import ContentLimits
from cloudbaker.compute.gltf.losses import compare
from cloudbaker.compute.gltf.measure import measure
from cloudbaker.compute.gltf.optimize import assemble_job
from cloudbaker.compute.gltf.prune import prune
from cloudbaker.compute.gltf.validate import validate
from cloudbaker.compute.meshes import meshopt
from cloudbaker.compute.meshes.meshopt import MeshoptError
from cloudbaker.compute.npm import validator_js
from cloudbaker.errors import ToolMissing
from cloudbaker.testing import models

NAME = "KHR_meshopt_compression"
COLORS = [
    (
        4,
        "of8AKIb/tliR5NcvFRnEORN9AD/nKT8OM0huE2MYDFOMZwAWYktIDtvaFKnOuZa/1NEAJhkNTozf7scX4o9VvArDAAAAAAAAAAAAAAAAAAAAAAAAAF232ogA",
        "OjfMECNW9TfBynscUiQ2D2mjjVyV1qvooB/qCMn+y/eKnB4vvS9lFxmLJfh1IWloks56E6tR5899sS3YcwmLFA==",
    ),
    (
        4,
        "of8A9SA90xYhNsoJBfowDfodAA9GDA0EDhIZBBgDBBQhGgAE5w8OBDM0+SkyK9vQNDEACAcAECQ2OC8GNiAXLwAuAAAAAAAAAAAAAAAAAAAAAAAAABfu9yIB",
        "OTnKECRV9zHCxnkcTSg1EG2ejl2a0qrvoiTrDMr7yvOGmhwxvjFlEByKJPNxJGltks55EK5R5859ri3ScQyKEA==",
    ),
    (
        8,
        "of//AJXVjdU+Spq2VuIHIr0U2gAohv64WpPk1TEVG8Y5EYEA+hx/uuXAxxLv4lJIwq9GAD/lKUEOM0hwE2UaDFWOaQCG0FPeS5Dgvov5cPfo/KwAFmRNSg7d3BSr0LuWvdTTAN8dcNjM/G9S09AgQygDWQAmGwtOjN/uxxfij1W8CsMAAAAAAAAAAAAAAAAAAJJdyba72XKIAAA=",
        "oDpNNw7N5BCPIkVWA/YENsrBQssie+cbbVLRIkU2Vw7wZ9WjDo0vXcKVztfGq/vp/587H0Pr9wh4yfj+hMuH9n2Ksp13Htgudr6XLmBlBBbVGIuM3STU+MJ1vx94afRoc5NUzuF6sBIBq2lRrefYzjV+8bKRLdTYb3K0CIWLexQ=",
    ),
    (
        8,
        "oXd3AHZyJ41bxkiM5q5AYFbgEQIEj6Z+0RHDBw8AD1+nEfCslODQT3vErtSbAgPzMjSBUgOFEgCXLOOs3CxVscfxKpEQscwCAmVg3ivrq8sAUl7Z7swP2Hl0LP2cPaBDAgIQSt6x51wLAAAAAAAAAAAAAAAAAADZBW37nP2HCAAA",
        "ozpTNwzN8RCSIkVW/vUDNsvBPMsne/IbZVLSIkM2QQ4GaMqjCI01XcmVzdfKq/7p+Z9SHz7r8QiMye/+jMt+9niKuZ1yHsMua76jLmZlARbhGIiM4iTP+Ld10h92afZoaZNMzud6sRIKq3VRrufMzjd+6rKTLc3YZ3KxCIiLgRQ=",
    ),
]
"""(stride, payload, RGBA): encoded with the COLOR filter and decoded again by npm meshoptimizer 1.3."""


def packed(data: bytes, extension: str) -> Document:
    document = Document.from_glb(data)
    decode(document)
    dequantize(document)
    compress_meshopt(document, MeshoptOptions(extension=extension))
    prune(document)
    return Document.from_glb(document.to_glb())


@pytest.mark.parametrize("name", ["skinned", "morphed", "grid", "vertex_colored", "meshopt"])
def test_the_same_model_in_fewer_bytes(name):
    source = Document.from_glb(models.VALID[name]())
    decode(source)
    dequantize(source)
    ext, khr = (packed(models.VALID[name](), extension) for extension in ("EXT", "KHR"))
    assert NAME in khr.json["extensionsRequired"]
    assert "EXT_meshopt_compression" not in khr.json["extensionsUsed"]
    assert len(khr.to_glb()) < 0.97 * len(ext.to_glb())
    versions = {
        bytes(khr.stored(i)[:1])
        for i, view in enumerate(khr.items("bufferViews"))
        if view.get("extensions", {}).get(NAME, {}).get("mode") == "ATTRIBUTES"
    }
    assert versions == {b"\xa1"}
    for document in (ext, khr):
        decode(document)
    assert khr.json.get("extensionsUsed") == ext.json.get("extensionsUsed")
    for number in range(len(ext.items("accessors"))):
        np.testing.assert_array_equal(khr.accessor(number), ext.accessor(number))
    dequantize(khr)
    assert compare(source, khr) == []
    assert measure(source, khr).error_max_percent < 0.02


def test_a_model_that_requires_it_is_valid_input():
    try:
        script = validator_js().read_text("utf-8")
    except ToolMissing as error:
        pytest.skip(str(error))
    findings, facts = validate(packed(models.skinned(), "KHR").to_glb(), ContentLimits(), script)
    assert [finding for finding in findings if finding.severity == "error"] == []
    assert facts["triangles"] == 768


def test_a_recipe_asks_for_it_and_a_bake_gives_it():
    data = models.skinned()
    made = assemble_job({"model.glb": memoryview(data)}, {"meshes": {"compression": "meshopt", "meshopt": "KHR"}})
    document = Document.from_glb(made.files["model.glb"])
    assert NAME in document.json["extensionsRequired"]
    assert made.value["losses"] == []
    again = assemble_job(
        {"model.glb": memoryview(bytes(made.files["model.glb"]))}, {"meshes": {"compression": "meshopt"}}
    )
    assert len(again.files["model.glb"]) <= len(made.files["model.glb"])


def test_versions_do_not_mix_in_threads():
    rows = np.cumsum(np.random.default_rng(0).integers(-3, 4, (4000, 4)), axis=0).astype(np.float32)
    alone = {version: meshopt.encode_vertex_buffer(rows, version=version) for version in (0, 1)}
    assert len(alone[1]) < len(alone[0])
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: meshopt.encode_vertex_buffer(rows, version=n % 2), range(64)))
    assert made == [alone[n % 2] for n in range(64)]
    for data in alone.values():
        assert meshopt.decode_buffer(data, count=4000, stride=16, mode="ATTRIBUTES") == rows.tobytes()
    with pytest.raises(MeshoptError, match="version 2"):
        meshopt.encode_vertex_buffer(rows, version=2)


@pytest.mark.parametrize(("stride", "payload", "wanted"), COLORS)
def test_the_color_filter_is_undone(stride, payload, wanted):
    kind = np.uint8 if stride == 4 else np.uint16
    data = meshopt.decode_buffer(base64.b64decode(payload), count=16, stride=stride, mode="ATTRIBUTES", filter="COLOR")
    colors = np.frombuffer(base64.b64decode(wanted), kind).astype(int)
    # Decoders round differently in the last of 16 bits.
    np.testing.assert_allclose(np.frombuffer(data, kind).astype(int), colors, atol=0 if stride == 4 else 1)


def test_colors_out_of_nothing_are_black_and_strides_are_checked():
    zeros = meshopt.encode_vertex_buffer(np.zeros((3, 4), np.uint8), version=1)
    assert meshopt.decode_buffer(zeros, count=3, stride=4, mode="ATTRIBUTES", filter="COLOR") == bytes(12)
    wild = np.random.default_rng(0).integers(0, 256, (500, 8), np.uint8)
    data = meshopt.encode_vertex_buffer(wild, version=1)
    assert len(meshopt.decode_buffer(data, count=500, stride=8, mode="ATTRIBUTES", filter="COLOR")) == 4000
    wide = meshopt.encode_vertex_buffer(np.zeros((3, 12), np.uint8))
    with pytest.raises(MeshoptError, match="COLOR filter needs"):
        meshopt.decode_buffer(wide, count=3, stride=12, mode="ATTRIBUTES", filter="COLOR")
