"""Alembic migrations of the catalog core, run when a catalog is opened."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Connection


def config(connection: Connection | None = None) -> Config:
    """Alembic's configuration: this folder, and the connection that `env.py` is to use."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    made.attributes["connection"] = connection
    return made


def upgrade(connection: Connection) -> None:
    """Bring the schema to the newest revision inside the connection's transaction, which the caller commits.

    SQLite's DDL is transactional: killed half-way, the catalog is what it was before.
    """
    command.upgrade(config(connection), "head")
