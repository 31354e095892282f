"""``cloudbaker engines`` and the engines' line of ``cloudbaker doctor``; what a node of a cluster answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cloudbaker.cli import main
from cloudbaker.compute.godot.adapter import EngineJob
from cloudbaker.compute.godot.engines import Engine
from cloudbaker.compute.godot.remote import _run
from cloudbaker.compute.job import Outcome
from cloudbaker.errors import EngineMissing
from cloudbaker.settings import settings
from cloudbaker.tasks.doctor import examine


@pytest.fixture(autouse=True)
def two_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloudbaker.compute.godot.engines.ON_PATH", {})
    engines = {"godot-4.6": {"command": ["/opt/godot"], "version": "4.6.3.stable"}, "broken": {"command": ["/nowhere"]}}
    monkeypatch.setenv("CLOUDBAKER_ENGINES", json.dumps(engines))
    monkeypatch.setenv("CLOUDBAKER_ENGINES_PREFIX", str(tmp_path / "engines"))
    settings.cache_clear()


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def test_list_as_json_is_its_contract(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("engines", "list", "--json") == 0
    broken, good = json.loads(capsys.readouterr().out)
    assert good == {
        "name": "godot-4.6",
        "version": "4.6.3.stable",
        "pack_format": 3,
        "command": "/opt/godot",
        "error": None,
    }
    assert broken["name"] == "broken"
    assert broken["version"] is None
    assert "absolute path" in broken["error"]


def test_list_for_people_says_what_can_be_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("engines", "list") == 0
    shown = capsys.readouterr().out
    assert "4.6.3.stable" in shown
    assert "engines install`: godot-3, godot-3.6" in shown


def test_install_of_an_unknown_engine_and_remove_of_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("engines", "install", "godot-9") == 1
    assert "there are godot-3" in capsys.readouterr().err
    assert run("engines", "remove", "godot-3") == 0
    assert "was not installed" in capsys.readouterr().out


def test_doctor_names_the_engine_that_does_not_start() -> None:
    (check,) = (c for c in examine(settings()) if c.name == "engines")
    assert not check.ok
    assert not check.needed
    assert check.says.startswith("broken: ")


def test_a_node_refuses_another_version_and_runs_its_own(tmp_path: Path) -> None:
    program = tmp_path / "opt" / "godot"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n[ "$1" = --version ] && echo 4.6.1.stable\ncat project/x 2>/dev/null\n')
    program.chmod(0o755)
    content = np.frombuffer(b"from the driver", np.uint8)
    for version, expected in (("4.6.3.stable", EngineMissing), ("4.6.1.stable", Outcome)):
        engine = Engine("godot-4.6", (str(program),), version, (program.parent,), 3)
        answer = _run(EngineJob(engine, {}, ("--x",)), ["project/x"], content)
        assert isinstance(answer, expected)
    assert isinstance(answer, Outcome)
    assert answer.value["stdout"] == "from the driver"
