"""``cloudbaker catalog …``: one command per file."""

from __future__ import annotations

import click

from cloudbaker.cli.lazy import LazyGroup

_HERE = "cloudbaker.cli.catalog"
MODULES = {
    "sql": (f"{_HERE}.sql", "Run a DuckDB query over the catalog's views."),
    "versions": (f"{_HERE}.versions", "All versions of an asset, newest first."),
    "rollback": (f"{_HERE}.rollback", "Point a channel at an earlier version."),
    "usage": (f"{_HERE}.usage", "What tenants use, now or over time, and what that costs."),
    "quota": (f"{_HERE}.quota", "What tenants may store and run."),
    "retention": (f"{_HERE}.retention", "How long tenants' versions are kept."),
    "hold": (f"{_HERE}.hold", "Keep an asset or a version from being deleted."),
    "delete": (f"{_HERE}.delete", "Delete a version for good."),
    "export": (f"{_HERE}.export", "Write a version's bundle, with its signature."),
    "gc": (f"{_HERE}.gc", "Clean-up: what retention lets go, and what interrupted bakes left behind."),
    "quarantine": (f"{_HERE}.quarantine", "Assets whose bake failed for good."),
}


@click.group(cls=LazyGroup, modules=MODULES)
def catalog() -> None:
    """Query versions, usage and anything else."""
