"""The verbs by name: on documents and on pygltflib models, with what is packed, unused or unknown."""

from __future__ import annotations

import importlib
import subprocess
import sys

import numpy as np
import pygltflib
import pytest

import cloudbaker.compute.gltf as package
from cloudbaker.compute.gltf import VERBS, Document, DocumentError, compare, from_pygltflib, to_pygltflib, verbs
from cloudbaker.compute.gltf.dedup import DedupOptions
from cloudbaker.compute.gltf.prune import reserve
from cloudbaker.compute.gltf.simplify import SimplifyOptions
from cloudbaker.errors import UsageError
from cloudbaker.testing import models, wasteful

MODELS = {
    "textured": models.textured(16),
    **{n: models.VALID[n]() for n in ("skinned", "morphed", "draco", "meshopt", "variants", "unknown_extension")},
}


def loaded(name: str) -> pygltflib.GLTF2:
    return pygltflib.GLTF2.load_from_bytes(MODELS.get(name) or models.VALID[name]())


def saved(gltf: pygltflib.GLTF2) -> bytes:
    return b"".join(bytes(part) for part in gltf.save_to_bytes())


def test_a_name_is_the_verb_whatever_was_imported_before():
    code = (
        "import importlib, types\n"
        "from cloudbaker.compute.gltf import VERBS\n"
        "import sys; assert 'numpy' not in sys.modules\n"
        "for name in VERBS: importlib.import_module(f'cloudbaker.compute.gltf.{name}')\n"
        "import cloudbaker.compute.gltf as package\n"
        "assert not [n for n in VERBS if isinstance(getattr(package, n), types.ModuleType)]\n"
        "from cloudbaker.compute.gltf.dedup import usage\n"
        "from cloudbaker.compute.gltf import optimize\n"
        "assert isinstance(optimize, types.ModuleType)\n"
        "print('fine')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "fine\n", done.stderr


def test_every_verb_is_a_file_with_a_docstring_and_options_that_explain_themselves():
    for name, line in VERBS.items():
        module = importlib.import_module(f"cloudbaker.compute.gltf.{name}")
        assert module.__doc__
        assert getattr(package, name).__doc__
        assert line.summary.endswith(".")
        for option in verbs.options_of(name):
            assert option.kind in (bool, int, float, str)
            assert option.default is not ...
    assert set(VERBS) <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        package.nonsense  # noqa: B018


@pytest.mark.parametrize("name", sorted(VERBS))
def test_each_verb_makes_a_sound_file_of_each_model(name, khronos):
    outputs = []
    for model, data in MODELS.items():
        source = Document.from_glb(data)
        document = source.clone()
        getattr(package, name)(document)
        outputs.append(document.to_glb())
        output = Document.from_glb(outputs[-1])
        for index in range(len(output.items("accessors"))):
            assert np.isfinite(output.accessor(index)).all()
        lost = [loss for loss in compare(source, output) if loss.kind in ("copyright", "extras", "camera", "skin")]
        assert not lost, model
        assert not verbs.unused(output)["bufferViews"] or reserve(source).pinned, model
    assert khronos(outputs) == []


@pytest.mark.parametrize("name", sorted(set(VERBS) - {"compress_meshopt"}))
def test_each_verb_takes_a_pygltflib_model_and_changes_it_in_place(name):
    for model in ("textured", "draco", "meshopt"):
        check_pygltflib(name, loaded(model))


def check_pygltflib(name: str, gltf: pygltflib.GLTF2) -> None:
    expected = from_pygltflib(gltf)
    package.decompress(expected)
    returned = getattr(package, name)(expected)
    result = getattr(package, name)(gltf)
    assert isinstance(gltf, pygltflib.GLTF2)
    assert isinstance(result, type(returned))
    # What pygltflib writes to a file is what the verb makes of a document.
    document = Document.from_glb(saved(gltf))
    package.decompress(document)
    package.decompress(expected)
    first, second = (d.json["meshes"][0]["primitives"][0]["attributes"]["POSITION"] for d in (document, expected))
    assert np.allclose(document.accessor(first), expected.accessor(second))


def test_where_a_pygltflib_model_came_from_stays():
    gltf = loaded("textured")
    gltf._path, gltf._name = "folder", "model.glb"
    package.unlit(gltf)
    assert (gltf._path, gltf._name) == ("folder", "model.glb")
    assert gltf.materials[0].extensions == {"KHR_materials_unlit": {}}


def test_what_pygltflib_would_write_wrong_is_refused_and_nothing_is_changed():
    gltf = loaded("skinned")
    before = saved(gltf)
    with pytest.raises(ValueError, match="wrong offsets"):
        package.compress_meshopt(gltf)
    assert saved(gltf) == before


def test_a_model_with_draco_in_it_can_be_read_back_from_pygltflib():
    gltf = loaded("textured")
    package.compress_draco(gltf)
    assert gltf.extensionsRequired == ["KHR_draco_mesh_compression"] or gltf.extensionsRequired == []
    sphere = loaded("sphere")
    assert package.compress_draco(sphere).done == 1
    plain, _ = to_pygltflib(from_pygltflib(sphere))
    assert plain.extensionsUsed == []


def test_what_is_packed_is_unpacked_before_geometry_is_worked_on():
    document = Document.from_glb(models.draco())
    triangles = document.items("accessors")[document.json["meshes"][0]["primitives"][0]["indices"]]["count"] // 3
    assert package.simplify(document).before == triangles
    assert "KHR_draco_mesh_compression" not in document.json.get("extensionsUsed", ())


def test_what_nobody_used_before_stays_until_prune():
    document = Document.from_glb(models.textured(16))
    view = document.add_view(b"kept")
    document.json["materials"].append({"name": "spare"})
    document.json["accessors"].append({"componentType": 5121, "count": 4, "type": "SCALAR", "bufferView": view})
    package.unlit(document)
    package.weld(document)
    assert [material["name"] for material in document.json["materials"]] == ["striped", "spare"]
    assert any(bytes(document.view(i)) == b"kept" for i in range(len(document.json["bufferViews"])))
    package.prune(document)
    assert [material["name"] for material in document.json["materials"]] == ["striped"]
    assert not any(bytes(document.view(i)) == b"kept" for i in range(len(document.json["bufferViews"])))


def test_options_are_the_first_argument_after_the_model():
    document = Document.from_glb(wasteful.copies())
    package.dedup(document, DedupOptions(names=False, pixels=True))
    assert len(document.json["materials"]) == 1
    assert package.simplify(document, SimplifyOptions(ratio=1.0)).before == 12
    with pytest.raises(TypeError, match="dedup takes 1 arguments beside the model, not 2"):
        package.dedup(document, DedupOptions(), 5)


def test_settings_by_name():
    document = Document.from_glb(models.sphere())
    done = verbs.call("simplify", document, {"ratio": 0.25})
    assert done.after <= done.before * 0.3
    verbs.call("unlit", document, {"names": ["nobody"]})
    assert "extensionsUsed" not in document.json
    with pytest.raises(UsageError, match="simplify has no option shape: it has ratio, max_error_percent"):
        verbs.call("simplify", document, {"shape": 1})
    with pytest.raises(UsageError, match="weight_bits must be 8 or 16"):
        verbs.arguments("quantize", {"weight_bits": 9})


def test_options_are_read_off_the_verb():
    options = {option.name: option for option in verbs.options_of("unlit")}
    assert options["names"].repeated
    assert options["color"].choices == ("base", "emissive")
    assert options["keep_normals"].kind is bool
    assert options["color"].help.startswith("What becomes the colour")
    assert [option.name for option in verbs.options_of("dedup")] == ["names", "pixels"]


def test_a_document_that_contradicts_itself_is_a_typed_error():
    document = Document.from_glb(models.sphere())
    document.json["accessors"][0]["bufferView"] = 99
    with pytest.raises(DocumentError, match="/bufferViews/99"):
        package.weld(document)
