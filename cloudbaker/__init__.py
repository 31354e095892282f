"""Cloud Baker: 3D content from people you don't know, baked into small, safe, signed, versioned packages."""

from __future__ import annotations

__version__ = "0.1.0"
