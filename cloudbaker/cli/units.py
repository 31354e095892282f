"""Sizes, numbers and times as people write them on a command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import click

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


class Bytes(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3, 8.1 is enough
    """``500``, ``1.5GB`` (10^9), ``2 GiB`` (2^30), or ``none`` for no limit. Gives bytes, or None."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """``none`` stays a word: click takes None for "not given"."""
        text = str(value).strip().lower()
        if text == "none":
            return "none"
        match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,12})?)\s*([kmgtp]?)(i?)b?", text)
        if match is None or (match[3] and not match[2]):
            self.fail(f"{value!r} is no size: write it like 500, 1.5GB or 2GiB, or none for no limit", param, ctx)
        size = Decimal(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2]]
        if size != int(size):
            self.fail(f"{value!r} is no whole number of bytes", param, ctx)
        return int(size)


class Count(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3, 8.1 is enough
    """A whole number from 0 on, or ``none``."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """``none`` stays a word: click takes None for "not given"."""
        text = str(value).strip().lower()
        if text != "none" and not re.fullmatch(r"[0-9]{1,18}", text):
            self.fail(f"{value!r} is no whole number from 0 on; none takes the limit away", param, ctx)
        return "none" if text == "none" else int(text)


class Moment(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3, 8.1 is enough
    """A date or time, UTC where it names no zone; or so many days or hours ago (``7d``, ``12h``), or from now."""

    name = "TIME"

    def __init__(self, *, ahead: bool = False) -> None:
        self._sign = 1 if ahead else -1

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """A time with its zone."""
        if isinstance(value, datetime):
            return value
        try:
            if match := re.fullmatch(r"([0-9]{1,6})\s*([dh])", str(value).strip().lower()):
                span = timedelta(days=int(match[1])) if match[2] == "d" else timedelta(hours=int(match[1]))
                return datetime.now(UTC) + self._sign * span
            moment = datetime.fromisoformat(str(value).strip())
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time: write it like 2026-11-20, 2026-11-20T15:30+01:00, 7d or 12h", param, ctx)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def limit(value: int | str | None, default: Any) -> Any:
    """What an option of `Bytes` or `Count` asks for: not given is `default`, ``none`` is None."""
    return default if value is None else None if value == "none" else value
