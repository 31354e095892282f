"""Alembic migrations of the catalog core."""
