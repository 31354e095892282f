from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cloudbaker.canonical import canonical_json
from cloudbaker.compute.package import ENVELOPE, build_manifest, check_file_name, write_zip
from cloudbaker.errors import UsageError


def test_the_manifest_is_canonical_and_complete(manifest_args: dict[str, Any]) -> None:
    data = build_manifest(**manifest_args)
    manifest = json.loads(data)
    assert canonical_json(manifest) == data
    assert manifest["schema"] == "cloudbaker/web-bundle/v1"
    assert manifest["asset"] == "acme/robots/helmet"
    assert manifest["recipe"] == {"name": "web", "sha256": "a" * 64}
    assert manifest["bake_key"] == "b" * 64
    assert [row["name"] for row in manifest["files"]] == ["lod1.glb", "model.glb"]
    assert manifest["files"][1] == {
        "name": "model.glb",
        "variant": "default",
        "media_type": "model/gltf-binary",
        "bytes": 64,
        "sha256": hashlib.sha256(manifest_args["files"]["model.glb"]).hexdigest(),
        "triangles": 100,
        "vertices": 60,
        "compression": "draco",
        "error_mean_percent": 0.1235,
        "error_max_percent": None,
        "suggested_distance": 2.5,
    }
    assert [row["index"] for row in manifest["textures"]] == [0, 1]
    assert manifest["textures"][0] == {
        "index": 0,
        "slots": ["baseColorTexture", "normalTexture"],
        "mime": "image/webp",
        "width": 8,
        "height": 8,
        "source_width": 16,
        "source_height": 16,
        "bytes": 10,
        "bytes_before": 90,
        "gpu_bytes": 340,
        "gpu_bytes_before": 1364,
        "levels": 1,
        "kept": False,
        "lossless": True,
        "psnr_db": None,
        "angle_degrees": None,
    }
    assert [row["kind"] for row in manifest["losses"]] == ["copyright", "extras"]


def test_order_device_and_last_bits_do_not_change_the_bytes(manifest_args: dict[str, Any]) -> None:
    other = {
        **manifest_args,
        "files": dict(reversed(manifest_args["files"].items())),
        "variants": [{**row, "error_mean_percent": 0.12345671} for row in reversed(manifest_args["variants"])],
        "textures": [{**row, "device": "cuda"} for row in reversed(manifest_args["textures"])],
        "losses": list(reversed(manifest_args["losses"])),
    }
    assert build_manifest(**other) == build_manifest(**manifest_args)


def test_files_and_variants_must_match(manifest_args: dict[str, Any]) -> None:
    first, second = manifest_args["variants"]
    for variants in ([], [first], [first, first], [first, second, {**second, "name": "lod2.glb"}]):
        with pytest.raises(ValueError, match="don't match"):
            build_manifest(**{**manifest_args, "variants": variants})
    with pytest.raises(ValueError, match="same variant"):
        build_manifest(**{**manifest_args, "variants": [first, {**second, "variant": "default"}]})


@pytest.mark.parametrize(
    "name", ["", ".glb", "../a.glb", "a/b.glb", "A.glb", "a..glb", "a b.glb", "manifest.json", ENVELOPE, "ä.glb"]
)
def test_names_that_cannot_stand_in_a_bundle(name: str) -> None:
    with pytest.raises(ValueError, match="can't be the name"):
        check_file_name(name)


def test_a_file_of_no_known_type_is_refused() -> None:
    with pytest.raises(UsageError, match="no media type"):
        check_file_name("model.exe")


def test_a_zip_depends_on_nothing_but_its_files(tmp_path: Path, bundle: dict[str, bytes], envelope: str) -> None:
    first, second = io.BytesIO(), io.BytesIO()
    write_zip(bundle, envelope, first)
    paths = {name: tmp_path / name for name in reversed(bundle)}
    for name, path in paths.items():
        path.write_bytes(bundle[name])
    write_zip(paths, envelope, second)
    assert first.getvalue() == second.getvalue()
    with zipfile.ZipFile(first) as archive:
        assert archive.namelist() == sorted([*bundle, ENVELOPE])
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in bundle} == bundle
