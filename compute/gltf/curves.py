"""Animation curves as glTF defines them: values between keyframes, and how far two values are apart.

Source: glTF 2.0, section 3.11 (animations) and appendix C (interpolation).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.references import Json

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CurveBounds:
    """How far an animation may be off, anywhere: what leaving keys out and rounding them may add up to."""

    rotation_degrees: float = 0.015
    translation_percent: float = 0.002
    """Of the diagonal of the box around all positions."""
    scale: float = 2e-4
    weight: float = 2e-4
    """Of a morph target."""
    factor: float = 2e-4
    """Of a colour or factor that KHR_animation_pointer moves: a twentieth of a step of 8 bits."""

    def of(self, path: str, size: float) -> float:
        """The bound for a target path, in its units; `size` is the document's `extent`. Unknown paths: 0, exact."""
        bounds = {
            "rotation": self.rotation_degrees,
            "translation": self.translation_percent / 100 * size,
            "scale": self.scale,
            "weights": self.weight,
            "factor": self.factor,
        }
        return bounds.get(path, 0.0)


BOUNDS = CurveBounds()
"""What a bake keeps to."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One animation sampler: `times` (n,) in seconds, `values` (n, k)."""

    times: Doubles
    values: Doubles
    rotation: bool
    """Values are unit quaternions, xyzw, and between keys they turn (slerp)."""
    interpolation: str


_POINTERS = (
    (re.compile(r"/nodes/\d+/(translation|rotation|scale|weights)"), None),
    (re.compile(r"/meshes/\d+/weights"), "weights"),
    (re.compile(r"/materials/\d+/.*Factor|/extensions/KHR_lights_punctual/lights/\d+/color"), "factor"),
)


def moved(target: Json) -> str:
    """What a channel moves, as `CurveBounds.of` knows it: its path, or what its pointer leads to; else ``pointer``."""
    path = str(target.get("path"))
    if path != "pointer":
        return path
    pointer = str(target.get("extensions", {}).get("KHR_animation_pointer", {}).get("pointer", ""))
    for pattern, kind in _POINTERS:
        found = pattern.fullmatch(pointer)
        if found:
            return kind or found[1]
    return path


def deviations(pairs: Sequence[tuple[Curve, Curve]]) -> list[float]:
    """For each pair the largest distance, over the first curve's keys, of the second curve from the first.

    Both of a pair have the same kind and number of components, and begin and end at the same time. Only linear and
    stepped curves can be compared. Thousands are as fast as one: curves are laid end to end and looked up at once.
    """
    groups: dict[tuple[bool, str, int], list[int]] = {}
    for number, (old, _) in enumerate(pairs):
        groups.setdefault((old.rotation, old.interpolation, old.values.shape[1]), []).append(number)
    found = [0.0] * len(pairs)
    for (rotation, interpolation, _), numbers in groups.items():
        news, olds = [pairs[n][1] for n in numbers], [pairs[n][0] for n in numbers]
        later = np.cumsum([0.0, *(1.0 + float(new.times[-1] - new.times[0]) for new in news)])
        keys = np.concatenate([new.times - new.times[0] + at for new, at in zip(news, later, strict=False)])
        asked = np.concatenate([old.times - old.times[0] + at for old, at in zip(olds, later, strict=False)])
        values = np.concatenate([new.values for new in news])
        before = np.clip(np.searchsorted(keys, asked, side="right") - 1, 0, len(keys) - 1)
        # The last key of a curve is followed by another curve's first: nothing lies between them.
        after = before if interpolation == "STEP" else np.minimum(before + (asked > keys[before]), len(keys) - 1)
        span = keys[after] - keys[before]
        part = np.divide(asked - keys[before], span, out=np.zeros_like(asked), where=span > 0)
        there = between(values[before], values[after], part, rotation=rotation)
        off = distance(there, np.concatenate([old.values for old in olds]), rotation=rotation)
        starts = np.cumsum([0, *(len(old.times) for old in olds[:-1])])
        for number, largest in zip(numbers, np.maximum.reduceat(off, starts), strict=True):
            found[number] = float(largest)
    return found


def read_curve(document: Document, sampler: Json, path: str) -> Curve:
    """A sampler's curve, ready to be evaluated. `path` is the channel's target path. Raises `DocumentError`."""
    times = document.accessor(sampler["input"], dequantize=True)[:, 0].astype(np.float64)
    values = document.accessor(sampler["output"], dequantize=True).astype(np.float64)
    interpolation = str(sampler.get("interpolation", "LINEAR"))
    rotation = path == "rotation"
    if len(times) and values.shape[1] == 1:  # morph weights: all targets of a key follow one another
        values = values.reshape(len(times), -1)
    if rotation and interpolation == "LINEAR":
        length = np.linalg.norm(values, axis=1, keepdims=True)
        values = np.divide(values, length, out=values, where=length > 0)
    return Curve(times, values, rotation, interpolation)


def between(a: Doubles, b: Doubles, part: Doubles, *, rotation: bool) -> Doubles:
    """Values `part` (m,) of the way from `a` to `b`, (m, k) each: straight, or along the shorter arc."""
    t = part[:, None]
    if not rotation:
        return np.asarray(a + (b - a) * t)
    cosine = np.einsum("ij,ij->i", a, b)[:, None]
    b, cosine = np.where(cosine < 0, -b, b), np.abs(cosine)
    angle = np.arccos(np.minimum(cosine, 1.0))
    sine = np.sin(angle)
    near = sine < 1e-6  # two quaternions this close are on a straight line
    with np.errstate(divide="ignore", invalid="ignore"):
        turned = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / sine
    return np.asarray(np.where(near, a + (b - a) * t, turned))


def distance(a: Doubles, b: Doubles, *, rotation: bool) -> Doubles:
    """How far values are apart, (m,): the largest component's difference, or the angle of a rotation in degrees."""
    if not rotation:
        return np.asarray(np.abs(a - b).max(axis=1, initial=0.0))
    chord = np.minimum(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1))
    return np.asarray(np.degrees(4 * np.arcsin(np.minimum(chord / 2, 1.0))))


def extent(document: Document) -> float:
    """Diagonal of the box around all positions, in the meshes' own units: the scale of what moves."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    accessors: list[Any] = document.items("accessors")
    for mesh in document.items("meshes"):
        for primitive in mesh.get("primitives", ()):
            bounds = accessors[primitive["attributes"]["POSITION"]] if "POSITION" in primitive["attributes"] else {}
            if "min" in bounds and "max" in bounds and not bounds.get("normalized"):
                low, high = np.minimum(low, bounds["min"]), np.maximum(high, bounds["max"])
    return float(np.linalg.norm(high - low)) if (low <= high).all() else 0.0
