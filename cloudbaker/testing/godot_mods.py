"""Mods for tests: text resources as Godot 3 and 4 write them, and a mod as a folder, an archive or a pack."""

from __future__ import annotations

import io
import wave
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cloudbaker.testing.godot_packs import pack
from cloudbaker.testing.writer import encode_image

ID = "oak"
ROOT = f"res://mods/{ID}/"
Files = dict[str, bytes]
"""By path below the mod's folder."""


@dataclass(frozen=True, slots=True)
class Syntax:
    """How one engine writes text resources."""

    major: int

    @property
    def format(self) -> int:
        """Of text resources."""
        return 2 if self.major == 3 else 3

    @property
    def node(self) -> str:
        """The plainest node with a place."""
        return "Spatial" if self.major == 3 else "Node3D"

    @property
    def mesh_node(self) -> str:
        """Shows a mesh."""
        return "MeshInstance" if self.major == 3 else "MeshInstance3D"

    @property
    def box(self) -> str:
        """The mesh of a box."""
        return "CubeMesh" if self.major == 3 else "BoxMesh"

    @property
    def material(self) -> str:
        """The everyday material."""
        return "SpatialMaterial" if self.major == 3 else "StandardMaterial3D"

    @property
    def texture(self) -> str:
        """What textures are called in references."""
        return "Texture" if self.major == 3 else "Texture2D"

    @property
    def strings(self) -> str:
        """An array of strings."""
        return "PoolStringArray" if self.major == 3 else "PackedStringArray"

    @property
    def reals(self) -> str:
        """An array of numbers."""
        return "PoolRealArray" if self.major == 3 else "PackedFloat32Array"

    def ref(self, kind: str, id: int) -> str:
        """``ExtResource( 1 )`` or ``ExtResource("1")``."""
        return f"{kind}( {id} )" if self.major == 3 else f'{kind}("{id}")'

    def ext(self, id: int) -> str:
        """A reference to an external resource."""
        return self.ref("ExtResource", id)

    def sub(self, id: int) -> str:
        """A reference to an internal resource."""
        return self.ref("SubResource", id)

    def ext_resource(self, type: str, path: str, id: int, more: str = "") -> str:
        """The tag of an external resource."""
        number = f"{id}" if self.major == 3 else f'"{id}"'
        return f'[ext_resource {more}type="{type}" path="{path}" id={number}]\n'

    def sub_resource(self, type: str, id: int, body: str = "") -> str:
        """The tag of an internal resource, with its properties."""
        number = f"{id}" if self.major == 3 else f'"{id}"'
        return f'[sub_resource type="{type}" id={number}]\n{body}\n'

    def scene(self, body: str, *parts: str, header: str = "") -> bytes:
        """A ``.tscn``: external and sub resources in `parts`, nodes in `body`."""
        return f"[gd_scene {header}format={self.format}]\n\n{''.join(parts)}\n{body}\n".encode()

    def resource(self, type: str, body: str = "", *parts: str, header: str = "") -> bytes:
        """A ``.tres``."""
        head = f'[gd_resource type="{type}" {header}format={self.format}]'
        return f"{head}\n\n{''.join(parts)}\n[resource]\n{body}\n".encode()

    def root(self, body: str = "", *, type: str = "", name: str = "Root") -> str:
        """The root of a scene."""
        return f'[node name="{name}" type="{type or self.node}"]\n{body}\n'

    def child(self, type: str, body: str = "", *, name: str = "Child", parent: str = ".", more: str = "") -> str:
        """A node below another."""
        return f'[node name="{name}" type="{type}" parent="{parent}"{more}]\n{body}\n'

    def gdscript(self, code: str) -> str:
        """A script inside a resource, as a property's text."""
        escaped = code.replace("\\", "\\\\").replace('"', '\\"')
        return f'script/source = "{escaped}"\n'

    def manifest(self, **changes: str) -> bytes:
        """A manifest that passes; `changes` are fields as they are to be written, an empty one leaves it out."""
        fields = {
            "schema": "1",
            "id": f'"{ID}"',
            "version": '"1.0.0"',
            "name": '"Oak"',
            "author": '"Ada"',
            "license": '"CC0-1.0"',
            "engine": '{"min": "3.2", "max": "4.6"}',
            "entry_scenes": '["main.tscn"]',
            **changes,
        }
        kept = {name: value for name, value in fields.items() if value}
        if self.major == 3:
            inner = ",\n".join(f'"{name}": {value}' for name, value in kept.items())
            return self.resource("Resource", f"__meta__ = {{\n{inner}\n}}")
        return self.resource("Resource", "\n".join(f"metadata/{name} = {value}" for name, value in kept.items()))


GODOT_3, GODOT_4 = Syntax(3), Syntax(4)
SYNTAX = {3: GODOT_3, 4: GODOT_4}


def simple_scene(major: int) -> bytes:
    """A root with a box."""
    s = SYNTAX[major]
    return s.scene(
        s.root() + s.child(s.mesh_node, f"mesh = {s.sub(1)}", name="Box"),
        s.sub_resource(s.box, 1, "size = Vector3( 1, 2, 1 )"),
    )


def mod(files: Mapping[str, bytes], major: int = 4) -> Files:
    """Files with a manifest and a main scene, where they have none."""
    return {"manifest.tres": SYNTAX[major].manifest(), "main.tscn": simple_scene(major), **files}


def in_game(files: Mapping[str, bytes], *, root: str = ROOT) -> Files:
    """The same by path in the game; paths that begin with ``res://`` stay."""
    return {path if path.startswith("res://") else root + path: data for path, data in files.items()}


def as_pck(files: Mapping[str, bytes], format: int = 3) -> bytes:
    """A mod as a pack, honestly written."""
    return pack(in_game(files), format=format)


def as_zip(
    files: Mapping[str, bytes] | Sequence[tuple[str | zipfile.ZipInfo, bytes]], *, stored: bool = False
) -> bytes:
    """A mod as an archive; names as they stand."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items() if isinstance(files, Mapping) else files:
            entry = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
            entry.compress_type = archive.compression
            archive.writestr(entry, data)
    return out.getvalue()


def png(width: int = 8, height: int = 8) -> bytes:
    """A small picture."""
    pixels = np.arange(height * width * 3, dtype=np.uint32).astype(np.uint8).reshape(height, width, 3)
    return encode_image(pixels)


def wav(samples: int = 400) -> bytes:
    """A short sound, 16 bit mono."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(22050)
        file.writeframes((np.sin(np.arange(samples) / 8) * 8000).astype("<i2").tobytes())
    return out.getvalue()


def ogg(samples: int = 4000) -> bytes:
    """A short Ogg Vorbis sound."""
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, np.sin(np.arange(samples) / 8) * 0.2, 22050, format="OGG", subtype="VORBIS")
    return out.getvalue()
