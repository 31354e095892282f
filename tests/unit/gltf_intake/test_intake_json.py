"""JSON from strangers: refused for size, depth and number of values before Python's parser builds anything."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudbaker.compute.gltf import jsontext
from cloudbaker.compute.gltf.findings import Findings
from cloudbaker.compute.gltf.jsontext import parse_json
from cloudbaker.compute.gltf.limits import ContentLimits

LIMITS = ContentLimits()

BAD = {
    "nothing": (b"", "gltf.json-invalid"),
    "no object": (b"[1, 2]", "gltf.json-invalid"),
    "cut": (b'{"a": [1, 2', "gltf.json-invalid"),
    "comma": (b'{"a": 1,}', "gltf.json-invalid"),
    "control character": (b'{"a": "\x01"}', "gltf.json-invalid"),
    "integer of 5000 digits": (b'{"a":' + b"1" * 5000 + b"}", "gltf.json-invalid"),
    "latin-1": ('{"a": "ä"}'.encode("latin-1"), "gltf.json-encoding"),
    "utf-16": ('{"a": 1}'.encode("utf-16"), "gltf.json-encoding"),
    "byte order mark": (b'\xef\xbb\xbf{"a": 1}', "gltf.json-encoding"),
    "half a surrogate pair": (b'{"a": "\\ud800"}', "gltf.json-encoding"),
    "half a pair in a key": (b'{"\\udfff": 1}', "gltf.json-encoding"),
    "deep": (b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", "gltf.json-too-deep"),
    "very deep": (b"[" * 2_000_000, "gltf.json-too-deep"),
    "deep objects": (b'{"a":' * 100 + b"1" + b"}" * 100, "gltf.json-too-deep"),
    "deep and never closed": (b'{"a":' * 1_000_000, "gltf.json-too-deep"),
    "values": (b'{"a":[' + b"{}," * 2_000_000 + b"{}]}", "gltf.json-too-large"),
    "numbers": (b'{"a":[' + b"0," * 3_100_000 + b"0]}", "gltf.json-too-large"),
    "bytes": (b'{"a":"' + b" " * LIMITS.json_bytes + b'"}', "gltf.json-too-large"),
    "doubled key": (b'{"a": 1, "b": {"a": 1, "a": 2}}', "gltf.json-duplicate-key"),
    "doubled key by escape": (b'{"a": 1, "\\u0061": 2}', "gltf.json-duplicate-key"),
    "NaN": (b'{"a": NaN}', "gltf.json-number"),
    "infinity": (b'{"a": -Infinity}', "gltf.json-number"),
    "too large a number": (b'{"a": 1e999}', "gltf.json-number"),
}


@pytest.mark.parametrize(("text", "code"), BAD.values(), ids=BAD)
def test_bad_json_is_a_finding(text: bytes, code: str) -> None:
    findings = Findings()
    parse_json(text, LIMITS, findings)
    assert findings.failed
    assert code in {finding.code for finding in findings}


GOOD = [
    b'{"a": "[[[[{{{{"}',
    b'{"a": "\\"[\\\\", "b": []}',
    b'{"a": "\\ud83d\\ude00", "b": "\xf0\x9f\x98\x80"}',
    b'{"a":' + b"[" * 63 + b"]" * 63 + b"}",
    b' \n{"a": 1.5e300, "b": -0.0, "c": 12345678901234567890}\r\n',
]


@pytest.mark.parametrize("text", GOOD)
def test_good_json_is_what_it_is(text: bytes) -> None:
    findings = Findings()
    assert parse_json(text, LIMITS, findings) == json.loads(text)
    assert not list(findings)


ENDLESS = [
    b'"' * 30_000_000,
    b'{"a":"' + b'\\"' * 15_000_000,
    b'{"a":"' + b"\\" * 30_000_000,
    b"{" + b'"a",' * 7_000_000,
]


@pytest.mark.parametrize("text", ENDLESS, ids=["quotes", "escaped quotes", "backslashes", "strings"])
def test_no_text_takes_more_than_linear_time(text: bytes) -> None:
    # A pattern that starts again at each quote would take hours here, not the half second that the scan needs; the
    # test's own time limit is the only clock.
    findings = Findings()
    assert parse_json(text, LIMITS, findings) is None
    assert findings.failed


KEYS = st.text(alphabet='"\\[{', max_size=4)
PLAIN = st.none() | st.integers(-5, 5) | st.text(alphabet='"\\[]{},a', max_size=12)
TREES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=30,
)


@given(TREES, st.integers(1, 9))
def test_the_scan_counts_like_a_parser_whatever_the_block_size(value: object, block: int) -> None:
    def depth(item: object) -> int:
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    text = json.dumps({"": value}).encode()
    deepest = depth({"": value})
    before = jsontext._BLOCK
    jsontext._BLOCK = block
    try:
        for allowed in (deepest, deepest - 1):
            findings = Findings()
            parse_json(text, ContentLimits(json_depth=allowed), findings)
            assert findings.failed == (allowed < deepest)
    finally:
        jsontext._BLOCK = before
