"""The bake key: same key, same bytes. What is already baked under a key is not baked again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cloudbaker.canonical import canonical_sha256
from cloudbaker.model import Source


def bake_key(
    sources: Sequence[Source], recipe_hash: str, tools: Mapping[str, str], *, engine: str | None = None
) -> str:
    """Hex SHA-256 over the sources, the recipe, the engine and each tool that touches the bytes.

    The first source is the main file: its name does not count, so a renamed file keeps its key. The others count with
    their relative names, in any order. `tools` maps a tool to its version (``compute.toolchain.versions()``).
    """
    main, *others = sources
    return canonical_sha256(
        {
            "sources": [main.blob.sha256, *sorted([s.name, s.blob.sha256] for s in others)],
            "recipe": recipe_hash,
            "engine": engine,
            "tools": dict(tools),
        }
    )
