"""Cloud Baker: 3D content from people you don't know, baked into small, safe, signed, versioned packages.

`bake`, `rebake`, `plan`, `inspect`, `diff`, `encode`, `validate`, `scan`, `verify` and `catalog` are at hand as
``cloudbaker.bake`` and so on; they are imported on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloudbaker import catalog
    from cloudbaker.api import bake, baking, diff, encode, inspect, plan, rebake, scan, validate, verify

__version__ = "0.1.0"
__all__ = ["bake", "baking", "catalog", "diff", "encode", "inspect", "plan", "rebake", "scan", "validate", "verify"]


def __getattr__(name: str) -> Any:
    if name == "catalog":
        import importlib

        return importlib.import_module("cloudbaker.catalog")
    if name in __all__:
        from cloudbaker import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
