"""KTX 2.0 containers: a writer, and a reader that believes nothing.

Source: the KTX File Format Specification 2.0 (revision 4), sections 3 to 5, with the Basis Universal appendix; Khronos
Data Format Specification 1.4, chapter 5 (descriptor blocks); KHR_texture_basisu for what glTF allows of it.

A file is a header, an index of its levels, a data format descriptor, key/value pairs, and the levels from the smallest
to the largest. Everything in the header can be computed from a handful of fields, so the reader computes it and refuses
a file that says something else: a level count that the size does not allow, sizes that do not follow from the blocks,
levels that overlap or leave gaps, a Zstandard frame that holds more or less than the index says.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import zstandard

from cloudbaker.compute.textures.headers import KTX2_MAGIC, Buffer

HEADER_BYTES = 80
NONE, BASIS_LZ, ZSTD = 0, 1, 2
"""Supercompression schemes (3.9)."""
ZSTD_LEVEL = 18
"""As the reference tools have it. Of 4 MB of UASTC: level 3 in 0.01 s 1695 kB, 12 in 0.11 s 1462 kB, 18 in 0.7 s
1393 kB; 22 takes another half longer for 2 kB."""
MAX_LAYERS = 2048
"""The most that every desktop GPU has (Vulkan's maxImageArrayLayers)."""
WRITER = "Cloud Baker"

_RGBSDA, _ASTC, _ETC1S, _UASTC = 1, 162, 163, 166
_PRIMARIES_UNSPECIFIED, _PRIMARIES_BT709 = 0, 1
_LINEAR, _SRGB = 1, 2
_PREMULTIPLIED = 1
_FLOAT_SIGNED, _EXPONENT, _SAMPLE_LINEAR = 0xC0, 0x20, 0x10
_UINT_MAX, _MINUS_ONE, _ONE = 0xFFFFFFFF, 0xBF800000, 0x3F800000
_ALPHA = 15

UASTC_RGB, UASTC_RGBA = 0, 3
"""Channel ids of UASTC (KDF 5.6.14)."""


class Ktx2Error(ValueError):
    """A file that is no sound KTX2, or one of a kind that is not read here.

    `code` is one of ``ktx2.truncated``, ``ktx2.size``, ``ktx2.levels``, ``ktx2.layout``, ``ktx2.descriptor``,
    ``ktx2.metadata``, ``ktx2.compression``, ``ktx2.too-large`` and ``ktx2.unsupported``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Codec:
    """A way to store texels."""

    name: str
    block: tuple[int, int]
    """Texels a block."""
    block_bytes: int
    model: int
    """Of the data format descriptor."""
    linear: int
    """``VkFormat`` of linear data."""
    srgb: int | None
    """``VkFormat`` of sRGB colours; None where there is none."""
    hdr: bool = False
    type_size: int = 1

    def size(self, width: int, height: int) -> int:
        """Bytes of an image of that many texels."""
        across, down = self.block
        return -(-width // across) * -(-height // down) * self.block_bytes


_BLOCKS = ("4x4", "5x4", "5x5", "6x5", "6x6", "8x5", "8x6", "8x8")


def _astc() -> list[Codec]:
    codecs = []
    for at, name in enumerate(_BLOCKS):
        block = (int(name[0]), int(name[2]))
        codecs.append(Codec(f"astc-{name}", block, 16, _ASTC, 157 + 2 * at, 158 + 2 * at))
        codecs.append(Codec(f"astc-{name}-hdr", block, 16, _ASTC, 1000066000 + at, None, hdr=True))
    return codecs


CODECS: dict[str, Codec] = {
    codec.name: codec
    for codec in (
        Codec("uastc", (4, 4), 16, _UASTC, 0, 0),
        Codec("etc1s", (4, 4), 8, _ETC1S, 0, 0),
        *_astc(),
        Codec("rgba8", (1, 1), 4, _RGBSDA, 37, 43),
        Codec("rgba16f", (1, 1), 8, _RGBSDA, 97, None, hdr=True, type_size=2),
        Codec("rgb9e5", (1, 1), 4, _RGBSDA, 123, None, hdr=True, type_size=4),
    )
}
"""What is written and read here; ``etc1s`` is only read (its encoder writes a file of its own)."""


@dataclass(frozen=True, slots=True)
class Ktx2:
    """A file that was found sound."""

    codec: Codec
    width: int
    height: int
    srgb: bool
    alpha: bool
    """Whether there is an alpha channel; always for ASTC, whose blocks can hold one."""
    premultiplied: bool
    primaries: int
    """Of the colours: 1 is BT.709, 0 unspecified."""
    layers: int
    """0 where it is no array."""
    faces: int
    """6 for a cube map, else 1."""
    levels: tuple[bytes, ...]
    """The largest first; inflated unless it was asked not to. Images of a level lie in the order of layers, faces."""
    scheme: int
    """How the levels were compressed in the file: `NONE`, `BASIS_LZ`, `ZSTD`."""
    full_pyramid: bool
    """Whether the levels go down to 1×1."""
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    """Values as they are in the file, most of them with a NUL at the end."""

    @property
    def gpu_bytes(self) -> int:
        """What it takes in a GPU's memory as blocks of this kind (16 bytes a block where they are transcoded)."""
        block = 16 if self.codec.model in (_UASTC, _ETC1S) else self.codec.block_bytes
        sizes = (level_size(self.width, self.height, n) for n in range(len(self.levels)))
        blocks = sum(self.codec.size(*size) // self.codec.block_bytes for size in sizes)
        return blocks * block * self.faces * max(1, self.layers)


def level_size(width: int, height: int, level: int) -> tuple[int, int]:
    """Texels of a level; level 0 is the largest."""
    return max(1, width >> level), max(1, height >> level)


def full_levels(width: int, height: int) -> int:
    """Levels of a whole pyramid, down to 1×1 (KTX 2.0, 3.8)."""
    return max(width, height).bit_length()


# ------------------------------------------------------------------------------------------------------------- writing


def write_ktx2(
    levels: Sequence[bytes],
    width: int,
    height: int,
    *,
    codec: str,
    srgb: bool,
    normal: bool = False,
    alpha: bool = True,
    layers: int = 0,
    faces: int = 1,
    zstd_level: int | None = ZSTD_LEVEL,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """A KTX2 file of encoded levels, the largest first; each holds its images in the order of layers, then faces.

    `layers` > 0 makes an array, `faces` = 6 a cube map (+X, -X, +Y, -Y, +Z, -Z). `zstd_level` None leaves the levels
    as they are. `alpha` says what UASTC's blocks were made of. `metadata` comes on top of KTXorientation (``rd``: the
    first row is the top one, as glTF wants) and KTXwriter. The same input gives the same bytes.

    Raises ValueError: a codec that can't be written, sRGB where there is none, levels of other sizes than follow from
    `width` and `height`.
    """
    kind = CODECS.get(codec)
    if kind is None or kind.model == _ETC1S:
        raise ValueError(f"can't write {codec!r}: it is none of {', '.join(c for c in CODECS if c != 'etc1s')}")
    if srgb and (kind.srgb is None or normal):
        raise ValueError("a normal map holds no colours" if normal else f"there is no sRGB form of {codec}")
    square = width == height
    if width < 1 or height < 1 or not 0 <= layers <= MAX_LAYERS or faces not in ((1, 6) if square else (1,)):
        raise ValueError(f"no texture has {width} × {height} texels, {layers} layers and {faces} faces")
    if not 1 <= len(levels) <= full_levels(width, height):
        raise ValueError(f"{width} × {height} texels have 1 to {full_levels(width, height)} levels, not {len(levels)}")
    images = faces * max(1, layers)
    for number, level in enumerate(levels):
        expected = kind.size(*level_size(width, height, number)) * images
        if len(level) != expected:
            raise ValueError(f"level {number} has {len(level)} bytes instead of {expected}")

    descriptor = _descriptor(kind, srgb=srgb, alpha=alpha)
    pairs = _pairs({"KTXorientation": "rd", "KTXwriter": WRITER, **(metadata or {})})
    packed = [bytes(level) if zstd_level is None else _deflated(level, zstd_level) for level in levels]
    at = HEADER_BYTES + 24 * len(levels)
    sections = (at, len(descriptor), at + len(descriptor), len(pairs), 0, 0)
    body = bytearray(descriptor + pairs)
    index = [b""] * len(levels)
    alignment = math.lcm(kind.block_bytes, 4) if zstd_level is None else 1
    for number in reversed(range(len(levels))):
        body += bytes(-(at + len(body)) % alignment)
        index[number] = struct.pack("<3Q", at + len(body), len(packed[number]), len(levels[number]))
        body += packed[number]
    vk_format = kind.srgb if srgb and kind.srgb is not None else kind.linear
    scheme = NONE if zstd_level is None else ZSTD
    header = struct.pack("<9I", vk_format, kind.type_size, width, height, 0, layers, faces, len(levels), scheme)
    return b"".join([KTX2_MAGIC, header, struct.pack("<4I2Q", *sections), *index, bytes(body)])


def _deflated(level: bytes, zstd_level: int) -> bytes:
    # The frame says how long its content is: a reader can hold that against the index before it inflates anything.
    return zstandard.ZstdCompressor(level=zstd_level, write_checksum=False, write_content_size=True).compress(level)


def _descriptor(kind: Codec, *, srgb: bool, alpha: bool) -> bytes:
    """The data format descriptor, with its leading total size.

    Primaries of linear LDR data stay unspecified, and bytesPlane0 is that of the blocks before compression: with
    anything else KHR_texture_basisu's checks fail (Khronos' validator: error 6304).
    """
    samples = _samples(kind, srgb=srgb, alpha=alpha)
    size = 24 + 16 * len(samples)
    primaries = _PRIMARIES_BT709 if srgb or kind.hdr else _PRIMARIES_UNSPECIFIED
    words = struct.pack("<IIHHBBBB", 4 + size, 0, 2, size, kind.model, primaries, _SRGB if srgb else _LINEAR, 0)
    across, down = kind.block
    planes = struct.pack("<4B8B", across - 1, down - 1, 0, 0, kind.block_bytes, *[0] * 7)
    return words + planes + b"".join(struct.pack("<HBB4xII", *sample) for sample in samples)


def _samples(kind: Codec, *, srgb: bool, alpha: bool) -> list[tuple[int, int, int, int, int]]:
    """(bit offset, bit length - 1, channel and qualifiers, lower, upper) of each sample."""
    if kind.name == "rgb9e5":  # KDF's example of it: for each colour a mantissa, and the exponent that all share
        return [sample for at in range(3) for sample in ((9 * at, 8, at, 0, 8448), (27, 4, at | _EXPONENT, 15, 31))]
    if kind.model == _RGBSDA:
        bits = kind.block_bytes * 2
        low, high = (_MINUS_ONE, _ONE) if kind.hdr else (0, (1 << bits) - 1)
        qualifier = _FLOAT_SIGNED if kind.hdr else 0
        linear_alpha = _SAMPLE_LINEAR if srgb else 0
        return [
            (bits * at, bits - 1, channel | qualifier | (linear_alpha if channel == _ALPHA else 0), low, high)
            for at, channel in enumerate((0, 1, 2, _ALPHA))
        ]
    if kind.hdr:
        return [(0, 127, _FLOAT_SIGNED, _MINUS_ONE, _ONE)]
    channel = (UASTC_RGBA if alpha else UASTC_RGB) if kind.model == _UASTC else 0
    return [(0, 127, channel, 0, _UINT_MAX)]


def _pairs(metadata: Mapping[str, str]) -> bytes:
    """Key/value data, sorted by key (3.11)."""
    out = bytearray()
    for key, value in sorted(metadata.items()):
        if not key or "\0" in key:
            raise ValueError(f"{key!r} can't be a key")
        pair = key.encode() + b"\0" + value.encode() + b"\0"
        out += struct.pack("<I", len(pair)) + pair + bytes(-len(pair) % 4)
    return bytes(out)


# ------------------------------------------------------------------------------------------------------------- reading


def read_ktx2(data: Buffer, *, max_pixels: int = 64 << 20, inflate: bool = True) -> Ktx2:
    """Read a KTX2 file of one of `CODECS`, checking every field against all others.

    `max_pixels` bounds the texels of the largest level, over all faces and layers, and with them the memory this
    takes; with `inflate` False levels stay compressed. 3D textures are not read. Raises Ktx2Error.
    """
    view = memoryview(data).cast("B")
    if bytes(view[:12]) != KTX2_MAGIC or len(view) < HEADER_BYTES + 24:
        raise Ktx2Error("ktx2.truncated", "not a KTX2 file, or it ends inside its header")
    vk_format, type_size, width, height, depth, layers, faces, count, scheme = struct.unpack_from("<9I", view, 12)
    _check_shape(width, height, depth, layers, faces, max_pixels)
    levels = max(1, count)
    if count > full_levels(width, height):
        raise Ktx2Error(
            "ktx2.levels", f"{width} × {height} texels have at most {full_levels(width, height)} levels, not {count}"
        )
    sections = struct.unpack_from("<4I2Q", view, 48)
    start = HEADER_BYTES + 24 * levels
    end = _check_sections(sections, start, len(view))
    described = _read_descriptor(view[start : start + sections[1]], vk_format)
    kind = described.codec
    if type_size != kind.type_size:
        raise Ktx2Error("ktx2.descriptor", f"typeSize is {type_size} instead of {kind.type_size}")
    if count == 0 and kind.block != (1, 1):
        raise Ktx2Error("ktx2.levels", "levelCount is 0, which block-compressed formats can't have")
    if scheme not in (NONE, BASIS_LZ, ZSTD) or (scheme == BASIS_LZ) != (kind.model == _ETC1S):
        raise Ktx2Error("ktx2.unsupported", f"{kind.name} with supercompression scheme {scheme} is not read")
    metadata = _read_pairs(view[sections[2] : sections[2] + sections[3]])
    index = [struct.unpack_from("<3Q", view, HEADER_BYTES + 24 * n) for n in range(levels)]
    images = faces * max(1, layers)
    expected = [kind.size(*level_size(width, height, n)) * images for n in range(levels)]
    parts = _level_parts(view, index, expected, end, scheme, kind)
    if scheme == BASIS_LZ:
        _check_basis_lz(view[sections[4] : sections[4] + sections[5]], [len(p) for p in parts], images, described.alpha)
    elif sections[5]:
        raise Ktx2Error("ktx2.layout", f"supercompression scheme {scheme} has no global data, the file has some")
    contents = [
        _inflated(*pair) if scheme == ZSTD and inflate else bytes(pair[0]) for pair in zip(parts, expected, strict=True)
    ]
    return Ktx2(
        codec=kind,
        width=width,
        height=height,
        srgb=described.srgb,
        alpha=described.alpha,
        premultiplied=described.premultiplied,
        primaries=described.primaries,
        layers=layers,
        faces=faces,
        levels=tuple(contents),
        scheme=scheme,
        full_pyramid=levels == full_levels(width, height),
        metadata=metadata,
    )


def _check_shape(width: int, height: int, depth: int, layers: int, faces: int, max_pixels: int) -> None:
    if not width or not height:
        raise Ktx2Error("ktx2.size", f"the texture says {width} × {height} texels")
    if depth:
        raise Ktx2Error("ktx2.unsupported", f"3D textures are not read (depth {depth})")
    if faces not in (1, 6) or (faces == 6 and width != height):
        raise Ktx2Error("ktx2.size", f"{faces} faces of {width} × {height} texels are no texture")
    if layers > MAX_LAYERS:
        raise Ktx2Error("ktx2.too-large", f"{layers} layers are more than the {MAX_LAYERS} that GPUs take")
    pixels = width * height * faces * max(1, layers)
    if pixels > max_pixels:
        raise Ktx2Error("ktx2.too-large", f"the texture has {pixels:,} texels, the limit is {max_pixels:,}")


def _check_sections(sections: tuple[int, ...], start: int, size: int) -> int:
    """Where the sections end. They follow one another without gaps, but for the global data's alignment."""
    dfd_at, dfd_bytes, kvd_at, kvd_bytes, sgd_at, sgd_bytes = sections
    end = start + dfd_bytes
    if dfd_at != start or dfd_bytes % 4 or kvd_bytes % 4:
        raise Ktx2Error("ktx2.layout", "the data format descriptor does not follow the level index")
    if kvd_at != (end if kvd_bytes else 0):
        raise Ktx2Error("ktx2.layout", "the key/value data does not follow the data format descriptor")
    end += kvd_bytes
    if sgd_at != (end + -end % 8 if sgd_bytes else 0):
        raise Ktx2Error("ktx2.layout", "the global data does not follow the key/value data")
    end = sgd_at + sgd_bytes if sgd_bytes else end
    if end > size:
        raise Ktx2Error("ktx2.truncated", f"the file ends at {size}, inside its sections")
    return end


def _level_parts(
    view: memoryview, index: list[tuple[int, ...]], expected: list[int], end: int, scheme: int, kind: Codec
) -> list[memoryview]:
    """The bytes of each level. They fill the rest of the file, the smallest first, with no gap but the alignment."""
    alignment = math.lcm(kind.block_bytes, 4) if scheme == NONE else 1
    for number in reversed(range(len(index))):
        offset, length, plain = index[number]
        end += -end % alignment
        if offset != end:
            raise Ktx2Error("ktx2.layout", f"level {number} begins at {offset} instead of {end}")
        end += length
        if end > len(view):
            raise Ktx2Error("ktx2.truncated", f"level {number} ends at {end}, the file at {len(view)}")
        if (
            plain != (0 if scheme == BASIS_LZ else expected[number])
            or (scheme == NONE and length != plain)
            or not length
        ):
            raise Ktx2Error("ktx2.levels", f"level {number} says {plain} bytes, its blocks take {expected[number]}")
    if end != len(view):
        raise Ktx2Error("ktx2.layout", f"{len(view) - end} bytes follow the last level")
    return [view[offset : offset + length] for offset, length, _ in index]


def _inflated(part: memoryview, expected: int) -> bytes:
    """One Zstandard frame, which has to hold exactly what the index says."""
    try:
        frame = zstandard.get_frame_parameters(bytes(part[:18]))
        if frame.content_size not in (expected, zstandard.CONTENTSIZE_UNKNOWN):
            raise Ktx2Error("ktx2.compression", f"a level inflates to {frame.content_size} bytes instead of {expected}")
        # One byte more than expected is as far as a lying frame gets. The window bounds the decoder's own memory.
        plain = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(bytes(part)).read(expected + 1)
    except zstandard.ZstdError as error:
        raise Ktx2Error("ktx2.compression", f"a level can't be inflated: {error}") from error
    if len(plain) != expected:
        raise Ktx2Error("ktx2.compression", f"a level inflates to other than {expected} bytes")
    return plain


@dataclass(frozen=True, slots=True)
class _Described:
    codec: Codec
    srgb: bool
    alpha: bool
    premultiplied: bool
    primaries: int


def _read_descriptor(part: memoryview, vk_format: int) -> _Described:
    """What the descriptor says, if it is what the format's descriptor has to be (3.10)."""
    if len(part) < 44:
        raise Ktx2Error(
            "ktx2.descriptor", f"the data format descriptor has {len(part)} bytes, less than one sample takes"
        )
    total, ids, version, size, model, primaries, transfer, flags = struct.unpack_from("<IIHHBBBB", part)
    if total != len(part) or ids or version != 2 or size > total - 4 or size < 40 or (size - 24) % 16:
        raise Ktx2Error("ktx2.descriptor", "the data format descriptor does not begin with a sound basic block")
    dimensions, plane = bytes(part[16:20]), part[20]
    samples = [struct.unpack_from("<HBBIII", part, 28 + 16 * n) for n in range((size - 24) // 16)]
    srgb = transfer == _SRGB
    if transfer not in (_LINEAR, _SRGB):
        raise Ktx2Error("ktx2.unsupported", f"transfer function {transfer} is neither linear nor sRGB")
    # UASTC and ETC1S have no VkFormat: their model says what they are. With others both have to agree.
    found = [
        c
        for c in CODECS.values()
        if c.model == model and vk_format == ((c.srgb if c.srgb is not None else -1) if srgb else c.linear)
    ]
    if not found:
        raise Ktx2Error(
            "ktx2.unsupported", f"VkFormat {vk_format} with colour model {model} is not one of {', '.join(CODECS)}"
        )
    kind = found[0]
    if dimensions != bytes([kind.block[0] - 1, kind.block[1] - 1, 0, 0]) or plane not in (0, kind.block_bytes):
        raise Ktx2Error("ktx2.descriptor", f"the block's size in the descriptor is not that of {kind.name}")
    channels = tuple(sample[2] & 0x0F for sample in samples)
    if kind.model == _ETC1S:
        if channels not in ((0,), (0, _ALPHA), (3,), (3, 4)):
            raise Ktx2Error("ktx2.descriptor", f"channels {channels} are none that ETC1S has")
        alpha = len(channels) == 2
    else:
        wanted = _samples(kind, srgb=srgb, alpha=UASTC_RGBA in channels)
        told = [(offset, bits, channel, low, high) for offset, bits, channel, _, low, high in samples]
        if kind.model == _UASTC and channels in ((4,), (5,), (6,)):
            wanted = [(*wanted[0][:2], channels[0], *wanted[0][3:])]
        if told != wanted:
            raise Ktx2Error("ktx2.descriptor", f"the descriptor's samples are not those of {kind.name}")
        alpha = channels == (UASTC_RGBA,) if kind.model == _UASTC else kind.name != "rgb9e5"
    return _Described(kind, srgb, alpha, bool(flags & _PREMULTIPLIED), primaries)


def _read_pairs(part: memoryview) -> dict[str, bytes]:
    pairs: dict[str, bytes] = {}
    last = ""
    at = 0
    while at < len(part):
        (length,) = struct.unpack_from("<I", part, at)
        key, nul, value = bytes(part[at + 4 : at + 4 + length]).partition(b"\0")
        at += 4 + length + -length % 4
        if length < 2 or not key or not nul or at > len(part):
            raise Ktx2Error("ktx2.metadata", "the key/value data is damaged")
        try:
            name = key.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Ktx2Error("ktx2.metadata", "a key is not UTF-8") from error
        if name <= last:
            raise Ktx2Error("ktx2.metadata", f"the key {name!r:.80} comes twice or out of order")
        pairs[name] = value
        last = name
    return pairs


def _check_basis_lz(part: memoryview, sizes: list[int], images: int, alpha: bool) -> None:
    """The global data of ETC1S: as long as its parts are, and slices that lie inside their levels (Appendix B)."""
    total = images * len(sizes)
    if len(part) < 20 + 20 * total:
        raise Ktx2Error("ktx2.compression", f"the global data has {len(part)} bytes, too few for {total} images")
    _, _, endpoints, selectors, tables, extended = struct.unpack_from("<HHIIII", part)
    if len(part) != 20 + 20 * total + endpoints + selectors + tables + extended or extended:
        raise Ktx2Error("ktx2.compression", "the global data is not as long as its parts")
    for number in range(total):
        _, offset, length, alpha_offset, alpha_length = struct.unpack_from("<5I", part, 20 + 20 * number)
        size = sizes[number // images]
        if not length or offset + length > size or alpha_offset + alpha_length > size or bool(alpha_length) != alpha:
            raise Ktx2Error("ktx2.compression", f"the slices of image {number} do not lie inside their level")
