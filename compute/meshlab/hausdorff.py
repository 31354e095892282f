"""A second opinion on `meshes.error`: PyMeshLab's sampled Hausdorff distance, an implementation not of our own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cloudbaker.compute.job import Limits
from cloudbaker.compute.meshes.error import Surface
from cloudbaker.compute.meshlab.process import LIMITS, call

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Hausdorff:
    """Distances between two surfaces in % of the diagonal of the source's bounding box, the larger way round."""

    mean_percent: float
    max_percent: float
    samples: int
    """Points measured from, both ways together."""
    seconds: float
    """Of PyMeshLab's process, its start included (about 0.6 s)."""


def hausdorff(
    source: tuple[Array, Array], other: tuple[Array, Array], *, samples: int = 20_000, limits: Limits = LIMITS
) -> Hausdorff:
    """Measure two meshes, (positions (n, 3), indices (t, 3)) each, in a process of its own.

    Points are on vertices, edges and faces, where `meshes.error` spreads them by area: means agree to some 10 %.
    Raises what `process.call` raises.
    """
    answer = call("hausdorff", {"samples": samples}, [source, other], limits=limits)
    both = [answer.figures["there"], answer.figures["back"]]
    scale = Surface(np.asarray(source[0], np.float64), np.asarray(source[1])).diagonal or 1.0
    return Hausdorff(
        mean_percent=100 * max(float(way["mean"]) for way in both) / scale,
        max_percent=100 * max(float(way["max"]) for way in both) / scale,
        samples=sum(int(way["n_samples"]) for way in both),
        seconds=answer.seconds,
    )
