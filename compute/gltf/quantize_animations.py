"""Round keyframe values to what can be told apart, so that they take less room and equal ones are equal.

Rotations become normalized 16-bit integers, which core glTF allows (section 3.11): half the bytes, 0.004° at most. What
has to be float is rounded to a power of two: the low bits become zero, and the codec packs them away.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cloudbaker.compute.gltf.curves import BOUNDS, CurveBounds, distance, extent, moved
from cloudbaker.compute.gltf.document import Array, Document

_SHARE = 0.4
"""Of the bound; the rest is for keys that are left out (`resample`)."""


def quantize_animations(document: Document, bounds: CurveBounds = BOUNDS) -> int:
    """Round the outputs of a document's samplers in place; how many accessors.

    Only plain floats of linear and stepped curves that move nodes, weights or factors are touched, and an accessor that
    anything else uses stays. Also drops ``"interpolation": "LINEAR"``, which is the default. The document must be
    decoded.
    """
    size = extent(document)
    paths: dict[int, set[str]] = {}
    users: dict[int, list[dict[str, Any]]] = {}
    pointed: set[int] = set()
    for animation in document.items("animations"):
        for channel in animation["channels"]:
            sampler = animation["samplers"][channel["sampler"]]
            spline = sampler.get("interpolation") == "CUBICSPLINE"
            paths.setdefault(sampler["output"], set()).add("spline" if spline else moved(channel["target"]))
            if channel["target"]["path"] == "pointer":
                pointed.add(sampler["output"])
            users.setdefault(sampler["output"], []).append(sampler)
        for sampler in animation["samplers"]:
            if sampler.get("interpolation") == "LINEAR":
                del sampler["interpolation"]
    rounded = 0
    for index, used in paths.items():
        [path, *others] = used
        accessor = document.items("accessors")[index]
        bound = _SHARE * bounds.of(path, size)
        if others or bound <= 0 or accessor["componentType"] != 5126 or "sparse" in accessor:
            continue
        values = document.accessor(index)
        if path != "rotation":
            new = _coarse(values, bound)
        elif index in pointed:  # stays float: not every reader of KHR_animation_pointer takes normalized integers
            new = _coarse(values, math.radians(bound) / 4)
        else:
            new = _shorts(values, bound)
        if new is None:
            continue
        to = document.add_accessor(new, like=index, normalized=new.dtype == np.int16, type=accessor["type"])
        for sampler in users[index]:
            sampler["output"] = to
        rounded += 1
    return rounded


def _shorts(values: Array, bound: float) -> Array | None:
    """Unit quaternions as int16; None where they would be off by more than the bound, in degrees."""
    length = np.linalg.norm(values.astype(np.float64), axis=1, keepdims=True)
    if not (length > 0.5).all():
        return None
    unit = values / length
    shorts = np.round(unit * 32767).astype(np.int16)
    back = shorts / 32767.0
    back /= np.linalg.norm(back, axis=1, keepdims=True)
    return shorts if distance(back, unit, rotation=True).max(initial=0.0) <= bound else None


def _coarse(values: Array, bound: float) -> Array | None:
    """Floats rounded to a multiple of the power of two that is below twice the bound."""
    step = 2.0 ** math.floor(math.log2(2 * bound))
    steps = np.round(values.astype(np.float64) / step)
    return None if np.abs(steps).max(initial=0.0) >= 1 << 24 else np.asarray(steps * step, np.float32)
