"""Godot 3 (3.2 and later): pack format 1, imported files in ``res://.import``, ``stex`` textures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cloudbaker.compute.godot.adapter import PROJECT_PATH, BakeOptions, Import, config_text, template, truth

IMPORTED = (".import/",)
"""Where baked files lie in an exported pack."""
DROPPED = ("project.binary",)
"""Of an exported pack: the bake project's own settings."""
PLATFORM = "Linux/X11"

_TEXTURE = {"detect_3d": "false", "size_limit": "0"}
_SURFACE = {**_TEXTURE, "compress/mode": "2", "flags/repeat": "true", "flags/filter": "true", "flags/mipmaps": "true"}
_IMPORTERS: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    "image": ("texture", "StreamTexture", {**_TEXTURE, "compress/mode": "0", "flags/mipmaps": "false"}),
    "color": ("texture", "StreamTexture", {**_SURFACE, "flags/srgb": "1"}),
    "data": ("texture", "StreamTexture", {**_SURFACE, "flags/srgb": "0"}),
    "normal": ("texture", "StreamTexture", {**_SURFACE, "flags/srgb": "0", "compress/normal_map": "1"}),
    "audio": ("ogg_vorbis", "AudioStreamOGGVorbis", {"loop": "false", "loop_offset": "0"}),
    "wav": ("wav", "AudioStreamSample", {"edit/normalize": "false", "edit/trim": "false", "compress/mode": "0"}),
    # Materials stay inside the scene: as files they would get names that the model's author chose.
    "model": (
        "scene",
        "PackedScene",
        {"materials/location": "1", "materials/storage": "0", "animation/storage": "false", "meshes/compress": "0"},
    ),
}


def project_settings(name: str, options: BakeOptions, include: str = "") -> dict[str, bytes]:
    """The files that make a folder a project from which a pack can be exported.

    `include` are patterns of files that are no resources and come along as they are: ``*.json,*.txt``.
    """
    mobile = options.textures == "etc2"
    project = {
        "": {"config_version": "4"},
        "application": {"config/name": f'"{name}"'},
        "rendering": {
            "quality/driver/driver_name": '"GLES2"',
            "vram_compression/import_s3tc": truth(not mobile),
            "vram_compression/import_etc": "false",
            "vram_compression/import_etc2": truth(mobile),
        },
    }
    preset = template("export_presets.cfg").replace("{platform}", PLATFORM).replace("{include}", include)
    preset += config_text(
        {
            "preset.0.options": {
                "texture_format/s3tc": truth(not mobile),
                "texture_format/etc": "false",
                "texture_format/etc2": truth(mobile),
                "texture_format/no_bptc_fallbacks": "true",
            }
        }
    )
    return {"project.godot": config_text(project).encode(), "export_presets.cfg": preset.encode()}


def import_file(each: Import, options: BakeOptions) -> bytes:
    """The ``.import`` beside a file: which importer takes it, and how."""
    importer, kind, parameters = _IMPORTERS[each.kind]
    if options.max_size and each.kind in ("color", "data", "normal"):
        parameters = {**parameters, "size_limit": str(options.max_size)}
    remap = {"importer": f'"{importer}"', "type": f'"{kind}"'}
    return config_text({"remap": remap, "params": {**parameters, **each.parameters}}).encode()


def export_arguments(pack: str) -> tuple[str, ...]:
    """Import everything and write the pack. (``-e -q`` would hang for ever.)"""
    return ("--path", PROJECT_PATH, "--export-pack", "mod", pack)


def script_arguments(script: str) -> tuple[str, ...]:
    """Run a script in the project."""
    return ("--path", PROJECT_PATH, "-s", script)


def unstable(paths: Iterable[str]) -> list[str]:
    """Those of the baked files that differ from run to run: none, 3.2.3 and 3.6 were byte-identical."""
    del paths
    return []
