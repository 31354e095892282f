"""``cloudbaker encode``: what it reads, writes, prints and refuses."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import opengl_basisu
import pytest
from PIL import Image

import cloudbaker
from cloudbaker.cli import main
from cloudbaker.compute.textures.hdr import HDR_FORMATS as MADE_OF_LIGHT
from cloudbaker.compute.textures.headers import image_header, image_mime
from cloudbaker.compute.textures.radiance import write_radiance
from cloudbaker.errors import SourceUnreadable, UsageError
from cloudbaker.tasks.images import HDR_FORMATS, requests, slot_of_name, write_whole
from cloudbaker.testing.pictures import picture


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with some textures, the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set" / "deep").mkdir(parents=True)
    for name, drawn in (("stone", "stone"), ("deep/bumps_normal_2k", "bumps"), ("deep/rust_orm", "material")):
        Image.fromarray(picture(drawn, 32).pixels).save(tmp_path / "set" / f"{name}.png")
    (tmp_path / "set" / ".hidden.png").write_bytes(b"no image")
    (tmp_path / "set" / "notes.txt").write_text("no image")
    return tmp_path


@pytest.fixture
def cli(home, folder, capsys, monkeypatch):
    """Calls ``cloudbaker encode …``: what it prints, and with ``--json`` what that says."""

    def call(*arguments: str, code: int = 0) -> Any:
        monkeypatch.setattr(sys, "argv", ["cloudbaker", "encode", *arguments])
        with pytest.raises(SystemExit) as ended:
            main(["encode", *arguments])
        out, err = capsys.readouterr()
        assert ended.value.code == code, (out, err)
        return json.loads(out) if "--json" in arguments else out + err

    return call


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_becomes_textures_of_the_kinds_that_their_names_say(cli, folder):
    found = cli("set", "-o", "out/", "--json")
    assert files_in(folder / "out") == ["deep/bumps_normal_2k.ktx2", "deep/rust_orm.ktx2", "stone.ktx2"]
    rows = {Path(row["path"]).name: row for row in found["files"]}
    assert {name: row["slot"] for name, row in rows.items()} == {
        "stone.png": "color",
        "bumps_normal_2k.png": "normal",
        "rust_orm.png": "data",
    }
    for row in rows.values():
        data = Path(row["output"]).read_bytes()
        texture = opengl_basisu.open(data)
        assert (texture.width, texture.height, row["levels"]) == (32, 32, 6)
        assert row["bytes"] == len(data)
        assert row["gpu_bytes"] == 16 * (64 + 16 + 4 + 1 + 1 + 1)
        assert row["psnr_db"] > 30
        assert row["device"] == "cpu"
    assert 0 < rows["bumps_normal_2k.png"]["angle_degrees"] < 3
    assert rows["stone.png"]["angle_degrees"] is None
    assert (found["written"], found["failed"]) == (3, 0)
    assert found["bytes"] == sum(row["bytes"] for row in rows.values())


def test_one_file_to_one_file_and_the_table(cli, folder):
    text = cli("set/stone.png", "-o", "a/b.webp", "--format", "webp", "--max-size", "16")
    assert image_header((folder / "a" / "b.webp").read_bytes()).width == 16
    assert "16 × 16" in text
    assert "1 of 1 written" in text


def test_a_pattern_and_beside_the_source(cli, folder):
    cli("set/**/*_*.png", "--format", "astc-6x6", "--no-mips")
    assert [name for name in files_in(folder / "set") if name.endswith(".astc")] == [
        "deep/bumps_normal_2k.astc",
        "deep/rust_orm.astc",
    ]


def test_twice_gives_the_same_bytes_and_no_second_generation(cli, folder):
    cli("set", "--format", "webp")
    first = {name: (folder / "set" / name).read_bytes() for name in files_in(folder / "set")}
    found = cli("set", "--format", "webp", "--json")
    assert found["written"] == 3  # of the PNGs alone: the WebPs are what came of them
    assert {name: (folder / "set" / name).read_bytes() for name in files_in(folder / "set")} == first


def test_a_quality_is_searched_for(cli):
    easy = cli("set/stone.png", "-o", "o/", "--min-psnr", "30", "--json")["files"][0]
    assert [tried["setting"] for tried in easy["tried"]] == ["fast"]
    fine = cli("set/stone.png", "-o", "o/", "--format", "jpeg", "--min-psnr", "40", "--json")["files"][0]
    assert fine["psnr_db"] >= 40
    assert len(fine["tried"]) > 2


def test_a_quality_that_cannot_be_kept_writes_nothing_unless_the_best_is_welcome(cli, folder):
    found = cli("set", "-o", "o", "--min-psnr", "90", "--json", code=3)
    assert not (folder / "o").exists()
    assert [row["findings"][0]["code"] for row in found["files"]] == ["image.below-quality"] * 3
    text = cli("set/stone.png", "-o", "o/", "--min-psnr", "90", code=3)
    assert "at best (max); asked for 90 dB" in text
    row = cli("set/stone.png", "-o", "o/", "--min-psnr", "90", "--best-effort", "--json")["files"][0]
    assert row["setting"] == "max"
    assert row["findings"][0]["severity"] == "warning"
    assert (folder / "o" / "stone.ktx2").exists()


def test_one_bad_file_stops_no_other(cli, folder):
    (folder / "set" / "bad.png").write_bytes((folder / "set" / "stone.png").read_bytes()[:300])
    (folder / "set" / "text.jpg").write_text("this is no image")
    found = cli("set", "-o", "o", "--json", code=3)
    rows = {Path(row["path"]).name: row for row in found["files"]}
    assert rows["bad.png"]["findings"][0]["code"] == "image.damaged"
    assert rows["text.jpg"]["findings"][0]["code"] == "image.unreadable"
    assert (found["written"], found["failed"]) == (3, 2)
    assert len(files_in(folder / "o")) == 3


def test_a_bomb_is_refused_by_its_header(cli, folder):
    data = bytearray((folder / "set" / "stone.png").read_bytes())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    (folder / "bomb.png").write_bytes(data)
    row = cli("bomb.png", "-o", "o/", "--json", code=3)["files"][0]
    assert row["findings"][0]["code"] == "image.too-large"


def test_jpeg_of_transparency_is_a_png_and_called_so(cli, folder):
    Image.fromarray(picture("leaves", 32).pixels).save(folder / "leaves.webp", lossless=True)
    row = cli("leaves.webp", "-o", "o/", "--format", "jpeg", "--json")["files"][0]
    assert row["output"] == "o/leaves.png"
    assert image_mime((folder / "o" / "leaves.png").read_bytes()) == "image/png"


def test_an_environment_map(cli, folder):
    y, x = np.mgrid[0:16, 0:32]
    (folder / "sky.hdr").write_bytes(write_radiance(np.stack([x / 8, y / 4, x * 0 + 3.0], axis=-1).astype(np.float32)))
    row = cli("sky.hdr", "-o", "o/", "--format", "ktx2-rgb9e5", "--cube", "--json")["files"][0]
    assert image_mime((folder / "o" / "sky.ktx2").read_bytes()) == "image/ktx2"
    assert (row["width"], row["height"]) == (8, 8)
    assert "sky.hdr" in cli(".", "-o", "p", "--format", "hdr", "--max-size", "8")
    assert files_in(folder / "p") == ["sky.hdr"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.png"], "there is no file missing.png"),
        (["*.bmp"], "there is no file *.bmp"),
        (["empty"], "there is no image in empty"),
        (["set/stone.png", "--format", "png"], "is a source itself"),
        (["a/x.png", "a/x.jpg", "-o", "out"], "would both become"),
        (["set/stone.png", "--cube"], "holds no environment map"),
        (["set/stone.png", "--min-psnr", "-1"], "min_psnr must be above 0"),
        (["set/stone.png", "--max-angle", "900"], "max_angle must be 0 to 90"),
        (["pipe"], "pipe is no file"),
        (["set/stone.png", "--format", "gif"], "Invalid value for '--format'"),
    ],
)
def test_calls_that_are_wrong_do_no_work(cli, folder, arguments, said):
    (folder / "empty").mkdir()
    (folder / "a").mkdir()
    for name in ("x.png", "x.jpg"):
        (folder / "a" / name).write_bytes(b"")
    os.mkfifo(folder / "pipe")
    before = files_in(folder)
    assert said in cli(*arguments, code=2).replace("\n", " ")
    assert files_in(folder) == before


def test_a_place_that_cannot_be_written_is_said_per_file(cli, folder):
    (folder / "file").write_text("in the way")
    row = cli("set/stone.png", "-o", "file/x.ktx2", "--json", code=2)["files"][0]
    assert row["error"]["code"] == "CB1201"
    assert row["output"] is None


def test_from_python_with_progress_in_a_notebook(home, folder):
    seen, counted = [], []
    report = cloudbaker.encode("set", output="o", level="fast", progress=seen.append, planned=counted.append)
    assert (counted, len(seen), report.exit_code) == ([3], 3, 0)
    assert "stone.png" in report._repr_html_()


def test_files_are_whole_or_not_there(tmp_path, monkeypatch):
    (tmp_path / "a.ktx2").write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "a.ktx2", b"new")
    assert files_in(tmp_path) == ["a.ktx2"]
    assert (tmp_path / "a.ktx2").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "slot"),
    [
        ("rock_normal.png", "normal"),
        ("WoodFloor_NormalGL_4K.png", "normal"),
        ("ldr-xy-normal1.png", "normal"),
        ("rock_nor_gl_2k.png", "normal"),
        ("RockORM.jpg", "data"),
        ("left_arm_diffuse.png", "color"),
        ("rock-roughness-2k.png", "data"),
        ("rough_stone.png", "color"),
        ("metal_plate_diff_1k.png", "color"),
        ("height_map.png", "data"),
        ("ambientOcclusion.png", "data"),
        ("1024.png", "color"),
        ("normalized.png", "color"),
    ],
)
def test_what_names_say(name, slot):
    assert slot_of_name(name) == slot


def test_names_that_are_wrong_in_python(folder):
    with pytest.raises(UsageError, match="there is no format"):
        requests(["set"], None, "gif", "auto")
    with pytest.raises(UsageError, match="slot must be"):
        requests(["set"], None, "webp", "roughness")
    with pytest.raises(SourceUnreadable):
        requests(["set/\0.png"], None, "webp", "auto")


def test_the_formats_of_light_are_those_that_are_made():
    assert HDR_FORMATS == MADE_OF_LIGHT
