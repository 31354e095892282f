from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from cloudbaker.canonical import canonical_json
from cloudbaker.compute.signing.statement import parse_statement
from cloudbaker.errors import SignatureInvalid

Make = Callable[..., dict[str, Any]]


def test_a_statement_has_the_fields_of_in_toto_and_slsa(make_statement: Make) -> None:
    made = make_statement({"b.glb": b"b", "a.glb": b"a"}, engine="godot-4.6.3")
    assert made["_type"] == "https://in-toto.io/Statement/v1"
    assert made["predicateType"] == "https://slsa.dev/provenance/v1"
    assert made["subject"] == [
        {"name": name, "digest": {"sha256": hashlib.sha256(name[:1].encode()).hexdigest()}}
        for name in ("a.glb", "b.glb")
    ]
    definition, details = made["predicate"]["buildDefinition"], made["predicate"]["runDetails"]
    assert definition["externalParameters"] == {
        "asset": "acme/robots/helmet",
        "recipe": {"name": "web", "sha256": "a" * 64},
    }
    assert definition["internalParameters"] == {
        "bakeKey": "b" * 64,
        "engine": "godot-4.6.3",
        "isolation": "landlock+seccomp",
        "tools": {"DracoPy": "2.2.0"},
    }
    assert definition["resolvedDependencies"] == [
        {"name": "helmet.gltf", "digest": {"sha256": "c" * 64}, "mediaType": "model/gltf+json"}
    ]
    assert details["builder"]["id"].startswith("urn:cloudbaker:")
    assert details["metadata"] == {
        "invocationId": "run-1",
        "startedOn": "2026-11-20T12:00:00.000Z",
        "finishedOn": "2026-11-20T12:00:00.000Z",
    }


def test_reading_gives_back_what_was_written(make_statement: Make) -> None:
    read = parse_statement(canonical_json(make_statement({"a.glb": b"a"})))
    assert read.subjects == {"a.glb": hashlib.sha256(b"a").hexdigest()}
    assert (read.asset, read.recipe, read.recipe_hash) == ("acme/robots/helmet", "web", "a" * 64)
    assert (read.bake_key, read.run_id, read.isolation) == ("b" * 64, "run-1", "landlock+seccomp")
    assert read.finished_on == "2026-11-20T12:00:00.000Z"


def test_times_are_utc_and_never_guessed(make_statement: Make) -> None:
    local = datetime(2026, 11, 20, 13, tzinfo=timezone(timedelta(hours=1)))
    made = make_statement({"a.glb": b""}, started_at=local)
    assert made["predicate"]["runDetails"]["metadata"]["startedOn"] == "2026-11-20T12:00:00.000Z"
    with pytest.raises(ValueError, match="need a zone"):
        make_statement({"a.glb": b""}, started_at=local.replace(tzinfo=None))
    assert local.astimezone(UTC).hour == 12


def test_a_statement_about_nothing_is_refused(make_statement: Make) -> None:
    with pytest.raises(ValueError, match="at least one file"):
        make_statement({})


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"),
        lambda s: s.update(predicateType="other"),
        lambda s: s["predicate"]["buildDefinition"].update(buildType="other"),
        lambda s: s.update(subject=[]),
        lambda s: s.update(subject=s["subject"] * 2),
        lambda s: s.update(subject=[{"name": "a.glb", "digest": {"sha512": "00"}}]),
        lambda s: s.update(subject=[{"name": "a.glb", "digest": {"sha256": "A" * 64}}]),
        lambda s: s.update(subject=[{"name": None, "digest": {"sha256": "a" * 64}}]),
        lambda s: s.update(subject={}),
        lambda s: s.update(predicate=[]),
        lambda s: s.pop("subject"),
    ],
)
def test_other_statements_are_refused(make_statement: Make, change: Callable[[dict[str, Any]], Any]) -> None:
    made = json.loads(canonical_json(make_statement({"a.glb": b"a"})))
    change(made)
    with pytest.raises(SignatureInvalid, match="can't be used"):
        parse_statement(canonical_json(made))


@pytest.mark.parametrize("payload", [b"", b"[]", b"7", b"\xff", b"{}", b"[" * 100_000])
def test_payloads_that_are_no_statement(payload: bytes) -> None:
    with pytest.raises(SignatureInvalid, match="can't be used"):
        parse_statement(payload)


def test_missing_optional_fields_read_as_empty(make_statement: Make) -> None:
    made = make_statement({"a.glb": b"a"})
    made["predicate"] = {"buildDefinition": {"buildType": made["predicate"]["buildDefinition"]["buildType"]}}
    read = parse_statement(canonical_json(made))
    assert (read.asset, read.bake_key, read.run_id) == ("", "", "")
