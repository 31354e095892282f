from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloudbaker.compute.signing import dsse, keys
from cloudbaker.errors import SignatureInvalid, SigningKeyError

TYPE = "application/vnd.in-toto+json"


@pytest.fixture
def signed(signing_keys: keys.Keys) -> dict[str, Any]:
    return dsse.sign(b'{"a":1}', TYPE, signing_keys)


def test_pae_is_that_of_the_specification() -> None:
    # The example of the DSSE protocol
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert dsse.pae("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "  # lengths are in bytes


def test_sign_and_verify_in_all_forms(signing_keys: keys.Keys, signed: dict[str, Any]) -> None:
    for form in (signed, dsse.dumps(signed), dsse.dumps(signed).encode(), json.dumps(signed, indent=2)):
        verified = dsse.verify(form, signing_keys.public)
        assert verified.payload == b'{"a":1}'
        assert set(verified.key_ids) == {key.key_id for key in signing_keys.public}


def test_a_game_with_one_public_key_is_enough(signing_keys: keys.Keys, signed: dict[str, Any]) -> None:
    for key in signing_keys.public:
        assert dsse.verify(signed, [key]).key_ids == (key.key_id,)


def test_a_stripped_signature_is_noticed_unless_any_is_enough(signing_keys: keys.Keys, signed: dict[str, Any]) -> None:
    for left in signed["signatures"]:
        stripped = {**signed, "signatures": [left]}
        with pytest.raises(SignatureInvalid, match="missing or by an unknown key"):
            dsse.verify(stripped, signing_keys.public)
        assert dsse.verify(stripped, signing_keys.public, require="any").key_ids == (left["keyid"],)


def test_retired_keys_still_verify_what_they_signed(tmp_path: Path) -> None:
    old = dsse.sign(b"x", TYPE, keys.generate(tmp_path / "keys"))
    new = dsse.sign(b"y", TYPE, keys.generate(tmp_path / "keys", overwrite=True))
    trusted = keys.load_public(tmp_path / "keys")
    assert len(trusted) == 4
    assert [dsse.verify(envelope, trusted).payload for envelope in (old, new)] == [b"x", b"y"]


def test_keys_of_others_count_for_nothing(tmp_path: Path, signing_keys: keys.Keys, signed: dict[str, Any]) -> None:
    other = keys.generate(tmp_path / "other")
    for require in ("all", "any"):
        with pytest.raises(SignatureInvalid, match="none of the keys you trust"):
            dsse.verify(signed, other.public, require=require)
    countersigned = copy.deepcopy(signed)
    countersigned["signatures"] += dsse.sign(b'{"a":1}', TYPE, other)["signatures"]
    assert len(dsse.verify(countersigned, signing_keys.public).key_ids) == 2
    assert len(dsse.verify(countersigned, other.public).key_ids) == 2


def test_the_kind_of_the_key_decides_not_the_envelope(signing_keys: keys.Keys, signed: dict[str, Any]) -> None:
    """Swapping the ids makes each signature be checked by the key of the other kind; naming an algorithm is no use."""
    swapped = copy.deepcopy(signed)
    first, second = swapped["signatures"]
    first["keyid"], second["keyid"] = second["keyid"], first["keyid"]
    first["alg"] = "none"
    for require in ("all", "any"):
        with pytest.raises(SignatureInvalid, match="does not match"):
            dsse.verify(swapped, signing_keys.public, require=require)


def test_one_wrong_signature_of_a_known_key_fails_even_if_any_is_enough(
    signing_keys: keys.Keys, signed: dict[str, Any]
) -> None:
    broken = copy.deepcopy(signed)
    broken["signatures"][1]["sig"] = base64.b64encode(bytes(64)).decode()
    with pytest.raises(SignatureInvalid, match="ed25519 signature"):
        dsse.verify(broken, signing_keys.public, require="any")


def test_a_payload_of_another_type_is_refused(signing_keys: keys.Keys) -> None:
    other = dsse.sign(b"{}", "text/plain", signing_keys)
    with pytest.raises(SignatureInvalid, match="of type 'text/plain'"):
        dsse.verify(other, signing_keys.public)
    renamed = {**other, "payloadType": TYPE}  # the type is signed too
    with pytest.raises(SignatureInvalid, match="does not match"):
        dsse.verify(renamed, signing_keys.public)


def test_url_safe_base64_is_taken(signing_keys: keys.Keys) -> None:
    payload = bytes(range(256))
    envelope = dsse.sign(payload, TYPE, signing_keys)
    url_safe = {**envelope, "payload": envelope["payload"].replace("+", "-").replace("/", "_")}
    assert url_safe != envelope
    assert dsse.verify(url_safe, signing_keys.public).payload == payload
    mixed = {**envelope, "payload": envelope["payload"].replace("+", "-", 1)}
    with pytest.raises(SignatureInvalid, match="base64"):
        dsse.verify(mixed, signing_keys.public)


@pytest.mark.parametrize(
    "text",
    ["", "YQ", "YQ=", "YR==", "YQ==\n", " YQ==", "Y Q==", "YQ====", "Y\u0430==", "!", "YQ==YQ=="],
)
def test_base64_is_strict(signing_keys: keys.Keys, signed: dict[str, Any], text: str) -> None:
    """``YR==`` decodes to the same byte as ``YQ==`` in Python: two envelopes for one payload."""
    signed["payload"] = text
    with pytest.raises(SignatureInvalid):
        dsse.verify(signed, signing_keys.public)


def no_list(e: dict[str, Any]) -> Any:
    return {**e, "signatures": {"0": e["signatures"][0]}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: [], "no JSON object"),
        (lambda e: {}, "lacks 'payloadType'"),
        (lambda e: {**e, "payload": 7}, "lacks 'payload'"),
        (lambda e: {**e, "payload": None}, "lacks 'payload'"),
        (lambda e: {**e, "signatures": []}, "1 to 64 signatures"),
        (lambda e: {**e, "signatures": e["signatures"] * 40}, "1 to 64 signatures"),
        (no_list, "1 to 64 signatures"),
        (lambda e: {**e, "signatures": ["x"]}, "no JSON object"),
        (lambda e: {**e, "signatures": [{"keyid": 3, "sig": ""}]}, "no text"),
        (lambda e: {**e, "signatures": [{"keyid": "x"}]}, "lacks 'sig'"),
        (lambda e: {**e, "signatures": [{"sig": e["signatures"][0]["sig"]}]}, "none of the keys"),
    ],
)
def test_malformed_envelopes(
    signing_keys: keys.Keys, signed: dict[str, Any], change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    for form in (change(signed), json.dumps(change(signed))):
        with pytest.raises(SignatureInvalid, match=message):
            dsse.verify(form, signing_keys.public)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[" * 100_000,
        b'{"payload":"YQ==","payload":"Yg=="}',
        b'{"payload":NaN}',
        b'{"payload":' + b"9" * 10_000 + b"}",
        b" " * ((16 << 20) + 1),
    ],
    ids=["empty", "not-utf8", "null", "deep", "duplicate", "nan", "bigint", "huge"],
)
def test_hostile_json_is_an_invalid_signature(signing_keys: keys.Keys, text: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        dsse.verify(text, signing_keys.public)


def test_without_a_key_nothing_is_verified(signed: dict[str, Any]) -> None:
    with pytest.raises(SigningKeyError, match="public key"):
        dsse.verify(signed, [])
