"""What a publisher takes back: a signed list of keys and of packs (by SHA-256) that games and tools refuse.

A DSSE envelope of its own payload type, so that no statement can pass for one. It carries a number that only grows:
whoever has seen a list refuses an older one, which an attacker may have kept. It is signed with the present keys; a key
in the list can't be one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudbaker.canonical import canonical_json
from cloudbaker.compute.signing import dsse
from cloudbaker.compute.signing.keys import Keys, PublicKey, load, load_public
from cloudbaker.errors import SignatureInvalid, SigningKeyError, UsageError

PAYLOAD_TYPE = "application/vnd.cloudbaker.revocations+json"
FILE = "revocations.dsse.json"
"""Name of the list, beside the keys and where games fetch it."""
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Revocations:
    """What is taken back."""

    number: int = 0
    keys: frozenset[str] = frozenset()
    """Key ids."""
    packs: frozenset[str] = frozenset()
    """SHA-256 of packages' files, in hex."""

    def adding(self, *, keys: Iterable[str] = (), packs: Iterable[str] = ()) -> Revocations:
        """The next list, with these too. Nothing is ever taken out again. Raises `UsageError` for what is no digest."""
        for each in (*keys, *packs):
            if not _HEX.fullmatch(each):
                raise UsageError(f"{each!r} is no SHA-256 in 64 hex digits: copy it from the manifest, or from `keys`")
        return Revocations(self.number + 1, self.keys | set(keys), self.packs | set(packs))


def sign_revocations(revocations: Revocations, keys: Keys) -> str:
    """The list as a signed envelope, JSON text. Raises `SigningKeyError` where a present key is on it."""
    present = {key.key_id for key in keys.public} & revocations.keys
    if present:
        raise SigningKeyError(
            f"key {min(present)[:16]}… is revoked and still signs: make new keys with `cloudbaker keys --new` first"
        )
    payload = canonical_json(
        {"number": revocations.number, "keys": sorted(revocations.keys), "packs": sorted(revocations.packs)}
    )
    return dsse.dumps(dsse.sign(payload, PAYLOAD_TYPE, keys))


def read_revocations(envelope: Mapping[str, Any] | str | bytes, public_keys: Sequence[PublicKey]) -> Revocations:
    """A list whose signatures are good. Raises `SignatureInvalid`."""
    verified = dsse.verify(envelope, public_keys, payload_type=PAYLOAD_TYPE)
    try:
        data = dsse.loads_strict(verified.payload)
        found = Revocations(int(data["number"]), frozenset(data["keys"]), frozenset(data["packs"]))
        if not all(_HEX.fullmatch(each) for each in found.keys | found.packs) or found.number < 0:
            raise ValueError("not a digest")
    except (ValueError, KeyError, TypeError) as error:
        raise SignatureInvalid(
            "the revocation list can't be used: a field is missing or of the wrong type", detail=str(error)
        ) from None
    return found


def load_revocations(folder: Path) -> Revocations:
    """The list that lies beside an installation's keys; an empty one where there is none. Raises `SignatureInvalid`."""
    path = folder / FILE
    return read_revocations(path.read_bytes(), load_public(folder)) if path.exists() else Revocations()


def revoke_more(folder: Path, *, keys: Iterable[str] = (), packs: Iterable[str] = ()) -> Revocations:
    """Write the next list beside the keys. It appears whole or not at all. Raises as `Revocations.adding`,
    `sign_revocations`."""
    following = load_revocations(folder).adding(keys=keys, packs=packs)
    text = sign_revocations(following, load(folder))
    part = folder / f".{FILE}.new"
    part.write_text(text, "utf-8")
    part.replace(folder / FILE)
    return following
