"""Light from all around: scaling of panoramas, panorama → cube map, and mipmaps blurred by roughness.

A panorama is equirectangular: (h, 2 h, 3) linear light, up at the top, the columns once around. Directions in it are
three.js' (``equirectUv``): u = atan2(z, x) / 2π + ½, v = asin(y) / π + ½ from below. Cube maps are KTX's and OpenGL's:
faces +X, -X, +Y, -Y, +Z, -Z, seen from inside in a left-handed space, which is why x changes its sign between the two,
as it does in three.js' own shaders (``flipEnvMap``).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from cloudbaker.compute.textures.radiance import Light

Cube = npt.NDArray[np.float32]
"""(6, size, size, 3)."""
Directions = npt.NDArray[np.float32]
"""(…, 3)."""

SMALLEST_LEVEL = 3
"""Log2 of the smallest faces of a prefiltered cube map: coarser ones could not show from where a room is lit."""

_INTEGRATED, _SOURCE = 3, 16
"""How many of the last levels are integrated, over all texels of faces of that size."""

_FACES = np.array(
    # right, down and forward of each face (OpenGL ES 3.0, table 3.21)
    [
        [[0, 0, -1], [0, -1, 0], [1, 0, 0]],
        [[0, 0, 1], [0, -1, 0], [-1, 0, 0]],
        [[1, 0, 0], [0, 0, 1], [0, 1, 0]],
        [[1, 0, 0], [0, 0, -1], [0, -1, 0]],
        [[1, 0, 0], [0, -1, 0], [0, 0, 1]],
        [[-1, 0, 0], [0, -1, 0], [0, 0, -1]],
    ],
    np.float32,
)


def scale_light(pixels: Light, width: int, height: int, *, around: bool = False) -> Light:
    """Scale (h, w, 3) light with a triangle filter: it has no negative lobes, which would ring dark around the sun.

    `around`: the left edge goes on at the right one.
    """
    source_height, source_width, _ = pixels.shape
    if (width, height) == (source_width, source_height):
        return pixels
    pad = min(source_width, 2 * math.ceil(source_width / width)) if around else 0
    box = (pad, 0, pad + source_width, source_height)
    planes = []
    for channel in range(3):
        plane = pixels[..., channel]
        if pad:
            plane = np.concatenate([plane[:, -pad:], plane, plane[:, :pad]], axis=1)
        image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
        planes.append(np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=box)))
    return np.stack(planes, axis=-1)


def to_cube(panorama: Light, size: int) -> Cube:
    """The six faces of `size` × `size` texels, each the mean of four points of the panorama."""
    if panorama.shape[1] > 4 * size:
        panorama = scale_light(panorama, 4 * size, 2 * size, around=True)
    cube = np.zeros((6, size, size, 3), np.float32)
    for across, down in ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)):
        for face in range(6):
            cube[face] += _panorama_at(panorama, _directions(face, size, across, down) * (-1, 1, 1)) / 4
    return cube


def halve(cube: Cube) -> Cube:
    """The next smaller mipmap: means of four texels."""
    six, size, _, three = cube.shape
    return np.asarray(cube.reshape(six, size // 2, 2, size // 2, 2, three).mean(axis=(2, 4)), np.float32)


def mip_chain_light(cube: Cube) -> list[Cube]:
    """A cube map of a power of two and its mipmaps, down to 1×1."""
    chain = [cube]
    while chain[-1].shape[1] > 1:
        chain.append(halve(chain[-1]))
    return chain


def prefilter(cube: Cube, *, samples: int = 64) -> list[Cube]:
    """Mipmaps as rough surfaces mirror the light, GGX with α = roughness², from a mirror to roughness 1 on faces of
    8 × 8 texels, where it is the light that a matt surface gets: what three.js' PMREMGenerator makes of an environment
    when it is loaded, and Filament's ``cmgen`` before (`roughness_of`).

    The split sum's first part with normal = view = reflection (Karis, "Real Shading in Unreal Engine 4", 2013). Narrow
    lobes are sampled by importance with `samples` fixed directions, fewer at the first levels, each from the mipmap
    that holds its share of the sphere (Křivánek and Colbert, "Real-time Shading with Filtered Importance Sampling",
    2008). For wide ones that would blur twice: the last three levels weigh all texels of a small mipmap, as three.js
    does.
    """
    chain = mip_chain_light(cube)
    size = cube.shape[1]
    last = max(0, size.bit_length() - 1 - SMALLEST_LEVEL)
    out = [cube]
    for level in range(1, last + 1):
        roughness = roughness_of(level, last)
        if level > last - _INTEGRATED:
            source = min(chain, key=lambda smaller: abs(smaller.shape[1] - _SOURCE))
            out.append(_integrated(source, size >> level, roughness))
        else:
            out.append(_sampled(chain, level, roughness, min(samples, samples // 8 << level)))
    return out


def _sampled(chain: list[Cube], level: int, roughness: float, samples: int) -> Cube:
    size = chain[0].shape[1]
    half, weight, mip = _lobe(roughness, samples, size)
    faces = []
    for face in range(6):
        normal = _unit(_directions(face, size >> level, 0.5, 0.5))
        total = np.zeros_like(normal)
        right, up = _frame(normal)
        for at in range(len(weight)):
            towards = half[at, 0] * right + half[at, 1] * up + half[at, 2] * normal
            total += weight[at] * _cube_at(chain, towards, mip[at])
        faces.append(total / weight.sum())
    return np.stack(faces)


def _integrated(source: Cube, size: int, roughness: float) -> Cube:
    """All texels of `source`, weighed for each normal by D · n·l and by the part of the sphere that they take."""
    count = source.shape[1]
    at = (np.arange(count, dtype=np.float32) + 0.5) * 2 / count - 1
    solid = np.power(1 + at[:, None] ** 2 + at[None, :] ** 2, -1.5).ravel()
    light = np.concatenate([_unit(_directions(face, count, 0.5, 0.5)).reshape(-1, 3) for face in range(6)])
    values = source.reshape(-1, 3) * np.tile(solid, 6)[:, None]
    ones = np.tile(solid, 6)
    alpha = np.float32(roughness**2)
    faces = []
    for face in range(6):
        normal = _unit(_directions(face, size, 0.5, 0.5)).reshape(-1, 3)
        cosine = normal @ light.T
        # With the view along the normal n·h is the cosine of half the angle between normal and light.
        weight = np.maximum(cosine, 0) / np.square((alpha**2 - 1) * (1 + cosine) / 2 + 1)
        faces.append((weight @ values / (weight @ ones)[:, None]).reshape(size, size, 3))
    return np.asarray(np.stack(faces), np.float32)


def roughness_of(level: int, last: int) -> float:
    """What a level of a prefiltered cube map is for (three.js' ``lodToRoughness``; Filament's mapping)."""
    return 1 - math.sqrt(1 - level / last) if last else 0.0


def _lobe(roughness: float, samples: int, size: int) -> tuple[Directions, Directions, list[float]]:
    """Reflected directions about the normal (z), their weights n·l, and the mipmap to read each from."""
    at = np.arange(samples)
    first = (at + 0.5) / samples
    second = np.array([int(f"{n:032b}"[::-1], 2) / 2**32 for n in at])  # Hammersley: bits the other way round
    alpha = roughness**2
    cosine = np.sqrt((1 - first) / (1 + (alpha**2 - 1) * first))
    sine = np.sqrt(1 - cosine**2)
    half = np.stack([sine * np.cos(2 * np.pi * second), sine * np.sin(2 * np.pi * second), cosine], axis=-1)
    light = 2 * cosine[:, None] * half - (0, 0, 1)
    above = light[:, 2] > 1e-4
    density = (alpha**2 / (np.pi * ((alpha**2 - 1) * cosine**2 + 1) ** 2) / 4)[above]
    texel = 4 * np.pi / (6 * size * size)
    mip = np.maximum(0, 0.5 * np.log2(1 / (samples * density) / texel) + 0.5)
    return light[above].astype(np.float32), light[above, 2].astype(np.float32), mip.tolist()


def _directions(face: int, size: int, across: float, down: float) -> Directions:
    """(size, size, 3) directions, not of unit length, through the texels of a face."""
    s = (np.arange(size, dtype=np.float32) + np.float32(across)) * 2 / size - 1
    t = (np.arange(size, dtype=np.float32) + np.float32(down)) * 2 / size - 1
    right, below, forward = _FACES[face]
    return np.asarray(s[None, :, None] * right + t[:, None, None] * below + forward, np.float32)


def _unit(vectors: Directions) -> Directions:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def _frame(normal: Directions) -> tuple[Directions, Directions]:
    """Two directions at right angles to each normal and to each other."""
    helper = np.where(np.abs(normal[..., 2:]) < 0.9, np.array([0, 0, 1], np.float32), np.array([1, 0, 0], np.float32))
    right = _unit(np.cross(helper, normal))
    return right, np.cross(normal, right)


def _panorama_at(panorama: Light, towards: Directions) -> Light:
    height, width, _ = panorama.shape
    x, y, z = np.moveaxis(_unit(towards), -1, 0)
    column = (np.arctan2(z, x) / (2 * np.pi) + 0.5) * width - 0.5
    row = (0.5 - np.arcsin(np.clip(y, -1, 1)) / np.pi) * height - 0.5
    return _bilinear(panorama, column, row, around=True)


def _cube_at(chain: list[Cube], towards: Directions, mip: float) -> Light:
    """Light from directions, between the two mipmaps around `mip`. Faces end at their edges."""
    low = min(int(mip), len(chain) - 1)
    high = min(low + 1, len(chain) - 1)
    part = np.float32(mip - low if high > low else 0)
    size = np.abs(towards)
    axis = size.argmax(axis=-1)
    major = np.take_along_axis(towards, axis[..., None], -1)[..., 0]
    face = 2 * axis + (major < 0)
    scaled = towards / np.abs(major)[..., None]
    across = np.einsum("...i,...i->...", scaled, _FACES[face, 0])
    down = np.einsum("...i,...i->...", scaled, _FACES[face, 1])
    out = _face_at(chain[low], face, across, down)
    return out if not part else (1 - part) * out + part * _face_at(chain[high], face, across, down)


def _face_at(cube: Cube, face: npt.NDArray[np.intp], across: Light, down: Light) -> Light:
    size = cube.shape[1]
    column = np.clip((across + 1) * size / 2 - 0.5, 0, size - 1)
    row = np.clip((down + 1) * size / 2 - 0.5, 0, size - 1) + face * size
    return _bilinear(cube.reshape(6 * size, size, 3), column, row, within=size)


def _bilinear(image: Light, column: Light, row: Light, *, around: bool = False, within: int = 0) -> Light:
    """Values between four texels. Columns go `around`, or end at the edge; rows end at the edge of the image, or of the
    `within` rows they begin in."""
    height, width, _ = image.shape
    left, top = np.floor(column).astype(np.intp), np.floor(row).astype(np.intp)
    x, y = (column - left)[..., None].astype(np.float32), (row - top)[..., None].astype(np.float32)
    right, bottom = left + 1, top + 1
    if around:
        left, right = left % width, right % width
    else:
        left, right = np.clip(left, 0, width - 1), np.clip(right, 0, width - 1)
    last = top // within * within + within - 1 if within else np.intp(height - 1)
    top, bottom = np.clip(top, 0, last), np.clip(bottom, 0, last)
    upper = image[top, left] * (1 - x) + image[top, right] * x
    lower = image[bottom, left] * (1 - x) + image[bottom, right] * x
    return np.asarray(upper * (1 - y) + lower * y, np.float32)
