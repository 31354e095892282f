"""``cloudbaker keys``."""

from __future__ import annotations

import click

from cloudbaker.cli.output import json_option, print_json, table


@click.command()
@click.option(
    "--new", is_flag=True, help="Make a new pair, replacing the present one (older packages need its public keys)."
)
@click.option("--revoke", multiple=True, metavar="KEY_ID", help="Take a key back: games no longer accept it.")
@click.option("--revoke-file", multiple=True, metavar="SHA256", help="Take one file of a package back, such as a pack.")
@json_option
def keys(new: bool, revoke: tuple[str, ...], revoke_file: tuple[str, ...], as_json: bool) -> None:
    """Show the signing keys of this installation; made on first use. Private keys are never printed.

    What is revoked goes into a signed list, revocations.dsse.json beside the keys, which games fetch and check.
    """
    from cloudbaker.compute.signing import keys as signing_keys
    from cloudbaker.compute.signing.revocations import load_revocations, revoke_more
    from cloudbaker.settings import settings

    folder = settings().keys
    pair = signing_keys.generate(folder, overwrite=True) if new else signing_keys.ensure(folder)
    revoked = revoke_more(folder, keys=revoke, packs=revoke_file) if revoke or revoke_file else load_revocations(folder)
    rows = [{"algorithm": k.algorithm.value, "key_id": k.key_id, "public": k.pem().decode()} for k in pair.public]
    if as_json:
        print_json(rows)
        return
    table(("algorithm", "key id", "public key"), (tuple(row.values()) for row in rows))
    click.echo(f"  kept in {folder}")
    if revoked.number:
        click.echo(f"  revoked: {len(revoked.keys)} keys, {len(revoked.packs)} files (list {revoked.number})")
