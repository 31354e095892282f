"""The pack writer: deterministic, streaming, and nothing that the reader would refuse."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from cloudbaker.compute.godot.pck import PckError, read_pck, write_pck
from cloudbaker.testing.godot_packs import ENGINE_OF, pack

FILES = {
    "res://mods/a/b.txt": b"b" * 33,
    "res://mods/a/a.txt": b"a",
    "res://mods/a/\u00fc.txt": b"",
    "res://z": bytes(100),
}


def written(files: dict[str, bytes], format: int) -> bytes:
    out = io.BytesIO()
    write_pck(files, out, format=format, engine=ENGINE_OF[format])
    return out.getvalue()


@pytest.mark.parametrize("format", [1, 2, 3, 4])
def test_order_and_scheme_of_the_paths_do_not_matter(format: int) -> None:
    other = {path.removeprefix("res://"): FILES[path] for path in reversed(FILES)}
    assert written(FILES, format) == written(other, format)
    assert [e.path for e in read_pck(written(FILES, format)).entries] == sorted(FILES, key=str.encode)


@pytest.mark.parametrize("format", [1, 2, 3, 4])
def test_data_are_aligned(format: int) -> None:
    align = 16 if format == 1 else 32
    assert all(e.offset % align == 0 for e in read_pck(written(FILES, format)).entries)


@pytest.mark.parametrize("format", [1, 2, 3, 4])
def test_a_pack_of_nothing_is_a_pack(format: int) -> None:
    assert read_pck(written({}, format)).entries == ()


def test_only_formats_before_3_keep_the_scheme() -> None:
    assert [written(FILES, f).count(b"res://") for f in (1, 2, 3, 4)] == [4, 4, 0, 0]


def test_files_on_disk_and_in_memory_give_the_same_bytes(tmp_path: Path) -> None:
    paths = {}
    for number, (name, data) in enumerate(FILES.items()):
        paths[name] = tmp_path / str(number)
        paths[name].write_bytes(data)
    for format in (1, 2, 3):
        write_pck(paths, tmp_path / "out.pck", format=format, engine=ENGINE_OF[format])
        assert (tmp_path / "out.pck").read_bytes() == written(FILES, format)
    assert not list(tmp_path.glob("*.part"))


def test_a_pack_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_pck({"a": tmp_path / "missing"}, tmp_path / "out.pck", format=3, engine=(4, 6, 3))
    (tmp_path / "out.pck").write_bytes(b"before")
    with pytest.raises(PckError):
        write_pck({"../a": b""}, tmp_path / "out.pck", format=3, engine=(4, 6, 3))
    assert (tmp_path / "out.pck").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["out.pck"]


@pytest.mark.parametrize("path", ["", "res://", "../a", "a//b", "/a", "a\\b", "user://a", "a/"])
def test_paths_that_no_reader_takes_are_not_written(path: str) -> None:
    with pytest.raises(PckError, match="not allowed") as caught:
        pack({path: b""})
    assert caught.value.code == "pck.path"


@pytest.mark.parametrize("paths", [("a", "res://a"), ("a", "A"), ("caf\u00e9", "cafe\u0301")])
def test_paths_that_collide_are_not_written(paths: tuple[str, str]) -> None:
    with pytest.raises(PckError) as caught:
        pack(dict.fromkeys(paths, b""))
    assert caught.value.code == "pck.duplicate"


def test_a_file_that_changes_between_the_passes_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "x"
    source.write_bytes(b"1" * 100)

    class Slow(io.BytesIO):
        def write(self, data: object) -> int:
            source.write_bytes(b"2" * 100)  # after the pass for the MD5, before the one that copies
            return super().write(data)  # type: ignore[arg-type]

    with pytest.raises(OSError, match="changed"):
        write_pck({"a": source}, Slow(), format=3, engine=(4, 6, 3))


def test_an_unknown_format_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="known are 1 to 4"):
        write_pck({}, io.BytesIO(), format=9, engine=(4, 6, 3))


GOLDEN_SHA256 = {
    1: "5c9823141862463d",
    2: "c2c7f6301af39243",
    3: "c3aae242b283bfff",
    4: "c5b9906f1a08180b",
}


@pytest.mark.parametrize("format", [1, 2, 3, 4])
def test_the_bytes_stay_what_they_are(format: int) -> None:
    """Whoever changes the writer has to say so: signatures and bake keys are over these bytes."""
    assert hashlib.sha256(written(FILES, format)).hexdigest()[:16] == GOLDEN_SHA256[format]
