from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudbaker.errors import NameRefused
from cloudbaker.model import (
    Artifact,
    AssetRef,
    Blob,
    Finding,
    Loss,
    Role,
    Run,
    Severity,
    Step,
    StepState,
    Verdict,
    VerdictKind,
    check_name,
    suggest_name,
    to_json,
)


@pytest.mark.parametrize("name", ["a", "0", "helmet", "a-b_c.d", "a" * 64])
def test_allowed_names(name: str) -> None:
    assert check_name("asset", name) == name


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "a..b", "../a", "a/b", "a\\b", "A", "é", "е", "a b", "-a", "a-", ".a", "a.", "_a", "a" * 65,
        "a\n", "a\0", "con:", "a\u202eb",
    ],
)  # fmt: skip
def test_refused_names_say_which_would_do(name: str) -> None:
    with pytest.raises(NameRefused, match=r"try '[a-z0-9]") as caught:
        check_name("asset", name)
    assert caught.value.facts == {"kind": "asset", "name": name}


@given(st.text(max_size=100))
def test_a_suggested_name_is_always_allowed(text: str) -> None:
    suggested = suggest_name(text)
    assert check_name("asset", suggested) == suggested
    assert suggest_name(suggested) == suggested


def test_suggestions_stay_readable() -> None:
    assert suggest_name("Flight Helmet (2)") == "flight-helmet-2"
    assert suggest_name("Ünïcode.v2") == "unicode.v2"
    assert suggest_name("日本") == "asset"


def test_asset_references() -> None:
    assert AssetRef.parse("helmet") == AssetRef("local", "default", "helmet")
    assert AssetRef.parse("robots/helmet", tenant="acme") == AssetRef("acme", "robots", "helmet")
    assert str(AssetRef.parse("acme/robots/helmet")) == "acme/robots/helmet"
    for text in ("a/b/c/d", "a//b", "/a", "", "A/b", "../b", "a/b/"):
        with pytest.raises(NameRefused):
            AssetRef.parse(text)


@given(st.tuples(*[st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,10}[a-z0-9])?", fullmatch=True)] * 3))
def test_a_reference_reads_back_what_it_writes(parts: tuple[str, str, str]) -> None:
    assert AssetRef.parse(str(AssetRef(*parts))) == AssetRef(*parts)


def finding(severity: Severity) -> Finding:
    return Finding("x.y", severity, "/meshes/0", "m", "r")


def test_only_an_error_rejects() -> None:
    assert Verdict.of(()).kind is VerdictKind.PASS
    assert Verdict.of((finding(Severity.WARNING), finding(Severity.INFO))).kind is VerdictKind.PASS
    mixed = Verdict.of((finding(Severity.INFO), finding(Severity.ERROR)))
    assert mixed.kind is VerdictKind.REJECT
    assert len(mixed.findings) == 2


def test_to_json_is_json() -> None:
    now = datetime(2026, 11, 20, tzinfo=UTC)
    artifact = Artifact(Role.MODEL_3D, "lod1", "lod1.glb", "model/gltf-binary", Blob("a" * 64, 3, "k"))
    shown = to_json(
        {
            "artifact": artifact,
            "run": Run("r", "bake", AssetRef.parse("a"), "web", "direct", now, "me"),
            "step": Step("r", "optimize", 1, StepState.DONE, now, now, metrics={"x": 1.5}),
            "findings": (finding(Severity.ERROR),),
            3: [Loss("name", "/nodes/0", "gone")],
        }
    )
    assert json.loads(json.dumps(shown)) == shown
    assert shown["artifact"]["role"] == "model_3d"
    assert shown["artifact"]["blob"] == {"sha256": "a" * 64, "size": 3, "storage_key": "k"}
    assert shown["run"]["asset"] == "local/default/a"
    assert shown["step"]["started_at"] == "2026-11-20T00:00:00+00:00"
    assert shown["findings"][0]["severity"] == "error"
    assert shown["3"][0]["kind"] == "name"
    assert Finding(**shown["findings"][0]) == finding(Severity.ERROR)
