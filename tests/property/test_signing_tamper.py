"""Whatever byte is changed, a verification fails or the change meant nothing."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cloudbaker.canonical import canonical_json
from cloudbaker.compute.package import MANIFEST, build_manifest
from cloudbaker.compute.signing import dsse, keys, statement
from cloudbaker.compute.signing.verify import verify_bundle
from cloudbaker.errors import SignatureInvalid
from cloudbaker.model import AssetRef, Blob, Source


@cache
def signing_keys() -> keys.Keys:
    with TemporaryDirectory() as folder:
        return keys.generate(Path(folder) / "keys")


@cache
def package() -> tuple[dict[str, bytes], bytes]:
    asset, now = AssetRef.parse("helmet"), datetime.now(UTC)
    models = {"model.glb": bytes(range(200))}
    row = {"name": "model.glb", "variant": "default", "triangles": 1, "vertices": 3, "compression": "none"}
    same = {"asset": asset, "recipe": "web", "recipe_hash": "a" * 64, "bake_key": "b" * 64}
    files = {**models, MANIFEST: build_manifest(**same, files=models, variants=[row])}  # type: ignore[arg-type]
    made = statement.build_statement(
        **same,  # type: ignore[arg-type]
        files=files,
        sources=[Source("a.glb", "model/gltf-binary", Blob("c" * 64, 1, "k"))],
        tools={},
        isolation="trusted",
        run_id="r",
        started_at=now,
        finished_at=now,
    )
    envelope = dsse.dumps(dsse.sign(canonical_json(made), statement.PAYLOAD_TYPE, signing_keys()))
    return files, envelope.encode()


def meaning(envelope: bytes) -> Any:
    """What an envelope says: JSON without white space, base64 in either alphabet decoded."""
    data = json.loads(envelope)

    def decode(text: str) -> bytes:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)

    return (
        data["payloadType"],
        decode(data["payload"]),
        sorted((entry["keyid"], decode(entry["sig"])) for entry in data["signatures"]),
    )


@settings(max_examples=400)
@given(at=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_a_flipped_byte_of_the_envelope(at: int, flip: int) -> None:
    files, envelope = package()
    changed = bytearray(envelope)
    changed[at % len(envelope)] ^= flip
    report = verify_bundle(files, bytes(changed), signing_keys().public)
    if report.ok:
        assert meaning(bytes(changed)) == meaning(envelope)


@settings(max_examples=400)
@given(at=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_a_flipped_byte_of_the_payload(at: int, flip: int) -> None:
    files, envelope = package()
    data = json.loads(envelope)
    payload = bytearray(base64.b64decode(data["payload"]))
    payload[at % len(payload)] ^= flip
    data["payload"] = base64.b64encode(payload).decode()
    assert [p.code for p in verify_bundle(files, data, signing_keys().public).problems] == ["signature.invalid"]


@given(name=st.sampled_from(["model.glb", MANIFEST]), at=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_a_flipped_byte_of_a_file(name: str, at: int, flip: int) -> None:
    files, envelope = package()
    changed = bytearray(files[name])
    changed[at % len(changed)] ^= flip
    report = verify_bundle({**files, name: bytes(changed)}, envelope, signing_keys().public)
    assert [(p.code, p.place) for p in report.problems] == [("package.file-changed", name)]


@given(payload=st.binary(max_size=300), kind=st.text(max_size=20))
def test_what_is_signed_verifies_and_only_as_its_type(payload: bytes, kind: str) -> None:
    envelope = dsse.sign(payload, kind, signing_keys())
    assert dsse.verify(dsse.dumps(envelope), signing_keys().public, payload_type=kind).payload == payload
    try:
        dsse.verify(envelope, signing_keys().public, payload_type=kind + "x")
    except SignatureInvalid:
        return
    raise AssertionError("accepted as another type")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "payload": json_values,
            "payloadType": st.just(dsse.IN_TOTO) | json_values,
            "signatures": json_values | st.lists(st.fixed_dictionaries({"keyid": json_values, "sig": json_values})),
        },
    )
    | json_values
)
def test_any_json_for_an_envelope_is_refused_with_the_typed_error(envelope: Any) -> None:
    for form in (envelope, json.dumps(envelope)):
        try:
            dsse.verify(form, signing_keys().public)
        except SignatureInvalid as error:
            assert error.exit_code == 3  # noqa: PT017  both forms are tried, whatever the first does
            continue
        raise AssertionError("an unsigned envelope was accepted")
