"""UASTC on a GPU: the kernel alone, with copies, and from PNG files to KTX2 files; and whether its bytes are the CPU's.

python benchmarks/textures_gpu.py [FOLDER] [--device cuda:0] [--megapixels 64] [--size 1024] [--seconds 2]

FOLDER holds PNG files; without one, the generated pictures are written to a temporary folder first. ``--device cpu``
tries the program out where there is no GPU: its figures are then those of one CPU thread.

End to end is what a bake does to a colour texture: decode, mipmaps, blocks, Zstandard and KTX2, decode again and
measure. All but the blocks are the CPU's part, in as many processes as there are cores; the last table says whose part
bounds the whole.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import warp as wp
from PIL import Image

from cloudbaker.compute.textures.decode import decode_image
from cloudbaker.compute.textures.gpu_encoder import proof_picture
from cloudbaker.compute.textures.headers import image_header
from cloudbaker.compute.textures.ktx2 import write_ktx2
from cloudbaker.compute.textures.ktx2_uastc import mip_levels, transcoded, with_alpha
from cloudbaker.compute.textures.measure import psnr
from cloudbaker.compute.textures.options import EncodeOptions
from cloudbaker.compute.textures.uastc import encode_uastc, kernels, many
from cloudbaker.compute.textures.uastc.batches import BatchEncoder
from cloudbaker.testing.pictures import pictures

Pixels = npt.NDArray[np.uint8]
LEVELS = ("fast", "default", "max")


def texels(images: Sequence[Pixels]) -> int:
    """Of all of them."""
    return sum(image.shape[0] * image.shape[1] for image in images)


def repeated(work: Callable[[], Any], seconds: float, device: Any) -> float:
    """Seconds that one call takes: the mean over so many as fit into `seconds`, two for warming up left out."""
    for _ in range(2):
        work()
    wp.synchronize_device(device)
    count, before = 0, time.perf_counter()
    while count < 1 or time.perf_counter() - before < seconds:
        work()
        wp.synchronize_device(device)
        count += 1
    return (time.perf_counter() - before) / count


def kernel_only(images: Sequence[Pixels], level: str, device: Any, seconds: float) -> float:
    """MPix a second of the kernel on texels that are there already."""
    rows, at, first = [], 0, 0
    for image in images:
        height, width = image.shape[:2]
        across, down = -(-width // 4), -(-height // 4)
        rows.append((at, width, height, across, first))
        at, first = at + height * width, first + across * down
    flat = np.concatenate([image.reshape(-1) for image in images]).view(np.uint32)
    inputs = [
        wp.array(flat, dtype=wp.uint32, device=device),
        wp.array(np.array(rows, np.int32), dtype=wp.int32, device=device),
        len(rows),
        *kernels.device_tables(device.alias),
        kernels.effort(kernels.EFFORTS[level], device.alias),  # type: ignore[index]
        wp.empty(2 * first, dtype=wp.uint64, device=device),
    ]
    each = repeated(lambda: wp.launch(many.encode_many, dim=first, inputs=inputs, device=device), seconds, device)
    return texels(images) / 1e6 / each


def with_copies(encoder: BatchEncoder, images: Sequence[Pixels], level: str, seconds: float) -> float:
    """MPix a second from arrays of the host to blocks on the host."""
    each = repeated(lambda: encoder.encode(images, level=level), seconds, encoder.device)  # type: ignore[arg-type]
    return texels(images) / 1e6 / each


def one_by_one(encoder: BatchEncoder, images: Sequence[Pixels], level: str, seconds: float) -> float:
    """The same with a launch for each image."""

    def work() -> None:
        for image in images:
            encoder.encode([image], level=level)  # type: ignore[arg-type]

    return texels(images) / 1e6 / repeated(work, seconds, encoder.device)


# ---------------------------------------------------------------------------------------------------------- end to end


@dataclass
class Spent:
    """Seconds of CPU for each part of the work."""

    decode: float = 0.0
    mips: float = 0.0
    pack: float = 0.0
    measure: float = 0.0

    def add(self, other: Spent) -> None:
        """And those of another."""
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def before_blocks(path: Path) -> tuple[list[Pixels], Spent]:
    """The levels of a PNG file."""
    started = time.process_time()
    data = path.read_bytes()
    pixels = decode_image(data, image_header(data))
    decoded = time.process_time()
    levels = [np.ascontiguousarray(level) for level in mip_levels(with_alpha(pixels), EncodeOptions())]
    return levels, Spent(decode=decoded - started, mips=time.process_time() - decoded)


def after_blocks(source: Pixels, blocks: list[bytes], target: Path) -> tuple[float, Spent]:
    """Write the KTX2, and measure it; dB."""
    started = time.process_time()
    data = write_ktx2(blocks, source.shape[1], source.shape[0], codec="uastc", srgb=True, alpha=True)
    target.write_bytes(data)
    packed = time.process_time()
    quality = psnr(source, transcoded(data))
    return quality, Spent(pack=packed - started, measure=time.process_time() - packed)


def end_to_end(encoder: BatchEncoder, files: list[Path], target: Path, level: str) -> tuple[float, float, float, Spent]:
    """Wall seconds in all, of the encoder alone, MPix of the largest levels, and the CPU's part."""
    spent, device_seconds, megapixels, together = Spent(), 0.0, 0.0, 4 * (os.cpu_count() or 1)
    before = time.perf_counter()
    # Not forked from here: a process with a CUDA context and threads is no good parent.
    with ProcessPoolExecutor(mp_context=get_context("forkserver")) as pool:
        coming = [pool.submit(before_blocks, path) for path in files]
        packing = []
        for start in range(0, len(files), together):
            done = [future.result() for future in coming[start : start + together]]
            coming[start : start + together] = [None] * len(done)  # type: ignore[list-item]  # free their texels
            images = [level for levels, _ in done for level in levels]
            started = time.perf_counter()
            blocks = iter(encoder.encode(images, level=level))  # type: ignore[arg-type]
            device_seconds += time.perf_counter() - started
            for number, (levels, part) in enumerate(done, start):
                spent.add(part)
                megapixels += texels(levels[:1]) / 1e6
                mine = list(islice(blocks, len(levels)))
                packing.append(pool.submit(after_blocks, levels[0], mine, target / f"{number}.ktx2"))
        for future in packing:
            quality, part = future.result()
            assert quality > 25, f"a texture came out at {quality:.1f} dB"
            spent.add(part)
    return time.perf_counter() - before, device_seconds, megapixels, spent


def main() -> None:
    """Print Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--megapixels", type=float, default=64, help="of the largest launch")
    parser.add_argument("--size", type=int, default=1024, help="of the generated pictures")
    parser.add_argument("--files", type=int, default=64, help="read for the end-to-end part, again if there are fewer")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure")
    options = parser.parse_args()
    wp.init()  # type: ignore[no-untyped-call]
    encoder = BatchEncoder(options.device)
    device = encoder.device
    drawn = [np.ascontiguousarray(with_alpha(picture.pixels)) for picture in pictures(options.size)]

    started = time.perf_counter()
    proof = [proof_picture(512), *drawn]
    equal = {
        level: encoder.encode(proof, level=level) == [encode_uastc(image, level=level, threads=8) for image in proof]
        for level in LEVELS
    }
    print(f"# UASTC on a GPU\n\n{date.today()}, {device.name}, {os.cpu_count()} CPU cores, Warp {wp.config.version}.\n")
    print(f"{texels(proof) // 16:,} blocks are the CPU's bytes: {equal} (compiled and compared in ", end="")
    print(f"{time.perf_counter() - started:.0f} s).\n")

    print("## MPix a second\n\n| level | MPix in a launch | kernel alone | with copies | a launch for each mipmap |")
    print("|---|---|---|---|---|")
    for level in LEVELS:
        for share in (1 / 64, 1 / 8, 1):
            count = max(1, round(options.megapixels * share * 1e6 / (options.size**2 * 4 / 3)))
            images = [mipmap for image in islice(cycle(drawn), count) for mipmap in mip_levels(image, EncodeOptions())]
            images = [np.ascontiguousarray(image) for image in images]
            figures = [
                kernel_only(images, level, device, options.seconds),
                with_copies(encoder, images, level, options.seconds),
                one_by_one(encoder, images, level, options.seconds),
            ]
            cells = " | ".join(f"{figure:,.1f}" for figure in figures)
            print(f"| {level} | {texels(images) / 1e6:.1f} | {cells} |", flush=True)

    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "source", Path(name) / "target"
        source.mkdir()
        target.mkdir()
        if options.folder is None:
            for number, image in enumerate(drawn):
                Image.fromarray(image).save(source / f"{number}.png")
        found = sorted((options.folder or source).glob("*.png"))
        files = list(islice(cycle(found), options.files))
        wall, on_device, megapixels, spent = end_to_end(encoder, files, target, "default")
    print("\n## From PNG to KTX2, level default\n")
    print(
        "| files | MPix | seconds | MPix/s | device, s | " + " | ".join(f"{part}, CPU s" for part in vars(spent)) + " |"
    )
    print("|" + "---|" * (5 + len(vars(spent))))
    parts = " | ".join(f"{seconds:.2f}" for seconds in vars(spent).values())
    print(f"| {len(files)} | {megapixels:.1f} | {wall:.2f} | {megapixels / wall:.1f} | {on_device:.2f} | {parts} |")
    cpu = sum(vars(spent).values()) / (os.cpu_count() or 1)
    bound = "the device" if on_device > cpu else f"the CPU, most of all {max(vars(spent), key=vars(spent).get)}"  # type: ignore[arg-type]
    print(f"\nWhat bounds it: {bound} ({cpu:.2f} s of every core, {on_device:.2f} s of the device).")


if __name__ == "__main__":
    main()
