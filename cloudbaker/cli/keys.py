"""``cloudbaker keys``."""

from __future__ import annotations

import click

from cloudbaker.cli.output import json_option, print_json, table


@click.command()
@click.option(
    "--new", is_flag=True, help="Make a new pair, replacing the present one (older packages need its public keys)."
)
@json_option
def keys(new: bool, as_json: bool) -> None:
    """Show the signing keys of this installation; made on first use. Private keys are never printed."""
    from cloudbaker.compute.signing import keys as signing_keys
    from cloudbaker.settings import settings

    folder = settings().keys
    pair = signing_keys.generate(folder, overwrite=True) if new else signing_keys.ensure(folder)
    rows = [{"algorithm": k.algorithm.value, "key_id": k.key_id, "public": k.pem().decode()} for k in pair.public]
    if as_json:
        print_json(rows)
    else:
        table(("algorithm", "key id", "public key"), (tuple(row.values()) for row in rows))
        click.echo(f"  kept in {folder}")
