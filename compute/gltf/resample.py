"""Drop keyframes that the ones around them imply, within an error that is stated and checked.

Exporters write a key for every frame, for things that never move too. Keys are only ever left out, never changed: what
is left has the bytes it had, and the curve between two of them stays within the bound at every key that is gone. The
first and the last key stay, so an animation is as long as it was.

The keys are chosen by Ramer, Douglas and Peucker's method: from the whole, always split at the key that is farthest
off. All curves of a document are split side by side, level by level, since they are thousands of short ones.

Source: Ramer, "An iterative procedure for the polygonal approximation of plane curves", 1972.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloudbaker.compute.gltf.curves import (
    BOUNDS,
    Curve,
    CurveBounds,
    Doubles,
    between,
    distance,
    extent,
    moved,
    read_curve,
)
from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.references import Json

Integers = npt.NDArray[np.int64]

_SHARE = 0.6
"""Of the bound; the rest is for rounding what is left (`quantize_animations`)."""
_LEVELS = 64
"""Splits one after the other; what is not decided by then is kept. A curve can be built to need one for each key."""
_PACKED = 0.25
"""What a byte of values that is left out saves, once packed: its neighbours predict the rest. Times of one's own, no
longer shared with other curves, are hard to predict: with 1 Knight has 1.379 MB, with 0.25 1.356, with 0.1 1.355."""
_ACCESSOR_BYTES = 110
"""What one more accessor costs in JSON."""


def resample(document: Document, bounds: CurveBounds = BOUNDS) -> tuple[int, int]:
    """Leave keys out of the animations of a document, in place; how many keys there were and are.

    Cubic splines stay as they are. What KHR_animation_pointer moves only loses keys that are exactly implied, unless it
    moves what has a bound (see `curves.moved`). The document must be decoded. Raises `DocumentError`.

    Knight (76 animations, 3.7 MB): with `quantize_animations` 1.38 MB instead of 2.24 MB.
    """
    size = extent(document)
    jobs = list(_jobs(document, bounds, size))
    before = sum(len(job.curve.times) for job in jobs)
    after = before
    for (rotation, _), group in _grouped(jobs).items():
        for job, kept in zip(group, _choose(group, rotation=rotation), strict=True):
            job.kept = kept
    times = _Times(document, jobs)
    for job in jobs:
        after += _apply(document, job, times)
    return before, after


@dataclass(slots=True)
class _Job:
    """A pair of accessors that some samplers share, with the tightest bound of those."""

    samplers: list[Json]
    curve: Curve
    bound: float
    kept: npt.NDArray[np.bool_] | None = None


def _jobs(document: Document, bounds: CurveBounds, size: float) -> Iterator[_Job]:
    found: dict[tuple[object, ...], _Job] = {}
    for animation in document.items("animations"):
        for channel in animation["channels"]:
            sampler, path = animation["samplers"][channel["sampler"]], moved(channel["target"])
            kind = sampler.get("interpolation", "LINEAR")
            key = (sampler["input"], sampler["output"], kind, path == "rotation")
            bound = _SHARE * bounds.of(path, size) if kind == "LINEAR" else 0.0
            if key in found:
                job = found[key]
                job.bound = min(job.bound, bound)
                if all(known is not sampler for known in job.samplers):
                    job.samplers.append(sampler)
            elif kind in ("LINEAR", "STEP"):
                curve = read_curve(document, sampler, path)
                if len(curve.times) > 2 and len(curve.values) == len(curve.times) and (np.diff(curve.times) > 0).all():
                    found[key] = _Job([sampler], curve, bound)
    owners: dict[int, int] = {}
    for job in found.values():
        for sampler in job.samplers:
            owners[id(sampler)] = owners.get(id(sampler), 0) + 1
    # One that is a rotation for one channel and something else for another: nobody writes that, so it stays.
    return (job for job in found.values() if all(owners[id(sampler)] == 1 for sampler in job.samplers))


def _grouped(jobs: list[_Job]) -> dict[tuple[bool, int], list[_Job]]:
    groups: dict[tuple[bool, int], list[_Job]] = {}
    for job in jobs:
        if job.curve.interpolation == "STEP":
            job.kept = _steps(job.curve.values)
        else:
            groups.setdefault((job.curve.rotation, job.curve.values.shape[1]), []).append(job)
    return groups


def _steps(values: Doubles) -> npt.NDArray[np.bool_]:
    """Of a stepped curve: keys that change something, the first and the last."""
    kept = np.ones(len(values), bool)
    kept[1:-1] = (values[1:-1] != values[:-2]).any(axis=1)
    return kept


def _choose(jobs: list[_Job], *, rotation: bool) -> list[npt.NDArray[np.bool_]]:
    """For each job which keys stay."""
    lengths = np.array([len(job.curve.times) for job in jobs])
    ends = np.cumsum(lengths)
    times = np.concatenate([job.curve.times for job in jobs])
    values = np.concatenate([job.curve.values for job in jobs])
    bounds = np.repeat([job.bound for job in jobs], lengths)
    kept = np.zeros(len(times), bool)
    low, high = ends - lengths, ends - 1
    kept[low] = kept[high] = True
    for _ in range(_LEVELS):
        wide = high - low > 1
        low, high = low[wide], high[wide]
        if not len(low):
            break
        split, off = _farthest(times, values, low, high, rotation=rotation)
        needed = off > bounds[split]
        low, high, split = low[needed], high[needed], split[needed]
        kept[split] = True
        low, high = np.concatenate([low, split]), np.concatenate([split, high])
    else:
        for first, last in zip(low, high, strict=True):
            kept[first:last] = True
    return np.split(kept, ends[:-1])


def _farthest(
    times: Doubles, values: Doubles, low: Integers, high: Integers, *, rotation: bool
) -> tuple[Integers, Doubles]:
    """For each stretch between two keys, the key inside that is farthest off, and how far."""
    inside = high - low - 1
    starts = np.cumsum(inside) - inside
    stretch = np.repeat(np.arange(len(low)), inside)
    key = np.arange(len(stretch)) - starts[stretch] + low[stretch] + 1
    first, last = low[stretch], high[stretch]
    part = (times[key] - times[first]) / (times[last] - times[first])
    off = distance(between(values[first], values[last], part, rotation=rotation), values[key], rotation=rotation)
    largest = np.maximum.reduceat(off, starts)
    split = np.minimum.reduceat(np.where(off == largest[stretch], key, len(times)), starts)
    return split, largest


class _Times:
    """Accessors of times by their bytes: curves that kept the same keys share one."""

    def __init__(self, document: Document, jobs: list[_Job]) -> None:
        self._document = document
        self._known: dict[bytes, int] = {}
        self._users = Counter(sampler["input"] for job in jobs for sampler in job.samplers[:1])

    def cost(self, data: npt.NDArray[np.float32], before: int) -> float:
        """Bytes that these times would add, less this curve's share of those it had `before`."""
        if data.tobytes() in self._known:
            return 0
        had = self._document.items("accessors")[before]["count"] * data.itemsize + _ACCESSOR_BYTES
        return float(data.nbytes + _ACCESSOR_BYTES - had / self._users[before])

    def accessor(self, data: npt.NDArray[np.float32], like: int) -> int:
        """The accessor that holds them."""
        content = data.tobytes()
        if content not in self._known:
            self._known[content] = self._document.add_accessor(data[:, None], like=like, bounds=True)
        return self._known[content]


def _apply(document: Document, job: _Job, times: _Times) -> int:
    """Give the job's samplers fewer keys, if that saves bytes; by how many the number of keys changes."""
    if job.kept is None or job.kept.all():
        return 0
    source, target = job.samplers[0]["input"], job.samplers[0]["output"]
    rows = document.accessor(target)
    each = len(rows) // len(job.kept)  # morph weights: one row per target
    left = int(job.kept.sum())
    kept = np.asarray(document.accessor(source, dequantize=True)[job.kept, 0], np.float32)
    if _PACKED * (len(job.kept) - left) * each * rows.shape[1] * rows.dtype.itemsize <= times.cost(kept, source):
        return 0
    accessor = document.items("accessors")[target]
    new_target = document.add_accessor(
        np.ascontiguousarray(rows[np.repeat(job.kept, each)]),
        like=target,
        normalized=bool(accessor.get("normalized")),
        bounds="min" in accessor,
        type=accessor["type"],
    )
    new_source = times.accessor(kept, source)
    for sampler in job.samplers:
        sampler["input"], sampler["output"] = new_source, new_target
    return left - len(job.kept)
