"""Mods that attack, one fault each: what a stranger may send, over both engines, as sources and as packs.

`ATTACKS` is the list. Each has the finding that the scan must report (`code`); those with a `load` are also *proven*
where an engine is installed: the engine loads that file without protection, and the attack writes a marker.
"""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cloudbaker.compute.godot.resources.tree import (
    ArrayValue,
    Construct,
    DictValue,
    NodePath,
    Numbers,
    ResourceRef,
    SubRef,
)
from cloudbaker.testing import godot_packs as packs
from cloudbaker.testing import shapes
from cloudbaker.testing.godot_mods import (
    GODOT_4,
    ID,
    ROOT,
    SYNTAX,
    Files,
    Syntax,
    as_zip,
    in_game,
    mod,
    ogg,
    png,
    wav,
)
from cloudbaker.testing.godot_packs import Internal, RawFile, raw_pack, rscc, rsrc
from cloudbaker.testing.writer import Writer, unpack
from cloudbaker.testing.writer import pack as pack_glb

MARKER = "marker"
"""The file in the game's user folder that a working attack writes."""
PROVEN = "PROVEN"


@dataclass(frozen=True, slots=True)
class Attack:
    """A mod that must be rejected."""

    name: str
    engine: int
    """3 or 4."""
    form: str
    """``folder``, ``zip``, or ``pck1`` to ``pck3``."""
    code: str
    """A finding that the scan must have."""
    make: Callable[[], Mapping[str, bytes]]
    """What is handed in: a folder's files, or one file."""
    load: str = ""
    """Path in the game that the engine loads in the proof; empty where there is none."""
    policy: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the default policy."""
    links: tuple[str, ...] = ()
    """Names of links in a folder."""

    def __str__(self) -> str:
        return f"{self.name}-{self.form}-godot{self.engine}"


@dataclass(frozen=True, slots=True)
class _Payload:
    """Files that make a mod hostile, whatever it is packed in."""

    name: str
    engine: int
    code: str
    files: Callable[[], Files]
    load: str = ""
    policy: Mapping[str, Any] = field(default_factory=dict)


def _given(files: Files) -> Callable[[], Files]:
    return lambda: files


def marker_script(major: int, base: str = "Node") -> str:
    """A script that writes the marker as soon as anything has it."""
    if major == 3:
        return (
            f"extends {base}\nfunc _init():\n\tvar f = File.new()\n\tf.open('user://{MARKER}', File.WRITE)\n"
            f"\tf.store_string('{PROVEN}')\n\tf.close()\n"
        )
    return (
        f"extends {base}\nfunc _init():\n\tvar f = FileAccess.open('user://{MARKER}', FileAccess.WRITE)\n"
        f"\tf.store_string('{PROVEN}')\n\tf.close()\n"
    )


# --- resources and scenes


def _script_scene(s: Syntax, key: str = "script", type: str = "GDScript") -> Files:
    scene = s.scene(s.root(f"{key} = {s.sub(1)}"), s.sub_resource(type, 1, s.gdscript(marker_script(s.major, s.node))))
    return {"main.tscn": scene}


def _script_resource(s: Syntax, value: str, *parts: str) -> Files:
    return {"thing.tres": s.resource("Resource", value, *parts)}


def _scripts(s: Syntax) -> Iterator[_Payload]:
    e, load, thing = s.major, ROOT + "main.tscn", ROOT + "thing.tres"
    yield _Payload("inline-script", e, "script.property", lambda: _script_scene(s), load)
    yield _Payload("escaped-class", e, "script.class", lambda: _script_scene(s, type="GD\\u0053cript"), load)
    yield _Payload("escaped-class-letter", e, "script.class", lambda: _script_scene(s, type="G\\DScript"), load)
    yield _Payload("quoted-key", e, "script.property", lambda: _script_scene(s, '"script"'), load)
    yield _Payload("escaped-key", e, "script.property", lambda: _script_scene(s, '"scr\\u0069pt"'), load)
    yield _Payload("key-with-spaces", e, "script.property", lambda: _script_scene(s, "scr ipt"), load if e == 4 else "")
    yield _Payload("key-over-lines", e, "script.property", lambda: _script_scene(s, "scr\nipt"), load if e == 4 else "")
    yield _Payload(
        "replaced-key", e, "script.property", lambda: _script_scene(s, 'bar"script"'), load if e == 4 else ""
    )
    yield _Payload("comment-in-key", e, "script.property", lambda: _script_scene(s, "scr;note\nipt"))
    yield _Payload("script-in-comment-look", e, "script.property", lambda: _script_scene(s, ";[node]\nscript"), load)
    script = s.gdscript(marker_script(e, "Reference" if e == 3 else "Resource"))
    inline = script.replace("script/source = ", '"script/source": ').strip()
    inline = inline.replace('"script/source": ', '"script/source":')
    of = f'Object(Resource,"script":Object(GDScript,{inline}))'
    sub = s.sub_resource("GDScript", 1, s.gdscript(marker_script(e, "Resource")))
    yield _Payload(
        "script-of-resource", e, "script.property", lambda: _script_resource(s, f"script = {s.sub(1)}", sub), thing
    )
    meta = "metadata/x" if e == 4 else "__meta__"
    wrapped = {
        "value": of if e == 4 else f'{{"x": {of}}}',
        "array": f"[1, [{of}]]" if e == 4 else f'{{"x": [1, [{of}]]}}',
        "dictionary": f'{{"x": {of}}}',
        "key": f"{{{of}: 1}}",
    }
    for where, value in wrapped.items():
        yield _Payload(f"object-in-{where}", e, "value.object", _given(_script_resource(s, f"{meta} = {value}")))
    yield _Payload(
        "object-in-attribute",
        e,
        "value.object",
        lambda: {"main.tscn": s.scene(f'[node name="R" type="{s.node}" groups=[{of}]]\n')},
    )
    yield _Payload(
        "object-without-script",
        e,
        "value.object",
        lambda: _script_resource(s, f'{meta} = {{"x": Object(Image, "data": {{}})}}'),
    )
    yield _Payload(
        "resource-in-value",
        e,
        "value.resource",
        lambda: _script_resource(s, f'{meta} = {{"x": Resource("res://src/core.gd")}}'),
    )
    yield _Payload(
        "unterminated-object", e, "text.syntax", lambda: _script_resource(s, f'{meta} = {{"x": Object(ConfigFile)}}')
    )
    for name, type, path, code in (
        ("script-beside", "Script", "evil.gd", "script.source"),
        ("script-of-game", "Script", "res://src/core.gd", "script.source"),
        ("script-as-texture", s.texture, "evil.gd", "script.source"),
        ("compiled-script", "Script", "evil.gdc", "script.source"),
        ("csharp", "Script", "Evil.cs", "script.source"),
        ("visual-script", "Script", "evil.vs", "script.source"),
        ("native-library", "Resource", "evil.gdextension" if e == 4 else "evil.gdnlib", "native.source"),
        ("native-script", "Script", "evil.gdns", "script.source"),
    ):
        target = path if "://" in path else ROOT + path

        def build(type: str = type, target: str = target) -> Files:
            return {"main.tscn": s.scene(s.root(f"script = {s.ext(1)}"), s.ext_resource(type, target, 1))}

        yield _Payload(name, e, code, build)
    for type in ("VisualScript", "CSharpScript", "NativeScript", "PluginScript", "GDNativeLibrary", "GDExtension"):
        yield _Payload(
            f"sub-{type.lower()}",
            e,
            "native.class" if type in ("GDNativeLibrary", "GDExtension") else "script.class",
            _given({"main.tscn": s.scene(s.root(), s.sub_resource(type, 1))}),
        )
    if e == 4:
        yield _Payload(
            "global-class",
            4,
            "script.global-class",
            lambda: {"thing.tres": s.resource("Resource", header='script_class="GameSettings" ')},
        )
        yield _Payload(
            "typed-array-of-script",
            4,
            "script.source",
            lambda: _script_resource(
                s,
                'metadata/x = Array[ExtResource("1")]([])',
                s.ext_resource("Script", "res://src/core.gd", 1),
            ),
        )
        for name, value in (("callable", "Callable()"), ("signal", "Signal()"), ("rid", "RID(7)")):
            yield _Payload(f"value-{name}", 4, "value.callable", _given(_script_resource(s, f"metadata/x = {value}")))


def _banned_classes(s: Syntax) -> Iterator[_Payload]:
    e = s.major
    nodes = {
        "HTTPRequest": "class.network",
        "FileDialog": "class.system",
        "InstancePlaceholder": "class.tool",
        "EditorPlugin": "class.tool",
        "ScriptEditor": "class.tool",
        **(
            {
                "MultiplayerSpawner": "class.network",
                "MultiplayerSynchronizer": "class.network",
                "Window": "class.system",
                "AcceptDialog": "class.system",
                "StatusIndicator": "class.system",
                "VideoStreamPlayer": "class.system",
                "MissingNode": "class.tool",
                "ShaderGlobalsOverride": "class.global",
                "OpenXRRenderModelManager": "class.global",
            }
            if e == 4
            else {
                "WindowDialog": "class.system",
                "VideoPlayer": "class.system",
                "AnimationTreePlayer": "class.calls",
                "ProximityGroup": "class.calls",
                "EditorFileDialog": "class.system",
            }
        ),
    }
    for type, code in nodes.items():
        yield _Payload(f"node-{type.lower()}", e, code, _given({"main.tscn": s.scene(s.root() + s.child(type))}))
    resources = {
        "CryptoKey": "class.network",
        "AudioStreamMicrophone": "class.system",
        "VideoStreamTheora": "class.system",
        "RichTextEffect": "script.class",
        "PackedDataContainer": "class.tool",
        "Shader": "shader.forbidden",
        "VisualShader": "shader.forbidden",
        **(
            {
                "Texture2DRD": "class.gpu",
                "RDShaderFile": "class.gpu",
                "CompositorEffect": "script.class",
                "SceneReplicationConfig": "class.network",
                "GLTFDocument": "class.tool",
                "MissingResource": "class.tool",
                "AnimationNodeExtension": "script.class",
            }
            if e == 4
            else {
                "TextFile": "class.tool",
                "VisualScriptFunctionCall": "script.class",
                "X509Certificate": "class.network",
            }
        ),
    }
    for type, code in resources.items():
        yield _Payload(f"resource-{type.lower()}", e, code, _given({"thing.tres": s.resource(type)}))
    yield _Payload("unknown-class", e, "class.unknown", lambda: {"thing.tres": s.resource("GameSecrets")})
    yield _Payload("node-as-resource", e, "class.kind", lambda: {"thing.tres": s.resource(s.node)})
    yield _Payload(
        "resource-as-node", e, "class.kind", lambda: {"main.tscn": s.scene(s.root() + s.child("AudioStream"))}
    )


def _properties(s: Syntax) -> Iterator[_Payload]:
    e = s.major

    def node(type: str, body: str) -> Callable[[], Files]:
        return lambda: {"main.tscn": s.scene(s.root() + s.child(type, body))}

    yield _Payload(
        "takes-over-path",
        e,
        "property.path",
        lambda: {"thing.tres": s.resource("Resource", 'resource_path = "res://core.tres"')},
    )
    file = "scene_file_path" if e == 4 else "filename"
    yield _Payload("node-file", e, "property.identity", node(s.node, f'{file} = "res://core.tscn"'))
    yield _Payload("game-setter", e, "property.unknown", node(s.node, "health = 0"))
    remote = "RemoteTransform3D" if e == 4 else "RemoteTransform"
    yield _Payload("remote-root", e, "node-path.absolute", node(remote, 'remote_path = NodePath("/root/Game")'))
    yield _Payload("remote-root-string", e, "node-path.absolute", node(remote, 'remote_path = "/root/Game"'))
    yield _Payload("remote-parent", e, "node-path.outside", node(remote, 'remote_path = NodePath("../../Player")'))
    yield _Payload("remote-detour", e, "node-path.outside", node(remote, 'remote_path = NodePath("a/../../../Player")'))
    yield _Payload(
        "bbcode-image",
        e,
        "ref.outside",
        node("RichTextLabel", 'bbcode_enabled = true\ntext = "[img]res://secret/plan.tres[/img]"'),
    )
    yield _Payload("bbcode-user", e, "ref.outside", node("RichTextLabel", 'text = "[img]user://save.tres[/img]"'))
    yield _Payload(
        "bbcode-without-scheme", e, "ref.outside", node("RichTextLabel", 'text = "[img]secret/plan.tres[/img]"')
    )
    yield _Payload("bbcode-font", e, "ref.outside", node("RichTextLabel", 'text = "[font=secret/plan.tres]x[/font]"'))
    yield _Payload(
        "bbcode-translated", e, "ref.outside", lambda: {"words.csv": b"key,en\nOAK,[img=10]secret/plan.tres[/img]\n"}
    )
    acting = "VisibleOnScreenEnabler3D" if e == 4 else "VisibilityEnabler"
    yield _Payload("acting-root", e, "scene.root", lambda: {"main.tscn": s.scene(s.root(type=acting))})
    yield _Payload(
        "type-and-instance",
        e,
        "class.network",
        lambda: {
            "main.tscn": s.scene(
                s.root() + f'[node name="X" type="HTTPRequest" parent="." instance={s.ext(1)}]\n',
                s.ext_resource("PackedScene", ROOT + "b.tscn", 1),
            ),
            "b.tscn": s.scene(s.root()),
        },
    )
    yield _Payload(
        "load-path",
        e,
        "ref.outside",
        lambda: {
            "thing.tres": s.resource("CompressedTexture2D" if e == 4 else "StreamTexture", 'load_path = "/etc/passwd"')
        },
    )
    multi = s.sub_resource("MultiMesh", 1, "instance_count = 2147483647\n")
    yield _Payload("multimesh-bomb", e, "property.too-large", lambda: {"main.tscn": s.scene(s.root(), multi)})
    plane = s.sub_resource("PlaneMesh", 1, "subdivide_width = 100000\nsubdivide_depth = 100000\n")
    yield _Payload("plane-bomb", e, "property.too-large", lambda: {"main.tscn": s.scene(s.root(), plane)})
    particles = "GPUParticles3D" if e == 4 else "Particles"
    yield _Payload("particle-bomb", e, "property.too-large", node(particles, "amount = 2000000000"))
    if e == 4:
        yield _Payload("link-uri", 4, "property.uri", node("LinkButton", 'uri = "file:///usr/bin/calc"'))
        yield _Payload("threads", 4, "property.threads", node("Node3D", "process_thread_group = 2"))
        transition = s.sub_resource(
            "AnimationNodeStateMachineTransition", 1, 'advance_expression = "get_tree().quit()"\n'
        )
        yield _Payload(
            "advance-expression", 4, "property.expression", lambda: {"main.tscn": s.scene(s.root(), transition)}
        )
        yield _Payload(
            "viewport-bomb",
            4,
            "property.too-large",
            node("SubViewport", "size = Vector2i(100000, 100000)"),
        )


def _references(s: Syntax) -> Iterator[_Payload]:
    e = s.major
    targets = {
        "absolute": ("/etc/passwd", "ref.outside"),
        "user": ("user://save.tres", "ref.outside"),
        "game-file": ("res://core.tres", "ref.outside"),
        "addons": ("res://addons/tool/icon.tres", "ref.outside"),
        "src": ("res://src/player.tscn", "ref.outside"),
        "other-mod": ("res://mods/elm/x.tres", "ref.outside"),
        "dot-dot": (ROOT + "../../core.tres", "ref.outside"),
        "dot-dot-inside": (ROOT + "a/../box.tres", "ref.not-plain"),
        "three-slashes": ("res:///core.tres", "ref.outside"),
        "dot": (f"res://./mods/{ID}/box.tres", "ref.not-plain"),
        "backslashes": (f"res://mods\\{ID}\\..\\..\\core.tres", "ref.outside"),
        "doubled-slash": (ROOT + "/box.tres", "ref.not-plain"),
        "case": (f"res://Mods/{ID}/box.tres", "ref.outside"),
        "file-scheme": ("file:///etc/passwd", "ref.outside"),
        "web": ("https://example.invalid/x.tres", "ref.outside"),
        "drive": ("C:/Windows/x.tres", "ref.outside"),
        "share": ("//server/share/x.tres", "ref.outside"),
        "uid": ("uid://c4a1b2c3d4e5", "ref.outside"),
        "missing": (ROOT + "nothing.tres", "ref.missing"),
        "relative-outside": ("../../core.tres", "ref.outside"),
    }
    for name, (path, code) in targets.items():
        escaped = path.replace("\\", "\\\\")
        yield _Payload(
            f"ref-{name}",
            e,
            code,
            _given(
                {
                    "main.tscn": s.scene(
                        s.root(f"{('metadata/x' if e == 4 else '__meta__')} = {_held(s)}"),
                        s.ext_resource("Resource", escaped, 1),
                    ),
                    "box.tres": s.resource(s.box),
                }
            ),
        )
    yield _Payload(
        "instance-outside",
        e,
        "ref.outside",
        lambda: {
            "main.tscn": s.scene(
                s.root() + f'[node name="X" parent="." instance={s.ext(1)}]\n',
                s.ext_resource("PackedScene", "res://core.tscn", 1),
            )
        },
    )
    yield _Payload(
        "inherits-outside",
        e,
        "ref.outside",
        lambda: {
            "main.tscn": s.scene(
                f'[node name="Root" instance={s.ext(1)}]\n', s.ext_resource("PackedScene", "res://core.tscn", 1)
            )
        },
    )
    yield _Payload(
        "placeholder",
        e,
        "scene.placeholder",
        lambda: {
            "main.tscn": s.scene(s.root() + '[node name="X" parent="." instance_placeholder="res://core.tscn"]\n')
        },
    )
    yield _Payload(
        "dangling",
        e,
        "ref.unknown",
        lambda: {"main.tscn": s.scene(s.root() + s.child(s.mesh_node, f"mesh = {s.sub(9)}"))},
    )


def _held(s: Syntax) -> str:
    return s.ext(1) if s.major == 4 else f'{{"x": {s.ext(1)}}}'


def _scenes(s: Syntax) -> Iterator[_Payload]:
    e = s.major
    yield _Payload(
        "connection",
        e,
        "scene.connection",
        lambda: {"main.tscn": s.scene(s.root() + '[connection signal="ready" from="." to="." method="queue_free"]\n')},
    )
    yield _Payload(
        "download",
        e,
        "scene.connection",
        lambda: {
            "main.tscn": s.scene(
                s.root()
                + s.child("HTTPRequest", 'download_file = "user://x.gd"', name="H")
                + '[connection signal="ready" from="." to="H" method="request" binds=["http://example.invalid/"]]\n'
            )
        },
    )
    yield _Payload(
        "absolute-parent",
        e,
        "scene.parent",
        lambda: {"main.tscn": s.scene(s.root() + s.child(s.node, parent="/root/Game"))},
    )
    yield _Payload(
        "parent-above", e, "scene.parent", lambda: {"main.tscn": s.scene(s.root() + s.child(s.node, parent="../.."))}
    )
    yield _Payload(
        "orphan", e, "scene.parent", lambda: {"main.tscn": s.scene(s.root() + s.child(s.node, parent="Nobody"))}
    )
    yield _Payload("two-roots", e, "scene.no-root", lambda: {"main.tscn": s.scene(s.root() + s.root(name="Two"))})
    yield _Payload(
        "unknown-attribute",
        e,
        "scene.attribute",
        lambda: {"main.tscn": s.scene(s.root() + s.child(s.node, more=' run="now"'))},
    )
    yield _Payload(
        "cycle", e, "scene.cycle", lambda: {"main.tscn": _instances(s, "b.tscn"), "b.tscn": _instances(s, "main.tscn")}
    )
    yield _Payload("own-cycle", e, "scene.cycle", lambda: {"main.tscn": _instances(s, "main.tscn")})
    yield _Payload(
        "instance-bomb",
        e,
        "scene.too-many-nodes",
        lambda: {
            "main.tscn": _instances(s, "s1.tscn", 10),
            **{f"s{n}.tscn": _instances(s, f"s{n + 1}.tscn", 10) for n in range(1, 9)},
            "s9.tscn": s.scene(s.root()),
        },
    )
    yield _Payload(
        "many-nodes",
        e,
        "scene.too-many-nodes",
        lambda: {"main.tscn": s.scene(s.root() + "".join(s.child(s.node, name=f"n{n}") for n in range(20_001)))},
    )
    yield _Payload(
        "deep-nodes",
        e,
        "scene.too-deep",
        lambda: {
            "main.tscn": s.scene(
                s.root() + "".join(s.child(s.node, name="n", parent="/".join(["n"] * d) or ".") for d in range(200))
            )
        },
    )
    yield _Payload(
        "deep-value",
        e,
        "text.too-deep",
        lambda: {"thing.tres": s.resource("Resource", "metadata/x = " + "[" * 100_000 + "]" * 100_000)},
    )
    yield _Payload("nul", e, "file.content", lambda: {"thing.tres": s.resource("Resource", 'metadata/x = "a\0b"')})


def _instances(s: Syntax, path: str, count: int = 1) -> bytes:
    nodes = "".join(f'[node name="i{n}" parent="." instance={s.ext(1)}]\n' for n in range(count))
    return s.scene(s.root() + nodes, s.ext_resource("PackedScene", ROOT + path, 1))


_KEYS = '{"times": PackedFloat32Array( 0 ), "transitions": PackedFloat32Array( 1 ), "update": 0, "values": [true]}'


def _animations(s: Syntax) -> Iterator[_Payload]:
    e = s.major

    def scene(*tracks: str, player: str = "", root: str = "") -> Callable[[], Files]:
        body = "".join(f"tracks/{n}/{line}\n" for n, track in enumerate(tracks) for line in track.split("\n"))
        animation = s.sub_resource("Animation", 1, f"length = 1.0\n{body}")
        if e == 4:
            library = s.sub_resource("AnimationLibrary", 2, f'_data = {{"a": {s.sub(1)}}}\n')
            held = f'libraries = {{"": {s.sub(2)}}}\nautoplay = "a"\n{player}'
        else:
            library, held = "", f'anims/a = {s.sub(1)}\nautoplay = "a"\n{player}'
        nodes = s.root(held, type="AnimationPlayer") if root else s.root() + s.child("AnimationPlayer", held)
        return lambda: {"main.tscn": s.scene(nodes, animation, library)}

    def track(type: str, path: str, keys: str = _KEYS) -> str:
        if e == 3:
            keys = keys.replace("PackedFloat32Array", "PoolRealArray")
        lines = (f'type = "{type}"', f"path = {path}", "interp = 1", "loop_wrap = true", "imported = false")
        return "\n".join((*lines, "enabled = true", f"keys = {keys}"))

    call = _KEYS.replace('"update": 0, "values": [true]', '"values": [{"args": [], "method": "own"}]')
    load = ROOT + "main.tscn"
    yield _Payload(
        "method-track", e, "animation.method", scene(track("method", 'NodePath("/root/Global")', call)), load
    )
    yield _Payload("method-track-inside", e, "animation.method", scene(track("method", 'NodePath(".")', call)))
    yield _Payload(
        "track-of-game", e, "node-path.absolute", scene(track("value", 'NodePath("/root/Global:owned")')), load
    )
    yield _Payload("track-of-game-string", e, "node-path.absolute", scene(track("value", '"/root/Global:owned"')))
    yield _Payload("track-above", e, "node-path.outside", scene(track("value", 'NodePath("../Global:visible")')), load)
    yield _Payload(
        "track-detour", e, "node-path.outside", scene(track("value", 'NodePath("Child/../../Global:visible")'))
    )
    yield _Payload("track-script", e, "script.property", scene(track("value", 'NodePath(".:script")')))
    yield _Payload("track-setter", e, "animation.property", scene(track("value", 'NodePath(".:health")')))
    yield _Payload("track-kind", e, "animation.track", scene(track("evil", 'NodePath(".:visible")')))
    yield _Payload("bezier-of-game", e, "node-path.absolute", scene(track("bezier", 'NodePath("/root/Game:score")')))
    yield _Payload(
        "player-root-path",
        e,
        "node-path.absolute",
        scene(track("value", 'NodePath(".:visible")'), player='root_node = NodePath("/root")'),
    )
    yield _Payload(
        "player-as-root", e, "animation.root", scene(track("value", 'NodePath("Global:visible")'), root="yes")
    )
    if e == 4:
        yield _Payload("track-uri", 4, "property.uri", scene(track("value", 'NodePath("Link:uri")')))


def _game_scenes(s: Syntax) -> Iterator[_Payload]:
    """What may not be done to a scene of the game, where the game lends one."""
    e = s.major
    policy = {"game_paths": ("res://shared/*.tscn",)}
    place = f'[node name="X" parent="." instance={s.ext(1)}]\n'
    lent = s.ext_resource("PackedScene", "res://shared/door.tscn", 1)
    bodies = {
        "setter": (place + "open = true\n", "property.game"),
        "child": (place + s.child(s.node, parent="X"), "scene.game-child"),
        "editable": (place + '[editable path="X"]\n', "scene.game-child"),
        "override": (place + '[node name="Lock" parent="X"]\nvisible = false\n', "scene.game-child"),
    }
    for name, (body, code) in bodies.items():
        yield _Payload(f"game-{name}", e, code, _given({"main.tscn": s.scene(s.root() + body, lent)}), policy=policy)
    yield _Payload(
        "game-other-folder",
        e,
        "ref.outside",
        lambda: {"main.tscn": s.scene(s.root() + place, s.ext_resource("PackedScene", "res://shared/a/b.tscn", 1))},
        policy=policy,
    )


def _shaders(s: Syntax) -> Iterator[_Payload]:
    e = s.major
    policy = {"shaders": {"allowed": True, "bytes": 65536, "loops": 8, "iterations": 4096}}
    codes = {
        "endless": ("while (true) {}", "shader.loop"),
        "do": ("int i = 0; do { i++; } while (i < 5);", "shader.loop"),
        "long": ("for (int i = 0; i < 100000000; i++) { ALBEDO.r += 1.0; }", "shader.loop"),
        "nested": (
            "for (int i = 0; i < 1000; i++) { for (int j = 0; j < 1000; j++) { ALBEDO.r += 1.0; } }",
            "shader.iterations",
        ),
        "reset": ("for (int i = 0; i < 4; i++) { i = 0; }", "shader.loop"),
        "uniform-bound": ("for (int i = 0; i < int(TIME); i++) { ALBEDO.r += 1.0; }", "shader.loop"),
    }
    for name, (code, finding) in codes.items():
        text = f"shader_type spatial;\nvoid fragment() {{ {code} }}"
        yield _Payload(
            f"shader-{name}",
            e,
            finding,
            _given({"s.tres": s.resource("Shader", f'code = "{text}"')}),
            policy=policy,
        )
    file = "s.gdshader" if e == 4 else "s.shader"
    yield _Payload("shader-file", e, "shader.forbidden", lambda: {file: b"shader_type spatial;"})
    if e == 4:
        macro = b"shader_type spatial;\n#define L while (true)\nvoid fragment() { L {} }"
        yield _Payload("shader-macro", 4, "shader.include", lambda: {file: macro}, policy=policy)
        outside = b'shader_type spatial;\n#include "res://src/secret.gdshaderinc"\n'
        yield _Payload("shader-include", 4, "shader.include", lambda: {file: outside}, policy=policy)


# --- binary resources


def _binaries(s: Syntax) -> Iterator[_Payload]:
    e = s.major
    engine = (4, 6) if e == 4 else (3, 2)
    source = ("script/source", marker_script(e, "Resource"))
    script = Internal("GDScript", [source], id="1")
    honest: dict[str, bytes] = {
        "rsrc": rsrc("Resource", [("script", SubRef("1", 0))], internals=[script], engine=engine),
    }
    honest["inline-names"] = rsrc(
        "Resource", [("script", SubRef("1", 0))], internals=[script], engine=engine, inline_names=True
    )
    honest["big-endian"] = rsrc(
        "Resource", [("script", SubRef("1", 0))], internals=[script], engine=engine, big_endian=True
    )
    packable = rsrc("Resource", [("script", SubRef("1", 0))], internals=[script], engine=engine, to_pack=True)
    for kind in ("zstd", "deflate", "gzip", "fastlz"):
        honest[f"rscc-{kind}"] = rscc(packable, kind)
    opened = {"binary_resources": True}
    for name, data in honest.items():
        load = ROOT + "thing.res" if name != "rscc-deflate" else ""  # no engine has it by default
        yield _Payload(f"binary-{name}", e, "script.property", _given({"thing.res": data}), load, opened)
        yield _Payload(f"closed-{name}", e, "file.binary-resource", _given({"thing.res": data}))
    for extension in (
        "mesh",
        "material",
        "sample",
        "tex",
        "anim",
        "shape",
        "theme",
        "meshlib",
        "font",
        "phymat",
        "world",
    ):
        # Everything that the engine's classes register as their own extension loads as a resource.
        listed = extension in ("mesh", "material", "anim")
        imported = extension == "sample"
        code = "file.imported" if imported else "file.binary-resource" if listed else "file.extension"
        yield _Payload(
            f"binary-as-{extension}",
            e,
            code,
            _given({f"thing.{extension}": honest["rsrc"]}),
            ROOT + f"thing.{extension}" if extension == "mesh" else "",
        )
    for extension in ("png", "tres", "ogg", "ttf", "txt"):
        yield _Payload(
            f"binary-named-{extension}", e, "file.binary-resource", _given({f"thing.{extension}": honest["rsrc"]})
        )
    yield _Payload(
        "binary-external",
        e,
        "script.source",
        lambda: {"thing.res": rsrc("Resource", externals=[("Script", "res://src/core.gd")], engine=engine)},
        policy=opened,
    )
    yield _Payload(
        "binary-inline-external",
        e,
        "value.resource",
        lambda: {
            "thing.res": rsrc(
                "Resource", [("script", ResourceRef("res://src/core.gd", "", 0, "Script"))], engine=engine
            )
        },
        policy=opened,
    )
    yield _Payload(
        "binary-animation",
        e,
        "animation.method",
        lambda: {
            "thing.anim": rsrc(
                "Animation",
                [("tracks/0/type", "method"), ("tracks/0/path", NodePath("/root/Global"))],
                engine=engine,
            )
        },
        policy=opened,
    )
    yield _Payload("binary-cut", e, "binary.truncated", lambda: {"thing.res": honest["rsrc"][:-30]}, policy=opened)
    yield _Payload(
        "binary-bomb",
        e,
        "binary.too-large",
        lambda: {"thing.res": rscc(honest["rsrc"], "zstd", total=1 << 31)},
        policy=opened,
    )
    bundles = {
        "binary-scene-script": (_bundle("Node", script=SubRef("1", 0)), [script], "script.property"),
        "binary-scene-http": (_bundle("HTTPRequest"), [], "class.network"),
        "binary-scene-connection": (_bundle("Node", connected=True), [], "scene.connection"),
    }
    for name, (held, parts, code) in bundles.items():
        yield _Payload(
            name,
            e,
            code,
            _given({"evil.scn": rsrc("PackedScene", [("_bundled", held)], internals=parts, engine=engine)}),
            policy=opened,
        )
    yield _Payload("bundle-in-text", e, "class.network", lambda: {"thing.tres": _text_bundle(s)})
    if e == 4:
        yield _Payload(
            "binary-class",
            4,
            "script.global-class",
            lambda: {"thing.res": rsrc("Resource", script_class="GameSettings")},
            policy=opened,
        )
        yield _Payload(
            "binary-uid-of-game",
            4,
            "ref.uid",
            lambda: {
                "thing.res": rsrc("Resource", externals=[("Texture2D", ROOT + "a.png", 77)], uid=78),
                "a.png": png(),
            },
            policy=opened,
        )
        yield _Payload(
            "binary-uid",
            4,
            "ref.uid",
            lambda: {"thing.res": rsrc("Resource", uid=77)},
            policy={**opened, "uids": "reject"},
        )


def _bundle(type: str, script: SubRef | None = None, *, connected: bool = False) -> DictValue:
    def ints(*numbers: int) -> Construct:
        return Construct("PackedInt32Array", 0, Numbers(",".join(map(str, numbers))))

    names = [type, "Root", "script", "ready", "queue_free"]
    node = [-1, -1, 0, 1, -1, *((1, 2, 0) if script else (0,)), 0]
    wires = [0, 0, 3, 4, 0, 0] if connected else []
    return DictValue(
        [
            ("names", Construct("PackedStringArray", 0, args=tuple(names))),
            ("variants", ArrayValue([script] if script else [], 0)),
            ("node_count", 1),
            ("nodes", ints(*node)),
            ("conn_count", int(connected)),
            ("conns", ints(*wires)),
            ("node_paths", ArrayValue([], 0)),
            ("editable_instances", ArrayValue([], 0)),
            ("version", 2),
        ],
        0,
    )


def _text_bundle(s: Syntax) -> bytes:
    ints = "PackedInt32Array" if s.major == 4 else "PoolIntArray"
    return s.resource(
        "PackedScene",
        f'_bundled = {{"names": {s.strings}("HTTPRequest", "Root"), "variants": [], "node_count": 1, '
        f'"nodes": {ints}(-1, -1, 0, 1, -1, 0, 0), "conn_count": 0, "conns": {ints}(), "node_paths": [], '
        '"editable_instances": [], "version": 2}',
    )


# --- files


def _files(s: Syntax) -> Iterator[_Payload]:
    e = s.major
    code = marker_script(e).encode()
    for path, finding in {
        "evil.gd": "file.script",
        "evil.GD": "file.script",
        "Evil.cs": "file.script",
        "run.sh": "file.script",
        "evil.gdns": "file.script",
        "evil.gdnlib": "file.native",
        "evil.gdextension": "file.native",
        "project.godot": "file.project",
        "override.cfg": "file.project",
        "export_presets.cfg": "file.project",
        "addons/tool/plugin.cfg": "path.addons",
        ".gdignore": "file.project",
        ".godot/global_script_class_cache.cfg": "file.project",
        ".godot/extension_list.cfg": "file.project",
        "page.html": "file.extension",
        "old.escn": "file.extension",
        "drawing.svg": "file.extension",
    }.items():
        yield _Payload(f"file-{path.strip('.').replace('/', '-')}", e, finding, _given({path: code}))
    redirect = b'[remap]\nimporter="texture"\ntype="Resource"\npath="res://mods/oak/thing.tres"\n'
    thing = _script_resource(
        s, f"script = {s.sub(1)}", s.sub_resource("GDScript", 1, s.gdscript(marker_script(e, "Resource")))
    )
    yield _Payload(
        "import-redirect",
        e,
        "file.imported",
        lambda: {"a.png": png(), "a.png.import": redirect, **thing},
        ROOT + "a.png",
    )
    yield _Payload(
        "remap", e, "file.imported", lambda: {"a.tres.remap": b'[remap]\npath="res://mods/oak/thing.tres"\n', **thing}
    )
    hidden = (
        b'[remap]\nimporter="texture"\npath="res://x.stex"\n'
        b'metadata=Object(Resource,"script":Object(GDScript,"script/source":"extends Reference"))\n'
    )
    yield _Payload("import-object", e, "value.object", lambda: {"a.png": png(), "a.png.import": hidden})
    post = b'[params]\nimport_script/path="res://mods/oak/evil.gd"\nnodes/custom_script="res://mods/oak/evil.gd"\n'
    yield _Payload("import-script", e, "script.source", lambda: {"a.glb": _glb(), "a.glb.import": post})
    binaries = {
        "elf": (b"\x7fELF\x02\x01\x01" + bytes(60), "file.native"),
        "pe": (_pe(), "file.native"),
        "macho": (b"\xcf\xfa\xed\xfe" + bytes(60), "file.native"),
        "wasm": (b"\x00asm\x01\x00\x00\x00", "file.native"),
        "gdsc": (b"GDSC\x65\x00\x00\x00" + bytes(40), "file.script"),
        "gdec": (b"GDEC" + bytes(60), "file.script"),
        "pck": (packs.pack({"res://x.txt": b"x"}, format=1 if e == 3 else 3), "file.pack"),
        "zip": (as_zip({"x": b"y"}), "file.pack"),
        "rar": (b"Rar!\x1a\x07\x01\x00" + bytes(40), "file.pack"),
        "gzip": (b"\x1f\x8b\x08" + bytes(40), "file.pack"),
        "texture": (b"GST2" + bytes(60) if e == 4 else b"GDST" + bytes(60), "file.imported"),
    }
    for index, (name, (data, finding)) in enumerate(binaries.items()):
        extension = ("png", "ogg", "ttf", "txt", "glb", "json")[index % 6]
        yield _Payload(f"{name}-as-{extension}", e, finding, _given({f"a.{extension}": data}))
    for extension in ("dll", "so", "dylib", "so.1.2", "exe", "wasm"):
        finding = "file.native"
        yield _Payload(f"library-{extension}", e, finding, _given({f"lib.{extension}": b"\x7fELF" + bytes(60)}))


def _media(s: Syntax) -> Iterator[_Payload]:
    e = s.major
    inner = packs.pack({"res://core.txt": b"x"}, format=1 if e == 3 else 3)
    archive = as_zip({"x.gd": b"extends Node"})
    yield _Payload("png-with-pack", e, "file.appended", lambda: {"a.png": packs.appended(png(), inner)})
    yield _Payload("png-with-zip", e, "file.appended", lambda: {"a.png": png() + archive})
    yield _Payload("png-with-bytes", e, "file.appended", lambda: {"a.png": png() + b"more"})
    yield _Payload("ogg-with-pack", e, "file.appended", lambda: {"a.ogg": packs.appended(ogg(), inner)})
    yield _Payload("wav-with-pack", e, "file.appended", lambda: {"a.wav": packs.appended(wav(), inner)})
    yield _Payload("ttf-with-zip", e, "file.appended", lambda: {"a.ttf": b"\x00\x01\x00\x00" + bytes(200) + archive})
    yield _Payload("glb-with-pack", e, "file.appended", lambda: {"a.glb": packs.appended(_glb(), inner)})
    yield _Payload("image-bomb", e, "image.too-large", lambda: {"a.png": _png_of(60_000, 60_000)})
    yield _Payload("image-cut", e, "image.invalid", lambda: {"a.png": png()[:40]})
    yield _Payload("png-as-jpg", e, "file.content", lambda: {"a.jpg": png()})
    yield _Payload("text-as-png", e, "file.content", lambda: {"a.png": b"extends Node"})
    yield _Payload("wav-without-data", e, "audio.invalid", lambda: {"a.wav": wav()[:36]})
    yield _Payload("empty-file", e, "file.empty", lambda: {"a.png": b""})
    yield _Payload("orphan-buffer", e, "file.buffer", lambda: {"a.bin": bytes(100)})
    uris = {
        "up": "../../../secret.png",
        "absolute": "/etc/passwd",
        "web": "http://example.invalid/x.png",
        "game": "res://core.png",
    }
    for name, uri in uris.items():
        yield _Payload(f"glb-uri-{name}", e, "gltf.uri-in-glb", _given({"a.glb": _glb_with(uri)}))
    yield _Payload("gltf-uri-up", e, "gltf.uri-traversal", lambda: {"a.gltf": _gltf("../../core.bin")})
    yield _Payload("gltf-uri-web", e, "gltf.uri-external", lambda: {"a.gltf": _gltf("https://example.invalid/b.bin")})
    yield _Payload("gltf-missing", e, "intake.missing-file", lambda: {"a.gltf": _gltf("b.bin")})
    yield _Payload("glb-cut", e, "glb.truncated", lambda: {"a.glb": _glb()[:-100]})


def _glb() -> bytes:
    w = Writer()
    w.scene(w.node(name="box", mesh=w.mesh(shapes.box(), name="box")))
    return w.glb()


def _glb_with(uri: str) -> bytes:
    document, binary = unpack(_glb())
    document["images"] = [{"uri": uri}]
    return pack_glb(document, binary)


def _gltf(uri: str) -> bytes:
    import json

    document, _ = unpack(_glb())
    document["buffers"][0]["uri"] = uri
    return json.dumps(document).encode()


def _png_of(width: int, height: int) -> bytes:
    data = bytearray(png())
    data[16:24] = struct.pack(">II", width, height)
    return bytes(data)


def _pe() -> bytes:
    return b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + bytes(100)


# --- manifests


def _manifests(s: Syntax) -> Iterator[_Payload]:
    e = s.major
    changes = {
        "id-other": ({"id": '"elm"'}, "manifest.id"),
        "id-path": ({"id": '"../elm"'}, "manifest.id"),
        "id-missing": ({"id": ""}, "manifest.field"),
        "version": ({"version": '"1.0"'}, "manifest.version"),
        "schema": ({"schema": "2"}, "manifest.field"),
        "type": ({"name": "7"}, "manifest.field"),
        "unknown": ({"run": '"now"'}, "manifest.field"),
        "engine": ({"engine": '{"min": "9.0"}'}, "manifest.engine"),
        "engine-order": ({"engine": '{"min": "4.6", "max": "3.2"}'}, "manifest.version"),
        "entry-missing": ({"entry_scenes": '["nothing.tscn"]'}, "manifest.entry"),
        "entry-outside": ({"entry_scenes": '["../../core.tscn"]'}, "manifest.entry"),
        "dependency": ({"dependencies": '["elm ^1.2"]'}, "manifest.dependency"),
        "tags": ({"tags": '["<b>"]'}, "manifest.field"),
    }
    for name, (fields, code) in changes.items():
        yield _Payload(f"manifest-{name}", e, code, _given({"manifest.tres": s.manifest(**fields)}))
    script = s.sub_resource("GDScript", 1, s.gdscript(marker_script(e, "Resource")))
    yield _Payload(
        "manifest-script",
        e,
        "script.property",
        lambda: {
            "manifest.tres": s.manifest().replace(
                b"[resource]\n", (script + f"[resource]\nscript = {s.sub(1)}\n").encode()
            )
        },
        ROOT + "manifest.tres",
    )
    yield _Payload("manifest-scene", e, "manifest.invalid", lambda: {"manifest.tres": s.resource("Environment")})


def payloads() -> list[_Payload]:
    """Every hostile content, for both engines."""
    makers = (
        *(_scripts, _banned_classes, _properties, _references, _scenes, _animations, _game_scenes),
        *(_shaders, _binaries, _files, _media, _manifests),
    )
    return [payload for s in SYNTAX.values() for maker in makers for payload in maker(s)]


# --- packs and archives


def _pack_attacks() -> Iterator[Attack]:
    for version, engine in ((1, 3), (2, 4), (3, 4)):
        yield from _packs(version, engine)


def _packs(version: int, engine: int) -> Iterator[Attack]:
    def attack(name: str, code: str, make: Callable[[], bytes], load: str = "") -> Attack:
        return Attack(name, engine, f"pck{version}", code, lambda: {"mod.pck": make()}, load)

    def packed(*extra: RawFile, **options: Any) -> Callable[[], bytes]:
        return lambda: raw_pack(
            [*(RawFile(_name(p, version), d) for p, d in in_game(mod({}, engine)).items()), *extra],
            format=version,
            **options,
        )

    def at(path: str, data: bytes = b"x", **options: Any) -> Callable[[], bytes]:
        return packed(RawFile(_name(path, version), data, **options))

    overwrites = {
        "dot-dot": ("res://mods/../core.txt", "pck.path"),
        "three-slashes": ("res:///core.txt", "pck.path"),
        "dot": ("res://./core.txt", "pck.path"),
        "backslash": ("res://mods\\..\\core.txt", "pck.path"),
        "game-file": ("res://core.txt", "path.outside"),
        "addons": ("res://addons/a/plugin.cfg", "path.addons"),
        "src": ("res://src/core.gd", "path.src"),
        "project": ("res://project.binary", "file.project"),
        "uid-cache": ("res://.godot/uid_cache.bin", "file.project"),
        "class-cache": ("res://.godot/global_script_class_cache.cfg", "file.project"),
        "override": ("res://override.cfg", "file.project"),
        "user": ("user://save.tres", "pck.path"),
        "other-mod": ("res://mods/elm/x.txt", "path.outside"),
        "imported": (ROOT + ".import/a.stex", "file.imported"),
        "autoload": ("res://autoload/x.tscn", "path.outside"),
    }
    for name, (path, code) in overwrites.items():
        proof = name in ("dot-dot", "game-file", "three-slashes") and not (version == 1 and name != "game-file")
        yield attack(f"pack-{name}", code, at(path, PROVEN.encode()), "res://core.txt" if proof else "")
    yield attack("pack-newer", "pck.bad-version", packed(version=99))
    yield attack("pack-duplicate", "pck.duplicate", at(ROOT + "main.tscn"))
    yield attack("pack-case", "pck.duplicate", at(ROOT + "MAIN.tscn"))
    yield attack(
        "pack-unicode",
        "pck.duplicate",
        packed(*(RawFile(_name(ROOT + n, version), b"x") for n in ("é.txt", "e\u0301.txt"))),
    )
    yield attack("pack-file-and-folder", "pck.path-conflict", at(ROOT + "main.tscn/x.txt"))
    yield attack("pack-nul", "pck.path-encoding", packed(RawFile(b"mods/oak/a\0b.txt", b"x")))
    yield attack("pack-latin1", "pck.path-encoding", packed(RawFile(b"mods/oak/\xe9.txt", b"x")))
    yield attack("pack-md5", "pck.md5", at(ROOT + "a.txt", md5=bytes(15) + b"\1"))
    yield attack("pack-out-of-bounds", "pck.out-of-bounds", at(ROOT + "a.txt", size=1 << 30))
    yield attack("pack-overlap", "pck.overlap", at(ROOT + "a.txt", offset=0 if version > 1 else 96))
    yield attack("pack-trailing", "pck.trailing-bytes", lambda: packed()() + b"x" * 100)
    yield attack("pack-appended", "mod.unknown-form", lambda: packs.appended(png(), packed()()))
    yield attack("pack-twice", "pck.appended", lambda: packs.appended(packed()(), packed()()))
    yield attack("pack-cut", "pck.truncated", lambda: packed()()[:60])
    yield attack("pack-count", "pck.truncated", packed(count=9_999))
    yield attack("pack-huge-count", "pck.too-many-files", packed(count=0xFFFFFFFF))
    yield attack(
        "pack-100k",
        "pck.too-many-files",
        lambda: raw_pack([(_name(f"{ROOT}{n}.txt", version), b"") for n in range(100_000)], format=version),
    )
    yield attack(
        "pack-no-manifest",
        "mod.no-manifest",
        lambda: raw_pack([(_name(ROOT + "a.txt", version), b"x")], format=version),
    )
    yield attack("pack-two-mods", "mod.several", at("res://mods/elm/manifest.tres", GODOT_4.manifest(id='"elm"')))
    yield attack("pack-as-mod", "file.pack", at(ROOT + "inner.pck", packs.pack({"res://a.txt": b"x"}, format=version)))
    if version > 1:
        game = "res://core.txt" if version == 3 else ""
        yield attack("pack-removal", "pck.removal", at("res://core.txt", b"", flags=2), game)
        yield attack("pack-delta", "pck.delta", at("res://core.txt", b"GDDL\x01" + bytes(20), flags=4))
        yield attack("pack-encrypted-file", "pck.encrypted", at(ROOT + "a.txt", flags=1))
        yield attack("pack-unknown-file-flag", "pck.file-flags", at(ROOT + "a.txt", flags=64))
        yield attack("pack-encrypted", "pck.encrypted", packed(flags=3))
        yield attack("pack-sparse", "pck.sparse", packed(flags=6))
        yield attack("pack-unknown-flag", "pck.bad-flags", packed(flags=2 | 128))
    if version == 3:
        yield attack("pack-directory", "pck.directory", packed(directory=1 << 40))


def _name(path: str, version: int) -> str:
    return path.removeprefix("res://") if version == 3 and not path.startswith("res:///") else path


def _archive_attacks() -> Iterator[Attack]:
    good = mod({})

    def attack(name: str, code: str, make: Callable[[], bytes]) -> Attack:
        return Attack(name, 4, "zip", code, lambda: {"mod.zip": make()})

    def special(name: str, mode: int) -> zipfile.ZipInfo:
        info = zipfile.ZipInfo(name)
        info.create_system = 3
        info.external_attr = mode << 16
        return info

    def with_(*entries: tuple[str | zipfile.ZipInfo, bytes]) -> Callable[[], bytes]:
        return lambda: as_zip([*good.items(), *entries])

    for name, path in (
        ("up", "../../x.txt"),
        ("absolute", "/etc/x.txt"),
        ("backslash", "a\\..\\x.txt"),
        ("drive", "C:/x.txt"),
    ):
        yield attack(f"zip-{name}", "intake.zip-path", with_((path, b"x")))
    yield attack("zip-link", "intake.zip-special", with_((special("link.png", stat.S_IFLNK | 0o777), b"/etc/passwd")))
    yield attack("zip-device", "intake.zip-special", with_((special("null", stat.S_IFCHR | 0o666), b"")))
    yield attack("zip-pipe", "intake.zip-special", with_((special("pipe", stat.S_IFIFO | 0o666), b"")))
    yield attack("zip-case", "intake.zip-duplicate", with_(("MAIN.tscn", b"x")))
    yield attack("zip-unicode", "intake.zip-duplicate", with_(("é.txt", b"x"), ("e\u0301.txt", b"y")))
    yield attack("zip-bomb", "intake.zip-bomb", with_(("zeros.bin", bytes(64 << 20))))
    yield attack(
        "zip-100k", "intake.zip-entries", lambda: as_zip([(f"{n}.txt", b"") for n in range(20_000)], stored=True)
    )
    yield attack("zip-nested", "file.pack", with_(("inner.zip", as_zip({"x": b"y"}))))
    yield attack("zip-encrypted", "intake.zip-encrypted", lambda: _encrypted(as_zip(good)))
    yield attack("zip-damaged", "intake.zip-invalid", lambda: as_zip(good)[:-30])
    yield attack("zip-empty", "mod.unknown-form", lambda: as_zip({}))
    yield attack("zip-no-manifest", "mod.no-manifest", lambda: as_zip({"main.tscn": good["main.tscn"]}))
    yield attack(
        "zip-project",
        "file.project",
        lambda: as_zip({"project.godot": b"[x]", **{f"mods/oak/{p}": d for p, d in good.items()}}),
    )
    yield attack(
        "zip-beside",
        "path.outside",
        lambda: as_zip({"core.txt": b"x", **{f"mods/oak/{p}": d for p, d in good.items()}}),
    )
    yield attack(
        "zip-addons",
        "path.addons",
        lambda: as_zip({"addons/a/plugin.cfg": b"[x]", **{f"mods/oak/{p}": d for p, d in good.items()}}),
    )
    yield Attack(
        "zip-named-pck", 4, "zip", "file.script", lambda: {"mod.pck": as_zip({**good, "a.gd": b"extends Node"})}
    )
    yield Attack("not-a-mod", 4, "folder", "mod.unknown-form", lambda: {"mod.pck": b"<html>"})
    yield Attack("rar", 4, "folder", "mod.unknown-form", lambda: {"mod.rar": b"Rar!\x1a\x07\x01\x00" + bytes(40)})
    yield Attack("folder-link", 4, "folder", "mod.link", lambda: good, links=("evil.png",))
    yield Attack("folder-colon", 4, "folder", "path.name", lambda: {**good, "a:b.txt": b"x"})
    yield Attack("folder-case", 4, "folder", "path.duplicate", lambda: {**good, "A.txt": b"x", "a.txt": b"y"})
    yield Attack("folder-invisible", 4, "folder", "path.name", lambda: {**good, "a\u202e.txt": b"x"})


def _encrypted(archive: bytes) -> bytes:
    """With the flag of encryption set on every entry."""
    data = bytearray(archive)
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(magic)
        while start >= 0:
            data[start + at] |= 1
            start = data.find(magic, start + 4)
    return bytes(data)


def _of(payload: _Payload, form: str) -> Attack:
    def make() -> Mapping[str, bytes]:
        files = mod(payload.files(), payload.engine)
        if form == "folder":
            return files
        if form == "zip":
            return {"mod.zip": as_zip({f"mods/{ID}/{path}": data for path, data in files.items()})}
        return {
            "mod.pck": raw_pack([(_name(p, int(form[3])), d) for p, d in in_game(files).items()], format=int(form[3]))
        }

    load = payload.load if form.startswith("pck") else ""
    return Attack(payload.name, payload.engine, form, payload.code, make, load, payload.policy)


def attacks() -> list[Attack]:
    """The whole suite. Contents go in as a pack of their engine and, in turn, as a folder or a zip."""
    found: list[Attack] = []
    for number, payload in enumerate(payloads()):
        found.append(_of(payload, "pck1" if payload.engine == 3 else ("pck3", "pck2")[number % 4 == 3]))
        # A folder has no name of its own that an id could differ from.
        found.append(_of(payload, "zip" if number % 3 == 0 or payload.name == "manifest-id-other" else "folder"))
    return [*found, *_pack_attacks(), *_archive_attacks()]


ATTACKS = attacks()
