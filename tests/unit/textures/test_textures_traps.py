"""What images from strangers do to the unwary, and what is made of it here. (More in test_textures_encode.py.)"""

from __future__ import annotations

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from cloudbaker.compute.job import Job, Status
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.compute.textures.convert import convert_image
from cloudbaker.compute.textures.decode import ImageError, decode_image
from cloudbaker.compute.textures.encode import encode_job
from cloudbaker.compute.textures.headers import PNG_MAGIC, image_header
from cloudbaker.compute.textures.options import FORMATS, EncodeOptions
from cloudbaker.compute.textures.orientation import orientation, upright
from cloudbaker.compute.textures.search import Goal


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes, *, depth: int = 8, color: int = 2, before: bytes = b"") -> bytes:
    stride = len(rows) // height
    filtered = b"".join(b"\0" + rows[y * stride : (y + 1) * stride] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return PNG_MAGIC + chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(filtered)) + chunk(b"IEND", b"")


def saved(image: np.ndarray | Image.Image, kind: str = "PNG", **settings) -> bytes:
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, kind, **settings)
    return out.getvalue()


def decoded(data: bytes) -> np.ndarray:
    return decode_image(data, image_header(data))


def convert(data: bytes, **options):
    return convert_image(data, EncodeOptions(**options), Goal())


# -- more than eight bits, and fewer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bits_are_rounded_not_cut_off(channels: int) -> None:
    """Pillow keeps the upper byte: a flat normal map, 0x7FFF or 0x8000 a channel, would lean by half a step."""
    values = np.arange(0, 65_536, 7, dtype=np.uint16)[:9360].reshape(90, 104, 1).repeat(channels, -1)
    data = png(104, 90, values.astype(">u2").tobytes(), depth=16, color=2 if channels == 3 else 6)
    np.testing.assert_array_equal(decoded(data), np.rint(values / 257.0))


def test_sixteen_bits_interlaced() -> None:
    values = np.random.default_rng(1).integers(0, 65_536, (9, 11, 3), np.uint16)
    passes = []
    for x0, y0, dx, dy in [
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ]:
        part = values[y0::dy, x0::dx]
        passes += [b"\0" + row.astype(">u2").tobytes() for row in part if part.size]
    header = struct.pack(">IIBBBBB", 11, 9, 16, 2, 0, 0, 1)
    body = chunk(b"IDAT", zlib.compress(b"".join(passes)))
    data = PNG_MAGIC + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")
    np.testing.assert_array_equal(decoded(data), np.rint(values / 257.0))


def test_one_transparent_colour_of_sixteen_bits() -> None:
    """Pillow looks for it among the upper bytes, and finds others."""
    values = np.array([[[0, 0, 0], [256, 256, 256], [257, 257, 257], [65_280, 0, 0]]], np.uint16)
    clear = chunk(b"tRNS", struct.pack(">3H", 256, 256, 256))
    data = png(4, 1, values.astype(">u2").tobytes(), depth=16, before=clear)
    assert decoded(data)[0, :, 3].tolist() == [255, 0, 255, 255]


@pytest.mark.parametrize(
    ("depth", "row", "count"), [(1, b"\x40", 2), (2, b"\x1b", 4), (4, b"\x01\x23", 4), (8, b"\0\1\2", 3)]
)
def test_one_transparent_grey_of_few_bits(depth: int, row: bytes, count: int) -> None:
    """Pillow spreads the greys over 0 to 255, but not the one that is transparent: it would be visible."""
    data = png(count, 1, row, depth=depth, color=0, before=chunk(b"tRNS", struct.pack(">H", 1)))
    back = decoded(data)
    assert back[0, :, 3].tolist() == [255, 0, 255, 255][:count]
    assert back[0, 1, 0] == 255 // ((1 << depth) - 1)


def test_a_truncated_sixteen_bit_picture_is_damaged() -> None:
    values = np.random.default_rng(2).integers(0, 65_536, (40, 40, 3), np.uint16)
    data = png(40, 40, values.astype(">u2").tobytes(), depth=16)
    with pytest.raises(ImageError) as caught:
        decoded(data[: len(data) // 2])
    assert caught.value.code == "image.damaged"


# -- palettes and colour spaces ---------------------------------------------------------------------------------------


def test_palette_with_alpha_of_some_entries() -> None:
    palette = chunk(b"PLTE", bytes((255, 0, 0, 0, 255, 0, 0, 0, 255))) + chunk(b"tRNS", bytes((0, 128)))
    back = decoded(png(3, 1, b"\0\1\2", color=3, before=palette))
    assert back[0].tolist() == [[255, 0, 0, 0], [0, 255, 0, 128], [0, 0, 255, 255]]


def test_palette_of_an_animation_is_its_first_frame() -> None:
    frames = [Image.new("P", (8, 8), n) for n in (1, 2)]
    for frame in frames:
        frame.putpalette([0, 0, 0, 10, 20, 30, 200, 100, 0])
    data = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert decoded(data)[0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("quality", [75, 100])
def test_cmyk_as_printers_mean_it(quality: int) -> None:
    """Adobe stores it inverted, and says so in a marker that has to survive the removal of the others."""
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[..., 0] = 255  # all cyan
    back = decoded(saved(Image.fromarray(ink, "CMYK"), "JPEG", quality=quality)).astype(int)
    assert np.abs(back - (0, 255, 255)).max() < 12


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("profile", ["good", "cut", "garbage"])
def test_colour_profiles_change_nothing(kind: str, profile: str) -> None:
    whole = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    broken = {"good": whole, "cut": whole[:100], "garbage": b"\xff" * 300}[profile]
    pixels = (np.arange(16 * 16 * 3) % 251).astype(np.uint8).reshape(16, 16, 3)
    settings = {"lossless": True} if kind == "WEBP" else {}
    plain, tagged = saved(pixels, kind, **settings), saved(pixels, kind, icc_profile=broken, **settings)
    assert len(tagged) > len(plain)
    np.testing.assert_array_equal(decoded(tagged), decoded(plain))


@pytest.mark.parametrize("extra", [
    chunk(b"gAMA", struct.pack(">I", 100_000)),
    chunk(b"sRGB", b"\7"),
    chunk(b"cHRM", bytes(5)),
    chunk(b"iCCP", b"x\0\0" + b"\xff" * 40),
    chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(1 << 22))),
    chunk(b"eXIf", b"MM\0*" + b"\xff" * 20),
    chunk(b"acTL", b"\xff" * 8),
])  # fmt: skip
def test_what_stands_beside_the_picture_is_not_read(extra: bytes) -> None:
    rows = bytes(range(27))
    plain, tagged = png(3, 3, rows), png(3, 3, rows, before=extra)
    np.testing.assert_array_equal(decoded(tagged), decoded(plain))


@pytest.mark.parametrize("data", [b"#?RADIANCE\n", b"#?RGBE\n", b"\x76\x2f\x31\x01\2\0\0\0"])
def test_hdr_pictures_are_told_where_they_belong(data: bytes) -> None:
    result = encode_job({"image": memoryview(data)}, {"format": "webp"})
    assert "ktx2-rgb9e5" in result.value["findings"][0]["message"]


# -- which way up -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_photographs_are_turned_as_viewers_turn_them(kind: str) -> None:
    pixels = (np.arange(16 * 24 * 3) % 249).astype(np.uint8).reshape(16, 24, 3)
    for wanted in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = wanted
        data = saved(pixels, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
        assert orientation(data) == wanted
        raw = decoded(data)
        assert raw.shape == (16, 24, 3)  # as glTF wants them
        seen = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
        np.testing.assert_array_equal(upright(raw, data), seen)
        done = convert(data, format="png")
        assert (done.width, done.height) == (seen.shape[1], seen.shape[0])


def test_damaged_exif_says_nothing() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(np.zeros((8, 8, 3), np.uint8), "JPEG", exif=exif)
    assert orientation(data) == 6
    rng = np.random.default_rng(5)
    for cut in range(0, len(data), 3):
        assert orientation(data[:cut]) in (1, 6)
    for _ in range(300):
        mutant = bytearray(data)
        for at in rng.integers(2, 80, 3):
            mutant[at] = rng.integers(256)
        assert 1 <= orientation(bytes(mutant)) <= 8
    assert orientation(b"") == 1


# -- sizes ------------------------------------------------------------------------------------------------------------

SIZES = [(1, 1), (1, 8192), (8192, 1), (3, 5), (4, 4), (31, 2)]


@pytest.mark.parametrize("form", [f for f in FORMATS if "uastc" not in f and "etc1s" not in f])
@pytest.mark.parametrize("size", SIZES)
def test_odd_sizes_of_nothing_but_transparency(form: str, size: tuple[int, int]) -> None:
    pixels = np.zeros((size[1], size[0], 4), np.uint8)
    done = convert(saved(pixels), format=form, level="fast", max_size=8192)
    # KTX2 are for GPUs, and come in whole blocks of 4 × 4 where that is no more than the image has.
    whole = tuple(side // 4 * 4 or side for side in size) if form.startswith("ktx2") else size
    assert (done.width, done.height) in (size, whole)
    assert done.found.candidate.psnr > 40


def test_headers_are_believed_before_pixels_are_asked_for() -> None:
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = PNG_MAGIC + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")
    for form in FORMATS:
        result = encode_job({"image": memoryview(bomb)}, {"format": form})
        assert [f["code"] for f in result.value["findings"]] == ["image.too-large"]
        assert not result.files


def test_bombs_end_at_the_sandbox(sandbox: Sandbox) -> None:
    """33 million pixels of nothing in 33 kB: within the limit on pixels, and within that on memory."""
    rows = zlib.compressobj(9)
    packed = b"".join([*(rows.compress(bytes(8193)) for _ in range(4096)), rows.flush()])
    header = struct.pack(">IIBBBBB", 8192, 4096, 8, 0, 0, 0, 0)
    bomb = PNG_MAGIC + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    assert len(bomb) < 100_000
    job = Job("cloudbaker.compute.textures.encode:encode_job", {"image": bomb}, {"format": "webp", "max_size": 64})
    outcome = sandbox.run(job)
    assert outcome.status in (Status.OK, Status.MEMORY), outcome.error
    if outcome.status is Status.OK:
        assert outcome.value["width"] == 64


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(["PNG", "JPEG", "WEBP"], 2)))
def test_one_type_inside_another_is_its_own_type(first: str, second: str) -> None:
    """Bytes after the end are not looked at: a polyglot is what its first bytes say."""
    small, other = (saved(np.full((4, 4, 3), n, np.uint8), k) for n, k in ((50, first), (200, second)))
    back = decoded(small + other)
    assert np.abs(back.astype(int) - 50).max() < 5
