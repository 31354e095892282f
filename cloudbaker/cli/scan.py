"""``cloudbaker scan``: would a mod pass the policy? Nothing is baked, no engine is started."""

from __future__ import annotations

from pathlib import Path

import click

from cloudbaker.cli.output import json_option, print_json, printable


@click.command()
@click.argument("mod")
@click.option("--policy", default="default", show_default=True, help="Name of a policy, or a .toml file.")
@click.option("--engine", default="", metavar="VERSION", help="Godot version whose classes count, such as 4.6 or 3.6.")
@click.option("--trusted", is_flag=True, help="The content is your own: read it even where nothing can isolate it.")
@json_option
def scan(mod: str, policy: str, engine: str, trusted: bool, as_json: bool) -> int:
    """Say whether a Godot mod (.pck, .zip or folder) may enter, and why not. Nothing is stored.

    Without --engine, a pack of format 1 and a manifest of Godot 3 mean 3, everything else means 4.
    """
    from cloudbaker.api import scan as run
    from cloudbaker.model import VerdictKind
    from cloudbaker.tasks.report import finding_lines

    look = run(mod, policy=policy, engine=engine, trusted=trusted)
    if as_json:
        print_json(look.to_json())
    else:
        facts = look.facts
        name = (facts["manifest"] or {}).get("name") or facts["id"] or Path(mod).name
        click.secho(f"{look.verdict.kind.value}: {printable(name)}", bold=True)
        click.echo(
            f"  {len(facts['files']):,} files, {facts['bytes']:,} bytes; policy {facts['policy']}, "
            f"classes of {facts['class_list'] or 'no engine'}"
        )
        for line in finding_lines(look.verdict.findings, most=100):
            click.echo("  " + printable(line))
    return 3 if look.verdict.kind is VerdictKind.REJECT else 0
