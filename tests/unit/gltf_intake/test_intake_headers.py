"""Image headers: right on real files of every type, an error on everything else."""

from __future__ import annotations

import io
import random
import struct

import pytest
from PIL import Image

from cloudbaker.compute.textures.headers import KTX2_MAGIC, image_header, image_mime


def encoded(mode: str, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (37, 21)).save(out, kind, **options)
    return out.getvalue()


def ktx2(width: int = 64, height: int = 32, depth: int = 0, faces: int = 1, channel: int = 3) -> bytes:
    descriptor = struct.pack("<I8xB15x", 44, 166) + struct.pack("<HBB12x", 0, 127, channel)
    header = struct.pack("<9I", 0, 1, width, height, depth, 0, faces, 1, 0)
    return KTX2_MAGIC + header + struct.pack("<4I2Q", 104, len(descriptor), 0, 0, 0, 0) + bytes(24) + descriptor


REAL = {
    "png": (encoded("RGB", "PNG"), "image/png", False, 8),
    "png alpha": (encoded("RGBA", "PNG"), "image/png", True, 8),
    "png 16 bit": (encoded("I;16", "PNG"), "image/png", False, 16),
    "png palette": (encoded("P", "PNG"), "image/png", False, 1),
    "png palette with transparency": (encoded("P", "PNG", transparency=0), "image/png", True, 1),
    "jpeg": (encoded("RGB", "JPEG"), "image/jpeg", False, 8),
    "jpeg progressive": (encoded("RGB", "JPEG", progressive=True), "image/jpeg", False, 8),
    "jpeg cmyk": (encoded("CMYK", "JPEG"), "image/jpeg", False, 8),
    "jpeg with exif": (encoded("RGB", "JPEG", exif=Image.Exif()), "image/jpeg", False, 8),
    "webp": (encoded("RGB", "WEBP"), "image/webp", False, 8),
    "webp alpha": (encoded("RGBA", "WEBP"), "image/webp", True, 8),
    "webp lossless": (encoded("RGBA", "WEBP", lossless=True), "image/webp", True, 8),
    "avif": (encoded("RGBA", "AVIF"), "image/avif", True, 8),
}


@pytest.mark.parametrize(("data", "mime", "alpha", "depth"), REAL.values(), ids=REAL)
def test_real_files(data: bytes, mime: str, alpha: bool, depth: int) -> None:
    header = image_header(memoryview(data))
    assert (header.mime, header.width, header.height) == (mime, 37, 21)
    assert (header.has_alpha, header.bit_depth) == (alpha, depth)
    assert image_mime(data) == mime


def test_ktx2() -> None:
    header = image_header(ktx2())
    assert (header.mime, header.width, header.height, header.has_alpha) == ("image/ktx2", 64, 32, True)
    assert not image_header(ktx2(channel=0)).has_alpha
    for wrong in (ktx2(depth=8), ktx2(faces=6), ktx2(width=0), ktx2()[:60]):
        with pytest.raises(ValueError, match="image/ktx2"):
            image_header(wrong)


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a" + bytes(30), b"glTF" + bytes(30), b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]
)
def test_everything_else_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"image|not a PNG"):
        image_header(data)


def test_cut_and_changed_headers_give_a_header_or_a_value_error() -> None:
    random_ = random.Random(20)
    for data, *_ in REAL.values():
        for length in range(min(len(data), 200)):
            try_header(data[:length])
        for _ in range(200):
            changed = bytearray(data)
            for _ in range(random_.randint(1, 4)):
                changed[random_.randrange(min(len(changed), 64))] = random_.randrange(256)
            try_header(bytes(changed))


def try_header(data: bytes) -> None:
    try:
        header = image_header(data)
    except ValueError:
        return
    assert header.width > 0
    assert header.height > 0


def test_endless_segments_end() -> None:
    with pytest.raises(ValueError, match="frame header"):
        image_header(b"\xff\xd8\xff" + b"\xff\xe0\x00\x02" * 100_000)
