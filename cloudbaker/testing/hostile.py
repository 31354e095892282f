"""Files that are wrong on purpose, one fault each. None of them may end in anything but a finding."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable

import numpy as np

from cloudbaker.testing import shapes
from cloudbaker.testing.shapes import Surface
from cloudbaker.testing.writer import Writer, encode_image, pack, unpack


def hostile(kind: str) -> bytes:
    """The faulty file of a kind; `HOSTILE` has the kinds."""
    return HOSTILE[kind]()


def _writer(surface: Surface | None = None) -> Writer:
    w = Writer()
    w.scene(w.node(name="box", mesh=w.mesh(surface or shapes.box(), name="box")))
    return w


def truncated() -> bytes:
    """Ends in the middle of the binary chunk."""
    glb = _writer().glb()
    return glb[: len(glb) - 400]


def wrong_magic() -> bytes:
    """A GLB but for its first four bytes."""
    return b"glTG" + _writer().glb()[4:]


def wrong_length() -> bytes:
    """A header that claims 4 GB."""
    glb = _writer().glb()
    return glb[:8] + struct.pack("<I", 0xFFFFFFF0) + glb[12:]


def deep_json() -> bytes:
    """100,000 arrays in one another: overflows the stack of a recursive parser."""
    depth = 100_000
    return pack(b'{"asset":{"version":"2.0"},"extras":' + b"[" * depth + b"]" * depth + b"}")


def huge_counts() -> bytes:
    """An accessor of 4 billion zeros without a bufferView: 48 GB when taken at its word."""
    w = _writer()
    accessor = w.json["accessors"][w.json["meshes"][0]["primitives"][0]["attributes"]["POSITION"]]
    del accessor["bufferView"]
    accessor["count"] = 4_000_000_000
    return w.glb()


def count_overflow() -> bytes:
    """An accessor that reads far past its bufferView."""
    w = _writer()
    w.json["accessors"][0]["count"] = 100_000
    return w.glb()


def cyclic_nodes() -> bytes:
    """A node that is its own grandchild."""
    w = _writer()
    w.json["nodes"] = [{"mesh": 0, "children": [1]}, {"children": [2]}, {"children": [0]}]
    return w.glb()


def shared_nodes() -> bytes:
    """40 levels of two references to the same child: 2⁴⁰ nodes for who walks them as a tree."""
    w = _writer()
    w.json["nodes"] = [{"mesh": 0}, *({"children": [i, i]} for i in range(40))]
    w.json["scenes"][0]["nodes"] = [40]
    return w.glb()


def nan_positions() -> bytes:
    """NaN and infinity among the positions."""
    surface = shapes.box()
    w = _writer(surface)
    view = w.json["bufferViews"][w.json["accessors"][0]["bufferView"]]
    w.bin[view["byteOffset"] : view["byteOffset"] + 8] = struct.pack("<ff", float("nan"), float("inf"))
    return w.glb()


def index_out_of_range() -> bytes:
    """Indices that point past the vertices."""
    surface = shapes.box()
    wrong = surface.indices.copy()
    wrong[5] = (60_000, 60_001, 60_002)
    return _writer(Surface(surface.positions, surface.normals, surface.uvs, wrong)).glb()


def missing_reference() -> bytes:
    """A node of mesh 7 where there is one mesh."""
    w = _writer()
    w.json["nodes"][0]["mesh"] = 7
    return w.glb()


def misaligned() -> bytes:
    """Floats at an odd offset."""
    w = _writer()
    w.json["accessors"][0]["byteOffset"] = 2
    w.json["accessors"][0]["count"] -= 1
    return w.glb()


def _uri(uri: str) -> bytes:
    w = _writer()
    image = w.add("images", {"uri": uri})
    texture = w.add("textures", {"source": image})
    material = w.add("materials", {"pbrMetallicRoughness": {"baseColorTexture": {"index": texture}}})
    w.json["meshes"][0]["primitives"][0]["material"] = material
    return w.glb()


def path_traversal_uri() -> bytes:
    """An image at ``../../../../etc/passwd``."""
    return _uri("../../../../etc/passwd")


def encoded_traversal_uri() -> bytes:
    """The same, percent-encoded."""
    return _uri("..%2f..%2F..%2fetc/passwd")


def absolute_uri() -> bytes:
    """An image at ``/etc/passwd``."""
    return _uri("/etc/passwd")


def file_uri() -> bytes:
    """An image at ``file:///etc/passwd``."""
    return _uri("file:///etc/passwd")


def http_uri() -> bytes:
    """An image on somebody's server (and a metadata service's address at that)."""
    return _uri("http://169.254.169.254/latest/meta-data/")


def data_uri_bomb() -> bytes:
    """A data URI of some 120 KB that is a PNG of 30,000 × 30,000 pixels."""
    return _uri("data:image/png;base64," + base64.b64encode(_png(30_000, 30_000, rows=30_000)).decode())


def huge_png_header() -> bytes:
    """An embedded PNG whose header says 65,535 × 65,535."""
    return _with_image(_png(65_535, 65_535, rows=0))


def corrupt_png() -> bytes:
    """An embedded PNG with a good header and noise for pixels."""
    good = encode_image(np.zeros((64, 64, 3), dtype=np.uint8))
    return _with_image(good[:60] + np.random.default_rng(5).bytes(400))


def really_a_png() -> bytes:
    """A picture that somebody renamed to .glb."""
    return encode_image(shapes.to_bytes(np.tile(shapes.noise(32, seed=1)[..., None], (1, 1, 3))))


def empty() -> bytes:
    """Nothing."""
    return b""


def corrupt_draco() -> bytes:
    """A Draco payload with its middle overwritten by noise."""
    from cloudbaker.testing.models import draco

    return _noise_in_payload(draco(), "bufferViews", None)


def corrupt_meshopt() -> bytes:
    """A meshopt payload with its middle overwritten by noise."""
    from cloudbaker.testing.models import meshopt

    return _noise_in_payload(meshopt(), "bufferViews", "EXT_meshopt_compression")


def duplicate_keys() -> bytes:
    """JSON with the same key twice: two readers see two documents."""
    return pack(b'{"asset":{"version":"2.0"},"asset":{"version":"1.0"}}')


def not_json() -> bytes:
    """A JSON chunk that is not JSON."""
    return pack(b"<html><body>404 Not Found</body></html>")


def invalid_utf8() -> bytes:
    """A JSON chunk that is not UTF-8."""
    return pack(b'{"asset":{"version":"2.0"},"extras":"\xff\xfe\x80"}')


def huge_integer() -> bytes:
    """A number of 100,000 digits where an index belongs."""
    return pack(b'{"asset":{"version":"2.0"},"scene":' + b"9" * 100_000 + b"}")


def _with_image(data: bytes) -> bytes:
    w = _writer()
    texture = w.texture(data)
    material = w.add("materials", {"pbrMetallicRoughness": {"baseColorTexture": {"index": texture}}})
    w.json["meshes"][0]["primitives"][0]["material"] = material
    return w.glb()


def _png(width: int, height: int, *, rows: int) -> bytes:
    """A 1-bit greyscale PNG that declares `height` rows and holds `rows`, all black."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    squeezed = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    data = b"".join(squeezed.compress(row) for _ in range(rows)) + squeezed.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _noise_in_payload(glb: bytes, collection: str, extension: str | None) -> bytes:
    document, binary = unpack(glb)
    view = document[collection][0]
    view = view["extensions"][extension] if extension else view
    start, length = view.get("byteOffset", 0), view["byteLength"]
    middle = slice(start + length // 4, start + length // 2)
    spoiled = bytearray(binary)
    spoiled[middle] = np.random.default_rng(9).bytes(middle.stop - middle.start)
    return pack(document, bytes(spoiled))


HOSTILE: dict[str, Callable[[], bytes]] = {
    maker.__name__: maker
    for maker in (
        truncated,
        wrong_magic,
        wrong_length,
        deep_json,
        huge_counts,
        count_overflow,
        cyclic_nodes,
        shared_nodes,
        nan_positions,
        index_out_of_range,
        missing_reference,
        misaligned,
        path_traversal_uri,
        encoded_traversal_uri,
        absolute_uri,
        file_uri,
        http_uri,
        data_uri_bomb,
        huge_png_header,
        corrupt_png,
        corrupt_draco,
        corrupt_meshopt,
        duplicate_keys,
        not_json,
        invalid_utf8,
        huge_integer,
        really_a_png,
        empty,
    )
}
"""Every kind of bad file by name, for parametrised tests."""
