"""Generated models that waste something each: what the verbs of ``compute/gltf`` have to do (docs/gltf.md).

Valid, deterministic and small, like those of `cloudbaker.testing.models`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cloudbaker.testing import shapes
from cloudbaker.testing.shapes import Surface, f32
from cloudbaker.testing.writer import Writer, encode_image

SPEC_GLOSS = "KHR_materials_pbrSpecularGlossiness"


def unwelded(segments: int = 32) -> bytes:
    """A ball whose triangles share no vertices, as exporters of triangle soup write it."""
    ball = shapes.sphere(1, segments)
    order = ball.indices.reshape(-1)
    return _show(
        Surface(
            ball.positions[order],
            ball.normals[order],
            ball.uvs[order],
            np.arange(len(order), dtype=np.uint32).reshape(-1, 3),
        )
    )


def shuffled(segments: int = 48) -> bytes:
    """A ball with its triangles in no order at all."""
    ball = shapes.sphere(1, segments)
    return _show(replace(ball, indices=np.random.default_rng(0).permutation(ball.indices)))


def crates(n: int = 25, *, copies: bool = False) -> bytes:
    """`n` boxes in rows, each in a group without a name: of one mesh, or of a copy each."""
    w = Writer()
    material = _paint(w)
    mesh = w.mesh(shapes.box(), material=material)
    groups = []
    for i in range(n):
        shown = w.mesh(shapes.box(), material=material) if copies and i else mesh
        group = w.node(translation=[1.5 * (i % 5), 0, 1.5 * (i // 5)], children=[len(w.json.get("nodes", ())) + 1])
        w.node(mesh=shown)
        groups.append(group)
    w.scene(*groups)
    return w.glb()


def smile(n: int = 32) -> bytes:
    """A sheet with two morph targets that move a corner of it each."""
    sheet = shapes.heightfield(f32(np.zeros((n + 1, n + 1))))
    w = Writer()
    primitive = w.primitive(sheet, material=_paint(w))
    corners = []
    for sign in (-1, 1):
        near = np.maximum(0, 0.3 - np.abs(sheet.positions[:, [0, 2]] * sign - 0.5).max(axis=1))
        corners.append(f32(np.stack([0 * near, near, 0 * near], axis=1)))
    primitive["targets"] = [{"POSITION": w.attribute(corner, bounds=True)} for corner in corners]
    w.scene(w.node(name="face", mesh=w.add("meshes", {"primitives": [primitive], "weights": [0, 0]})))
    return w.glb()


def frames(keys: int = 240) -> bytes:
    """A box that turns and travels, with a key for every frame."""
    w = Writer()
    node = w.node(name="box", mesh=w.mesh(shapes.box(), material=_paint(w)))
    part = np.linspace(0, 1, keys)
    half = np.pi * part
    turn = f32(np.stack([0 * half, np.sin(half / 2), 0 * half, np.cos(half / 2)], axis=1))
    way = f32(np.stack([4 * part, np.sin(np.pi * part), 0 * part], axis=1))
    times = f32(part * keys / 60)
    w.animation("drive", [(node, "rotation", times, turn), (node, "translation", times, way)])
    w.scene(node)
    return w.glb()


def copies(size: int = 32) -> bytes:
    """Two boxes whose materials and images are the same but for a number in their names, as editors make them."""
    w = Writer()
    pixels = _noise(size, 3)
    for number in range(2):
        name = f"Metal.{number:03d}"
        texture = w.texture(encode_image(pixels, compress_level=number * 9), name=name)
        pbr = {"baseColorTexture": {"index": texture}}
        material = w.add("materials", {"name": name, "pbrMetallicRoughness": pbr})
        w.node(name=f"box{number}", mesh=w.mesh(shapes.box(), material=material), translation=[2 * number, 0, 0])
    w.scene(0, 1)
    return w.glb()


def glossy(size: int = 32) -> bytes:
    """A box of the specular-glossiness workflow: diffuse texture, and gloss in the alpha of the specular one."""
    w = Writer()
    diffuse, shiny = (w.texture(encode_image(_noise(size, c)), name=n) for c, n in ((3, "diffuse"), (4, "shiny")))
    extension = {
        "diffuseTexture": {"index": diffuse},
        "specularGlossinessTexture": {"index": shiny},
        "glossinessFactor": 0.8,
    }
    material = w.add("materials", {"name": "paint", "extensions": {SPEC_GLOSS: extension}})
    w.use(SPEC_GLOSS)
    w.scene(w.node(name="box", mesh=w.mesh(shapes.box(), material=material)))
    return w.glb()


def occluded(size: int = 32) -> bytes:
    """A box with occlusion and metallic-roughness in an image each."""
    w = Writer()
    occlusion, rough = (w.texture(encode_image(_noise(size, 3, seed)), name=n) for seed, n in ((1, "ao"), (2, "mr")))
    pbr = {"metallicRoughnessTexture": {"index": rough}}
    material = w.add(
        "materials", {"name": "stone", "occlusionTexture": {"index": occlusion}, "pbrMetallicRoughness": pbr}
    )
    w.scene(w.node(name="box", mesh=w.mesh(shapes.box(), material=material)))
    return w.glb()


def _show(surface: Surface) -> bytes:
    w = Writer()
    w.scene(w.node(name="ball", mesh=w.mesh(surface, name="ball", material=_paint(w))))
    return w.glb()


def _paint(w: Writer) -> int:
    return w.add("materials", {"name": "paint", "pbrMetallicRoughness": {"baseColorFactor": [0.2, 0.4, 0.8, 1]}})


def _noise(size: int, channels: int, seed: int = 0) -> NDArray[np.uint8]:
    """Soft, so that it compresses as textures do."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (size // 8, size // 8, channels))
    return np.kron(small, np.ones((8, 8, 1))).astype(np.uint8)


WASTEFUL = {
    "copies": copies,
    "crates": crates,
    "frames": frames,
    "glossy": glossy,
    "occluded": occluded,
    "shuffled": shuffled,
    "smile": smile,
    "unwelded": unwelded,
}
"""By name."""
