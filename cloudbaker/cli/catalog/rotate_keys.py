"""``cloudbaker catalog rotate-keys``."""

from __future__ import annotations

import click

from cloudbaker.cli.output import json_option, print_json


@click.command("rotate-keys")
@click.option("--tenant", "tenants", multiple=True, help="Only this tenant's key (repeat for more); else all tenants'.")
@click.option(
    "--master", is_flag=True, help="The master key: a new one, under which all tenants' keys are wrapped anew."
)
@json_option
def rotate_keys(tenants: tuple[str, ...], master: bool, as_json: bool) -> None:
    """New keys for the encrypted object store. Old objects stay as they are, and readable."""
    import getpass

    from cloudbaker.catalog.core import Catalog
    from cloudbaker.settings import settings

    if master and tenants:
        raise click.UsageError("--master is one key for all: give no --tenant with it")
    with Catalog.open(settings()) as opened:
        done = opened.rotate_store_keys(tenants, master=master, by=getpass.getuser())
    if as_json:
        print_json({"master": master, "tenants": done})
    elif master:
        click.echo(f"the master key is new, and wraps the keys of {len(done)} tenant(s). Back up {settings().keys}")
    else:
        click.echo(f"new keys for {', '.join(done) or 'nobody: no tenant has stored anything yet'}")
