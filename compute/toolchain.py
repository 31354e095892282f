"""Versions of every tool that touches the bytes of a package: part of the bake key, and so of what is stale."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version

REVISION = "3"
"""Of our own baking code. Raised by hand whenever the same input gives other bytes; the golden tests notice when it
was forgotten. A hash of the source would change with every comment and re-bake whole libraries for nothing."""

_LIBRARIES = (
    *("brotli", "DracoPy", "libigl", "meshoptimizer", "numpy", "pillow"),  # brotli weighs candidates
    *("opengl_basisu", "warp-lang", "zstandard"),  # the first decodes what is measured, and figures are in the manifest
)


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Tool name → version, of this process's installation. Read from package metadata: nothing heavy is imported."""
    return {"cloudbaker-bake": REVISION, **{name.lower(): version(name) for name in _LIBRARIES}}
