"""Environment maps: readers, writers, cube maps, and what is not light."""

from __future__ import annotations

import io
import struct

import numpy as np
import OpenEXR
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cloudbaker.compute.job import Job, Status
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.compute.textures.astc_blocks import decode_astc_hdr
from cloudbaker.compute.textures.decode import ImageError
from cloudbaker.compute.textures.environment import mip_chain_light, prefilter, scale_light, to_cube
from cloudbaker.compute.textures.exr import exr_header, read_exr
from cloudbaker.compute.textures.hdr import BRIGHTEST, HdrOptions, cleaned, encode_hdr, encode_hdr_job, read_light
from cloudbaker.compute.textures.ktx2 import read_ktx2
from cloudbaker.compute.textures.measure import light_psnr
from cloudbaker.compute.textures.radiance import radiance_header, read_radiance, write_radiance
from cloudbaker.compute.textures.rgb9e5 import LARGEST, from_rgb9e5, to_rgb9e5
from cloudbaker.testing import shapes

HEAD = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n"


def panorama(width: int = 64) -> np.ndarray:
    """A sky with a sun, as floats."""
    noise = shapes.noise(64, seed=8)[: width // 2, :width, None]
    out = (np.exp(4 * noise) * (1.0, 0.8, 0.6)).astype(np.float32)
    out[4:6, 10:12] = 30_000
    return out


def directions(width: int) -> np.ndarray:
    """(width / 2, width, 3): where each pixel of a panorama looks, by three.js' formula."""
    u, v = (np.arange(width) + 0.5) / width, (np.arange(width // 2) + 0.5) / (width // 2)
    around, above = (u - 0.5) * 2 * np.pi, (0.5 - v)[:, None] * np.pi
    return np.stack(
        [np.cos(above) * np.cos(around), np.sin(above) * np.ones_like(around), np.cos(above) * np.sin(around)], -1
    )


def exr(pixels: np.ndarray, names: str = "RGB", **header) -> bytes:
    target = io.BytesIO()
    planes = {name: np.ascontiguousarray(pixels[..., at]) for at, name in enumerate(names)}
    OpenEXR.File({"type": OpenEXR.scanlineimage, **header}, planes).write(target)
    return target.getvalue()


# -- Radiance ---------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.sampled_from([1, 2, 7, 8, 9, 40, 300]), st.just(3)),
        elements=st.sampled_from([0.0, 1e-6, 0.25, 0.5, 1.0, 0.999, 3.0, 255.7, 65504.0]),
    )
)
def test_what_is_written_is_read(pixels: np.ndarray) -> None:
    data = write_radiance(pixels)
    back = read_radiance(data)
    # The brightest channel keeps 8 bits, and shares its exponent with the others: half a step of 1/128 at most.
    assert (np.abs(back - pixels) <= pixels.max(axis=-1, keepdims=True) / 255).all()
    assert write_radiance(back) == data


def test_runs_make_it_small() -> None:
    flat = np.full((16, 1024, 3), 0.5, np.float32)
    assert len(write_radiance(flat)) < 16 * 80
    np.testing.assert_array_equal(read_radiance(write_radiance(flat)), flat)


def test_older_runs_and_plain_pixels_are_read() -> None:
    red, blue = bytes((128, 0, 0, 129)), bytes((0, 0, 128, 129))
    plain = HEAD + b"-Y 1 +X 3\n" + red + blue + red
    np.testing.assert_array_equal(read_radiance(plain), [[[1, 0, 0], [0, 0, 1], [1, 0, 0]]])
    runs = HEAD + b"-Y 1 +X 600\n" + red + bytes((1, 1, 1, 85)) + bytes((1, 1, 1, 2)) + blue + bytes((1, 1, 1, 1))
    back = read_radiance(runs)
    assert (back[0, :598] == (1, 0, 0)).all()  # 1 + 85 + 2 * 256
    assert (back[0, 598:] == (0, 0, 1)).all()


@pytest.mark.parametrize(("size", "flip"), [(b"+Y 2 +X 2", (0,)), (b"-Y 2 -X 2", (1,)), (b"+Y 2 -X 2", (0, 1))])
def test_turned_pictures_are_turned_back(size: bytes, flip: tuple[int, ...]) -> None:
    body = bytes(range(128, 144))
    upright, turned = (read_radiance(HEAD + words + b"\n" + body) for words in (b"-Y 2 +X 2", size))
    np.testing.assert_array_equal(turned, np.flip(upright, flip))


def test_header_lines() -> None:
    lines = (
        b"#?RGBE",
        b"# made by hand",
        b"EXPOSURE=2",
        b"EXPOSURE= 0.25",
        b"FORMAT=32-bit_rle_rgbe",
        b"",
        b"-Y 1 +X 1",
    )
    data = b"".join(line + b"\r\n" for line in lines) + b"\1\2\3\x80"
    header = radiance_header(data)
    assert (header.width, header.height, header.exposure) == (1, 1, 0.5)
    assert read_radiance(data).shape == (1, 1, 3)
    assert read_light(data)[1][0].code == "hdr.exposure"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a Radiance"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", "does not end"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_xyze\n\n-Y 1 +X 1\n1234", "32-bit_rle_xyze"),
        (HEAD + b"+X 1 -Y 1\n1234", "column by column"),
        (HEAD + b"-Y 0 +X 1\n", "0 pixels|1 × 0"),
        (HEAD + b"-Y 1 +X 1", "does not say its size"),
        (HEAD + b"-Y one +X 1\n1234", "does not say its size"),
        (b"#?RGBE\nEXPOSURE=nan\n\n-Y 1 +X 1\n1234", "no exposure"),
        (b"#?RGBE\nEXPOSURE=x\n\n-Y 1 +X 1\n1234", "no number"),
        (HEAD + b"-Y 999999999 +X 999999999\n1234", "ends too early"),
        (HEAD + b"-Y 1 +X 2\n1234", "ends too early"),
        (HEAD + b"-Y 1 +X 2\n\1\1\1\5\1\1\1\5", "a run leaves"),
        (HEAD + b"-Y 1 +X 2\n\5\5\5\5\1\1\1\5", "a run leaves"),
        (HEAD + b"-Y 1 +X 8\n\2\2\0\7", "another width"),
        (HEAD + b"-Y 1 +X 8\n\2\2\0\x08\x85\1\x85\1", "a run leaves"),
        (HEAD + b"-Y 1 +X 8\n\2\2\0\x08\0", "no pixels"),
        (HEAD + b"-Y 1 +X 8\n\2\2\0\x08\x05ab", "ends too early"),
        (HEAD + b"-Y 1 +X 8\n\2\2\0\x08\x88\1", "damaged in row 0"),
        (HEAD + b"-Y 1 +X 1\n1234" + bytes(81), "goes on for 81"),
    ],
)
def test_damaged_pictures_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_radiance(data)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 2e38])
def test_only_light_is_written(value: float) -> None:
    with pytest.raises(ValueError, match="finite light"):
        write_radiance(np.full((1, 1, 3), value, np.float32))


# -- OpenEXR ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.uint32])
@pytest.mark.parametrize("compression", [OpenEXR.NO_COMPRESSION, OpenEXR.ZIP_COMPRESSION, OpenEXR.PIZ_COMPRESSION])
def test_exr_is_read_exactly(kind: type, compression) -> None:
    pixels = panorama().astype(kind)
    data = exr(pixels, compression=compression)
    header = exr_header(data)
    assert (header.width, header.height, header.color, header.rec_709) == (64, 32, ("R", "G", "B"), True)
    assert header.pixel_bytes == 3 * pixels.itemsize
    np.testing.assert_array_equal(read_exr(data, header), pixels.astype(np.float32))


def test_exr_in_tiles_larger_than_the_picture() -> None:
    tiles = OpenEXR.TileDescription()
    tiles.xSize = tiles.ySize = 128
    data = exr(panorama(), type=OpenEXR.tiledimage, tiles=tiles)
    np.testing.assert_array_equal(read_light(data)[0], panorama())


def test_exr_of_grey_of_a_layer_and_of_other_colours() -> None:
    pixels = panorama()
    grey = exr(pixels, "Y")
    np.testing.assert_array_equal(read_light(grey)[0], pixels[..., :1].repeat(3, -1))
    target = io.BytesIO()
    planes = {f"View.Combined.{c}": np.ascontiguousarray(pixels[..., at]) for at, c in enumerate("RGB")}
    OpenEXR.File({"type": OpenEXR.scanlineimage}, {**planes, "Depth.Z": planes["View.Combined.R"]}).write(target)
    np.testing.assert_array_equal(read_light(target.getvalue())[0], pixels)
    aces = (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767)
    (finding,) = read_light(exr(pixels, chromaticities=aces))[1]
    assert finding.code == "hdr.primaries"


def test_exr_that_is_none_is_refused() -> None:
    pixels = panorama()
    good = exr(pixels)
    for data, reason in [
        (good[:3], "neither"),
        (good[:60], "header of the .exr"),
        (good[:9], "inside its header"),
        (b"\x76\x2f\x31\x01" + bytes(40), "unknown version"),
        (good[:4] + struct.pack("<I", 2 | 0x800) + good[8:], "deep"),
        (good[:4] + struct.pack("<I", 2 | 0x1000) + good[8:], "several parts"),
        (exr(pixels, "ABC"), "no channels R, G and B"),
        (good[: len(good) // 2], "damaged"),
        (good[:-1], "damaged"),
    ]:
        with pytest.raises(ImageError, match=reason):
            read_light(data)


def test_sizes_are_looked_at_before_pixels() -> None:
    with pytest.raises(ImageError, match="100000 × 100000") as caught:
        read_light(HEAD + b"-Y 100000 +X 100000\n")
    assert caught.value.code == "image.too-large"
    good = exr(panorama())
    at = good.index(b"dataWindow\0box2i\0") + 21
    huge = good[:at] + struct.pack("<4i", 0, 0, 99_999, 99_999) + good[at + 16 :]
    with pytest.raises(ImageError, match="100000 × 100000"):
        read_light(huge)
    with pytest.raises(ImageError, match="as many channels"):
        read_light(exr(panorama()[..., [0] * 9], "RGBabcdef"), max_pixels=64 * 32)


# -- what is not light ------------------------------------------------------------------------------------------------


def test_bad_values_become_light_and_are_counted() -> None:
    pixels = panorama()
    pixels[0, 0], pixels[1, 1], pixels[2, 2], pixels[3, 3] = np.nan, np.inf, -5, 1e9
    out, (finding,) = cleaned(pixels)
    assert (out[0, 0], out[1, 1], out[2, 2], out[3, 3]) == pytest.approx((0, BRIGHTEST, 0, BRIGHTEST))
    np.testing.assert_array_equal(out[8:], pixels[8:])
    assert finding.code == "hdr.clamped"
    assert "3 NaN, 3 infinite, 3 negative, 3 above 65504" in finding.message
    value = encode_hdr_job({"image": memoryview(exr(pixels))}, {"format": "ktx2-astc-hdr", "level": "fast"}).value
    assert [f["code"] for f in value["findings"]] == ["hdr.clamped"]
    assert value["psnr_db"] > 30


def test_a_picture_of_nan_is_damaged() -> None:
    pixels = panorama()
    pixels[:1] = np.nan
    result = encode_hdr_job({"image": memoryview(exr(pixels))}, {})
    assert result.value["findings"][0]["code"] == "hdr.not-light"
    assert not result.files


def test_minus_infinity_is_dark() -> None:
    pixels = panorama()
    pixels[0, 0] = -np.inf
    assert cleaned(pixels)[0][0, 0].max() == 0


# -- formats ----------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float32, (5, 3), elements=st.floats(0, 1e6, width=32)))
def test_shared_exponents(pixels: np.ndarray) -> None:
    back = from_rgb9e5(to_rgb9e5(pixels))
    wanted = np.minimum(pixels, LARGEST)
    assert (np.abs(back - wanted) <= np.maximum(wanted.max(axis=-1, keepdims=True) / 511, 2.0**-25)).all()
    np.testing.assert_array_equal(to_rgb9e5(back), to_rgb9e5(from_rgb9e5(to_rgb9e5(back))))


def test_shared_exponents_by_the_specification() -> None:
    words = to_rgb9e5(np.array([[1, 0, 0], [0, 1, 0.5], [LARGEST] * 3, [0, 0, 0]], np.float32))
    # 1 is mantissa 256 with exponent 16: 256 · 2^(16 - 15 - 9)
    assert words.tolist() == [16 << 27 | 256, 16 << 27 | 128 << 18 | 256 << 9, 0xFFFFFFFF, 0]
    with pytest.raises(ValueError, match="finite light"):
        to_rgb9e5(np.array([[np.nan, 0, 0]], np.float32))


def test_hdr_is_scaled_down_and_never_up() -> None:
    source = panorama()
    done = encode_hdr(write_radiance(source), HdrOptions(max_size=32))
    assert (done.width, done.height, done.source_width, done.mime) == (32, 16, 64, "image/vnd.radiance")
    back = read_radiance(done.data)
    assert back.mean() == pytest.approx(source.mean(), rel=0.01)  # the sun's light is spread, not lost
    again = encode_hdr(write_radiance(source), HdrOptions(max_size=4096))
    assert read_radiance(again.data).shape == source.shape
    assert again.data == write_radiance(read_radiance(write_radiance(source)))


@pytest.mark.parametrize(("block", "least"), [(4, 38), (6, 32)])
def test_astc_hdr_holds_the_light(block, least: float) -> None:
    source = exr(panorama())
    done = encode_hdr(source, HdrOptions("ktx2-astc-hdr", block=block))
    file = read_ktx2(done.data)
    assert (file.codec.name, file.codec.hdr, file.srgb) == (f"astc-{block}x{block}-hdr", True, False)
    assert done.gpu_bytes == file.gpu_bytes
    back = decode_astc_hdr(file.levels[0], 64, 32, block=block).astype(np.float32)
    assert file.metadata["KTXorientation"] == b"ru\0"  # the lowest row first, as three.js wants it
    assert light_psnr(panorama()[::-1], back) == pytest.approx(done.psnr_db)
    assert done.psnr_db > least


def test_cube_maps_have_faces_and_mipmaps() -> None:
    done = encode_hdr(exr(panorama()), HdrOptions("ktx2-rgb9e5", cube=True))
    file = read_ktx2(done.data)
    assert (file.faces, file.width, len(file.levels)) == (6, 16, 5)
    words = [np.frombuffer(level, "<u4").reshape(6, -1) for level in file.levels]
    cube = from_rgb9e5(words[0])
    mean = from_rgb9e5(words[4]).mean(axis=(0, 1))
    assert mean == pytest.approx(cube.mean(axis=(0, 1)), rel=0.02)
    single = encode_hdr(exr(panorama()), HdrOptions("ktx2-astc-hdr", cube=True, mips=False, level="fast"))
    assert single.levels == 1


def test_what_is_no_panorama_becomes_no_cube() -> None:
    with pytest.raises(ImageError, match="twice as wide") as caught:
        encode_hdr(exr(panorama()[:, :40]), HdrOptions("ktx2-rgb9e5", cube=True))
    assert caught.value.code == "hdr.not-a-panorama"


@pytest.mark.parametrize(
    "wrong", [{"format": "png"}, {"cube": True}, {"prefilter": True}, {"level": "x"}, {"block": 8}, {"max_size": 1}]
)
def test_options_are_checked(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"format|cube|level|block|max_size"):
        HdrOptions(**wrong)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (5, 3)])
@pytest.mark.parametrize("form", ["hdr", "ktx2-rgb9e5", "ktx2-astc-hdr"])
def test_odd_sizes(size: tuple[int, int], form) -> None:
    pixels = np.full((size[1], size[0], 3), 2.0, np.float32)
    done = encode_hdr(write_radiance(pixels), HdrOptions(form))
    assert (done.width, done.height) == size
    assert done.psnr_db > 50


def test_jobs_run_in_the_sandbox(sandbox: Sandbox) -> None:
    source = panorama()
    jobs = [
        Job("cloudbaker.compute.textures.hdr:encode_hdr_job", {"image": data}, params)
        for data in (write_radiance(source), exr(source, compression=OpenEXR.PIZ_COMPRESSION))
        for params in ({"format": "hdr"}, {"format": "ktx2-astc-hdr", "cube": True, "level": "fast"})
    ]
    for outcome in sandbox.run_all(jobs):
        assert outcome.status is Status.OK, outcome.error
        assert outcome.value["findings"] == []
        assert outcome.files["image"]


# -- panoramas and cubes ----------------------------------------------------------------------------------------------


def test_a_cube_shows_what_the_panorama_shows() -> None:
    """Light that is its own direction: each texel must look where the formula of cube maps says."""
    cube = to_cube((directions(256) + 2).astype(np.float32), 16)
    at = (np.arange(16) + 0.5) / 8 - 1
    s, t = np.meshgrid(at, at)
    one = np.ones_like(s)
    # OpenGL ES 3.0, table 3.21, solved for the direction; then x changes its sign, as three.js does
    faces = [(one, -t, -s), (-one, -t, s), (s, one, t), (s, -one, -t), (s, -t, one), (-s, -t, -one)]
    for face, axes in enumerate(faces):
        wanted = np.stack(axes, -1)
        wanted = wanted / np.linalg.norm(wanted, axis=-1, keepdims=True) * (-1, 1, 1)
        # each texel is the mean of four points in it, and the panorama's columns are 1.4° wide
        np.testing.assert_allclose(cube[face] - 2, wanted, atol=0.006)


def test_scaling_goes_on_around_the_edge_and_stays_light() -> None:
    source = panorama()
    source[:, 0] = 1000
    small = scale_light(source, 16, 8, around=True)
    assert small[:, -1].mean() > 20  # the bright column lies between the first pixel and the last
    assert scale_light(source, 16, 8)[:, -1].mean() < small[:, -1].mean()
    assert small.min() > 0
    assert scale_light(source, 64, 32) is source


def test_rough_surfaces_mirror_the_mean() -> None:
    even = np.full((6, 128, 128, 3), 3.0, np.float32)
    for level in prefilter(even, samples=16):
        np.testing.assert_allclose(level, 3, rtol=1e-5)
    cube = to_cube((directions(256) + 2).astype(np.float32), 128)
    rough, plain = prefilter(cube), mip_chain_light(cube)
    assert [level.shape for level in rough] == [level.shape for level in plain[:5]]
    spread = [float(level[..., 1].std()) for level in rough]
    assert spread == sorted(spread, reverse=True)
    # The last is for roughness 1, where GGX is Lambert's lobe: it leaves 2/3 of light that changes as a cosine.
    assert spread[4] / spread[0] == pytest.approx(2 / 3, abs=0.02)
    assert [float(level.mean()) for level in rough] == pytest.approx([2.0] * 5, abs=0.01)
    np.testing.assert_array_equal(rough[0], cube)


def test_measure_of_light() -> None:
    source = panorama()
    assert light_psnr(source, source) == np.inf
    figures = [light_psnr(source, source * np.float32(scale)) for scale in (1.001, 1.01, 1.1)]
    assert figures == sorted(figures, reverse=True)
    # Half of eight bits' range at one exposure of eleven is not: a factor of two is far off at every one.
    assert light_psnr(source, source * 2) < 25
