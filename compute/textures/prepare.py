"""Scaling of decoded images, in the space where averaging means something for what the texture holds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from cloudbaker.compute.textures.measure import Pixels

SlotClass = Literal["color", "normal", "data"]
Floats = npt.NDArray[np.float32]
Channels = list[Floats]
"""An image as it is worked on, (h, w) a channel: colours in linear light, 0 to 1; normals -1 to 1; data 0 to 255."""

# Powers by tables of Python's own floats: NumPy's `**` gives other last bits on other processors, and a texel on the
# edge between two values would make other bytes of a whole file.
_LINEAR = np.array(
    [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (n / 255 for n in range(256))], np.float32
)
"""sRGB, 8 bits → linear light."""
_STEPS = 65535
_SRGB = np.array(
    [
        round(255 * (c * 12.92 if c <= 0.0031308 else 1.055 * c ** (1 / 2.4) - 0.055))
        for c in (n / _STEPS for n in range(_STEPS + 1))
    ],
    np.uint8,
)
"""Linear light in 65,535 steps → sRGB. Where the curve is steepest, a step is a twentieth of a value."""


def scale(pixels: Pixels, width: int, height: int, slot_class: SlotClass) -> Pixels:
    """Lanczos, in the space where averaging means something for what the texture holds.

    Colours in linear light, weighted by alpha so that hidden colours do not bleed in; directions as vectors, unit
    length again afterwards; data channel by channel (Pillow would weight RGBA by its fourth channel).
    """
    return stored(shrunk(reader(pixels, slot_class), pixels.shape[2], width, height, slot_class), slot_class)


def reader(pixels: Pixels, slot_class: SlotClass) -> Callable[[int], Floats]:
    """The channels of 8-bit pixels by number. One at a time: 64 megapixels as floats would take a gigabyte."""
    return partial(_channel, pixels, slot_class)


def _channel(pixels: Pixels, slot_class: SlotClass, number: int) -> Floats:
    channel = pixels[..., number]
    if slot_class == "color":
        return cast(Floats, _LINEAR[channel] if number < 3 else channel.astype(np.float32) / 255)
    values = channel.astype(np.float32)
    return values / 127.5 - 1 if slot_class == "normal" and number < 3 else values


def shrunk(channel: Callable[[int], Floats], count: int, width: int, height: int, slot_class: SlotClass) -> Channels:
    """The `count` channels of an image, scaled. What `channel` gives is used up."""
    if slot_class == "color":
        return _shrunk_color(channel, count, width, height)
    out = [_lanczos(channel(c), width, height) for c in range(count)]
    if slot_class == "normal":
        length = np.sqrt(np.square(out[0]) + np.square(out[1]) + np.square(out[2]))
        for c, straight in enumerate((0.0, 0.0, 1.0)):  # where there is no direction, the surface's own
            out[c] = np.where(length > 1e-3, out[c] / np.maximum(length, 1e-3), np.float32(straight))
        return out
    return [np.clip(c, 0, 255) for c in out]


def _shrunk_color(channel: Callable[[int], Floats], count: int, width: int, height: int) -> Channels:
    weight = alpha = None
    if count == 4:
        weight = channel(3)
        alpha = np.clip(_lanczos(weight, width, height), 0, 1)
    out: Channels = []
    for c in range(3):
        linear = channel(c)
        value = _lanczos(linear, width, height)
        if weight is not None and alpha is not None:
            # Where nothing is visible the plain average stays: an opaque material ignores alpha and shows it.
            linear *= weight  # in place: of 64 megapixels a copy takes 268 MB, and nobody reads it again
            weighted = _lanczos(linear, width, height)
            value = np.where(alpha > 1 / 255, weighted / np.maximum(alpha, 1 / 255), value)
        out.append(np.clip(value, 0, 1))
    return out if alpha is None else [*out, alpha]


def stored(channels: Channels, slot_class: SlotClass) -> Pixels:
    """Channels as 8-bit pixels."""
    return rounded(np.stack([_coded(c, n, slot_class) for n, c in enumerate(channels)], axis=-1))


def _coded(values: Floats, number: int, slot_class: SlotClass) -> Any:
    if slot_class == "color":
        return values * 255 if number == 3 else _SRGB[np.rint(values * _STEPS).astype(np.int32)]
    return (values + 1) * 127.5 if slot_class == "normal" and number < 3 else values


def _lanczos(channel: npt.NDArray[Any], width: int, height: int) -> Floats:
    resized = Image.fromarray(channel.astype(np.float32, copy=False)).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized, np.float32)


def rounded(values: Any) -> Pixels:
    """Clipped and rounded to 8 bits."""
    return cast(Pixels, np.clip(np.rint(values), 0, 255).astype(np.uint8))


def fitted(width: int, height: int, max_size: int, multiple: int = 1) -> tuple[int, int]:
    """The size to store an image in: its own, or scaled down to `max_size` pixels on the longer side.

    With a `multiple`, both sides become multiples of it, never larger than they were; a shorter side stays.
    """
    longer = max(width, height)
    if longer > max_size:
        width, height = (max(1, round(side * max_size / longer)) for side in (width, height))
    return (width // multiple * multiple or width), (height // multiple * multiple or height)
