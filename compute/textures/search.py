"""The cheapest way to store an image that keeps a quality: named, measured, and climbed to.

    found = search(pixels, EncodeOptions(format="ktx2-uastc"), source, Goal(min_psnr=45))

A format's *ladder* are its settings from cheap to good. Block formats have few rungs, all of the same size, and a
better one costs time: they are tried one after the other. The qualities of WebP, JPEG, AVIF and ETC1S are many, and a
better one costs bytes: those are halved until the lowest that does is found (an encoder's error may rise by a hair from
one quality to the next; what is returned was measured in any case). Nobody climbs out of a format: which one comes next
is the recipe's business.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cloudbaker.compute.textures.measure import Pixels
from cloudbaker.compute.textures.options import LEVELS, Candidate, EncodeOptions, Source, encoder

QUALITIES = (20, 30, 40, 50, 60, 68, 75, 80, 85, 90, 93, 95, 97, 98, 99, 100)
"""Rungs of the formats that have a quality: coarse where nobody looks, fine where files grow."""
_BY_QUALITY = frozenset({"webp", "jpeg", "avif", "ktx2-etc1s"})
_BY_LEVEL = ("ktx2-uastc", "ktx2-astc", "astc")


@dataclass(frozen=True, slots=True)
class Goal:
    """What is asked of a texture, as measured on what another decoder makes of it."""

    min_psnr: float | None = None
    """dB; of the worst channel for ``data``."""
    max_angle: float | None = None
    """Mean error of directions in degrees; of normal maps, others have none."""

    def __post_init__(self) -> None:
        if self.min_psnr is not None and not 0 < self.min_psnr <= 120:
            raise ValueError(f"min_psnr must be above 0 and at most 120 dB, not {self.min_psnr:g}")
        if self.max_angle is not None and not 0 <= self.max_angle <= 90:
            raise ValueError(f"max_angle must be 0 to 90 degrees, not {self.max_angle:g}")

    def __bool__(self) -> bool:
        return self.min_psnr is not None or self.max_angle is not None

    def met(self, candidate: Candidate) -> bool:
        """Whether it is good enough."""
        if self.min_psnr is not None and candidate.psnr < self.min_psnr:
            return False
        return self.max_angle is None or candidate.normal is None or candidate.normal.mean <= self.max_angle


@dataclass(frozen=True, slots=True)
class Tried:
    """One rung, and what it came to."""

    setting: str
    """A level (``default``), or the encoder's words (``lossy, quality 85``)."""
    bytes: int
    psnr_db: float | None
    """None where lossless."""
    angle_degrees: float | None
    met: bool


@dataclass(frozen=True, slots=True)
class Found:
    """The end of a search."""

    candidate: Candidate
    """The cheapest that meets the goal; else the best there is."""
    setting: str
    met: bool
    tried: tuple[Tried, ...]
    """In the order of the tries."""


def search(pixels: Pixels, options: EncodeOptions, source: Source, goal: Goal) -> Found:
    """Climb the ladder of ``options.format`` until `goal` is met.

    Without a goal it is one try with the options as they are. Raises ImageError as the format's encoder does.
    """
    rungs = ladder(options, goal, alpha=pixels.shape[2] == 4) if goal else [options]
    done: dict[int, Candidate] = {}
    tried: list[Tried] = []
    encode = encoder(options.format)

    def meets(index: int) -> bool:
        if index not in done:
            done[index] = candidate = encode(pixels, rungs[index], source)
            tried.append(_tried(candidate, rungs[index], goal))
        return goal.met(done[index])

    if len(rungs) > len(LEVELS):
        index = bisect_left(range(len(rungs)), True, key=meets)
    else:
        index = next((at for at in range(len(rungs)) if meets(at)), len(rungs))
    if index == len(rungs):
        index = max(done, key=lambda at: _merit(done[at], goal))
    return Found(done[index], _setting(done[index], rungs[index]), goal.met(done[index]), tuple(tried))


def ladder(options: EncodeOptions, goal: Goal, *, alpha: bool = False) -> Sequence[EncodeOptions]:
    """The settings of a format, from cheap to good."""
    # The encoders' own floors would climb behind our back; what counts here is the goal.
    bare = replace(options, color_floor_db=0.0, data_floor_db=0.0)
    if options.format.startswith(_BY_LEVEL):
        return [replace(bare, level=level) for level in LEVELS]
    lossless = options.format == "webp" and options.slot_class == "normal"
    fixed = options.format == "jpeg" and (alpha or options.slot_class != "color")
    if options.format not in _BY_QUALITY or lossless or fixed:
        return [bare]
    rungs = [replace(bare, quality=quality) for quality in QUALITIES]
    if options.format == "webp":  # whose encoder falls back to lossless under a floor: the end of every search
        floor = goal.min_psnr or math.inf
        rungs.append(replace(bare, quality=100, color_floor_db=floor, data_floor_db=floor))
    return rungs


def shortfall(found: Found, options: EncodeOptions, goal: Goal) -> str:
    """Why a goal was not met, for people: what was asked, and what the best came to."""
    best, asked, got = found.candidate, [], []
    if goal.min_psnr is not None:
        asked.append(f"{goal.min_psnr:g} dB")
        got.append(f"{best.psnr:.1f} dB")
    if goal.max_angle is not None and best.normal is not None:
        asked.append(f"{goal.max_angle:g}°")
        got.append(f"{best.normal.mean:.2f}°")
    return f"{options.format} reaches {' and '.join(got)} at best ({found.setting}); asked for {' and '.join(asked)}"


def _merit(candidate: Candidate, goal: Goal) -> tuple[float, float]:
    angle = candidate.normal.mean if candidate.normal else 0.0
    return (-angle, candidate.psnr) if goal.max_angle is not None else (candidate.psnr, -angle)


def _tried(candidate: Candidate, options: EncodeOptions, goal: Goal) -> Tried:
    return Tried(
        _setting(candidate, options),
        len(candidate.data),
        None if math.isinf(candidate.psnr) else round(candidate.psnr, 3),
        round(candidate.normal.mean, 4) if candidate.normal else None,
        goal.met(candidate),
    )


def _setting(candidate: Candidate, options: EncodeOptions) -> str:
    """A level by its name; else what the encoder says it did."""
    if not options.format.startswith(_BY_LEVEL):
        return candidate.how
    return f"{options.level}, rdo {options.rdo:g}" if options.rdo and options.format == "ktx2-uastc" else options.level
