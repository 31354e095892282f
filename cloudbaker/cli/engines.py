"""``cloudbaker engines``."""

from __future__ import annotations

from typing import Any

import click

from cloudbaker.cli.output import json_option, print_json, table


@click.group()
def engines() -> None:
    """Show and fetch the Godot engines that bake packs."""


@engines.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Show the engines there are: configured, installed, or on PATH."""
    from cloudbaker.compute.godot.engines import list_engines
    from cloudbaker.compute.godot.install import PACKAGES
    from cloudbaker.errors import EngineMissing
    from cloudbaker.settings import settings

    rows: list[dict[str, Any]] = []
    for name, engine in list_engines(settings()).items():
        row: dict[str, Any] = {"name": name, "version": None, "pack_format": None, "command": None, "error": None}
        if isinstance(engine, EngineMissing):
            row["error"] = engine.message
        else:
            row |= {"version": engine.version, "pack_format": engine.pack_format, "command": " ".join(engine.command)}
        rows.append(row)
    if as_json:
        print_json(rows)
        return
    if rows:
        table(
            ("engine", "version", "pack", "command"),
            ((r["name"], r["version"], r["pack_format"], r["error"] or r["command"]) for r in rows),
        )
    missing = [name for name in PACKAGES if name not in {row["name"] for row in rows}]
    if missing:
        click.echo(f"  can be fetched with `cloudbaker engines install`: {', '.join(missing)}")


@engines.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.option("--mirror", default="", metavar="URL", help="Debian archive; default: the one this machine's apt uses.")
def install(names: tuple[str, ...], mirror: str) -> None:
    """Fetch engines from Debian: godot-3, godot-3.6, godot-4.6. Needs no root, changes no package of this machine."""
    from cloudbaker.compute.godot.install import install_engine
    from cloudbaker.settings import settings

    prefix = settings().engines_prefix
    for name in names:
        version = install_engine(name, prefix, mirror=mirror, say=lambda text: click.echo(f"  {text}", err=True))
        click.echo(f"{name}: Godot {version} in {prefix / name}")


@engines.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
def remove(names: tuple[str, ...]) -> None:
    """Remove engines that `install` fetched."""
    from cloudbaker.compute.godot.install import remove_engine
    from cloudbaker.settings import settings

    for name in names:
        click.echo(f"{name}: {'removed' if remove_engine(name, settings().engines_prefix) else 'was not installed'}")
