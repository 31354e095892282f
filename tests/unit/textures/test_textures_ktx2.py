"""KTX2 files against the specification: what is written, field by field, and what is refused."""

from __future__ import annotations

import math
import random
import struct

import numpy as np
import opengl_basisu
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudbaker.compute.textures import ktx2
from cloudbaker.compute.textures.headers import image_header
from cloudbaker.compute.textures.ktx2 import CODECS, Ktx2Error, full_levels, level_size, read_ktx2, write_ktx2


def blocks(
    codec: str, width: int, height: int, *, count: int | None = None, images: int = 1, seed: int = 1
) -> list[bytes]:
    """Levels of random blocks."""
    rng = np.random.default_rng(seed)
    kind = CODECS[codec]
    sizes = [level_size(width, height, n) for n in range(count or full_levels(width, height))]
    return [rng.bytes(kind.size(*size) * images) for size in sizes]


def written(codec: str = "uastc", width: int = 16, height: int = 8, **settings) -> bytes:
    settings = {"srgb": False, **settings}
    images = settings.get("faces", 1) * max(1, settings.get("layers", 0))
    return write_ktx2(blocks(codec, width, height, images=images), width, height, codec=codec, **settings)


def patched(data: bytes, at: int, form: str, *values: int) -> bytes:
    out = bytearray(data)
    struct.pack_into(form, out, at, *values)
    return bytes(out)


# ------------------------------------------------------------------------------------------------------------- writing


def test_the_header_of_uastc_is_the_specifications():
    data = written(srgb=True)
    assert data[:12] == b"\xabKTX 20\xbb\r\n\x1a\n"
    # vkFormat, typeSize, width, height, depth, layers, faces, levels, supercompression
    assert struct.unpack_from("<9I", data, 12) == (0, 1, 16, 8, 0, 0, 1, 5, 2)
    dfd_at, dfd_bytes, kvd_at, kvd_bytes, sgd_at, sgd_bytes = struct.unpack_from("<4I2Q", data, 48)
    assert (dfd_at, dfd_bytes, kvd_at) == (80 + 5 * 24, 44, 80 + 5 * 24 + 44)
    assert (sgd_at, sgd_bytes) == (0, 0)
    pairs = data[kvd_at : kvd_at + kvd_bytes]
    assert pairs == (b"\x12\0\0\0KTXorientation\0rd\0\0\0" + b"\x16\0\0\0KTXwriter\0Cloud Baker\0\0\0")
    index = [struct.unpack_from("<3Q", data, 80 + 24 * n) for n in range(5)]
    assert [plain for _, _, plain in index] == [8 * 16, 2 * 16, 16, 16, 16]
    assert index[4][0] == kvd_at + kvd_bytes  # the smallest level comes first
    assert all(index[n + 1][0] + index[n + 1][1] == index[n][0] for n in range(4))
    assert sum(index[0][:2]) == len(data)


@pytest.mark.parametrize(
    ("codec", "settings", "model", "primaries", "transfer", "sample"),
    [
        ("uastc", {"srgb": True}, 166, 1, 2, (0, 127, 3, 0, 0xFFFFFFFF)),
        ("uastc", {"srgb": False, "alpha": False}, 166, 0, 1, (0, 127, 0, 0, 0xFFFFFFFF)),
        ("uastc", {"srgb": False, "alpha": False, "normal": True}, 166, 0, 1, (0, 127, 0, 0, 0xFFFFFFFF)),
        ("astc-4x4", {"srgb": True}, 162, 1, 2, (0, 127, 0, 0, 0xFFFFFFFF)),
        ("astc-8x8", {"srgb": False}, 162, 0, 1, (0, 127, 0, 0, 0xFFFFFFFF)),
        ("astc-4x4-hdr", {"srgb": False}, 162, 1, 1, (0, 127, 0xC0, 0xBF800000, 0x3F800000)),
        ("rgba16f", {"srgb": False}, 1, 1, 1, (0, 15, 0xC0, 0xBF800000, 0x3F800000)),
    ],
)
def test_the_descriptor_says_what_the_texels_are(codec, settings, model, primaries, transfer, sample):
    data = written(codec, **settings)
    at, size = struct.unpack_from("<II", data, 48)
    total, ids, version, block, *rest = struct.unpack_from("<IIHHBBBB", data, at)
    assert (total, ids, version, block) == (size, 0, 2, size - 4)
    assert rest == [model, primaries, transfer, 0]
    kind = CODECS[codec]
    assert data[at + 16 : at + 28] == bytes(
        [kind.block[0] - 1, kind.block[1] - 1, 0, 0, kind.block_bytes, 0, 0, 0, 0, 0, 0, 0]
    )
    offset, bits, channel, position, low, high = struct.unpack_from("<HBBIII", data, at + 28)
    assert (offset, bits, channel, low, high) == sample
    assert position == 0


@pytest.mark.parametrize(
    ("codec", "srgb", "number"),
    [
        ("uastc", True, 0),
        ("astc-4x4", False, 157),
        ("astc-4x4", True, 158),
        ("astc-6x6", False, 165),
        ("astc-6x6", True, 166),
        ("astc-8x8", False, 171),
        ("astc-8x8", True, 172),
        ("astc-4x4-hdr", False, 1000066000),
        ("astc-6x6-hdr", False, 1000066004),
        ("rgba8", True, 43),
        ("rgba16f", False, 97),
    ],
)
def test_vulkan_numbers(codec, srgb, number):
    assert struct.unpack_from("<I", written(codec, srgb=srgb), 12) == (number,)


@pytest.mark.parametrize("codec", [c for c in CODECS if c != "etc1s"])
@pytest.mark.parametrize("zstd_level", [None, 3])
def test_what_is_written_is_read_again(codec, zstd_level):
    levels = blocks(codec, 20, 12)
    data = write_ktx2(levels, 20, 12, codec=codec, srgb=False, zstd_level=zstd_level, metadata={"test": "Größe"})
    read = read_ktx2(data)
    assert read.codec.name == codec
    assert read.levels == tuple(levels)
    assert (read.width, read.height, read.srgb, read.layers, read.faces) == (20, 12, False, 0, 1)
    assert read.full_pyramid
    assert read.metadata["test"] == "Größe\0".encode()
    assert list(read.metadata) == sorted(read.metadata)
    if zstd_level is None:
        alignment = math.lcm(CODECS[codec].block_bytes, 4)
        assert all(struct.unpack_from("<Q", data, 80 + 24 * n)[0] % alignment == 0 for n in range(5))
    assert read_ktx2(data, inflate=False).levels != read.levels or zstd_level is None


@pytest.mark.parametrize(("layers", "faces"), [(0, 6), (3, 1), (2, 6), (1, 1)])
def test_cube_maps_and_arrays(layers, faces):
    images = faces * max(1, layers)
    levels = blocks("uastc", 8, 8, images=images)
    read = read_ktx2(write_ktx2(levels, 8, 8, codec="uastc", srgb=True, layers=layers, faces=faces))
    assert (read.layers, read.faces, read.levels) == (layers, faces, tuple(levels))
    assert read.gpu_bytes == images * 16 * (4 + 1 + 1 + 1)


def test_another_reader_agrees():
    """Binomial's transcoder, on what it can be asked without valid blocks."""
    texture = opengl_basisu.open(written(width=64, height=16, srgb=True, alpha=True))
    assert (texture.width, texture.height, texture.levels, texture.faces) == (64, 16, 7, 1)
    assert texture.codec == opengl_basisu.Codec.UASTC_LDR_4x4
    assert texture.srgb
    assert texture.has_alpha
    cube = opengl_basisu.open(written(width=8, height=8, faces=6, layers=2, alpha=False))
    assert (cube.faces, cube.layers, cube.is_array, cube.srgb, cube.has_alpha) == (6, 2, True, False, False)


def test_the_images_header_is_understood():
    header = image_header(written(width=64, height=16, alpha=True))
    assert (header.mime, header.width, header.height, header.has_alpha) == ("image/ktx2", 64, 16, True)
    assert not image_header(written(alpha=False)).has_alpha


def test_the_same_levels_give_the_same_bytes():
    assert written() == written()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codec": "etc1s"}, "can't write"),
        ({"codec": "bc7"}, "can't write"),
        ({"codec": "astc-4x4-hdr", "srgb": True}, "no sRGB form"),
        ({"srgb": True, "normal": True}, "normal map"),
        ({"faces": 6, "height": 4}, "faces"),
        ({"faces": 2}, "faces"),
        ({"layers": -1}, "layers"),
        ({"width": 0}, "no texture"),
        ({"levels": []}, "levels"),
        ({"levels": [bytes(64)] * 5}, "levels"),
        ({"levels": [bytes(63)]}, "63 bytes"),
        ({"metadata": {"": "x"}}, "key"),
    ],
)
def test_what_can_not_be_written(change, message):
    arguments = {"levels": [bytes(64)], "width": 8, "height": 8, "codec": "uastc", "srgb": False} | change
    with pytest.raises(ValueError, match=message):
        write_ktx2(arguments.pop("levels"), arguments.pop("width"), arguments.pop("height"), **arguments)


# ------------------------------------------------------------------------------------------------------------- reading


def _no_levels(data: bytes) -> bytes:
    """levelCount 0 with the one level that this means."""
    single = write_ktx2(blocks("uastc", 8, 8, count=1), 8, 8, codec="uastc", srgb=False)
    return patched(single, 40, "<I", 0)


def _empty_level(data: bytes) -> bytes:
    plain = write_ktx2(blocks("uastc", 8, 8, count=1), 8, 8, codec="uastc", srgb=False)
    return patched(plain, 88, "<Q", 0)


@pytest.mark.parametrize(
    ("what", "code", "change"),
    [
        ("no KTX2", "truncated", lambda d: b"KTX" + d[3:]),
        ("only a header", "truncated", lambda d: d[:100]),
        ("no width", "size", lambda d: patched(d, 20, "<I", 0)),
        ("no height", "size", lambda d: patched(d, 24, "<I", 0)),
        ("3D", "unsupported", lambda d: patched(d, 28, "<I", 4)),
        ("two faces", "size", lambda d: patched(d, 36, "<I", 2)),
        ("a cube that is none", "size", lambda d: patched(d, 36, "<I", 6)),
        ("too many layers", "too-large", lambda d: patched(d, 32, "<I", 1 << 20)),
        ("too large", "too-large", lambda d: patched(d, 20, "<II", 1 << 20, 1 << 20)),
        ("more levels than halvings", "levels", lambda d: patched(d, 40, "<I", 6)),
        ("a billion levels", "levels", lambda d: patched(d, 40, "<I", 1_000_000_000)),
        ("fewer levels than there are", "layout", lambda d: patched(d, 40, "<I", 3)),
        ("levels to be made from blocks", "levels", _no_levels),
        ("another size", "levels", lambda d: patched(d, 20, "<I", 20)),
        ("scheme zlib", "unsupported", lambda d: patched(d, 44, "<I", 3)),
        ("BasisLZ of UASTC", "unsupported", lambda d: patched(d, 44, "<I", 1)),
        ("typeSize", "descriptor", lambda d: patched(d, 16, "<I", 4)),
        ("descriptor elsewhere", "layout", lambda d: patched(d, 48, "<I", 80)),
        ("descriptor too long", "layout", lambda d: patched(d, 52, "<I", 48)),
        ("descriptor of 4 GB", "layout", lambda d: patched(d, 52, "<I", 0xFFFFFFFC)),
        ("pairs elsewhere", "layout", lambda d: patched(d, 56, "<I", 80)),
        ("pairs past the end", "truncated", lambda d: patched(d, 60, "<I", len(d) & ~3)),
        ("global data", "layout", lambda d: patched(d, 64, "<QQ", 256, 8)),
        ("a level elsewhere", "layout", lambda d: patched(d, 80, "<Q", 0)),
        ("levels that overlap", "layout", lambda d: patched(d, 80, "<Q", struct.unpack_from("<Q", d, 104)[0])),
        ("a level past the end", "truncated", lambda d: patched(d, 88, "<Q", 1 << 40)),
        ("an empty level", "levels", _empty_level),
        ("a level said to be larger", "levels", lambda d: patched(d, 96, "<Q", 1 << 33)),
        ("something behind", "layout", lambda d: d + b"\0"),
        ("something missing", "truncated", lambda d: d[:-1]),
    ],
)
def test_a_lying_file_is_refused(what, code, change):
    with pytest.raises(Ktx2Error) as caught:
        read_ktx2(change(written()))
    assert caught.value.code == f"ktx2.{code}", caught.value


@pytest.mark.parametrize(
    ("what", "at", "form", "value"),
    [
        ("another total", 0, "<I", 40),
        ("a vendor's block", 4, "<I", 1),
        ("version", 8, "<H", 1),
        ("block size", 10, "<H", 41),
        ("block size past the end", 10, "<H", 56),
        ("model", 12, "<B", 160),
        ("transfer", 14, "<B", 3),
        ("block width", 16, "<B", 5),
        ("bytes of a plane", 20, "<B", 8),
        ("bit offset", 28, "<H", 8),
        ("bit length", 30, "<B", 63),
        ("channel", 31, "<B", 9),
        ("lower", 36, "<I", 1),
        ("upper", 40, "<I", 255),
    ],
)
def test_a_wrong_descriptor_is_refused(what, at, form, value):
    data = written()
    (start,) = struct.unpack_from("<I", data, 48)
    with pytest.raises(Ktx2Error) as caught:
        read_ktx2(patched(data, start + at, form, value))
    assert caught.value.code in ("ktx2.descriptor", "ktx2.unsupported")


def test_files_of_older_writers_are_read():
    """Before revision 4, bytesPlane0 of a compressed file was 0; basisu gives linear data the primaries of BT.709."""
    data = written(srgb=False)
    (start,) = struct.unpack_from("<I", data, 48)
    old = patched(patched(data, start + 20, "<B", 0), start + 13, "<B", 1)
    assert read_ktx2(old).levels == read_ktx2(data).levels
    assert read_ktx2(old).primaries == 1


@pytest.mark.parametrize("channel", [4, 5, 6])
def test_uastc_of_one_and_two_channels_is_read(channel):
    data = written()
    (start,) = struct.unpack_from("<I", data, 48)
    assert not read_ktx2(patched(data, start + 31, "<B", channel)).alpha


def test_premultiplied_alpha_is_told():
    data = written()
    (start,) = struct.unpack_from("<I", data, 48)
    assert not read_ktx2(data).premultiplied
    assert read_ktx2(patched(data, start + 15, "<B", 1)).premultiplied


def with_pairs(pairs: bytes) -> bytes:
    """A file of one level with other key/value data."""
    level = bytes(16)
    data = write_ktx2([level], 4, 4, codec="uastc", srgb=False, zstd_level=None)
    start = 80 + 24 + 44
    at = start + len(pairs)
    pad = -at % 16
    head = patched(data[: 80 + 24], 56, "<II", start if pairs else 0, len(pairs))
    return patched(head, 80, "<Q", at + pad) + data[104:148] + pairs + bytes(pad) + level


@pytest.mark.parametrize(
    ("pairs", "sound"),
    [
        (b"", True),
        (b"\x04\0\0\0k\0v\0", True),
        (b"\x02\0\0\0k\0\0\0", True),
        (b"\x02\0\0\0a\0\0\0\x02\0\0\0b\0\0\0", True),
        (b"\x02\0\0\0b\0\0\0\x02\0\0\0a\0\0\0", False),
        (b"\x02\0\0\0a\0\0\0\x02\0\0\0a\0\0\0", False),
        (b"\x00\0\0\0", False),
        (b"\x04\0\0\0\0abc", False),
        (b"\x04\0\0\0abcd", False),
        (b"\x08\0\0\0k\0v\0", False),
        (b"\xff\xff\xff\xffk\0v\0", False),
        (b"\x04\0\0\0\xff\xff\0v", False),
    ],
)
def test_key_value_data(pairs, sound):
    data = with_pairs(pairs)
    if sound:
        assert len(read_ktx2(data).metadata) == len(pairs) // 8
        return
    with pytest.raises(Ktx2Error) as caught:
        read_ktx2(data)
    assert caught.value.code == "ktx2.metadata"


def one_level(packed: bytes) -> bytes:
    """A file of one 8×8 level, 64 bytes of UASTC, compressed to `packed`."""
    data = write_ktx2([bytes(64)], 8, 8, codec="uastc", srgb=False)
    offset, _, _ = struct.unpack_from("<3Q", data, 80)
    return patched(data[:offset] + packed, 88, "<Q", len(packed))


def _unsized(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(data)


@pytest.mark.parametrize(
    "packed",
    [
        b"no zstd at all!!",
        zstandard.compress(bytes(63)),
        zstandard.compress(bytes(65)),
        zstandard.compress(bytes(1 << 30)),
        _unsized(bytes(63)),
        _unsized(bytes(65)),
        _unsized(bytes(1 << 24)),
        zstandard.compress(bytes(64))[:-2],
    ],
)
def test_what_does_not_inflate_to_the_level_is_refused(packed):
    with pytest.raises(Ktx2Error) as caught:
        read_ktx2(one_level(packed))
    assert caught.value.code == "ktx2.compression"


def test_a_frame_without_its_size_is_read():
    assert read_ktx2(one_level(_unsized(bytes(64)))).levels == (bytes(64),)


def test_the_limit_counts_faces_and_layers():
    data = written(width=8, height=8, faces=6, layers=2)
    assert read_ktx2(data, max_pixels=8 * 8 * 12).layers == 2
    with pytest.raises(Ktx2Error, match="768 texels"):
        read_ktx2(data, max_pixels=8 * 8 * 12 - 1)


@given(
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    layers=st.integers(0, 3),
    codec=st.sampled_from([c for c in CODECS if c != "etc1s"]),
    plain=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_shape_comes_back(width, height, layers, codec, plain):
    count = full_levels(width, height)
    levels = blocks(codec, width, height, count=count, images=max(1, layers))
    data = write_ktx2(levels, width, height, codec=codec, srgb=False, layers=layers, zstd_level=None if plain else 1)
    assert read_ktx2(data).levels == tuple(levels)


def test_damage_never_raises_anything_else(tell):
    """Changed, lost and doubled bytes: a sound texture of the same size or a `Ktx2Error`."""
    rng = random.Random(7)
    good = [written(), written("astc-6x6", zstd_level=None), written("rgba8", width=5, height=3)]
    refused = 0
    for _ in range(1500):
        data = bytearray(rng.choice(good))
        for _ in range(rng.choice((1, 1, 1, 4))):
            at = rng.randrange(260 if rng.random() < 0.8 else len(data))
            kind = rng.randrange(4)
            if kind < 2:
                data[at] = rng.choice((0, 1, 2, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            elif kind == 2:
                del data[at : at + rng.choice((1, 4, 50))]
            else:
                data[at:at] = data[at : at + rng.choice((1, 4, 24))]
        try:
            assert read_ktx2(bytes(data)).levels
        except Ktx2Error:
            refused += 1
    assert refused > 1000
    tell(f"KTX2 reader: 1500 damaged files, {refused} refused, the others sound in every field")


def test_levels_of_a_size():
    assert [full_levels(*size) for size in ((1, 1), (2, 1), (4, 4), (5, 1), (1024, 3), (1, 8192))] == [
        1,
        2,
        3,
        3,
        11,
        14,
    ]
    assert level_size(5, 2, 1) == (2, 1)
    assert ktx2.CODECS["astc-6x6"].size(7, 6) == 32
