"""``cloudbaker verify``."""

from __future__ import annotations

import click

from cloudbaker.cli.output import json_option, print_json, printable, table


@click.command()
@click.argument("what", metavar="VERSION|FOLDER|ZIP")
@click.option("--tenant", default="local", show_default=True, help="Owner, where the version's name does not say it.")
@click.option(
    "--keys", type=click.Path(exists=True), help="Public key, or folder of them; default: this installation's."
)
@json_option
def verify(what: str, tenant: str, keys: str | None, as_json: bool) -> int:
    """Check the signatures and every hash of a version (helmet@3, helmet@live) or of an exported bundle."""
    from cloudbaker import api
    from cloudbaker.errors import SignatureInvalid

    report = api.verify(what, tenant=tenant, keys=keys)
    if as_json:
        print_json(report.to_json())
        return 0 if report.ok else SignatureInvalid.exit_code
    if report.ok:
        click.secho(f"✓ {printable(what)}: signed, and every file is what was signed", bold=True)
    else:
        click.secho(f"✗ {printable(what)} is not what was signed", bold=True, fg="red")
        for problem in report.problems:
            click.echo("  " + printable(f"{problem.code} {problem.place}: {problem.message}"))
    if report.files:
        table(("file", "sha256", "as signed"), ((f.name, f.sha256, "yes" if f.ok else "NO") for f in report.files))
    if report.key_ids:
        click.echo("  signed by " + ", ".join(f"{key[:16]}…" for key in report.key_ids))
    return 0 if report.ok else SignatureInvalid.exit_code
