"""The model that ``make demo`` bakes: a lighthouse on a rock, made as exporters make things.

That is: full-size PNG textures, 32-bit floats, the same window and post written once per use, the same normal map
embedded twice. About 4 MB; what a baker can save shows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloudbaker.testing.shapes import (
    Surface,
    box,
    f32,
    heightfield,
    joined,
    lathe,
    noise,
    normal_map,
    sphere,
    to_bytes,
)
from cloudbaker.testing.writer import Writer, encode_image

COPYRIGHT = "© 2026 Cloud Baker contributors, CC0 1.0"


def demo_model() -> bytes:
    """The lighthouse as a GLB: some 50,000 triangles, 7 images, 12 materials, one animation (the lamp turns)."""
    w = Writer(copyright=COPYRIGHT)
    w.json["asset"]["extras"] = {"title": "Lighthouse", "author": "Cloud Baker contributors", "license": "CC0-1.0"}
    materials = _Materials(w)
    tower = _tower(w, materials)
    house = _house(w, materials)
    island = w.node(
        name="Island",
        mesh=w.mesh(_island(), name="Island", material=materials.ground),
        children=[tower, house, *_boulders(w, materials)],
        extras={"collider": "mesh", "walkable": True},
    )
    sea = w.node(name="Sea", mesh=w.mesh(_sea(), name="Sea", material=materials.water), extras={"surface": "water"})
    w.scene(w.node(name="Lighthouse", children=[island, sea]), name="Lighthouse at noon")
    return w.glb()


class _Materials:
    """The materials and their textures, made once."""

    def __init__(self, w: Writer) -> None:
        color, normal, rough = _bricks(1024)
        painted = w.texture(encode_image(color), name="tower color")
        bumps = w.texture(encode_image(normal), name="tower normal")
        rust = w.texture(encode_image(rough), name="tower metallic-roughness")
        # The exporter's sin: the same picture again, because another material uses it
        bumps_again = w.texture(encode_image(normal), name="house normal")
        ground, slope = _ground(1024)
        earth = w.texture(encode_image(ground), name="ground color")
        relief = w.texture(encode_image(slope), name="ground normal")
        waves = w.texture(encode_image(normal_map(noise(512, seed=31, first=8, octaves=4), 9)), name="sea normal")
        self.w = w
        self.tower = self._add(
            "Painted brick",
            {"baseColorTexture": {"index": painted}, "metallicRoughnessTexture": {"index": rust}},
            normalTexture={"index": bumps, "scale": 0.8},
            extras={"physics": "stone"},
        )
        self.ground = self._add(
            "Grass and rock",
            {"baseColorTexture": {"index": earth}, "metallicFactor": 0.0, "roughnessFactor": 0.95},
            normalTexture={"index": relief},
        )
        self.water = self._add(
            "Water",
            {"baseColorFactor": [0.006, 0.085, 0.13, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.14},
            normalTexture={"index": waves, "scale": 0.7},
        )
        self.plaster = self._add(
            "Plaster",
            {"baseColorFactor": [0.86, 0.82, 0.72, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.9},
            normalTexture={"index": bumps_again, "scale": 0.4},
        )
        self.roof = self._flat("Roof", (0.23, 0.028, 0.024), rough=0.55)
        self.iron = self._flat("Iron", (0.045, 0.05, 0.06), rough=0.45, metal=1.0)
        self.stone = self._flat("Stone", (0.235, 0.225, 0.21), rough=0.95)
        self.wood = self._flat("Wood", (0.16, 0.07, 0.03), rough=0.7)
        self.pane = self._flat("Window pane", (0.05, 0.09, 0.13), rough=0.08)
        self.brass = self._flat("Brass", (0.9, 0.6, 0.22), rough=0.22, metal=1.0)
        w.use("KHR_materials_emissive_strength")
        self.lamp = self._add(
            "Lamp",
            {"baseColorFactor": [1.0, 0.85, 0.5, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.4},
            emissiveFactor=[1.0, 0.72, 0.32],
            extensions={"KHR_materials_emissive_strength": {"emissiveStrength": 4.0}},
        )
        self.glass = self._add(
            "Glass",
            {"baseColorFactor": [0.75, 0.88, 0.92, 0.22], "metallicFactor": 0.0, "roughnessFactor": 0.05},
            alphaMode="BLEND",
        )

    def _add(self, name: str, pbr: dict[str, Any], **more: Any) -> int:
        return self.w.add("materials", {"name": name, "pbrMetallicRoughness": pbr, **more})

    def _flat(self, name: str, color: tuple[float, float, float], *, rough: float, metal: float = 0.0) -> int:
        return self._add(name, {"baseColorFactor": [*color, 1.0], "metallicFactor": metal, "roughnessFactor": rough})


GROUND = 0.95
"""Height of the plateau above the sea, metres."""
RADIUS = 4.6
"""Half the edge of the island's sheet."""


def _rise(x: NDArray[Any], z: NDArray[Any]) -> NDArray[np.float64]:
    """Height of the island without its roughness: a plateau that falls into the sea, lower on one side."""
    r = np.sqrt(x * x + z * z) / RADIUS
    shore = np.clip((r - 0.56) / 0.38, 0, 1)
    shore = shore * shore * (3 - 2 * shore)
    return np.asarray(GROUND - 1.75 * shore - 0.22 * np.clip((x - z * 0.4) / RADIUS, 0, 1))


def _island() -> Surface:
    side = 112
    at = np.linspace(-RADIUS, RADIUS, side + 1)
    x, z = np.meshgrid(at, at, indexing="xy")
    rough = noise(128, seed=11, first=4, octaves=5)[: side + 1, : side + 1] - 0.5
    steep = np.clip((np.sqrt(x * x + z * z) / RADIUS - 0.42) / 0.3, 0, 1)
    sheet = heightfield(f32(_rise(x, z) + rough * (0.05 + 1.1 * steep)), 2 * RADIUS)
    # What is well under water is never seen: keep a round island
    corner = sheet.positions[sheet.indices]
    keep = (corner[:, :, 1] > -0.45).any(axis=1) & (np.hypot(corner[:, :, 0], corner[:, :, 2]) < RADIUS).all(axis=1)
    used, indices = np.unique(sheet.indices[keep], return_inverse=True)
    return Surface(
        sheet.positions[used],
        sheet.normals[used],
        sheet.uvs[used],
        indices.reshape(-1, 3).astype(np.uint32),
    )


def _sea() -> Surface:
    edge, depth = 5.6, 0.7
    rim = lathe([(edge - 0.25, -depth), (edge - 0.05, -depth + 0.12), (edge, -0.05)], 96)
    radii = np.linspace(edge, 0, 12)
    top = lathe(np.stack([radii, np.where(radii < edge, 0, -0.05)], axis=1), 96)
    flat = top.positions
    planar = f32(flat[:, [0, 2]] / 2.4)
    # Seams of a polar unwrapping would show in the waves: map the top from above
    return joined([Surface(flat, f32(np.tile([0, 1, 0], (len(flat), 1))), planar, top.indices), rim])


def _tower(w: Writer, m: _Materials) -> int:
    base, top = GROUND - 0.1, 7.2
    heights = np.linspace(0, 1, 65)
    radius = 1.25 - 0.5 * heights + 0.16 * (1 - heights) ** 6
    body = lathe(np.stack([radius, base + heights * (top - base)], axis=1), 128)
    plinth = joined(
        [
            lathe([(1.62, 0.55), (1.62, 1.12)], 64),
            lathe([(1.62, 1.12), (1.56, 1.2), (1.3, 1.2)], 64),
        ]
    )
    corbel = [(0.75, 6.75), (0.82, 6.95), (1.02, 7.1), (1.24, 7.16)]
    gallery = joined(
        [lathe(corbel, 64), lathe([(1.24, 7.16), (1.24, 7.28)], 64), lathe([(1.24, 7.28), (0.5, 7.28)], 64)]
    )
    rail = joined([_ring(1.17, y, 0.028) for y in (7.5, 7.72)])
    drum = joined([lathe([(0.66, 7.28), (0.66, 7.62)], 64), lathe([(0.66, 7.62), (0.5, 7.62)], 64)])
    roof = joined(
        [
            lathe([(0.6, 8.56), (0.86, 8.58)], 64),
            lathe([(0.86, 8.58), (0.84, 8.66), (0.62, 8.9), (0.3, 9.12), (0.1, 9.22), (0.09, 9.34)], 64),
        ]
    )
    ball = joined(
        [
            sphere(0.13, 24).moved((0, 9.44, 0)),
            lathe([(0.018, 9.5), (0.018, 10.05), (0, 10.1)], 8),
        ]
    )
    parts = [
        w.node(name="Plinth", mesh=w.mesh(plinth.tiled(6, 1), name="Plinth", material=m.stone)),
        w.node(name="Gallery", mesh=w.mesh(gallery, name="Gallery", material=m.stone)),
        w.node(name="Rail", mesh=w.mesh(rail, name="Rail", material=m.iron)),
        w.node(name="Drum", mesh=w.mesh(drum, name="Drum", material=m.roof)),
        w.node(name="Roof", mesh=w.mesh(roof, name="Roof", material=m.roof)),
        w.node(name="Finial", mesh=w.mesh(ball, name="Finial", material=m.brass)),
        _door(w, m),
        _lantern(w, m),
    ]
    for i in range(20):  # one mesh each, as a careless export has it
        post = lathe([(0.022, 7.28), (0.022, 7.74)], 10).moved((0, 0, 1.17), turn=0.0)
        angle = i * 2 * np.pi / 20
        mesh = w.mesh(post, name=f"Post.{i:03}", material=m.iron)
        parts.append(w.node(name=f"Post.{i:03}", mesh=mesh, rotation=_about_y(angle)))
    for i, (height, angle) in enumerate([(2.7, 0.9), (4.2, 0.35), (5.7, -0.2), (3.5, 3.4), (5.0, 2.6)]):
        r = float(np.interp(height, base + heights * (top - base), radius))
        parts.append(_window(w, m, f"Tower window.{i:03}", (0.0, height, r - 0.04), angle))
    return w.node(
        name="Tower",
        mesh=w.mesh(body, name="Tower", material=m.tower),
        children=parts,
        extras={"height_m": 9.1, "built": 1887},
    )


def _lantern(w: Writer, m: _Materials) -> int:
    bars = joined(
        [
            *(box((0.035, 0.98, 0.035)).moved((0, 8.1, 0.58)).moved(turn=i * np.pi / 4) for i in range(8)),
            _ring(0.585, 8.1, 0.016),
        ]
    )
    glass = lathe([(0.56, 7.62), (0.56, 8.58)], 48)
    lens = joined(
        [
            lathe([(0.12, -0.3), (0.24, -0.16), (0.28, 0), (0.24, 0.16), (0.12, 0.3)], 40),
            lathe([(0.12, 0.3), (0, 0.34)], 40),
        ]
    )
    shade = joined(
        [box((0.1, 0.62, 0.5), (0.3, 0, 0)), box((0.1, 0.62, 0.5), (-0.3, 0, 0)), box((0.7, 0.05, 0.5), (0, -0.36, 0))]
    )
    lamp = w.node(
        name="Lamp",
        translation=[0.0, 8.08, 0.0],
        children=[
            w.node(name="Lens", mesh=w.mesh(lens, name="Lens", material=m.lamp)),
            w.node(name="Shade", mesh=w.mesh(shade, name="Shade", material=m.brass)),
        ],
        extras={"socket": "beam"},
    )
    angle = np.linspace(0, 2 * np.pi, 9)
    turn = f32(np.stack([0 * angle, np.sin(angle / 2), 0 * angle, np.cos(angle / 2)], axis=1))
    w.animation("Lamp turns", [(lamp, "rotation", f32(np.linspace(0, 6, 9)), turn)])
    # Last of all nodes with a mesh: what is behind glass is drawn before it
    return w.node(
        name="Lantern",
        mesh=w.mesh(bars, name="Lantern bars", material=m.iron),
        children=[lamp, w.node(name="Lantern glass", mesh=w.mesh(glass, name="Lantern glass", material=m.glass))],
    )


def _door(w: Writer, m: _Materials) -> int:
    leaf = w.mesh(box((0.5, 0.95, 0.1)), name="Door", material=m.wood)
    frame = joined(
        [
            box((0.12, 1.1, 0.2), (-0.31, 0.03, 0)),
            box((0.12, 1.1, 0.2), (0.31, 0.03, 0)),
            box((0.86, 0.16, 0.24), (0, 0.58, 0)),
            box((0.9, 0.12, 0.5), (0, -0.5, 0.12)),
        ]
    )
    steps = w.node(name="Door frame", mesh=w.mesh(frame, name="Door frame", material=m.stone))
    knob = w.node(
        name="Knob", mesh=w.mesh(sphere(0.035, 16), name="Knob", material=m.brass), translation=[0.17, 0, 0.08]
    )
    angle = 0.25
    place = [float(v) for v in f32([1.33 * np.sin(angle), 1.72, 1.33 * np.cos(angle)])]
    return w.node(
        name="Door",
        mesh=leaf,
        translation=place,
        rotation=_about_y(angle),
        children=[steps, knob],
        extras={"opens": True},
    )


def _window(w: Writer, m: _Materials, name: str, place: tuple[float, float, float], angle: float) -> int:
    """A pane, a frame and a sill, written anew for each window."""
    pane = w.mesh(box((0.3, 0.48, 0.06)).moved(place), name=f"{name} pane", material=m.pane)
    bars = joined(
        [
            box((0.06, 0.56, 0.12), (-0.17, 0, 0)),
            box((0.06, 0.56, 0.12), (0.17, 0, 0)),
            box((0.4, 0.06, 0.12), (0, 0.26, 0)),
            box((0.03, 0.5, 0.09)),
            box((0.32, 0.03, 0.09)),
            box((0.48, 0.07, 0.2), (0, -0.28, 0.03)),
        ]
    )
    frame = w.node(name=f"{name} frame", mesh=w.mesh(bars.moved(place), name=f"{name} frame", material=m.plaster))
    return w.node(name=name, mesh=pane, rotation=_about_y(angle), children=[frame])


def _house(w: Writer, m: _Materials) -> int:
    width, depth, wall, ridge = 1.9, 1.45, 1.15, 0.72
    walls = joined([box((width, wall, depth), (0, wall / 2, 0)), _gable(width, depth, wall, ridge)])
    roof = joined([_slab(width + 0.3, depth / 2 + 0.17, ridge / (depth / 2), wall + ridge, side) for side in (1, -1)])
    chimney = joined(
        [box((0.26, 0.8, 0.26), (0.5, wall + 0.65, -0.22)), box((0.33, 0.08, 0.33), (0.5, wall + 1.06, -0.22))]
    )
    parts = [
        w.node(name="House roof", mesh=w.mesh(roof, name="House roof", material=m.roof)),
        w.node(name="Chimney", mesh=w.mesh(chimney.tiled(0.3, 0.3), name="Chimney", material=m.stone)),
        w.node(name="House door", mesh=w.mesh(box((0.4, 0.8, 0.06), (0.0, 0.42, depth / 2)), material=m.wood)),
        _window(w, m, "House window.000", (-0.6, 0.65, depth / 2), 0.0),
        _window(w, m, "House window.001", (0.6, 0.65, depth / 2), 0.0),
        _window(w, m, "House window.002", (0.0, 0.65, width / 2), np.pi / 2),
    ]
    return w.node(
        name="House",
        mesh=w.mesh(walls.tiled(0.35, 0.2), name="House walls", material=m.plaster),
        translation=[1.9, 0.74, 0.1],
        rotation=_about_y(0.35),
        children=parts,
    )


def _gable(width: float, depth: float, wall: float, ridge: float) -> Surface:
    """The two triangles under the roof."""
    x, z = width / 2, depth / 2
    corners = [
        [(x, wall, z), (x, wall, -z), (x, wall + ridge, 0)],
        [(-x, wall, -z), (-x, wall, z), (-x, wall + ridge, 0)],
    ]
    normals = np.repeat([[1, 0, 0], [-1, 0, 0]], 3, axis=0)
    uvs = np.tile([[0, 1], [1, 1], [0.5, 0]], (2, 1))
    return Surface(
        f32(np.reshape(corners, (6, 3))), f32(normals), f32(uvs), np.arange(6, dtype=np.uint32).reshape(2, 3)
    )


def _slab(width: float, run: float, pitch: float, top: float, side: int) -> Surface:
    """One side of a roof: a box sheared down from the ridge."""
    flat = box((width, 0.09, run), (0, 0, side * run / 2))
    positions = flat.positions - np.abs(flat.positions[:, 2:]) * np.array([0, pitch, 0]) + np.array([0, top + 0.03, 0])
    normals = flat.normals.copy().astype(np.float64)
    normals[:, 2] += normals[:, 1] * side * pitch
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Surface(f32(positions), f32(normals), flat.uvs, flat.indices)


def _boulders(w: Writer, m: _Materials) -> list[int]:
    """Rocks along the shore: one lumpy ball, written once and used often, and scaled without mercy."""
    rng = np.random.default_rng(23)
    ball = sphere(1, 24)
    lumps = noise(64, seed=24, first=4, octaves=3)
    row = np.clip((ball.uvs[:, 1] * 63).astype(int), 0, 63)
    # The first and the last meridian are the same place, and a pole is one point
    column = (np.round(ball.uvs[:, 0] * 63).astype(int)) % 63
    column[(ball.uvs[:, 1] == 0) | (ball.uvs[:, 1] == 1)] = 0
    rock = Surface(
        f32(ball.positions * (0.72 + 0.5 * lumps[row, column])[:, None]), ball.normals, ball.uvs, ball.indices
    )
    mesh = w.mesh(rock, name="Boulder", material=m.stone)
    nodes = []
    for i in range(18):
        angle = i * 2 * np.pi / 18 + rng.random() * 0.25
        r = 3.35 + rng.random() * 0.75
        size = 0.16 + 0.3 * rng.random() ** 2
        nodes.append(
            w.node(
                name=f"Boulder.{i:03}",
                mesh=mesh,
                translation=f32([r * np.sin(angle), -0.02 + 0.1 * rng.random(), r * np.cos(angle)]).tolist(),
                rotation=_about_y(rng.random() * 6),
                scale=f32([size * 1.2, size * (0.6 + 0.5 * rng.random()), size]).tolist(),
            )
        )
    return nodes


def _ring(radius: float, height: float, thickness: float) -> Surface:
    """A torus lying flat, 64 × 10."""
    angle = np.linspace(-np.pi, np.pi, 11)
    profile = np.stack([radius - thickness * np.cos(angle), height - thickness * np.sin(angle)], axis=1)
    profile[-1] = profile[0]
    return lathe(profile[::-1], 64)


def _about_y(angle: float) -> list[float]:
    return [0.0, float(f32(np.sin(angle / 2))), 0.0, float(f32(np.cos(angle / 2)))]


def _bricks(size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Colour, normals and metallic-roughness of a painted brick wall: a spiral of red on white, worn."""
    rows, columns = 48, 24
    y, x = np.mgrid[0:size, 0:size] / size
    course = np.floor(y * rows)
    across = x * columns + 0.5 * (course % 2)
    u, v = across % 1, (y * rows) % 1
    edge = np.minimum(np.minimum(u, 1 - u) * 2.0, np.minimum(v, 1 - v))
    brick = np.clip(edge / 0.1, 0, 1)
    fine, broad = noise(size, seed=1, first=64, octaves=3), noise(size, seed=2, first=4, octaves=5)
    each = np.random.default_rng(3).random((rows, columns + 1))[course.astype(int), across.astype(int) % columns]
    stripe = ((x + 2.5 * y) % 1.0) < 0.5
    paint = np.where(stripe[..., None], [0.68, 0.055, 0.05], [0.92, 0.9, 0.85])
    worn = np.clip((broad - 0.66) * 6 + (fine - 0.5), 0, 1) * 0.75
    bare = np.array([0.42, 0.3, 0.24])
    color = paint * (0.93 + 0.07 * each)[..., None]
    color = color * (1 - worn[..., None]) + bare * (0.8 + 0.4 * each)[..., None] * worn[..., None]
    grime = np.clip((y - 0.78) * 3 * (0.6 + broad), 0, 0.5)
    color *= ((0.72 + 0.28 * brick) * (1 - grime) * (0.95 + 0.05 * fine))[..., None]
    height = brick * (0.8 + 0.2 * each) + fine * 0.12 - worn * 0.15
    rough = np.clip(0.42 + 0.4 * worn + 0.3 * (1 - brick) + 0.15 * (fine - 0.5), 0, 1)
    return (
        to_bytes(color),
        normal_map(height, 1.6),
        to_bytes(np.stack([np.ones_like(rough), rough, np.zeros_like(rough)], axis=2))[::2, ::2].copy(),
    )


def _ground(size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Colour and normals of the island seen from above: grass, a path to the door, rock, wet rock."""
    at = (np.arange(size) + 0.5) / size * 2 * RADIUS - RADIUS
    x, z = np.meshgrid(at, at, indexing="xy")
    broad, fine = noise(size, seed=41, first=8, octaves=5), noise(size, seed=42, first=64, octaves=3)
    height = _rise(x, z) + (broad - 0.5) * 0.25

    def mix(a: Any, b: Any, t: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(a * (1 - t[..., None]) + b * t[..., None])

    grass = np.array([0.22, 0.34, 0.09]) * (0.65 + 0.5 * fine + 0.3 * (broad - 0.5))[..., None]
    rock = np.array([0.42, 0.4, 0.37]) * (0.55 + 0.6 * broad + 0.25 * (fine - 0.5))[..., None]
    color = mix(rock, grass, np.clip((height - 0.52) * 7, 0, 1))
    away = np.abs(x - 0.36 * z - 0.25 * np.sin(1.8 * z)) + 0.12 * (broad - 0.5)
    path = np.clip((0.34 - away) * 9, 0, 1) * (z > 0.6) * np.clip((height - 0.2) * 4, 0, 1)
    color = mix(color, np.array([0.55, 0.47, 0.34]) * (0.8 + 0.4 * fine)[..., None], path)
    wet = np.clip((0.22 - height) * 4, 0, 1)
    color = mix(color, color * 0.42, wet)
    relief = normal_map(broad * 2 + fine * (0.35 - 0.25 * path), 5)
    return to_bytes(color), relief[::2, ::2].copy()
