"""``cloudbaker gltf VERB IN OUT``: what it writes, prints and refuses."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from cloudbaker.cli import main
from cloudbaker.compute.gltf import VERBS, Document
from cloudbaker.compute.npm import validator_js
from cloudbaker.errors import ToolMissing
from cloudbaker.testing import models

try:
    validator_js()
except ToolMissing as error:
    pytest.skip(str(error), allow_module_level=True)


@pytest.fixture
def cli(home, capsys, monkeypatch, tmp_path):
    """Calls ``cloudbaker gltf …`` in a folder with some models; what it prints, and with ``--json`` what that says."""
    monkeypatch.chdir(tmp_path)
    for name in ("textured", "draco", "skinned"):
        (tmp_path / f"{name}.glb").write_bytes(models.VALID[name]())

    def call(*arguments: str, code: int = 0) -> Any:
        monkeypatch.setattr(sys, "argv", ["cloudbaker", "gltf", *arguments])
        with pytest.raises(SystemExit) as ended:
            main(["gltf", *arguments])
        out, err = capsys.readouterr()
        assert ended.value.code == code, (out, err)
        return json.loads(out) if "--json" in arguments else out + err

    return call


def test_help_names_every_verb_and_its_options(cli):
    text = cli("--help")
    assert all(name.replace("_", "-") in text for name in VERBS)
    text = cli("simplify", "--help")
    assert "--ratio FLOAT" in text
    assert "Triangles wanted" in text


def test_a_verb_writes_a_file_and_says_what_changed(cli, tmp_path):
    text = cli("unlit", "textured.glb", "out.glb", "--names", "striped")
    assert "textured.glb → out.glb" in text
    assert "1 changed" in text
    assert "lost: value /materials/0/normalTexture" in text
    document = Document.from_glb((tmp_path / "out.glb").read_bytes())
    assert document.json["materials"][0]["extensions"] == {"KHR_materials_unlit": {}}
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == [
        "draco.glb",
        "out.glb",
        "skinned.glb",
        "textured.glb",
    ]


def test_json_is_one_document_with_counts_and_losses(cli, tmp_path):
    said = cli("simplify", "draco.glb", "out.glb", "--ratio", "0.25", "--json")
    assert said["verb"] == "simplify"
    assert said["verdict"] == "pass"
    assert said["output"] == "out.glb"
    assert said["after"]["triangles"] == said["result"]["after"] < said["before"]["triangles"] * 0.3
    assert said["after"]["bytes"] == (tmp_path / "out.glb").stat().st_size


def test_in_place_and_with_underscores(cli, tmp_path):
    before = (tmp_path / "skinned.glb").stat().st_size
    cli("quantize_animations", "skinned.glb", "skinned.glb")
    cli("compress-meshopt", "skinned.glb", "skinned.glb", "--position-bits", "12")
    assert (tmp_path / "skinned.glb").stat().st_size < before


def test_a_gltf_with_its_files_and_a_zip_of_them(cli, tmp_path):
    main_file = models.write_gltf_folder(models.textured(16), tmp_path / "model")
    archive = tmp_path / "model.zip"
    archive.write_bytes(models.zip_of(main_file.parent))
    for source in (str(main_file), str(archive)):
        said = cli("dedup", source, "out.glb", "--json")
        assert said["before"]["images"] == said["after"]["images"] == 3
        assert len(Document.from_glb((tmp_path / "out.glb").read_bytes()).json["buffers"]) == 1


def test_no_file_is_read_through_a_uri(cli, tmp_path):
    (tmp_path / "secret.bin").write_bytes(b"secret" * 10)
    document = {"asset": {"version": "2.0"}, "buffers": [{"uri": "../secret.bin", "byteLength": 60}]}
    folder = tmp_path / "inside"
    folder.mkdir()
    (folder / "model.gltf").write_text(json.dumps(document))
    text = cli("prune", "inside/model.gltf", "out.glb", code=3)
    assert "uri" in text
    assert not (tmp_path / "out.glb").exists()


def test_bad_content_writes_nothing(cli, tmp_path):
    (tmp_path / "bad.glb").write_bytes(models.box()[:-9])
    (tmp_path / "out.glb").write_bytes(b"mine")
    assert "glb.truncated" in cli("weld", "bad.glb", "out.glb", code=3)
    said = cli("weld", "bad.glb", "out.glb", "--json", code=3)
    assert said["verdict"] == "reject"
    assert said["output"] is None
    assert (tmp_path / "out.glb").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("weld", "nowhere.glb", "out.glb"), "nowhere.glb"),
        (("weld", "draco.glb", "nowhere/out.glb"), "can't write nowhere/out.glb"),
        (("quantize", "draco.glb", "out.glb", "--weight-bits", "9"), "weight_bits must be 8 or 16"),
        (("quantize", "draco.glb", "out.glb", "--weight-bits", "nine"), "not a valid integer"),
        (("nonsense", "draco.glb", "out.glb"), "No such command"),
        (("weld", "draco.glb", "out.glb", "--recipe", "godot-4"), "name one for the web"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(cli, tmp_path, arguments, message):
    assert message in cli(*arguments, code=2)
    assert not (tmp_path / "out.glb").exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
