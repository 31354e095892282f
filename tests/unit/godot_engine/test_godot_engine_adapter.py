"""Running an engine: what it prints is read, what it leaves is distrusted, what it needs is limited."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudbaker.compute.godot import godot3, godot4
from cloudbaker.compute.godot.adapter import (
    BakeOptions,
    EngineJob,
    Import,
    LocalEngines,
    config_text,
    log_findings,
    parse_log,
    run_engine,
    write_tree,
)
from cloudbaker.compute.godot.bake import bake, prepare
from cloudbaker.compute.godot.engines import Engine
from cloudbaker.compute.godot.resources.text import parse_config
from cloudbaker.compute.job import Limits, Status
from cloudbaker.errors import EngineFailed, EngineMissing, SandboxLimit
from cloudbaker.model import Severity

LOG3 = """ERROR: get_language_code: Invalid locale 'C'.
   At: core/translation.cpp:945.
WARNING: check_error: read beyond end of data
   At: drivers/png/png_driver_common.cpp:56.
ERROR: load_image: Error loading image: res://mods/demo/bad.png
   At: core/io/image_loader.cpp:69.
ERROR: _parse_glb: Condition "chunk_type != 0x4E4F534A" is true. Returned: ERR_PARSE_ERROR
   At: editor/import/editor_scene_importer_gltf.cpp:98.
ERROR: free_static: Condition "p_ptr == __null" is true.
   At: core/os/memory.cpp:158.
"""
LOG4 = """\x1b[92m[ DONE ]\x1b[39m \x1b[1mreimport\x1b[22m
\x1b[1;31mERROR:\x1b[0;91m Error importing 'res://mods/demo/a b/bad.glb'.\x1b[0m
   at: _reimport_file (editor/file_system/editor_file_system.cpp:3065)
ERROR: Failed loading resource: res://mods/demo/none.png.
   at: _load (core/io/resource_loader.cpp:343)
ERROR: Failed loading resource: res://mods/demo/none.png.
   at: _load (core/io/resource_loader.cpp:343)
ERROR: Failed loading resource: res://core/game.tres.
   at: _load (core/io/resource_loader.cpp:343)
ERROR: Cannot open X509CertificateMbedTLS file '/etc/ssl/certs/ca-certificates.crt'.
   at: load (modules/mbedtls/crypto_mbedtls.cpp:160)
"""


def shell(script: str) -> Engine:
    """An engine that is a shell script: what a program that was taken over could do."""
    return Engine("test", ("/bin/sh", "-c", script), "4.6.3.stable", pack_format=3)


def test_log_of_godot_3_without_what_says_nothing() -> None:
    messages = parse_log(LOG3)
    assert [m.severity for m in messages] == [Severity.WARNING, Severity.ERROR, Severity.ERROR]
    assert messages[1].paths == ("res://mods/demo/bad.png",)
    assert messages[1].place == "core/io/image_loader.cpp:69."


def test_log_of_godot_4_is_coloured_and_repeats_itself() -> None:
    texts = [m.text for m in parse_log(LOG4)]
    assert len(texts) == 3
    assert texts[1] == "Failed loading resource: res://mods/demo/none.png."
    assert parse_log(LOG4)[1].paths == ("res://mods/demo/none.png",)


def test_errors_about_the_mod_reject_and_others_are_told() -> None:
    findings = log_findings(parse_log(LOG4 + LOG3), "res://mods/demo/")
    errors = [f for f in findings if f.severity is Severity.ERROR]
    assert {f.place for f in errors} >= {"res://mods/demo/none.png", "res://mods/demo/bad.png"}
    assert all(f.remedy for f in findings)
    (game,) = (f for f in findings if "res://core/game.tres" in f.message)
    assert game.severity is Severity.WARNING


def test_a_flood_of_messages_is_cut() -> None:
    assert len(parse_log("".join(f"ERROR: node {n} is bad\n" for n in range(5000)))) == 100


def test_exit_status_is_not_believed_and_outputs_come_back() -> None:
    outcome = run_engine(EngineJob(shell("echo hi; echo ho >&2; echo x > made; exit 3"), {}, (), ("made", "not-made")))
    assert outcome.status is Status.OK
    assert outcome.value == {"code": 3, "stdout": "hi\n", "stderr": "ho\n"}
    assert outcome.files == {"made": b"x\n"}
    assert outcome.isolation == "bubblewrap+seccomp"


def test_cpu_time_of_the_engine_is_known() -> None:
    outcome = run_engine(EngineJob(shell("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"), {}, ()))
    assert outcome.cpu_seconds > 0


def test_engine_sees_its_files_its_home_and_no_network(tmp_path: Path) -> None:
    source = tmp_path / "large"
    source.write_bytes(b"from a file")
    script = 'cat project/a/b.txt project/c; echo; echo "$HOME"; ls / | tr "\\n" " "; cat /proc/net/dev | wc -l'
    outcome = run_engine(EngineJob(shell(script), {"project/a/b.txt": b"bytes ", "project/c": source}, ()))
    lines = outcome.value["stdout"].splitlines()
    assert lines[:2] == ["bytes from a file", "/scratch/home"]
    assert "root" not in lines[2].split()
    assert int(lines[2].split()[-1] if lines[2].split()[-1].isdigit() else lines[3]) <= 3  # the header and lo


@pytest.mark.parametrize(
    ("script", "limit"),
    [("sleep 60", "wall"), ("while :; do :; done", "cpu"), ("head -c 400000000 /dev/zero > big", "file_size")],
)
def test_limits_end_it(script: str, limit: str) -> None:
    limits = Limits(cpu_seconds=1, wall_seconds=2.0 if limit == "wall" else 20.0, file_bytes=100 << 20)
    outcome = run_engine(EngineJob(shell(script), {}, (), limits=limits))
    with pytest.raises(SandboxLimit) as caught:
        outcome.unwrap()
    assert caught.value.facts["limit"] == limit


@pytest.mark.parametrize("script", ["ln -s /etc/passwd mod.pck", "ln -s . mod.pck", "mkdir mod.pck"])
def test_an_output_that_is_no_plain_file_is_refused(script: str) -> None:
    with pytest.raises(EngineFailed, match="no plain file"):
        run_engine(EngineJob(shell(script), {}, (), ("mod.pck",)))


def test_an_engine_that_is_not_there() -> None:
    with pytest.raises(EngineMissing, match="engines install"):
        run_engine(EngineJob(Engine("x", ("/nowhere/godot",), "4.6.3.stable"), {}, ()))


def test_no_pack_is_an_error_of_the_engine() -> None:
    engine = shell("echo 'ERROR: out of luck' >&2")
    job = prepare(engine, {"demo": {}}, {}, BakeOptions(), Limits())
    with pytest.raises(EngineFailed, match="wrote no pack") as caught:
        bake(LocalEngines(), job)
    assert "out of luck" in caught.value.detail


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "a\\b", "a//b", "./a", "", "a\nb", "res://a"])
def test_no_path_leaves_the_scratch_folder(path: str, tmp_path: Path) -> None:
    if path == "res://a":
        path = "res:///a"
    with pytest.raises(ValueError, match="can't be the path"):
        write_tree(tmp_path, {path: b""})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("adapter", [godot3, godot4])
@pytest.mark.parametrize("textures", ["s3tc", "etc2"])
def test_project_is_what_the_engine_reads(adapter, textures: str) -> None:
    options = BakeOptions(textures=textures)
    made = adapter.project_settings("demo", options, "*.json,*.txt")
    assert made.keys() == {"project.godot", "export_presets.cfg"}
    presets = {
        s.name: {p.name: p.value for p in s.properties} for s in parse_config(made["export_presets.cfg"]).sections
    }
    assert presets["preset.0"]["include_filter"] == "*.json,*.txt"
    formats = {key: value for key, value in presets["preset.0.options"].items() if key.startswith("texture_format/")}
    assert any("s3tc" in key and value is (textures == "s3tc") for key, value in formats.items())
    assert any("etc2" in key and value is (textures == "etc2") for key, value in formats.items())


@pytest.mark.parametrize("adapter", [godot3, godot4])
@pytest.mark.parametrize("kind", ["image", "color", "normal", "data", "audio", "wav", "model"])
def test_every_kind_has_an_importer_and_parameters_win(adapter, kind: str) -> None:
    data = adapter.import_file(Import("x", kind, {"loop": "true"}), BakeOptions())
    sections = {s.name: {p.name: p.value for p in s.properties} for s in parse_config(data).sections}
    assert sections["remap"]["importer"]
    assert sections["params"]["loop"] is True
    if kind == "normal":
        assert sections["params"]["compress/normal_map"] == 1


def test_config_text_of_what_has_no_section() -> None:
    assert config_text({"": {"config_version": "5"}, "a": {"b": "1"}}) == "config_version=5\n\n[a]\n\nb=1\n\n"
