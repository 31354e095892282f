"""What opening the catalog costs, and the export and the views of one that was made by publishing.

Publishes: catalog_commits.py; uploads: uploads.py; a million versions: catalog_scale.py.

    python benchmarks/catalog.py [FOLDER]

The home is made in FOLDER (default: the temporary folder). Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

from cloudbaker.catalog.core import Catalog
from cloudbaker.catalog.publish import publish
from cloudbaker.model import AssetRef
from cloudbaker.settings import Settings
from cloudbaker.testing.catalog import publication


def main() -> None:
    """Run all and print it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path)
    folder = Path(tempfile.mkdtemp(prefix="cloudbaker-benchmark-", dir=parser.parse_args().folder))
    try:
        print("# The catalog\n")
        print(
            f"{date.today()}, {platform.machine()}, {os.cpu_count()} shared vCPUs, Python {platform.python_version()}."
        )
        print(f"Load average at the start: {os.getloadavg()[0]:.1f}. `python benchmarks/catalog.py`\n")
        opening(folder)
        views(folder)
    finally:
        shutil.rmtree(folder)


def _asset(writer: int, n: int) -> AssetRef:
    return AssetRef("acme", f"p{writer}", f"asset-{n}")


# ---- opening


def opening(folder: Path) -> None:
    """A process that imports and opens an up-to-date catalog, as each command does."""
    home = folder / "opening"
    Catalog.open(Settings(home=home)).close()
    code = (
        "{}import time; w, c = time.perf_counter(), time.process_time(); {}; "
        "print((time.perf_counter() - w) * 1000, (time.process_time() - c) * 1000)"
    )
    imports = "from cloudbaker.catalog.core import Catalog; from cloudbaker.settings import settings"
    rows = {
        "import SQLAlchemy alone": code.format("", "import sqlalchemy"),
        "import `cloudbaker.catalog.core`": code.format("", imports),
        "open an up-to-date catalog": code.format(f"{imports}; ", "Catalog.open(settings())"),
        "first `sql()` (imports DuckDB, Arrow, Delta)": code.format(
            f"{imports}; opened = Catalog.open(settings()); ", "opened.sql('SELECT count(*) FROM versions').fetchall()"
        ),
    }
    print("## Opening, a new process each, best of 5\n")
    print("| | ms | CPU ms |\n|---|---|---|")
    for name, program in rows.items():
        wall, cpu = min(_measured(program, home) for _ in range(5))
        print(f"| {name} | {wall:.0f} | {cpu:.0f} |")
    print()


def _measured(program: str, home: Path) -> tuple[float, float]:
    environment = {**os.environ, "CLOUDBAKER_HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    wall, cpu = map(float, done.stdout.split())
    return wall, cpu


# ---- export and views


def views(folder: Path) -> None:
    """Export and questions over 20,000 versions."""
    versions = 20_000
    with Catalog.open(Settings(home=folder / "views")) as catalog:
        base = publication(catalog, _asset(0, 0), b"content", files=3)
        for n in range(versions):
            each = dataclasses.replace(base, asset=_asset(0, n % 2000), run_id=f"run-{n}", bake_key=f"key {n}")
            publish(catalog.core, each, datetime.now(UTC))
        report: dict[str, float] = {}
        report["export all of it, s"] = _timed(catalog.export)
        rows = sum(catalog.connect().sql(f"SELECT count(*) FROM {v}").fetchall()[0][0] for v in _COUNTED)
        report["rows a second"] = rows / report["export all of it, s"]
        report["export again, nothing new, ms"] = _timed(catalog.export) * 1000
        report["open the views, all published, ms"] = _timed(catalog.connect) * 1000
        for n in range(500):
            each = dataclasses.replace(base, asset=_asset(0, n), run_id=f"tail-{n}", bake_key=f"tail {n}")
            publish(catalog.core, each, datetime.now(UTC))
        report["open the views, 500 versions unpublished, ms"] = _timed(catalog.connect) * 1000
        duck = catalog.connect()
        for question, query in _QUESTIONS.items():
            report[f"{question}, ms"] = _timed(lambda query=query: duck.sql(query).fetchall()) * 1000
        report["`latest_versions()` of 2,000 assets, ms"] = _timed(catalog.latest_versions) * 1000
        where = "recipe = 'web' AND size_bytes > 1"
        report["`latest_versions(where)` of 2,000 assets, ms"] = _timed(lambda: catalog.latest_versions(where)) * 1000
        report["SQLite file, MB"] = catalog.core.path.stat().st_size / 1e6
        folder = catalog.published.folder
        assert folder is not None
        parquet = sum(file.stat().st_size for file in folder.rglob("*.parquet"))
        report["Parquet, MB"] = parquet / 1e6
    print(f"## Export and views, {versions:,} versions of 2,000 assets\n")
    print("| | |\n|---|---|")
    for name, value in report.items():
        print(f"| {name} | {value:,.1f} |" if value < 100 else f"| {name} | {value:,.0f} |")
    print()


_COUNTED = ("versions", "provenance", "version_sources", "artifacts", "channel_moves", "findings", "losses", "metrics")
_QUESTIONS = {
    "versions and bytes by tenant and project": (
        "SELECT tenant, project, count(*), sum(size_bytes) FROM versions GROUP BY ALL"
    ),
    "what one asset's newest version is": "SELECT * FROM latest_versions WHERE asset = 'acme/p0/asset-7'",
    "mean of one figure by day": (
        "SELECT created_at::DATE, avg(value) FROM metrics WHERE name = 'triangles' GROUP BY ALL"
    ),
}


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
