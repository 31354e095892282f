"""What is stale, and why: the plan of a re-bake, by bake key."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from cloudbaker.bakekey import bake_key
from cloudbaker.catalog.core import Catalog
from cloudbaker.errors import EngineMissing, RecipeError
from cloudbaker.model import AssetRef, Source, to_json
from cloudbaker.recipe import Recipe, load_recipe
from cloudbaker.tasks.targets import Identity, target_of


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One asset to bake again from its stored sources."""

    asset: AssetRef
    version: int
    """The version that is stale."""
    recipe: str
    bake_key: str
    """The key it will have."""
    reason: str
    sources: tuple[Source, ...]
    channel: str | None
    """The channel that follows: ``live`` if it points at the stale version, else none."""


@dataclass(frozen=True, slots=True)
class RebakePlan:
    """What a re-bake would do."""

    items: tuple[PlanItem, ...]
    unchanged: int
    quarantined: int
    """Stale, but in quarantine under the very same key: left alone until released."""
    reasons: dict[str, int] = field(default_factory=dict)
    unknown_recipes: dict[str, int] = field(default_factory=dict)
    """Assets that can't be planned, by the recipe that is nowhere to be found: put it into CLOUDBAKER_RECIPES."""
    missing_engines: dict[str, int] = field(default_factory=dict)
    """Assets that can't be planned, by the recipe whose engine is not here: `cloudbaker engines install` fetches it."""

    def to_json(self) -> dict[str, Any]:
        """The ``--json`` contract (docs/cli.md)."""
        return {
            "stale": len(self.items),
            "unchanged": self.unchanged,
            "quarantined": self.quarantined,
            "reasons": self.reasons,
            "unknown_recipes": self.unknown_recipes,
            "missing_engines": self.missing_engines,
            "items": [
                {
                    "asset": str(i.asset),
                    "version": i.version,
                    "recipe": i.recipe,
                    "bake_key": i.bake_key,
                    "reason": i.reason,
                    "source_bytes": sum(s.blob.size for s in i.sources),
                }
                for i in self.items
            ],
        }

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{reason}</td><td>{count}</td></tr>" for reason, count in self.reasons.items())
        return (
            f"<div><b>{len(self.items)} stale</b>, {self.unchanged} unchanged, {self.quarantined} in quarantine"
            f"<table>{rows}</table></div>"
        )


def plan_rebake(catalog: Catalog, *, where: str | None = None, recipe: str | None = None) -> RebakePlan:
    """Compare the newest version of each asset with what today's recipe and tools would give.

    `where` is an SQL condition over the latest versions (``tenant = 'acme' and size_bytes > 1e6``); `recipe` bakes all
    of them with another recipe than their own.
    """
    recipes, unknown, missing = dict[str, Recipe | None](), Counter[str](), Counter[str]()
    identities = dict[tuple[str, str], Identity | None]()
    if recipe is not None:
        recipes[recipe] = load_recipe(recipe)
    quarantined = {(q.asset, q.bake_key) for q in catalog.quarantined()}
    items, unchanged, skipped = [], 0, 0
    for row in catalog.latest_versions(where):
        name = recipe or row.recipe
        if name not in recipes:
            recipes[name] = _find(name)
        current = recipes[name]
        if current is None:
            unknown[name] += 1
            continue
        whose = (name, row.asset.tenant)
        if whose not in identities:
            identities[whose] = _identity(current, row.asset.tenant)
        now = identities[whose]
        if now is None:
            missing[name] += 1
            continue
        key = bake_key(row.sources, current.hash, now.tools, engine=now.engine)
        if key == row.bake_key:
            unchanged += 1
        elif (row.asset, key) in quarantined:
            skipped += 1
        else:
            before = Identity(row.engine, row.tools)
            reason = _reason(row.recipe, row.recipe_hash, before, current, now)
            channel = "live" if "live" in row.channels else None
            items.append(PlanItem(row.asset, row.number, name, key, reason, row.sources, channel))
    reasons = Counter(item.reason for item in items)
    return RebakePlan(tuple(items), unchanged, skipped, dict(reasons.most_common()), dict(unknown), dict(missing))


def _find(name: str) -> Recipe | None:
    try:
        return load_recipe(name)
    except RecipeError:
        return None


def _identity(recipe: Recipe, tenant: str) -> Identity | None:
    try:
        return target_of(recipe).identity(recipe, tenant)
    except EngineMissing:
        return None


def _reason(old_name: str, old_hash: str, old: Identity, new: Recipe, now: Identity) -> str:
    if old_name != new.name:
        return f"recipe {old_name} → {new.name}"
    reasons = [f"recipe {new.name} changed"] if old_hash != new.hash else []
    if old.engine != now.engine:
        reasons.append(f"engine {old.engine or 'none'} → {now.engine or 'none'}")
    for name in sorted(old.tools.keys() | now.tools.keys()):
        before, after = old.tools.get(name, "none"), now.tools.get(name, "none")
        if before != after:
            reasons.append(f"{name} {before} → {after}")
    return ", ".join(reasons) or "sources changed"


def item_json(item: PlanItem) -> dict[str, Any]:
    """A plan item as JSON, to travel to a worker."""
    return dict(to_json(item))
