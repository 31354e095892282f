"""``cloudbaker rebake``."""

from __future__ import annotations

import click

from cloudbaker.cli.output import json_option, print_json, table


@click.command()
@click.option("--where", metavar="SQL", help="Condition over the latest versions, such as \"tenant = 'acme'\".")
@click.option("--recipe", help="Bake with this recipe instead of each version's own.")
@click.option("--plan", "only_plan", is_flag=True, help="Only say what is stale, and why.")
@click.option("--batch-size", default=500, show_default=True, type=click.IntRange(1), help="Assets per Prefect task.")
@click.option("--window", type=click.IntRange(1), help="Assets in flight at once; default: one per worker.")
@click.option("--mode", type=click.Choice(["auto", "service", "ephemeral"]), default="auto", show_default=True)
@json_option
def rebake(
    where: str | None,
    recipe: str | None,
    only_plan: bool,
    batch_size: int,
    window: int | None,
    mode: str,
    as_json: bool,
) -> int:
    """Bake again, from the stored sources, every asset that is stale. Run it again to resume."""
    from cloudbaker import api

    if only_plan:
        plan = api.plan(where=where, recipe=recipe)
        if as_json:
            print_json(plan.to_json())
            return 0
        click.secho(f"{len(plan.items)} stale, {plan.unchanged} unchanged, {plan.quarantined} in quarantine", bold=True)
        for name, count in plan.unknown_recipes.items():
            click.echo(f"  {count} asset(s) can't be planned: no recipe {name!r}; put it into CLOUDBAKER_RECIPES")
        if plan.items:
            table(("why", "assets"), plan.reasons.items())
            table(
                ("asset", "version", "recipe", "why"),
                ((i.asset, i.version, i.recipe, i.reason) for i in plan.items[:50]),
            )
        return 0
    outcome = api.rebake(where=where, recipe=recipe, mode=mode, batch_size=batch_size, window=window)  # type: ignore[arg-type]
    result = outcome["result"] or {"published": 0, "unchanged": 0, "quarantined": 0, "attempts": {}}
    if as_json:
        print_json(outcome)
    else:
        click.secho(
            f"{result['published']} published, {result['unchanged']} unchanged, {result['quarantined']} quarantined",
            bold=True,
        )
        click.echo(f"  {outcome['plan']['unchanged']} were up to date; attempts: {result['attempts']}")
        if result["quarantined"]:
            click.echo('  look at them with: cloudbaker catalog sql "select * from quarantine"')
    return 5 if result["quarantined"] else 0
