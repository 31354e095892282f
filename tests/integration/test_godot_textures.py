"""Our own ASTC textures, as Godot 4 sees them."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from cloudbaker.compute.godot import godot4
from cloudbaker.compute.godot.adapter import PROJECT, EngineJob, config_text, run_engine
from cloudbaker.compute.godot.engines import find_engine
from cloudbaker.compute.godot.pck import write_pck
from cloudbaker.compute.textures.astc import AstcOptions, encode
from cloudbaker.compute.textures.ctex import ctex
from cloudbaker.errors import CloudBakerError
from cloudbaker.settings import settings

LOOK = """extends SceneTree

func _init():
	ProjectSettings.load_resource_pack("/scratch/mod.pck", false)
	var image: Image = load("res://mods/demo/hull.png").get_image()
	var answer = {"format": image.get_format(), "mipmaps": image.get_mipmap_count(), "pixels": []}
	answer["size"] = [image.get_width(), image.get_height()]
	image.clear_mipmaps()
	answer["decompressed"] = image.decompress()
	image.convert(Image.FORMAT_RGBA8)
	answer["data"] = Marshalls.raw_to_base64(image.get_data())
	var file = FileAccess.open("/scratch/home/answer.json", FileAccess.WRITE)
	file.store_string(JSON.stringify(answer))
	file.close()
	quit()
"""


def test_engine_loads_and_decodes_our_astc() -> None:
    import base64

    try:
        engine = find_engine("godot-4", settings())
    except CloudBakerError as error:
        pytest.skip(error.message)
    x, y = np.meshgrid(np.linspace(0, 255, 64), np.linspace(0, 255, 32))
    pixels = np.stack([x, y, 255 - x], -1).astype(np.uint8)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    done = encode(png.getvalue(), AstcOptions())
    pack = io.BytesIO()
    remap = {"importer": '"texture"', "type": '"CompressedTexture2D"', "path": '"res://mods/demo/.baked/hull.ctex"'}
    files = {
        "mods/demo/hull.png.import": config_text({"remap": remap}).encode(),
        "mods/demo/.baked/hull.ctex": ctex(done.width, done.height, done.levels),
    }
    write_pck(files, pack, format=engine.pack_format, engine=engine.number)
    contents = {
        "mod.pck": pack.getvalue(),
        f"{PROJECT}/project.godot": b"config_version=5\n",
        f"{PROJECT}/look.gd": LOOK.encode(),
    }
    outcome = run_engine(
        EngineJob(engine, contents, godot4.script_arguments("res://look.gd"), ("home/answer.json",))
    ).unwrap()
    assert "home/answer.json" in outcome.files, outcome.value["stderr"]
    answer = json.loads(outcome.files["home/answer.json"])
    assert (answer["format"], answer["size"], answer["mipmaps"]) == (35, [64, 32], 6)  # Image.FORMAT_ASTC_4x4
    assert answer["decompressed"] == 0
    seen = np.frombuffer(base64.b64decode(answer["data"]), np.uint8).reshape(32, 64, 4)[..., :3]
    assert np.abs(seen.astype(int) - pixels).mean() < 3
