"""Godot 4: pack formats 2 (4.0 to 4.4) and 3 (4.5 and later), imported files in ``res://.godot``, ``ctex`` textures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cloudbaker.compute.godot.adapter import PROJECT_PATH, BakeOptions, Import, config_text, template, truth

IMPORTED = (".godot/imported/", ".godot/exported/")
"""Where baked files lie in an exported pack."""
DROPPED = (
    "project.binary",
    ".godot/uid_cache.bin",
    ".godot/global_script_class_cache.cfg",
    ".godot/extension_list.cfg",
)
"""Of an exported pack: the bake project's own. Loaded into a game, the caches would take the place of the game's."""
PLATFORM = "Linux"

_TEXTURE = {"detect_3d/compress_to": "0"}
_SURFACE = {**_TEXTURE, "compress/mode": "2", "mipmaps/generate": "true", "compress/normal_map": "2"}
_IMPORTERS: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    # Mode 0 is lossless WebP inside the .ctex (PNG where that is smaller for tiny images).
    "image": ("texture", "CompressedTexture2D", {**_TEXTURE, "compress/mode": "0", "mipmaps/generate": "false"}),
    "color": ("texture", "CompressedTexture2D", _SURFACE),
    "data": ("texture", "CompressedTexture2D", _SURFACE),
    "normal": ("texture", "CompressedTexture2D", {**_SURFACE, "compress/normal_map": "1"}),
    "audio": ("oggvorbisstr", "AudioStreamOggVorbis", {"loop": "false", "loop_offset": "0"}),
    "wav": ("wav", "AudioStreamWAV", {"edit/normalize": "false", "edit/trim": "false", "compress/mode": "0"}),
    "model": ("scene", "PackedScene", {"meshes/generate_lods": "true", "gltf/embedded_image_handling": "3"}),
}


def project_settings(name: str, options: BakeOptions, include: str = "") -> dict[str, bytes]:
    """The files that make a folder a project from which a pack can be exported.

    `include` are patterns of files that are no resources and come along as they are: ``*.json,*.txt``.
    """
    mobile = options.textures == "etc2"
    project = {
        "": {"config_version": "5"},
        "application": {"config/name": f'"{name}"'},
        # Text stays text: what was scanned is what will be loaded, and it is the same bytes in every bake.
        "editor": {"export/convert_text_resources_to_binary": "false"},
        "rendering": {
            "textures/vram_compression/import_s3tc_bptc": truth(not mobile),
            "textures/vram_compression/import_etc2_astc": truth(mobile),
        },
    }
    preset = template("export_presets.cfg").replace("{platform}", PLATFORM).replace("{include}", include)
    preset += config_text(
        {
            "preset.0.options": {
                "texture_format/s3tc_bptc": truth(not mobile),
                "texture_format/etc2_astc": truth(mobile),
            }
        }
    )
    return {"project.godot": config_text(project).encode(), "export_presets.cfg": preset.encode()}


def import_file(each: Import, options: BakeOptions) -> bytes:
    """The ``.import`` beside a file: which importer takes it, and how."""
    importer, kind, parameters = _IMPORTERS[each.kind]
    if each.kind in ("color", "data", "normal"):
        parameters = {
            **parameters,
            "compress/high_quality": truth(options.textures == "bptc"),
            "process/size_limit": str(options.max_size),
        }
        if options.textures == "astc":  # ours take their place: see cloudbaker.compute.textures.ctex
            parameters["compress/mode"] = "0"
    if each.kind == "model":
        parameters = {**parameters, "meshes/generate_lods": truth(options.generate_lods)}
    remap = {"importer": f'"{importer}"', "type": f'"{kind}"'}
    return config_text({"remap": remap, "params": {**parameters, **each.parameters}}).encode()


def export_arguments(pack: str) -> tuple[str, ...]:
    """Import everything and write the pack; needs no export templates."""
    return ("--headless", "--path", PROJECT_PATH, "--export-pack", "mod", pack)


def script_arguments(script: str) -> tuple[str, ...]:
    """Run a script in the project."""
    return ("--headless", "--path", PROJECT_PATH, "-s", script)


def unstable(paths: Iterable[str]) -> list[str]:
    """Those of the baked files that differ from run to run: scenes, by random ids (godot issues 97360, 105181)."""
    return [path for path in paths if path.endswith(".scn")]
