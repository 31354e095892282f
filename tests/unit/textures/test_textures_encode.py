from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from cloudbaker.compute.textures import decode, webp
from cloudbaker.compute.textures.decode import ImageError, decode_image
from cloudbaker.compute.textures.encode import encode_image, encode_job
from cloudbaker.compute.textures.headers import PNG_MAGIC, ImageHeader, image_header
from cloudbaker.compute.textures.measure import channel_psnr, normal_error, psnr
from cloudbaker.compute.textures.options import EncodeOptions
from cloudbaker.compute.textures.prepare import scale
from cloudbaker.testing import shapes


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int,
    height: int,
    rows: bytes,
    *,
    depth: int = 8,
    color: int = 2,
    before: bytes = b"",
) -> bytes:
    """A PNG by hand, for what Pillow does not write. `rows` without filter bytes."""
    stride = len(rows) // height
    filtered = b"".join(b"\0" + rows[y * stride : (y + 1) * stride] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return PNG_MAGIC + chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(filtered)) + chunk(b"IEND", b"")


def saved(pixels: np.ndarray | Image.Image, kind: str = "PNG", **settings) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    out = io.BytesIO()
    image.save(out, kind, **settings)
    return out.getvalue()


def pixels_of(data: bytes) -> np.ndarray:
    return decode_image(data, image_header(data))


def photo(size: int = 128, channels: int = 3, seed: int = 1) -> np.ndarray:
    """Something like a photograph: smooth with detail, channels that go together."""
    noise = shapes.noise(size, seed=seed, first=4, octaves=4)
    tint = np.random.default_rng(seed).random(channels) * 0.3 + 0.7
    return np.clip(noise[..., None] * tint * 255, 0, 255).astype(np.uint8)


def normals(size: int = 128) -> np.ndarray:
    return shapes.normal_map(shapes.noise(size, seed=7), 6.0)


def metal_rough(size: int = 128) -> np.ndarray:
    """Channels that have nothing to do with each other, with hard edges."""
    rough = (shapes.noise(size, seed=3, octaves=5) * 255).astype(np.uint8)
    metal = np.where(shapes.noise(size, seed=4) > 0.5, 255, 0).astype(np.uint8)
    return np.stack([np.zeros_like(rough), rough, metal], axis=-1)


# ----------------------------------------------------------------------------------------------------- what is stored


def test_colour_becomes_smaller_and_stays_close():
    source = photo()
    data = saved(source)
    done = encode_image(data)
    assert done.mime == "image/webp"
    assert len(done.data) < len(data) / 3
    back = pixels_of(done.data)
    assert psnr(source, back) == pytest.approx(done.psnr_db)
    assert done.psnr_db > 35
    assert (done.lossless, done.kept, done.angle_degrees) == (False, False, None)
    assert done.reason == "lossy, quality 85"


def test_quality_is_raised_where_it_shows():
    """Red on blue at single pixels: lossy WebP halves the resolution of chroma."""
    source = np.zeros((64, 64, 3), np.uint8)
    rng = np.random.default_rng(0)
    source[..., 0] = rng.integers(0, 2, (64, 64)) * 255
    source[..., 2] = 255 - source[..., 0]
    done = encode_image(saved(source))
    assert done.lossless
    np.testing.assert_array_equal(pixels_of(done.data), source)


def test_alpha_is_exact_and_so_are_colours_under_it():
    source = photo(channels=4)
    source[..., 3] = (shapes.noise(128, seed=9) * 255).astype(np.uint8)
    source[:40, :40] = (250, 20, 20, 0)
    done = encode_image(saved(source))
    back = pixels_of(done.data)
    np.testing.assert_array_equal(back[..., 3], source[..., 3])
    # An opaque material ignores alpha and shows what is under it.
    assert np.abs(back[5:30, 5:30, :3].astype(int) - source[5:30, 5:30, :3]).max() < 30


def test_alpha_that_says_nothing_is_dropped():
    opaque = np.concatenate([photo(), np.full((128, 128, 1), 255, np.uint8)], axis=-1)
    done = encode_image(saved(opaque))
    assert not image_header(done.data).has_alpha
    assert done.data == encode_image(saved(photo())).data


def test_flat_colours_are_stored_losslessly_where_that_is_smaller():
    source = np.zeros((256, 256, 3), np.uint8)
    source[:, 128:] = (200, 30, 90)
    done = encode_image(saved(source))
    assert done.lossless
    np.testing.assert_array_equal(pixels_of(done.data), source)


def test_normal_maps_are_always_lossless():
    source = normals()
    done = encode_image(saved(source), EncodeOptions(slot_class="normal", quality=1))
    assert done.lossless
    assert done.psnr_db is None
    assert (done.angle_degrees, done.angle_degrees_p99) == (0.0, 0.0)
    np.testing.assert_array_equal(pixels_of(done.data), source)


def test_data_holds_its_floor_in_every_channel():
    source = metal_rough()
    done = encode_image(saved(source), EncodeOptions(slot_class="data"))
    worst = min(channel_psnr(source, pixels_of(done.data)))
    assert worst >= 42
    assert done.psnr_db == pytest.approx(worst)
    assert "multiples of 4" in done.reason
    lossy = webp._webp(source, EncodeOptions(slot_class="data"), 100)
    assert lossy.psnr < 42  # which is why


def test_data_of_one_grey_may_be_lossy():
    grey = np.repeat(photo(256, channels=1), 3, axis=-1)
    done = encode_image(saved(grey), EncodeOptions(slot_class="data"))
    assert done.reason.startswith("lossy")
    assert done.psnr_db >= 42


def test_zero_half_and_full_are_kept_exactly_in_data():
    source = np.zeros((32, 32, 3), np.uint8)
    source[::2] = (0, 128, 255)
    source[1::2, ::3] = (255, 7, 128)
    done = encode_image(saved(source), EncodeOptions(slot_class="data"))
    back = pixels_of(done.data)
    for value in (0, 128, 255):
        assert (back[source == value] == value).all()


def test_the_same_image_gives_the_same_bytes():
    for slot_class in ("color", "normal", "data"):
        options = EncodeOptions(slot_class=slot_class, max_size=100)
        assert encode_image(saved(photo()), options) == encode_image(saved(photo()), options)


# ------------------------------------------------------------------------------------------------------- what is kept


def test_what_would_not_get_smaller_is_kept():
    data = saved(normals(), "JPEG", quality=50)
    done = encode_image(data, EncodeOptions(slot_class="normal"))
    assert done.kept
    assert done.data is None
    assert (done.mime, done.width, done.height) == ("image/jpeg", 128, 128)
    assert "would take" in done.reason


def test_a_lossy_image_is_not_made_worse_for_a_few_bytes():
    data = encode_image(saved(photo(256)), EncodeOptions(quality=70)).data
    assert encode_image(data).reason.startswith("it is WebP already")
    jpeg = saved(photo(256), "JPEG", quality=60)
    gained = encode_image(jpeg, EncodeOptions(quality=60, min_gain=0.0))
    assert gained.data is not None
    assert encode_image(jpeg, EncodeOptions(quality=60, min_gain=0.999)).reason.startswith("lossy already")


def test_other_types_are_stored_as_they_are():
    header = ImageHeader("image/ktx2", 8, 8, False, 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "image_header", lambda data: header)
        done = encode_image(b"\xabKTX 20\xbb\r\n\x1a\n")
    assert done.kept
    assert done.mime == "image/ktx2"


def test_keep_keeps_formats():
    data = saved(photo())
    assert encode_image(data, EncodeOptions(format="keep")).reason == "the recipe keeps formats"
    small = encode_image(data, EncodeOptions(format="keep", max_size=64))
    assert (small.mime, small.width, small.lossless) == ("image/png", 64, True)
    np.testing.assert_array_equal(pixels_of(small.data), scale(photo(), 64, 64, "color"))
    jpeg = encode_image(saved(photo(), "JPEG"), EncodeOptions(format="keep", max_size=64))
    assert (jpeg.mime, jpeg.lossless) == ("image/jpeg", False)
    assert jpeg.psnr_db > 35


def test_webp_ends_somewhere():
    data = saved(np.zeros((1, 16400, 3), np.uint8))
    done = encode_image(data, EncodeOptions(max_size=20000))
    assert "16383" in done.reason


# ------------------------------------------------------------------------------------------------------------- scaling


@pytest.mark.parametrize(
    ("size", "max_size", "expected"),
    [((200, 100), 64, (64, 32)), ((100, 200), 64, (32, 64)), ((64, 64), 64, (64, 64)), ((300, 1), 64, (64, 1))],
)
def test_sizes_fit_and_keep_their_shape(size, max_size, expected):
    data = saved(Image.new("RGB", size, (9, 99, 199)))
    done = encode_image(data, EncodeOptions(max_size=max_size))
    assert (done.width, done.height) == expected
    assert (done.source_width, done.source_height) == size
    if done.data is not None:
        assert pixels_of(done.data).shape[:2] == expected[::-1]


def test_nothing_is_scaled_up():
    done = encode_image(saved(photo(32)), EncodeOptions(max_size=2048))
    assert (done.width, done.height) == (32, 32)


def test_colours_are_averaged_as_light():
    """A checkerboard of black and white is half the light: 188 in sRGB, not 128."""
    board = ((np.indices((64, 64)).sum(axis=0) % 2) * 255).astype(np.uint8)[..., None].repeat(3, axis=-1)
    assert np.abs(scale(board, 8, 8, "color")[2:6, 2:6].astype(int) - 188).max() <= 1
    assert np.abs(scale(board, 8, 8, "data")[2:6, 2:6].astype(int) - 128).max() <= 1


def test_hidden_colours_do_not_bleed_into_visible_ones():
    source = np.zeros((64, 64, 4), np.uint8)
    source[..., :3] = (255, 0, 0)  # red, invisible
    source[16:48, 16:48] = (0, 255, 0, 255)  # a green leaf
    small = scale(source, 16, 16, "color")
    visible = small[small[..., 3] > 40]
    assert len(visible) > 40
    assert visible[:, 0].max() <= 2
    assert small[0, 0, :3].tolist() == [255, 0, 0]


def test_data_channels_do_not_weigh_each_other():
    """Pillow would premultiply RGBA by its fourth channel, which here is data like the others."""
    source = np.zeros((64, 64, 4), np.uint8)
    source[..., 1] = 200
    source[::2, :, 3] = 255
    small = scale(source, 16, 16, "data")
    assert np.abs(small[..., 1].astype(int) - 200).max() <= 1
    assert (small[..., 0] == 0).all()


def test_normals_are_unit_length_after_scaling():
    source = shapes.normal_map(shapes.noise(256, seed=7, octaves=7), 60.0)
    small = scale(source, 64, 64, "normal")
    assert np.abs(np.linalg.norm(small.astype(float) / 127.5 - 1, axis=-1) - 1).max() < 0.02
    assert np.linalg.norm(scale(source, 64, 64, "data").astype(float) / 127.5 - 1, axis=-1).min() < 0.9
    area = source.reshape(64, 4, 64, 4, 3).astype(float).mean(axis=(1, 3))
    assert normal_error(np.rint(area).astype(np.uint8), small).mean < 6


def test_opposite_normals_that_cancel_point_outwards():
    source = np.zeros((4, 4, 3), np.uint8)
    source[::2] = (255, 128, 128)
    source[1::2] = (0, 127, 127)
    assert scale(source, 1, 1, "normal")[0, 0].tolist() in ([128, 128, 255], [127, 127, 255], [128, 127, 255])


# ----------------------------------------------------------------------------------- traps of image input, one by one


def test_sixteen_bit_grey_is_scaled_not_clipped():
    values = np.array([[0, 128, 256, 32768, 65535]], np.uint16)
    data = png(5, 1, values.astype(">u2").tobytes(), depth=16, color=0)
    assert pixels_of(data)[0, :, 0].tolist() == [0, 0, 1, 128, 255]
    assert encode_image(data).source_bit_depth == 16


def test_sixteen_bit_grey_with_a_transparent_value():
    values = np.array([[0, 32768, 65535]], np.uint16)
    data = png(3, 1, values.astype(">u2").tobytes(), depth=16, color=0, before=chunk(b"tRNS", struct.pack(">H", 32768)))
    assert pixels_of(data)[0, :, 3].tolist() == [255, 0, 255]


def test_sixteen_bit_colour_becomes_eight():
    values = np.array([[[0, 32768, 65535], [257, 514, 40000]]], np.uint16)
    data = png(2, 1, values.astype(">u2").tobytes(), depth=16, color=2)
    back = pixels_of(data).astype(int)
    assert np.abs(back - np.array([[[0, 128, 255], [1, 2, 155]]])).max() <= 1


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grey_of_few_bits(depth):
    data = png(2, 1, bytes([0b01000000 if depth == 1 else 0x0F if depth == 4 else 0b00110000]), depth=depth, color=0)
    assert pixels_of(data)[0].tolist() == [[0, 0, 0], [255, 255, 255]]


def test_a_palette_with_transparency():
    palette = bytes([10, 20, 30, 40, 50, 60, 70, 80, 90])
    data = png(3, 1, bytes([0, 1, 2]), color=3, before=chunk(b"PLTE", palette) + chunk(b"tRNS", bytes([0, 128])))
    assert pixels_of(data)[0].tolist() == [[10, 20, 30, 0], [40, 50, 60, 128], [70, 80, 90, 255]]


def test_a_palette_index_out_of_range_is_no_crash():
    data = png(3, 1, bytes([0, 1, 200]), color=3, before=chunk(b"PLTE", bytes(6)))
    assert pixels_of(data).shape == (1, 3, 3)


def test_one_transparent_colour():
    transparent = chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))
    data = png(2, 1, bytes([1, 2, 3, 4, 5, 6]), before=transparent)
    assert pixels_of(data)[0].tolist() == [[1, 2, 3, 0], [4, 5, 6, 255]]


def test_grey_with_alpha():
    data = png(2, 1, bytes([9, 255, 7, 100]), color=4)
    assert pixels_of(data)[0].tolist() == [[9, 9, 9, 255], [7, 7, 7, 100]]


def test_cmyk_is_converted():
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    back = pixels_of(saved(cmyk, "JPEG", quality=95))
    assert back.shape == (16, 16, 3)
    assert back[8, 8, 0] > 200
    assert back[8, 8, 1:].max() < 60


def test_exif_orientation_is_not_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    data = saved(photo()[:64], "JPEG", exif=exif.tobytes(), quality=95)
    done = encode_image(data, EncodeOptions(max_size=64))
    assert (done.width, done.height) == (64, 32)
    assert Image.open(io.BytesIO(done.data)).getexif() == {}


def test_gamma_and_profiles_are_ignored():
    source = photo(32)
    plain = saved(source)
    at = PNG_MAGIC.__len__() + 25
    gamma = chunk(b"gAMA", struct.pack(">I", 100000))
    bad_profile = chunk(b"iCCP", b"x\0\0" + b"this is not deflate")
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80 << 20)))  # Pillow raises on this one
    marked = plain[:at] + gamma + bad_profile + bomb + plain[at:]
    np.testing.assert_array_equal(pixels_of(marked), source)
    assert encode_image(marked).data == encode_image(plain).data

    jpeg = saved(source, "JPEG", icc_profile=b"not a profile at all")
    np.testing.assert_array_equal(pixels_of(jpeg), pixels_of(saved(source, "JPEG")))


def test_a_jpeg_keeps_what_says_how_its_colours_are_stored():
    """APP14 (Adobe): without it RGB stored as RGB would be taken for YCbCr."""
    source = photo(32)
    data = saved(source, "JPEG", keep_rgb=True, quality=100)
    assert np.abs(pixels_of(data).astype(int) - source).max() < 12


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_truncated_files_are_damaged(kind):
    data = saved(photo(), kind)
    for part in (0.5, 0.9):
        with pytest.raises(ImageError, match="damaged") as caught:
            encode_image(data[: int(len(data) * part)])
        assert caught.value.code == "image.damaged"
        assert caught.value.remedy


def test_a_damaged_checksum_is_noticed():
    data = bytearray(saved(photo()))
    at = data.index(b"IDAT")
    data[at + 200] ^= 0xFF
    with pytest.raises(ImageError, match="damaged"):
        encode_image(bytes(data))


def test_a_huge_header_is_refused_before_any_decode(monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *a, **k: pytest.fail("decoded"))
    header = struct.pack(">IIBBBBB", 65535, 65535, 8, 2, 0, 0, 0)
    data = PNG_MAGIC + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="65535 × 65535") as caught:
        encode_image(data)
    assert caught.value.code == "image.too-large"
    assert "image_pixels" in caught.value.remedy


def test_own_limit_is_the_only_one():
    """Pillow's own warning at 89 megapixels would be an error here, and its global stays as it was."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = 100
    try:
        assert pixels_of(saved(photo())).shape == (128, 128, 3)
        assert Image.MAX_IMAGE_PIXELS == 100
    finally:
        Image.MAX_IMAGE_PIXELS = before


@pytest.mark.parametrize("data", [b"", b"GIF89a" + bytes(20), b"<svg/>", b"glTF", bytes(64)])
def test_what_is_no_image_is_refused(data):
    with pytest.raises(ImageError) as caught:
        encode_image(data)
    assert caught.value.code == "image.unreadable"


def test_a_header_that_lies_about_the_type_is_refused():
    jpeg = saved(photo(), "JPEG")
    lie = ImageHeader("image/png", 128, 128, False, 8)
    with pytest.raises(ImageError, match="damaged"):
        decode_image(jpeg, lie)
    with pytest.raises(ImageError, match="differ"):
        decode_image(jpeg, ImageHeader("image/jpeg", 64, 64, False, 8))


def test_only_the_first_frame_of_an_animation_counts():
    first, second = Image.fromarray(photo(32)), Image.new("RGB", (32, 32), (1, 2, 3))
    for kind in ("PNG", "WEBP"):
        data = saved(first, kind, save_all=True, append_images=[second], lossless=True)
        np.testing.assert_array_equal(pixels_of(data), photo(32))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "WEBP"]), st.integers(0, 2**32 - 1))
def test_mutated_files_end_in_an_image_or_the_deliberate_error(kind, seed):
    rng = np.random.default_rng(seed)
    data = bytearray(saved(photo(32), kind))
    for _ in range(int(rng.integers(1, 8))):
        data[int(rng.integers(0, len(data)))] = int(rng.integers(0, 256))
    try:
        done = encode_image(bytes(data), EncodeOptions(max_pixels=1 << 16, max_size=16))
    except ImageError:
        return
    assert done.data is None or pixels_of(done.data).shape[:2] == (done.height, done.width)


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 24), st.integers(1, 24), st.sampled_from([3, 4]))),
    st.sampled_from(["color", "normal", "data"]),
    st.integers(1, 32),
)
def test_any_picture_meets_the_floor_of_its_class(pixels, slot_class, max_size):
    options = EncodeOptions(slot_class=slot_class, max_size=max_size)
    done = encode_image(saved(pixels), options)
    assert max(done.width, done.height) <= max(max_size, 1) or done.kept
    if done.data is None:
        return
    back = pixels_of(done.data)
    assert back.shape[:2] == (done.height, done.width)
    if slot_class == "normal":
        assert done.lossless
    elif not done.lossless:
        assert done.psnr_db >= (options.color_floor_db if slot_class == "color" else options.data_floor_db)


# ------------------------------------------------------------------------------------------------------------- the job


def test_the_job_returns_values_for_the_report_and_the_image():
    data = saved(normals())
    params = {"slot_class": "normal", "max_size": 64, "quality": 85, "format": "webp"}
    result = encode_job({"image": memoryview(data)}, params)
    assert set(result.files) == {"image"}
    assert result.value["mime"] == "image/webp"
    assert (result.value["width"], result.value["source_width"]) == (64, 128)
    assert result.value["device"] == "cpu"
    assert result.value["findings"] == []
    assert result.value["angle_degrees"] == 0.0
    assert result.value["psnr_db"] is None


def test_the_job_keeps_without_a_file():
    data = saved(normals(), "JPEG", quality=50)
    result = encode_job({"image": memoryview(data)}, {"slot_class": "normal"})
    assert result.files == {}
    assert result.value["kept"] is True


def test_the_job_turns_a_bad_image_into_a_finding():
    result = encode_job({"image": memoryview(saved(photo(), "JPEG")[:500])}, {"slot_class": "color"})
    (finding,) = result.value["findings"]
    assert finding["code"] == "image.damaged"
    assert finding["severity"] == "error"
    assert result.value["kept"] is True
    assert result.files == {}
    result = encode_job({"image": memoryview(saved(photo()))}, {"limits": {"image_pixels": 100}})
    assert result.value["findings"][0]["code"] == "image.too-large"


@pytest.mark.parametrize(
    "bad", [{"slot_class": "albedo"}, {"format": "bmp"}, {"level": "4"}, {"quality": 0}, {"max_size": 0}]
)
def test_options_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        EncodeOptions(**bad)


def test_warnings_of_the_decoder_do_not_leak():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        pixels_of(saved(photo()))
    assert seen == []
