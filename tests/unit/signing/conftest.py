from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cloudbaker.canonical import canonical_json
from cloudbaker.compute.package import MANIFEST, build_manifest
from cloudbaker.compute.signing import dsse, keys, statement
from cloudbaker.model import AssetRef, Blob, Loss, Source

WHEN = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def signing_keys(tmp_path_factory: pytest.TempPathFactory) -> keys.Keys:
    return keys.generate(tmp_path_factory.mktemp("signing") / "keys")


@pytest.fixture(scope="session")
def manifest_args() -> dict[str, Any]:
    """Arguments of a small but complete manifest, as the stages hand them over (job rows, extra fields included)."""
    return {
        "asset": AssetRef.parse("acme/robots/helmet"),
        "recipe": "web",
        "recipe_hash": "a" * 64,
        "bake_key": "b" * 64,
        "files": {"model.glb": b"glTF" + b"\x02" * 60, "lod1.glb": b"glTF" + b"\x01" * 30},
        "variants": [
            {
                "name": name,
                "variant": variant,
                "triangles": 100,
                "vertices": 60,
                "bytes": 1,
                "compression": "draco",
                "error_mean_percent": 0.1234567,
                "error_max_percent": None,
                "suggested_distance": 2.5,
                "note": "not for the manifest",
            }
            for name, variant in (("model.glb", "default"), ("lod1.glb", "lod1"))
        ],
        "textures": [
            {
                "index": index,
                "file": f"image-{index}",
                "slots": ["normalTexture", "baseColorTexture"],
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
                "psnr_db": float("inf"),
                "device": "cpu",
                "reason": "",
            }
            for index in (1, 0)
        ],
        "losses": [Loss("extras", "/nodes/1", "dropped"), Loss("copyright", "/asset", "dropped")],
    }


@pytest.fixture(scope="session")
def bundle(manifest_args: dict[str, Any]) -> dict[str, bytes]:
    return {**manifest_args["files"], MANIFEST: build_manifest(**manifest_args)}


@pytest.fixture(scope="session")
def make_statement(manifest_args: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    def make(files: dict[str, bytes], **changes: Any) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "asset": manifest_args["asset"],
            "recipe": "web",
            "recipe_hash": "a" * 64,
            "bake_key": "b" * 64,
            "sources": [Source("helmet.gltf", "model/gltf+json", Blob("c" * 64, 5, "key"))],
            "tools": {"DracoPy": "2.2.0"},
            "isolation": "landlock+seccomp",
            "run_id": "run-1",
            "started_at": WHEN,
            "finished_at": WHEN,
        }
        return statement.build_statement(files=files, **{**arguments, **changes})

    return make


@pytest.fixture(scope="session")
def envelope(bundle: dict[str, bytes], signing_keys: keys.Keys, make_statement: Callable[..., dict[str, Any]]) -> str:
    payload = canonical_json(make_statement(bundle))
    return dsse.dumps(dsse.sign(payload, statement.PAYLOAD_TYPE, signing_keys))


@pytest.fixture
def package_folder(tmp_path: Path, bundle: dict[str, bytes], envelope: str) -> Path:
    folder = tmp_path / "package"
    folder.mkdir()
    for name, data in {**bundle, "provenance.dsse.json": envelope.encode()}.items():
        (folder / name).write_bytes(data)
    return folder
