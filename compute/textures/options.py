"""What an encoder of images is asked, and what it answers. Each format is a file with one function of this form.

A format is a line in `FORMATS`; its module is imported when it is first asked for, since some bring a compiler along.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from typing import Literal, Protocol, cast

from cloudbaker.compute.textures.headers import ImageHeader
from cloudbaker.compute.textures.measure import NormalError, Pixels, channel_psnr, normal_error, psnr
from cloudbaker.compute.textures.prepare import SlotClass

FORMATS = {
    "ktx2-uastc": "ktx2_uastc:encode_ktx2_uastc",
    "ktx2-etc1s": "etc1s:encode_ktx2_etc1s",
    "webp": "webp:encode_webp",
    "avif": "avif:encode_avif",
    "png": "webp:encode_png",
    "jpeg": "webp:encode_jpeg",
    "ktx2-astc": "ktx2_astc:encode_ktx2_4x4",
    "ktx2-astc-6x6": "ktx2_astc:encode_ktx2_6x6",
    "ktx2-astc-8x8": "ktx2_astc:encode_ktx2_8x8",
    "astc": "ktx2_astc:encode_astc_4x4",
    "astc-6x6": "ktx2_astc:encode_astc_6x6",
    "astc-8x8": "ktx2_astc:encode_astc_8x8",
}
"""Format → module below this package, and its function."""

Level = Literal["fast", "default", "max"]
LEVELS: tuple[Level, ...] = ("fast", "default", "max")
STRONGEST_RDO = 100.0


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """What the recipe wants, and the floors that measured quality must not fall under."""

    slot_class: SlotClass = "color"
    max_size: int = 2048
    """Pixels of the longer side; larger images are scaled down, none is scaled up."""
    quality: int = 85
    """Of lossy WebP, JPEG and AVIF of ``color``, 1 to 100."""
    format: str = "webp"
    """One of `FORMATS`; ``keep`` stores a scaled image in the type it came in, and leaves others alone."""
    level: Level = "default"
    """Of the block encoders: ``fast``, ``default`` or ``max``."""
    mips: bool = True
    """Whether KTX2 files carry their mipmaps."""
    rdo: float = 0.0
    """Of ``ktx2-uastc``: how much error is traded for bytes (`uastc.rdo`); 0 for none, 1 is moderate. Jobs that set it
    are those of `uastc.rdo_job`."""
    srgb: bool | None = None
    """Whether the colours are sRGB; None: those of ``color`` are. An alpha channel never is."""
    alpha_coverage: float | None = None
    """Of a cut-out, 0 to 1: mipmaps keep the part of it whose alpha is above this."""
    max_pixels: int = 64 << 20
    """Checked on the header, before any decode."""
    min_gain: float = 0.1
    """A lossy image is not encoded with loss again for less than this part of its size."""
    color_floor_db: float = 32.0
    data_floor_db: float = 42.0
    """Of the worst channel."""

    def __post_init__(self) -> None:
        if self.slot_class not in ("color", "normal", "data"):
            raise ValueError(f"slot_class must be color, normal or data, not {self.slot_class!r}")
        if self.format != "keep" and self.format not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)} or keep, not {self.format!r}")
        if self.level not in LEVELS:
            raise ValueError(f"level must be one of {', '.join(LEVELS)}, not {self.level!r}")
        if self.max_size < 1 or not 1 <= self.quality <= 100:
            raise ValueError(f"max_size {self.max_size} or quality {self.quality} is out of range")
        if not 0 <= self.rdo <= STRONGEST_RDO:
            raise ValueError(f"rdo must be 0 to {STRONGEST_RDO:g}, not {self.rdo}")

    @property
    def is_srgb(self) -> bool:
        """Whether the colours are sRGB."""
        return self.slot_class == "color" if self.srgb is None else self.srgb


@dataclass(frozen=True, slots=True)
class Source:
    """The image as it came."""

    header: ImageHeader
    size: int
    """Bytes."""

    @property
    def density(self) -> float:
        """Bytes a pixel."""
        return self.size / self.header.pixels


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image in one form."""

    data: bytes
    mime: str
    psnr: float
    """Against the pixels it was made of, infinite where equal; the worst channel's for data."""
    how: str
    """For people: ``lossy, quality 85``."""
    normal: NormalError | None = None
    """Of normal maps."""
    gpu_bytes: int | None = None
    """What it takes in a GPU's memory with its mipmaps, if that is not four bytes a texel."""
    levels: int = 1
    """Mipmaps in the file."""


class Encoder(Protocol):
    """The form of every function in `FORMATS`."""

    def __call__(self, pixels: Pixels, options: EncodeOptions, source: Source) -> Candidate:
        """Encode (h, w, 3 or 4) pixels, already of the size that is wanted, and measure what that cost.

        Raises ImageError where this format can't hold them.
        """


def encoder(name: str) -> Encoder:
    """The function that makes a format."""
    module, _, function = FORMATS[name].partition(":")
    return cast(Encoder, getattr(import_module(f"cloudbaker.compute.textures.{module}"), function))


def judged(pixels: Pixels, decoded: Pixels, slot_class: SlotClass) -> tuple[float, NormalError | None]:
    """PSNR of an encoded image, decoded again by whoever can: of all channels, or of the worst where they are unrelated
    (``data``); for normal maps the angles too."""
    if slot_class == "data":
        return min(channel_psnr(pixels, decoded)), None
    quality = psnr(pixels, decoded)
    if slot_class != "normal":
        return quality, None
    return quality, NormalError(0.0, 0.0, 0.0) if math.isinf(quality) else normal_error(pixels, decoded)
