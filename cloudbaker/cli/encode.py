"""``cloudbaker encode``: images into textures, without a model around them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from cloudbaker.cli.output import json_option, print_json, printable, table
from cloudbaker.tasks.images import formats

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from cloudbaker.tasks.images import EncodedFile, EncodeReport


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE…")
@click.option(
    "--format", type=click.Choice(formats()), default="ktx2-uastc", show_default=True, help="What to make of them."
)
@click.option("-o", "--output", metavar="PATH", help="A folder, or a file for one image; default: beside each source.")
@click.option(
    "--slot",
    type=click.Choice(["auto", "color", "normal", "data"]),
    default="auto",
    show_default=True,
    help="What they are for; auto: by each file's name (rock_normal.png, rock_orm.png).",
)
@click.option(
    "--level",
    type=click.Choice(["fast", "default", "max"]),
    default="default",
    show_default=True,
    help="Of the block formats: time for quality.",
)
@click.option("--quality", type=click.IntRange(1, 100), default=85, show_default=True, help="Of the lossy formats.")
@click.option("--min-psnr", type=float, metavar="DB", help="Find the cheapest setting that keeps so many dB.")
@click.option("--max-angle", type=float, metavar="DEGREES", help="The same for normal maps: mean error of directions.")
@click.option("--best-effort", is_flag=True, help="Where that can't be kept, write the best there is.")
@click.option(
    "--rdo",
    type=click.FloatRange(0, 100),
    default=0.0,
    metavar="STRENGTH",
    help="Of ktx2-uastc: trade error for bytes; 1 is moderate.",
)
@click.option("--max-size", type=click.IntRange(1), metavar="PIXELS", help="Scale down to this on the longer side.")
@click.option("--mips/--no-mips", default=True, help="Put mipmaps into KTX2 files.")
@click.option("--cube", is_flag=True, help="Make cube maps of environment maps.")
@click.option(
    "--prefilter", is_flag=True, help="Blur their mipmaps for reflections, as three.js does when it loads them."
)
@click.option("--recipe", default="web", show_default=True, help="Whose limits hold.")
@click.option("-j", "--parallel", type=click.IntRange(1), metavar="N", help="Images at a time; default: one per CPU.")
@click.option("--trusted", is_flag=True, help="The content is your own: encode it even where nothing can isolate it.")
@json_option
def encode(images: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Encode images as GPU textures (KTX2, ASTC) or web images, and measure what that cost.

    IMAGE is a file, a folder (with all images below it) or a pattern such as 'textures/**/*.png': PNG, JPEG or WebP;
    for hdr, ktx2-rgb9e5 and ktx2-astc-hdr Radiance .hdr or OpenEXR.
    """
    from cloudbaker.api import encode as run

    with _Progress(quiet=as_json) as progress:
        report = run(images, progress=progress.step, planned=progress.start, **options)
    if as_json:
        print_json(report.to_json())
    else:
        show(report)
    return report.exit_code


def show(report: EncodeReport) -> None:
    """The report for a terminal."""
    from cloudbaker.tasks.images import REPORT_COLUMNS, report_rows
    from cloudbaker.tasks.report import finding_lines

    table(REPORT_COLUMNS, report_rows(report))
    for file in report.files:
        for line in finding_lines(file.findings):
            click.echo(f"  {printable(file.path)}: {printable(line)}", err=file.output is None)
        if file.error is not None:
            message = f"  {printable(file.path)}: {file.error['code']}: {printable(str(file.error['message']))}"
            click.echo(message, err=True)
    total = report.to_json()
    click.echo(
        f"{total['written']} of {len(report.files)} written: {total['source_bytes'] / 1e6:,.2f} MB → "
        f"{total['bytes'] / 1e6:,.2f} MB, {total['gpu_bytes'] / 1e6:,.2f} MB in a GPU's memory"
    )


class _Progress:
    """A bar that counts files, on a terminal; nothing elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet or not sys.stderr.isatty()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> _Progress:
        return self

    def start(self, count: int) -> None:
        """So many files there are."""
        if self._quiet:
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
        )
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._bar.start()
        self._task = self._bar.add_task("", total=count)

    def step(self, file: EncodedFile) -> None:
        """One more."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=1, description=printable(file.path))

    def __exit__(self, *_error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
