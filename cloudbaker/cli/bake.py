"""``cloudbaker bake``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from cloudbaker.cli.output import json_option, print_json, printable, table

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from cloudbaker.tasks.result import BakeResult


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@click.option("--asset", metavar="NAME", help="name, project/name or tenant/project/name; default: the file's name.")
@click.option("--tenant", default="local", show_default=True, help="Owner, where --asset does not say it.")
@click.option("--recipe", default="web", show_default=True, help="A recipe's name, or the path of a .toml file.")
@click.option("--channel", default="live", show_default=True, help="Channel that moves; '' moves none.")
@click.option(
    "--mode",
    type=click.Choice(["auto", "service", "ephemeral", "direct"]),
    default="auto",
    show_default=True,
    help="auto: the service if one runs, else direct.",
)
@click.option("--previews/--no-previews", default=True, help="Render a picture before and after.")
@click.option("--trusted", is_flag=True, help="The content is your own: bake it even where nothing can isolate it.")
@click.option("-m", "--note", default="", help="Why this version is made.")
@click.option(
    "--depends-on",
    multiple=True,
    metavar="ASSET[@N]",
    help="An asset that this one needs; again for more; '' for none. Default: as its newest version.",
)
@click.option("--pictures", type=click.Path(file_okay=False), help="Write the preview pictures into this folder.")
@json_option
def bake(paths: tuple[str, ...], as_json: bool, asset: str | None, pictures: str | None, **options: Any) -> int:
    """Bake models into small, safe, signed, versioned packages.

    PATH is a .glb, .gltf or .zip file, or a folder with one model in it; with a Godot recipe (godot-4, godot-3, vr) the
    .pck, .zip or folder of a mod.
    """
    from cloudbaker.api import baking
    from cloudbaker.errors import CloudBakerError, UsageError

    if asset and len(paths) > 1:
        raise UsageError("--asset names one asset, but several paths are given: bake them one by one, or without it")
    mode, previews, trusted = options.pop("mode"), options.pop("previews"), options.pop("trusted")
    options["change_note"] = options.pop("note")
    options["channel"] = options["channel"] or None
    needs = options.pop("depends_on")
    options["depends_on"] = [need for need in needs if need] if needs else None
    outcomes: list[dict[str, Any]] = []
    code = 0
    with baking(mode=mode, previews=previews, trusted=trusted) as bake_one:
        for path in paths:
            try:
                with _Progress(path, quiet=as_json) as progress:
                    result = bake_one(path, asset=asset, progress=progress, **options)
            except CloudBakerError as error:
                if len(paths) == 1:
                    raise
                from cloudbaker.cli.output import show_error

                outcomes.append({"path": path, "error": error.to_json()})
                code = max(code, error.exit_code)
                if not as_json:
                    show_error(error)
                continue
            outcomes.append({"path": path, **result.to_json()})
            code = max(code, 0 if result.ok else 3 if result.state == "rejected" else 1)
            if pictures:
                _write_pictures(result, pictures)
            if not as_json:
                show(result)
    if as_json:
        print_json(outcomes[0] if len(paths) == 1 else outcomes)
    return code


def show(result: BakeResult) -> None:
    """The report of a bake for a terminal."""
    from cloudbaker.model import Severity
    from cloudbaker.tasks.report import SIZE_COLUMNS, finding_lines, headline, loss_lines, picture_note, size_rows

    click.secho(f"{'✓' if result.ok else '✗'} {headline(result)} ({result.seconds:.1f} s)", bold=True)
    rows = size_rows(result)
    if rows:
        table(SIZE_COLUMNS, rows)
        click.echo(f"  {picture_note(result)}")
        for line in loss_lines(result):
            click.echo(f"  lost: {printable(line)}" if result.losses else f"  {line}")
    if result.error:
        click.echo(f"  {result.error.get('code', '')}: {result.error.get('message', '')}")
    for line in finding_lines(f for f in result.findings if f.severity is not Severity.INFO):
        click.echo("  " + printable(line))
    if result.version:
        if result.version.engine:
            click.echo(f"  baked by {result.version.engine}")
        click.echo(f"  version {result.version}, bake key {result.version.bake_key[:16]}…, run {result.run_id}")


def _write_pictures(result: BakeResult, folder: str) -> None:
    from pathlib import Path

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for name, png in result.pictures.items():
        (target / f"{result.asset.name}-{name}").write_bytes(png)


class _Progress:
    """A progress bar on a terminal, nothing elsewhere."""

    def __init__(self, path: str, *, quiet: bool) -> None:
        self._path = path
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._quiet = quiet or not sys.stderr.isatty()

    def __enter__(self) -> Any:
        if not self._quiet:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(printable(self._path), total=1.0)
        return self._update

    def _update(self, stage: str, fraction: float) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=fraction, description=f"{printable(self._path)}: {stage}")

    def __exit__(self, *_error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
