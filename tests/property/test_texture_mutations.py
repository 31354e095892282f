"""Mutated pictures and textures: whatever is changed, the job in the sandbox ends in a picture or in a finding."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import OpenEXR
import pytest
from PIL import Image

from cloudbaker.compute.job import Job, Limits, Outcome, Status
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.compute.textures.astc_blocks import encode_astc
from cloudbaker.compute.textures.astc_file import write_astc
from cloudbaker.compute.textures.hdr import HdrOptions, encode_hdr
from cloudbaker.compute.textures.ktx2 import write_ktx2
from cloudbaker.compute.textures.radiance import write_radiance
from cloudbaker.compute.textures.uastc import encode_uastc
from cloudbaker.testing import shapes

PIXELS = 1 << 20
"""The limit on pixels: a mutant may make a header lie, but not the machine slow."""
LIMITS = Limits(wall_seconds=60, cpu_seconds=60)
STRANGE = (0, 1, 2, 127, 128, 255, 256, 1 << 15, (1 << 16) - 1, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)


def picture(channels: int = 3, size: tuple[int, int] = (48, 40)) -> np.ndarray:
    noise = shapes.noise(64, seed=21)[: size[1], : size[0], None]
    return np.clip(noise * np.array([255.0, 200, 150, 220])[:channels], 0, 255).astype(np.uint8)


def saved(image: Image.Image, kind: str, **settings) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **settings)
    return out.getvalue()


def exr(**header) -> bytes:
    light = np.exp(picture().astype(np.float32) / 40)
    planes = {name: np.ascontiguousarray(light[..., at]) for at, name in enumerate("RGB")}
    out = io.BytesIO()
    OpenEXR.File({"type": OpenEXR.scanlineimage, **header}, planes).write(out)
    return out.getvalue()


def uastc() -> bytes:
    levels = picture(4), picture(4)[::2, ::2]
    blocks = [encode_uastc(np.ascontiguousarray(level), level="fast", srgb=True) for level in levels]
    return write_ktx2(blocks, 48, 40, codec="uastc", srgb=True, zstd_level=None)


def sixteen_bit() -> bytes:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in picture().astype(np.uint16) * 257)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 48, 40, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


SOURCES: dict[str, list[Callable[[], bytes]]] = {
    "png": [
        lambda: saved(Image.fromarray(picture(4)), "PNG"),
        lambda: saved(Image.fromarray(picture()).quantize(16), "PNG", transparency=3),
        sixteen_bit,
    ],
    "jpeg": [
        lambda: saved(Image.fromarray(picture()), "JPEG", quality=80),
        lambda: saved(Image.fromarray(picture()), "JPEG", quality=80, progressive=True),
        lambda: saved(Image.fromarray(picture(4), "CMYK"), "JPEG"),
    ],
    "webp": [
        lambda: saved(Image.fromarray(picture(4)), "WEBP", quality=70),
        lambda: saved(Image.fromarray(picture()), "WEBP", lossless=True),
        lambda: saved(
            Image.fromarray(picture()), "WEBP", save_all=True, append_images=[Image.fromarray(picture()[::-1])]
        ),
    ],
    "ktx2": [
        uastc,
        lambda: write_ktx2(encode_astc([picture()], slot_class="color"), 48, 40, codec="astc-4x4", srgb=True),
        lambda: encode_hdr(exr(), HdrOptions("ktx2-astc-hdr", block=6, level="fast")).data,
        lambda: write_astc(encode_astc([picture()], slot_class="data", block=8)[0], 48, 40, block=8),
    ],
    "hdr": [
        lambda: write_radiance(np.exp(picture().astype(np.float32) / 40)),
        lambda: write_radiance(np.exp(picture(size=(7, 9)).astype(np.float32) / 40)),
    ],
    "exr": [
        lambda: exr(compression=OpenEXR.ZIP_COMPRESSION),
        lambda: exr(compression=OpenEXR.PIZ_COMPRESSION),
        lambda: exr(compression=OpenEXR.DWAA_COMPRESSION),
        lambda: exr(compression=OpenEXR.NO_COMPRESSION, type=OpenEXR.tiledimage, tiles=OpenEXR.TileDescription()),
    ],
}
JOBS = {
    "ktx2": ("look:look_job", "file", {"image_pixels": PIXELS}),
    "hdr": ("hdr:encode_hdr_job", "image", {"format": "ktx2-rgb9e5", "max_size": 32, "max_pixels": PIXELS}),
    "exr": ("hdr:encode_hdr_job", "image", {"format": "hdr", "max_size": 32, "max_pixels": PIXELS}),
}
IMAGE_JOB = (
    "encode:encode_job",
    "image",
    {"format": "webp", "slot_class": "normal", "max_size": 16, "limits": {"image_pixels": PIXELS}},
)


@lru_cache
def source(kind: str, number: int) -> bytes:
    return SOURCES[kind][number]()


def mutant(kind: str, seed: int) -> bytes:
    """A file of `kind` that something was done to: bytes, numbers, lengths and order changed, or its end cut off."""
    random_ = random.Random(f"{kind}{seed}")
    data = bytearray(source(kind, random_.randrange(len(SOURCES[kind]))))
    for _ in range(random_.choice((1, 1, 1, 2, 4))):
        # Half of all changes are where formats say how large everything is.
        end = len(data) if random_.random() < 0.5 else min(len(data), 200)
        at = random_.randrange(max(1, end))
        match random_.randrange(9):
            case 0:
                del data[at:]
            case 1 | 2:
                for place in random_.sample(range(end), min(end, random_.randint(1, 8))):
                    data[place] = random_.randrange(256)
            case 3:
                data[at : at + 4] = struct.pack(random_.choice("<>") + "I", random_.choice(STRANGE))
            case 4:
                data[at : at + 2] = struct.pack(random_.choice("<>") + "H", random_.choice(STRANGE) & 0xFFFF)
            case 5:
                del data[at : at + random_.choice((1, 2, 4, 16, 100))]
            case 6:
                data[at:at] = random_.randbytes(random_.choice((1, 2, 4, 16, 100)))
            case 7:
                other = random_.randrange(len(data) or 1)
                data[at : at + 32] = data[other : other + 32]
            case _:
                data[at : at + 40] = bytes(len(data[at : at + 40]))
        if not data:
            break
    return _png(data, random_) if kind == "png" and random_.random() < 0.8 else bytes(data)


def _png(data: bytearray, random_: random.Random) -> bytes:
    """PNG with its checksums made right again, without which nothing behind them would be reached; half of them with
    changes below the compression instead."""
    if random_.random() < 0.5:
        whole = source("png", random_.randrange(len(SOURCES["png"])))
        at = whole.index(b"IDAT")
        (length,) = struct.unpack_from(">I", whole, at - 4)
        rows = bytearray(zlib.decompress(whole[at + 4 : at + 4 + length]))
        for _ in range(random_.randint(1, 20)):
            rows[random_.randrange(len(rows))] = random_.choice((0, 1, 2, 3, 4, 5, 255))
        if random_.random() < 0.3:
            del rows[random_.randrange(len(rows)) :]
        packed = zlib.compress(rows)
        data = bytearray(whole[: at - 4] + struct.pack(">I", len(packed)) + b"IDAT" + packed + whole[at + 4 + length :])
    out, at = data, 8
    while at + 12 <= len(out):
        (length,) = struct.unpack_from(">I", out, at)
        if at + 12 + length > len(out):
            break
        struct.pack_into(">I", out, at + 8 + length, zlib.crc32(out[at + 4 : at + 8 + length]))
        at += 12 + length
    return bytes(out)


def judge(outcome: Outcome) -> str:
    """``picture`` or ``finding``; anything else is a failure, and says which."""
    if outcome.status is not Status.OK:
        return f"{outcome.status}: {outcome.error[:600]}"
    errors = [f for f in outcome.value["findings"] if f["severity"] == "error"]
    if errors:
        good = all(f["code"] and f["message"] and f["remedy"] and len(f["message"]) < 500 for f in errors)
        return "finding" if good and not outcome.files else f"no proper finding: {errors}"
    return "picture" if outcome.files or outcome.value.get("kept") or "gpu_bytes" in outcome.value else "nothing at all"


def run(sandbox: Sandbox, kind: str, seeds: range) -> Counter[str]:
    function, name, params = JOBS.get(kind, IMAGE_JOB)
    jobs = [Job(f"cloudbaker.compute.textures.{function}", {name: mutant(kind, s)}, params, LIMITS) for s in seeds]
    ends = [judge(outcome) for outcome in sandbox.run_all(jobs)]
    wrong = {seed: end for seed, end in zip(seeds, ends, strict=True) if end not in ("picture", "finding")}
    assert not wrong, f"mutant({kind!r}, seed): {dict(list(wrong.items())[:5])} of {len(wrong)}"
    return Counter(ends)


@pytest.mark.parametrize("kind", SOURCES)
def test_what_is_not_mutated_is_a_picture(sandbox: Sandbox, kind: str) -> None:
    function, name, params = JOBS.get(kind, IMAGE_JOB)
    for number in range(len(SOURCES[kind])):
        job = Job(f"cloudbaker.compute.textures.{function}", {name: source(kind, number)}, params, LIMITS)
        assert judge(sandbox.run(job)) == "picture", (kind, number)


@pytest.mark.parametrize("kind", SOURCES)
def test_mutants_end_in_a_picture_or_a_finding(sandbox: Sandbox, tell: Callable[[str], None], kind: str) -> None:
    ends = run(sandbox, kind, range(84))
    tell(f"{ends.total()} mutants in the sandbox: {ends['picture']} pictures, {ends['finding']} findings")
    assert ends["finding"] > 8  # or the mutations do nothing


@pytest.mark.slow
@pytest.mark.parametrize("kind", SOURCES)
def test_many_more_mutants_end_in_a_picture_or_a_finding(
    sandbox: Sandbox, tell: Callable[[str], None], kind: str
) -> None:
    ends: Counter[str] = Counter()
    for start in range(1000, 2000, 100):
        ends += run(sandbox, kind, range(start, start + 100))
    tell(f"{ends.total()} mutants in the sandbox: {ends['picture']} pictures, {ends['finding']} findings")
