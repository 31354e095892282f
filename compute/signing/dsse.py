"""DSSE envelopes (Dead Simple Signing Envelope, protocol v1.0.2): sign bytes together with their type, verify them.

A signature covers the *pre-authentication encoding* (PAE) of type and payload, never the JSON around it, so that
white space or key order of the envelope can't matter and nothing needs parsing before it is trusted. P-256 signatures
are DER over the SHA-256 of the PAE, Ed25519 signatures are over the PAE itself.

    >>> import tempfile; from pathlib import Path; from cloudbaker.compute.signing import keys
    >>> mine = keys.generate(Path(tempfile.mkdtemp()) / "keys")
    >>> verify(sign(b"{}", "application/json", mine), mine.public, payload_type="application/json").payload
    b'{}'
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cloudbaker.canonical import canonical_json
from cloudbaker.compute.signing.keys import Keys, PublicKey
from cloudbaker.errors import SignatureInvalid, SigningKeyError

IN_TOTO = "application/vnd.in-toto+json"
"""Payload type of an in-toto statement."""
MAX_ENVELOPE_BYTES = 16 << 20
MAX_SIGNATURES = 64

Require = Literal["all", "any"]


@dataclass(frozen=True, slots=True)
class Verified:
    """What an envelope holds, once its signatures are good."""

    payload: bytes
    payload_type: str
    key_ids: tuple[str, ...]
    """Ids of the known keys whose signatures were checked and good."""


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding: ``DSSEv1 SP len(type) SP type SP len(payload) SP payload``, lengths in bytes."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, payload_type: str, keys: Keys) -> dict[str, Any]:
    """An envelope over `payload` with one signature for each key."""
    message = pae(payload_type, payload)
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [
            {"keyid": signer.public.key_id, "sig": base64.b64encode(signer.sign(message)).decode()}
            for signer in keys.signers
        ],
    }


def dumps(envelope: Mapping[str, Any]) -> str:
    """The envelope as one line of JSON text, as it is stored and published."""
    return canonical_json(dict(envelope)).decode()


def verify(
    envelope: Mapping[str, Any] | str | bytes,
    public_keys: Sequence[PublicKey],
    *,
    payload_type: str = IN_TOTO,
    require: Require = "all",
) -> Verified:
    """Check an envelope's signatures against the keys you trust, and give back its payload.

    `require`: ``"all"`` wants, for *every kind* among `public_keys` (P-256, Ed25519), a good signature by a known key
    of that kind: nobody can strip the stronger one, and retired keys may stay in the list. ``"any"`` is content with
    one. Either way a signature that names a known key and is wrong fails the envelope; one by an unknown key counts
    for nothing. Key ids only choose which key to try; the key's own kind decides how.

    Raises `SignatureInvalid` on everything that is not such an envelope, `SigningKeyError` where no key is given.
    """
    if not public_keys:
        raise SigningKeyError("no public key to verify with: name the publisher's public key file")
    data = _parse(envelope)
    kind, payload = _text(data, "payloadType"), _base64(_text(data, "payload"), "payload")
    if kind != payload_type:
        raise _invalid(f"the payload is of type {kind[:80]!r}, not {payload_type!r}")
    message = pae(kind, payload)
    known = {key.key_id: key for key in public_keys}
    good: dict[str, PublicKey] = {}
    for key_id, signature in _signatures(data):
        key = known.get(key_id)
        if key is None:
            continue
        if not key.verifies(signature, message):
            raise _invalid(f"the {key.algorithm.value} signature of key {key_id[:12]} does not match the payload")
        good[key_id] = key
    if not good:
        raise _invalid("it is signed by none of the keys you trust")
    missing = {key.algorithm for key in known.values()} - {key.algorithm for key in good.values()}
    if require == "all" and missing:
        raise _invalid(f"the {' and '.join(sorted(missing))} signature is missing or by an unknown key")
    return Verified(payload, kind, tuple(good))


def loads_strict(text: str | bytes) -> Any:
    """Parse JSON that must mean the same to every reader: UTF-8, no duplicate key, no NaN. Raises ValueError."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _parse(envelope: Mapping[str, Any] | str | bytes) -> Mapping[str, Any]:
    if isinstance(envelope, (str, bytes)):
        if len(envelope) > MAX_ENVELOPE_BYTES:
            raise _invalid(f"the envelope is larger than {MAX_ENVELOPE_BYTES >> 20} MiB")
        try:
            envelope = loads_strict(envelope)
        except ValueError as error:
            raise _invalid(f"the envelope is no JSON ({error})") from None
    if not isinstance(envelope, Mapping):
        raise _invalid("the envelope is no JSON object")
    return envelope


def _signatures(data: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """Key id and signature bytes of each entry; other fields are ignored, as the specification asks."""
    entries = data.get("signatures")
    if not isinstance(entries, list) or not 0 < len(entries) <= MAX_SIGNATURES:
        raise _invalid(f"the envelope needs 1 to {MAX_SIGNATURES} signatures")
    found = []
    for entry in entries:
        if not isinstance(entry, Mapping):
            raise _invalid("a signature is no JSON object")
        key_id = entry.get("keyid", "")  # optional in DSSE; without one no key of ours is meant
        if not isinstance(key_id, str):
            raise _invalid("a signature's keyid is no text")
        found.append((key_id, _base64(_text(entry, "sig"), "sig")))
    return found


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str):
        raise _invalid(f"the envelope lacks {name!r}")
    return value


def _base64(text: str, name: str) -> bytes:
    """Standard or URL-safe base64 (DSSE: a verifier must take either), and only in the one canonical spelling.

    Python's decoder, even with ``validate=True``, takes ``YR==`` for ``YQ==``; so the result is encoded again.
    """
    altchars = b"-_" if "-" in text or "_" in text else b"+/"
    try:
        data = base64.b64decode(text, altchars=altchars, validate=True)
    except (binascii.Error, ValueError):
        raise _invalid(f"{name!r} is no base64") from None
    if base64.b64encode(data, altchars).decode() != text:
        raise _invalid(f"{name!r} is no canonical base64")
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _invalid(reason: str) -> SignatureInvalid:
    return SignatureInvalid(
        f"the signature can't be trusted: {reason}. Don't use this package; fetch it again, or ask its publisher"
    )
