"""The repository is what its build says it is: packages, names, lock files, sizes, licences."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("cloudbaker", "catalog", "compute", "flows", "tasks")
MAX_FILE_BYTES = 2 << 20
NOT_OURS = {"node_modules", "__pycache__", "build", "dist", "demo-home"}


def repository_files() -> list[Path]:
    """What is, or would be, committed; without git (an sdist) everything but hidden and built folders."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            capture_output=True,
            check=True,
            timeout=60,
        )
        return [path for name in listed.stdout.split(b"\0") if name and (path := ROOT / os.fsdecode(name)).is_file()]
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [f for f in folders if not f.startswith(".") and f not in NOT_OURS and not f.endswith("egg-info")]
        found += [Path(folder) / name for name in names]
    return found


def python_files() -> Iterator[Path]:
    return (path for path in repository_files() if path.suffix == ".py")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def package_name(folder: Path) -> str:
    parts = folder.relative_to(ROOT).parts
    return ".".join(parts if parts[0] == "cloudbaker" else ("cloudbaker", *parts))


def test_packages_of_the_wheel_are_the_folders_on_disk(project: dict[str, Any]) -> None:
    """A package that pyproject forgets works in an editable install and is missing from the wheel."""
    files = [p for p in python_files() if p.relative_to(ROOT).parts[0] in FOLDERS]
    assert set(project["tool"]["setuptools"]["packages"]) == {package_name(p.parent) for p in files}
    assert all((p.parent / "__init__.py").is_file() for p in files)


def test_data_files_of_packages_are_in_the_wheel(project: dict[str, Any]) -> None:
    globs = project["tool"]["setuptools"]["package-data"]
    for path in repository_files():
        parts = path.relative_to(ROOT).parts
        if parts[0] not in FOLDERS or path.suffix in (".py", ".mako"):
            continue
        owner = path.parent
        while not (owner / "__init__.py").is_file():
            owner = owner.parent
        within = path.relative_to(owner)
        assert any(within.match(glob) for glob in globs.get(package_name(owner), [])), f"{path} is in no package-data"


def test_the_wheel_holds_one_top_level_name() -> None:
    """`import compute` works from a checkout by accident, and nowhere else."""
    bare = set(FOLDERS) - {"cloudbaker"}
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom) and node.level == 0
                else []
            )
            assert not {name.partition(".")[0] for name in names} & bare, f"{path}:{node.lineno}"  # type: ignore[attr-defined]


def test_nothing_imports_the_gpl_part() -> None:
    """docs/decisions/003: pymeshlab is only ever run in a process of its own, by a program of its own."""
    for path in python_files():
        if path.relative_to(ROOT).parts[0] in FOLDERS:
            assert not re.search(r"^\s*(?:import|from) pymeshlab", path.read_text("utf-8"), re.MULTILINE), path


def test_the_gpl_part_is_not_among_what_is_shipped(project: dict[str, Any]) -> None:
    """An extra, and beside the tests; never a dependency, never in the lock file that containers are built from."""
    assert "pymeshlab" not in (ROOT / "requirements.lock").read_text("utf-8")
    assert not any("pymeshlab" in name for name in project["project"]["dependencies"])
    assert project["project"]["optional-dependencies"]["pymeshlab"]


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock", "compute/npm/package-lock.json"])
def test_lock_files_name_no_host(name: str) -> None:
    """Which registry to ask is the installer's configuration; a host in a lock file breaks mirrors and air gaps."""
    assert "://" not in (ROOT / name).read_text("utf-8")


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_every_locked_package_has_a_hash(name: str) -> None:
    text = re.sub(r"\\\n\s*", " ", (ROOT / name).read_text("utf-8"))
    pins = [line for line in text.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    assert len(pins) > 20
    assert [pin for pin in pins if "==" not in pin or "--hash=sha256:" not in pin] == []


def test_no_file_is_large() -> None:
    sizes = {str(p.relative_to(ROOT)): p.stat().st_size for p in repository_files() if not p.is_symlink()}
    assert {name: size for name, size in sizes.items() if size > MAX_FILE_BYTES} == {}


def test_licence_and_version_are_what_the_project_says(project: dict[str, Any]) -> None:
    import cloudbaker

    assert project["project"]["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0" in (ROOT / "LICENSE").read_text("utf-8")
    assert all((ROOT / name).is_file() for name in project["project"]["license-files"])
    assert project["project"]["version"] == cloudbaker.__version__


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for path in repository_files():
        if path.suffix != ".md":
            continue
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
            if "://" not in target and not (path.parent / target).exists():
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert broken == []
