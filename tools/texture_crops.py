#!/usr/bin/env python3
"""Write the pictures of docs/textures.md, and print its table: crops of generated textures at each level.

.venv/bin/python tools/texture_crops.py

Each picture has the source and what came of it side by side, enlarged, and below what they differ by, eight times as
strong. They are decoded by Binomial's transcoder, as a browser would.
"""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cloudbaker.compute.job import Job
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.compute.textures import programs
from cloudbaker.compute.textures.decode import decode_image
from cloudbaker.compute.textures.headers import KTX2_MAGIC, image_header
from cloudbaker.compute.textures.ktx2_uastc import transcoded
from cloudbaker.testing.pictures import Picture, Pixels, picture

FOLDER = Path(__file__).parent.parent / "docs" / "textures"
SIZE, CROP, ZOOM, LABEL = 512, 56, 3, 34
SHOWN = {"stone": (296, 120), "interface": (70, 82), "leaves": (150, 180), "bumps": (168, 170)}
"""Picture → where its crop begins (left, top)."""
WAYS = {
    "ETC1S": {"format": "ktx2-etc1s"},
    "UASTC fast": {"format": "ktx2-uastc", "level": "fast"},
    "UASTC default": {"format": "ktx2-uastc", "level": "default"},
    "UASTC max": {"format": "ktx2-uastc", "level": "max"},
    "WebP 85": {"format": "webp"},
}
GREY = 128


def encoded(sandbox: Sandbox, drawn: Picture, options: dict[str, str]) -> tuple[dict[str, object], bytes, float]:
    """What a picture becomes: facts, bytes, CPU seconds."""
    png = io.BytesIO()
    Image.fromarray(drawn.pixels).save(png, "PNG")
    params = {"options": {**options, "slot_class": drawn.slot_class}}
    job = Job("cloudbaker.compute.textures.uastc.job:convert_job", {"image": png.getvalue()}, params)
    outcome = programs.run(sandbox, job).unwrap()
    return outcome.value, outcome.files["image"], outcome.cpu_seconds


def pixels_of(data: bytes) -> Pixels:
    """(h, w, 3), seen over grey where it is transparent."""
    pixels = transcoded(data) if data.startswith(KTX2_MAGIC) else decode_image(data, image_header(data))
    return over_grey(pixels)


def over_grey(pixels: Pixels) -> Pixels:
    """Without its alpha channel."""
    if pixels.shape[2] == 3:
        return pixels
    alpha = pixels[..., 3:].astype(np.float32) / 255
    return np.rint(pixels[..., :3] * alpha + GREY * (1 - alpha)).astype(np.uint8)


def tile(source: Pixels, result: Pixels, at: tuple[int, int], label: str) -> Image.Image:
    """A crop above its error, with a label."""
    left, top = at
    a, b = (p[top : top + CROP, left : left + CROP].astype(np.int32) for p in (source, result))
    error = np.clip(GREY + 8 * (b - a), 0, 255)
    stacked = np.concatenate([b, error]).astype(np.uint8)
    image = Image.new("RGB", (CROP * ZOOM, 2 * CROP * ZOOM + LABEL), "white")
    enlarged = Image.fromarray(stacked).resize((CROP * ZOOM, 2 * CROP * ZOOM), Image.Resampling.NEAREST)
    image.paste(enlarged, (0, LABEL))
    ImageDraw.Draw(image).multiline_text((2, 2), label, "black", ImageFont.load_default(12), spacing=2)
    return image


def main() -> None:
    """Write all pictures."""
    FOLDER.mkdir(exist_ok=True)
    print("| texture | " + " | ".join(WAYS) + " |\n|" + "---|" * (len(WAYS) + 1))
    with Sandbox() as sandbox:
        encoded(sandbox, picture("sky", 16), WAYS["UASTC fast"])  # the fork server loads its kernels
        for name, at in SHOWN.items():
            drawn = picture(name, SIZE)
            source = over_grey(drawn.pixels)
            tiles, cells = [tile(source, source, at, f"{name}\nsource")], []
            for way, options in WAYS.items():
                facts, data, _ = encoded(sandbox, drawn, options)
                decibel, angle = facts["psnr_db"], facts["angle_degrees"]
                quality = "lossless" if decibel is None else f"{decibel:.1f} dB"
                quality += f", {angle:.2f}°" if angle else ""
                tiles.append(tile(source, pixels_of(data), at, f"{way}\n{quality}, {len(data) / 1000:.0f} kB"))
                cells.append(f"{len(data) / 1000:.0f} kB, {quality}")
            strip = Image.new("RGB", (sum(t.width + 4 for t in tiles) - 4, tiles[0].height), "white")
            for index, part in enumerate(tiles):
                strip.paste(part, (index * (part.width + 4), 0))
            strip.save(FOLDER / f"{name}.webp", lossless=True, method=6)
            print(f"| {name} ({drawn.slot_class}) | " + " | ".join(cells) + " |")
    total = sum(path.stat().st_size for path in FOLDER.glob("*.webp"))
    print(f"{total / 1000:.0f} kB of pictures, {time.process_time():.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
