"""The command line: one command per file, imported only when it is called (import budget: 0.3 s)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from cloudbaker import __version__
from cloudbaker.cli.lazy import LazyGroup
from cloudbaker.errors import CloudBakerError

COMMANDS = {
    "bake": ("bake", "Bake models into signed, versioned packages."),
    "inspect": ("look", "Show what a file holds."),
    "diff": ("look", "Show what changed from one model to another."),
    "validate": ("look", "Say whether a file would pass, and why not."),
    "encode": ("encode", "Encode images as GPU textures or web images."),
    "gltf": ("gltf", "Run one verb on one model: weld, simplify, dedup, unlit …"),
    "scan": ("scan", "Say whether a Godot mod may enter, and why not."),
    "verify": ("verify", "Check the signature and hashes of a version or an exported bundle."),
    "rebake": ("rebake", "Bake again what is stale: recipe, encoder or tool changed."),
    "catalog": ("catalog", "Query versions, usage and anything else."),
    "keys": ("keys", "Make and show signing keys."),
    "doctor": ("doctor", "Say what this machine can do, and what is missing."),
    "up": ("service", "Start the service: Prefect UI, Ray and workers."),
    "down": ("service", "Stop the service."),
    "engines": ("engines", "Show and fetch the Godot engines that bake packs."),
    "pck": ("pck", "List, check and extract Godot packs."),
    "setup": ("setup", "Install the npm packages and compile the texture kernels."),
    "demo": ("demo", "Write a demo model."),
}
MODULES = {name: (f"cloudbaker.cli.{module}", text) for name, (module, text) in COMMANDS.items()}


class _Lazy(LazyGroup):
    """With logs, where they are asked for."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if "CLOUDBAKER_LOG_LEVEL" in os.environ:
            # Only then: the default level writes nothing that is not shown anyway, and the settings cost 0.1 s.
            from cloudbaker import logs

            logs.configure()
        return super().get_command(ctx, cmd_name)


@click.group(
    cls=_Lazy, modules=MODULES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="cloudbaker")
def cli() -> None:
    """Bakes 3D content from people you don't know into small, safe, signed, versioned packages."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. Exit codes: 0 done, 1 internal, 2 usage, 3 content rejected, 4 limit or quota, 5 quarantined."""
    try:
        code: Any = cli.main(arguments, standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted: nothing was published that is not whole", err=True)
        code = 130
    except CloudBakerError as error:
        from cloudbaker.cli.output import show_error

        show_error(error)
        code = error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    sys.exit(code if isinstance(code, int) else 0)
