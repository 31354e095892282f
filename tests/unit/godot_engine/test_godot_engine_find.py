"""Which engines there are, and which of them a recipe means."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cloudbaker.compute.godot import install
from cloudbaker.compute.godot.engines import (
    Engine,
    candidates,
    find_engine,
    list_engines,
    pack_format_of,
    probe_version,
    version_number,
)
from cloudbaker.errors import EngineMissing, ToolMissing
from cloudbaker.settings import Settings


def settings_with(tmp_path: Path, **engines: dict) -> Settings:
    return Settings(engines=engines, engines_prefix=tmp_path / "engines")


@pytest.fixture(autouse=True)
def no_engine_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloudbaker.compute.godot.engines.ON_PATH", {})


def program(folder: Path, says: str) -> Path:
    """A program that answers ``--version``, with 255 as Godot 3.2.3 does."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "godot"
    path.write_text(f"#!/bin/sh\n[ \"$1\" = --version ] && echo '{says}'\nexit 255\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("version", "number", "pack"),
    [
        ("3.2.3.stable.custom_build", (3, 2, 3), 1),
        ("3.6.stable.debian3.6+ds-2", (3, 6, 0), 1),
        ("4.0.stable", (4, 0, 0), 2),
        ("4.4.1.stable.official", (4, 4, 1), 2),
        ("4.5.stable", (4, 5, 0), 3),
        ("4.10.2.stable", (4, 10, 2), 3),
    ],
)
def test_versions(version: str, number: tuple[int, int, int], pack: int) -> None:
    assert version_number(version) == number
    assert pack_format_of(version) == pack


def test_what_is_no_version() -> None:
    with pytest.raises(ValueError, match="no version"):
        version_number("unknown")


def test_version_is_asked_in_the_sandbox_whatever_the_exit_status(tmp_path: Path) -> None:
    path = program(tmp_path / "opt", "4.6.3.stable.test")
    engine = find_engine(
        "godot-4.6", settings_with(tmp_path, **{"godot-4.6": {"command": [str(path)], "folders": [str(path.parent)]}})
    )
    assert engine == Engine("godot-4.6", (str(path),), "4.6.3.stable.test", (path.parent,), 3)
    assert (engine.identity, engine.short, engine.major) == ("godot 4.6.3.stable.test", "4.6.3", 4)


def test_another_program_at_the_same_path_is_asked_again(tmp_path: Path) -> None:
    config = settings_with(
        tmp_path, g={"command": [str(tmp_path / "opt" / "godot")], "folders": [str(tmp_path / "opt")]}
    )
    path = program(tmp_path / "opt", "4.5.stable.test")
    assert find_engine("g", config).short == "4.5.0"
    program(tmp_path / "opt", "4.6.1.stable.test")
    os.utime(path, ns=(1, 1))
    assert find_engine("g", config).short == "4.6.1"


def test_family_means_its_newest_engine_and_a_name_itself(tmp_path: Path) -> None:
    config = settings_with(
        tmp_path,
        **{f"godot-4.{n}": {"command": ["/x"], "version": f"4.{n}.0.stable"} for n in (6, 10, 9)},
        **{
            "godot-3": {"command": ["/x"], "version": "3.2.3.stable"},
            "godot-40": {"command": ["/x"], "version": "40.0.0"},
        },
    )
    assert find_engine("godot-4", config).name == "godot-4.10"
    assert find_engine("godot-4.6", config).name == "godot-4.6"
    assert find_engine("godot-3", config).short == "3.2.3"
    assert [*list_engines(config)] == ["godot-3", "godot-4.6", "godot-4.9", "godot-4.10", "godot-40"]


def test_configured_before_installed(tmp_path: Path) -> None:
    folder = tmp_path / "engines" / "godot-4.6"
    folder.mkdir(parents=True)
    record = {"command": ["{folder}/ld", "{folder}/godot"], "version": "4.6.3.stable"}
    (folder / "engine.json").write_text(json.dumps(record))
    found = candidates(settings_with(tmp_path))
    assert found["godot-4.6"].command == (f"{folder}/ld", f"{folder}/godot")
    assert candidates(settings_with(tmp_path, **{"godot-4.6": {"command": ["/own"]}}))["godot-4.6"].command == ("/own",)


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"command": ["/nowhere/godot"]}, "absolute path of a program"),
        ({"command": ["godot"]}, "absolute path of a program"),
        ({"command": ["/bin/true"]}, "does not say which version"),
    ],
)
def test_engine_that_does_not_start_is_listed_with_its_reason(tmp_path: Path, config: dict, match: str) -> None:
    settings = settings_with(tmp_path, bad=config)
    with pytest.raises(EngineMissing, match=match):
        find_engine("bad", settings)
    (error,) = list_engines(settings).values()
    assert isinstance(error, EngineMissing)


def test_missing_engine_names_the_command_that_fetches_it(tmp_path: Path) -> None:
    with pytest.raises(EngineMissing, match=r"engines install godot-4\.6.*there are: none"):
        find_engine("godot-4", settings_with(tmp_path))
    with pytest.raises(EngineMissing, match="CLOUDBAKER_ENGINES") as caught:
        find_engine("unreal-5", settings_with(tmp_path))
    assert "install" not in caught.value.message


def test_damaged_record_names_the_remedy(tmp_path: Path) -> None:
    folder = tmp_path / "engines" / "godot-3"
    folder.mkdir(parents=True)
    (folder / "engine.json").write_text("{")
    with pytest.raises(EngineMissing, match="install the engine again"):
        find_engine("godot-3", settings_with(tmp_path))


def test_probe_gets_no_network_and_no_home(tmp_path: Path) -> None:
    path = tmp_path / "opt" / "godot"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\nls /root /home >/dev/null 2>&1 && echo 9.9.stable || echo 4.6.stable.hidden\n")
    path.chmod(0o755)
    assert probe_version((str(path),), (path.parent,)) == "4.6.stable.hidden"


# -- installing --------------------------------------------------------------------------------------------------------


def test_unknown_engines_and_missing_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineMissing, match=r"there are godot-3, godot-3\.6, godot-4\.6"):
        install.install_engine("unity", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="apt-get and dpkg-deb"):
        install.install_engine("godot-3", tmp_path)


def test_engine_that_is_there_is_left_alone_and_can_be_removed(tmp_path: Path) -> None:
    folder = tmp_path / "godot-3"
    folder.mkdir()
    (folder / "engine.json").write_text(json.dumps({"command": ["x"], "version": "3.2.3.stable"}))
    assert install.install_engine("godot-3", tmp_path) == "3.2.3.stable"
    assert install.remove_engine("godot-3", tmp_path)
    assert not folder.exists()
    assert not install.remove_engine("godot-3", tmp_path)
    assert not install.remove_engine("../etc", tmp_path)


def test_failed_fetch_leaves_nothing_and_removes_what_was_abandoned(tmp_path: Path) -> None:
    abandoned = tmp_path / "prefix" / ".godot-3.12345678"
    abandoned.mkdir(parents=True)
    empty = tmp_path / "archive"
    empty.mkdir()
    with pytest.raises(ToolMissing, match="apt-get failed"):
        install.install_engine("godot-3", tmp_path / "prefix", mirror=f"file:{empty}")
    assert list((tmp_path / "prefix").iterdir()) == []


def test_command_uses_the_loader_that_came_with_the_engine(tmp_path: Path) -> None:
    for name in ("usr/lib64/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu/libc.so.6", "usr/bin/godot"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    command = install._command(tmp_path, install.PACKAGES["godot-4.6"])
    assert command == [
        "{folder}/root/usr/lib64/ld-linux-x86-64.so.2",
        "--library-path",
        "{folder}/root/usr/lib/x86_64-linux-gnu",
        "{folder}/root/usr/bin/godot",
    ]
    (tmp_path / "usr/bin/godot").unlink()
    with pytest.raises(EngineMissing, match="hold no usr/bin/godot"):
        install._command(tmp_path, install.PACKAGES["godot-4.6"])


@pytest.mark.slow
def test_engine_is_fetched_from_debian(tmp_path: Path) -> None:
    try:
        version = install.install_engine("godot-3", tmp_path)
    except ToolMissing as error:
        pytest.skip(error.message)
    assert version.startswith("3.2")
    engine = find_engine(
        "godot-3", settings_with(tmp_path.parent, **{}).model_copy(update={"engines_prefix": tmp_path})
    )
    assert engine.version == version
