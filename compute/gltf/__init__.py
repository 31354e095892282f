"""glTF 2.0 documents: reading, checking, changing and writing them. One verb per file.

Each verb's function is also a name of this package, beside `Document`:

>>> from cloudbaker.compute.gltf import Document, prune, weld             # doctest: +SKIP
>>> document = Document.from_glb(data)                                    # doctest: +SKIP
>>> weld(document); prune(document)                                       # doctest: +SKIP
>>> data = document.to_glb()                                              # doctest: +SKIP

They are imported on first use: a job that only reads a header does not wait for the codecs.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloudbaker.compute.gltf.compress_draco import compress_draco as compress_draco
    from cloudbaker.compute.gltf.compress_meshopt import compress_meshopt as compress_meshopt
    from cloudbaker.compute.gltf.dedup import dedup as dedup
    from cloudbaker.compute.gltf.document import Document as Document
    from cloudbaker.compute.gltf.prune import prune as prune
    from cloudbaker.compute.gltf.quantize_animations import quantize_animations as quantize_animations
    from cloudbaker.compute.gltf.resample import resample as resample
    from cloudbaker.compute.gltf.simplify import simplify as simplify

_HOME = {"Document": "document"}
"""Public name → module of this package, where the two differ."""
VERBS = (
    "compress_draco",
    "compress_meshopt",
    "dedup",
    "prune",
    "quantize_animations",
    "resample",
    "simplify",
)
"""Functions that are named as their module."""


def __getattr__(name: str) -> Any:
    if name not in _HOME and name not in VERBS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME.get(name, name)}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *VERBS})


class _Package(ModuleType):
    """A package in which ``weld`` is the function of that name, whether its module has been imported before or not."""

    def __setattr__(self, name: str, value: Any) -> None:
        # The import system binds each submodule to its package under its name, which would hide the function.
        if name in VERBS and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
