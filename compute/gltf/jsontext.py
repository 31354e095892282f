"""Parse JSON from strangers: size, depth and number of values first, by a linear scan; then strictly.

Python's parser is safe in depth only by raising RecursionError deep inside other people's code, accepts NaN and doubled
keys, and turns 64 MB of ``[{},{},…]`` into 1.5 GB of objects. 64 MB scan in about half a second.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np

from cloudbaker.compute.gltf.findings import Findings, quote
from cloudbaker.compute.gltf.limits import ContentLimits

_QUOTE, _BACKSLASH = ord('"'), ord("\\")
_STEP = np.zeros(256, np.int8)
_STEP[list(b"[{")] = 1
_STEP[list(b"]}")] = -1
_OPENS = np.zeros(256, np.bool_)
_OPENS[list(b"[{,")] = True
_BLOCK = 1 << 22
_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_json(
    text: bytes | bytearray | memoryview, limits: ContentLimits, findings: Findings
) -> dict[str, Any] | None:
    """The object that a JSON text holds, or None and the findings that say why not. Linear time, bounded memory.

    Duplicate keys are findings, but the document is returned all the same, with the last value (as most readers do), so
    that further findings can be collected.
    """
    if len(text) > limits.json_bytes:
        findings.add("gltf.json-too-large", "", f"the JSON has {len(text):,} bytes, the limit is {limits.json_bytes:,}")
        return None
    raw = bytes(text)
    if not _scan(raw, limits, findings):
        return None
    if raw.startswith(b"\xef\xbb\xbf"):
        findings.add("gltf.json-encoding", "", "the JSON begins with a byte order mark", remedy="save it without one")
        return None
    return _parse(raw, findings)


def _scan(raw: bytes, limits: ContentLimits, findings: Findings) -> bool:
    """Depth and number of values, in blocks of 4 MB whatever the text: what stands in strings is masked out."""
    depth = deepest = values = 0
    in_string, backslashes = False, 0  # carried from block to block: open string, run of backslashes at the end
    for start in range(0, len(raw), _BLOCK):
        block = np.frombuffer(raw, np.uint8, min(_BLOCK, len(raw) - start), start)
        quotes = np.flatnonzero(block == _QUOTE)
        escape = block == _BACKSLASH
        if backslashes or escape.any():
            # A quote is escaped by an odd run of backslashes before it.
            place = np.arange(len(block), dtype=np.int32)
            last_other = np.maximum.accumulate(np.where(escape, np.int32(-1 - backslashes), place))
            before = np.concatenate(([np.int32(-1 - backslashes)], last_other[:-1]))
            quotes = quotes[(quotes - 1 - before[quotes]) % 2 == 0]
            backslashes = len(block) - 1 - int(last_other[-1])
        toggles = np.zeros(len(block), np.bool_)
        toggles[quotes] = True
        outside = ~(np.logical_xor.accumulate(toggles) ^ in_string)
        in_string ^= bool(len(quotes) % 2)
        steps = np.cumsum(np.where(outside, _STEP[block], np.int8(0)), dtype=np.int32)
        deepest = max(deepest, depth + int(steps.max()))
        depth += int(steps[-1])
        values += int(np.count_nonzero(outside & _OPENS[block]))  # one may follow each comma and opening bracket
    if values > limits.json_values:
        findings.add(
            "gltf.json-too-large", "", f"the JSON holds {values:,} values, the limit is {limits.json_values:,}"
        )
    if deepest > limits.json_depth:
        findings.add("gltf.json-too-deep", "", f"the JSON is nested {deepest:,} deep, the limit is {limits.json_depth}")
    return not findings.failed


def _parse(raw: bytes, findings: Findings) -> dict[str, Any] | None:
    def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    findings.add("gltf.json-duplicate-key", "", f"the key {quote(key)} occurs twice in one object")
                seen.add(key)
        return made

    def number(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            findings.add("gltf.json-number", "", f"the number {quote(text)} is beyond what a double holds")
        return value

    def constant(text: str) -> float:
        findings.add("gltf.json-number", "", f"{text} is no JSON number")
        return 0.0

    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        findings.add("gltf.json-encoding", "", f"byte {error.start} of the JSON is not UTF-8")
        return None
    try:
        document = json.loads(text, object_pairs_hook=object_of, parse_float=number, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        findings.add("gltf.json-invalid", "", f"the JSON does not parse: {quote(str(error))}")
        return None
    if not isinstance(document, dict):
        findings.add("gltf.json-invalid", "", f"the JSON is no object but {type(document).__name__}")
        return None
    # UTF-8 can't hold half a surrogate pair, but the escape \ud800 can; no writer, table or terminal takes such a text.
    if "\\u" in text and _SURROGATE.search(json.dumps(document, ensure_ascii=False)):
        findings.add("gltf.json-encoding", "", "a text holds half a surrogate pair")
        return None
    return document
