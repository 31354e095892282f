"""``cloudbaker pck`` and the jobs behind it: in the sandbox, with contracts, and never outside the folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cloudbaker.cli.pck import pck
from cloudbaker.compute.job import Job, Status
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.errors import CloudBakerError, SourceUnreadable
from cloudbaker.testing.godot_packs import RawFile, pack, raw_pack

FILES = {
    "res://mods/a/icon.png": b"\x89PNG" * 50,
    "res://mods/a/deep/er/x.tres": b"[gd_resource]",
    "res://mods/a/e": b"",
}


@pytest.fixture
def mod(tmp_path: Path) -> Path:
    path = tmp_path / "mod.pck"
    path.write_bytes(pack(FILES))
    return path


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(pck, [str(a) for a in arguments], standalone_mode=False)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.return_value == code, result.output
    return result


def run_json(*arguments: object, code: int = 0) -> dict[str, Any]:
    value = json.loads(run(*arguments, "--json", code=code).output)
    assert {"path", "verdict", "version", "engine", "entries", "findings"} <= value.keys()
    return dict(value)


def test_list_names_every_file(mod: Path) -> None:
    value = run_json("list", mod)
    assert value["verdict"] == "pass"
    assert value["version"] == 3
    assert {e["path"]: e["size"] for e in value["entries"]} == {path: len(data) for path, data in FILES.items()}
    assert "res://mods/a/icon.png" in run("list", mod).output


def test_verify_finds_a_changed_byte(mod: Path) -> None:
    assert run_json("verify", mod)["findings"] == []
    data = bytearray(mod.read_bytes())
    data[data.index(b"\x89PNG")] ^= 1
    mod.write_bytes(data)
    assert [f["code"] for f in run_json("verify", mod, code=3)["findings"]] == ["pck.md5"]
    assert "pck.md5" in run("verify", mod, code=3).output
    assert run_json("list", mod)["findings"] == []


def test_extract_writes_the_files_and_nothing_else(mod: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    value = run_json("extract", mod, "-o", out)
    found = {f"res://{p.relative_to(out).as_posix()}": p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert found == FILES
    assert sorted(value["files"]) == sorted(path.removeprefix("res://") for path in FILES)


def test_extract_wants_a_folder_of_its_own(mod: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    run("extract", mod, "-o", tmp_path / "out")
    for there in (tmp_path / "out", mod):
        with pytest.raises(SourceUnreadable, match="empty or a new folder"):
            run("extract", mod, "-o", there)


def test_a_folder_that_can_not_be_made_is_a_typed_error(mod: Path, tmp_path: Path) -> None:
    with pytest.raises(CloudBakerError):
        run("extract", mod, "-o", mod / "below-a-file")


@pytest.mark.parametrize("path", ["../../evil", "/evil", "a\\..\\..\\evil"])
def test_nothing_is_written_outside(path: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pck"
    bad.write_bytes(raw_pack([("res://mods/a/ok", b"ok"), (path, b"evil")]))
    before = sorted(tmp_path.rglob("*"))
    value = run_json("extract", bad, "-o", tmp_path / "deep" / "out", code=3)
    assert value["verdict"] == "reject"
    assert value["files"] == []
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_no_pack_is_rejected_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "x.pck"
    path.write_bytes(b"PK\3\4" + bytes(100))
    for verb in ("list", "verify"):
        assert [f["code"] for f in run_json(verb, path, code=3)["findings"]] == ["pck.bad-magic"]
    with pytest.raises(SourceUnreadable):
        run("list", tmp_path / "missing.pck")
    with pytest.raises(SourceUnreadable):
        run("list", tmp_path)


def test_names_from_strangers_do_not_reach_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "x.pck"
    path.write_bytes(raw_pack([("res://\x1b[31mred", b"")]))
    assert "\x1b" not in run("list", path, code=3).output


def test_jobs_answer_alike_in_the_sandbox(sandbox: Sandbox) -> None:
    jobs = ["list_job", "verify_job", "extract_job"]
    data = pack(FILES, format=1)
    outcomes = sandbox.run_all([Job(f"cloudbaker.compute.godot.pck:{name}", {"pack": data}) for name in jobs])
    assert [o.status for o in outcomes] == [Status.OK] * 3
    assert outcomes[0].value == outcomes[1].value == outcomes[2].value
    assert [bytes(outcomes[2].files[str(n)]) for n in range(3)] == [
        FILES[e["path"]] for e in outcomes[2].value["entries"]
    ]


def test_limits_of_a_job_are_parameters(sandbox: Sandbox) -> None:
    limited = Job("cloudbaker.compute.godot.pck:list_job", {"pack": pack(FILES)}, {"limits": {"files": 2}})
    assert [f["code"] for f in sandbox.run(limited).unwrap().value["findings"]] == ["pck.too-many-files"]


def test_a_huge_declared_size_costs_no_memory(sandbox: Sandbox) -> None:
    data = raw_pack([RawFile("res://mods/a/x", b"1", size=1 << 40), RawFile("res://mods/a/y", b"1", size=1 << 30)])
    outcome = sandbox.run(Job("cloudbaker.compute.godot.pck:extract_job", {"pack": data}))
    assert outcome.status is Status.OK
    assert not outcome.files
    assert {f["code"] for f in outcome.value["findings"]} >= {"pck.out-of-bounds"}
