"""Isolation of untrusted work: the fork server for Python jobs, bubblewrap for external tools, and their limits."""
