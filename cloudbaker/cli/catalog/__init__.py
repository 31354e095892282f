"""``cloudbaker catalog …``: one command per file."""

from __future__ import annotations

import click

from cloudbaker.cli.lazy import LazyGroup

_HERE = "cloudbaker.cli.catalog"
MODULES = {
    "sql": (f"{_HERE}.sql", "Run a DuckDB query over the catalog's views."),
    "versions": (f"{_HERE}.versions", "All versions of an asset, newest first."),
    "rollback": (f"{_HERE}.rollback", "Point a channel at an earlier version."),
    "usage": (f"{_HERE}.usage", "Bytes, versions, runs and compute seconds per tenant."),
    "export": (f"{_HERE}.export", "Write a version's bundle, with its signature."),
    "gc": (f"{_HERE}.gc", "Clean-up: what retention lets go, and what interrupted bakes left behind."),
    "quarantine": (f"{_HERE}.quarantine", "Assets whose bake failed for good."),
}


@click.group(cls=LazyGroup, modules=MODULES)
def catalog() -> None:
    """Query versions, usage and anything else."""
