"""The signed list of what is taken back: it grows, it is checked, and no other envelope passes for one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cloudbaker.compute.signing import dsse, keys
from cloudbaker.compute.signing.revocations import (
    PAYLOAD_TYPE,
    Revocations,
    load_revocations,
    read_revocations,
    revoke_more,
    sign_revocations,
)
from cloudbaker.errors import SignatureInvalid, SigningKeyError, UsageError

DIGEST = "ab" * 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keys.generate(tmp_path / "keys")
    return tmp_path / "keys"


def test_list_grows_and_survives_new_keys(folder: Path) -> None:
    assert load_revocations(folder) == Revocations()
    assert revoke_more(folder, packs=[DIGEST]).number == 1
    old = keys.load(folder).public[0].key_id
    keys.generate(folder, overwrite=True)
    listed = revoke_more(folder, keys=[old])
    assert listed == load_revocations(folder) == Revocations(2, frozenset({old}), frozenset({DIGEST}))


def test_present_key_cant_take_itself_back(folder: Path) -> None:
    with pytest.raises(SigningKeyError, match="keys --new"):
        revoke_more(folder, keys=[keys.load(folder).public[1].key_id])
    assert load_revocations(folder).number == 0


def test_only_digests_are_taken(folder: Path) -> None:
    with pytest.raises(UsageError, match="64 hex digits"):
        revoke_more(folder, packs=["oak.pck"])


@pytest.mark.parametrize(
    "payload", [b"{}", b"[]", b'{"number":-1,"keys":[],"packs":[]}', b'{"number":1,"keys":["x"],"packs":[]}', b"\xff"]
)
def test_signed_nonsense_is_refused(folder: Path, payload: bytes) -> None:
    pair = keys.load(folder)
    with pytest.raises(SignatureInvalid):
        read_revocations(dsse.dumps(dsse.sign(payload, PAYLOAD_TYPE, pair)), pair.public)


def test_other_envelopes_and_other_signers_are_refused(folder: Path, tmp_path: Path) -> None:
    pair, others = keys.load(folder), keys.generate(tmp_path / "others")
    payload = json.dumps({"number": 1, "keys": [], "packs": []}).encode()
    with pytest.raises(SignatureInvalid):
        read_revocations(dsse.dumps(dsse.sign(payload, dsse.IN_TOTO, pair)), pair.public)
    with pytest.raises(SignatureInvalid):
        read_revocations(sign_revocations(Revocations(5), others), pair.public)
