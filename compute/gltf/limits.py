"""What one model may ask of us, counted from headers before anything is decoded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ContentLimits:
    """Limits of the intake and the pre-check. The first four are the recipe's, the others hold for every recipe."""

    source_bytes: int = 500 << 20
    """All source files together; also what an archive may unpack to."""
    image_pixels: int = 64 << 20
    """Per image, from its header."""
    triangles: int = 20_000_000
    """Stored in the file, and also drawn: a mesh counts once for each node and each instance that shows it."""
    memory_bytes: int = 2 << 30
    """Of the job. A quarter of it is what payloads and data-less accessors may expand to."""

    json_bytes: int = 64 << 20
    """Of the JSON text. Python needs up to 25 times the text (``[{},{},…]``), hence also `json_values`."""
    json_values: int = 3_000_000
    json_depth: int = 64
    """glTF itself needs 12; the official validator overflows its stack on deep JSON."""
    items: int = 100_000
    """Of any one kind (nodes, accessors …): the official validator hangs on a million nodes."""
    images: int = 4096
    node_depth: int = 512
    """Of the node tree: viewers walk it by recursion."""
    image_pixels_total: int = 1 << 30
    """All images together: 16 of the largest by default."""
    archive_entries: int = 10_000
    archive_ratio: int = 200
    """Unpacked to packed, above 16 MB. Deflate ends at 1032; models reach 20."""

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> ContentLimits:
        """The limits among a job's params (``{"limits": {"triangles": …}}``); what is not named keeps its default."""
        known = {field.name for field in dataclasses.fields(cls)}
        given = params.get("limits") or {}
        return cls(**{name: int(value) for name, value in given.items() if name in known})

    @property
    def expansion_bytes(self) -> int:
        """What compressed payloads, sparse and empty accessors may expand to, all together."""
        return self.memory_bytes // 4
