from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudbaker.canonical import canonical_json, canonical_sha256

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
)  # fmt: skip


def shuffled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shuffled(item) for key, item in reversed(value.items())}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(values)
def test_same_value_same_bytes(value: Any) -> None:
    data = canonical_json(value)
    assert json.loads(data) == value
    assert canonical_json(shuffled(value)) == data
    assert canonical_json(json.loads(data)) == data
    assert canonical_sha256(value) == hashlib.sha256(data).hexdigest()


def test_the_form_is_fixed() -> None:
    """These bytes are hashed into bake keys and signed: a change of form would make every asset stale."""
    assert canonical_json({"b": [1, 2.5, None, True], "a": "é\n", "B": {}}) == (
        '{"B":{},"a":"é\\n","b":[1,2.5,null,true]}'.encode()
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), {"a": [float("nan")]}])
def test_what_is_no_json_number_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(value)


def test_what_is_no_json_at_all_is_refused() -> None:
    with pytest.raises(TypeError):
        canonical_json({"a": b"bytes"})
    with pytest.raises(UnicodeEncodeError):
        canonical_json("\ud800")
