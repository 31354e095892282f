"""The command line as a user calls it: a process, its output, its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cloudbaker.testing import models


def cloudbaker(*arguments: object, code: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from cloudbaker.cli import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, **options)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "box.glb"
    path.write_bytes(models.box())
    return path


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from cloudbaker.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'prefect', 'ray', 'duckdb', 'numpy', 'sqlalchemy', 'pydantic', 'rich'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "HEAVY []" in done.stdout
    for command in ("bake", "inspect", "validate", "verify", "rebake", "catalog", "keys", "doctor", "up", "down"):
        assert f"  {command} " in done.stdout


def test_a_session_at_a_terminal(home: Path, model: Path, tmp_path: Path) -> None:
    first = cloudbaker("bake", model, "--no-previews", "--mode", "direct")
    assert "local/default/box@1 baked and published" in first.stdout
    assert "nothing was lost" in first.stdout
    assert "unchanged" in cloudbaker("bake", model, "--no-previews", "--mode", "direct").stdout

    found = json.loads(cloudbaker("catalog", "versions", "box", "--json").stdout)
    assert [v["number"] for v in found] == [1]
    rows = json.loads(cloudbaker("catalog", "sql", "select asset, number from versions", "--json").stdout)
    assert rows == [{"asset": "local/default/box", "number": 1}]
    assert json.loads(cloudbaker("catalog", "usage", "--json").stdout)[0]["tenant"] == "local"

    assert "every file is what was signed" in cloudbaker("verify", "box@1").stdout
    for target in (tmp_path / "out", tmp_path / "out.zip"):
        cloudbaker("catalog", "export", "box", target)
        assert json.loads(cloudbaker("verify", target, "--json").stdout)["ok"] is True
    (tmp_path / "out" / "model.glb").write_bytes(b"glTF")
    assert "is not what was signed" in cloudbaker("verify", tmp_path / "out", code=3).stdout

    plan = json.loads(cloudbaker("rebake", "--plan", "--recipe", "web-lite", "--json").stdout)
    assert plan["stale"] == 1
    assert plan["reasons"] == {"recipe web → web-lite": 1}
    assert json.loads(cloudbaker("rebake", "--plan", "--json").stdout)["unchanged"] == 1
    assert "PRIVATE" not in cloudbaker("keys", "--json").stdout
    cloudbaker("doctor")


def test_logs_are_structured_and_carry_the_correlation_id(home: Path, model: Path) -> None:
    environment = os.environ | {"CLOUDBAKER_LOG_LEVEL": "info", "CLOUDBAKER_LOG_FORMAT": "json"}
    done = cloudbaker("bake", model, "--no-previews", "--mode", "direct", "--json", env=environment)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    stages = [line["stage"] for line in lines if line["event"] == "stage ended"]
    assert stages == ["ingest", "validate", "optimize", "preview", "package", "publish"]
    assert {line["run_id"] for line in lines} == {json.loads(done.stdout)["run_id"]}


def test_json_is_a_contract(home: Path, model: Path) -> None:
    result = json.loads(cloudbaker("bake", model, "--no-previews", "--mode", "direct", "--json").stdout)
    assert set(result) == {
        *("path", "run_id", "asset", "recipe", "mode", "state", "version", "engine", "bake_key", "channels", "seconds"),
        *("source_bytes", "files", "artifacts", "metrics", "findings", "losses", "error"),
    }
    assert set(result["files"][0]) == {
        *("file", "variant", "triangles", "bytes", "of_source", "error_mean_percent", "error_max_percent"),
        *("suggested_distance", "key"),
    }


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("bake", "none.glb"), 2, "CB1201"),
        (("bake", "box.glb", "--recipe", "nope"), 2, "CB1101"),
        (("bake", "box.glb", "--asset", "../up"), 2, "CB1001"),
        (("verify", "nobody@1"), 2, "CB1301"),
        (("catalog", "sql", "select nonsense"), 2, "CB1000"),
        (("rebake", "--plan", "--where", "1=1; drop table x"), 2, "CB1000"),
    ],
)
def test_errors_have_codes_remedies_and_exit_codes(
    home: Path, model: Path, arguments: tuple[str, ...], code: int, error: str
) -> None:
    cloudbaker("keys", cwd=model.parent)
    done = cloudbaker(*arguments, "--json", code=code, cwd=model.parent)
    facts = json.loads(done.stdout)["error"]
    assert facts["code"] == error
    assert facts["page"] == f"docs/errors/{error}.md"


def test_several_paths_are_baked_although_one_is_bad(home: Path, model: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.glb"
    bad.write_bytes(models.hostile("truncated"))
    done = cloudbaker("bake", bad, tmp_path / "none.glb", model, "--no-previews", "--mode", "direct", "--json", code=3)
    results = json.loads(done.stdout)
    assert [r.get("state") or r["error"]["code"] for r in results] == ["rejected", "CB1201", "completed"]


def test_validate_and_inspect(home: Path, model: Path, tmp_path: Path) -> None:
    assert json.loads(cloudbaker("validate", model, "--json").stdout)["verdict"] == "pass"
    bad = tmp_path / "bad.glb"
    bad.write_bytes(models.hostile("cyclic_nodes"))
    look = json.loads(cloudbaker("validate", bad, "--json", code=3).stdout)
    assert look["verdict"] == "reject"
    assert any("cycl" in f["message"] or "cycl" in f["code"] for f in look["findings"])
    tables = json.loads(cloudbaker("inspect", model, "--json").stdout)["facts"]
    assert tables["meshes"]


def test_terminal_escapes_in_names_are_not_obeyed(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "evil\x1b[31m.glb"
    path.write_bytes(b"nothing")
    done = cloudbaker("validate", path, code=3)
    assert "\x1b[31m" not in done.stdout
