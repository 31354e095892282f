"""Images by their headers: known types, sizes within the limit, and what is declared is what is there."""

from __future__ import annotations

from typing import Any

from cloudbaker.compute.gltf.basisu import check_ktx2
from cloudbaker.compute.gltf.findings import Findings, quote
from cloudbaker.compute.gltf.layout import meshopt_extension
from cloudbaker.compute.gltf.limits import ContentLimits
from cloudbaker.compute.gltf.references import IMAGE_FORMATS
from cloudbaker.compute.textures.headers import ImageHeader, image_header

Document = dict[str, Any]


def check_images(document: Document, bin: memoryview | None, limits: ContentLimits, findings: Findings) -> None:
    """Check the images of a document that has passed `check_layout`. Only KTX2 is looked into: nothing else will."""
    total = 0
    for at, image in enumerate(document.get("images", ())):
        header = check_image(image, image_bytes(document, bin, image), f"/images/{at}", limits, findings)
        if header is None:
            continue
        total += header.pixels
        if header.mime == "image/ktx2" and header.pixels <= limits.image_pixels:
            content = image_bytes(document, bin, image)
            assert content is not None  # its header was read
            check_ktx2(document, at, content, limits, findings)
        extension = IMAGE_FORMATS.get(header.mime)
        if extension is not None and extension not in document.get("extensionsUsed", ()):
            findings.add("image.unsupported", f"/images/{at}", f"a {header.mime} needs {extension}")
    if total > limits.image_pixels_total:
        findings.add(
            "image.too-large",
            "/images",
            f"all images together have {total:,} pixels, the limit is {limits.image_pixels_total:,}",
        )


def image_bytes(document: Document, bin: memoryview | None, image: Document) -> memoryview | None:
    """The encoded image in the binary chunk, or None where it has none there."""
    if "bufferView" not in image or bin is None:
        return None
    view = document["bufferViews"][image["bufferView"]]
    if view["buffer"] != 0 or meshopt_extension(view) is not None:
        return None
    start = view.get("byteOffset", 0)
    return bin[start : start + view["byteLength"]]


def check_image(
    image: Document, data: memoryview | None, place: str, limits: ContentLimits, findings: Findings
) -> ImageHeader | None:
    """Check one image; its header, or None where there is none to be read."""
    if data is None:
        findings.add("image.invalid", place, "the image has no data in this file")
        return None
    try:
        header = image_header(data)
    except ValueError as error:
        findings.add("image.invalid", place, str(error))
        return None
    if header.pixels > limits.image_pixels:
        findings.add(
            "image.too-large",
            place,
            f"the image says {header.width:,} × {header.height:,} pixels, the limit is {limits.image_pixels:,}",
        )
    declared = image.get("mimeType")
    if declared != header.mime:
        findings.add("image.mime-mismatch", place, f"{quote(declared)} is declared, the bytes are {header.mime}")
    return header
