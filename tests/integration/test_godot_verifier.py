"""The verifier that games ship, in the real engines: what is signed loads, everything else is refused."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloudbaker.canonical import canonical_json
from cloudbaker.compute.godot import godot3, godot4
from cloudbaker.compute.godot.adapter import PROJECT, EngineJob, config_text, run_engine
from cloudbaker.compute.godot.engines import Engine, find_engine
from cloudbaker.compute.godot.pck import write_pck
from cloudbaker.compute.signing import dsse, keys
from cloudbaker.compute.signing.revocations import Revocations, sign_revocations
from cloudbaker.compute.signing.statement import PAYLOAD_TYPE, build_statement
from cloudbaker.errors import CloudBakerError
from cloudbaker.model import AssetRef, Blob, Source
from cloudbaker.settings import settings

DOCS = Path(__file__).parents[2] / "docs" / "godot"
VERIFIERS = {"godot-3.6": DOCS / "cloudbaker_verify_godot3.gd", "godot-4": DOCS / "cloudbaker_verify.gd"}
GAME4 = """extends SceneTree

func _init():
	var verifier = load("res://verify.gd").new([FileAccess.get_file_as_string("res://key.pem")])
	var answers = {}
	for name in JSON.parse_string(FileAccess.get_file_as_string("res://cases.json")):
		var folder = "/scratch/cases/" + name + "/"
		var listed = verifier.load_revocations(folder + "revocations.dsse.json")
		var answer = verifier.load_pack(folder + "mod.pck", folder + "provenance.dsse.json")
		answers[name] = {"ok": answer.ok, "error": answer.error, "root": answer.root, "listed": listed}
		answers[name]["loads"] = ResourceLoader.exists(answer.root + "a.tres") if answer.ok else false
	var file = FileAccess.open("/scratch/home/answers.json", FileAccess.WRITE)
	file.store_string(JSON.stringify(answers))
	file.close()
	quit()
"""
GAME3 = """extends SceneTree

func _init():
	var verifier = load("res://verify.gd").new([text("res://key.pem")])
	var answers = {}
	for name in JSON.parse(text("res://cases.json")).result:
		var folder = "/scratch/cases/" + name + "/"
		var listed = verifier.load_revocations(folder + "revocations.dsse.json")
		var answer = verifier.load_pack(folder + "mod.pck", folder + "provenance.dsse.json")
		answers[name] = {"ok": answer.ok, "error": answer.error, "root": answer.root, "listed": listed}
		answers[name]["loads"] = ResourceLoader.exists(answer.root + "a.tres") if answer.ok else false
	var file = File.new()
	file.open("/scratch/home/answers.json", File.WRITE)
	file.store_string(to_json(answers))
	file.close()
	quit()

func text(path):
	var file = File.new()
	file.open(path, File.READ)
	return file.get_as_text()
"""
RESOURCE = b'[gd_resource type="Curve" format=2]\n\n[resource]\nmax_value = 2.0\n'


@pytest.mark.parametrize("name", sorted(VERIFIERS))
def test_verifier_in_the_engine(name: str, tmp_path: Path, tell: Callable[[str], None]) -> None:
    try:
        engine = find_engine(name, settings())
    except CloudBakerError as error:
        pytest.skip(error.message)
    mine, theirs = keys.generate(tmp_path / "mine"), keys.generate(tmp_path / "theirs")
    cases, expected = _cases(engine, mine, theirs)
    files: dict[str, bytes | memoryview | Path] = {
        f"{PROJECT}/project.godot": config_text({"": {"config_version": str(engine.major + 1)}}).encode(),
        f"{PROJECT}/verify.gd": VERIFIERS[name],
        f"{PROJECT}/game.gd": (GAME3 if engine.major == 3 else GAME4).encode(),
        f"{PROJECT}/key.pem": mine.public[0].pem(),
        f"{PROJECT}/cases.json": json.dumps(list(cases)).encode(),
    }
    for case, contents in cases.items():
        files |= {f"cases/{case}/{name_}": data for name_, data in contents.items()}
    adapter = godot3 if engine.major == 3 else godot4
    outcome = run_engine(
        EngineJob(engine, files, adapter.script_arguments("res://game.gd"), ("home/answers.json",))
    ).unwrap()
    assert "home/answers.json" in outcome.files, outcome.value["stderr"]
    answers = json.loads(outcome.files["home/answers.json"])
    for case, reason in expected.items():
        answer = answers[case]
        if reason:
            assert not answer["ok"], case
            assert reason in answer["error"], (case, answer)
        else:
            assert answer["ok"], (case, answer)
            assert answer["root"] == "res://mods/demo/"
            assert answer["loads"]
    refused = sum(map(bool, expected.values()))
    tell(f"Godot {engine.short}: {len(expected) - refused} loaded, {refused} refused")


def test_verifiers_are_short_enough_to_be_read() -> None:
    assert all(len(path.read_text().splitlines()) <= 200 for path in VERIFIERS.values())


def _pack(engine: Engine, files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    write_pck(files, target, format=engine.pack_format, engine=engine.number)
    return target.getvalue()


def _envelope(pack: bytes, engine: str, signer: keys.Keys, *, name: str = "mod.pck") -> bytes:
    statement = build_statement(
        files={name: pack},
        asset=AssetRef("a", "b", "c"),
        recipe="godot-4",
        recipe_hash="0" * 64,
        bake_key="0" * 64,
        sources=[Source("manifest.tres", "text/plain", Blob("0" * 64, 1, "k"))],
        tools={},
        isolation="test",
        run_id="r",
        started_at=datetime.now(UTC),
        finished_at=datetime.now(UTC),
        engine=engine,
    )
    return dsse.dumps(dsse.sign(canonical_json(statement), PAYLOAD_TYPE, signer)).encode()


def _cases(engine: Engine, mine: keys.Keys, theirs: keys.Keys) -> tuple[dict[str, dict[str, bytes]], dict[str, str]]:
    """Packs with envelopes, and why each is to be refused (empty: it is to load)."""
    good = _pack(engine, {"mods/demo/a.tres": RESOURCE})
    signed = _envelope(good, engine.identity, mine)
    cases: dict[str, dict[str, bytes]] = {}
    expected: dict[str, str] = {}

    def add(name: str, reason: str, pack: bytes = good, envelope: bytes = signed, revocations: bytes = b"") -> None:
        cases[name] = {"mod.pck": pack, "provenance.dsse.json": envelope}
        if revocations:
            cases[name]["revocations.dsse.json"] = revocations
        expected[name] = reason

    def tampered(change: Callable[[dict], None]) -> bytes:
        envelope = json.loads(signed)
        change(envelope)
        return json.dumps(envelope).encode()

    def other_payload(envelope: dict) -> None:
        payload = base64.b64decode(envelope["payload"]).replace(b'"asset":"a/b/c"', b'"asset":"a/b/d"')
        envelope["payload"] = base64.b64encode(payload).decode()

    untrusted = "not signed by a key"
    add("good", "")
    add("pack-changed", "not the one that was signed", good[:-40] + bytes([good[-40] ^ 1]) + good[-39:])
    add("pack-longer", "not the one that was signed", good + b"\0")
    add("foreign-key", untrusted, envelope=_envelope(good, engine.identity, theirs))
    add("payload-changed", untrusted, envelope=tampered(other_payload))
    add("type-changed", untrusted, envelope=tampered(lambda e: e.update(payloadType="text/plain")))
    add("unsigned", untrusted, envelope=tampered(lambda e: e.update(signatures=[])))
    add("stolen-key-id", untrusted, envelope=_with_key_id(good, engine, theirs, mine))
    add("no-json", untrusted, envelope=b"\x00\xffnot json")
    add("empty", untrusted, envelope=b"")
    add("other-file", "not the one that was signed", envelope=_envelope(good, engine.identity, mine, name="b.pck"))
    newer = f"godot {engine.number[0]}.{engine.number[1] + 1}.0.stable"
    add("newer-engine", "was baked for", envelope=_envelope(good, newer, mine))
    add("other-engine", "was baked for", envelope=_envelope(good, f"godot {7 - engine.major}.0.0.stable", mine))
    add("no-engine", "not baked for Godot", envelope=_envelope(good, "", mine))
    # What the publisher's own tool would never sign; a stolen bake service might.
    outside = _pack(engine, {"mods/demo/a.tres": RESOURCE, "core.tres": RESOURCE})
    add("outside", "outside of its folder", outside, _envelope(outside, engine.identity, mine))
    two = _pack(engine, {"mods/demo/a.tres": RESOURCE, "mods/demo2/a.tres": RESOURCE})
    add("two-mods", "outside of its folder", two, _envelope(two, engine.identity, mine))
    appended = b"\x89PNG" + bytes(60) + good
    add("appended", "can't be read", appended, _envelope(appended, engine.identity, mine))
    if engine.major == 4:
        for flag, what in ((1, "encrypted"), (2, "removal"), (4, "delta")):
            flagged = good[:-4] + bytes([flag, 0, 0, 0])  # format 3: the directory, and so its last flags, come last
            add(what, "can't be read", flagged, _envelope(flagged, engine.identity, mine))
    # The list grows: from here on everything of this pack is refused, and an older list changes nothing.
    import hashlib

    digest = hashlib.sha256(good).hexdigest()
    second = Revocations().adding().adding(packs=[digest])
    add("revoked-pack", "taken back", revocations=sign_revocations(second, mine).encode())
    add("older-list", "taken back", revocations=sign_revocations(Revocations().adding(), mine).encode())
    add("forged-list", "taken back", revocations=sign_revocations(Revocations(9), theirs).encode())
    return cases, expected


def _with_key_id(pack: bytes, engine: Engine, signer: keys.Keys, name: keys.Keys) -> bytes:
    """An envelope of one's own, under the name of somebody else's key."""
    envelope = json.loads(_envelope(pack, engine.identity, signer))
    for signature, key in zip(envelope["signatures"], name.public, strict=True):
        signature["keyid"] = key.key_id
    return json.dumps(envelope).encode()
