"""The catalog's clock: a value that is handed in, so that leases and grace can be tested without waiting."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Now, UTC."""
    return datetime.now(UTC)
