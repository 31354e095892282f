"""Three 9-bit mantissas with one 5-bit exponent, in 32 bits: HDR that every WebGL 2 device samples and filters.

Source: OpenGL ES 3.0, section 3.8.3.2 (``RGB9_E5``); in Vulkan ``E5B9G9R9_UFLOAT_PACK32``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

LARGEST = 511 / 512 * 2**16
_MANTISSA, _BIAS, _MAX_EXPONENT = 9, 15, 31


def to_rgb9e5(pixels: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.uint32]:
    """Words of (…, 3) light, rounded as the specification says; more than `LARGEST` (65408) becomes that.

    Raises ValueError for what is not finite, or negative.
    """
    if not np.isfinite(pixels).all() or (pixels < 0).any():
        raise ValueError("RGB9E5 holds finite light that is not negative")
    clamped = np.minimum(pixels.astype(np.float32), np.float32(LARGEST))
    brightest = clamped.max(axis=-1)
    exponent = np.maximum(-_BIAS - 1, np.frexp(brightest)[1] - 1) + 1 + _BIAS
    exponent[brightest == 0] = 0
    rounded_up = np.floor(np.ldexp(brightest, _BIAS + _MANTISSA - exponent) + 0.5) == 1 << _MANTISSA
    exponent = exponent + rounded_up
    shift = (_BIAS + _MANTISSA - exponent)[..., None]
    mantissa = np.floor(np.ldexp(clamped, shift) + np.float32(0.5)).astype(np.uint32)
    red, green, blue = (mantissa[..., channel] for channel in range(3))
    return np.asarray(red | green << 9 | blue << 18 | exponent.astype(np.uint32) << 27, np.uint32)


def from_rgb9e5(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.float32]:
    """(…, 3) light of (…) words."""
    scale = np.ldexp(np.float32(1), (words >> 27).astype(np.int32) - _BIAS - _MANTISSA)
    mantissa = np.stack([words & 511, words >> 9 & 511, words >> 18 & 511], axis=-1)
    return np.asarray(mantissa * scale[..., None], np.float32)
