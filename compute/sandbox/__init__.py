"""Isolation of untrusted work: the fork server for Python jobs, bubblewrap for external tools, and their limits."""

from __future__ import annotations

from cloudbaker.compute.sandbox.probe import Isolation, probe
from cloudbaker.compute.sandbox.sandbox import Sandbox

__all__ = ["Isolation", "Sandbox", "probe"]
