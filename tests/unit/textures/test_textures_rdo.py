"""UASTC that Zstandard stores smaller: held against both decoders, and against the plain way to save bytes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import opengl_basisu
import pytest
import zstandard
from PIL import Image

import cloudbaker.compute.textures.uastc.rdo as rdo_module
from cloudbaker.compute.job import Job, Status
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.compute.textures.ktx2 import write_ktx2
from cloudbaker.compute.textures.measure import psnr
from cloudbaker.compute.textures.slots import plan
from cloudbaker.compute.textures.uastc import decode_uastc, encode_uastc
from cloudbaker.compute.textures.uastc.rdo import rdo
from cloudbaker.errors import UsageError
from cloudbaker.recipe import load_recipe
from cloudbaker.tasks.images import options_of
from cloudbaker.testing.pictures import picture

Pixels = npt.NDArray[np.uint8]
PICTURES = ("stone", "leaves", "interface", "bumps", "material")
SIDE = 192


def _rgba(pixels: Pixels) -> Pixels:
    height, width, channels = pixels.shape
    return pixels if channels == 4 else np.dstack([pixels, np.full((height, width), 255, np.uint8)])


def _stored(blocks: bytes) -> int:
    return len(zstandard.ZstdCompressor(level=18).compress(blocks))


def _by_basisu(blocks: bytes, width: int, height: int) -> Pixels:
    data = write_ktx2([blocks], width, height, codec="uastc", srgb=False, zstd_level=None)
    pixels = bytes(opengl_basisu.open(data).transcode(opengl_basisu.Target.RGBA8).data)
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 4)


def _naive(blocks: bytes, pixels: Pixels, largest: float) -> bytes:
    """The earlier block that is nearest, wherever its squared error is less than `largest`."""
    own = np.frombuffer(blocks, np.uint8).reshape(-1, 16).copy()
    height, width = pixels.shape[:2]

    def tiles(image: Pixels) -> npt.NDArray[np.float64]:
        rows = image.reshape(height // 4, 4, width // 4, 4, 4).swapaxes(1, 2)
        return rows.reshape(-1, 64).astype(np.float64)

    wanted, decoded = tiles(pixels), tiles(decode_uastc(blocks, width, height))
    for n in range(1, len(own)):
        errors = ((decoded[:n] - wanted[n]) ** 2).sum(axis=1)
        best = int(np.argmin(errors))
        if errors[best] <= largest:
            own[n], decoded[n] = own[best], decoded[best]
    return own.tobytes()


@pytest.mark.parametrize("name", PICTURES)
def test_blocks_are_stored_smaller_and_decode_alike_everywhere(name: str) -> None:
    pixels = _rgba(picture(name, SIDE).pixels)
    blocks = encode_uastc(pixels)
    sizes, qualities = [_stored(blocks)], [psnr(pixels, decode_uastc(blocks, SIDE, SIDE))]
    for strength in (0.5, 2.0, 8.0):
        smaller = rdo(blocks, pixels, strength=strength)
        decoded = decode_uastc(smaller, SIDE, SIDE)
        assert np.array_equal(decoded, _by_basisu(smaller, SIDE, SIDE))
        sizes.append(_stored(smaller))
        qualities.append(psnr(pixels, decoded))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.85 * sizes[0]
    assert qualities[-1] < qualities[0]
    assert qualities[-1] > 27


@pytest.mark.parametrize(("name", "largest"), [("stone", 400.0), ("leaves", 1600.0)])
def test_at_the_same_size_it_loses_less_than_the_nearest_earlier_block(name: str, largest: float) -> None:
    pixels = _rgba(picture(name, SIDE).pixels)
    blocks = encode_uastc(pixels)
    plain = _naive(blocks, pixels, largest)
    assert _stored(plain) < _stored(blocks)
    tries = (rdo(blocks, pixels, strength=0.25 * step) for step in range(2, 60))
    smaller = next(found for found in tries if _stored(found) <= _stored(plain))
    assert psnr(pixels, decode_uastc(smaller, SIDE, SIDE)) > psnr(pixels, decode_uastc(plain, SIDE, SIDE))


def test_none_changes_nothing() -> None:
    pixels = _rgba(picture("stone", 32).pixels)
    blocks = encode_uastc(pixels)
    assert rdo(blocks, pixels, strength=0.0) == blocks


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = _rgba(picture("leaves", 128).pixels)[:126, :125]
    blocks = encode_uastc(pixels)
    whole = rdo(blocks, pixels, strength=2.0)
    assert whole == rdo(blocks, pixels, strength=2.0, threads=3)
    monkeypatch.setattr(rdo_module, "STRIP", 300)
    strips = rdo(blocks, pixels, strength=2.0)
    assert strips == rdo(blocks, pixels, strength=2.0, threads=3)
    assert strips[: 300 * 16] == whole[: 300 * 16]
    assert strips != whole


@pytest.mark.slow
def test_instruction_sets_give_the_same_bytes(tmp_path: Path) -> None:
    """The kernel compiled for the oldest x86-64 with SSE4, and for this CPU."""
    if os.uname().machine != "x86_64":
        pytest.skip("the flags are for x86-64")
    code = (
        "import sys, hashlib\n"
        "from cloudbaker.compute.textures.uastc import kernels\n"
        "if sys.argv[1]:\n"
        "    kernels._FLAGS = kernels.MODULE_OPTIONS['cpu_compiler_flags'] = sys.argv[1]\n"
        "    kernels.wp.set_module_options(kernels.MODULE_OPTIONS, kernels)\n"
        "    kernels.COMPILED.compile_once = kernels.COMPILED.compile_here\n"
        "from cloudbaker.compute.textures.uastc import encode_uastc, rdo_kernel\n"
        "if sys.argv[1]:\n"
        "    rdo_kernel.COMPILED.compile_once = rdo_kernel.COMPILED.compile_here\n"
        "from cloudbaker.compute.textures.uastc.rdo import rdo\n"
        "from cloudbaker.testing.pictures import picture\n"
        "for name in ('leaves', 'stone'):\n"
        "    pixels = picture(name, 128).pixels\n"
        "    if pixels.shape[2] == 3:\n"
        "        import numpy as np\n"
        "        pixels = np.dstack([pixels, np.full((128, 128), 255, np.uint8)])\n"
        "    for strength in (1.0, 8.0):\n"
        "        print(hashlib.sha256(rdo(encode_uastc(pixels), pixels, strength=strength)).hexdigest())\n"
    )

    def digests(flags: str, home: Path) -> str:
        environment = {**os.environ, "CLOUDBAKER_KERNELS_PREFIX": str(home)} if flags else dict(os.environ)
        done = subprocess.run(
            [sys.executable, "-c", code, flags], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert digests("-target-cpu x86-64-v2 -ffp-contract=off", tmp_path) == digests("", tmp_path)


def test_what_is_flat_or_clear_stays_so() -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, 32:] = (200, 30, 90, 255)
    blocks = encode_uastc(pixels)
    assert np.array_equal(decode_uastc(rdo(blocks, pixels, strength=4.0), 64, 64), pixels)


def test_alpha_is_no_more_lost_than_colours_are() -> None:
    pixels = picture("leaves", SIDE).pixels
    blocks = encode_uastc(pixels)
    decoded = decode_uastc(rdo(blocks, pixels, strength=1.0), SIDE, SIDE)
    before = decode_uastc(blocks, SIDE, SIDE)
    assert psnr(pixels, decoded) > psnr(pixels, before) - 3
    moved = np.mean((decoded[..., 3] > 127) != (pixels[..., 3] > 127))
    assert moved < np.mean((before[..., 3] > 127) != (pixels[..., 3] > 127)) + 0.01


def test_any_bytes_of_the_modes_are_survived() -> None:
    random = np.random.default_rng(7)
    pixels = random.integers(0, 256, (64, 64, 4), np.uint8)
    noise = random.integers(0, 256, (256, 16), np.uint8)
    noise[:, 0] &= 0xFC  # mode 11
    assert len(rdo(noise.tobytes(), pixels, strength=50.0)) == 256 * 16
    noise[:, 0] = 0x1D  # mode 2, with patterns that there are not
    assert len(rdo(noise.tobytes(), pixels, strength=50.0)) == 256 * 16


@pytest.mark.parametrize(
    ("blocks", "shape", "strength", "said"),
    [
        (bytes(16), (4, 4, 3), 1.0, "must be"),
        (bytes(15), (4, 4, 4), 1.0, "16 bytes"),
        (bytes(16), (4, 4, 4), -1.0, "strength"),
        (bytes(16), (4, 4, 4), float("nan"), "strength"),
        (b"\x45" + bytes(15), (4, 4, 4), 1.0, "no mode"),
    ],
)
def test_what_makes_no_sense_is_refused(blocks: bytes, shape: tuple[int, ...], strength: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        rdo(blocks, np.zeros(shape, np.uint8), strength=strength)


def test_a_sandboxed_job_says_so(sandbox: Sandbox) -> None:
    png = io.BytesIO()
    Image.fromarray(picture("stone", 64).pixels[..., :3]).save(png, "PNG")
    sizes = {}
    for strength in (0.0, 32.0):
        options = options_of("ktx2-uastc", rdo=strength)
        params = {"options": {**options, "slot_class": "color"}, "goal": {}}
        job = Job("cloudbaker.compute.textures.uastc.rdo_job:convert_job", {"image": png.getvalue()}, params)
        outcome = sandbox.run(job)
        assert outcome.status is Status.OK, outcome.error
        assert outcome.value["setting"] == ("default, rdo 32" if strength else "default")
        sizes[strength] = len(outcome.files["image"])
    assert sizes[32.0] < sizes[0.0]


def test_a_recipe_asks_for_it_where_blocks_are_made() -> None:
    web = load_recipe("web")
    textures = web.textures.model_copy(update={"rdo": 1.5})
    assert web.model_copy(update={"textures": textures}).hash != web.hash
    image = {"slots": ["base_color"], "width": 64, "height": 64, "mips": True, "alpha_cutoff": None}
    said = {**textures.model_dump(mode="json"), "format": "ktx2", "slots": {"normal": "ktx2-uastc", "color": "webp"}}
    assert plan({**image, "slot_class": "normal", "slots": ["normal"]}, said)["rdo"] == 1.5
    assert "rdo" not in plan({**image, "slot_class": "color"}, said)


def test_other_formats_refuse_it() -> None:
    with pytest.raises(UsageError, match="rdo is of ktx2-uastc"):
        options_of("webp", rdo=1.0)
