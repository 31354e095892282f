"""``cloudbaker doctor``."""

from __future__ import annotations

import click

from cloudbaker.cli.output import json_option, print_json, table


@click.command()
@json_option
def doctor(as_json: bool) -> int:
    """Say what this machine can do, and what is missing. Exit code 1 if bakes can't work."""
    from cloudbaker.model import to_json
    from cloudbaker.settings import settings
    from cloudbaker.tasks.doctor import examine

    checks = examine(settings())
    if as_json:
        print_json([to_json(c) for c in checks])
    else:
        table(("", "what", ""), (("✓" if c.ok else "✗" if c.needed else "–", c.name, c.says) for c in checks))
    return 0 if all(c.ok or not c.needed for c in checks) else 1
