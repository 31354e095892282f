"""Generated textures for tests, benchmarks and docs: each is hard for block encoders in another way.

>>> picture("leaves", 256).pixels.shape
(256, 256, 4)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Pixels = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Picture:
    """An image with what it is for."""

    name: str
    slot_class: Literal["color", "normal", "data"]
    pixels: Pixels
    """(h, w, 3 or 4)."""


def picture(name: str, size: int = 1024) -> Picture:
    """The generated picture of that name, `size` × `size`: the same bytes each time. KeyError for an unknown name."""
    slot_class, draw = _PICTURES[name]
    return Picture(name, slot_class, draw(size))


def pictures(size: int = 1024) -> list[Picture]:
    """All of them."""
    return [picture(name, size) for name in _PICTURES]


def noise(size: int, *, seed: int, octaves: int = 6, first: int = 4, fall: float = 0.5) -> Field:
    """(size, size) of fractal value noise in 0 … 1: `octaves` of grids, the first with `first` cells a side."""
    random = np.random.default_rng(seed)
    total = np.zeros((size, size))
    for octave in range(octaves):
        cells = min(first << octave, size)
        grid = Image.fromarray(random.random((cells, cells)).astype(np.float32))
        total += fall**octave * np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC), np.float64)
    return cast(Field, (total - total.min()) / max(float(np.ptp(total)), 1e-9))


def normals(height: Field, strength: float) -> Pixels:
    """(h, w, 3) tangent-space normal map of a height field, y up."""
    dy, dx = np.gradient(height * strength)
    vectors = np.dstack([-dx, dy, np.ones_like(dx)])
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return _bytes(vectors * 0.5 + 0.5)


def _stone(size: int) -> Pixels:
    """Photographic: fine grain in three correlated channels, cracks of another colour."""
    grain, cracks = noise(size, seed=1, octaves=9, fall=0.65), noise(size, seed=2, first=8)
    lines = np.clip(1 - np.abs(cracks - 0.5) * 24, 0, 1)[..., None]
    tint = np.stack([0.55 + 0.35 * grain, 0.50 + 0.36 * grain, 0.42 + 0.40 * grain**1.3], axis=-1)
    return _bytes(tint * (1 - lines) + np.array([0.20, 0.28, 0.14]) * lines)


def _sky(size: int) -> Pixels:
    """Smooth: where a block's few colours show as bands."""
    y, x = np.mgrid[0:size, 0:size] / size
    glow = np.exp(-((x - 0.7) ** 2 + (y - 0.3) ** 2) * 6)
    return _bytes(np.stack([0.25 + 0.6 * glow, 0.45 + 0.35 * glow - 0.15 * y, 0.80 - 0.35 * y + 0.1 * glow], axis=-1))


def _leaves(size: int) -> Pixels:
    """A cut-out: soft alpha edges, and colours that have nothing to do with alpha."""
    random = np.random.default_rng(3)
    image = Image.new("RGBA", (size, size), (40, 60, 20, 0))
    draw = ImageDraw.Draw(image)
    for _ in range(120):
        x, y = random.uniform(-0.1, 1, 2) * size
        w, h = random.uniform(0.02, 0.10, 2) * size
        green = int(random.integers(80, 200))
        draw.ellipse([x, y, x + w, y + h], fill=(green // 2, green, green // 4, 255))
        draw.line([x, y + h / 2, x + w, y + h / 2], fill=(green, green, green // 2, 255), width=max(1, size // 512))
    pixels = np.array(image)
    pixels[..., 3] = np.asarray(image.getchannel("A").resize((size // 2, size // 2)).resize((size, size)))
    shade = 0.8 + 0.2 * noise(size, seed=4)[..., None]
    pixels[..., :3] = np.rint(pixels[..., :3] * shade)
    return pixels


def _interface(size: int) -> Pixels:
    """Drawn: flat areas, text, hard edges between three and more colours within a block."""
    image = Image.new("RGB", (size, size), (244, 244, 240))
    draw = ImageDraw.Draw(image)
    random = np.random.default_rng(5)
    palette = [(214, 57, 38), (31, 111, 178), (247, 181, 0), (26, 26, 30), (39, 158, 96), (120, 61, 160)]
    step = max(8, size // 8)
    for row in range(0, size, step):
        for column in range(0, size, step):
            fill = palette[int(random.integers(len(palette)))]
            draw.rounded_rectangle([column + 2, row + 2, column + step - 5, row + step - 5], step // 6, fill=fill)
            text = f"{row // step}·{column // step} Bake"
            draw.text((column + step // 8, row + step // 3), text, (255, 255, 255), ImageFont.load_default(step / 5))
    return np.array(image)


def _bumps(size: int) -> Pixels:
    """A normal map: hammered metal with panel lines."""
    y, x = np.mgrid[0:size, 0:size] / size
    grooves = np.minimum(np.abs((x * 4) % 1 - 0.5), np.abs((y * 4) % 1 - 0.5))
    height = noise(size, seed=6, octaves=7, first=16) + 0.6 * np.clip(grooves * 40, 0, 1)
    return normals(height, size / 96)


def _material(size: int) -> Pixels:
    """Occlusion, roughness, metalness: three pictures that have nothing to do with each other."""
    occlusion = 1 - 0.6 * noise(size, seed=7, octaves=4) ** 2
    roughness = 0.3 + 0.6 * noise(size, seed=8, octaves=9, fall=0.7)
    metal = noise(size, seed=9, octaves=5) > 0.5
    return _bytes(np.stack([occlusion, roughness, metal.astype(float)], axis=-1))


def _bytes(values: Any) -> Pixels:
    return cast(Pixels, np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8))


_PICTURES: dict[str, tuple[Literal["color", "normal", "data"], Callable[[int], Pixels]]] = {
    "stone": ("color", _stone),
    "sky": ("color", _sky),
    "leaves": ("color", _leaves),
    "interface": ("color", _interface),
    "bumps": ("normal", _bumps),
    "material": ("data", _material),
}
