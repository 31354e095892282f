"""The bake key: same key, same bytes. What is already baked under a key is not baked again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cloudbaker.canonical import canonical_sha256
from cloudbaker.model import Source


def bake_key(
    sources: Iterable[Source], recipe_hash: str, tools: Mapping[str, str], *, engine: str | None = None
) -> str:
    """Hex SHA-256 over the sources (name and hash), the recipe, the engine and each tool that touches the bytes.

    Order of the sources does not matter. `tools` maps a tool to its version (``compute.toolchain.versions()``).
    """
    return canonical_sha256(
        {
            "sources": sorted([s.name, s.blob.sha256] for s in sources),
            "recipe": recipe_hash,
            "engine": engine,
            "tools": dict(tools),
        }
    )
