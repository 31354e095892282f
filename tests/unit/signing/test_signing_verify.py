from __future__ import annotations

import io
import json
import os
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloudbaker.canonical import canonical_json
from cloudbaker.compute.package import ENVELOPE, MANIFEST, write_zip
from cloudbaker.compute.signing import dsse, keys, statement
from cloudbaker.compute.signing.verify import verify_bundle, verify_path
from cloudbaker.errors import SignatureInvalid, SigningKeyError, SourceUnreadable

Make = Callable[..., dict[str, Any]]


def codes(report: Any) -> list[str]:
    return [problem.code for problem in report.problems]


def zip_at(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def test_a_good_bundle(bundle: dict[str, bytes], envelope: str, signing_keys: keys.Keys) -> None:
    report = verify_bundle(bundle, envelope, signing_keys.public)
    assert report.ok
    assert report
    assert report.unwrap() is report
    assert [file.name for file in report.files] == ["lod1.glb", "manifest.json", "model.glb"]
    assert all(file.ok for file in report.files)
    shown = report.to_json()
    assert shown["ok"] is True
    assert (shown["asset"], shown["recipe"], shown["run_id"]) == ("acme/robots/helmet", "web", "run-1")
    assert json.loads(json.dumps(shown)) == shown


def test_the_same_from_paths_a_folder_an_envelope_and_a_zip(
    package_folder: Path, bundle: dict[str, bytes], envelope: str, signing_keys: keys.Keys
) -> None:
    public = signing_keys.public
    expected = verify_bundle(bundle, envelope, public)
    assert verify_bundle({name: package_folder / name for name in bundle}, json.loads(envelope), public) == expected
    assert verify_path(package_folder, public) == expected
    assert verify_path(package_folder / ENVELOPE, public) == expected
    with (package_folder.parent / "a.zip").open("wb") as file:
        write_zip(bundle, envelope, file)
    assert verify_path(package_folder.parent / "a.zip", public) == expected


@pytest.mark.parametrize("name", ["model.glb", "lod1.glb", MANIFEST])
@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d + b"x", lambda d: bytes([d[0] ^ 1]) + d[1:]])
def test_a_changed_file(
    bundle: dict[str, bytes], envelope: str, signing_keys: keys.Keys, name: str, damage: Callable[[bytes], bytes]
) -> None:
    report = verify_bundle({**bundle, name: damage(bundle[name])}, envelope, signing_keys.public)
    assert codes(report) == ["package.file-changed"]
    assert not report
    assert report.problems[0].place == name
    assert [file.name for file in report.files if not file.ok] == [name]
    with pytest.raises(SignatureInvalid, match=name) as caught:
        report.unwrap()
    assert caught.value.exit_code == 3
    json.dumps(caught.value.to_json())


def test_missing_and_extra_files(bundle: dict[str, bytes], envelope: str, signing_keys: keys.Keys) -> None:
    changed = {name: data for name, data in bundle.items() if name != "lod1.glb"} | {"evil.js": b""}
    report = verify_bundle(changed, envelope, signing_keys.public)
    assert codes(report) == ["package.missing-file", "package.extra-file"]
    with pytest.raises(SignatureInvalid, match="1 more problem"):
        report.unwrap()
    without = {name: data for name, data in bundle.items() if name != MANIFEST}
    assert codes(verify_bundle(without, envelope, signing_keys.public)) == ["package.missing-file"]


def test_nothing_of_an_unsigned_statement_is_shown(
    bundle: dict[str, bytes], envelope: str, tmp_path: Path, signing_keys: keys.Keys
) -> None:
    report = verify_bundle(bundle, envelope, keys.generate(tmp_path / "others").public)
    assert codes(report) == ["signature.invalid"]
    assert (report.statement, report.files, report.key_ids) == (None, (), ())
    assert report.to_json()["asset"] is None
    assert codes(verify_bundle(bundle, "{}", signing_keys.public)) == ["signature.invalid"]


def test_without_a_public_key(bundle: dict[str, bytes], envelope: str) -> None:
    with pytest.raises(SigningKeyError):
        verify_bundle(bundle, envelope, [])


def resign(files: dict[str, bytes], signing_keys: keys.Keys, make_statement: Make, **changes: Any) -> str:
    payload = canonical_json(make_statement(files, **changes))
    return dsse.dumps(dsse.sign(payload, statement.PAYLOAD_TYPE, signing_keys))


@pytest.mark.parametrize("changes", [{"bake_key": "f" * 64}, {"recipe": "vr"}, {"recipe_hash": "f" * 64}])
def test_a_manifest_of_another_bake(
    bundle: dict[str, bytes], signing_keys: keys.Keys, make_statement: Make, changes: dict[str, str]
) -> None:
    """Signed with the right keys, and still wrong: the manifest was carried over from another package."""
    signed = resign(bundle, signing_keys, make_statement, **changes)
    assert codes(verify_bundle(bundle, signed, signing_keys.public)) == ["manifest.inconsistent"]


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda m: m["files"].pop(), "manifest.inconsistent"),
        (lambda m: m["files"][0].update(sha256="0" * 64), "manifest.inconsistent"),
        (lambda m: m.update(schema="cloudbaker/web-bundle/v2"), "manifest.inconsistent"),
        (lambda m: m.pop("files"), "manifest.malformed"),
        (lambda m: m.update(files={}), "manifest.inconsistent"),
        (lambda m: m.update(recipe=None), "manifest.malformed"),
        (lambda m: m["files"][0].update(bytes="many"), "manifest.malformed"),
    ],
)
def test_a_manifest_that_disagrees_with_the_statement(
    bundle: dict[str, bytes], signing_keys: keys.Keys, make_statement: Make, edit: Callable[[Any], Any], code: str
) -> None:
    manifest = json.loads(bundle[MANIFEST])
    edit(manifest)
    changed = {**bundle, MANIFEST: canonical_json(manifest)}
    report = verify_bundle(changed, resign(changed, signing_keys, make_statement), signing_keys.public)
    assert code in codes(report)


def test_no_manifest_signed_or_no_json(bundle: dict[str, bytes], signing_keys: keys.Keys, make_statement: Make) -> None:
    only = {"model.glb": bundle["model.glb"]}
    signed = resign(only, signing_keys, make_statement)
    assert codes(verify_bundle(only, signed, signing_keys.public)) == ["manifest.missing"]
    deep = {**bundle, MANIFEST: b"[" * 100_000}
    signed = resign(deep, signing_keys, make_statement)
    assert codes(verify_bundle(deep, signed, signing_keys.public)) == ["manifest.malformed"]


def test_links_fifos_and_folders_in_a_package_are_not_followed(
    package_folder: Path, signing_keys: keys.Keys, bundle: dict[str, bytes]
) -> None:
    elsewhere = package_folder.parent / "model.glb"
    elsewhere.write_bytes(bundle["model.glb"])
    for make in (lambda p: p.symlink_to(elsewhere), os.mkfifo):
        (package_folder / "model.glb").unlink()
        make(package_folder / "model.glb")
        assert codes(verify_path(package_folder, signing_keys.public)) == ["package.file-changed"]
    (package_folder / "model.glb").unlink()
    shutil.copy(elsewhere, package_folder / "model.glb")
    (package_folder / "link").symlink_to("/")
    (package_folder / "sub").mkdir()
    (package_folder / "sub" / "x.js").write_text("")
    report = verify_path(package_folder, signing_keys.public)
    assert [p.place for p in report.problems] == ["link", "sub/x.js"]


def test_a_path_that_is_no_package(tmp_path: Path, signing_keys: keys.Keys) -> None:
    (tmp_path / "a.glb").write_bytes(b"glTF")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "fifo")
    zip_at(tmp_path / "other.zip", {"a.txt": b""})
    for name in ("a.glb", "nowhere", "empty", "fifo", "other.zip"):
        with pytest.raises(SourceUnreadable) as caught:
            verify_path(tmp_path / name, signing_keys.public)
        assert caught.value.exit_code == 2


def test_a_zip_bomb_is_not_inflated_beyond_what_was_signed(
    tmp_path: Path, bundle: dict[str, bytes], envelope: str, signing_keys: keys.Keys
) -> None:
    entries = {**bundle, "model.glb": bytes(200 << 20), "extra.bin": bytes(1 << 20), ENVELOPE: envelope.encode()}
    path = zip_at(tmp_path / "bomb.zip", entries)
    report = verify_path(path, signing_keys.public)
    assert codes(report) == ["package.extra-file", "package.file-changed"]
    assert "larger than the 64 bytes" in report.problems[1].message


def test_a_damaged_zip_is_a_report_or_a_typed_error(
    tmp_path: Path, bundle: dict[str, bytes], envelope: str, signing_keys: keys.Keys
) -> None:
    entries = {**bundle, ENVELOPE: envelope.encode()}
    good = zip_at(tmp_path / "good.zip", entries).read_bytes()
    path = tmp_path / "bad.zip"
    for at in range(0, len(good), 7):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :])
        try:
            report = verify_path(path, signing_keys.public)
        except SourceUnreadable:
            continue
        if report.ok:  # the flip hit what carries no content: a time, an attribute, a version
            with zipfile.ZipFile(path) as archive:
                assert {name: archive.read(name) for name in bundle} == bundle
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(SourceUnreadable):
        verify_path(path, signing_keys.public)


def test_two_entries_of_one_name(
    tmp_path: Path, bundle: dict[str, bytes], envelope: str, signing_keys: keys.Keys
) -> None:
    buffer = io.BytesIO()
    write_zip(bundle, envelope, buffer)
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("model.glb", b"other")
    (tmp_path / "two.zip").write_bytes(buffer.getvalue())
    assert codes(verify_path(tmp_path / "two.zip", signing_keys.public)) == ["package.duplicate-name"]
