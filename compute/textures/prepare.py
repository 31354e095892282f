"""Scaling of decoded images, in the space where averaging means something for what the texture holds."""

from __future__ import annotations

from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from cloudbaker.compute.textures.measure import Pixels

SlotClass = Literal["color", "normal", "data"]
Floats = npt.NDArray[np.float32]

_SRGB = np.arange(256, dtype=np.float64) / 255
_LINEAR = np.where(_SRGB <= 0.04045, _SRGB / 12.92, ((_SRGB + 0.055) / 1.055) ** 2.4).astype(np.float32)


def scale(pixels: Pixels, width: int, height: int, slot_class: SlotClass) -> Pixels:
    """Lanczos, in the space where averaging means something for what the texture holds.

    Colours in linear light, weighted by alpha so that hidden colours do not bleed in; directions as vectors, unit
    length again afterwards; data channel by channel (Pillow would weight RGBA by its fourth channel).
    """
    if slot_class == "color":
        return _scale_color(pixels, width, height)
    if slot_class == "normal":
        return _scale_normal(pixels, width, height)
    channels = [_lanczos(pixels[..., c].astype(np.float32), width, height) for c in range(pixels.shape[2])]
    return rounded(np.stack(channels, axis=-1))


def _scale_color(pixels: Pixels, width: int, height: int) -> Pixels:
    alpha = weight = None
    if pixels.shape[2] == 4:
        weight = pixels[..., 3].astype(np.float32) / 255
        alpha = np.clip(_lanczos(weight, width, height), 0, 1)
    out: list[Floats] = []
    for c in range(3):
        linear = _LINEAR[pixels[..., c]]
        value = _lanczos(linear, width, height)
        if weight is not None and alpha is not None:
            # Where nothing is visible the plain average stays: an opaque material ignores alpha and shows it.
            weighted = _lanczos(linear * weight, width, height)
            value = np.where(alpha > 1 / 255, weighted / np.maximum(alpha, 1 / 255), value)
        value = np.clip(value, 0, 1)
        out.append(np.where(value <= 0.0031308, value * 12.92, 1.055 * value ** (1 / 2.4) - 0.055) * 255)
    if alpha is not None:
        out.append(alpha * 255)
    return rounded(np.stack(out, axis=-1))


def _scale_normal(pixels: Pixels, width: int, height: int) -> Pixels:
    channels = [_lanczos(pixels[..., c].astype(np.float32) / 127.5 - 1, width, height) for c in range(3)]
    vectors = np.stack(channels, axis=-1)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    vectors = np.where(length > 1e-3, vectors / np.maximum(length, 1e-3), np.array([0, 0, 1], np.float32))
    out = (vectors + 1) * 127.5
    if pixels.shape[2] == 4:
        out = np.concatenate([out, _lanczos(pixels[..., 3].astype(np.float32), width, height)[..., None]], axis=-1)
    return rounded(out)


def _lanczos(channel: npt.NDArray[Any], width: int, height: int) -> Floats:
    resized = Image.fromarray(channel.astype(np.float32, copy=False)).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized, np.float32)


def rounded(values: Any) -> Pixels:
    """Clipped and rounded to 8 bits."""
    return cast(Pixels, np.clip(np.rint(values), 0, 255).astype(np.uint8))


def fitted(width: int, height: int, max_size: int) -> tuple[int, int]:
    """The size to store an image in: its own, or scaled down to `max_size` pixels on the longer side."""
    longer = max(width, height)
    if longer <= max_size:
        return width, height
    return max(1, round(width * max_size / longer)), max(1, round(height * max_size / longer))
