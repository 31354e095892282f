"""``cloudbaker demo``: a model to try things on."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
def demo(path: Path) -> None:
    """Write the demo model, generated on the spot, as a .glb file."""
    from cloudbaker.testing.models import demo_model

    data = demo_model()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    click.echo(f"wrote {path} ({len(data) / 1e6:.1f} MB)")
