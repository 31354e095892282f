"""Generated models, each a GLB with one feature of glTF that a baker can lose or break.

All are deterministic, small unless asked otherwise, and have no errors in the official validator (tests/unit/testing
runs it). Bad files are in `cloudbaker.testing.hostile`, the model of ``make demo`` in `cloudbaker.testing.demo`; all of
it is also importable from here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cloudbaker.testing import shapes
from cloudbaker.testing.demo import demo_model
from cloudbaker.testing.files import write_gltf_folder, zip_of
from cloudbaker.testing.hostile import HOSTILE, hostile
from cloudbaker.testing.shapes import f32
from cloudbaker.testing.writer import ARRAY_BUFFER, Writer, encode_image

__all__ = [
    "HOSTILE",
    "VALID",
    "animated",
    "box",
    "demo_model",
    "draco",
    "grid",
    "hostile",
    "interleaved",
    "lights",
    "many_nodes",
    "meshopt",
    "morphed",
    "points_and_lines",
    "quantized",
    "skinned",
    "small_asset",
    "sparse",
    "sphere",
    "textured",
    "unknown_extension",
    "variants",
    "vertex_colored",
    "with_extras_and_names",
    "write_gltf_folder",
    "zip_of",
]


def box(*, size: float = 1.0, color: tuple[float, float, float] = (0.8, 0.35, 0.2)) -> bytes:
    """A cube, 12 triangles, no texture: the smallest model that one would call one."""
    w = Writer()
    w.scene(w.node(name="box", mesh=w.mesh(shapes.box(size), name="box", material=_plain(w, color), uv=False)))
    return w.glb()


def sphere(segments: int = 32) -> bytes:
    """A UV sphere of about ``segments²`` triangles."""
    w = Writer()
    w.scene(w.node(name="sphere", mesh=w.mesh(shapes.sphere(1, segments), material=_plain(w, (0.2, 0.4, 0.8)))))
    return w.glb()


def grid(n: int = 64, *, seed: int = 0) -> bytes:
    """A hilly sheet of exactly ``n·n·2`` triangles (n = 708 is a million)."""
    heights = shapes.noise(1 << n.bit_length(), seed=seed)[: n + 1, : n + 1]
    w = Writer()
    surface = shapes.heightfield(f32(heights * 0.15))
    w.scene(w.node(name="grid", mesh=w.mesh(surface, name="grid", material=_plain(w, (0.35, 0.5, 0.3)))))
    return w.glb()


def textured(size: int = 512, *, mime: str = "image/png", seed: int = 0) -> bytes:
    """A box with base colour (PNG or JPEG), normal map and metallic-roughness texture (both PNG), `size`² pixels."""
    height = shapes.noise(size, seed=seed, first=8)
    stripe = ((np.arange(size) * 8 // size) % 2)[:, None]
    tint = np.array([0.85, 0.25, 0.15]) * stripe[..., None] + np.array([0.9, 0.88, 0.8]) * (1 - stripe[..., None])
    color = shapes.to_bytes(tint * (0.6 + 0.4 * height[..., None]))
    rough = shapes.to_bytes(np.stack([np.ones_like(height), 0.4 + 0.5 * height, 0.3 * height], axis=2))
    w = Writer()
    material = w.add(
        "materials",
        {
            "name": "striped",
            "pbrMetallicRoughness": {
                "baseColorTexture": {"index": w.texture(encode_image(color, mime), mime=mime, name="color")},
                "metallicRoughnessTexture": {"index": w.texture(encode_image(rough), name="metallic-roughness")},
            },
            "normalTexture": {"index": w.texture(encode_image(shapes.normal_map(height, 12)), name="normal")},
        },
    )
    w.scene(w.node(name="crate", mesh=w.mesh(shapes.box(), name="crate", material=material)))
    return w.glb()


def skinned(*, segments: int = 16, rings: int = 24) -> bytes:
    """A bar of two joints that bends: JOINTS_0 as bytes, WEIGHTS_0 as floats, inverse bind matrices, an animation."""
    bar = shapes.lathe(np.stack([np.full(rings + 1, 0.2), np.linspace(0, 2, rings + 1)], axis=1), segments)
    t = np.clip(bar.positions[:, 1] - 0.5, 0, 1)
    weights = f32(np.stack([1 - t, t, 0 * t, 0 * t], axis=1))
    # A joint of zero weight is written as 0 (glTF 2.0, 3.7.3.3)
    joints = np.where(weights > 0, np.array([0, 1, 0, 0]), 0).astype(np.uint8)
    w = Writer()
    primitive = w.primitive(bar, material=_plain(w, (0.7, 0.6, 0.2)))
    primitive["attributes"] |= {"JOINTS_0": w.attribute(joints), "WEIGHTS_0": w.attribute(weights)}
    inverse_bind = np.tile(np.eye(4, dtype=np.float32).ravel(), (2, 1))
    inverse_bind[1, 13] = -1.0
    elbow = w.node(name="elbow", translation=[0, 1, 0])
    shoulder = w.node(name="shoulder", children=[elbow])
    skin = w.add(
        "skins",
        {"name": "arm", "joints": [shoulder, elbow], "skeleton": shoulder, "inverseBindMatrices": 0},
    )
    w.json["skins"][skin]["inverseBindMatrices"] = w.accessor(inverse_bind)
    body = w.node(name="bar", mesh=w.add("meshes", {"name": "bar", "primitives": [primitive]}), skin=skin)
    times = f32([0, 1, 2])
    half = float(np.sqrt(0.5))
    w.animation("bend", [(elbow, "rotation", times, f32([[0.0, 0, 0, 1], [0, 0, half, half], [0.0, 0, 0, 1]]))])
    w.scene(body, shoulder)
    return w.glb()


def morphed(*, segments: int = 24) -> bytes:
    """A sphere with two named targets (positions and normals), weights animated."""
    base = shapes.sphere(0.5, segments)
    w = Writer()
    primitive = w.primitive(base, material=_plain(w, (0.5, 0.3, 0.7)))
    tall = f32(base.positions * (0, 0.8, 0))
    wide = f32(base.positions * (0.6, 0, 0.6))
    primitive["targets"] = [
        {"POSITION": w.attribute(delta, bounds=True), "NORMAL": w.attribute(np.zeros_like(delta))}
        for delta in (tall, wide)
    ]
    mesh = {
        "name": "blob",
        "primitives": [primitive],
        "weights": [0.25, 0.0],
        "extras": {"targetNames": ["tall", "wide"]},
    }
    node = w.node(name="blob", mesh=w.add("meshes", mesh))
    w.animation("breathe", [(node, "weights", f32([0, 1, 2]), f32([[0.0, 0.0], [1.0, 0.5], [0.0, 0.0]]))])
    w.scene(node)
    return w.glb()


def animated() -> bytes:
    """A spinning, rising and growing cube: all three node channels, two animations."""
    w = Writer()
    node = w.node(name="spinner", mesh=w.mesh(shapes.box(0.5), name="cube", material=_plain(w, (0.2, 0.7, 0.6))))
    pivot = w.node(name="pivot", children=[node])
    angle = np.linspace(0, 2 * np.pi, 9)
    times = f32(np.linspace(0, 2, 9))
    turn = f32(np.stack([0 * angle, np.sin(angle / 2), 0 * angle, np.cos(angle / 2)], axis=1))
    rise = f32(np.stack([0 * angle, 0.5 - 0.5 * np.cos(angle), 0 * angle], axis=1))
    grow = f32(np.tile((1 + 0.25 * np.sin(angle))[:, None], (1, 3)))
    w.animation("spin", [(node, "rotation", times, turn)])
    w.animation("bounce", [(pivot, "translation", times, rise), (pivot, "scale", times, grow)])
    w.scene(pivot, name="stage")
    return w.glb()


def many_nodes(n: int = 100) -> bytes:
    """`n` named cubes on a square, instances of one mesh, in a tree of ten children a node."""
    w = Writer()
    mesh = w.mesh(shapes.box(0.6), name="cube", material=_plain(w, (0.6, 0.6, 0.65)))
    side = int(np.ceil(np.sqrt(n)))
    for i in range(n):
        # Translations add up along the tree: take the parent's place off.
        x, z = i % side, i // side
        parent = (i - 1) // 10
        px, pz = (parent % side, parent // side) if i else (0, 0)
        node: dict[str, Any] = {"mesh": mesh, "translation": [float(x - px), 0.0, float(z - pz)]}
        children = [c for c in range(i * 10 + 1, i * 10 + 11) if c < n]
        w.node(name=f"cube {i}", **node, **({"children": children} if children else {}))
    w.scene(0)
    return w.glb()


def vertex_colored(segments: int = 24) -> bytes:
    """A sphere with COLOR_0 as normalized bytes and no texture."""
    surface = shapes.sphere(1, segments)
    rgba = np.concatenate([surface.positions * 0.5 + 0.5, np.ones((len(surface.positions), 1))], axis=1)
    w = Writer()
    primitive = w.primitive(surface, material=_plain(w, (1, 1, 1)), uv=False)
    primitive["attributes"]["COLOR_0"] = w.attribute(shapes.to_bytes(rgba), normalized=True)
    w.scene(w.node(name="rainbow", mesh=w.add("meshes", {"name": "rainbow", "primitives": [primitive]})))
    return w.glb()


def points_and_lines(n: int = 200) -> bytes:
    """A mesh of a point cloud, a line strip and some triangles: what no mesh compressor takes."""
    t = np.linspace(0, 6 * np.pi, n)
    spiral = f32(np.stack([np.cos(t) * 0.5, t / 12, np.sin(t) * 0.5], axis=1))
    w = Writer()
    material = w.add("materials", {"name": "ink", "pbrMetallicRoughness": {"baseColorFactor": [0.1, 0.1, 0.3, 1]}})
    mesh = w.add(
        "meshes",
        {
            "name": "sketch",
            "primitives": [
                {"attributes": {"POSITION": w.attribute(f32(spiral * 1.2), bounds=True)}, "mode": 0},
                {
                    "attributes": {"POSITION": w.attribute(spiral, bounds=True)},
                    "mode": 3,
                    "material": material,
                },
                w.primitive(shapes.box((1, 0.05, 1)), material=material),
            ],
        },
    )
    w.scene(w.node(name="sketch", mesh=mesh))
    return w.glb()


def with_extras_and_names(copyright: str = "© 2026 Test Author, CC-BY 4.0") -> bytes:
    """Names, extras and a copyright everywhere they may be: scene, node, mesh, primitive, material, texture, asset."""
    w = Writer(copyright=copyright)
    w.json["asset"]["extras"] = {"title": "Labelled", "license": "CC-BY-4.0"}
    w.json["extras"] = {"document": True}
    pixels = encode_image(shapes.to_bytes(np.tile(shapes.noise(64, seed=3)[..., None], (1, 1, 3))))
    texture = w.texture(pixels, name="marble")
    w.json["textures"][texture] |= {"name": "marble texture", "extras": {"artist": "nobody"}}
    w.json["images"][0]["extras"] = {"dpi": 72}
    material = w.add(
        "materials",
        {
            "name": "Marble (weiß)",
            "pbrMetallicRoughness": {"baseColorTexture": {"index": texture}, "metallicFactor": 0},
            "extras": {"cost": 12.5, "tags": ["stone", "石"]},
        },
    )
    mesh = w.mesh(shapes.box(), name="Plinth", material=material)
    w.json["meshes"][mesh]["extras"] = {"collider": "box"}
    w.json["meshes"][mesh]["primitives"][0]["extras"] = {"lightmap": 1}
    empty = w.node(name="Attach: top", translation=[0, 0.5, 0], extras={"socket": True})
    root = w.node(name="Plinth.001", mesh=mesh, children=[empty], extras={"id": 7, "nested": {"a": [1, None, "x"]}})
    w.scene(root, name="Gallery")
    w.json["scenes"][0]["extras"] = {"mood": "calm"}
    return w.glb()


def sparse() -> bytes:
    """A sheet whose positions are a sparse accessor over a base, and one target that is sparse over nothing."""
    flat = shapes.heightfield(np.zeros((9, 9), dtype=np.float32))
    w = Writer()
    primitive = w.primitive(flat, material=_plain(w, (0.8, 0.7, 0.3)))
    lifted = np.array([30, 31, 40, 41], dtype=np.uint16)
    raised = flat.positions[lifted] + f32([0, 0.3, 0])
    whole = flat.positions.copy()
    whole[lifted] = raised
    position = w.json["accessors"][primitive["attributes"]["POSITION"]]
    position["sparse"] = {
        "count": len(lifted),
        "indices": {"bufferView": w.view(lifted.tobytes()), "componentType": 5123},
        "values": {"bufferView": w.view(raised.tobytes())},
    }
    position["min"], position["max"] = whole.min(axis=0).tolist(), whole.max(axis=0).tolist()
    moved = f32([[0, -0.2, 0], [0, 0.4, 0]])
    target = w.add(
        "accessors",
        {
            "componentType": 5126,
            "count": len(flat.positions),
            "type": "VEC3",
            "min": [0.0, float(moved[:, 1].min()), 0.0],
            "max": [0.0, float(moved[:, 1].max()), 0.0],
            "sparse": {
                "count": 2,
                "indices": {
                    "bufferView": w.view(np.array([3, 60], dtype=np.uint8).tobytes()),
                    "componentType": 5121,
                },
                "values": {"bufferView": w.view(moved.tobytes())},
            },
        },
    )
    primitive["targets"] = [{"POSITION": target}]
    w.scene(w.node(name="sheet", mesh=w.add("meshes", {"primitives": [primitive], "weights": [0.5]})))
    return w.glb()


def interleaved(segments: int = 24) -> bytes:
    """A sphere whose positions, normals and texture coordinates share one bufferView with a stride of 32 bytes."""
    surface = shapes.sphere(1, segments)
    packed = np.concatenate([surface.positions, surface.normals, surface.uvs], axis=1)
    w = Writer()
    view = w.view(packed.tobytes(), stride=32, target=ARRAY_BUFFER)
    primitive = {
        "attributes": {
            "POSITION": w.accessor(surface.positions, view=view, bounds=True),
            "NORMAL": w.accessor(surface.normals, view=view, offset=12),
            "TEXCOORD_0": w.accessor(surface.uvs, view=view, offset=24),
        },
        "indices": w.indices(surface.indices),
        "material": _plain(w, (0.4, 0.6, 0.4)),
    }
    w.scene(w.node(name="ball", mesh=w.add("meshes", {"name": "ball", "primitives": [primitive]})))
    return w.glb()


def unknown_extension() -> bytes:
    """A cube with a vendor extension that nobody knows, on the document, a node and a material; used, not required."""
    w = Writer()
    w.use("ACME_warranty")
    material = _plain(w, (0.3, 0.3, 0.35))
    w.json["materials"][material]["extensions"] = {"ACME_warranty": {"scratches": 3}}
    node = w.node(
        name="box",
        mesh=w.mesh(shapes.box(), name="box", material=material, uv=False),
        extensions={"ACME_warranty": {"until": "2031-01-01", "parts": [1, 2, 3]}},
    )
    w.json["extensions"] = {"ACME_warranty": {"issuer": "Acme"}}
    w.scene(node)
    return w.glb()


def variants() -> bytes:
    """A sphere in three colours by KHR_materials_variants."""
    w = Writer()
    w.use("KHR_materials_variants")
    w.json["extensions"] = {"KHR_materials_variants": {"variants": [{"name": n} for n in ("red", "green", "blue")]}}
    materials = [_plain(w, c, name=n) for n, c in (("r", (0.8, 0, 0)), ("g", (0, 0.6, 0)), ("b", (0, 0, 0.8)))]
    primitive = w.primitive(shapes.sphere(1, 24), material=materials[0])
    primitive["extensions"] = {
        "KHR_materials_variants": {"mappings": [{"material": m, "variants": [i]} for i, m in enumerate(materials)]}
    }
    w.scene(w.node(name="ball", mesh=w.add("meshes", {"name": "ball", "primitives": [primitive]})))
    return w.glb()


def lights() -> bytes:
    """A cube under a KHR_lights_punctual spot, seen by a camera."""
    w = Writer()
    w.use("KHR_lights_punctual")
    spot = {"type": "spot", "name": "spot", "color": [1.0, 0.9, 0.7], "intensity": 40.0, "range": 20.0, "spot": {}}
    w.json["extensions"] = {"KHR_lights_punctual": {"lights": [spot]}}
    w.json["cameras"] = [{"name": "shot", "type": "perspective", "perspective": {"yfov": 0.7, "znear": 0.1}}]
    half = float(np.float32(np.sqrt(0.5)))
    light = w.node(
        name="light",
        translation=[0, 3, 0],
        rotation=[-half, 0, 0, half],
        extensions={"KHR_lights_punctual": {"light": 0}},
    )
    camera = w.node(name="camera", translation=[0, 0.5, 4], camera=0)
    cube = w.node(name="box", mesh=w.mesh(shapes.box(), name="box", material=_plain(w, (0.8, 0.8, 0.8))))
    w.scene(cube, light, camera)
    return w.glb()


def quantized(segments: int = 24) -> bytes:
    """A sphere by KHR_mesh_quantization: 16-bit positions, 8-bit normals, the scale in the node."""
    surface = shapes.sphere(1, segments)
    w = Writer()
    w.use("KHR_mesh_quantization", required=True)
    positions = np.round(surface.positions * 32767).astype(np.int16)
    normals = np.round(surface.normals * 127).astype(np.int8)
    primitive = {
        "attributes": {
            "POSITION": w.attribute(positions, bounds=True, normalized=True),
            "NORMAL": w.attribute(normals, normalized=True),
        },
        "indices": w.indices(surface.indices),
        "material": _plain(w, (0.7, 0.4, 0.6)),
    }
    mesh = w.add("meshes", {"name": "ball", "primitives": [primitive]})
    w.scene(w.node(name="ball", mesh=mesh, scale=[2.0, 2.0, 2.0]))
    return w.glb()


def draco(segments: int = 32) -> bytes:
    """A sphere by KHR_draco_mesh_compression (14/10/12 bits), without a fallback."""
    import DracoPy

    surface = shapes.sphere(1, segments)
    data = DracoPy.encode(
        surface.positions,
        surface.indices,
        quantization_bits=14,
        normals=surface.normals.astype(np.float64),
        tex_coord=surface.uvs.astype(np.float64),
        normal_quantization_bits=10,
        tex_coord_quantization_bits=12,
    )
    decoded = DracoPy.decode(data)
    w = Writer()
    w.use("KHR_draco_mesh_compression", required=True)
    count = len(decoded.points)
    names = {0: "POSITION", 1: "NORMAL", 3: "TEXCOORD_0"}  # draco::GeometryAttribute::Type
    ids = {names[a["attribute_type"]]: a["unique_id"] for a in decoded.attributes}
    attributes = {
        name: w.add("accessors", {"componentType": 5126, "count": count, "type": "VEC2" if "TEX" in name else "VEC3"})
        for name in ids
    }
    points = f32(decoded.points)
    w.json["accessors"][attributes["POSITION"]] |= {
        "min": points.min(axis=0).tolist(),
        "max": points.max(axis=0).tolist(),
    }
    primitive = {
        "attributes": attributes,
        "indices": w.add("accessors", {"componentType": 5125, "count": decoded.faces.size, "type": "SCALAR"}),
        "material": _plain(w, (0.2, 0.5, 0.8)),
        "extensions": {"KHR_draco_mesh_compression": {"bufferView": w.view(data), "attributes": ids}},
    }
    w.scene(w.node(name="ball", mesh=w.add("meshes", {"name": "ball", "primitives": [primitive]})))
    return w.glb()


def meshopt(segments: int = 32) -> bytes:
    """A sphere whose attribute and index bufferViews are EXT_meshopt_compression, with an empty fallback buffer."""
    from meshoptimizer import encode_index_buffer, encode_vertex_buffer, encode_vertex_version

    encode_vertex_version(0)  # what the extension allows; 1 belongs to KHR_meshopt_compression
    surface = shapes.sphere(1, segments)
    packed = np.concatenate([surface.positions, surface.normals], axis=1)
    indices = surface.indices.astype(np.uint32).ravel()
    w = Writer()
    w.use("EXT_meshopt_compression", required=True)
    fallback = 0

    def compressed(data: bytes, mode: str, count: int, stride: int, **view: int) -> int:
        nonlocal fallback
        extension = {
            "buffer": 0,
            "byteOffset": w.append(data),
            "byteLength": len(data),
            "byteStride": stride,
            "mode": mode,
            "count": count,
        }
        item = {"buffer": 1, "byteOffset": fallback, "byteLength": count * stride, **view}
        fallback += count * stride
        return w.add("bufferViews", {**item, "extensions": {"EXT_meshopt_compression": extension}})

    vertices = compressed(
        encode_vertex_buffer(packed), "ATTRIBUTES", len(packed), 24, byteStride=24, target=ARRAY_BUFFER
    )
    triangles = compressed(encode_index_buffer(indices, len(indices), len(packed)), "TRIANGLES", indices.size, 4)
    primitive = {
        "attributes": {
            "POSITION": w.accessor(surface.positions, view=vertices, bounds=True),
            "NORMAL": w.accessor(surface.normals, view=vertices, offset=12),
        },
        "indices": w.accessor(indices, view=triangles),
        "material": _plain(w, (0.8, 0.5, 0.2)),
    }
    w.json["buffers"] = [{}, {"byteLength": fallback, "extensions": {"EXT_meshopt_compression": {"fallback": True}}}]
    w.scene(w.node(name="ball", mesh=w.add("meshes", {"name": "ball", "primitives": [primitive]})))
    return w.glb()


def small_asset(i: int) -> bytes:
    """Valid GLB number `i` of as many as one likes, each different, about 2 KB: for bulk runs."""
    rng = np.random.default_rng(i)
    color = tuple(float(c) for c in np.round(0.2 + 0.7 * rng.random(3), 3))
    w = Writer()
    surface = shapes.box(np.round(0.5 + rng.random(3), 3))
    material = _plain(w, color, name=f"paint {i}")
    w.scene(w.node(name=f"part {i}", mesh=w.mesh(surface, name=f"part {i}", material=material, uv=False)))
    return w.glb()


def _plain(w: Writer, color: tuple[float, ...], *, name: str = "plain") -> int:
    pbr = {"baseColorFactor": [*map(float, color), 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.6}
    return w.add("materials", {"name": name, "pbrMetallicRoughness": pbr})


VALID: dict[str, Callable[[], bytes]] = {
    "animated": animated,
    "box": box,
    "draco": draco,
    "grid": grid,
    "interleaved": interleaved,
    "lights": lights,
    "many_nodes": many_nodes,
    "meshopt": meshopt,
    "morphed": morphed,
    "points_and_lines": points_and_lines,
    "quantized": quantized,
    "skinned": skinned,
    "small_asset": lambda: small_asset(1),
    "sparse": sparse,
    "sphere": sphere,
    "textured": textured,
    "textured_jpeg": lambda: textured(mime="image/jpeg"),
    "unknown_extension": unknown_extension,
    "variants": variants,
    "vertex_colored": vertex_colored,
    "with_extras_and_names": with_extras_and_names,
}
"""Every small valid model by name, for parametrised tests. `demo_model` is apart, for its size."""
