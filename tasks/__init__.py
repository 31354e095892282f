"""The Prefect boundary: one stage per file, with its retries, limits, progress and artifacts."""
