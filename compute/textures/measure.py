"""How far a lossy image is from its source. All figures come from decoding the encoded bytes again.

WebP is decoded with the library that encoded it (Pillow's libwebp; no other WebP decoder is among our dependencies), so
an error that encoder and decoder share would not show here. The browser tests render baked models with Chromium's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""(height, width, channels)."""
Light = npt.NDArray[np.float32]
"""(height, width, 3), linear."""

_ROWS = 256
"""Rows at a time: a 64-megapixel image as float64 would take 1.5 GB."""


@dataclass(frozen=True, slots=True)
class NormalError:
    """Angles between the directions in two normal maps, in degrees."""

    mean: float
    p99: float
    max: float


def channel_psnr(source: Pixels, result: Pixels) -> tuple[float, ...]:
    """Peak signal-to-noise ratio of each channel of two (h, w, c) 8-bit images, in dB; infinite where equal.

    Raises ValueError when the shapes differ.
    """
    _check(source, result)
    total = np.zeros(source.shape[2], np.float64)
    for at in range(0, len(source), _ROWS):
        off = source[at : at + _ROWS].astype(np.int32) - result[at : at + _ROWS]
        total += np.einsum("hwc,hwc->c", off, off, dtype=np.float64)
    return tuple(_decibel(t / (source.shape[0] * source.shape[1])) for t in total)


def psnr(source: Pixels, result: Pixels) -> float:
    """Peak signal-to-noise ratio over all channels together, in dB; infinite when equal."""
    squares = [255.0**2 / 10 ** (db / 10) for db in channel_psnr(source, result)]
    return _decibel(sum(squares) / len(squares))


def normal_error(source: Pixels, result: Pixels) -> NormalError:
    """Compare two normal maps, (h, w, ≥ 3) with x, y, z in RGB. Pixels without a direction do not count."""
    _check(source, result)
    parts: list[Any] = []
    for at in range(0, len(source), _ROWS):
        a, b = _directions(source[at : at + _ROWS]), _directions(result[at : at + _ROWS])
        length = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
        some = length > 1e-6
        cosine = np.einsum("ij,ij->i", a[some], b[some]) / length[some]
        parts.append(np.arccos(np.clip(cosine, -1.0, 1.0)).astype(np.float32))
    angles = np.degrees(np.concatenate(parts))
    if not angles.size:
        return NormalError(0.0, 0.0, 0.0)
    return NormalError(float(angles.mean(dtype=np.float64)), float(np.percentile(angles, 99)), float(angles.max()))


_STOPS = range(-10, 11, 2)
_GAMMA = 1 / 2.2


def light_psnr(source: Light, result: Light) -> float:
    """Quality of HDR images, (h, w, 3) linear light, in dB; infinite when equal: mPSNR, the PSNR of what a display
    shows (gamma 2.2, 8 bits) over exposures of -10 to 10 stops, every other one.

    Source: Munkberg et al., "High Dynamic Range Texture Compression for Graphics Hardware" (2006); astcenc's mPSNR.
    """
    _check(source, result)
    total = 0.0
    for at in range(0, len(source), _ROWS):
        a = np.power(np.maximum(source[at : at + _ROWS], 0), _GAMMA, dtype=np.float32)
        b = np.power(np.maximum(result[at : at + _ROWS], 0), _GAMMA, dtype=np.float32)
        for stop in _STOPS:
            shown = np.float32(255 * 2 ** (stop * _GAMMA))
            off = np.minimum(a * shown, 255) - np.minimum(b * shown, 255)
            total += float(np.einsum("hwc,hwc->", off, off, dtype=np.float64))
    return _decibel(total / (source.size * len(_STOPS)))


def _directions(pixels: Pixels) -> npt.NDArray[np.float64]:
    return np.asarray(pixels[..., :3].reshape(-1, 3).astype(np.float64) / 127.5 - 1.0)


def _decibel(mean_square: float) -> float:
    return 10.0 * math.log10(255.0**2 / mean_square) if mean_square > 0 else math.inf


def _check(source: npt.NDArray[Any], result: npt.NDArray[Any]) -> None:
    if source.shape != result.shape or source.ndim != 3:
        raise ValueError(f"images of shapes {source.shape} and {result.shape} can't be compared")
