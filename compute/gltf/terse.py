"""Write the JSON in as few characters as say the same: numbers as short as a float32 needs, no empty objects.

Exporters keep numbers as float32 and write them as doubles: 0.800000011920929 is the float32 that 0.8 is read as, too.
Readers turn both into the same float32 (which three.js sends to the GPU), so half of what is written says nothing. A
scene of 500 nodes, whose geometry is 640 bytes, has 181 kB of JSON, and 134 kB this way; gltf-transform writes 186.

A number that is not exactly a float32 is a double on purpose (the place of a building on the globe) and stays; so do
all extras, and whatever an extension holds that we don't know.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.references import KNOWN

_LARGEST = 1 << 24
"""Integers up to here are exact in a float32."""


def terse(document: Document) -> int:
    """Shorten the numbers in place and drop empty ``extensions``; how many values that were.

    >>> from cloudbaker.compute.gltf import Document, terse                   # doctest: +SKIP
    >>> terse(document)                                                       # doctest: +SKIP
    5148
    """
    changed = 0
    stack: list[Any] = [document.json]
    while stack:
        holder = stack.pop()
        places = list(holder.items() if isinstance(holder, dict) else enumerate(holder))
        for key, value in places:
            if key == "extras" or (key == "extensions" and value == {}):
                if key == "extensions":
                    del holder[key]
                    changed += 1
            elif type(value) is float:
                short = shortest(value)
                if short is not value:
                    holder[key] = short
                    changed += 1
            elif key == "extensions" and isinstance(value, dict):
                stack += [known for name, known in value.items() if name in KNOWN and isinstance(known, dict | list)]
            elif isinstance(value, dict | list):
                stack.append(value)
    return changed


def shortest(value: float) -> float | int:
    """The number with the fewest digits that is the same float32; `value` itself if it is none or short already.

    >>> shortest(0.800000011920929), shortest(1.0), shortest(0.1234567890123)
    (0.8, 1, 0.1234567890123)
    """
    if isinstance(value, int):
        return value
    if value.is_integer() and abs(value) < _LARGEST:
        return int(value)
    with np.errstate(over="ignore", under="ignore"):
        single = np.float32(value)
    if float(single) != value:
        return value
    short = float(str(single))
    return short if len(repr(short)) < len(repr(value)) else value


def same_number(a: float, b: float) -> bool:
    """Whether `b` says what `a` says: the same number, or the same float32 where `a` is one."""
    with np.errstate(over="ignore", under="ignore"):
        return a == b or float(np.float32(a)) == a == float(np.float32(b))
