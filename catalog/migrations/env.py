"""Run by Alembic itself: hands it the connection of `cloudbaker.catalog.migrations.upgrade`."""

from __future__ import annotations

from alembic import context

from cloudbaker.catalog.schema import metadata

# Offline mode (SQL scripts for a DBA) has no use with a catalog that migrates when it is opened.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=False)
context.run_migrations()
