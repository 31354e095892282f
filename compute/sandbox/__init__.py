"""Isolation of untrusted work: the fork server for Python jobs, bubblewrap for external tools, and their limits."""

from __future__ import annotations

from cloudbaker.compute.sandbox.probe import Isolation, probe
from cloudbaker.compute.sandbox.sandbox import Sandbox
from cloudbaker.compute.sandbox.scratch import scratch_folder
from cloudbaker.compute.sandbox.tools import ToolOutcome, read_output, run_tool, tool_command

__all__ = [
    "Isolation",
    "Sandbox",
    "ToolOutcome",
    "probe",
    "read_output",
    "run_tool",
    "scratch_folder",
    "tool_command",
]
