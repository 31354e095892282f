"""Every rule of the pack reader: what is refused, with which code, and what it costs to refuse it."""

from __future__ import annotations

import io
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from cloudbaker.compute.godot.findings import RULES
from cloudbaker.compute.godot.pck import PckError, PckLimits, read_pck
from cloudbaker.model import Finding, Severity
from cloudbaker.testing.godot_packs import RawFile, appended, pack, raw_pack

FORMATS = [1, 2, 3, 4]
HERE = "res://mods/a/"
HONEST = {f"{HERE}icon.png": b"\x89PNG" * 100, f"{HERE}empty.txt": b"", f"{HERE}deep/er/scene.tscn": b"[gd_scene]"}


def refused(data: bytes, code: str, **options: object) -> PckError:
    """The error of a strict reader, after checking that a collecting one names it too."""
    findings: list[Finding] = []
    with read_pck(data, findings=findings, **options):  # type: ignore[arg-type]
        assert code in [f.code for f in findings]
        assert all(f.message and f.remedy and f.code in RULES for f in findings)
    with pytest.raises(PckError) as caught:
        read_pck(data, **options)  # type: ignore[arg-type]
    assert any(f.severity is Severity.ERROR for f in findings)
    return caught.value


@pytest.mark.parametrize("format", FORMATS)
def test_an_honest_pack_is_read_whole(format: int) -> None:
    with read_pck(pack(HONEST, format=format)) as read:
        assert read.version == format
        assert {e.path: read.read(e) for e in read.entries} == HONEST
        assert {e.path: bytes(read.view(e)) for e in read.entries} == HONEST
        assert all(e.flags == 0 for e in read.entries)


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_is_read_as_memory_is(format: int, tmp_path: Path) -> None:
    path = tmp_path / "mod.pck"
    path.write_bytes(pack(HONEST, format=format))
    with read_pck(path) as from_path, path.open("rb") as file, read_pck(path.read_bytes()) as from_memory:
        from_file = read_pck(file)
        assert from_path.entries == from_file.entries == from_memory.entries
        for entry in from_path.entries:
            assert from_path.read(entry) == from_memory.read(entry) == bytes(from_file.view(entry))
    assert from_path._owned is not None
    assert from_path._owned.closed


def test_an_entry_opens_as_a_seekable_file() -> None:
    read = read_pck(pack({f"{HERE}a": bytes(range(200))}))
    with read.open(read.entries[0]) as file:
        assert file.read(3) == b"\0\1\2"
        assert file.seek(-2, io.SEEK_END) == 198
        assert file.read() == bytes([198, 199])
        assert file.seek(5) == 5
        assert file.read(1) == b"\5"
        with pytest.raises(ValueError, match="negative"):
            file.seek(-1)


@pytest.mark.parametrize("format", FORMATS)
def test_paths_have_their_scheme_whatever_the_format(format: int) -> None:
    for path in (f"{HERE}x", "mods/a/x"):
        assert [e.path for e in read_pck(raw_pack([(path, b"1")], format=format)).entries] == [f"{HERE}x"]


# --- header


@pytest.mark.parametrize("data", [b"", b"G", b"GDP", b"PK\x03\x04" + bytes(200), b"\x89PNG\r\n\x1a\n" + bytes(500)])
def test_magic_is_at_offset_0(data: bytes) -> None:
    assert refused(data, "pck.bad-magic").code == "pck.bad-magic"


def test_a_zip_with_another_name_is_no_pack() -> None:
    assert "GDPC" in RULES["pck.bad-magic"].meaning
    assert refused(b"PK\x05\x06" + bytes(18), "pck.bad-magic").code == "pck.bad-magic"


@pytest.mark.parametrize("format", FORMATS)
def test_a_pack_appended_to_a_picture_is_refused(format: int) -> None:
    error = refused(appended(b"\x89PNG\r\n\x1a\n" + bytes(100), pack(HONEST, format=format)), "pck.appended")
    assert error.code == "pck.appended"


@pytest.mark.parametrize("format", FORMATS)
def test_a_pack_appended_to_a_pack_is_refused(format: int) -> None:
    assert refused(appended(pack(HONEST, format=format), pack(HONEST, format=format)), "pck.appended")


@pytest.mark.parametrize("version", [0, 5, 7, 0xFFFFFFFF])
def test_unknown_formats_are_refused(version: int) -> None:
    assert refused(raw_pack([(f"{HERE}x", b"")], version=version), "pck.bad-version").code == "pck.bad-version"


def test_absurd_engines_are_refused() -> None:
    assert refused(raw_pack([(f"{HERE}x", b"")], engine=(1 << 31, 0, 0)), "pck.bad-version")


@pytest.mark.parametrize("format", [2, 3, 4])
@pytest.mark.parametrize(
    ("flags", "code"), [(1, "pck.encrypted"), (4, "pck.sparse"), (6, "pck.sparse"), (8, "pck.bad-flags")]
)
def test_flags_of_the_pack_are_refused(format: int, flags: int, code: str) -> None:
    assert refused(raw_pack([(f"{HERE}x", b"1")], format=format, flags=flags), code).code == code


@pytest.mark.parametrize("format", FORMATS)
def test_reserved_fields_are_zero(format: int) -> None:
    data = raw_pack([(f"{HERE}x", b"1")], format=format, reserved=bytes(60) + b"\1\0\0\0")
    assert refused(data, "pck.bad-flags").code == "pck.bad-flags"


@pytest.mark.parametrize("format", FORMATS)
def test_a_pack_that_ends_anywhere_is_refused(format: int) -> None:
    whole = pack(HONEST, format=format)
    for length in range(4, len(whole) - 64, 7):
        with pytest.raises(PckError):
            read_pck(whole[:length])
        read_pck(whole[:length], findings=[])


@pytest.mark.parametrize("directory", [0, 4, 103, 10**6, (1 << 64) - 1])
@pytest.mark.parametrize("format", [3, 4])
def test_the_directory_is_inside_the_pack_and_behind_the_header(format: int, directory: int) -> None:
    data = raw_pack([(f"{HERE}x", b"1" * 100)], format=format, directory=directory)
    assert refused(data, "pck.directory").code == "pck.directory"


# --- entries


@pytest.mark.parametrize("format", [2, 3, 4])
@pytest.mark.parametrize(
    ("flags", "code"), [(1, "pck.encrypted"), (2, "pck.removal"), (4, "pck.delta"), (8, "pck.file-flags")]
)
def test_flags_of_files_are_refused(format: int, flags: int, code: str) -> None:
    data = raw_pack([(f"{HERE}ok", b"1"), RawFile("res://core/main.gd", b"GDDL\1", flags)], format=format)
    error = refused(data, code)
    assert error.code == code
    assert error.place == "res://core/main.gd"


BAD_PATHS = [
    "",
    "res://",
    "res:///mods/a/x",
    "/mods/a/x",
    "res://mods/../core.gd",
    "res://../core.gd",
    "res://./x",
    "res://mods/./a/x",
    "res://mods//a/x",
    "res://mods/a/",
    "res://mods\\a\\x",
    "res://mods/a/..\\..\\x",
    "res://res://mods/a/x",
    "user://save.dat",
    "file:///etc/passwd",
    "C:/x",
    "res://mods/a/x:stream",
    "res://mods/a/x ",
    "res://mods/ a/x",
    "res://mods/a./x",
    "res://mods/a/x\n",
    "res://mods/a/\u202ex",
    "res://mods/a/\u200bx",
    "res://mods/a/\x7f",
]


@pytest.mark.parametrize("format", [1, 2, 3])
@pytest.mark.parametrize("path", BAD_PATHS)
def test_paths_are_what_the_engine_makes_of_them(format: int, path: str) -> None:
    assert refused(raw_pack([(path, b"1")], format=format), "pck.path").code == "pck.path"


@pytest.mark.parametrize("path", [b"res://mods/a/\xff", b"res://mods/a/\xed\xa0\x80", b"res://mods/\xc0\xafx"])
def test_paths_are_strict_utf_8(path: bytes) -> None:
    assert refused(raw_pack([(path, b"1")]), "pck.path-encoding").code == "pck.path-encoding"


@pytest.mark.parametrize("path", [b"res://a\0b", b"res://a" + bytes(5), bytes(8)])
def test_paths_hold_no_nul_but_their_padding(path: bytes) -> None:
    assert refused(raw_pack([(path, b"1")]), "pck.path-encoding")


def test_long_paths_are_refused() -> None:
    assert refused(raw_pack([(HERE + "x" * 1018, b"1")]), "pck.path").code == "pck.path"
    assert refused(raw_pack([(HERE + "x" * 5000, b"1")]), "pck.path-too-long").code == "pck.path-too-long"


@pytest.mark.parametrize(
    "other",
    ["res://mods/a/x.png", "res://mods/A/X.png", "mods/a/x.png", "res://mods/a/\u017f.png", "res://mods/a/S.png"],
)
def test_paths_are_unique_without_case_and_form(other: str) -> None:
    first = "res://mods/a/s.png" if other[-5] in "\u017fS" else "res://mods/a/x.png"
    assert refused(raw_pack([(first, b"1"), (other, b"2")]), "pck.duplicate").code == "pck.duplicate"


def test_unicode_forms_of_one_path_collide() -> None:
    data = raw_pack([(f"{HERE}caf\u00e9.png", b"1"), (f"{HERE}cafe\u0301.png", b"2")])
    assert refused(data, "pck.duplicate").code == "pck.duplicate"
    assert refused(raw_pack([(f"{HERE}stra\u00dfe", b"1"), (f"{HERE}STRASSE", b"2")]), "pck.duplicate")


@pytest.mark.parametrize("first", [True, False])
def test_a_path_is_not_a_file_and_a_folder(first: bool) -> None:
    files = [(f"{HERE}x", b"1"), (f"{HERE}X/y", b"2")]
    data = raw_pack(files if first else files[::-1])
    assert refused(data, "pck.path-conflict").code == "pck.path-conflict"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "file",
    [
        RawFile(f"{HERE}x", b"12345", size=10**9),
        RawFile(f"{HERE}x", b"12345", size=(1 << 64) - 1),
        RawFile(f"{HERE}x", b"12345", offset=(1 << 64) - 1),
        RawFile(f"{HERE}x", b"12345", offset=10**6, size=0),
    ],
)
def test_data_are_inside_the_pack(format: int, file: RawFile) -> None:
    error = refused(raw_pack([file], format=format), "pck.out-of-bounds")
    assert error.code == "pck.out-of-bounds"
    assert read_pck(raw_pack([file], format=format), findings=[]).entries == ()


def test_an_offset_that_wraps_round_is_out_of_bounds() -> None:
    # offset + base is the header, in 64 bits
    data = raw_pack([RawFile(f"{HERE}x", b"1" * 64, offset=(1 << 64) - 100)], format=2)
    assert refused(data, "pck.out-of-bounds")


@pytest.mark.parametrize("format", FORMATS)
def test_data_do_not_overlap(format: int) -> None:
    same = read_pck(raw_pack([(f"{HERE}x", b"1" * 64), (f"{HERE}y", b"2" * 64)], format=format))
    where = same.entries[0].offset if format == 1 else 0
    shared = [RawFile(f"{HERE}x", b"1" * 64), RawFile(f"{HERE}y", b"2" * 64, offset=where + 32)]
    assert refused(raw_pack(shared, format=format), "pck.overlap", verify=False).code == "pck.overlap"


def test_data_do_not_overlap_the_header_or_the_directory() -> None:
    header = raw_pack([RawFile(f"{HERE}x", b"1" * 64, offset=0)], format=1)
    assert refused(header, "pck.overlap", verify=False)
    honest = raw_pack([(f"{HERE}x", b"1" * 64)], format=3)
    (at,) = struct.unpack_from("<Q", honest, 32)
    (base,) = struct.unpack_from("<Q", honest, 24)
    directory = raw_pack([RawFile(f"{HERE}x", b"1" * 64, offset=at - base + 8, size=16)], format=3)
    assert refused(directory, "pck.overlap", verify=False)


@pytest.mark.parametrize("format", FORMATS)
def test_bytes_that_belong_to_no_file_are_refused(format: int) -> None:
    data = raw_pack([(f"{HERE}x", b"1" * 64), RawFile(f"{HERE}y", b"hidden" * 20, size=0)], format=format)
    with pytest.raises(PckError) as caught:
        read_pck(data, verify=False)
    assert caught.value.code in ("pck.hidden-bytes", "pck.trailing-bytes")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("tail", [b"x", b"\0" * 63 + b"x", bytes(64), bytes(10_000)])
def test_nothing_follows_the_pack(format: int, tail: bytes) -> None:
    assert refused(pack(HONEST, format=format) + tail, "pck.trailing-bytes").code == "pck.trailing-bytes"


@pytest.mark.parametrize("format", FORMATS)
def test_padding_is_allowed_as_engines_write_it(format: int) -> None:
    aligned = raw_pack([(f"{HERE}x", b"1" * 64), (f"{HERE}y", b"2")], format=format, align=64)
    assert len(read_pck(aligned).entries) == 2
    assert len(read_pck(pack(HONEST, format=format) + bytes(15)).entries) == 3


@pytest.mark.parametrize("format", FORMATS)
def test_md5_is_checked(format: int) -> None:
    data = raw_pack([(f"{HERE}ok", b"1"), RawFile(f"{HERE}x", b"12345", md5=b"x" * 16)], format=format)
    error = refused(data, "pck.md5")
    assert (error.code, error.place) == ("pck.md5", f"{HERE}x")
    assert len(read_pck(data, verify=False).entries) == 2


def test_a_missing_md5_is_a_warning() -> None:
    findings: list[Finding] = []
    data = raw_pack([RawFile(f"{HERE}x", b"12345", md5=bytes(16))], format=1)
    read_pck(data, findings=findings)
    assert [(f.code, f.severity) for f in findings] == [("pck.md5-missing", Severity.WARNING)]
    assert len(read_pck(data).entries) == 1


def test_everything_that_is_wrong_is_collected() -> None:
    findings: list[Finding] = []
    data = raw_pack(
        [
            RawFile("res://core.gd", b"1", flags=2),
            RawFile("res://../x", b"1", flags=4),
            RawFile(f"{HERE}x", b"1", md5=b"?" * 16),
            RawFile(f"{HERE}X", b"1", size=10**12),
        ]
    )
    read_pck(data, findings=findings)
    assert {"pck.removal", "pck.delta", "pck.path", "pck.md5", "pck.duplicate", "pck.out-of-bounds"} <= {
        f.code for f in findings
    }


def test_many_findings_of_one_kind_are_cut() -> None:
    findings: list[Finding] = []
    read_pck(raw_pack([(f"res://a{number}/../x", b"") for number in range(500)]), findings=findings)
    assert 100 < len([f for f in findings if f.code == "pck.path"]) <= 101


# --- cost


@pytest.mark.parametrize("count", [100_000, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("format", [1, 2, 3])
def test_counts_are_refused_before_anything_is_allocated(format: int, count: int) -> None:
    data = raw_pack([(f"{HERE}x", b"1")], format=format, count=count)
    tracemalloc.start()
    try:
        assert refused(data, "pck.too-many-files").code == "pck.too-many-files"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_count_within_the_limit_has_to_fit_the_file() -> None:
    assert refused(raw_pack([(f"{HERE}x", b"1")], count=15_000), "pck.truncated").code == "pck.truncated"


def test_a_pack_of_100_000_real_entries_is_refused_at_once() -> None:
    data = raw_pack([(f"{HERE}{number}", b"") for number in range(100_000)], align=1)
    assert refused(data, "pck.too-many-files").code == "pck.too-many-files"
    assert len(read_pck(data, limits=PckLimits(files=100_000)).entries) == 100_000


def test_a_sparse_file_of_many_gigabytes_costs_nothing_to_refuse(tmp_path: Path) -> None:
    path = tmp_path / "huge.pck"
    path.write_bytes(raw_pack([(f"{HERE}x", b"1")]))
    with path.open("r+b") as file:
        file.truncate(100 << 30)
    with pytest.raises(PckError) as caught:
        read_pck(path)
    assert caught.value.code == "pck.too-large"


def test_large_files_are_hashed_in_constant_memory(tmp_path: Path) -> None:
    from cloudbaker.compute.godot.pck import write_pck

    big = tmp_path / "big.bin"
    with big.open("wb") as file:
        for number in range(48):
            file.write(bytes([number]) * (1 << 20))
    tracemalloc.start()
    try:
        write_pck({f"{HERE}big.bin": big}, tmp_path / "big.pck", format=3, engine=(4, 6, 3))
        with read_pck(tmp_path / "big.pck") as read:
            assert read.entries[0].size == 48 << 20
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_pack_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "mod.pck"
    path.write_bytes(pack({f"{HERE}x": b"1" * 1000}, format=1))
    with read_pck(path, verify=False) as read:
        path.write_bytes(b"GDPC")
        with pytest.raises(PckError) as caught:
            read.read(read.entries[0])
        assert caught.value.code == "pck.truncated"


def test_errors_cross_processes() -> None:
    with pytest.raises(PckError) as caught:
        read_pck(b"nothing")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.code, again.message, again.remedy) == (caught.value.code, caught.value.message, caught.value.remedy)
    assert again.finding() == caught.value.finding()


@pytest.mark.parametrize("build", [pack, lambda files: raw_pack(list(files.items()))])
def test_names_of_findings_are_printable(build: Callable[[dict[str, bytes]], bytes]) -> None:
    findings: list[Finding] = []
    read_pck(raw_pack([("res://\x1b[31m\u202ered", b"1"), (b"res://\xff\x1b", b"")]), findings=findings)
    assert findings
    assert all((f.message + f.place).isprintable() for f in findings)
    assert build({f"{HERE}x": b""}).startswith(b"GDPC")
