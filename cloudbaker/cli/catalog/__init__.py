"""``cloudbaker catalog …``: one command per file."""

from __future__ import annotations

import click

from cloudbaker.cli.lazy import LazyGroup

_HERE = "cloudbaker.cli.catalog"
MODULES = {
    "sql": (f"{_HERE}.sql", "Run a DuckDB query over the catalog's views."),
    "search": (f"{_HERE}.search", "Find assets by words, tags, tenant, project, recipe and time."),
    "show": (f"{_HERE}.show", "An asset: channels, tags, holds, newest versions, dependencies."),
    "versions": (f"{_HERE}.versions", "All versions of an asset, newest first."),
    "diff": (f"{_HERE}.diff", "What changed between two versions."),
    "tag": (f"{_HERE}.tag", "Put tags on an asset, or take them off."),
    "depends": (f"{_HERE}.depends", "What a version needs, or what needs it."),
    "rollback": (f"{_HERE}.rollback", "Point a channel at an earlier version."),
    "usage": (f"{_HERE}.usage", "What tenants use, now or over time, and what that costs."),
    "estimate": (f"{_HERE}.estimate", "What work will cost, before it is done."),
    "quota": (f"{_HERE}.quota", "What tenants may store and run."),
    "retention": (f"{_HERE}.retention", "How long tenants' versions are kept."),
    "hold": (f"{_HERE}.hold", "Keep an asset or a version from being deleted."),
    "delete": (f"{_HERE}.delete", "Delete a version for good."),
    "export": (f"{_HERE}.export", "Write a version's bundle, with its signature."),
    "gc": (f"{_HERE}.gc", "Clean-up: what retention lets go, and what interrupted bakes left behind."),
    "tables": (f"{_HERE}.tables", "Published tables: status, export, compact, vacuum, repair."),
    "rebuild": (f"{_HERE}.rebuild", "A new core from the published tables alone."),
    "rotate-keys": (f"{_HERE}.rotate_keys", "New keys for an encrypted object store."),
    "quarantine": (f"{_HERE}.quarantine", "Assets whose bake failed for good."),
    "audit": (f"{_HERE}.audit", "Who did what and why; whether the log is whole."),
    "events": (f"{_HERE}.events", "What happened, and who was told of it."),
}


@click.group(cls=LazyGroup, modules=MODULES)
def catalog() -> None:
    """Query versions, usage and anything else."""
