"""A mod as a pack, an archive or a folder becomes one mapping; names and bytes of its files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloudbaker.compute.godot.archive import Mod, folder_inputs, open_mod
from cloudbaker.compute.godot.filetypes import appended, content, extension, extension_ban
from cloudbaker.compute.godot.policy import Limits
from cloudbaker.compute.godot.scan_rules import ScanFindings
from cloudbaker.errors import SourceUnreadable
from cloudbaker.testing.godot_mods import ROOT, as_pck, as_zip, mod, ogg, png, wav

LIMITS = Limits()


def opened(files: dict[str, bytes], limits: Limits = LIMITS) -> tuple[Mod | None, list[str]]:
    findings = ScanFindings()
    found = open_mod({name: memoryview(data) for name, data in files.items()}, limits, findings)
    return found, [finding.code for finding in findings]


FILES = mod({"art/a.png": png()})
PLACES = {ROOT + path for path in FILES}


@pytest.mark.parametrize("format", [1, 2, 3])
def test_a_pack_is_laid_out_as_it_says(format: int) -> None:
    found, codes = opened({"x.pck": as_pck(FILES, format)})
    assert found is not None
    assert (set(found.files), found.id, found.form, codes) == (PLACES, "oak", "pck", [])
    assert bytes(found.files[ROOT + "art/a.png"]) == FILES["art/a.png"]


@pytest.mark.parametrize("prefix", ["mods/oak/", "my project/mods/oak/"])
def test_a_project_is_laid_out_by_its_mods_folder(prefix: str) -> None:
    packed = {prefix + path: data for path, data in FILES.items()}
    for files in ({"x.zip": as_zip(packed)}, packed):
        found, codes = opened(files)
        assert found is not None
        assert (set(found.files), found.id, codes) == (PLACES, "oak", [])


@pytest.mark.parametrize("prefix", ["", "oak-1.0/", "a/b/"])
def test_a_bare_mod_gets_the_id_that_its_manifest_says(prefix: str) -> None:
    packed = {prefix + path: data for path, data in FILES.items()}
    for files in ({"x.zip": as_zip(packed)}, packed):
        found, codes = opened(files)
        assert found is not None
        assert (found.id, codes) == ("", [])
        assert set(found.named("oak").files) == PLACES
        assert found.named("oak").manifest == ROOT + "manifest.tres"


def test_what_file_managers_leave_behind_is_not_there() -> None:
    found, codes = opened({**FILES, "__MACOSX/._a.png": b"x", "art/.DS_Store": b"x", ".git/config": b"x"})
    assert found is not None
    assert set(found.named("oak").files) == PLACES
    assert codes == []


def test_files_beside_the_mod_keep_their_place() -> None:
    found, _ = opened({**{f"p/mods/oak/{k}": v for k, v in FILES.items()}, "p/core.txt": b"x", "q.txt": b"y"})
    assert found is not None
    assert set(found.files) - PLACES == {"res://core.txt", "res://q.txt"}


def test_limits_hold_for_every_form() -> None:
    few = Limits(files=2)
    assert "mod.too-many-files" in opened(FILES, few)[1]
    assert "intake.zip-entries" in opened({"x.zip": as_zip(FILES)}, few)[1]
    assert "pck.too-many-files" in opened({"x.pck": as_pck(FILES)}, few)[1]
    small = Limits(pack_bytes=100)
    assert "mod.too-large" in opened(FILES, small)[1]
    assert "intake.zip-bomb" in opened({"x.zip": as_zip(FILES)}, small)[1]
    assert "pck.too-large" in opened({"x.pck": as_pck(FILES)}, small)[1]


@pytest.mark.parametrize("data", [b"", b"hello", b"\x7fELF", b"Rar!\x1a\x07\x01\x00", b"PK\x03\x04broken"])
def test_anything_else_is_a_finding(data: bytes) -> None:
    found, codes = opened({"x.bin": data})
    assert found is None
    assert codes in (["mod.unknown-form"], ["intake.zip-invalid"])


def test_a_folder_is_read_without_following_links(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"x")
    folder = tmp_path / "oak"
    (folder / "art").mkdir(parents=True)
    for path, data in FILES.items():
        (folder / path).write_bytes(data)
    (folder / "big.wav").write_bytes(bytes(2 << 20))
    (folder / "link.png").symlink_to(secret)
    (folder / "up").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    inputs, special = folder_inputs(folder, LIMITS)
    assert set(inputs) == {*FILES, "big.wav"}
    assert inputs["big.wav"] == folder / "big.wav", "the sandbox maps large files"
    assert inputs["manifest.tres"] == FILES["manifest.tres"]
    assert special == ("link.png", "pipe", "up")
    assert folder_inputs(secret, LIMITS) == ({"secret": secret}, ())
    with pytest.raises(SourceUnreadable, match="check the path"):
        folder_inputs(tmp_path / "nothing", LIMITS)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("a/evil.gd", "file.script"),
        ("a/evil.GDC", "file.script"),
        ("a/lib.so", "file.native"),
        ("a/lib.so.1.2.3", "file.native"),
        ("a/x.gdextension", "file.native"),
        ("a/.gdignore", "file.project"),
        ("a/uid_cache.bin", "file.project"),
        ("a/x.png.import", "file.imported"),
        ("res://mods/oak/.godot/x.txt", "file.imported"),
        ("a/x.tres.remap", "file.imported"),
        ("a/x.pck", "file.pack"),
        ("a/x.png", None),
        ("a/soft.txt", None),
    ],
)
def test_names_that_no_mod_may_hold(path: str, code: str | None) -> None:
    assert extension_ban(path) == code


def test_extensions_are_the_last_part_in_lower_case() -> None:
    assert extension("res://a.b/C.PNG") == "png"
    assert extension("res://a.b/name") == ""
    assert extension("res://a/.gdignore") == "gdignore"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (png(), "png"),
        (wav(), "wav"),
        (ogg(), "ogg"),
        (b"\xff\xfb\x90\x64" + bytes(60), "mp3"),
        (b"ID3\x04" + bytes(60), "mp3"),
        (b"\xff\xd8\xff\xe0" + bytes(60), "jpeg"),
        (b"RSRC" + bytes(60), "binary"),
        (b"plain words", "text"),
        (b"MZ is how this text begins", "text"),
        (b"zeros \0 within", "unknown"),
    ],
)
def test_what_bytes_are(data: bytes, kind: str) -> None:
    assert content(memoryview(data)) == ("", kind)


def test_what_hides_at_the_end_of_a_file() -> None:
    picture = png()
    archive = as_zip({"x": b"y"})
    assert appended(memoryview(picture)) == ""
    assert appended(memoryview(picture + archive)) == "a ZIP archive"
    assert appended(memoryview(picture + bytes(12) + b"GDPC")) == "a Godot pack"
    assert appended(memoryview(picture + b"PK\x05\x06" + bytes(5))) == "", "four letters by chance"
