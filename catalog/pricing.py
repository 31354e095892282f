"""What usage costs: a table of prices, the bill of a time that is over, and the estimate of work to come.

Money is `Decimal` from the price table to the total, and each line is rounded before it is added: the lines of a bill
add up to its total, which sums of binary fractions do not.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from cloudbaker.catalog.records import Cost, CostItem, Metered
from cloudbaker.errors import UsageError

Complexity = Literal["simple", "medium", "complex"]

GB = 10**9
"""Bytes of a gigabyte, as disks and cloud providers count them."""
_PLACES = Decimal("0.000001")
"""Of a line's amount. A cent would be too coarse: 1 GB for a day is 2.4 cents."""
_SECTIONS = {"compute": {"default"}, "storage": {"default"}, "transfer": {"in", "out"}}
"""Sections of a price table, and what each must say."""
_COMPLEXITY = {"simple", "medium", "complex", "special"}


@dataclass(frozen=True, slots=True)
class Prices:
    """A price table."""

    currency: str
    compute: Mapping[str, Decimal]
    """A minute, by device."""
    storage: Mapping[str, Decimal]
    """A GB for an hour, by zone."""
    transfer: Mapping[str, Decimal]
    """A GB, by direction."""
    complexity: Mapping[str, Decimal]
    """Factors of `estimate`."""

    def minute(self, device: str) -> Decimal:
        """A minute on a device: by its name, by the longest name of the table in its own, else the default.

        ``NVIDIA A100-SXM4-40GB`` finds ``a100``.
        """
        name = _plain(device)
        found = [key for key in self.compute if f"-{_plain(key)}-" in f"-{name}-"]
        return self.compute[max(found, key=len) if found else "default"]

    def gb_hour(self, zone: str) -> Decimal:
        """A GB for an hour."""
        return self.storage.get(zone, self.storage["default"])

    def gb(self, direction: str) -> Decimal:
        """A GB that is transferred. Raises `UsageError` for no direction of the table."""
        if direction not in self.transfer:
            raise UsageError(f"no price for a transfer {direction!r}: there are {', '.join(sorted(self.transfer))}")
        return self.transfer[direction]


def load_prices(path: Path | None = None) -> Prices:
    """The price table of a file, or the one that comes with Cloud Baker. Raises `UsageError` naming what is wrong."""
    name = str(path) if path else "pricing.toml"
    try:
        if path is None:
            text = resources.files("cloudbaker").joinpath("pricing.toml").read_text("utf-8")
        else:
            text = path.read_text("utf-8")
        table = tomllib.loads(text, parse_float=Decimal)
    except OSError as error:
        raise UsageError(f"can't read the price table {name}: {error.strerror}", path=name) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the price table {name} is no TOML: {error}", path=name) from error
    if unknown := sorted(set(table) - {"currency", "complexity", *_SECTIONS}):
        raise UsageError(f"the price table {name} has an unknown part {unknown[0]!r}: take it out", path=name)
    currency = table.get("currency")
    if not isinstance(currency, str) or not re.fullmatch(r"[A-Z]{3}", currency):
        raise UsageError(f'the price table {name} needs its currency, three letters, like: currency = "USD"', path=name)
    parts = {part: _numbers(name, table, part, needed) for part, needed in _SECTIONS.items()}
    return Prices(currency, complexity=_numbers(name, table, "complexity", _COMPLEXITY), **parts)


def _numbers(name: str, table: Mapping[str, Any], part: str, needed: set[str]) -> dict[str, Decimal]:
    section = table.get(part)
    if not isinstance(section, dict) or not needed <= set(section):
        lacking = ", ".join(sorted(needed - set(section if isinstance(section, dict) else ())))
        raise UsageError(f"the price table {name} needs a part [{part}] with {lacking}", path=name)
    for key, value in section.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, Decimal))
            or not Decimal(value).is_finite()
            or value < 0
        ):
            raise UsageError(
                f"{key} in [{part}] of the price table {name} is {value}: give a number from 0 on", path=name
            )
    return {key: Decimal(value) for key, value in section.items()}


def cost(usage: Iterable[Metered], prices: Prices) -> Cost:
    """The bill for what was metered: a line for each row that has a price. Runs as such cost nothing."""
    items = []
    for row in usage:
        if row.kind == "storage":
            price = prices.gb_hour(row.subject or "")
        elif row.kind == "compute":
            price = prices.minute(row.subject or "")
        elif row.kind == "transfer":
            price = prices.gb(row.subject or "")
        else:
            continue
        items.append(
            CostItem(
                tenant=row.tenant,
                project=row.project,
                day=row.day,
                kind=row.kind,
                subject=row.subject,
                amount=row.amount,
                unit=row.unit,
                price=price,
                cost=_rounded(row.amount * price),
            )
        )
    return Cost(prices.currency, tuple(items))


@dataclass(frozen=True, slots=True)
class Estimate:
    """What some work is expected to cost."""

    compute: Decimal
    storage: Decimal
    transfer: Decimal
    currency: str

    @property
    def total(self) -> Decimal:
        """All of it."""
        return self.compute + self.storage + self.transfer


def estimate(
    prices: Prices,
    *,
    minutes: float | Decimal,
    device: str = "cpu",
    complexity: Complexity = "simple",
    special: bool = False,
    stored_gb: float | Decimal = 0,
    stored_hours: float | Decimal = 0,
    transfer_gb: float | Decimal = 0,
) -> Estimate:
    """What work will cost: duration × complexity × rate, GB × hours × rate, GB × rate.

    `minutes` is the expected time of a simple case on that device; `complexity` multiplies it by 1.0, 1.5 or 3.0, and
    `special` adds 2.0 to that factor (the table's ``[complexity]``). Raises `UsageError` for what is negative or no
    number. Pure: `prices` and arguments decide the answer.

        >>> estimate(load_prices(), minutes=10, device="a100", complexity="medium", transfer_gb=2).total
        Decimal('30.100000')
    """
    if complexity not in ("simple", "medium", "complex"):
        raise UsageError(f"complexity {complexity!r} is none: there are simple, medium and complex")
    given = {"minutes": minutes, "stored_gb": stored_gb, "stored_hours": stored_hours, "transfer_gb": transfer_gb}
    exact = {name: Decimal(str(value)) for name, value in given.items()}
    for name, value in exact.items():
        if not value.is_finite() or value < 0:
            raise UsageError(f"{name} of an estimate is {value}: give a number from 0 on")
    factor = prices.complexity[complexity] + (prices.complexity["special"] if special else 0)
    return Estimate(
        compute=_rounded(exact["minutes"] * factor * prices.minute(device)),
        storage=_rounded(exact["stored_gb"] * exact["stored_hours"] * prices.gb_hour("default")),
        transfer=_rounded(exact["transfer_gb"] * prices.gb("out")),
        currency=prices.currency,
    )


def _rounded(amount: Decimal) -> Decimal:
    return amount.quantize(_PLACES, ROUND_HALF_UP)


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
