"""Canonical JSON and the hashes taken over it (RFC 8785 in spirit; finite numbers only)."""

from __future__ import annotations

import hashlib
import json
from typing import Any

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no white space; the same value gives the same bytes on any machine.

    Raises ValueError on NaN and infinities.
    """
    return _ENCODER.encode(value).encode()


def canonical_sha256(value: Any) -> str:
    """Hex SHA-256 over `canonical_json` of a value."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
