"""A mod as modders hand it in, made by code: it bakes in Godot 3.2, 3.6 and 4 from the same sources."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cloudbaker.testing import models


def picture(size: int = 64, *, seed: int = 0, damaged: bool = False) -> bytes:
    """A PNG of a soft gradient with an alpha edge, as icons have; `damaged` where only a decoder sees it."""
    x, y = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size))
    round_ = ((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.23) * 255
    pixels = np.stack([x * 255, y * 255, (x + y + seed) * 97 % 255, round_], -1).astype(np.uint8)
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
    rows = rows[:40] + bytes(len(rows) - 40) if damaged else rows

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">2I5B", size, size, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def sound(seconds: float = 1.0, *, rate: int = 44100, channels: int = 1, loop: tuple[int, int] | None = None) -> bytes:
    """A WAV (PCM, 16 bit) of a decaying tone; `loop` is the first and last frame of a ``smpl`` chunk's loop."""
    time = np.arange(round(seconds * rate)) / rate
    wave = 0.5 * np.sin(2 * np.pi * 330 * time) * np.exp(-time) + 0.1 * np.sin(2 * np.pi * 1234 * time)
    data = np.repeat((wave * 32767).astype("<i2")[:, None], channels, 1).tobytes()
    chunks = b"fmt " + struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * channels * 2, channels * 2, 16)
    chunks += b"data" + struct.pack("<I", len(data)) + data
    if loop is not None:
        chunks += b"smpl" + struct.pack("<I9I6I", 60, *(0,) * 7, 1, 0, 0, 0, loop[0], loop[1], 0, 0)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def manifest(mod: str = "demo", *, name: str = "Demo", entry: str = "room.tscn") -> bytes:
    """A ``manifest.tres`` that Godot 3 and 4 read alike."""
    return (
        '[gd_resource type="Resource" format=2]\n\n[resource]\n__meta__ = {\n'
        f'"schema": 1,\n"id": "{mod}",\n"version": "1.0.0",\n"name": "{name}",\n'
        f'"entry_scenes": [ "{entry}" ]\n}}\n'
    ).encode()


def demo_mod(mod: str = "demo", *, texture: int = 128, seconds: float = 1.0, seed: int = 0) -> dict[str, bytes]:
    """Two models, a picture, two sounds, a resource, a scene and a manifest, by path below the mod's folder.

    Its text resources are of Godot 3, with nothing in them that Godot 4 reads differently.
    """
    home = f"res://mods/{mod}"
    scene = f"""[gd_scene load_steps=5 format=2]

[ext_resource path="{home}/icon.png" type="Texture" id=1]
[ext_resource path="{home}/sounds/hum.wav" type="AudioStream" id=2]
[ext_resource path="{home}/models/crate.glb" type="PackedScene" id=3]
[ext_resource path="{home}/models/ball.glb" type="PackedScene" id=4]

[node name="Room" type="Node"]

[node name="Icon" type="TextureRect" parent="."]
texture = ExtResource( 1 )

[node name="Hum" type="AudioStreamPlayer" parent="."]
stream = ExtResource( 2 )
volume_db = -6.0

[node name="Crate" parent="." instance=ExtResource( 3 )]

[node name="Ball" parent="." instance=ExtResource( 4 )]
"""
    curve = '[gd_resource type="Curve" format=2]\n\n[resource]\nmin_value = 0.0\nmax_value = 2.0\n'
    return {
        "manifest.tres": manifest(mod),
        "icon.png": picture(seed=seed),
        "sounds/hum.wav": sound(seconds, loop=(round(0.25 * 44100), round(seconds * 44100) - 1)),
        "sounds/click.wav": sound(0.1),
        "models/crate.glb": models.textured(texture, seed=seed),
        "models/ball.glb": models.draco(24),
        "fade.tres": curve.encode(),
        "room.tscn": scene.encode(),
    }


def write_folder(files: Mapping[str, bytes], folder: Path) -> Path:
    """The mod as a folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def zip_of(files: Mapping[str, bytes]) -> bytes:
    """The mod as a ``.zip``."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), data)
    return target.getvalue()
