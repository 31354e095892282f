"""What people hand in: GLBs, folders, archives, and what some would like us to open for them."""

from __future__ import annotations

import base64
import io
import json
import stat
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cloudbaker.compute.gltf.glb import join_glb, read_glb
from cloudbaker.compute.gltf.intake import references_job, sniff, to_glb_job
from cloudbaker.compute.gltf.uris import UriRefused, relative_path
from cloudbaker.compute.job import JobResult
from cloudbaker.testing import models


def intake(sources: Mapping[str, bytes], main: str, **limits: int) -> JobResult:
    return to_glb_job(
        {name: memoryview(data).toreadonly() for name, data in sources.items()}, {"main": main, "limits": limits}
    )


def codes(result: JobResult) -> list[str]:
    return [finding["code"] for finding in result.value["findings"]]


def errors(result: JobResult) -> list[str]:
    return [finding["code"] for finding in result.value["findings"] if finding["severity"] == "error"]


def glb_of(result: JobResult) -> bytes:
    assert not errors(result), result.value
    return bytes(result.files["model.glb"])


def folder_of(model: str, path: Path) -> dict[str, bytes]:
    models.write_gltf_folder(models.VALID[model](), path)
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def zip_with(files: Mapping[str, bytes | str], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


# -- GLB ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", sorted(models.VALID))
def test_a_glb_passes_through_byte_for_byte(model: str) -> None:
    data = models.VALID[model]()
    result = intake({"some name.png": data}, "some name.png")
    assert codes(result) == []
    assert glb_of(result) == data


def test_a_glb_with_data_uris_becomes_one_container() -> None:
    container = read_glb(models.VALID["textured"]())
    document, binary = container.document, bytes(container.bin or b"")
    view = document["bufferViews"][0]
    picture = binary[: view["byteLength"]]
    document["images"][0] = {"name": "color", "uri": "data:image/png;base64," + base64.b64encode(picture).decode()}
    made = read_glb(glb_of(intake({"m": join_glb(document, binary)}, "m")))
    image = made.document["images"][0]
    assert image.keys() == {"name", "bufferView", "mimeType"}
    place = made.document["bufferViews"][image["bufferView"]]
    assert made.bin is not None
    assert bytes(made.bin[place["byteOffset"] : place["byteOffset"] + place["byteLength"]]) == picture
    assert len(made.document["buffers"]) == 1


def test_a_glb_may_not_refer_to_files_beside_it() -> None:
    container = read_glb(models.box())
    container.document["images"] = [{"uri": "secret.png"}]
    data = join_glb(container.document, container.bin)
    assert errors(intake({"m.glb": data, "secret.png": b"x"}, "m.glb")) == ["gltf.uri-in-glb"]


# -- folders -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", sorted(models.VALID))
def test_a_folder_becomes_the_same_model(model: str, tmp_path: Path) -> None:
    sources = folder_of(model, tmp_path)
    found = references_job({"main": memoryview(sources["model.gltf"])}, {"name": "model.gltf"}).value
    assert (found["kind"], found["findings"]) == ("gltf", [])
    assert {"model.gltf", *found["references"]} == set(sources)
    made = read_glb(glb_of(intake(sources, "model.gltf")))
    before = read_glb(models.VALID[model]())
    for name in ("nodes", "meshes", "materials", "scenes", "animations", "accessors", "extensionsUsed", "asset"):
        assert made.document.get(name) == before.document.get(name)
    assert "uri" not in json.dumps(made.document)


def test_names_with_spaces_and_letters_are_decoded(tmp_path: Path) -> None:
    sources = folder_of("box", tmp_path)
    document = json.loads(sources["model.gltf"])
    document["buffers"][0]["uri"] = "./d%C3%A4ta%20%231/b%C3%BCffer.bin"
    main = json.dumps(document).encode()
    found = references_job({"main": memoryview(main)}, {"name": "m"}).value
    assert found["references"] == ["däta #1/büffer.bin"]
    made = intake({"m.gltf": main, "däta #1/büffer.bin": sources["model.bin"]}, "m.gltf")
    assert read_glb(glb_of(made)).bin == read_glb(models.box()).bin


def test_a_file_that_is_used_twice_is_stored_once(tmp_path: Path) -> None:
    sources = folder_of("textured", tmp_path)
    document = json.loads(sources["model.gltf"])
    document["images"].append(dict(document["images"][0], name="again"))
    sources["model.gltf"] = json.dumps(document).encode()
    made = read_glb(glb_of(intake(sources, "model.gltf")))
    assert made.document["images"][0]["bufferView"] == made.document["images"][3]["bufferView"]


def test_several_buffers_become_one_and_lost_names_are_told(tmp_path: Path) -> None:
    sources = folder_of("box", tmp_path)
    document = json.loads(sources["model.gltf"])
    whole = sources["model.bin"]
    document["buffers"] = [
        {"uri": "a.bin", "byteLength": 577, "name": "first"},
        {"uri": "b.bin", "byteLength": 72, "name": "second", "extras": {"x": 1}},
    ]
    document["bufferViews"][2] |= {"buffer": 1, "byteOffset": 0}
    result = intake({"m": json.dumps(document).encode(), "a.bin": whole[:577], "b.bin": whole[576:]}, "m")
    made = read_glb(glb_of(result))
    assert codes(result) == ["intake.buffers-merged"]
    assert "extras and name" in result.value["findings"][0]["message"]
    assert [b.get("name") for b in made.document["buffers"]] == ["first"]
    place = made.document["bufferViews"][2]
    assert place["byteOffset"] % 4 == 0
    assert made.bin is not None
    assert bytes(made.bin[place["byteOffset"] :][:72]) == whole[576:]


def test_missing_short_and_empty_files_are_findings(tmp_path: Path) -> None:
    sources = folder_of("textured", tmp_path)
    short = sources | {"model.bin": sources["model.bin"][:-1]}
    assert errors(intake(short, "model.gltf")) == ["gltf.buffer-too-short"]
    empty = sources | {"model.bin": b""}
    assert errors(intake(empty, "model.gltf")) == ["intake.empty"]
    result = intake({"model.gltf": sources["model.gltf"]}, "model.gltf")
    assert errors(result) == ["intake.missing-file"] * 4
    assert result.value["findings"][0]["place"] == "/buffers/0/uri"
    assert not result.files
    wrong = sources | {"textures/color.png": b"<svg/>"}
    assert errors(intake(wrong, "model.gltf")) == ["image.invalid"]


REFUSED = {
    "../../../etc/passwd": "gltf.uri-traversal",
    "a/../../b.bin": "gltf.uri-traversal",
    "..": "gltf.uri-traversal",
    "%2e%2e/%2e%2e/etc/passwd": "gltf.uri-traversal",
    "%2E%2E%2fetc%2fpasswd": "gltf.uri-traversal",
    "..%5c..%5cboot.ini": "gltf.uri-traversal",
    "textures\\a.png": "gltf.uri-traversal",
    "/etc/passwd": "gltf.uri-traversal",
    "%2fetc/passwd": "gltf.uri-traversal",
    "file%3a///etc/passwd": "gltf.uri-traversal",
    "a%00.bin": "gltf.uri-traversal",
    "a\n.bin": "gltf.uri-traversal",
    "file:///etc/passwd": "gltf.uri-external",
    "FILE:/etc/passwd": "gltf.uri-external",
    "C:/windows/win.ini": "gltf.uri-external",
    "c:win.ini": "gltf.uri-external",
    "http://169.254.169.254/latest": "gltf.uri-external",
    "https://example.com/a.png": "gltf.uri-external",
    "//example.com/a.png": "gltf.uri-external",
    "blob:https://example.com/1": "gltf.uri-external",
    "javascript:alert(1)": "gltf.uri-external",
    "": "gltf.uri-invalid",
    ".": "gltf.uri-invalid",
    "./": "gltf.uri-invalid",
    "%ff%fe": "gltf.uri-invalid",
    "a" * 300: "gltf.uri-invalid",
    "a/" * 2000: "gltf.uri-invalid",
}


@pytest.mark.parametrize(("uri", "code"), REFUSED.items(), ids=[repr(u)[:40] for u in REFUSED])
def test_no_uri_leads_out_of_the_folder(uri: str, code: str, tmp_path: Path) -> None:
    with pytest.raises(UriRefused) as raised:
        relative_path(uri)
    assert raised.value.code == code
    sources = folder_of("box", tmp_path)
    document = json.loads(sources["model.gltf"])
    document["images"] = [{"uri": uri}]
    main = json.dumps(document).encode()
    found = references_job({"main": memoryview(main)}, {"name": "m"}).value
    assert [finding["code"] for finding in found["findings"]] == [code]
    assert found["references"] == ["model.bin"]
    given = {"m": main, "model.bin": sources["model.bin"], "etc/passwd": b"root:x"}
    result = intake(given, "m")
    assert errors(result) == [code]
    assert not result.files


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("data:image/png;base64,%%%", "gltf.uri-invalid"),
        ("data:image/png;base64,abc", "gltf.uri-invalid"),
        ("data:image/png", "gltf.uri-invalid"),
        ("DATA:;base64,////", "image.invalid"),
        ("data:,", "image.invalid"),
        ("data:image/png," + "%41" * 100, "image.invalid"),
    ],
)
def test_bad_data_uris_are_findings(uri: str, code: str) -> None:
    container = read_glb(models.box())
    container.document["images"] = [{"uri": uri}]
    assert errors(intake({"m": join_glb(container.document, container.bin)}, "m")) == [code]


def test_a_data_uri_bomb_ends_at_the_limit_on_json_or_on_bytes() -> None:
    container = read_glb(models.box())
    zeros = "data:application/octet-stream;base64," + "A" * (4 << 20)
    container.document["buffers"] += [{"uri": zeros, "byteLength": 3 << 20} for _ in range(20)]
    data = join_glb(container.document, container.bin)
    assert errors(intake({"m": data}, "m")) == ["gltf.json-too-large"]
    container.document["buffers"] = container.document["buffers"][:5]
    data = join_glb(container.document, container.bin)
    assert set(errors(intake({"m": data}, "m", source_bytes=len(data) - 1))) == {"intake.too-large"}
    document: dict[str, Any] = {"asset": {"version": "2.0"}}
    document["buffers"] = [{"uri": "b.bin", "byteLength": 1 << 20}] * 500  # one file, again and again
    main = json.dumps(document).encode()
    result = intake({"m": main, "b.bin": bytes(1 << 20)}, "m", source_bytes=100 << 20)
    assert set(errors(result)) == {"intake.too-large"}


def test_meshopt_fallback_buffers_stay(tmp_path: Path) -> None:
    made = read_glb(glb_of(intake(folder_of("meshopt", tmp_path), "model.gltf")))
    before = read_glb(models.VALID["meshopt"]())
    assert made.document["buffers"] == before.document["buffers"]
    assert made.document["bufferViews"] == before.document["bufferViews"]


# -- what it is --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"", "empty"),
        (b"glTF\x02\0\0\0", "glb"),
        (b' \n\t{"asset"', "gltf"),
        (b"\xef\xbb\xbf{", "gltf"),
        (b"PK\x03\x04", "zip"),
        (b"PK\x05\x06", "zip"),
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"\xff\xd8\xff\xe0", "jpeg"),
        (b"Kaydara FBX Binary  \0", "fbx"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"BLENDER-v402", "blend"),
        (b"#!/bin/sh\n", "script"),
        (b"\x7fELF", "program"),
        (b"v 0 0 0\n", "unknown"),
        (b"[1]", "unknown"),
    ],
)
def test_bytes_say_what_it_is(head: bytes, kind: str) -> None:
    assert sniff(head) == kind
    result = intake({"model.glb": head}, "model.glb")
    found = references_job({"main": memoryview(head)}, {"name": "model.glb"}).value
    assert found["kind"] == kind
    if kind == "empty":
        assert codes(result) == ["intake.empty"]
    elif kind not in ("glb", "gltf", "zip"):
        assert codes(result) == ["intake.not-a-model"]
        assert found["findings"] == result.value["findings"]
        assert "name says" in found["findings"][0]["message"]


def test_too_large_a_source_is_refused_before_it_is_read() -> None:
    assert errors(intake({"m": models.box()}, "m", source_bytes=1000)) == ["intake.too-large"]
    found = references_job({"main": memoryview(models.box())}, {"name": "m", "limits": {"source_bytes": 1000}})
    assert codes(found) == ["intake.too-large"]


# -- archives ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["box", "textured", "meshopt"])
@pytest.mark.parametrize("prefix", ["", "some folder/"])
def test_a_zip_of_a_folder_is_the_folder(model: str, prefix: str, tmp_path: Path) -> None:
    sources = folder_of(model, tmp_path)
    archive = zip_with({prefix + name: data for name, data in sources.items()})
    assert references_job({"main": memoryview(archive)}, {"name": "x"}).value["kind"] == "zip"
    result = intake({"a.zip": archive}, "a.zip")
    assert codes(result) == []
    assert glb_of(result) == glb_of(intake(sources, "model.gltf"))


def test_a_zip_of_a_glb_is_the_glb_and_the_rest_is_told() -> None:
    files = {"__MACOSX/._m.glb": b"junk", ".DS_Store": b"junk", "m.bin": models.box(), "read me.txt": "hello"}
    result = intake({"a.zip": zip_with(files)}, "a.zip")
    assert codes(result) == ["intake.zip-ignored"]
    assert "read me.txt" in result.value["findings"][0]["message"]
    assert glb_of(result) == models.box()


def linked(name: str, target: bytes, mode: int = stat.S_IFLNK | 0o777) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        archive.writestr(entry, target)
        archive.writestr("m.glb", models.box())
    return out.getvalue()


def doubled() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("m.glb", models.box())
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("m.glb", models.small_asset(1))
    return out.getvalue()


def patched(data: bytes, local: int, central: int, value: int) -> bytes:
    """A zip of one entry with a 16-bit field changed in both its headers."""
    changed = bytearray(data)
    struct.pack_into("<H", changed, local, value)
    struct.pack_into("<H", changed, data.index(b"PK\x01\x02") + central, value)
    return bytes(changed)


def damaged(data: bytes) -> bytes:
    middle = len(models.box()) // 2
    return data[:middle] + bytes(b ^ 0xFF for b in data[middle : middle + 50]) + data[middle + 50 :]


BOX = models.box()
ARCHIVES = {
    "slip": (zip_with({"../../etc/cron.d/x": "x", "m.glb": BOX}), "intake.zip-path"),
    "absolute": (zip_with({"/etc/passwd": "x", "m.glb": BOX}), "intake.zip-path"),
    "backslash": (zip_with({"..\\..\\x": "x", "m.glb": BOX}), "intake.zip-path"),
    "drive": (zip_with({"C:x": "x", "m.glb": BOX}), "intake.zip-path"),
    "control character": (zip_with({"a\x1b[2J": "x", "m.glb": BOX}), "intake.zip-path"),
    "link": (linked("m.bin", b"/etc/passwd"), "intake.zip-special"),
    "device": (linked("zero", b"", stat.S_IFCHR | 0o666), "intake.zip-special"),
    "fifo": (linked("pipe", b"", stat.S_IFIFO | 0o666), "intake.zip-special"),
    "encrypted": (patched(zip_with({"m.glb": BOX}), 6, 8, 1), "intake.zip-encrypted"),
    "lzma": (zip_with({"m.glb": BOX}, zipfile.ZIP_LZMA), "intake.zip-method"),
    "bzip2": (zip_with({"m.glb": BOX}, zipfile.ZIP_BZIP2), "intake.zip-method"),
    "bomb": (zip_with({"m.glb": BOX, "zeros": bytes(60 << 20)}), "intake.zip-bomb"),
    "too much": (zip_with({"m.glb": BOX, "z": bytes(12 << 20)}), "intake.zip-bomb"),
    "nested": (zip_with({"m.glb": BOX, "more.dat": zip_with({"m.glb": BOX})}), "intake.zip-nested"),
    "gzip inside": (zip_with({"m.glb": BOX, "a": b"\x1f\x8b\x08\0"}), "intake.zip-nested"),
    "entries": (zip_with({f"{i}": "" for i in range(10_001)}), "intake.zip-entries"),
    "case": (zip_with({"m.glb": BOX, "M.glb": BOX}), "intake.zip-duplicate"),
    "unicode form": (zip_with({"\u00e4.glb": BOX, "a\u0308.glb": BOX}), "intake.zip-duplicate"),
    "duplicate": (doubled(), "intake.zip-duplicate"),
    "no model": (zip_with({"a.png": b"\x89PNG\r\n\x1a\n", "package.json": "{}"}), "intake.zip-no-model"),
    "empty archive": (zip_with({}), "intake.zip-no-model"),
    "two models": (zip_with({"a.glb": BOX, "b.gltf": "{}"}), "intake.zip-several-models"),
    "cut": (zip_with({"m.glb": BOX})[:-30], "intake.zip-invalid"),
    "only a magic": (b"PK\x03\x04" + bytes(100), "intake.zip-invalid"),
    "damaged data": (damaged(zip_with({"m.glb": BOX}, zipfile.ZIP_STORED)), "intake.zip-invalid"),
    "gltf without its files": (
        zip_with({"m.gltf": json.dumps({"asset": {"version": "2.0"}, "images": [{"uri": "a.png"}]})}),
        "intake.missing-file",
    ),
    "gltf that slips": (
        zip_with({"a/m.gltf": '{"asset": {"version": "2.0"}, "images": [{"uri": "../b.png"}]}', "b.png": "x"}),
        "gltf.uri-traversal",
    ),
    "bad gltf": (zip_with({"m.gltf": '{"asset": 1}'}), "gltf.schema"),
    "bad glb": (zip_with({"m.glb": BOX[:-5]}), "glb.truncated"),
}


@pytest.mark.parametrize(("data", "code"), ARCHIVES.values(), ids=ARCHIVES)
def test_a_bad_archive_is_a_finding(data: bytes, code: str) -> None:
    result = intake({"a.zip": data}, "a.zip", source_bytes=10 << 20)
    assert code in errors(result)
    assert not result.files


def test_a_directory_that_lies_about_its_size_is_refused() -> None:
    data = bytearray(zip_with({"m.glb": BOX}))
    struct.pack_into("<I", data, data.rindex(b"PK\x05\x06") + 12, 0xFFFFFFFF)
    assert errors(intake({"a.zip": bytes(data)}, "a.zip")) == ["intake.zip-entries"]


def test_an_entry_that_unpacks_to_more_than_it_states_is_refused() -> None:
    data = bytearray(zip_with({"m.glb": BOX + bytes(1 << 20)}))
    central = data.index(b"PK\x01\x02")
    struct.pack_into("<I", data, central + 24, len(BOX))
    assert errors(intake({"a.zip": bytes(data)}, "a.zip")) == ["intake.zip-invalid"]


def test_every_intake_code_has_a_case() -> None:
    from cloudbaker.compute.gltf.findings import RULES

    here = {code for _, code in ARCHIVES.values()} | {
        *("intake.empty", "intake.not-a-model", "intake.too-large", "intake.missing-file"),
        *("intake.buffers-merged", "intake.zip-ignored"),
    }
    assert {code for code in RULES if code.startswith("intake.")} <= here
    assert {code for code in RULES if code.startswith("gltf.uri-")} == {*REFUSED.values(), "gltf.uri-in-glb"}
