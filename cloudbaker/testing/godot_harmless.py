"""Everyday mods, one feature each: what the default policy must let pass, or nobody will use it.

`HARMLESS` is the list, over both engines: nodes, materials, meshes, animations, particles, sounds, fonts, themes, tiles,
translations, as the engines' editors write them.
"""

# ruff: noqa: E501  (scenes are written as the editor writes them)
from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from cloudbaker.testing import models
from cloudbaker.testing.files import write_gltf_folder
from cloudbaker.testing.godot_mods import ROOT, SYNTAX, Files, Syntax, as_pck, as_zip, mod, ogg, png, wav
from cloudbaker.testing.writer import encode_image


@dataclass(frozen=True, slots=True)
class Harmless:
    """A mod that must pass."""

    name: str
    engine: int
    """3 or 4."""
    form: str
    """``folder``, ``zip``, or ``pck1`` to ``pck3``."""
    make: Callable[[], Mapping[str, bytes]]
    """What is handed in."""
    files: Callable[[], Files]
    """The same by path below the mod's folder."""

    def __str__(self) -> str:
        return f"{self.name}-{self.form}-godot{self.engine}"


_Maker = tuple[str, Callable[[], Files]]


def _given(files: Files) -> Callable[[], Files]:
    return lambda: files


def _pick(s: Syntax, old: str, new: str) -> str:
    return old if s.major == 3 else new


def _models(s: Syntax) -> Iterator[_Maker]:
    yield "plain", lambda: {}
    for name in ("box", "animated", "skinned", "morphed", "lights"):
        yield f"glb-{name}", _given({f"{name}.glb": getattr(models, name)(), "main.tscn": _placed(s, f"{name}.glb")})
    yield "gltf", lambda: {**_gltf_files(), "main.tscn": _placed(s, "prop/model.gltf")}
    yield (
        "glb-changed",
        lambda: {
            "box.glb": models.box(),
            "main.tscn": s.scene(
                s.root()
                + f'[node name="Box" parent="." instance={s.ext(1)}]\nvisible = false\n\n'
                + f'[node name="box" parent="Box" index="0"]\n{_material_slot(s)} = {s.sub(1)}\n'
                + '[editable path="Box"]\n',
                s.ext_resource("PackedScene", ROOT + "box.glb", 1),
                s.sub_resource(s.material, 1, "metallic = 0.5\n"),
            ),
        },
    )
    yield (
        "nested-scenes",
        lambda: {
            "main.tscn": _placed(s, "tree.tscn"),
            "tree.tscn": _placed(s, "leaf.tscn", 3),
            "leaf.tscn": s.scene(s.root(type=s.mesh_node)),
        },
    )
    yield (
        "inherited-scene",
        lambda: {
            "base.tscn": s.scene(s.root() + s.child(s.mesh_node, name="Mesh")),
            "main.tscn": s.scene(
                f'[node name="Root" instance={s.ext(1)}]\n\n[node name="Mesh" parent="." index="0"]\nvisible = false\n',
                s.ext_resource("PackedScene", ROOT + "base.tscn", 1),
            ),
        },
    )


def _material_slot(s: Syntax) -> str:
    return _pick(s, "material/0", "surface_material_override/0")


def _placed(s: Syntax, path: str, count: int = 1) -> bytes:
    nodes = "".join(
        f'[node name="Part{n}" parent="." instance={s.ext(1)}]\n'
        f"transform = {_pick(s, 'Transform', 'Transform3D')}( 1, 0, 0, 0, 1, 0, 0, 0, 1, {n}, 0, 0 )\n\n"
        for n in range(count)
    )
    return s.scene(s.root() + nodes, s.ext_resource("PackedScene", ROOT + path, 1), header="load_steps=2 ")


def _gltf_files() -> Files:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        write_gltf_folder(models.box(), Path(folder))
        return {
            f"prop/{p.relative_to(folder).as_posix()}": p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()
        }


def _materials(s: Syntax) -> Iterator[_Maker]:
    body = (
        "albedo_color = Color( 0.8, 0.2, 0.1, 1 )\nroughness = 0.6\nmetallic = 0.1\nemission_enabled = true\n"
        f"emission = Color( 1, 1, 0, 1 )\nalbedo_texture = {s.ext(1)}\nnormal_enabled = true\n"
        f"normal_texture = {s.ext(2)}\nuv1_scale = Vector3( 2, 2, 2 )\n"
    )
    parts = (
        s.ext_resource(s.texture, ROOT + "bark.png", 1),
        s.ext_resource(s.texture, ROOT + "maps/bark_normal.png", 2),
    )
    textures = {"bark.png": png(16, 16), "maps/bark_normal.png": png(4, 4)}
    yield "material", lambda: {"bark.tres": s.resource(s.material, body, *parts), **textures}
    yield (
        "textures-of-all-kinds",
        lambda: {
            "a.png": png(),
            "b.jpg": _image("image/jpeg"),
            "c.webp": _image("image/webp"),
            "D.PNG": png(),
            "main.tscn": s.scene(
                s.root(type=_pick(s, "Node2D", "Node2D"))
                + s.child(_pick(s, "Sprite", "Sprite2D"), f"texture = {s.ext(1)}\ncentered = false\n"),
                s.ext_resource(s.texture, ROOT + "b.jpg", 1),
            ),
        },
    )
    yield (
        "mesh-in-text",
        lambda: {"mesh.tres": s.resource("ArrayMesh", _surface(s))},
    )
    yield (
        "gradient",
        lambda: {
            "g.tres": s.resource(
                _pick(s, "GradientTexture", "GradientTexture2D"),
                f"gradient = {s.sub(1)}\nwidth = 256\n",
                s.sub_resource(
                    "Gradient",
                    1,
                    f"colors = {_pick(s, 'PoolColorArray', 'PackedColorArray')}( 0, 0, 0, 1, 1, 1, 1, 1 )\n",
                ),
            )
        },
    )
    yield (
        "noise",
        lambda: {
            "n.tres": s.resource(
                _pick(s, "NoiseTexture", "NoiseTexture2D"),
                f"noise = {s.sub(1)}\nseamless = true\n",
                s.sub_resource(_pick(s, "OpenSimplexNoise", "FastNoiseLite"), 1, "seed = 123\n"),
            )
        },
    )
    yield (
        "sky-and-light",
        lambda: {
            "main.tscn": s.scene(
                s.root()
                + s.child("WorldEnvironment", f"environment = {s.sub(2)}\n", name="Env")
                + s.child(
                    _pick(s, "DirectionalLight", "DirectionalLight3D"),
                    "shadow_enabled = true\nlight_energy = 1.5\n",
                    name="Sun",
                )
                + s.child(_pick(s, "OmniLight", "OmniLight3D"), "omni_range = 4.0\n", name="Lamp")
                + s.child(_pick(s, "SpotLight", "SpotLight3D"), "spot_angle = 30.0\n", name="Spot"),
                s.sub_resource(_pick(s, "ProceduralSky", "Sky"), 1),
                s.sub_resource(
                    "Environment",
                    2,
                    f"background_mode = 2\n{_pick(s, 'background_sky', 'sky')} = {s.sub(1)}\nfog_enabled = true\n",
                ),
            )
        },
    )


def _image(mime: str) -> bytes:
    import numpy as np

    return encode_image(np.full((8, 8, 3), 120, np.uint8), mime)


def _surface(s: Syntax) -> str:
    if s.major == 3:
        return (
            'surfaces/0 = {\n"aabb": AABB( 0, 0, 0, 1, 1, 1 ),\n"array_data": PoolByteArray( 0, 1, 2, 3 ),\n'
            '"array_index_data": PoolByteArray(  ),\n"blend_shape_data": [  ],\n"format": 1,\n"index_count": 0,\n'
            '"primitive": 4,\n"skeleton_aabb": [  ],\n"vertex_count": 3\n}\n'
        )
    return (
        '_surfaces = [{\n"aabb": AABB(0, 0, 0, 1, 1, 1),\n"format": 34359742465,\n"primitive": 3,\n'
        '"vertex_count": 3,\n"vertex_data": PackedByteArray("AAAAAAAAAAAAAAAAAACAPwAAAAAAAAAAAAAAAAAAgD8AAAAA")\n}]\n'
        'blend_shape_mode = 0\nresource_name = "leaf"\n'
    )


def _animations(s: Syntax) -> Iterator[_Maker]:
    def animation(path: str, type: str = "value", values: str = "[Vector3( 0, 0, 0 ), Vector3( 0, 1, 0 )]") -> str:
        keys = (
            f'{{\n"times": {s.reals}( 0, 1 ),\n"transitions": {s.reals}( 1, 1 ),\n"update": 0,\n"values": {values}\n}}'
        )
        return (
            f'resource_name = "sway"\nlength = 2.0\n{_pick(s, "loop = true", "loop_mode = 1")}\nstep = 0.1\n'
            f'tracks/0/type = "{type}"\ntracks/0/imported = false\ntracks/0/enabled = true\n'
            f'tracks/0/path = NodePath("{path}")\ntracks/0/interp = 1\ntracks/0/loop_wrap = true\ntracks/0/keys = {keys}\n'
        )

    def player(number: int = 1) -> str:
        return (
            f'autoplay = "sway"\nplayback_speed = 1.5\nanims/sway = {s.sub(number)}\n'
            if s.major == 3
            else f'autoplay = &"sway"\nspeed_scale = 1.5\nlibraries = {{\n&"": {s.sub(9)}\n}}\n'
        )

    def library(number: int = 1) -> str:
        return (
            "" if s.major == 3 else s.sub_resource("AnimationLibrary", 9, f'_data = {{\n&"sway": {s.sub(number)}\n}}\n')
        )

    move = _pick(s, "Leaf:translation", "Leaf:position")
    leaf = s.child(s.mesh_node, name="Leaf")
    yield (
        "animation",
        lambda: {
            "main.tscn": s.scene(
                s.root() + leaf + s.child("AnimationPlayer", player(), name="Player"),
                s.sub_resource("Animation", 1, animation(move)),
                library(),
            )
        },
    )
    yield (
        "animation-deep",
        lambda: {
            "main.tscn": s.scene(
                s.root() + leaf + s.child(s.node, name="Rig") + s.child("AnimationPlayer", player(), parent="Rig"),
                s.sub_resource("Animation", 1, animation(f"../{move}")),
                library(),
            )
        },
    )
    color = animation(f"Leaf:{_material_slot(s)}:albedo_color", values="[Color( 1, 0, 0, 1 ), Color( 0, 0, 1, 1 )]")
    yield (
        "animation-of-colour",
        lambda: {
            "main.tscn": s.scene(
                s.root() + leaf + s.child("AnimationPlayer", player()),
                s.sub_resource("Animation", 1, color),
                library(),
            )
        },
    )
    yield "animation-file", lambda: {"sway.tres": s.resource("Animation", animation(move))}
    yield (
        "animation-tree",
        lambda: {
            "main.tscn": s.scene(
                s.root()
                + leaf
                + s.child("AnimationPlayer", player(), name="Player")
                + s.child(
                    "AnimationTree",
                    f'tree_root = {s.sub(3)}\nanim_player = NodePath("../Player")\nactive = true\nparameters/Blend/blend_amount = 0.5\n',
                    name="Tree",
                ),
                s.sub_resource("Animation", 1, animation(move)),
                library(),
                s.sub_resource("AnimationNodeAnimation", 2, 'animation = "sway"\n'),
                s.sub_resource(
                    "AnimationNodeBlendTree",
                    3,
                    f"graph_offset = Vector2( 10, 20 )\nnodes/Anim/node = {s.sub(2)}\nnodes/Anim/position = Vector2( 0, 0 )\n"
                    'nodes/output/position = Vector2( 400, 0 )\nnode_connections = ["output", 0, "Anim"]\n',
                ),
            )
        },
    )
    yield (
        "state-machine",
        lambda: {
            "machine.tres": s.resource(
                "AnimationNodeStateMachine",
                f'states/Sway/node = {s.sub(1)}\nstates/Sway/position = Vector2( 300, 100 )\ntransitions = ["Sway", "Sway", {s.sub(2)}]\n',
                s.sub_resource("AnimationNodeAnimation", 1, 'animation = "sway"\n'),
                s.sub_resource(
                    "AnimationNodeStateMachineTransition", 2, 'xfade_time = 0.2\nadvance_condition = "go"\n'
                ),
            )
        },
    )
    frames = 'animations = [{\n"frames": FRAMES,\n"loop": true,\n"name": "default",\n"speed": 5.0\n}]\n'
    shown = _pick(s, f"[{s.ext(1)}]", f'[{{\n"duration": 1.0,\n"texture": {s.ext(1)}\n}}]')
    yield (
        "sprite-frames",
        lambda: {
            "a.png": png(),
            "main.tscn": s.scene(
                s.root(type="Node2D")
                + s.child(
                    _pick(s, "AnimatedSprite", "AnimatedSprite2D"),
                    f"frames = {s.sub(1)}\n".replace("frames", _pick(s, "frames", "sprite_frames")),
                ),
                s.ext_resource(s.texture, ROOT + "a.png", 1),
                s.sub_resource("SpriteFrames", 1, frames.replace("FRAMES", shown)),
            ),
        },
    )


def _particles(s: Syntax) -> Iterator[_Maker]:
    material = _pick(s, "ParticlesMaterial", "ParticleProcessMaterial")
    for node in _pick(s, "Particles CPUParticles", "GPUParticles3D CPUParticles3D").split():
        slot = f"process_material = {s.sub(1)}\n" if not node.startswith("CPU") else f"mesh = {s.sub(2)}\n"
        yield (
            node.lower(),
            _given(
                {
                    "main.tscn": s.scene(
                        s.root() + s.child(node, f"amount = 200\nlifetime = 3.0\n{slot}"),
                        s.sub_resource(material, 1, "gravity = Vector3( 0, -1, 0 )\nspread = 30.0\n"),
                        s.sub_resource("QuadMesh", 2),
                    )
                }
            ),
        )
    yield (
        "particles-2d",
        lambda: {
            "main.tscn": s.scene(
                s.root(type="Node2D")
                + s.child(_pick(s, "Particles2D", "GPUParticles2D"), f"amount = 50\nprocess_material = {s.sub(1)}\n"),
                s.sub_resource(material, 1),
            )
        },
    )


def _sounds(s: Syntax) -> Iterator[_Maker]:
    for name, data in (("wav", wav()), ("ogg", ogg()), ("mp3", _encoded("MP3")), ("flac", _encoded("FLAC"))):
        yield (
            f"sound-{name}",
            _given(
                {
                    f"bird.{name}": data,
                    "main.tscn": s.scene(
                        s.root()
                        + s.child(
                            _pick(s, "AudioStreamPlayer3D", "AudioStreamPlayer3D"),
                            f"stream = {s.ext(1)}\nautoplay = true\n{_pick(s, 'unit_db = 3.0', 'volume_db = 3.0')}\n",
                        ),
                        s.ext_resource("AudioStream", ROOT + f"bird.{name}", 1),
                    ),
                }
            ),
        )


def _encoded(kind: str) -> bytes:
    import io

    import numpy as np
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, np.sin(np.arange(22050) / 20) / 2, 22050, format=kind)
    return out.getvalue()


def _physics(s: Syntax) -> Iterator[_Maker]:
    d = _pick(s, "", "3D")
    yield (
        "bodies",
        lambda: {
            "main.tscn": s.scene(
                s.root()
                + s.child(f"StaticBody{d}", "collision_layer = 2\n", name="Ground")
                + s.child(f"CollisionShape{d}", f"shape = {s.sub(1)}\n", parent="Ground")
                + s.child(_pick(s, "RigidBody", "RigidBody3D"), "mass = 2.0\n", name="Stone")
                + s.child(f"CollisionShape{d}", f"shape = {s.sub(2)}\n", parent="Stone")
                + s.child(f"Area{d}", name="Area")
                + s.child(f"CollisionShape{d}", f"shape = {s.sub(1)}\n", parent="Area"),
                s.sub_resource(
                    _pick(s, "BoxShape", "BoxShape3D"),
                    1,
                    _pick(s, "extents = Vector3( 1, 1, 1 )\n", "size = Vector3( 1, 1, 1 )\n"),
                ),
                s.sub_resource(_pick(s, "SphereShape", "SphereShape3D"), 2, "radius = 0.5\n"),
            )
        },
    )
    yield (
        "joint",
        lambda: {
            "main.tscn": s.scene(
                s.root()
                + s.child(_pick(s, "RigidBody", "RigidBody3D"), name="A")
                + s.child(_pick(s, "RigidBody", "RigidBody3D"), name="B")
                + s.child(
                    _pick(s, "HingeJoint", "HingeJoint3D"),
                    f'{_pick(s, "nodes/node_a", "node_a")} = NodePath("../A")\n{_pick(s, "nodes/node_b", "node_b")} = NodePath("../B")\nangular_limit/enable = true\n',
                ),
            )
        },
    )
    yield (
        "remote-within",
        lambda: {
            "main.tscn": s.scene(
                s.root()
                + s.child(s.node, name="Target")
                + s.child(f"RemoteTransform{d}", 'remote_path = NodePath("../Target")\n')
            )
        },
    )
    yield (
        "path-follow",
        lambda: {
            "main.tscn": s.scene(
                s.root()
                + s.child(f"Path{d}", f"curve = {s.sub(1)}\n", name="Path")
                + s.child(f"PathFollow{d}", "loop = false\n", parent="Path"),
                s.sub_resource(
                    "Curve3D",
                    1,
                    f'_data = {{\n"points": {_pick(s, "PoolVector3Array", "PackedVector3Array")}( 0, 0, 0, 0, 0, 0, 1, 1, 1 ),\n"tilts": {s.reals}( 0 )\n}}\n',
                ),
            )
        },
    )
    yield (
        "multimesh",
        lambda: {
            "main.tscn": s.scene(
                s.root() + s.child(_pick(s, "MultiMeshInstance", "MultiMeshInstance3D"), f"multimesh = {s.sub(2)}\n"),
                s.sub_resource(s.box, 1),
                s.sub_resource("MultiMesh", 2, f"transform_format = 1\ninstance_count = 1000\nmesh = {s.sub(1)}\n"),
            )
        },
    )
    yield (
        "camera",
        lambda: {"main.tscn": s.scene(s.root() + s.child(_pick(s, "Camera", "Camera3D"), "fov = 60.0\n"))},
    )
    yield (
        "timer-and-metadata",
        lambda: {"main.tscn": s.scene(s.root(_metadata(s)) + s.child("Timer", "wait_time = 2.0\nautostart = true\n"))},
    )
    yield (
        "groups",
        lambda: {
            "main.tscn": s.scene(
                s.root() + '[node name="N" type="' + s.node + '" parent="." groups=[\n"trees",\n"big",\n]]\n'
                if s.major == 3
                else s.root() + s.child(s.node, more=' groups=["trees", "big"]')
            )
        },
    )
    csg = (
        s.root()
        + s.child(_pick(s, "CSGCombiner", "CSGCombiner3D"), name="C")
        + s.child(_pick(s, "CSGBox", "CSGBox3D"), "operation = 2\n", parent="C")
    )
    yield "csg", lambda: {"main.tscn": s.scene(csg)}


def _metadata(s: Syntax) -> str:
    return (
        '__meta__ = {\n"_edit_group_": true,\n"site": "https://example.invalid/oak"\n}\n'
        if s.major == 3
        else 'metadata/_edit_lock_ = true\nmetadata/site = "https://example.invalid/oak"\nmetadata/kinds = {\n"a": [1, 2.5, &"x", NodePath("..")]\n}\n'.replace(
            ', NodePath("..")', ""
        )
    )


def _interface(s: Syntax) -> Iterator[_Maker]:
    yield (
        "interface",
        lambda: {
            "main.tscn": s.scene(
                s.root("anchor_right = 1.0\nanchor_bottom = 1.0\n", type="Control")
                + s.child("VBoxContainer", name="Box")
                + s.child(
                    "Label",
                    f'text = "Oak \\"tree\\""\n{_pick(s, "custom_colors/font_color", "theme_override_colors/font_color")} = Color( 1, 1, 0, 1 )\n',
                    parent="Box",
                    name="Title",
                )
                + s.child("Button", 'text = "Plant"\ntoggle_mode = true\n', parent="Box", name="Plant")
                + s.child(
                    "RichTextLabel",
                    f'bbcode_enabled = true\n{_pick(s, "bbcode_text", "text")} = "[b]Oak[/b] [img]{ROOT}a.png[/img] [img=16x16]{ROOT}a.png[/img] [color=#ff0] [i]1.5[/i] [url=https://example.invalid]more[/url]"\n',
                    parent="Box",
                    name="Text",
                )
                + s.child("TextureRect", f"texture = {s.ext(1)}\n", parent="Box", name="Picture")
                + s.child("HSlider", "max_value = 10.0\n", parent="Box", name="Slider")
                + s.child("LinkButton", 'text = "more"\n', parent="Box", name="Link"),
                s.ext_resource(s.texture, ROOT + "a.png", 1),
            ),
            "a.png": png(),
        },
    )
    style = s.sub_resource("StyleBoxFlat", 1, "bg_color = Color( 0.1, 0.1, 0.1, 1 )\ncorner_radius_top_left = 4\n")
    yield (
        "theme",
        lambda: {
            "theme.tres": s.resource(
                "Theme",
                f"Button/styles/normal = {s.sub(1)}\nButton/colors/font_color = Color( 1, 1, 1, 1 )\nLabel/constants/line_spacing = 3\n",
                style,
            )
        },
    )
    font = b"\x00\x01\x00\x00" + bytes(64)
    loaded = s.ext_resource(_pick(s, "DynamicFontData", "FontFile"), ROOT + "a.ttf", 1)
    made = (
        s.resource("DynamicFont", f"size = 20\nfont_data = {s.ext(1)}\n", loaded)
        if s.major == 3
        else s.resource("FontVariation", f"base_font = {s.ext(1)}\nspacing_glyph = 1\n", loaded)
    )
    yield "font", lambda: {"a.ttf": font, "font.tres": made}
    yield (
        "fonts-of-all-kinds",
        lambda: {"a.otf": b"OTTO" + bytes(64), "b.woff": b"wOFF" + bytes(64), "c.woff2": b"wOF2" + bytes(64)},
    )
    yield (
        "translations",
        lambda: {"words.csv": b"key,en,de\nOAK,Oak,Eiche\n", "de.po": b'msgid "Oak"\nmsgstr "Eiche"\n'},
    )
    texts = (
        s.resource("Translation", f'locale = "de"\nmessages = {s.strings}( "Oak", "Eiche" )\n')
        if s.major == 3
        else s.resource("Translation", 'locale = "de"\nmessages = {\n&"Oak": "Eiche"\n}\n')
    )
    yield "translation-resource", lambda: {"de.tres": texts}
    yield (
        "notes",
        lambda: {
            "README.md": b"# Oak\n\nSee https://example.invalid.\n",
            "LICENSE.txt": "CC0 · free".encode(),
            "facts.json": json.dumps({"age": 300}).encode(),
        },
    )
    curve = s.resource(
        "Curve", "_data = [Vector2( 0, 0 ), 0.0, 0.0, 0, 0, Vector2( 1, 1 ), 0.0, 0.0, 0, 0]\nbake_resolution = 200\n"
    )
    yield "curve", lambda: {"curve.tres": curve}
    yield (
        "empty-resource-with-uid",
        lambda: {
            "data.tres": s.resource(
                "Resource", _metadata(s), header="" if s.major == 3 else 'uid="uid://b1xkq2v3w4y5z" '
            )
        },
    )


def _tiles(s: Syntax) -> Iterator[_Maker]:
    if s.major == 3:
        tiles = s.resource(
            "TileSet",
            f'0/name = "grass"\n0/texture = {s.ext(1)}\n0/tex_offset = Vector2( 0, 0 )\n0/modulate = Color( 1, 1, 1, 1 )\n0/region = Rect2( 0, 0, 8, 8 )\n'
            "0/tile_mode = 0\n0/occluder_offset = Vector2( 0, 0 )\n0/shapes = [  ]\n0/z_index = 0\n",
            s.ext_resource("Texture", ROOT + "a.png", 1),
        )
        node = s.child("TileMap", f"tile_set = {s.ext(1)}\nformat = 1\ntile_data = PoolIntArray( 0, 0, 0 )\n")
    else:
        tiles = s.resource(
            "TileSet",
            f"tile_size = Vector2i(8, 8)\nphysics_layer_0/collision_layer = 1\nterrain_set_0/mode = 0\nsources/0 = {s.sub(1)}\n",
            s.ext_resource("Texture2D", ROOT + "a.png", 1),
            s.sub_resource(
                "TileSetAtlasSource",
                1,
                f"texture = {s.ext(1)}\ntexture_region_size = Vector2i(8, 8)\n0:0/0 = 0\n0:0/0/physics_layer_0/polygon_0/points = PackedVector2Array(-4, -4, 4, -4, 4, 4)\n",
            ),
        )
        node = s.child(
            "TileMapLayer", f'tile_set = {s.ext(1)}\ntile_map_data = PackedByteArray("AAAAAAAAAAAAAAAAAAA=")\n'
        )
    yield (
        "tiles",
        lambda: {
            "a.png": png(),
            "tiles.tres": tiles,
            "main.tscn": s.scene(s.root(type="Node2D") + node, s.ext_resource("TileSet", ROOT + "tiles.tres", 1)),
        },
    )
    yield (
        "skeleton",
        lambda: {
            "main.tscn": s.scene(
                s.root() + _skeleton(s),
                s.sub_resource("ArrayMesh", 1),
                s.sub_resource("Skin", 2, 'bind_count = 1\nbind/0/name = "hip"\nbind/0/bone = 0\n'),
            )
        },
    )
    yield (
        "parallax",
        lambda: {
            "main.tscn": s.scene(
                s.root(type="Node2D")
                + s.child("ParallaxBackground", name="P")
                + s.child("ParallaxLayer", "motion_scale = Vector2( 0.5, 0.5 )\n", parent="P")
            )
        },
    )
    yield (
        "light-2d",
        lambda: {
            "main.tscn": s.scene(
                s.root(type="Node2D")
                + s.child(_pick(s, "Light2D", "PointLight2D"), "energy = 0.8\n")
                + s.child(
                    "Polygon2D",
                    f"polygon = {_pick(s, 'PoolVector2Array', 'PackedVector2Array')}( 0, 0, 1, 0, 1, 1 )\n",
                    name="Shape",
                )
            )
        },
    )


def _skeleton(s: Syntax) -> str:
    node = _pick(s, "Skeleton", "Skeleton3D")
    rest = _pick(s, "Transform", "Transform3D")
    pose = _pick(
        s,
        f"bones/0/pose = {rest}( 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0 )\nbones/0/bound_children = [  ]\n",
        "bones/0/position = Vector3(0, 1, 0)\nbones/0/rotation = Quaternion(0, 0, 0, 1)\nbones/0/scale = Vector3(1, 1, 1)\n",
    )
    bones = f'bones/0/name = "hip"\nbones/0/parent = -1\nbones/0/rest = {rest}( 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0 )\nbones/0/enabled = true\n{pose}'
    return (
        s.child(node, bones, name="Skeleton")
        + s.child(
            s.mesh_node,
            f'mesh = {s.sub(1)}\nskin = {s.sub(2)}\nskeleton = NodePath("..")\nblend_shapes/smile = 0.5\n',
            parent="Skeleton",
        )
        + s.child(_pick(s, "BoneAttachment", "BoneAttachment3D"), 'bone_name = "hip"\n', name="Hat", parent="Skeleton")
    )


def harmless() -> list[Harmless]:
    """The whole suite; every second mod is a pack, the others are folders and zips."""
    found: list[Harmless] = []
    for major, s in SYNTAX.items():
        makers = [
            *_models(s),
            *_materials(s),
            *_animations(s),
            *_particles(s),
            *_sounds(s),
            *_physics(s),
            *_interface(s),
            *_tiles(s),
        ]
        for number, (name, make) in enumerate(makers):
            form = (
                ("pck1" if major == 3 else ("pck2", "pck3")[number // 2 % 2])
                if number % 2
                else ("folder", "zip")[number // 2 % 2]
            )
            found.append(_harmless(name, major, form, make))
    return found


def _harmless(name: str, major: int, form: str, make: Callable[[], Files]) -> Harmless:
    def files() -> Files:
        return mod(make(), major)

    def packed() -> Mapping[str, bytes]:
        if form == "folder":
            return files()
        if form == "zip":
            return {"oak.zip": as_zip({f"oak/{path}": data for path, data in files().items()})}
        return {"oak.pck": as_pck(files(), int(form[3]))}

    return Harmless(name, major, form, packed, files)


HARMLESS = harmless()
