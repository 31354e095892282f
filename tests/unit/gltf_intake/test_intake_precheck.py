"""Every way in which a GLB can be wrong that our own pre-check names, one change of a sound model each."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from cloudbaker.compute.gltf.findings import PER_CODE, RULES
from cloudbaker.compute.gltf.limits import ContentLimits
from cloudbaker.compute.gltf.precheck import precheck
from cloudbaker.model import Severity
from cloudbaker.testing import models

Edit = Callable[[str, Callable[[dict[str, Any], bytearray], Any]], bytes]
Document = dict[str, Any]


def put(binary: bytearray, at: int, form: str, *values: float) -> None:
    struct.pack_into(form, binary, at, *values)


def start(d: Document, accessor: int) -> int:
    found = d["accessors"][accessor]
    return int(d["bufferViews"][found["bufferView"]].get("byteOffset", 0) + found.get("byteOffset", 0))


def append(d: Document, b: bytearray, data: bytes, **view: Any) -> int:
    b.extend(b"\0" * (-len(b) % 4))
    d["bufferViews"].append({"buffer": 0, "byteOffset": len(b), "byteLength": len(data), **view})
    b.extend(data)
    return len(d["bufferViews"]) - 1


def primitive(d: Document) -> Document:
    found: Document = d["meshes"][0]["primitives"][0]
    return found


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBB3x", 13, b"IHDR", width, height, 8, 2) + bytes(8)


def image(d: Document, b: bytearray, data: bytes, mime: str = "image/png", **more: Any) -> None:
    d.setdefault("images", []).append({"bufferView": append(d, b, data), "mimeType": mime, **more})


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def extend_with_zeros(d: Document, count: int) -> None:
    d["accessors"].append({"componentType": 5126, "type": "VEC3", "count": count})


def skin_joint(d: Document, b: bytearray) -> None:
    put(b, start(d, primitive(d)["attributes"]["JOINTS_0"]) + 8, "<B", 200)


def sparse_of(d: Document) -> Document:
    found: Document = next(a["sparse"] for a in d["accessors"] if "sparse" in a)
    return found


def sparse_index(d: Document, b: bytearray, *indices: int) -> None:
    view = d["bufferViews"][sparse_of(d)["indices"]["bufferView"]]
    put(b, view["byteOffset"], f"<{len(indices)}H", *indices)


def sampler(d: Document, at: int = 0) -> Document:
    found: Document = d["animations"][0]["samplers"][at]
    return found


def channel(d: Document) -> Document:
    found: Document = d["animations"][0]["channels"][0]
    return found


def meshopt(d: Document, view: int = 0) -> Document:
    found: Document = d["bufferViews"][view]["extensions"]["EXT_meshopt_compression"]
    return found


# (code, place, model, change)
CASES: list[tuple[str, str, str, Callable[[Document, bytearray], Any]]] = [
    ("gltf.json-too-deep", "", "box", lambda d, b: d.update(extras=nested(80))),
    ("gltf.version", "/asset", "box", lambda d, b: d["asset"].update(version="1.0")),
    ("gltf.version", "/asset", "box", lambda d, b: d["asset"].update(minVersion="2.1")),
    # shape
    ("gltf.schema", "/nodes", "box", lambda d, b: d.update(nodes={})),
    ("gltf.schema", "/nodes/0", "box", lambda d, b: d.update(nodes=[7])),
    ("gltf.schema", "", "box", lambda d, b: d.pop("asset")),
    ("gltf.schema", "/asset", "box", lambda d, b: d["asset"].pop("version")),
    ("gltf.schema", "/extensionsUsed/0", "box", lambda d, b: d.update(extensionsUsed=[1])),
    ("gltf.schema", "/nodes/0/name", "box", lambda d, b: d["nodes"][0].update(name=["x"])),
    ("gltf.schema", "/nodes/0/mesh", "box", lambda d, b: d["nodes"][0].update(mesh=True)),
    ("gltf.schema", "/nodes/0/mesh", "box", lambda d, b: d["nodes"][0].update(mesh=0.5)),
    ("gltf.schema", "/nodes/0/matrix", "box", lambda d, b: d["nodes"][0].update(matrix=[1] * 15)),
    ("gltf.schema", "/nodes/0/scale", "box", lambda d, b: d["nodes"][0].update(scale=[1, 1, 10**400])),
    ("gltf.schema", "/nodes/0/extensions/X", "box", lambda d, b: d["nodes"][0].update(extensions={"X": 5})),
    ("gltf.schema", "/accessors/0/type", "box", lambda d, b: d["accessors"][0].update(type="VEC5")),
    ("gltf.schema", "/accessors/0/componentType", "box", lambda d, b: d["accessors"][0].update(componentType=5124)),
    ("gltf.schema", "/accessors/0/count", "box", lambda d, b: d["accessors"][0].update(count=0)),
    ("gltf.schema", "/accessors/0/count", "box", lambda d, b: d["accessors"][0].update(count=-1)),
    ("gltf.schema", "/accessors/0/count", "box", lambda d, b: d["accessors"][0].update(count=1 << 60)),
    ("gltf.schema", "/accessors/0/byteOffset", "box", lambda d, b: d["accessors"][0].update(byteOffset=-4)),
    ("gltf.schema", "/bufferViews/0/byteStride", "box", lambda d, b: d["bufferViews"][0].update(byteStride=0)),
    ("gltf.schema", "/meshes/0/primitives", "box", lambda d, b: d["meshes"][0].update(primitives=[])),
    ("gltf.schema", "/meshes/0/primitives/0/mode", "box", lambda d, b: primitive(d).update(mode=7)),
    ("gltf.schema", "/meshes/0/primitives/0/attributes", "box", lambda d, b: primitive(d).update(attributes={})),
    ("gltf.schema", "/animations/0/channels/0/target", "animated", lambda d, b: channel(d).update(target={})),
    (
        "gltf.schema",
        "/meshes/0/primitives/0/extensions/KHR_materials_variants/mappings/0",
        "variants",
        lambda d, b: primitive(d)["extensions"]["KHR_materials_variants"].update(mappings=[3]),
    ),
    # references
    ("gltf.reference", "/scene", "box", lambda d, b: d.update(scene=1)),
    ("gltf.reference", "/scenes/0/nodes/0", "box", lambda d, b: d["scenes"][0].update(nodes=[5])),
    ("gltf.reference", "/nodes/0/mesh", "box", lambda d, b: d["nodes"][0].update(mesh=-1)),
    ("gltf.reference", "/nodes/0/skin", "box", lambda d, b: d["nodes"][0].update(skin=0)),
    ("gltf.reference", "/nodes/0/camera", "box", lambda d, b: d["nodes"][0].update(camera=0)),
    ("gltf.reference", "/nodes/0/children/0", "box", lambda d, b: d["nodes"][0].update(children=[9])),
    ("gltf.reference", "/accessors/0/bufferView", "box", lambda d, b: d["accessors"][0].update(bufferView=99)),
    ("gltf.reference", "/bufferViews/0/buffer", "box", lambda d, b: d["bufferViews"][0].update(buffer=1)),
    ("gltf.reference", "/meshes/0/primitives/0/indices", "box", lambda d, b: primitive(d).update(indices=10**30)),
    ("gltf.reference", "/meshes/0/primitives/0/material", "box", lambda d, b: primitive(d).update(material=4)),
    (
        "gltf.reference",
        "/meshes/0/primitives/0/attributes/POSITION",
        "box",
        lambda d, b: primitive(d)["attributes"].update(POSITION=44),
    ),
    (
        "gltf.reference",
        "/materials/0/normalTexture/index",
        "textured",
        lambda d, b: d["materials"][0]["normalTexture"].update(index=3),
    ),
    (
        "gltf.reference",
        "/materials/0/extensions/KHR_materials_clearcoat/clearcoatTexture/index",
        "textured",
        lambda d, b: d["materials"][0].update(
            extensions={"KHR_materials_clearcoat": {"clearcoatTexture": {"index": 8}}}
        ),
    ),
    ("gltf.reference", "/textures/0/source", "textured", lambda d, b: d["textures"][0].update(source=3)),
    (
        "gltf.reference",
        "/textures/0/extensions/EXT_texture_webp/source",
        "textured",
        lambda d, b: d["textures"][0].update(extensions={"EXT_texture_webp": {"source": 77}}),
    ),
    (
        "gltf.reference",
        "/nodes/0/extensions/KHR_lights_punctual/light",
        "box",
        lambda d, b: d["nodes"][0].update(extensions={"KHR_lights_punctual": {"light": 0}}),
    ),
    (
        "gltf.reference",
        "/meshes/0/primitives/0/extensions/KHR_materials_variants/mappings/0/variants/0",
        "variants",
        lambda d, b: primitive(d)["extensions"]["KHR_materials_variants"]["mappings"][0].update(variants=[50]),
    ),
    (
        "gltf.reference",
        "/meshes/0/primitives/0/extensions/KHR_draco_mesh_compression/bufferView",
        "draco",
        lambda d, b: primitive(d)["extensions"]["KHR_draco_mesh_compression"].update(bufferView=2),
    ),
    ("gltf.reference", "/animations/0/channels/0/sampler", "animated", lambda d, b: channel(d).update(sampler=9)),
    (
        "gltf.reference",
        "/animations/0/channels/0/target/node",
        "animated",
        lambda d, b: channel(d)["target"].update(node=99),
    ),
    ("gltf.reference", "/skins/0/joints/0", "skinned", lambda d, b: d["skins"][0]["joints"].insert(0, 31)),
    # counts, extensions
    ("gltf.too-many", "/nodes", "box", lambda d, b: d["nodes"].extend([{}] * 100_001)),
    ("gltf.too-many", "/images", "box", lambda d, b: d.update(images=[{}] * 5_000)),
    ("gltf.too-many", "/meshes", "box", lambda d, b: d["meshes"][0]["primitives"].extend([primitive(d)] * 100_001)),
    (
        "gltf.unsupported-extension",
        "/extensionsRequired/0",
        "box",
        lambda d, b: d.update(extensionsUsed=["ACME_magic"], extensionsRequired=["ACME_magic"]),
    ),
    (
        "gltf.undeclared-extension",
        "/extensionsRequired/0",
        "box",
        lambda d, b: d.update(extensionsRequired=["KHR_texture_transform"]),
    ),
    # nodes
    ("gltf.node-cycle", "/nodes/0", "box", lambda d, b: d["nodes"][0].update(children=[0])),
    (
        "gltf.node-cycle",
        "/nodes/2",
        "box",
        lambda d, b: d["nodes"].extend([{}, {"children": [3]}, {"children": [4]}, {"children": [2]}]),
    ),
    (
        "gltf.node-parents",
        "/nodes/2/children/0",
        "box",
        lambda d, b: d["nodes"].extend([{"children": [3]}, {"children": [3]}, {}]),
    ),
    (
        "gltf.node-too-deep",
        "/nodes/600",
        "box",
        lambda d, b: d["nodes"].extend([{"children": [i + 2]} for i in range(599)] + [{}]),
    ),
    ("gltf.scene-root", "/scenes/0/nodes/1", "box", lambda d, b: d["scenes"][0].update(nodes=[0, 0])),
    (
        "gltf.scene-root",
        "/scenes/0/nodes/0",
        "box",
        lambda d, b: d["nodes"].append({"children": [0]}),
    ),
    (
        "gltf.node-conflict",
        "/nodes/0",
        "box",
        lambda d, b: d["nodes"][0].update(matrix=[1.0] * 16, scale=[1, 1, 1]),
    ),
    ("gltf.node-conflict", "/nodes/2", "skinned", lambda d, b: d["nodes"][2].pop("mesh")),
    ("gltf.node-conflict", "/skins/0/joints", "skinned", lambda d, b: d["skins"][0]["joints"].append(0)),
    # buffers, views, accessors
    ("gltf.uri-in-glb", "/buffers/0/uri", "box", lambda d, b: d["buffers"][0].update(uri="../../../etc/passwd")),
    (
        "gltf.uri-in-glb",
        "/images/0/uri",
        "box",
        lambda d, b: d.update(images=[{"uri": "http://169.254.169.254/latest/meta-data"}]),
    ),
    ("gltf.buffer-too-short", "/buffers/0", "box", lambda d, b: d["buffers"][0].update(byteLength=1 << 40)),
    ("gltf.buffer-too-short", "/buffers/1", "box", lambda d, b: d["buffers"].append({"byteLength": 4})),
    ("gltf.view-range", "/bufferViews/2", "box", lambda d, b: d["bufferViews"][2].update(byteLength=10**6)),
    ("gltf.view-range", "/bufferViews/0", "box", lambda d, b: d["bufferViews"][0].update(byteOffset=1 << 50)),
    ("gltf.view-stride", "/bufferViews/0/byteStride", "box", lambda d, b: d["bufferViews"][0].update(byteStride=14)),
    ("gltf.view-stride", "/bufferViews/0", "box", lambda d, b: d["bufferViews"][0].update(byteStride=8)),
    (
        "gltf.view-stride",
        "/meshes/0/primitives/0/indices",
        "box",
        lambda d, b: (d["bufferViews"][2].update(byteStride=4), d["accessors"][2].update(count=12)),
    ),
    ("gltf.accessor-range", "/accessors/0", "box", lambda d, b: d["accessors"][0].update(count=25)),
    ("gltf.accessor-range", "/accessors/0", "interleaved", lambda d, b: d["accessors"][0].update(count=326)),
    ("gltf.accessor-range", "/accessors/0", "box", lambda d, b: d["accessors"][0].update(byteOffset=12)),
    ("gltf.accessor-alignment", "/accessors/2", "box", lambda d, b: d["accessors"][2].update(byteOffset=1, count=3)),
    (
        "gltf.accessor-alignment",
        "/accessors/0",
        "box",
        lambda d, b: d["bufferViews"][0].update(byteOffset=2),
    ),
    ("gltf.accessor-kind", "/accessors/0/min", "box", lambda d, b: d["accessors"][0].update(min=[0])),
    ("gltf.accessor-kind", "/accessors/0/normalized", "box", lambda d, b: d["accessors"][0].update(normalized=True)),
    (
        "gltf.accessor-kind",
        "/meshes/0/primitives/0/attributes/POSITION",
        "box",
        lambda d, b: d["accessors"][0].update(type="VEC2", min=[0, 0], max=[0, 0]),
    ),
    (
        "gltf.accessor-kind",
        "/meshes/0/primitives/0/attributes/POSITION",
        "quantized",
        lambda d, b: (d.update(extensionsUsed=[]), d.pop("extensionsRequired", None)),
    ),
    (
        "gltf.accessor-kind",
        "/meshes/0/primitives/0/indices",
        "box",
        lambda d, b: primitive(d).update(indices=0),
    ),
    (
        "gltf.accessor-kind",
        "/skins/0/inverseBindMatrices",
        "skinned",
        lambda d, b: d["skins"][0].update(inverseBindMatrices=0),
    ),
    ("gltf.accessor-kind", "/animations/0/samplers/0/input", "animated", lambda d, b: sampler(d).update(input=0)),
    (
        "gltf.accessor-kind",
        "/animations/0/channels/0/sampler",
        "animated",
        lambda d, b: sampler(d, channel(d)["sampler"]).update(output=sampler(d)["input"]),
    ),
    (
        "gltf.accessor-count",
        "/animations/0/channels/0/sampler",
        "animated",
        lambda d, b: d["accessors"][sampler(d, channel(d)["sampler"])["output"]].update(count=5),
    ),
    (
        "gltf.accessor-count",
        "/meshes/0/primitives/0/attributes",
        "box",
        lambda d, b: d["accessors"][1].update(count=23),
    ),
    (
        "gltf.accessor-count",
        "/meshes/0/primitives/0/attributes",
        "morphed",
        lambda d, b: d["accessors"][primitive(d)["targets"][0]["POSITION"]].update(count=3),
    ),
    (
        "gltf.accessor-count",
        "/skins/0/inverseBindMatrices",
        "skinned",
        lambda d, b: d["accessors"][d["skins"][0]["inverseBindMatrices"]].update(count=1),
    ),
    (
        "gltf.accessor-count",
        "/nodes/0/extensions/EXT_mesh_gpu_instancing",
        "box",
        lambda d, b: d["nodes"][0].update(
            extensions={"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": 0, "_ID": 2}}}
        ),
    ),
    (
        "gltf.animation-invalid",
        "/animations/0/channels/0/target",
        "animated",
        lambda d, b: channel(d)["target"].update(path="pointer"),
    ),
    (
        "gltf.animation-invalid",
        "/animations/0/samplers/0/input",
        "animated",
        lambda d, b: (
            sampler(d).update(interpolation="CUBICSPLINE"),
            d["accessors"][sampler(d)["input"]].update(count=1),
        ),
    ),
    ("gltf.expands-too-far", "/accessors", "box", lambda d, b: extend_with_zeros(d, (1 << 32) - 1)),
    (
        "gltf.expands-too-far",
        "/accessors",
        "box",
        lambda d, b: [extend_with_zeros(d, 1 << 20) for _ in range(100)],
    ),
    (
        "gltf.overlapping-data",
        "/accessors",
        "grid",
        lambda d, b: d["accessors"].extend([d["accessors"][0]] * 20_000),
    ),
    ("gltf.sparse-invalid", "/accessors/0/sparse/indices", "sparse", lambda d, b: sparse_index(d, b, 5, 5)),
    ("gltf.sparse-invalid", "/accessors/0/sparse/indices", "sparse", lambda d, b: sparse_index(d, b, 9, 8)),
    (
        "gltf.sparse-invalid",
        "/accessors/0/sparse/indices",
        "sparse",
        lambda d, b: sparse_index(d, b, 1, 2, 3, 81),
    ),
    ("gltf.sparse-invalid", "/accessors/0/sparse/count", "sparse", lambda d, b: sparse_of(d).update(count=82)),
    ("gltf.accessor-range", "/accessors/0/sparse/values", "sparse", lambda d, b: sparse_of(d).update(count=5)),
    # values
    ("gltf.not-finite", "/accessors/0", "box", lambda d, b: put(b, start(d, 0) + 24, "<f", float("nan"))),
    ("gltf.not-finite", "/accessors/1", "interleaved", lambda d, b: put(b, start(d, 1) + 64, "<f", float("-inf"))),
    (
        "gltf.not-finite",
        "/accessors/0",
        "sparse",
        lambda d, b: put(b, d["bufferViews"][sparse_of(d)["values"]["bufferView"]]["byteOffset"], "<f", float("nan")),
    ),
    (
        "gltf.index-out-of-range",
        "/meshes/0/primitives/0/indices",
        "box",
        lambda d, b: put(b, start(d, 2) + 70, "<H", 24),
    ),
    ("gltf.joint-out-of-range", "/meshes/0/primitives/0/attributes/JOINTS_0", "skinned", skin_joint),
    (
        "gltf.too-many-triangles",
        "/meshes",
        "box",
        lambda d, b: (
            d["nodes"].extend([{"mesh": 0}] * 90_000),
            d["accessors"][2].pop("bufferView"),
            d["accessors"][2].update(count=30_000),
        ),
    ),
    # images
    ("image.too-large", "/images/0", "box", lambda d, b: image(d, b, png(65_535, 65_535))),
    ("image.too-large", "/images", "box", lambda d, b: [image(d, b, png(8192, 8192)) for _ in range(17)]),
    ("image.mime-mismatch", "/images/0", "box", lambda d, b: image(d, b, png(4, 4), "image/jpeg")),
    ("image.invalid", "/images/0", "box", lambda d, b: image(d, b, b"GIF89a" + bytes(20))),
    ("image.invalid", "/images/0", "box", lambda d, b: image(d, b, png(0, 4))),
    ("image.invalid", "/images/0", "box", lambda d, b: image(d, b, png(4, 4)[:20])),
    ("image.invalid", "/images/0", "box", lambda d, b: d.update(images=[{"name": "nothing"}])),
    (
        "image.unsupported",
        "/images/0",
        "box",
        lambda d, b: image(d, b, b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(10), "image/webp"),
    ),
    # compressed
    (
        "draco.mismatch",
        "/meshes/0/primitives/0",
        "draco",
        lambda d, b: primitive(d)["extensions"]["KHR_draco_mesh_compression"]["attributes"].update(COLOR_0=3),
    ),
    ("draco.mismatch", "/meshes/0/primitives/0", "draco", lambda d, b: primitive(d).update(mode=1)),
    (
        "meshopt.invalid",
        "/bufferViews/0/extensions/EXT_meshopt_compression",
        "meshopt",
        lambda d, b: meshopt(d).update(count=562),
    ),
    (
        "meshopt.invalid",
        "/bufferViews/0/extensions/EXT_meshopt_compression",
        "meshopt",
        lambda d, b: meshopt(d).update(filter="QUATERNION"),
    ),
    (
        "meshopt.invalid",
        "/bufferViews/1/extensions/EXT_meshopt_compression",
        "meshopt",
        lambda d, b: meshopt(d, 1).update(filter="EXPONENTIAL"),
    ),
    (
        "meshopt.invalid",
        "/bufferViews/0/extensions/EXT_meshopt_compression",
        "meshopt",
        lambda d, b: meshopt(d).update(buffer=1),
    ),
    ("meshopt.invalid", "/bufferViews/0", "meshopt", lambda d, b: d["bufferViews"][0].pop("extensions")),
]


@pytest.mark.parametrize(("code", "place", "model", "change"), CASES, ids=[f"{c[0]}:{c[1]}" for c in CASES])
def test_each_fault_has_its_finding(
    edit: Edit, code: str, place: str, model: str, change: Callable[[Document, bytearray], Any]
) -> None:
    checked = precheck(edit(model, change))
    assert checked.document is None
    found = [f for f in checked.findings if f.code == code and f.place == place]
    assert found, [(f.code, f.place, f.message) for f in checked.findings]
    assert found[0].severity is Severity.ERROR
    assert found[0].message
    assert found[0].remedy


@pytest.mark.parametrize("model", sorted(models.VALID))
def test_sound_models_pass_without_a_word(model: str) -> None:
    checked = precheck(models.VALID[model]())
    assert list(checked.findings) == []
    assert checked.document is not None


def test_a_sound_model_survives_a_change_that_is_allowed(edit: Edit) -> None:
    def change(d: Document, b: bytearray) -> None:
        d["extras"] = [nested(40)] * 1_000 + [0] * 200_000
        d["nodes"][0]["extensions"] = {"ACME_unknown": {"anything": [1, {"x": None}]}}
        d["extensionsUsed"] = ["ACME_unknown"]
        d["accessors"].append({"componentType": 5121, "type": "MAT3", "count": 3})

    assert not list(precheck(edit("box", change)).findings)


def test_all_bad_things_of_a_step_are_named_and_many_of_a_kind_are_counted(edit: Edit) -> None:
    def change(d: Document, b: bytearray) -> None:
        d["nodes"] += [{"mesh": 7}] * 5_000
        d["nodes"][0]["name"] = 1

    findings = list(precheck(edit("box", change)).findings)
    assert sum(f.code == "gltf.reference" for f in findings) == PER_CODE + 1
    assert findings[-1].message == "… and 4,900 more of this kind"
    assert any(f.code == "gltf.schema" for f in findings)


def test_the_recipes_limits_count(edit: Edit) -> None:
    limits = ContentLimits.of({"limits": {"triangles": 11, "wall_seconds": 300}})
    assert next(iter(precheck(models.box(), limits).findings)).code == "gltf.too-many-triangles"
    limits = ContentLimits.of({"limits": {"image_pixels": 1000}})
    codes = {f.code for f in precheck(models.VALID["textured"](), limits).findings}
    assert codes == {"image.too-large"}


def test_instances_count_as_drawn(edit: Edit) -> None:
    def change(d: Document, b: bytearray) -> None:
        d["accessors"].append({"componentType": 5126, "type": "VEC3", "count": 3_000_000})
        d["nodes"][0]["extensions"] = {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": 3}}}
        d["extensionsUsed"] = ["EXT_mesh_gpu_instancing"]

    findings = list(precheck(edit("box", change)).findings)
    assert [f.code for f in findings] == ["gltf.too-many-triangles"]
    assert "36,000,000" in findings[0].message


def test_a_finding_can_be_written_down_whatever_the_file_says(edit: Edit) -> None:
    hostile = "\x1b[2J\u202e<script>" * 1000

    def change(d: Document, b: bytearray) -> None:
        d["nodes"][0]["mesh"] = hostile
        d["nodes"][0]["extensions"] = {hostile: 0}
        d["nodes"].append({hostile: 0, "children": [hostile]})

    for finding in precheck(edit("box", change)).findings:
        assert (finding.place + finding.message).isprintable()
        assert len(finding.place + finding.message) < 1000


def test_every_code_of_the_pre_check_has_a_case_here_or_is_named_elsewhere() -> None:
    elsewhere = {  # test_intake_json, test_intake_glb, test_intake_payloads, test_intake_khronos, test_intake_sources
        *(code for code in RULES if code.startswith(("intake.", "glb.", "gltf.json-", "gltf.uri-", "khronos."))),
        *("image.ktx2-invalid", "image.ktx2-odd"),  # test_intake_ktx2
        *("mesh.repaired", "mesh.not-repaired"),  # of repair, where a recipe asks for it
        *("draco.corrupt", "meshopt.corrupt"),
    }
    assert {case[0] for case in CASES} | elsewhere == set(RULES)
