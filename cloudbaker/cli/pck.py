"""``cloudbaker pck …``: look into Godot packs, check them, take them apart. The bytes are read in the sandbox."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cloudbaker.cli.output import json_option, print_json, printable, table

if TYPE_CHECKING:
    from cloudbaker.compute.job import Outcome
    from cloudbaker.model import Finding

_file = click.argument("file")
_trusted = click.option(
    "--trusted", is_flag=True, help="The content is your own: read it even where nothing can isolate it."
)


@click.group()
def pck() -> None:
    """List, check and extract Godot packs (.pck), formats 1 to 4."""


@pck.command("list")
@_file
@_trusted
@json_option
def list_(file: str, trusted: bool, as_json: bool) -> int:
    """Show what a pack holds."""
    outcome = _run("list_job", file, trusted=trusted)
    if not as_json:
        entries = outcome.value["entries"]
        _headline(file, outcome.value)
        table(("path", "bytes", "md5"), ((e["path"], f"{e['size']:,}", e["md5"]) for e in entries))
    return _verdict(file, outcome, as_json=as_json)


@pck.command()
@_file
@_trusted
@json_option
def verify(file: str, trusted: bool, as_json: bool) -> int:
    """Check a pack's structure, its paths and the MD5 of every file."""
    outcome = _run("verify_job", file, trusted=trusted)
    if not as_json:
        _headline(file, outcome.value)
    return _verdict(file, outcome, as_json=as_json)


@pck.command()
@_file
@click.option("-o", "--output", "folder", required=True, type=click.Path(), help="A folder that is empty or not there.")
@_trusted
@json_option
def extract(file: str, folder: str, trusted: bool, as_json: bool) -> int:
    """Write a pack's files into a folder. A pack with an error is not extracted."""
    target = _empty_folder(Path(folder))
    outcome = _run("extract_job", file, trusted=trusted)
    written = _write(target, outcome) if not _rejected(outcome) else []
    if not as_json:
        _headline(file, outcome.value)
        if not _rejected(outcome):
            click.echo(f"  {len(written)} files in {printable(folder)}")
    return _verdict(file, outcome, as_json=as_json, folder=folder, files=written)


def _run(job: str, file: str, *, trusted: bool) -> Outcome:
    """One of the jobs of ``compute/godot/pck.py`` on a file, in the sandbox."""
    from cloudbaker.compute.job import Job
    from cloudbaker.compute.sandbox import Sandbox
    from cloudbaker.errors import SourceUnreadable
    from cloudbaker.settings import settings

    path = Path(file)
    if not path.is_file():
        raise SourceUnreadable(f"{printable(file)} is no file: name a .pck", path=file)
    with Sandbox(parallel=1, trusted=trusted, outer=settings().outer_sandbox) as sandbox:
        return sandbox.run(Job(f"cloudbaker.compute.godot.pck:{job}", {"pack": path})).unwrap()


def _findings(outcome: Outcome) -> tuple[Finding, ...]:
    from cloudbaker.compute.gltf.findings import from_json

    return from_json(outcome.value["findings"])


def _rejected(outcome: Outcome) -> bool:
    return any(f["severity"] == "error" for f in outcome.value["findings"])


def _headline(file: str, value: dict[str, Any]) -> None:
    total = sum(e["size"] for e in value["entries"])
    engine = ".".join(map(str, value["engine"]))
    click.secho(
        f"{printable(file)}: format {value['version']}, Godot {engine}, {len(value['entries'])} files, {total:,} bytes",
        bold=True,
    )


def _verdict(file: str, outcome: Outcome, *, as_json: bool, **more: Any) -> int:
    """Show the findings; the exit code."""
    from cloudbaker.tasks.report import finding_lines

    rejected = _rejected(outcome)
    if as_json:
        print_json({"path": file, "verdict": "reject" if rejected else "pass", **outcome.value, **more})
    else:
        for line in finding_lines(_findings(outcome), most=100):
            click.echo("  " + printable(line))
    return 3 if rejected else 0


def _empty_folder(folder: Path) -> Path:
    from cloudbaker.errors import SourceUnreadable

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SourceUnreadable(f"{printable(str(folder))} is there already: name an empty or a new folder")
    return folder


def _write(folder: Path, outcome: Outcome) -> list[str]:
    """The files of `extract_job` under their paths; names relative to the folder."""
    from cloudbaker.errors import SourceUnreadable

    written = []
    root = folder.resolve()
    try:
        root.mkdir(parents=True, exist_ok=True)
        for number, entry in enumerate(outcome.value["entries"]):
            name = entry["path"].removeprefix("res://")
            path = root / name
            # The reader lets no path pass that leaves the folder; a second look costs nothing.
            if not path.resolve().is_relative_to(root):
                raise SourceUnreadable(f"{printable(name)} leads out of the folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:  # never through a link, never over a file
                file.write(outcome.files[str(number)])
            written.append(name)
    except OSError as error:
        raise SourceUnreadable(f"can't write below {printable(str(folder))}: {error.strerror or error}") from error
    return written
