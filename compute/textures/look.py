"""A compressed texture file held against its specification, and decoded to the last level: KTX2 and ``.astc``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cloudbaker.compute.job import Inputs, JobResult, Params
from cloudbaker.compute.textures.astc_blocks import BLOCKS, decode_astc, decode_astc_hdr
from cloudbaker.compute.textures.astc_file import ASTC_MAGIC, read_astc
from cloudbaker.compute.textures.ktx2 import Ktx2, Ktx2Error, level_size, read_ktx2
from cloudbaker.compute.textures.ktx2_uastc import transcoded
from cloudbaker.model import Finding, Severity, to_json

_MAKE_ANEW = "make the file anew from its source image"


@dataclass(frozen=True, slots=True)
class Look:
    """What a file was found to be."""

    format: str
    """``uastc``, ``etc1s``, ``astc-6x6``, ``rgb9e5`` …"""
    width: int
    height: int
    levels: int
    faces: int
    layers: int
    srgb: bool | None
    """None for ``.astc``, which does not say."""
    gpu_bytes: int


def look_job(inputs: Inputs, params: Params) -> JobResult:
    """Look at ``inputs["file"]``; `params`: ``image_pixels``, the limit. The value has the fields of `Look`, and
    ``findings``; with an error among them it has nothing else."""
    try:
        found = look(inputs["file"], max_pixels=int(params.get("image_pixels", 64 << 20)))
    except ValueError as error:
        code = error.code if isinstance(error, Ktx2Error) else "texture.damaged"
        return JobResult({"findings": [to_json(Finding(code, Severity.ERROR, "", str(error), _MAKE_ANEW))]})
    value: dict[str, Any] = {name: getattr(found, name) for name in Look.__slots__}
    return JobResult({**value, "findings": []})


def look(data: bytes | bytearray | memoryview, *, max_pixels: int = 64 << 20) -> Look:
    """Read a file strictly and decode all its levels. Raises Ktx2Error, or ValueError for what is no ``.astc``."""
    if bytes(memoryview(data)[:4]) == ASTC_MAGIC:
        plain = read_astc(data)
        if plain.width * plain.height > max_pixels:
            raise ValueError(f"{plain.width} × {plain.height} texels are more than the limit of {max_pixels}")
        decode_astc(plain.blocks, plain.width, plain.height, block=plain.block)
        name = f"astc-{plain.block}x{plain.block}"
        return Look(name, plain.width, plain.height, 1, 1, 0, None, len(plain.blocks))
    file = read_ktx2(data, max_pixels=max_pixels)
    _decode(bytes(data), file)
    return Look(
        file.codec.name,
        file.width,
        file.height,
        len(file.levels),
        file.faces,
        file.layers,
        file.srgb,
        file.gpu_bytes,
    )


def _decode(data: bytes, file: Ktx2) -> None:
    if file.codec.name in ("uastc", "etc1s"):
        if file.faces == 1 and not file.layers:
            for level in range(len(file.levels)):
                transcoded(data, level)
        return
    across, down = file.codec.block
    blocks = [block for block in BLOCKS if block == across == down]
    if not file.codec.name.startswith("astc") or not blocks:
        return  # texels as they are
    decode = decode_astc_hdr if file.codec.hdr else decode_astc
    for number, images in enumerate(file.levels):
        width, height = level_size(file.width, file.height, number)
        size = file.codec.size(width, height)
        for at in range(0, len(images), size):
            decode(images[at : at + size], width, height, block=blocks[0])
