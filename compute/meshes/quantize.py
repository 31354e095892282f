"""Vertex attributes as small integers, by the rules glTF gives for normalized accessors.

Source: glTF 2.0, 3.6.2.3 (accessor data types) and 3.7.3.3 (skinned mesh attributes: the weights of a vertex sum to
one, and quantized they must sum to exactly 255 or 65535).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def dequantize(values: Array) -> npt.NDArray[np.float32]:
    """Normalized integers as floats in [0, 1] or [-1, 1]; floats as float32. Shape is kept."""
    array = np.asarray(values)
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    scaled = array.astype(np.float32) / np.float32(np.iinfo(array.dtype).max)
    return np.asarray(np.maximum(scaled, np.float32(-1.0)))


def unorm(values: Array, *, bits: int = 8) -> Array:
    """Floats as normalized uint8 (`bits` ≤ 8) or uint16; what lies outside [0, 1] is clamped.

    With fewer bits than the type has, values are snapped to 2^bits levels spread over the whole range.
    """
    if not 1 <= bits <= 16:
        raise ValueError(f"bits must be 1 to 16, not {bits}")
    kind, top = (np.uint8, 255) if bits <= 8 else (np.uint16, 65535)
    levels = (1 << bits) - 1
    snapped = np.rint(np.clip(np.asarray(values, np.float64), 0.0, 1.0) * levels) / levels
    return np.rint(snapped * top).astype(kind)


def quantize_weights(sets: Sequence[Array], *, bits: int = 8) -> list[Array]:
    """``WEIGHTS_0``, ``WEIGHTS_1``… of one primitive as normalized uint8 or uint16 (`bits` 8 or 16).

    Each of `sets` is (n, 4), floats or normalized integers. A vertex's weights are scaled to sum to one over all sets,
    and then rounded so that the integers sum to exactly 255 or 65535: what rounding leaves over goes to the largest
    weight, where it is the smallest change. A vertex without any weight stays without.
    """
    if bits not in (8, 16):
        raise ValueError(f"weights are quantized to 8 or 16 bits, not {bits}")
    if not sets:
        return []
    top = (1 << bits) - 1
    widths = [np.asarray(s).shape[1] for s in sets]
    weights = np.concatenate([dequantize(s) for s in sets], axis=1).astype(np.float64)
    weights = np.maximum(weights, 0.0)
    total = weights.sum(axis=1, keepdims=True)
    scaled = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0) * top
    whole = np.rint(scaled).astype(np.int64)
    rows = np.arange(len(whole))
    whole[rows, scaled.argmax(axis=1)] += np.where(total[:, 0] > 0, top - whole.sum(axis=1), 0)
    kind = np.uint8 if bits == 8 else np.uint16
    return [np.ascontiguousarray(part.astype(kind)) for part in np.split(whole, np.cumsum(widths)[:-1], axis=1)]
